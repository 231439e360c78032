import numpy as np
import pytest
from scipy.optimize import minimize

from ganatomy.metrics.hounsfield import TISSUES, calibration, path_error, tissue_errors

RNG = np.random.default_rng(0)
TRUE = RNG.choice([-1000.0, -870.0, -100.0, 5.0, 60.0, 149.0, 150.0, 1200.0], (3, 7, 5))
OUTPUT = TRUE + RNG.normal(4, 60, TRUE.shape)


def classes(value: float) -> str:
    return "air" if value < -200 else "fat" if value < -20 else "soft tissue" if value < 150 else "bone"


def test_errors_by_tissue_are_those_of_a_loop_over_voxels():
    by_class: dict[str, list[tuple[float, float]]] = {name: [] for name in TISSUES}
    for found, true in zip(OUTPUT.ravel(), TRUE.ravel(), strict=True):
        by_class[classes(true)].append((found, true))
    errors = tissue_errors(OUTPUT, TRUE)
    assert list(errors) == ["air", "fat", "soft tissue", "bone"]
    for name, pairs in by_class.items():
        found = errors[name]
        apart = np.array([a - b for a, b in pairs])
        assert found.voxels == len(pairs)
        assert found.bias == pytest.approx(apart.mean())
        assert found.absolute == pytest.approx(np.abs(apart).mean())
        limits = apart.mean() + 1.96 * apart.std(ddof=1) * np.array([-1, 1])
        assert (found.agreement.lower, found.agreement.upper) == pytest.approx(tuple(limits))
        assert found.found == pytest.approx(np.mean([classes(a) == name for a, _ in pairs]))


def test_a_shifted_image_has_that_bias_everywhere_and_a_mask_leaves_the_rest_out():
    mask = TRUE > -900
    output = np.where(mask, TRUE + 30, 5000)
    errors = tissue_errors(output, TRUE, mask)
    for error in errors.values():
        assert (error.bias, error.absolute) == pytest.approx((30, 30))
        assert error.agreement.sd == pytest.approx(0, abs=1e-9)
    assert sum(error.voxels for error in errors.values()) == mask.sum()


def test_a_class_without_voxels_has_no_error():
    error = tissue_errors([[0.0, 5.0]], [[0.0, 10.0]])["bone"]
    assert error.voxels == 0 and np.isnan([error.bias, error.absolute, error.found]).all()


def test_the_line_is_the_closest_at_right_angles():
    found = calibration(OUTPUT, TRUE)

    def squares(line):
        slope, intercept = line
        return np.sum((OUTPUT - slope * TRUE - intercept) ** 2) / (1 + slope**2)

    best = minimize(squares, [0.8, 10], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-8, "maxiter": 4000})
    assert (found.slope, found.intercept) == pytest.approx(tuple(best.x), rel=1e-3)


@pytest.mark.parametrize("slope", [0.7, 1.0, -0.5])
def test_a_line_is_found_exactly(slope):
    found = calibration(slope * TRUE + 12, TRUE)
    assert (found.slope, found.intercept) == pytest.approx((slope, 12))


def test_lines_that_are_not_defined():
    assert np.isnan(calibration([1.0], [2.0]).slope) and np.isnan(calibration([1.0, 2], [3.0, 3]).slope)
    assert calibration([1.0, 1, 1, 1], [0.0, 1, 2, 3]).slope == 0


def test_path_errors_are_those_of_the_rays_through_the_patient():
    true = np.array([[0.0, 10, 100, 200], [19.9, 20, 50, 400]])
    output = np.array([[9.0, 0, 101, 196], [0, 20, 50, 408]])
    found = path_error(output, true)
    apart = np.array([1, -4, 0, 0, 8.0])
    assert found.rays == 5 and found.bias == pytest.approx(apart.mean())
    assert found.absolute == pytest.approx(13 / 5)
    assert found.worst == pytest.approx(np.quantile(np.abs(apart), 0.95))
    assert found.relative == pytest.approx((1 / 100 + 4 / 200 + 8 / 400) / 5)
    assert path_error(output, true, 500).rays == 0 and np.isnan(path_error(output, true, 500).bias)


@pytest.mark.parametrize("function", [tissue_errors, calibration, path_error])
def test_other_shapes_are_refused(function):
    with pytest.raises(ValueError, match="different shapes"):
        function(OUTPUT, TRUE[:2])
