import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms.histology import StainedNuclei
from ganatomy.phantoms.unstained import UnstainedTissue
from ganatomy.physics import hyperspectral as hs


@pytest.fixture(scope="module")
def drawn():
    return [UnstainedTissue(seed, size=64) for seed in range(6)]


def test_a_section_is_imaged_in_31_bands_and_in_colours(drawn):
    for phantom in drawn:
        cube, picture = (phantom.images[name].array for name in ("hyperspectral", "stained"))
        assert cube.shape == (31, 1, 64, 64) and picture.shape == (3, 1, 64, 64)
        assert cube.dtype == np.float32 and cube.min() >= 0 and cube.max() <= 1
        assert phantom.image is phantom.images["stained"]
    same = UnstainedTissue(3, size=64)
    np.testing.assert_array_equal(same.images["hyperspectral"].array, drawn[3].images["hyperspectral"].array)


def test_colours_are_those_of_a_stained_section():
    np.testing.assert_array_equal(
        UnstainedTissue(1, size=48, noise=2.0).image.array, StainedNuclei(1, size=48, noise=2.0).image.array
    )


def test_short_waves_lose_more_light(drawn):
    for phantom in drawn:
        shares = phantom.images["hyperspectral"].array.mean((1, 2, 3))
        assert shares[-1] > shares[0] + 0.1


def test_amounts_of_nuclei_and_stroma_grow_with_the_stains_but_not_in_proportion(drawn):
    for place, name in enumerate(("haematoxylin", "eosin")):
        stain = np.concatenate([phantom.stains[place].ravel() for phantom in drawn])
        amount = np.concatenate([phantom.amounts[place].ravel() for phantom in drawn])
        order = np.argsort(stain)
        assert (np.diff(amount[order]) >= -1e-6).all(), name
        assert np.corrcoef(stain, amount)[0, 1] < 0.99, name


def test_blood_and_pigment_are_not_where_stains_are(drawn):
    for place in (2, 3):
        found = [np.corrcoef(one.amounts[place].ravel(), one.stains[0].ravel())[0, 1] for one in drawn]
        assert abs(np.mean(found)) < 0.2


def test_a_linear_map_of_all_bands_does_not_give_the_colours(drawn):
    seen = np.concatenate([one.images["hyperspectral"].array.reshape(31, -1) for one in drawn], 1).T
    wanted = np.concatenate([one.images["stained"].array.reshape(3, -1) for one in drawn], 1).T
    design = np.concatenate([-np.log10(np.maximum(seen, hs.LEAST)), np.ones((len(seen), 1))], 1)
    made = design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    assert 1 - ((made - wanted) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum() < 0.9


def test_registration_may_fail_by_some_pixels():
    still, moved = (UnstainedTissue(2, size=48, dark=0.0, shift=shift) for shift in (0.0, 2.0))
    np.testing.assert_array_equal(still.image.array, moved.image.array)
    assert np.abs(still.images["hyperspectral"].array - moved.images["hyperspectral"].array).max() > 0.05


@pytest.mark.parametrize("values", ({"size": 8}, {"dark": -0.1}, {"shift": -1.0}))
def test_impossible_sections_are_refused(values):
    with pytest.raises(UserError, match="cannot be drawn"):
        UnstainedTissue(0, **values)
