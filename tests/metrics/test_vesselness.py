import numpy as np
import pytest

from ganatomy.metrics.vesselness import curvatures, otsu, tubular, vesselness


@pytest.mark.parametrize(
    ("eigenvalues", "contrast", "expected"),
    [
        ((0, -1, -1), np.sqrt(2) / 2, 0.747645),
        ((-0.1, -0.9, -1), 0.5, 0.763879),
        ((-1, -1, -1), 0.5, 0.116730),
        ((0, 1, -1), 0.5, 0.0),
        ((0, -1, 1), 0.5, 0.0),
        ((0, 0, 0), 0.5, 0.0),
        ((0, 0, -1), 0.5, 0.0),
        ((0, -1), 0.5, 0.864665),
        ((-0.5, -1), 0.5, 0.556744),
        ((0, 1), 0.5, 0.0),
    ],
)
def test_eigenvalues_have_their_known_vesselness(eigenvalues, contrast, expected):
    assert tubular(eigenvalues, contrast) == pytest.approx(expected, abs=1e-6)


def line(spacing: float = 1.0, width: float = 3.0) -> np.ndarray:
    place = (np.arange(81) - 40) * spacing
    return np.tile(np.exp(-(place**2) / (2 * width**2)), (41, 1))


def test_a_line_answers_most_at_the_root_of_two_times_its_width_in_mm():
    for spacing in (1.0, 0.5):
        scales = np.arange(3.5, 5.0, 0.05)
        found = [abs(curvatures(line(spacing), (spacing, spacing), scale)[1, 20, 40]) for scale in scales]
        assert scales[int(np.argmax(found))] == pytest.approx(3 * np.sqrt(2), abs=0.06)


def test_voxels_need_not_be_cubes():
    # A tube along the slices, of the same width in mm along rows and columns of different spacing.
    rows, columns = np.meshgrid((np.arange(41) - 20) * 0.5, (np.arange(21) - 10) * 1.0, indexing="ij")
    tube = np.tile(np.exp(-(rows**2 + columns**2) / 8), (15, 1, 1))
    low, *across = curvatures(tube, (2.0, 0.5, 1.0), 2.0)[:, 7, 20, 10]
    assert low == pytest.approx(0, abs=1e-6)
    assert across[0] == pytest.approx(across[1], rel=0.03) and across[1] < 0


def test_tubes_answer_and_plates_and_the_background_do_not():
    z, y, x = np.indices((21, 33, 33)) - np.array([10, 16, 16])[:, None, None, None]
    tube, plate = np.exp(-(y**2 + x**2) / 4.0), np.exp(-(x**2) / 4.0) + 0 * (y + z)
    scales = (1.0, 1.5, 2.0)
    found = vesselness(tube, (1, 1, 1), scales)
    assert found.response[10, 16, 16] > 0.5 and found.response[10, 4, 4] < 1e-3
    assert vesselness(plate, (1, 1, 1), scales).response[10, 16, 16] < 0.05


def test_a_fainter_image_is_fainter_with_the_contrast_of_the_other_one():
    found = vesselness(line(), (1, 1), (3.0,))
    assert vesselness(line() / 2, (1, 1), (3.0,)).response.max() == pytest.approx(found.response.max())
    half = vesselness(line() / 2, (1, 1), (3.0,), found.contrast)
    assert half.response.max() < 0.6 * found.response.max()


def test_the_contrast_is_that_inside_of_a_mask_and_flat_images_have_no_vessels():
    image = np.concatenate([line(), 5 * line()])
    inside = np.zeros(image.shape, bool)
    inside[:20] = True
    whole, part = (vesselness(image, (1, 1), (3.0,), inside=mask).contrast for mask in (None, inside))
    assert whole == pytest.approx(5 * part, rel=0.05)
    assert not vesselness(np.ones((9, 9)), (1, 1), (1.0,)).response.any()


def test_otsus_level_lies_between_two_classes():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 0.5, 3000), rng.normal(6, 0.5, 500)])
    assert 2 < otsu(values) < 4
    assert otsu([0, 0, 0, 1]) == pytest.approx(0.5, abs=0.01)
    assert otsu([2.0, 2.0]) == 2 and otsu([]) == 0
