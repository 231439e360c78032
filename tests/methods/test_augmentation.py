"""Augmentation of DAGAN and RefineGAN: how far images are moved before they are undersampled."""

from math import cos, pi, sin, sqrt

import pytest
import torch
from small import build

from ganatomy.game import Noise

TURN, DOWN, ACROSS, ZOOM, GAMMA, MIRROR = range(6)


class Still(Noise):
    """Noise that is 0.5 everywhere, which moves nothing, except for the given numbers."""

    def __init__(self, **told):
        super().__init__(0)
        self.told = told

    def uniform(self, rows, *shape):
        drawn = torch.full((rows, *shape), 0.5)
        for place, value in self.told.items() if shape == (6,) else ():
            drawn[:, int(place.removeprefix("at"))] = value
        return drawn


@pytest.fixture(scope="module")
def dagan():
    return build("dagan", size=(64, 64))


def augmented(method, image, **told):
    method.noise = Still(**told)
    return method.augmented(image)


def spot(row, column, rows=40, columns=60):
    """Return an image of a Gaussian spot on a dark background."""
    y, x = torch.arange(rows)[:, None], torch.arange(columns)
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 2.0**2))[None, None]


def place(image):
    """Return the centre of mass of an image."""
    rows, columns = (torch.arange(extent).float() for extent in image.shape[2:])
    mass = image.sum()
    return float((image.sum(3) * rows).sum() / mass), float((image.sum(2) * columns).sum() / mass)


def test_draws_in_the_middle_move_nothing(dagan):
    image = spot(12, 21)
    torch.testing.assert_close(augmented(dagan, image), image, atol=1e-5, rtol=0)


def test_images_are_moved_by_a_tenth_at_most(dagan):
    image = spot(20, 30)
    # What is drawn says where values come from, so that the image moves against it.
    assert place(augmented(dagan, image, at1=1.0)) == pytest.approx((20 - 4, 30), abs=0.05)
    assert place(augmented(dagan, image, at1=0.0)) == pytest.approx((20 + 4, 30), abs=0.05)
    assert place(augmented(dagan, image, at2=1.0)) == pytest.approx((20, 30 - 6), abs=0.05)


def test_images_are_turned_by_ten_degrees_at_most(dagan):
    image = spot(31.5, 46.5, 64, 64)
    found, angle = place(augmented(dagan, image, at0=1.0)), pi / 18
    assert found == pytest.approx((31.5 - 15 * sin(angle), 31.5 + 15 * cos(angle)), abs=0.1)


def test_images_are_zoomed_by_a_tenth_at_most_and_mirrored(dagan):
    image = spot(29.5, 41.5)
    assert place(augmented(dagan, image, at3=1.0)) == pytest.approx((19.5 + 10 / 1.1, 29.5 + 12 / 1.1), abs=0.1)
    assert place(augmented(dagan, image, at3=0.0)) == pytest.approx((19.5 + 10 / 0.9, 29.5 + 12 / 0.9), abs=0.1)
    assert place(augmented(dagan, image, at5=0.0)) == pytest.approx((29.5, 29.5 - 12), abs=0.05)


def test_grey_values_are_bent_by_a_twentieth_at_most(dagan):
    image = spot(12, 21)
    torch.testing.assert_close(augmented(dagan, image, at4=1.0), image**1.05, atol=1e-5, rtol=0)
    torch.testing.assert_close(augmented(dagan, image, at4=0.0), image**0.95, atol=1e-5, rtol=0)


def test_images_are_bent_as_smoothly_along_rows_as_along_columns(dagan):
    """White noise blurred with σ has slopes of 1 / (√2 σ) of its own standard deviation."""
    dagan.noise = Noise(4)
    for rows, columns in ((64, 64), (64, 96)):
        bend = dagan._bend(torch.zeros(64, 1, rows, columns))
        for axis, extent in ((2, rows), (3, columns)):
            slope = bend.diff(dim=axis).square().mean().sqrt() / bend.std()
            assert float(slope) == pytest.approx(1 / (sqrt(2) * 25.5 / 256 * extent), rel=0.1)
