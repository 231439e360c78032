import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from ganatomy.errors import UserError
from ganatomy.phantoms import part
from ganatomy.phantoms.neurons import OFFSET, Neurons


@pytest.fixture(scope="module")
def pictures() -> list[Neurons]:
    return [Neurons(seed, size=128) for seed in range(8)]


def test_filaments_are_thin_branch_and_reach_far_from_the_bodies(pictures):
    for picture in pictures:
        filaments, bodies = picture.masks["filaments"][0], picture.masks["bodies"][0]
        assert 0.01 < filaments.mean() < 0.3 and not (bodies & ~filaments).any()
        assert 1 <= ndimage.label(bodies)[1] <= picture.count <= 3
        line = skeletonize(filaments)
        thick = ndimage.distance_transform_edt(filaments & ~ndimage.binary_dilation(bodies, iterations=2))
        assert np.median(thick[line & ~bodies]) < 2
        neighbours = ndimage.convolve(line.astype(int), np.ones((3, 3), int))
        assert ((neighbours > 3) & line).sum() >= 5
        away = ndimage.distance_transform_edt(~bodies)
        assert away[filaments].max() > 25


def test_filaments_are_brighter_than_what_is_around_them_and_bodies_brightest(pictures):
    for picture in pictures:
        light = picture.image.numpy()[0, 0] - OFFSET
        filaments, bodies = picture.masks["filaments"][0], picture.masks["bodies"][0]
        around = ndimage.binary_dilation(filaments, iterations=6) & ~ndimage.binary_dilation(filaments, iterations=2)
        assert light[filaments & ~bodies].mean() > 1.3 * light[around].mean()
        assert light[bodies].mean() > 2 * light[filaments & ~bodies].mean()
        # No threshold finds them: some of the rest is brighter than the faintest tenth of filaments.
        assert np.quantile(light[filaments], 0.1) < np.quantile(light[~filaments], 0.98)


def test_a_seed_is_a_picture_and_its_map_has_its_place(pictures):
    again = Neurons(4, size=128)
    np.testing.assert_array_equal(again.image.array, pictures[4].image.array)
    np.testing.assert_array_equal(again.masks["filaments"], pictures[4].masks["filaments"])
    np.testing.assert_array_equal(part(again, "mask:filaments").affine, again.image.affine)
    assert again.masks["field"].all() and again.image.spacing[1] == pytest.approx(0.22 / 128)
    assert (pictures[0].masks["filaments"] != pictures[1].masks["filaments"]).any()


def test_more_filaments_can_be_asked_for_and_a_finer_grid_shows_the_same_neurons():
    few, many = (
        np.mean([Neurons(seed, size=96, density=density).masks["filaments"].mean() for seed in range(5)])
        for density in (0.5, 1.5)
    )
    assert many > 1.5 * few
    coarse, fine = (Neurons(2, size=size).masks["bodies"].mean() for size in (96, 192))
    assert fine == pytest.approx(coarse, rel=0.1)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"noise": -1.0}, {"density": 0.0}])
def test_impossible_requests_are_refused(wrong):
    with pytest.raises(UserError, match="cannot be drawn"):
        Neurons(0, **wrong)
