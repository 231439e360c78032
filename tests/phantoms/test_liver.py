import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms.liver import LiverLesion
from ganatomy.phantoms.shapes import Grid, fields, ramp, star, strokes, undulations, wander


def inside(phantom: LiverLesion) -> list[np.ndarray]:
    """Return the CT numbers of each lesion."""
    return [hu[mask] for hu, mask in zip(phantom.image.array[0], phantom.masks["lesion"], strict=True)]


def sharpness(phantom: LiverLesion) -> float:
    """Return the steepest change of CT number at the border, in HU per pixel."""
    steps = np.hypot(*np.gradient(phantom.image.array[0], axis=(1, 2)))
    lesions = zip(steps, phantom.masks["lesion"], strict=True)
    return float(np.median([np.percentile(step[lesion], 95) for step, lesion in lesions]))


def test_cysts_hold_water_and_are_round() -> None:
    cysts = LiverLesion(0, slices=24, noise=0)
    medians = np.array([np.median(hu) for hu in inside(cysts)])
    assert ((medians > -1) & (medians < 17)).all()
    spread = [np.percentile(hu, 60) - np.percentile(hu, 5) for hu in inside(cysts)]
    assert np.median(spread) < 3
    assert sharpness(cysts) > 3 * sharpness(LiverLesion(1, slices=24, noise=0))


def test_metastases_are_darker_than_liver_and_brighter_than_water() -> None:
    metastases = LiverLesion(1, slices=24, noise=0)
    medians = np.array([np.median(hu) for hu in inside(metastases)])
    assert ((medians > 38) & (medians < 88)).all()
    assert (medians < metastases.parenchyma).all()


def test_some_metastases_look_like_targets() -> None:
    differences = []
    for seed in (1, 4, 7):
        phantom = LiverLesion(seed, slices=12, noise=0)
        for hu, lesion in zip(phantom.image.array[0], phantom.masks["lesion"], strict=True):
            rows, columns = np.nonzero(lesion)
            from_centre = np.hypot(rows - rows.mean(), columns - columns.mean())
            core = from_centre < 0.25 * np.sqrt(lesion.sum() / np.pi)
            rim = (from_centre > 0.4 * np.sqrt(lesion.sum() / np.pi)) & (from_centre < 0.7 * from_centre.max())
            differences.append(hu[lesion][rim].mean() - hu[lesion][core].mean())
    assert max(differences) > 8
    assert min(differences) < 5


def test_haemangiomas_enhance_at_the_border_around_a_dark_centre() -> None:
    haemangiomas = LiverLesion(2, slices=24, noise=0)
    hu, lesion, bright = haemangiomas.image.array[0], haemangiomas.masks["lesion"], haemangiomas.masks["enhancement"]
    assert 150 < hu[bright].mean() < 220
    assert hu[lesion & ~bright].mean() < haemangiomas.parenchyma - 5
    assert not (bright & ~lesion).any()
    middle = np.zeros_like(lesion)
    middle[:, 30:34, 30:34] = True
    assert bright[middle].mean() < 0.3 * bright[lesion].mean()


def test_the_liver_measures_as_told() -> None:
    for seed in range(4):
        clean, noisy = (LiverLesion(seed, slices=16, noise=noise) for noise in (0.0, 12.0))
        liver = clean.regions["liver"]
        assert clean.image.array[0][liver].mean() == pytest.approx(clean.parenchyma, abs=2)
        assert clean.image.array[0][liver].std() < 5
        added = (noisy.image.array - clean.image.array)[0]
        assert added.std() == pytest.approx(12, rel=0.2)
        neighbours = np.corrcoef(added[..., 1:].ravel(), added[..., :-1].ravel())[0, 1]
        assert 0.3 < neighbours < 0.9
        assert not (liver & clean.masks["lesion"]).any()


def test_labels_are_balanced_and_can_be_forced() -> None:
    labels = [LiverLesion(seed, size=16).label for seed in range(6)]
    assert labels == ["cyst", "metastasis", "haemangioma"] * 2
    forced = [LiverLesion(3, label=label) for label in LiverLesion.LABELS]
    assert [phantom.label for phantom in forced] == list(LiverLesion.LABELS)
    assert len({phantom.parenchyma for phantom in forced}) == 1
    with pytest.raises(UserError, match="no label"):
        LiverLesion(0, label="abscess")


def test_seeds_and_slices_differ_and_repeat() -> None:
    first, again, other = (LiverLesion(seed, slices=3) for seed in (1, 1, 4))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    np.testing.assert_array_equal(first.masks["lesion"], again.masks["lesion"])
    assert (first.image.array != other.image.array).any()
    assert len(np.unique(first.masks["lesion"].reshape(3, -1), axis=0)) == 3
    assert first.image.array.dtype == np.float32 and first.image.unit == "HU"


@pytest.mark.parametrize("size", [32, 48, 96])
def test_other_sizes_show_the_same_millimetres(size: int) -> None:
    phantom = LiverLesion(0, size=size, slices=4)
    assert phantom.image.array.shape == (1, 4, size, size)
    assert phantom.image.spacing == pytest.approx((3, 45 / size, 45 / size))
    expected = LiverLesion(0, slices=4).masks["lesion"].mean()
    assert phantom.masks["lesion"].mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("wrong", [{"size": 4}, {"slices": 0}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        LiverLesion(0, **wrong)


def test_outlines_undulate_about_their_radius() -> None:
    grid = Grid.centred((3, 81, 81), (1, 0.5, 0.5))
    circle = star(grid.x, grid.y, 12, np.zeros((3, 4), np.complex64))
    np.testing.assert_allclose(circle, np.broadcast_to(np.hypot(grid.x, grid.y) - 12, grid.shape), atol=2e-3)
    oval = star(grid.x, grid.y, 10, np.full((1, 1), np.log(1.5), np.complex64))[0] < 0
    assert [oval[40].sum() * 0.5, oval[:, 40].sum() * 0.5] == pytest.approx([30, 20 / 1.5], abs=1)
    waves = undulations(np.random.default_rng(0), 20000, 3, 0.1, fall=2)
    np.testing.assert_allclose(waves.real.std(0), [0.1, 0.1 * (2 / 3) ** 2, 0.025], rtol=0.03)


@pytest.mark.parametrize("radius", [0.2, 1.0, 2.0])
def test_strokes_cover_their_area_in_their_own_slice(radius: float) -> None:
    grid = Grid.centred((2, 60, 60), (1, 1, 1))
    rng = np.random.default_rng(0)
    lines = wander(rng, np.array([[[-18.0, -9.0]], [[0.0, 0.0]]]), np.array([[0.4], [0.0]]), 40, steps=5, bend=0)
    np.testing.assert_allclose(lines[0, 0, -1], [-18 + 40 * np.cos(0.4), -9 + 40 * np.sin(0.4)])
    covered = strokes(grid.x, grid.y, grid.pixel, lines, np.array([[radius], [0]]), np.array([[radius], [0]]))
    assert covered[0].sum() == pytest.approx(2 * radius * 40 + np.pi * radius**2, rel=0.05)
    assert not covered[1].any()


def test_fields_are_smooth_and_independent() -> None:
    planes = fields(np.random.default_rng(0), (16, 128, 128), 3)
    np.testing.assert_allclose(planes.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(planes.std((1, 2)), 1, rtol=1e-4)
    shifted = (planes[..., 4:] * planes[..., :-4]).mean()
    assert shifted == pytest.approx(np.exp(-16 / 36), abs=0.05)
    assert np.abs(np.corrcoef(planes.reshape(16, -1)) - np.eye(16)).max() < 0.2


def test_ramps_go_both_ways() -> None:
    values = np.array([-1, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_allclose(ramp(values, 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(ramp(values, 1, 0), [1, 1, 0.5, 0, 0])
