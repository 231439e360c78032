"""The atlas of training cases: what an affine map brings to one place, and its mean."""

import numpy as np
import pytest
from levels import Levels, case

from ganatomy.tasks.segmentation.atlas import ball, between, mean_atlas

SIZE = (14, 20, 18)


def ellipsoid(centre, radii):
    axes = np.meshgrid(*(np.arange(extent) for extent in SIZE), indexing="ij", sparse=True)
    return sum(((axis - at) / half) ** 2 for axis, at, half in zip(axes, centre, radii, strict=True)) <= 1


def sample_of(task, inside):
    values = np.where(inside, 800, 200).astype(np.float32)
    values[0, 0, 0] = 300
    return case(task, mr=values, tumour=inside.astype(np.uint8))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def task():
    return Levels(inputs=("mr",), regions={"part": (1,)}).task


def test_the_map_between_covariances_is_symmetric_and_exact():
    rng = np.random.default_rng(0)
    first, second = (values @ values.T + np.eye(3) for values in rng.normal(size=(2, 3, 3)))
    found = between(first, second)
    np.testing.assert_allclose(found @ first @ found.T, second, atol=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-9)
    np.testing.assert_allclose(between(first, first), np.eye(3), atol=1e-9)


def test_ellipsoids_of_other_places_and_sizes_fall_on_each_other(task):
    masks = [ellipsoid((6, 9, 8), (3.5, 6, 4)), ellipsoid((7, 11, 10), (4.5, 5, 5))]
    image, regions = mean_atlas(task, [sample_of(task, mask) for mask in masks])
    assert image.shape == regions.shape == (1, *SIZE)
    mean = ellipsoid((6.5, 10, 9), (4, 5.5, 4.5))
    assert dice(regions[0] > 0.5, mean) > 0.93
    assert dice(regions[0] > 0.95, mean) > 0.7 and dice(masks[0], masks[1]) < 0.8
    assert image[0][regions[0] > 0.95].mean() > image[0][regions[0] < 0.05].mean() + 0.2


def test_one_case_is_its_own_atlas_and_cases_without_annotation_are_left_out(task):
    mask = ellipsoid((6, 9, 8), (3.5, 6, 4))
    one, empty = sample_of(task, mask), sample_of(task, np.zeros(SIZE, bool))
    _, regions = mean_atlas(task, [one, empty])
    np.testing.assert_allclose(regions[0], mask, atol=1e-4)
    with pytest.raises(ValueError, match="no case has an annotated voxel"):
        mean_atlas(task, [empty])


def test_before_an_atlas_is_fitted_there_is_a_ball():
    values = ball((9, 11, 7))
    assert values.shape == (9, 11, 7) and values[4, 5, 3] == 1 and values[0, 0, 0] == 0
    np.testing.assert_array_equal(values, values[::-1, ::-1, ::-1])
