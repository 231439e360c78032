"""Closed splines: how near they come to round outlines, and pixels inside of them."""

import numpy as np
import pytest

from ganatomy.images.contours import closed_spline, inside


def points(count, across=60.0, deep=60.0):
    angles = 2 * np.pi * np.arange(count) / count
    return 100 + np.stack([-deep * np.cos(angles), across * np.sin(angles)], 1)


def dice(one, other):
    first, second = (inside(outline, (200, 210)) for outline in (one, other))
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize(("count", "round_", "oval"), [(4, 0.985, 0.985), (6, 0.998, 0.998), (8, 0.999, 0.9995)])
def test_a_spline_of_few_points_is_nearly_round(count, round_, oval):
    for deep, want in ((60.0, round_), (40.0, oval)):
        whole = points(720, deep=deep)
        assert dice(closed_spline(points(count, deep=deep)), whole) == pytest.approx(want, abs=1.5e-3)
    assert dice(points(6), points(720)) == pytest.approx(0.905, abs=3e-3)


def test_a_spline_passes_its_points_in_order():
    given = np.array([[0.0, 0.0, 1.0], [3.0, 1.0, 2.0], [4.0, 5.0, 0.0], [1.0, 4.0, 5.0]])
    curve = closed_spline(given, 40)
    np.testing.assert_allclose(curve[::10], given, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(np.diff(curve, axis=0, append=curve[:1]), axis=1).max(), 0.6, atol=0.3)


def test_pixels_are_inside_by_their_centre():
    box = [(0.5, 1.5), (0.5, 4.5), (3.5, 4.5), (3.5, 1.5)]
    mask = inside(box, (5, 7))
    assert mask.sum() == 9 and mask[1:4, 2:5].all()
