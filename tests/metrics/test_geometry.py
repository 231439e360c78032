import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ganatomy.metrics.geometry import (
    Difference,
    TubeShape,
    curvatures,
    difference,
    intersects_itself,
    relative_length_errors,
)


def arc(radius=20.0, steps=126, end=math.pi):
    angle = np.linspace(0, end, steps + 1)
    return radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)


def wave(points=41):
    t = np.linspace(0, 1, points) ** 1.3
    return np.stack([30 * t, 6 * np.sin(5 * t), 11 * t**2], 1), 2.3 - 0.9 * t


def test_shape_of_a_semicircle():
    shape = TubeShape.of(arc(), np.full(127, 1.7))
    assert shape.length_mm == pytest.approx(62.8302, abs=5e-5)
    assert np.linalg.norm(arc()[-1] - arc()[0]) == pytest.approx(40)
    assert shape.tortuosity == pytest.approx(1.570756, abs=5e-7)
    assert shape.tortuosity == pytest.approx(math.pi / 2, abs=5e-5)
    np.testing.assert_allclose(curvatures(arc()), 0.05)
    assert shape.curvature_per_mm == pytest.approx(0.05)
    assert shape.taper == pytest.approx(0, abs=1e-12)
    assert (shape.mean_radius_mm, shape.max_radius_mm) == pytest.approx((1.7, 1.7))


def test_taper_of_a_straight_vessel():
    points = np.linspace([3.0, -8, 40], [63, -88, 40], 201)
    shape = TubeShape.of(points, np.linspace(2.5, 1.0, 201))
    assert shape.length_mm == pytest.approx(100)
    assert shape.taper == pytest.approx(-0.015)
    assert shape.tortuosity == pytest.approx(1)
    assert shape.curvature_per_mm == pytest.approx(0, abs=1e-9)
    assert (shape.mean_radius_mm, shape.max_radius_mm) == pytest.approx((1.75, 2.5))


def test_mean_radius_counts_arc_length_and_not_points():
    points = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 9, 3.0]])
    assert TubeShape.of(points, np.array([2, 2, 2, 2, 1.0])).mean_radius_mm == pytest.approx((3 * 2 + 9 * 1.5) / 12)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 4), st.tuples(*[st.floats(-300, 300)] * 3), st.floats(0.5, 3))
def test_shape_does_not_change_with_place_and_grows_with_scale(quaternion, shift, scale):
    assume(np.linalg.norm(quaternion) > 1e-2)
    points, radii = wave()
    moved = scale * Rotation.from_quat(quaternion).apply(points) + np.array(shift)
    shape, found = TubeShape.of(points, radii), TubeShape.of(moved, scale * radii)
    expected = np.array(astuple(shape)) * [scale, scale, scale, 1, 1, 1 / scale]
    np.testing.assert_allclose(astuple(found), expected, rtol=1e-6)


def test_repeated_points_do_not_count():
    points, radii = wave()
    again = TubeShape.of(np.repeat(points, 3, axis=0), np.repeat(radii, 3))
    assert astuple(again) == pytest.approx(astuple(TubeShape.of(points, radii)))


def test_what_needs_more_points_is_not_a_number():
    point = TubeShape.of(np.ones((1, 3)), np.array([1.2]))
    assert (point.length_mm, point.mean_radius_mm, point.max_radius_mm) == (0, 1.2, 1.2)
    assert math.isnan(point.tortuosity) and math.isnan(point.taper) and math.isnan(point.curvature_per_mm)
    pair = TubeShape.of(np.array([[0, 0, 0], [0, 3, 4.0]]), np.array([2, 1.5]))
    assert (pair.length_mm, pair.tortuosity) == pytest.approx((5, 1))
    assert pair.taper == pytest.approx(-0.1)
    assert math.isnan(pair.curvature_per_mm)


def test_closed_and_folded_lines_are_infinitely_tortuous_and_curved():
    triangle = np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0], [0, 0, 0.0]])
    assert TubeShape.of(triangle, np.ones(4)).tortuosity == math.inf
    assert curvatures(np.array([[0, 0, 0], [0, 0, 2], [0, 0, 0.0]])).tolist() == [math.inf]


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        TubeShape.of(np.zeros((4, 2)), np.ones(4))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        TubeShape.of(np.zeros((4, 3)), np.ones(3))


def test_vessels_that_run_into_themselves():
    assert intersects_itself(arc(6.0, 60, 1.9 * math.pi), np.full(61, 1.5))
    lifted = arc(6.0, 90, 2.3 * math.pi) + np.linspace([0, 0, 0], [0, 0, 9], 91)
    assert not intersects_itself(lifted, np.full(91, 1.5))
    assert intersects_itself(lifted, np.full(91, 4.5))
    assert not intersects_itself(*wave())


def test_a_bend_wider_than_the_vessel_is_no_crossing():
    assert not intersects_itself(arc(2.2, 80), np.full(81, 2.0))
    assert intersects_itself(arc(1.8, 80, 1.2 * math.pi), np.full(81, 2.0))


def test_distances_of_two_samples():
    found = difference([1, 2, 3, 4], [7, 2, 5, 2])
    assert found == Difference(pytest.approx(1.5), pytest.approx(0.5), 4, 4)
    same = difference([3, 1, 2], [1, 2, 3])
    assert (same.wasserstein, same.kolmogorov_smirnov) == (0, 0)
    shifted = difference([1.0, 2.0], [11.0, 12.0, 12.0, 11.0])
    assert (shifted.wasserstein, shifted.kolmogorov_smirnov) == (10, 1)


def test_numbers_that_are_not_finite_are_left_out_and_counted():
    assert difference([1, 2, 3, 4, math.nan], [2, math.inf, 2, 5, 7]) == difference([1, 2, 3, 4], [2, 2, 5, 7])
    assert difference([1, math.nan, 2], [3.0]).n == 2
    with pytest.raises(ValueError, match="finite"):
        difference([math.nan], [1.0])


def test_length_errors_are_relative_to_what_was_asked_for():
    np.testing.assert_allclose(relative_length_errors([95, 110, 250], [100, 100, 250]), [0.05, 0.1, 0])
    np.testing.assert_allclose(relative_length_errors([60, 50], 50), [0.2, 0])
    with pytest.raises(ValueError, match="positive"):
        relative_length_errors([1.0], [0.0])
