from dataclasses import replace

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.codecs import DeviationWindow, PercentileWindow, Window, ZScore
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
            PercentileWindow(p_low=1, p_high=98, to=(0, 1), clip=True, unit="a.u."),
        ),
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


def test_images_are_filled_up_with_air():
    assert ImageOptions(window=(-160, 240), unit="HU").air == -160
    assert ImageOptions(scale="percentile", unit="HU").air == AIR_HU
    assert ImageOptions(scale="zscore").air == 0


@pytest.mark.parametrize("values", [{"window": (3, 3)}, {"percentiles": (99, 1)}, {"channels": 0}, {"deviations": 0}])
def test_impossible_options_are_refused(values):
    with pytest.raises(ValueError, match="1 validation error for ImageOptions"):
        ImageOptions(**values)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (picture(grey(0, 9000)), r"values from .* to 9000, but --t1-c\.window is 0 1200; train with --t1-c\.window"),
        (picture(np.stack([grey(0, 1000)] * 3)), r"3 channels, but .* 1 for t1_c; train with other --t1-c\.channels"),
        (picture(grey(0, 1000), "HU"), "is in HU, but the model works in a.u."),
        (picture(grey(0, 1000), modality="CT"), "modality CT, but this system takes MR as t1_c"),
    ],
)
def test_a_refused_image_is_told_with_the_options_of_its_role(image, told):
    role = ImageOptions().role("t1_c", modality="MR")
    with pytest.raises(UserError, match=told):
        role.check(image)


def test_the_values_of_a_scale_that_every_image_has_are_not_looked_at():
    ImageOptions(scale="percentile").role("t1").check(picture(grey(0, 9000)))


def test_a_role_without_an_option_for_its_window_takes_values_as_they_are():
    replace(ImageOptions().role("t1"), option=None).check(picture(grey(0, 9000)))
    with pytest.raises(UserError, match=r"train with other --channels"):
        ImageRole("t1", None, option=None).check(picture(np.stack([grey(0, 1)] * 2)))


def test_a_role_takes_the_numbers_of_one_image_and_gives_them_back():
    image = picture(grey(100, 500), "a.u.")
    role = ImageOptions(scale="percentile", percentiles=(0, 100), over="all").role("t1").bind(image)
    assert (role.codec.low, role.codec.high) == (100, 500)
    again = ImageOptions(scale="percentile").role("t1").with_numbers(role.numbers())
    assert again.codec == role.codec and not again.adaptive
    np.testing.assert_allclose(again.encoded(np.array([100, 300, 500])), [-1, 0, 1])
    np.testing.assert_allclose(again.decoded(np.array([-1, 0, 1], np.float32)), [100, 300, 500])
