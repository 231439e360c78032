import numpy as np

from ganatomy.phantoms.objects import Outline, numbered, placed_outlines
from ganatomy.phantoms.shapes import Grid


def placed(touching, count=12):
    return placed_outlines(np.random.default_rng(4), count, 2.0, (0.1, 0.2), ragged=0.0, touching=touching)


def gaps(outlines):
    pairs = [(a, b) for place, a in enumerate(outlines) for b in outlines[:place]]
    return [float(np.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius) for a, b in pairs]


def test_objects_touch_others_only_where_they_are_to():
    apart, beside = placed(0.0), placed(0.8)
    assert len(apart) > 6 and min(gaps(apart)) > 0
    close = [gap for gap in gaps(beside) if gap < 0]
    assert len(close) >= 3 and min(close) > -0.03
    assert all(max(abs(one.x), abs(one.y)) < 1 for one in (*apart, *beside))
    assert len(placed(0.0, count=1000)) < 40, "the plane is full"


def test_pixels_belong_to_the_deepest_object():
    grid = Grid.centred((1, 21, 41), (1.0, 0.1, 0.1))
    still = np.zeros((1, 1), np.complex64)
    numbers, distances = numbered(grid, [Outline(-0.5, 0.0, 0.6, still), Outline(0.5, 0.2, 0.7, still)])
    assert numbers.dtype == np.uint16 and numbers.shape == (1, 21, 41) and len(distances) == 2
    assert numbers[0, 10, 15] == 1 and numbers[0, 12, 25] == 2 and numbers[0, 0, 0] == 0
    both = (distances[0] < 0) & (distances[1] < 0)
    assert both.any()
    np.testing.assert_array_equal(numbers[both] == 1, (distances[0] < distances[1])[both])
