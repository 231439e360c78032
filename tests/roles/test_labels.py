import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from ganatomy.case import Preparation, cut
from ganatomy.errors import UserError
from ganatomy.images.files import find
from ganatomy.images.image import Header, Image, RasterMeaning
from ganatomy.images.labelmaps import palette
from ganatomy.roles.labels import LabelRole

TUMOUR = LabelRole("tumour", {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)})
PLANES = ["axial", "sagittal", "coronal", "stored"]


def some(shape, labels=(0, 1, 2, 4), dtype=np.uint8):
    return np.random.default_rng(4).choice(np.array(labels), shape).astype(dtype)


def one(path):
    (source,) = find(path)
    return source


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_maps_come_back_on_their_own_grid(volume, plane, dtype):
    image = volume(some((4, 6, 9)).astype(dtype), modality="MR", kind="nifti")
    frame = TUMOUR.plan(image, Preparation(plane=plane))
    array = TUMOUR.array(image, frame)
    assert array.dtype == np.uint8 and array.shape == (1, *frame.size) and TUMOUR.stored(array.dtype) == np.uint8
    back = TUMOUR.value(np.asarray(array), frame, image)
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_array_equal(back.affine, image.affine)
    assert (back.unit, back.header.modality) == (None, "MR")
    np.testing.assert_array_equal(TUMOUR.value(np.asarray(array), frame, None).numpy(), image.numpy())


@given(st.floats(0.5, 3), st.floats(0.5, 3), st.floats(0.5, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_resampling_invents_no_label(slices, rows, columns, seed):
    role = LabelRole("tissue", {"a": (1,), "b": (4,)})
    values = np.random.default_rng(seed).choice([0, 1, 4], (5, 9, 7)).astype(np.uint8)
    image = Image.from_array(values, (1.5, 0.8, 1.0))
    frame = role.plan(image, Preparation(spacing=(slices, rows, columns), fill=(("tissue", -1000.0),)))
    array = np.asarray(role.array(image, frame))
    assert set(np.unique(array)) <= {0, 1, 4} and frame.resamples
    assert set(np.unique(role.value(array, frame, image).numpy())) <= {0, 1, 4}


def test_regions_overlap_and_the_later_one_is_written():
    labels = np.array([0, 1, 2, 4], np.uint8).reshape(1, 1, 1, 4)
    inside = TUMOUR.indicators(labels)
    np.testing.assert_array_equal(inside[:, 0, 0], [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(TUMOUR.merged(inside > 0.5), labels)
    np.testing.assert_array_equal(TUMOUR.encoded(labels), inside)
    tensor = TUMOUR.tensor(labels, 2)
    assert tensor.shape == (3, 1, 4) and tensor.dtype.is_floating_point
    assert TUMOUR.example((5, 6), None).shape == (3, 5, 6)
    outlines = TUMOUR.overlay(labels[:, 0])
    assert list(outlines) == ["whole", "core", "enhancing"] and outlines["core"].tolist() == [
        [False, True, False, True]
    ]


def test_unknown_voxels_are_marked_in_the_regions_that_they_may_belong_to():
    role = LabelRole("organs", {"liver": (1,), "spleen": (2,)}, unknown={9: ("spleen",), 255: ()})
    labels = np.array([0, 1, 2, 9, 255], np.uint8).reshape(1, 1, 1, 5)
    np.testing.assert_array_equal(role.indicators(labels)[:, 0, 0], [[0, 1, 0, 0, -1], [0, 0, 1, -1, -1]])


@pytest.mark.parametrize("pair", [(0, 255), (7, 9), (-1.0, 1.0), (0.0, 0.25), (0.0004, 0.9996)])
def test_masks_of_any_two_values(volume, pair):
    inside = some((4, 6, 9), (0, 1))
    role = LabelRole("lesion", {"inside": (3,)}, any_two=True)
    image = volume(np.where(inside, pair[1], pair[0]))
    np.testing.assert_array_equal(np.asarray(role.array(image, None))[0], 3 * inside)
    with pytest.raises(UserError, match="two values"):
        np.asarray(role.array(volume(np.where(inside, pair[1], pair[0]) + np.arange(9)), None))


@pytest.mark.parametrize(("value", "inside"), [(0, 0), (255, 1)])
def test_masks_of_one_value(volume, value, inside):
    role = LabelRole("lesion", any_two=True)
    assert (np.asarray(role.array(volume(np.full((4, 6, 9), value)), None)) == inside).all()


def test_strange_labels_and_colours_are_refused(volume):
    strange = volume(some((4, 6, 9), (0, 1, 3)), kind="nifti")
    with pytest.raises(UserError, match=r"label 3, but tumour has \[0, 1, 2, 4\]"):
        np.asarray(TUMOUR.array(strange, TUMOUR.plan(strange, Preparation())))
    with pytest.raises(UserError, match=r"label 1\.5"):
        np.asarray(TUMOUR.array(volume(np.full((4, 6, 9), 1.5)), None))
    with pytest.raises(UserError, match="3 channels"):
        TUMOUR.check(volume(np.zeros((3, 4, 6, 9))))


def test_labels_that_a_slope_has_blurred_are_labels(volume):
    values = some((4, 6, 9))
    blurred = volume((values + np.float32(3e-4)).astype(np.float32))
    np.testing.assert_array_equal(np.asarray(TUMOUR.array(blurred, None))[0], values)


def test_patches_at_the_border_are_mirrored_and_flips_are_undone_by_flips():
    labels = some((1, 4, 6, 6))
    patch = TUMOUR.cut(labels, (-1, 4, 0), (3, 4, 6))
    np.testing.assert_array_equal(patch, np.pad(labels, [(0, 0), (1, 0), (0, 2), (0, 0)], "reflect")[:, :3, 4:8])
    for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2)):
        flipped = TUMOUR.flip(labels, axes)
        assert (flipped != labels).any()
        np.testing.assert_array_equal(TUMOUR.flip(flipped, axes), labels)
    np.testing.assert_array_equal(TUMOUR.quarter_turns(TUMOUR.quarter_turns(labels, 1), 3), labels)


@pytest.mark.parametrize("lateral", [0, 2])
def test_sides_change_places_only_where_patches_are_mirrored_from_side_to_side(lateral):
    role = LabelRole("hippocampus", {"left": (1,), "right": (2,)}, swaps={1: 2}, lateral=lateral)
    labels = some((1, 4, 5, 6), (0, 1, 2))
    swapped = np.array([0, 2, 1], np.uint8)[labels]
    for axis in range(3):
        wanted = np.flip(swapped if axis == lateral else labels, 1 + axis)
        np.testing.assert_array_equal(role.flip(labels, (axis,)), wanted)
    np.testing.assert_array_equal(role.flip(role.flip(labels, (0, 2)), (0, 2)), labels)
    np.testing.assert_array_equal(role.flip(labels, (1, lateral)), np.flip(swapped, (2, 1 + lateral)))


def test_pictures_with_a_palette_are_read_as_labels(tmp_path):
    values = some((5, 7), (0, 1))
    picture = Pillow.frombytes("P", (7, 5), values.tobytes())
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "2nd_manual.gif")
    role = LabelRole("vessels")
    source = role.source("2nd_manual.gif", tmp_path, one)
    assert source.paths == (tmp_path / "2nd_manual.gif",)
    np.testing.assert_array_equal(np.asarray(role.array(source.open(), None))[0, 0], values)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.tif", "a.npy"])
def test_what_is_written_is_read_again(tmp_path, name):
    values = some((1 if name.endswith("png") else 4, 6, 9))
    meaning = RasterMeaning(slope=2, intercept=-1024, unit="HU")
    like = Image.from_array(
        values, (2.5, 0.8, 1.1), "HU", Header(kind="raster", meaning=meaning, stored=np.dtype("u2"))
    )
    made = TUMOUR.value(values[None], TUMOUR.plan(like, Preparation()), like)
    TUMOUR.write(tmp_path / name, made)
    again = TUMOUR.source(name, tmp_path, one).open()
    np.testing.assert_array_equal(again.numpy()[0], values)
    assert again.dtype == np.uint8
    if name.endswith("png"):
        with Pillow.open(tmp_path / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette()[values[0]])


def test_segmentations_are_written_as_something_else(tmp_path):
    with pytest.raises(UserError, match=r"DICOM segmentations: choose \.nii\.gz"):
        TUMOUR.write(tmp_path / "out", Image.from_array(some((4, 6, 9))))


def test_part_of_a_grid_is_placed_where_it_is_a_segmentation():
    whole = Image.from_array(some((4, 6, 9)), (2.5, 0.8, 1.1))
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, 0]
    part = Image(whole.array[:, 1:3], affine, header=Header(kind="dicom", modality="SEG"))
    found = TUMOUR.placed(part, whole).numpy()[0]
    np.testing.assert_array_equal(found[1:3], whole.numpy()[0, 1:3])
    assert not found[[0, 3]].any()


def test_cut_is_that_of_images():
    labels = some((1, 3, 7, 8))
    np.testing.assert_array_equal(TUMOUR.cut(labels, (0, -2, 3), (2, 5, 9)), cut(labels, (0, -2, 3), (2, 5, 9)))


def test_maps_that_hold_other_labels_are_prepared_anew():
    usual = LabelRole("tumour", {"whole": (1, 2, 4)})
    keys = {usual.prepared_as, LabelRole("tumour", {"whole": (1, 2)}).prepared_as}
    keys |= {LabelRole("tumour", {"inside": (label,)}, any_two=True).prepared_as for label in (1, 255)}
    assert len(keys) == 4
    assert LabelRole("tumour", {"core": (4,), "whole": (1, 2, 4)}).prepared_as == usual.prepared_as
