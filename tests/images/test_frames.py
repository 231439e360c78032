from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from ganatomy.errors import UserError
from ganatomy.images.frames import DIRECTIONS, Frame, Turn
from ganatomy.images.image import ComputedArray, Image

ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
PLANES = ["axial", "sagittal", "coronal", "stored"]
SHAPE, SPACING = (3, 4, 5), (2.5, 0.8, 0.7)


def affine_of(order, signs, spacing=SPACING, tilt=(0.0, 0.0, 0.0)):
    """Return the affine of a volume whose axes run along the world axes of ``order``, forwards or backwards."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * spacing[axis]
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    return affine


def volume(shape=SHAPE, affine=None, dtype=np.int16, channels=1):
    values = np.random.default_rng(3).integers(0, 200, (channels, *shape)).astype(dtype)
    return Image(values, affine_of((2, 1, 0), (1, -1, -1)) if affine is None else affine, "HU")


def ramp(shape, affine):
    """Return an image whose values are a function of the position in the patient."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    mm = index @ affine[:3, :3].T + affine[:3, 3]
    return Image((mm @ np.array([100.0, 10.0, 1.0])).astype(np.float32)[None], affine)


def places(shape, affine):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    return index @ affine[:3, :3].T + affine[:3, 3]


def counted(image):
    """Return the image with a list of the slabs that are read from it."""
    asked = []

    def slab(start, stop):
        asked.append((start, stop))
        return image.slab(start, stop)

    return image.with_array(ComputedArray(image.array.shape, image.dtype, slab)), asked


oriented = st.builds(
    affine_of,
    st.permutations(range(3)),
    st.tuples(*3 * [st.sampled_from([1, -1])]),
    st.tuples(*3 * [st.sampled_from([0.5, 0.9, 1.0, 2.5])]),
    st.tuples(*3 * [st.floats(-20, 20)]),
)
shapes = st.tuples(*3 * [st.integers(1, 6)])


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_comes_to_the_plane_and_back_bit_by_bit(order, signs, plane):
    image = volume(affine=affine_of(order, signs), channels=2)
    frame = Frame.plan(image, plane)
    working = frame.into(image)
    if plane == "stored":
        assert working is image
    else:
        runs = nibabel.orientations.io_orientation(working.affine)
        assert [tuple(map(int, run)) for run in runs] == list(DIRECTIONS[plane])
        # Every voxel has the value of its position in the patient.
        index = np.rint(
            (places(working.shape, working.affine) - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
        )
        there = image.array[:, *index.astype(int).T]
        np.testing.assert_array_equal(working.numpy().reshape(2, -1), there)
    back = frame.back(working.array)
    assert back.dtype == image.dtype and back.shape == image.array.shape
    np.testing.assert_array_equal(np.asarray(back), image.array)


@given(oriented, shapes, st.sampled_from(PLANES), st.data())
@settings(deadline=None, max_examples=60)
def test_oblique_volumes_go_there_and_back_bit_by_bit(affine, shape, plane, data):
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.bool_]))
    values = data.draw(arrays(dtype, (1, *shape)))
    frame = Frame.plan(Image(values, affine), plane)
    there = np.asarray(frame.into(Image(values, affine)).array)
    assert there.dtype == dtype and there.shape[1:] == frame.size
    np.testing.assert_array_equal(np.asarray(frame.back(there)), values)
    np.testing.assert_allclose(
        places(frame.size, frame.working_affine),
        places(shape, affine).reshape(*shape, 3)[_indices(frame, shape)].reshape(-1, 3),
        atol=1e-9,
    )


def _indices(frame, shape):
    """Return the source indices of every working voxel, computed by turning an array of indices."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return tuple(frame.turn.apply(index))


@given(oriented, shapes, st.sampled_from(PLANES), shapes, st.sampled_from([np.int16, np.float32]))
@settings(deadline=None, max_examples=60)
def test_crops_and_pads_give_back_what_they_have_kept(affine, shape, plane, size, dtype):
    image = volume(shape, affine, dtype)
    turn = Turn.to(plane, affine)
    own = tuple(image.spacing[axis] for axis in turn.axes)
    frame = Frame.plan(image, plane, own, size, fill=-5.0)
    assert (frame.scaled, frame.size, frame.resamples) == (turn.shape(shape), size, False)
    working = frame.into(image)
    back = np.asarray(frame.back(working.array, -7.0))
    kept = back != -7
    np.testing.assert_array_equal(back[kept], image.array[kept])
    assert kept.sum() == np.prod(np.minimum(turn.shape(shape), size))
    assert (working.numpy() == -5).sum() == np.prod(size) - kept.sum()
    # Voxels that were kept are at their old positions.
    worlds = {
        tuple(np.round(mm, 6)): value for mm, value in zip(places(shape, affine), image.numpy().ravel(), strict=True)
    }
    for mm, value in zip(places(size, working.affine), working.numpy().ravel(), strict=True):
        assert worlds.get(tuple(np.round(mm, 6) + 0.0), -5) == value


@given(oriented, st.tuples(*3 * [st.integers(4, 9)]), st.sampled_from(PLANES), st.booleans())
@settings(deadline=None, max_examples=40)
def test_points_go_there_and_back(affine, shape, plane, resampled):
    image = volume(shape, affine)
    frame = Frame.plan(image, plane, (1.1, 0.6, 1.7) if resampled else None, (5, 6) if resampled else None)
    points = np.random.default_rng(0).normal(0, 40, (7, 3))
    np.testing.assert_allclose(frame.points(frame.indices(points)), points, atol=1e-12)
    corner = np.array([[0.0, 0.0, 0.0], np.array(frame.size) - 1.0])
    np.testing.assert_allclose(frame.points(corner), places(frame.size, frame.working_affine)[[0, -1]], atol=1e-9)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    ("spacing", "size", "fit"),
    [((1.5, 1.0, 1.25), None, "cover"), ((4.0, 0.9, 0.6), (9, 30, 17), "cover"), (None, (24, 20), "contain")],
)
def test_resampled_voxels_keep_their_place_in_the_patient(plane, spacing, size, fit):
    affine = affine_of((1, 2, 0), (-1, 1, -1), (2.0, 1.2, 0.8), (8, -5, 3))  # a PIR volume, tilted
    image = ramp((22, 24, 26), affine)
    frame = Frame.plan(image, plane, spacing, size, fit, np.nan)
    working = frame.into(image)
    assert working.dtype == np.float32
    mm = places(working.shape, working.affine)
    source = (mm - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    # Near an edge, the average of the existing voxels is biased inwards.
    inside = ((source > 4) & (source < np.array(image.shape) - 5)).all(1)
    values = working.numpy().ravel()
    assert inside.sum() > 100
    # Filters of fractional scales are not quite symmetric: up to an eighth of a voxel.
    np.testing.assert_allclose(values[inside], (mm @ np.array([100.0, 10.0, 1.0]))[inside], atol=0.125 * 200 * 1.2)
    assert np.abs(values[inside] - (mm @ np.array([100.0, 10.0, 1.0]))[inside]).mean() < 6
    if spacing is not None:
        np.testing.assert_allclose(working.spacing, spacing, rtol=0.04)


def test_a_stated_spacing_is_not_resampled_twice_and_uncropped_for_patches():
    image = ramp((10, 20, 30), affine_of((2, 1, 0), (1, -1, -1), (2.0, 1.0, 1.0)))
    frame = Frame.plan(image, spacing=(1.0, 2.0, 2.0), size=(12, 12, 12))
    assert (frame.scaled, frame.size, frame.before) == ((20, 10, 15), (12, 12, 12), (-4, 1, -2))
    assert Frame.plan(image, spacing=(1.0, 2.0, 2.0), size=(12, 12, 12), fit="patches").size == (20, 10, 15)
    assert Frame.plan(image, size=(8, 8), fit="patches").identity


@pytest.mark.parametrize(("fit", "scaled"), [("cover", (2, 40, 20)), ("contain", (2, 20, 10))])
def test_proportions_are_those_in_mm(fit, scaled):
    # 40 x 80 pixels of 2 x 0.5 mm are 80 x 40 mm.
    image = ramp((2, 40, 80), affine_of((2, 1, 0), (1, -1, -1), (3.0, 2.0, 0.5)))
    frame = Frame.plan(image, size=(20, 20), fit=fit, fill=-1e4)
    assert (frame.scaled, frame.size) == (scaled, (2, 20, 20))
    working = frame.into(image)
    np.testing.assert_allclose(working.spacing[1], working.spacing[2], rtol=1e-9)
    filled = (working.numpy() == -1e4).mean()
    assert filled == (0 if fit == "cover" else 0.5)
    back = np.asarray(frame.back(working.array, np.nan))
    assert np.isnan(back).mean() == (0.5 if fit == "cover" else 0)


def test_pixels_are_kept_where_an_image_is_cropped_and_padded_around_its_centre():
    image = ramp((2, 9, 30), affine_of((2, 1, 0), (1, -1, -1), (3.0, 2.0, 0.5)))
    frame = Frame.plan(image, size=(15, 20), fit="centre", fill=-1e4)
    assert (frame.scaled, frame.size, frame.before) == ((2, 9, 30), (2, 15, 20), (0, 3, -5))
    working = frame.into(image).numpy()
    np.testing.assert_array_equal(working[:, :, 3:12], image.numpy()[..., 5:25])
    assert (working[:, :, :3] == -1e4).all() and (working[:, :, 12:] == -1e4).all()


def test_proportions_may_be_those_in_pixels():
    image = ramp((2, 40, 80), affine_of((2, 1, 0), (1, -1, -1), (3.0, 2.0, 0.5)))
    assert Frame.plan(image, size=(20, 20), fit="contain", square=False).scaled == (2, 10, 20)


def test_volumes_are_fitted_in_space():
    image = ramp((8, 16, 16), affine_of((2, 1, 0), (1, -1, -1), (2.0, 1.0, 1.0)))
    frame = Frame.plan(image, size=(4, 4, 4))
    assert frame.scaled == (4, 4, 4) and not frame.slice_wise
    np.testing.assert_allclose(frame.into(image).spacing, 4.0)
    np.testing.assert_allclose(frame.into(image).numpy().mean(), image.numpy().mean(), rtol=1e-5)


@given(oriented, st.tuples(*3 * [st.integers(2, 5)]), st.sampled_from(PLANES), st.tuples(*3 * [st.integers(1, 3)]))
@settings(deadline=None, max_examples=40)
def test_a_finer_output_lies_in_the_same_place(affine, shape, plane, scale):
    image = volume(shape, affine)
    own = tuple(image.spacing[axis] for axis in Turn.to(plane, affine).axes)
    frame = Frame.plan(image, plane, own, (4, 3))
    finer = frame.finer(scale)
    assert finer.size == tuple(extent * factor for extent, factor in zip(frame.size, scale, strict=True))
    # The mean of the finer voxels' centres is the centre of the voxel that they share.
    blocks = places(finer.size, finer.working_affine).reshape(
        *(part for pair in zip(frame.size, scale, strict=True) for part in pair), 3
    )
    np.testing.assert_allclose(
        blocks.mean(axis=(1, 3, 5)).reshape(-1, 3), places(frame.size, frame.working_affine), atol=1e-9
    )
    values = np.arange(np.prod(finer.size), dtype=np.int32).reshape(1, *finer.size)
    back = np.asarray(finer.back(values, -1))
    assert back.shape[1:] == finer.source
    at = {
        tuple(np.round(mm, 6) + 0.0): value
        for mm, value in zip(places(finer.source, finer.affine), back.ravel(), strict=True)
    }
    for mm, value in zip(places(finer.size, finer.working_affine), values.ravel(), strict=True):
        assert at.get(tuple(np.round(mm, 6) + 0.0), value) == value


def uneven(shape=(4, 5, 6)):
    image = volume(shape)
    offsets = np.zeros((shape[0], 3))
    offsets[2:, 2] = 3.0
    return Image(image.array, image.affine, "HU", offsets=offsets)


def test_uneven_slices_are_kept_or_refused():
    image = uneven()
    working = Frame.plan(image, "axial", size=(8, 8)).into(image)
    np.testing.assert_array_equal(working.offsets, image.offsets)
    for options in ({"plane": "sagittal"}, {"spacing": (1.0, 1.0, 1.0)}, {"size": (2, 4, 4)}):
        with pytest.raises(UserError, match="unevenly spaced"):
            Frame.plan(image, **options)
    assert Frame.plan(image, size=(2, 4, 4), fit="patches").identity


def test_recorded_positions_stay_with_their_slices():
    jitter = np.zeros((5, 3))
    jitter[1, 0] = 0.004
    downwards = affine_of((2, 1, 0), (-1, -1, -1))
    image = Image(volume((5, 5, 5)).array, downwards, offsets=jitter)
    assert not image.uneven
    axial = Frame.plan(image, "axial")
    assert not axial.turn.flipped[0]
    np.testing.assert_array_equal(axial.into(image).offsets, jitter)
    # A cube has as many sagittal slices, to which the positions of the axial ones do not apply.
    assert Frame.plan(image, "sagittal").into(image).offsets is None


@pytest.mark.parametrize("sign", [1, -1])
def test_slices_that_stay_slices_are_read_one_by_one(sign):
    image = volume((4, 9, 7), affine_of((2, 1, 0), (sign, 1, -1)))
    lazy, asked = counted(image)
    frame = Frame.plan(lazy, "axial", size=(6, 6))
    assert frame.slice_wise and frame.turn.flipped == (sign < 0, True, False)
    working = frame.into(lazy)
    assert not asked
    third = working.slab(2, 3)
    assert asked == [(2, 3) if sign > 0 else (1, 2)]
    np.testing.assert_array_equal(third, frame.into(image).numpy()[:, 2:3])
    there, asked = counted(working)
    back = frame.back(there.array)
    assert not asked
    np.testing.assert_array_equal(back.slab(0, 2), np.asarray(frame.back(working.numpy()))[:, :2])
    assert asked == [(0, 2) if sign > 0 else (2, 4)]


def test_other_planes_read_the_volume_once():
    lazy, asked = counted(volume((4, 9, 7)))
    working = Frame.plan(lazy, "coronal").into(lazy)
    assert not asked
    for index in range(working.shape[0]):
        working.slab(index, index + 1)
    assert asked == [(0, 4)]


def test_values_around_and_outside_are_those_that_were_asked_for():
    image = volume((2, 4, 4), dtype=np.uint16)
    frame = Frame.plan(image, spacing=image.spacing, size=(6, 4), fill=-1000.0)
    working = frame.into(image)
    assert working.dtype == np.float32 and (working.numpy()[0, :, 0] == -1000).all()
    np.testing.assert_array_equal(np.asarray(frame.back(working.array))[0], image.array[0])
    narrow = Frame.plan(image, spacing=image.spacing, size=(2, 4), fill=-1000.0)
    assert narrow.into(image).dtype == np.uint16  # nothing is padded
    assert np.asarray(narrow.back(narrow.into(image).array, -0.5))[0, 0, 0, 0] == -0.5


def test_frames_refuse_other_shapes():
    frame = Frame.plan(volume((3, 4, 5)), "sagittal")
    with pytest.raises(ValueError, match=r"\(3, 4, 5\)"):
        frame.into(volume((3, 5, 4)))
    with pytest.raises(ValueError, match=r"\(5, 4, 3\)|\(5, 3, 4\)"):
        frame.back(np.zeros((1, 3, 4, 5)))


@given(
    arrays(np.uint16, (1, 3, 6, 7), elements=st.sampled_from([0, 1, 4, 7, 400, 65535])),
    st.tuples(*3 * [st.floats(0.4, 2.6)]),
    st.sampled_from(PLANES),
)
@settings(deadline=None, max_examples=60)
def test_no_label_is_invented(values, spacing, plane):
    image = Image(values, affine_of((1, 0, 2), (1, -1, 1), (1.5, 0.8, 1.0)))
    frame = Frame.plan(image, plane, spacing)
    working = frame.into(image, "labels")
    assert working.dtype == np.uint16
    assert set(np.unique(working.numpy())) <= set(np.unique(values))
    back = np.asarray(frame.back(working.array, 0, "labels"))
    assert back.dtype == np.uint16 and back.shape == values.shape
    assert set(np.unique(back)) <= set(np.unique(values))


@given(
    arrays(np.uint8, (1, 2, 6, 7), elements=st.sampled_from([0, 1, 4, 7, 200])),
    st.tuples(*3 * [st.sampled_from([0.4, 0.8, 1.3, 2.0, 2.9])]),
)
@settings(deadline=None, max_examples=60)
def test_labels_are_chosen_by_votes(values, spacing):
    image = Image(values, affine_of((2, 1, 0), (1, -1, -1), (1.0, 1.0, 1.0)))
    frame = Frame.plan(image, spacing=spacing)
    labels = np.unique(values)
    shares = np.stack([frame.into(image.with_array((values == label).astype(np.float32))).numpy() for label in labels])
    close = shares > shares.max(axis=0) - 1e-5
    # A label with the largest share; of equal ones the smallest, but for what rounding makes of them.
    found = frame.into(image, "labels").numpy()
    chosen = np.searchsorted(labels, found)
    assert np.take_along_axis(close, chosen[None], 0).all()
    equal = np.abs(shares - shares.max(axis=0)) < 1e-7
    np.testing.assert_array_equal(
        found[equal.sum(0) == close.sum(0)], labels[equal.argmax(0)][equal.sum(0) == close.sum(0)]
    )


def test_mean_of_labels_is_no_label():
    values = np.repeat(np.repeat(np.array([[0, 4], [4, 1]], np.uint8), 8, 0), 8, 1)[None, None]
    image = Image(values, affine_of((2, 1, 0), (1, -1, -1), (1.0, 1.0, 1.0)))
    frame = Frame.plan(image, size=(11, 11))
    assert set(np.unique(frame.into(image, "labels").numpy())) == {0, 1, 4}
    blurred = frame.into(image).numpy()
    assert ((blurred > 1.5) & (blurred < 3.5)).any()  # linear interpolation would invent labels
    back = np.asarray(frame.back(frame.into(image, "labels").array, 0, "labels"))
    assert (back == values).mean() > 0.85
