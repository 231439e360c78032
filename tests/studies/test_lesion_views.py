import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.studies.lesion_views import View, classic_views


@pytest.fixture
def ramp():
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    return 2 * rows - columns


@given(st.floats(2.0, 120.0), st.integers(0, 5))
def test_480_views_of_a_lesion_within_their_limits(diameter, seed):
    views = list(classic_views(diameter, np.random.default_rng(seed)))
    assert len(views) == len(set(views)) == 480
    assert len({view.angle for view in views}) == 30
    assert all(0 <= view.angle <= 180 for view in views)
    farthest = max(abs(pixels) for view in views for pixels in view.shift)
    assert farthest <= min(4, 0.1 * diameter)
    scaled = [view for view in views if view.margin != View(0.0).margin]
    assert len(scaled) == 150 and all(0.1 <= view.margin <= 0.4 for view in scaled)
    assert sum(view.mirror != (1, 1) for view in views) == 90
    assert sum(view.shift != (0.0, 0.0) for view in views) == 210


def test_a_view_shows_the_lesion_and_the_tissue_around_it():
    rows, columns = np.mgrid[:100, :100]
    lesion = (np.hypot(rows - 40, columns - 60) < 15).astype(np.float32)
    for margin in (0.1, 0.4):
        share = View(33.0, margin).cut(lesion, (40, 60), 30).mean()
        assert share == pytest.approx(np.pi / 4 / (1 + 2 * margin) ** 2, rel=0.02)


def test_a_view_without_turn_keeps_the_image(ramp):
    # A frame as wide as it has pixels, in the middle of four pixels.
    view = View(0.0, margin=0.25).cut(ramp, (31.5, 31.5), 20, size=30)
    np.testing.assert_allclose(view, ramp[17:47, 17:47], atol=1e-3)


def test_turned_mirrored_and_moved_views(ramp):
    where = (ramp, (31.5, 31.5), 20)
    straight = View(0.0).cut(*where, size=30)
    np.testing.assert_allclose(View(180.0).cut(*where, size=30), straight[::-1, ::-1], atol=1e-3)
    np.testing.assert_allclose(View(0.0, mirror=(-1, 1)).cut(*where, size=30), straight[::-1], atol=1e-3)
    np.testing.assert_allclose(View(0.0, mirror=(1, -1)).cut(*where, size=30), straight[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(View(90.0).cut(*where, size=30), np.rot90(straight, -1), atol=1e-3)
    np.testing.assert_allclose(View(0.0, shift=(3.0, 1.0)).cut(*where, size=30), straight + 5, atol=1e-3)
