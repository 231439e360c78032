import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.live_cells import LiveCells


@pytest.fixture(scope="module")
def drawn():
    return [LiveCells(seed, size=96) for seed in range(6)]


def test_both_microscopes_show_the_same_field(drawn):
    for phantom in drawn:
        assert sorted(phantom.images) == ["dic", "phase_contrast"]
        for image in phantom.images.values():
            assert image.array.shape == (1, 1, 96, 96) and image.array.dtype == np.float32
            assert image.array.min() >= 0 and image.array.max() <= 255
            assert image.spacing[1:] == pytest.approx((0.0005, 0.0005))
        assert phantom.image is phantom.images["phase_contrast"]


def test_a_seed_gives_the_same_field_and_another_one_another():
    one, same, other = (LiveCells(seed, size=48) for seed in (3, 3, 4))
    for name, image in one.images.items():
        np.testing.assert_array_equal(image.array, same.images[name].array)
        assert not np.array_equal(image.array, other.images[name].array)


def test_masks_are_where_the_phase_is_that_of_a_cell(drawn):
    for phantom in drawn:
        inside = phantom.masks["cells"]
        np.testing.assert_array_equal(inside, phantom.instances["cells"] > 0)
        assert 0.05 < inside.mean() < 0.6
        assert phantom.phase[inside].mean() > 10 * phantom.phase[~inside].mean()
        # Debris is no cell.
        assert phantom.phase.max() < 4.5


def test_there_are_as_many_cells_for_the_area_as_in_a_larger_field():
    counts = [LiveCells(seed, size=256).instances["cells"].max() for seed in range(3)]
    assert all(15 <= count <= 80 for count in counts)


def test_cells_are_dark_with_a_halo_in_phase_contrast(drawn):
    inner, rim, far = [], [], []
    for phantom in drawn:
        values, inside = phantom.images["phase_contrast"].numpy()[0, 0], phantom.masks["cells"][0]
        away = ndimage.distance_transform_edt(~inside)
        inner.append(np.median(values[inside]))
        rim.append(np.mean(values[(away > 1) & (away < 6)]))
        far.append(np.mean(values[away > 14]) if (away > 14).any() else np.nan)
    assert np.mean(inner) < np.nanmean(far) - 10
    assert np.mean(rim) > np.nanmean(far) + 5


def test_cells_have_a_bright_and_a_dark_side_in_dic_along_the_shear(drawn):
    along, across = [], []
    for phantom in drawn:
        values = phantom.images["dic"].numpy()[0, 0] - 128.0
        smooth = ndimage.gaussian_filter(np.asarray(phantom.phase[0], np.float64), 1)
        rows, columns = np.gradient(smooth)
        inside = phantom.masks["cells"][0]
        along.append(np.corrcoef(values[inside], (rows + columns)[inside])[0, 1])
        across.append(np.corrcoef(values[inside], (rows - columns)[inside])[0, 1])
    assert np.mean(along) > 0.7 and abs(np.mean(across)) < 0.2


def test_no_map_of_values_makes_one_image_of_the_other(drawn):
    shares = []
    for phantom in drawn:
        seen, wanted = (phantom.images[name].numpy().ravel() for name in ("dic", "phase_contrast"))
        classes = np.digitize(seen, np.quantile(seen, np.linspace(0, 1, 33)[1:-1]))
        means = np.array([wanted[classes == one].mean() for one in range(32)])
        shares.append(1 - np.mean((wanted - means[classes]) ** 2) / wanted.var())
    assert np.mean(shares) < 0.35


def test_drift_moves_the_dic_image_alone():
    still, moved = (LiveCells(5, size=64, noise=0.0, drift=drift) for drift in (0.0, 1.0))
    np.testing.assert_array_equal(still.image.array, moved.image.array)
    assert np.abs(still.images["dic"].array - moved.images["dic"].array).max() > 5


@pytest.mark.parametrize("values", ({"size": 8}, {"noise": -1.0}, {"drift": -1.0}))
def test_impossible_fields_are_refused(values):
    with pytest.raises(UserError, match="cannot be drawn"):
        LiveCells(0, **values)
