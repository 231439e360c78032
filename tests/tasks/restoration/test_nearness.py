import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ganatomy.evaluation.judging import judge_of
from ganatomy.images.codecs import Window
from ganatomy.metrics.colour import delta_e_2000
from ganatomy.physics.resolution import Bicubic
from ganatomy.tasks.restoration.likeness import MAE
from ganatomy.tasks.restoration.nearness import COLOURS, spectrum_distance
from ganatomy.tasks.super_resolution.task import SuperResolution


def judge(channels, unit):
    codec = Window(low=0, high=255, unit=unit)
    parts = {"image": "t1", "mask": "mask:white"}
    return judge_of(SuperResolution(Bicubic((1, 4, 4)), codec, (0.0, 1.0), channels, 2, "brain-mr", parts, MAE))


def test_pictures_in_colour_are_scored_by_their_colours():
    rng = np.random.default_rng(2)
    true = rng.uniform(10, 245, (3, 2, 12, 16)).astype(np.float32)
    swapped = true[::-1]
    pictures = judge(3, None)
    rows, columns = true.shape[2:]
    given = (one.reshape(-1, rows, columns) for one in (swapped, true))
    found = pictures.score(next(given), {"image": next(given)}, (1.0, 1.0, 1.0))[COLOURS]
    assert found == pytest.approx(delta_e_2000(np.moveaxis(swapped, 0, -1) / 255, np.moveaxis(true, 0, -1) / 255))
    assert found > 10 and pictures.named(COLOURS).better == "lower"


@pytest.mark.parametrize(("channels", "unit"), [(1, None), (3, "HU"), (2, None)])
def test_other_images_have_no_colours(channels, unit):
    other = judge(channels, unit)
    image = np.random.default_rng(2).uniform(10, 245, (2 * channels, 12, 16)).astype(np.float32)
    assert COLOURS not in other.score(image + 1, {"image": image}, (1.0, 1.0, 1.0))
    assert COLOURS not in [score.name for score in other.scores]


def test_the_spectrum_distance_sees_blur_and_flat_images_have_none():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 32, 32))
    blurred = (image + np.roll(image, 1, 2) + np.roll(image, 1, 1) + np.roll(image, (1, 1), (1, 2))) / 4
    assert spectrum_distance(2 * image, image) == pytest.approx(20 * math.log10(2))
    assert spectrum_distance(blurred, image) > 5
    assert math.isnan(spectrum_distance(image, np.zeros_like(image)))
    y, x = np.indices((256, 256)) / 256
    fine = np.random.default_rng(0).normal(0, 10, (256, 256))
    smooth = (900 * np.exp(-8 * ((y - 0.5) ** 2 + (x - 0.5) ** 2)) + fine)[None].astype(np.float32)
    assert spectrum_distance(gaussian_filter(smooth, (0, 3, 3)), smooth) > 3, "little detail is detail, too"
