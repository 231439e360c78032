import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ganatomy.images.image import ComputedArray
from ganatomy.tasks.anomaly_detection.refinement import (
    Refinement,
    eroded,
    median_filtered,
    quantile_inside,
    strided,
    with_neighbours,
)


class Counted(ComputedArray):
    """A lazy volume that counts how often every slice is read."""

    def __init__(self, values, thickness=2):
        self.reads = np.zeros(values.shape[0], int)

        def slab(start, stop):
            self.reads[start:stop] += 1
            return values[None, start:stop]

        super().__init__((1, *values.shape), values.dtype, slab, thickness)


def whole(array):
    """Read all slices, slab by slab."""
    step, slices = array.thickness, array.shape[1]
    return np.concatenate([array.slab(at, min(at + step, slices)) for at in range(0, slices, step)], axis=1)[0]


def refined(refinement, map, image, tissue, pixel_mm, thickness=2):
    found = refinement.refined(
        Counted(map, thickness),
        lambda start, stop: image[start:stop],
        lambda start, stop: tissue(image[start:stop]),
        pixel_mm,
    )
    return whole(found)


def test_refinement_does_nothing_unless_told():
    map, image = np.random.default_rng(0).random((2, 3, 16, 14)).astype(np.float32)
    mask = map > 0.9
    assert np.array_equal(refined(Refinement(), map, image, lambda shown: shown > 0.3, 2.0), map)
    assert np.array_equal(Refinement().clean(mask), mask)
    assert np.array_equal(whole(Refinement().cleaned(Counted(mask))), mask)


def test_the_edge_of_the_tissue_is_passed_over():
    tissue = np.zeros((2, 16, 16), np.float32)
    tissue[:, 3:13, 3:13] = 1
    kept = refined(Refinement(erosion=4.0), np.ones_like(tissue), tissue, lambda shown: shown > 0, 2.0)
    assert np.array_equal(kept > 0, eroded(tissue > 0, 2)) and kept[0].sum() == 6 * 6
    assert eroded(np.ones((1, 8, 8), bool), 3).all(), "an image that is cut has no edge there"


def test_dark_tissue_is_passed_over():
    image = np.arange(200, dtype=np.float32).reshape(2, 10, 10)
    kept = refined(Refinement(brightest=0.9), np.ones_like(image), image, lambda shown: shown >= 100, 1.0, 1)
    assert kept.sum() == 10 and kept[1, 9].all(), "the quantile is that of all slices"
    empty = refined(Refinement(brightest=0.9), np.ones_like(image), image, lambda shown: shown > 500, 1.0, 1)
    assert empty.all(), "without tissue nothing is brighter than it"


def test_a_quantile_of_very_many_voxels_is_that_of_some(monkeypatch):
    image = np.random.default_rng(0).permutation(4000).astype(np.float32).reshape(5, 20, 40)
    read = lambda start, stop: image[start:stop]  # noqa: E731
    inside = lambda start, stop: image[start:stop] >= 1000  # noqa: E731
    assert quantile_inside(read, inside, 5, 2, 0.5) == np.quantile(image[image >= 1000], 0.5)
    monkeypatch.setattr("ganatomy.tasks.anomaly_detection.refinement.MOST", 500)
    found = quantile_inside(read, inside, 5, 2, 0.5)
    assert found != np.quantile(image[image >= 1000], 0.5) and found == pytest.approx(2500, abs=250)


@given(st.lists(st.integers(0, 7), max_size=6), st.integers(1, 5))
def test_every_so_manieth_value_is_taken_across_pieces(lengths, step):
    values = np.arange(sum(lengths), dtype=np.float32)
    pieces = np.split(values, np.cumsum(lengths)[:-1]) if lengths else []
    assert np.array_equal(strided(pieces, step), values[::step])


@given(st.integers(1, 4), st.sampled_from([3, 5]))
def test_a_median_takes_specks_away_and_leaves_plains(slices, side):
    map = np.full((slices, 9, 8), 2, np.float32)
    assert np.array_equal(whole(median_filtered(Counted(map), side)), map)
    map[0, 4, 4] = 9
    assert (whole(median_filtered(Counted(map), side)) == 2).all()


@given(st.integers(1, 9), st.sampled_from([3, 5]), st.integers(1, 4), st.integers(0, 10_000))
def test_a_median_of_slabs_is_that_of_the_volume(slices, side, thickness, seed):
    map = np.random.default_rng(seed).random((slices, 7, 6)).astype(np.float32)
    size = [min(side, extent - 1 + extent % 2) for extent in map.shape]
    array = Counted(map, thickness)
    assert np.array_equal(whole(median_filtered(array, side)), ndimage.median_filter(map, size))
    assert (array.reads == 1).all(), "neighbours are kept until they are not needed any more"


def test_specks_are_no_findings():
    mask = np.zeros((2, 8, 8), bool)
    mask[0, 0, 0] = True
    mask[0, 4:6, 4:6] = mask[1, 5:7, 5:7] = True
    kept = Refinement(smallest=8).clean(mask)
    assert kept.sum() == 8 and not kept[0, 0, 0]
    assert not Refinement(smallest=9).clean(mask).any()


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 4), st.integers(0, 10_000))
def test_specks_of_slabs_are_those_of_the_volume(slices, smallest, thickness, seed):
    mask = np.random.default_rng(seed).random((slices, 5, 4)) < 0.12
    refinement, array = Refinement(smallest=smallest), Counted(mask, thickness)
    assert np.array_equal(whole(refinement.cleaned(array)), refinement.clean(mask))


def test_slabs_may_be_asked_for_in_any_order():
    map = np.random.default_rng(0).random((7, 3, 2)).astype(np.float32)
    sums = with_neighbours(Counted(map), 1, lambda values: ndimage.uniform_filter1d(values, 3, axis=1))
    expected = ndimage.uniform_filter1d(map, 3, axis=0)
    for start, stop in ((4, 6), (0, 2), (1, 7), (6, 7), (2, 3)):
        np.testing.assert_allclose(sums.slab(start, stop)[0], expected[start:stop], rtol=1e-6)
