"""Resampling of images to the grid of another image."""

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, RasterMeaning
from ganatomy.images.resampling import on_one_grid, resampled_to, same_grid, with_known_pixels


def ramp(shape, spacing, origin=(0.0, 0.0, 0.0)):
    """Return an image whose values are a linear function of the position in mm."""
    image = Image.from_array(np.zeros(shape, np.float32), spacing)
    affine = image.affine.copy()
    affine[:3, 3] += origin
    index = np.stack(np.meshgrid(*(np.arange(extent) for extent in shape), indexing="ij"), -1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    return Image((place @ [1.0, 10.0, 100.0]).astype(np.float32)[None], affine, "a.u.")


def test_values_stay_where_they_are_in_the_patient():
    coarse, fine = ramp((9, 10, 11), (3.0, 2.0, 2.5)), ramp((5, 7, 8), (1.5, 1.0, 1.25), (-3.0, -4.0, 2.0))
    moved = resampled_to(coarse, fine)
    assert moved.shape == fine.shape and np.array_equal(moved.affine, fine.affine) and moved.unit == "a.u."
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(moved.numpy()[inner], fine.numpy()[inner], rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(moved.slab(2, 4), moved.numpy()[:, 2:4])


def test_labels_are_not_invented():
    labels = np.zeros((1, 6, 8, 10), np.uint8)
    labels[:, 2:4, 2:6, 3:8] = 4
    labels[:, 3, 3:5, 4:6] = 1
    image = Image(labels, ramp((6, 8, 10), (3.0, 2.0, 2.5)).affine)
    moved = resampled_to(image, ramp((9, 13, 17), (2.0, 1.3, 1.4)), labels=True)
    assert set(np.unique(moved.numpy())) == {0, 1, 4} and moved.dtype == np.uint8


def test_a_case_is_brought_to_the_grid_of_one_of_its_images():
    a, b = ramp((5, 7, 8), (1.5, 1.0, 1.25)), ramp((9, 10, 11), (3.0, 2.0, 2.5), (-3.0, -4.0, 2.0))
    values = on_one_grid({"t1": a, "t2": b, "label": "sick"}, "t1")
    assert values["t1"] is a and values["label"] == "sick" and same_grid(values["t2"], a)
    with pytest.raises(UserError, match="--resample-to flair: no such image here; there are t1, t2"):
        on_one_grid({"t1": a, "t2": b}, "flair")


def picture(pixel_mm, shape=(4, 5)):
    header = Header(kind="raster", meaning=RasterMeaning(pixel_mm=pixel_mm))
    return Image.from_array(np.zeros(shape), (1.0, pixel_mm or 1.0, pixel_mm or 1.0), header=header)


@pytest.mark.parametrize("known", [0.7, 0.701])
def test_pictures_of_unknown_or_rounded_pixel_size_share_that_of_the_others(known):
    values = {"mask": picture(None), "image": picture(0.7), "other": picture(known), "word": "benign"}
    found = with_known_pixels(values)
    assert {found[name].spacing for name in ("mask", "image", "other")} == {(1.0, 0.7, 0.7)}
    assert found["mask"].header.meaning.pixel_mm == 0.7
    assert found["word"] == "benign"


def test_pictures_of_other_sizes_or_extents_keep_their_own():
    values = {"image": picture(0.7), "coarse": picture(1.4), "large": picture(None, (8, 10))}
    found = with_known_pixels(values)
    assert [found[name].spacing[2] for name in values] == [0.7, 1.4, 1.0]
    assert with_known_pixels({"a": picture(None), "b": picture(None)})["a"].header.meaning.pixel_mm is None
