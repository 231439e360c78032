from dataclasses import replace

import numpy as np
import pytest

from ganatomy.case import Preparation
from ganatomy.errors import UserError
from ganatomy.images.codecs import DeviationWindow, PercentileWindow, Window, ZScore
from ganatomy.images.files import read
from ganatomy.images.image import Header, Image
from ganatomy.roles.image import AIR_HU, ImageOptions, ImageRole


def picture(values, unit=None, **header):
    return Image.from_array(np.asarray(values, np.float32), (3.0, 1.0, 1.5), unit, header=Header(**header))


def grey(low, high, shape=(2, 5, 7)):
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    ("options", "limited", "codec"),
    [
        ({"window": (-160, 240), "unit": "HU"}, True, Window(low=-160, high=240, to=(0, 1), clip=True, unit="HU")),
        (
            {"scale": "percentile", "percentiles": (1, 98), "over": "all"},
            True,
            PercentileWindow(p_low=1, p_high=98, low_over="all", to=(0, 1), clip=True, unit="a.u."),
        ),
        (
            {},
            True,
            PercentileWindow(p_low=0.5, p_high=99.9, low_over="all", over="body", to=(0, 1), clip=True, unit="a.u."),
        ),
        ({"window": (0, 83)}, True, Window(low=0, high=83, to=(0, 1), clip=True, unit="a.u.")),
        ({"unit": "HU"}, True, Window(low=-1000, high=1000, to=(0, 1), clip=True, unit="HU")),
        ({"unit": "SUV"}, True, Window(low=0, high=20, to=(0, 1), clip=True, unit="SUV")),
        (
            {"scale": "zscore", "deviations": 2},
            True,
            DeviationWindow(deviations=2, to=(0, 1), clip=True, unit="a.u.", over="body"),
        ),
        ({"scale": "zscore", "unit": None}, False, ZScore(over="body")),
    ],
)
def test_options_say_which_codec_a_role_has(options, limited, codec):
    role = ImageOptions(**options).role("t1", to=(0.0, 1.0), clip=True, limited=limited)
    assert (role.name, role.codec, role.adaptive) == ("t1", codec, codec.adaptive)


def test_a_window_that_is_not_given_is_refused():
    with pytest.raises(ValueError, match="the scale is a window, but none is given"):
        ImageOptions(scale="window")


def test_images_are_filled_up_with_air():
    assert ImageOptions(window=(-160, 240), unit="HU").air == -160
    assert ImageOptions(scale="percentile", unit="HU").air == AIR_HU
    assert ImageOptions(scale="zscore").air == ImageOptions().air == 0


@pytest.mark.parametrize("values", [{"window": (3, 3)}, {"percentiles": (99, 1)}, {"channels": 0}, {"deviations": 0}])
def test_impossible_options_are_refused(values):
    with pytest.raises(ValueError, match="1 validation error for ImageOptions"):
        ImageOptions(**values)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (picture(grey(0, 9000)), r"values from .* to 9000, but --t1-c\.window is 0 1200; train with --t1-c\.window"),
        (picture(grey(0, 83)), r"values from .* to 83, but --t1-c\.window is 0 1200; train with --t1-c\.window"),
        (picture(np.stack([grey(0, 1000)] * 3)), r"3 channels, but .* 1 for t1_c; train with --t1-c\.channels 3"),
        (
            picture(grey(0, 1000), "HU"),
            r"is in HU, but t1_c in a\.u\.: .* train with --t1-c\.unit HU and a --t1-c\.window",
        ),
        (picture(grey(0, 1000), modality="CT"), "modality CT, but this system takes MR as t1_c"),
    ],
)
def test_a_refused_image_is_told_with_the_options_of_its_role(image, told):
    role = ImageOptions(window=(0, 1200)).role("t1_c", modality="MR")
    with pytest.raises(UserError, match=told):
        role.check(image)


def test_the_values_of_a_scale_that_every_image_has_are_not_looked_at():
    ImageOptions().role("t1").check(picture(grey(0, 9000)))


def test_pictures_of_8_bits_may_be_dark():
    dark = Image.from_array(np.uint8(grey(0, 30)), (3.0, 1.0, 1.5))
    ImageOptions(window=(0, 255), unit=None).role("photo").check(dark)
    with pytest.raises(UserError, match=r"values from 15 to 30, but --t1\.window is 0 1200"):
        ImageOptions(window=(0, 1200)).role("t1").check(dark)


def test_a_role_without_an_option_for_its_window_takes_values_as_they_are():
    replace(ImageOptions(window=(0, 1200)).role("t1"), option=None).check(picture(grey(0, 9000)))
    with pytest.raises(UserError, match="2 channels, but the system works with 1 for t1; give other images"):
        ImageRole("t1", None).check(picture(np.stack([grey(0, 1)] * 2)))


def test_a_role_takes_the_numbers_of_one_image_and_gives_them_back():
    image = picture(grey(100, 500), "a.u.")
    role = ImageOptions(scale="percentile", percentiles=(0, 100), over="all").role("t1").bind(image)
    assert (role.codec.low, role.codec.high) == (100, 500)
    again = ImageOptions(scale="percentile").role("t1").with_numbers(role.numbers())
    assert again.codec == role.codec and not again.adaptive
    np.testing.assert_allclose(again.encoded(np.array([100, 300, 500])), [-1, 0, 1])
    np.testing.assert_allclose(again.decoded(np.array([-1, 0, 1], np.float32)), [100, 300, 500])


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "stored"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_images_come_back_on_their_own_grid(volume, plane, dtype):
    values = np.random.default_rng(1).integers(-900, 900, (2, 4, 6, 9)).astype(dtype)
    image = volume(values, "HU", modality="CT")
    role = ImageRole("ct", Window(low=-1000, high=1000), width=2)
    role.check(image)
    frame = role.plan(image, Preparation(plane=plane))
    array = role.array(image, frame)
    back = role.value(array, frame, image)
    assert (back.dtype, back.unit, back.header.modality) == (dtype, "HU", "CT")
    np.testing.assert_array_equal(back.numpy(), values)
    np.testing.assert_array_equal(back.affine, image.affine)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy"])
def test_images_are_written_as_what_they_are(tmp_path, volume, name):
    image = volume(np.random.default_rng(1).normal(size=(4, 6, 9)).astype(np.float32), "a.u.")
    ImageRole("t1").write(tmp_path / name, image)
    np.testing.assert_array_equal(read(tmp_path / name).numpy(), image.numpy())


def test_what_a_crop_has_left_out_is_the_lower_end_of_the_window(volume):
    image = volume(np.zeros((4, 6, 9), np.float32), "HU")
    role = ImageRole("ct", Window(low=-1000, high=1000))
    frame = role.plan(image, Preparation(plane="stored", spacing=(2.5, 0.8, 1.1), size=(4, 5)))
    back = role.value(np.asarray(role.array(image, frame)), frame, image).numpy()[0]
    assert (back[:, 1:5, 2:7] == 0).all() and (back == -1000).mean() == 34 / 54


def test_patches_are_cut_mirrored_and_encoded():
    role = ImageRole("t1", Window(low=0, high=100, unit=None))
    array = np.arange(4 * 5 * 5, dtype=np.int16).reshape(1, 4, 5, 5)
    patch = role.cut(array, (0, -2, 1), (1, 3, 3))
    np.testing.assert_array_equal(patch[0, 0], [[11, 12, 13], [6, 7, 8], [1, 2, 3]])
    tensor = role.tensor(patch, 2)
    assert tensor.shape == (1, 3, 3)
    np.testing.assert_allclose(tensor[0], patch[0, 0] / 50 - 1, atol=1e-6)
    np.testing.assert_allclose(role.decoded(tensor.numpy()), patch[:, 0], atol=1e-5)
    for axes in ((0,), (1,), (0, 2)):
        np.testing.assert_array_equal(role.flip(role.flip(array, axes), axes), array)
        assert (role.flip(array, axes) != array).any()
    np.testing.assert_array_equal(role.quarter_turns(array, 1), np.rot90(array, 1, (2, 3)))


@pytest.mark.parametrize(
    ("channels", "header", "told"),
    [
        (4, {"colours": True}, "lay transparent pictures over a grey with --backdrop, or give other images"),
        (3, {"colours": True}, "the system works with 1 for t1; give other images"),
        (4, {}, "choose with --frames where these are time frames, or give other images"),
    ],
)
def test_channels_of_pictures_are_told_with_the_option_that_helps(channels, header, told):
    with pytest.raises(UserError, match=told):
        ImageRole("t1", None).check(picture(np.stack([grey(0, 1)] * channels), kind="raster", **header))
