"""Images of other libraries become images and back, with every voxel at its place in the patient."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from PIL import Image as Pillow

from ganatomy import Image, UserError
from ganatomy.errors import Notice
from ganatomy.images.image import ComputedArray, Header

SHAPE = (3, 5, 4)
"""Slices, rows and columns."""
SPACING = (4.0, 1.5, 0.7)


def oblique():
    """Affine from (slice, row, column) to mm in RAS+, turned about two axes, with three different distances."""
    one, other = 0.4, -0.7
    about_z = np.array([[np.cos(one), -np.sin(one), 0], [np.sin(one), np.cos(one), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(other), -np.sin(other)], [0, np.sin(other), np.cos(other)]])
    axes = (about_z @ about_x)[:, [2, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * SPACING, (-31.0, 17.0, 5.5)
    return affine


def volume(channels=1, dtype=np.int16):
    values = np.arange(channels * np.prod(SHAPE)).reshape(channels, *SHAPE)
    return Image(values.astype(dtype), oblique(), "HU")


PLACES = [(0, 0, 0), (2, 0, 0), (0, 4, 0), (0, 0, 3), (1, 3, 2)]


@pytest.mark.parametrize("channels", [1, 2])
def test_nibabel_has_every_voxel_at_its_place_in_ras(channels):
    image = volume(channels)
    made = image.to_nibabel()
    assert made.shape == (4, 5, 3) + ((2,) if channels > 1 else ()) and made.get_data_dtype() == np.int16
    for slice_, row, column in PLACES:
        there = nib.affines.apply_affine(made.affine, (column, row, slice_))
        assert np.allclose(there, (image.affine @ (slice_, row, column, 1))[:3], atol=1e-4)
        voxel = np.asarray(made.dataobj)[column, row, slice_]
        assert np.array_equal(np.ravel(voxel), image.array[:, slice_, row, column])
    back = Image.of(made)
    assert np.array_equal(back.array, image.array) and np.allclose(back.affine, image.affine, atol=1e-5)
    assert back.unit == "HU" and back.dtype == np.int16


def test_what_nibabel_writes_is_what_is_read_and_written_here(tmp_path):
    image = volume()
    nib.save(image.to_nibabel(), tmp_path / "theirs.nii.gz")
    image.save(tmp_path / "ours.nii.gz")
    theirs, ours = (Image.of(tmp_path / f"{name}.nii.gz") for name in ("theirs", "ours"))
    assert np.array_equal(theirs.numpy(), ours.numpy()) and np.allclose(theirs.affine, ours.affine, atol=1e-6)
    assert theirs.unit == ours.unit == "HU"


def test_a_header_in_metres_and_a_slope_are_understood():
    stored = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(4, 5, 3), np.diag([0.7e-3, 1.5e-3, 4e-3, 1]))
    stored.header.set_xyzt_units("meter")
    stored.header.set_slope_inter(0.5, -3)
    scaled = nib.Nifti1Image.from_bytes(stored.to_bytes())
    image = Image.of(scaled)
    assert np.allclose(image.spacing, SPACING) and image.shape == SHAPE and image.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 2])
def test_simpleitk_has_every_voxel_at_its_place_in_lps(channels):
    image = volume(channels)
    made = image.to_sitk()
    assert made.GetSize() == (4, 5, 3) and np.allclose(made.GetSpacing(), SPACING[::-1])
    for slice_, row, column in PLACES:
        there = np.array(made.TransformIndexToPhysicalPoint((column, row, slice_))) * (-1, -1, 1)
        assert np.allclose(there, (image.affine @ (slice_, row, column, 1))[:3], atol=1e-9)
        assert np.array_equal(np.ravel(made.GetPixel(column, row, slice_)), image.array[:, slice_, row, column])
    back = Image.of(made)
    assert np.array_equal(back.array, image.array) and np.allclose(back.affine, image.affine) and back.unit == "HU"


def test_simpleitk_and_nibabel_agree_through_a_file(tmp_path):
    nib.save(volume().to_nibabel(), tmp_path / "v.nii")
    theirs = Image.of(SimpleITK.ReadImage(str(tmp_path / "v.nii")))
    assert np.array_equal(theirs.array, volume().array) and np.allclose(theirs.affine, oblique(), atol=1e-4)


def test_a_flat_picture_of_simpleitk_has_one_slice():
    flat = SimpleITK.GetImageFromArray(np.arange(20, dtype=np.uint8).reshape(5, 4))
    flat.SetSpacing((0.7, 1.5))
    image = Image.of(flat)
    assert image.shape == (1, 5, 4) and image.spacing == (1.0, 1.5, 0.7)


def test_a_tensor_of_monai_is_placed_by_its_affine():
    image = volume(2)
    affine = torch.from_numpy(image.affine[:, [2, 1, 0, 3]])
    back = Image.of(MetaTensor(torch.from_numpy(image.array.transpose(0, 3, 2, 1).copy()), affine=affine), unit="HU")
    assert np.array_equal(back.array, image.array) and np.allclose(back.affine, image.affine) and back.unit == "HU"


def test_tensors_are_slices_with_channels_first():
    tensor = volume(2, np.float32).to_torch()
    assert tensor.shape == (3, 2, 5, 4) and tensor[1, 0, 3, 2] == volume(2).array[0, 1, 3, 2]
    back = Image.of(tensor, spacing=SPACING)
    assert np.array_equal(back.array, volume(2).array) and back.spacing == SPACING
    assert Image.of(tensor[0], spacing=SPACING[1:]).array.shape == (2, 1, 5, 4)
    assert Image.of(tensor.swapaxes(0, 1)[None].bfloat16(), spacing=SPACING).array.shape == (2, 3, 5, 4)
    tensor[:] = 0
    assert volume(2).array.any()
    with pytest.raises(UserError, match="a volume is"):
        Image.of(torch.zeros(2, 1, 3, 5, 4))


def test_an_array_without_distances_says_what_is_assumed():
    with pytest.warns(Notice, match="3 axial slices of 5 x 4 pixels, 1 mm apart, .*spacing="):
        assert Image.of(volume().array[0]).spacing == (1, 1, 1)


def test_the_axes_of_an_array_can_be_named():
    array = np.asarray(volume().to_nibabel().dataobj)
    image = Image.of(array, spacing=SPACING, axes="columns rows slices")
    assert np.array_equal(image.array, volume().array) and image.spacing == SPACING
    last = Image.from_array(array[..., None], SPACING, axes=("columns", "rows", "slices", "channels"))
    assert np.array_equal(last.array, volume().array)
    for wrong in ("columns rows", "columns rows depth", "columns rows rows", "slices channels rows"):
        with pytest.raises(UserError, match="name each of the 3 axes"):
            Image.from_array(array, axes=wrong)


def test_pictures_of_pillow_have_colours_and_lie_as_they_are_shown():
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    picture = Pillow.fromarray(pixels)
    image = Image.of(picture, spacing=(0.5, 0.25))
    assert image.array.shape == (3, 1, 5, 4) and image.header.colours and image.spacing == (1.0, 0.5, 0.25)
    assert np.array_equal(image.array[:, 0, 3, 2], pixels[3, 2])
    same = Image.of(picture, spacing=(1, 1)).to_pil()
    assert np.array_equal(np.asarray(same), pixels)
    picture.getexif()[274] = 6  # shown after a quarter turn clockwise
    assert np.array_equal(Image.of(picture, spacing=(1, 1)).array[:, 0], np.rot90(pixels, -1).transpose(2, 0, 1))


def test_geometry_that_is_stated_is_not_overridden():
    with pytest.raises(UserError, match="states them itself"):
        Image.of(volume().to_nibabel(), spacing=SPACING)
    with pytest.raises(UserError, match="a dict is no image"):
        Image.of({"a": 1})
    with pytest.raises(UserError, match="a ndarray of complex64 is no image"):
        Image.of(np.zeros((3, 4), np.complex64), spacing=(1, 1))


def test_uneven_slices_are_refused_where_they_would_be_lost():
    offsets = np.zeros((3, 3))
    offsets[1] = 2.0
    uneven = Image(volume().array, oblique(), offsets=offsets)
    for convert in (uneven.to_nibabel, uneven.to_sitk):
        with pytest.raises(UserError, match="unevenly spaced"):
            convert()


def test_numpy_sees_the_array_and_copies_when_asked_to():
    image = volume()
    assert np.shares_memory(np.asarray(image), image.array) and np.asarray(image, np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(image, copy=True), image.array)
    assert np.shares_memory(np.array(image, copy=False), image.array)
    with pytest.raises(ValueError, match="only be had as a copy"):
        np.array(image, np.float32, copy=False)
    lazy = image.with_array(ComputedArray((1, *SHAPE), np.int16, lambda start, stop: image.slab(start, stop)))
    assert np.array_equal(np.asarray(lazy), image.array)
    with pytest.raises(ValueError, match="only be had as a copy"):
        np.array(lazy, copy=False)


def test_a_notebook_shows_the_middle_slice_without_script():
    import base64
    import io
    import re

    values = np.zeros((1, *SHAPE), np.float32)
    values[0, 1, 4, 0] = 9.0
    shown = Image(values, oblique(), "<HU>")._repr_html_()
    assert "<script" not in shown and "&lt;HU&gt;" in shown and "3 slices of 5 x 4 pixels, 4 x 1.5 x 0.7 mm" in shown
    picture = Pillow.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])))
    assert picture.size == (4, 11), "pixels are square: 5 rows of 1.5 mm are 11 of 0.7 mm"
    assert np.asarray(picture)[-1, 0] > 200 > 50 > np.asarray(picture)[0, 3]


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_a_slice_without_a_range_can_be_shown(value):
    assert Image.from_array(np.full((4, 6), value)).to_pil().size == (6, 4)


def test_radiographs_that_are_stored_inverted_are_shown_as_meant():
    image = Image.from_array(np.array([[0.0, 1.0], [1.0, 1.0]]), header=Header(inverted=True))
    assert np.asarray(image.to_pil(window=(0, 1)))[0, 0] == 255
    with pytest.raises(UserError, match="slice 3: the image has the slices 0 to 0"):
        image.to_pil(3)


def test_an_image_is_described_in_a_line():
    assert repr(volume(2)) == (
        "Image(2 channels, 3 slices of 5 x 4 pixels, 4 x 1.5 x 0.7 mm (slices, rows, columns), HU, int16; the image in "
        "memory)"
    )
