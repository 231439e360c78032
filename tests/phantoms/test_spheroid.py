import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import part
from ganatomy.phantoms.spheroid import WIDTH, BrightFieldSpheroids


@pytest.fixture(scope="module")
def wells():
    return [BrightFieldSpheroids(seed, size=96) for seed in range(16)]


def test_spheroids_have_numbers_and_a_mask(wells):
    for well in wells:
        numbers = well.instances["spheroids"]
        assert numbers.shape == (1, 96, 96) and numbers.dtype == np.uint16
        np.testing.assert_array_equal(numbers > 0, well.masks["spheroids"])
        assert (
            well.image.array.shape == (1, 1, 96, 96)
            and 0 <= well.image.numpy().min() <= well.image.numpy().max() <= 255
        )
    np.testing.assert_array_equal(part(wells[0], "instances:spheroids").array[0], wells[0].instances["spheroids"])


def test_some_spheroids_touch_others(wells):
    touching = 0
    for well in wells:
        numbers = well.instances["spheroids"][0]
        parts = ndimage.label(numbers)[1]
        touching += len(np.unique(numbers)) - 1 > parts
    assert 3 < touching < 16


def test_spheroids_are_darker_than_the_medium_but_no_threshold_separates_them(wells):
    accuracy = []
    for well in wells:
        image, inside = well.image.numpy()[0, 0], well.masks["spheroids"][0]
        assert image[inside].mean() < image[~inside].mean()
        union = [
            np.mean((image < level)[inside | (image < level)] & inside[inside | (image < level)])
            for level in range(60, 200, 4)
        ]
        accuracy.append(max(union))
    assert 0.3 < np.mean(accuracy) < 0.85


def test_seeds_differ_and_repeat_and_sizes_show_the_same_millimetres():
    first, again, other = (BrightFieldSpheroids(seed, size=64) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    assert (first.image.array != other.image.array).any()
    fine = BrightFieldSpheroids(1, size=192)
    assert fine.image.spacing[1] == pytest.approx(WIDTH / 192)
    assert fine.masks["spheroids"].mean() == pytest.approx(first.masks["spheroids"].mean(), abs=0.02)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong):
    with pytest.raises(UserError, match="cannot be drawn"):
        BrightFieldSpheroids(0, **wrong)
