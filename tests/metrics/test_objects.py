import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ganatomy.metrics.objects import Matches, Overlaps, matched_by_iou


def example():
    """Return a predicted and a true map: one object right, one hit in a part, and one beside."""
    true, found = np.zeros((2, 6, 8), np.uint16)
    true[1:5, 1:3], true[1:5, 5:7] = 4, 9
    found[1:5, 1:3], found[1, 5:8], found[4:6, 7] = 700, 2, 3
    return found, true


def test_scores_of_the_glas_challenge_on_an_example_worked_by_hand():
    overlaps = Overlaps(*example())
    assert overlaps.matched_by_cover() == Matches(3, 2, 1) and overlaps.matched_by_cover().f1 == pytest.approx(0.4)
    assert overlaps.dice().mean == pytest.approx(0.690559, abs=1e-6)
    assert overlaps.hausdorff().mean == pytest.approx(1.373504, abs=1e-6)


def test_objects_match_from_an_intersection_of_half_the_union_on():
    found, true = np.zeros((2, 5, 12), int)
    true[1, 0:6], found[1, 0:3] = 1, 1
    assert matched_by_iou(found, true) == Matches(1, 1, 1)
    assert matched_by_iou(found, true, 0.51) == Matches(1, 1, 0)
    found[1, 3:6] = 2
    halves = matched_by_iou(found, true)
    assert halves == Matches(2, 1, 1) and (halves.precision, halves.recall) == (0.5, 1)
    with pytest.raises(ValueError, match=r"several partners at an IoU of 0\.3"):
        matched_by_iou(found, true, 0.3)


def test_covering_a_small_object_is_enough_for_glas_but_not_for_the_union():
    found, true = np.zeros((2, 6, 6), int)
    found[:], true[1:3, 1:3] = 1, 1
    assert Overlaps(found, true).matched_by_cover().matched == 1 and matched_by_iou(found, true).matched == 0
    true[4:6, 4:6] = 2
    assert Overlaps(found, true).matched_by_cover() == Matches(1, 2, 1), "one prediction counts once"


def test_equal_maps_agree_perfectly_whatever_their_numbers():
    _, true = example()
    renumbered = np.where(true > 0, 100 - true, 0)
    overlaps = Overlaps(renumbered, true)
    assert overlaps.matched_by_iou() == overlaps.matched_by_cover() == Matches(2, 2, 2)
    assert overlaps.dice().mean == 1 and overlaps.hausdorff().mean == 0


def test_maps_without_objects():
    nothing, true = np.zeros((3, 4), int), np.zeros((3, 4), int)
    both = Overlaps(nothing, true)
    assert (both.matched_by_iou().f1, both.dice().mean, both.hausdorff().mean) == (1, 1, 0)
    true[1, 1:3] = 5
    for one in (Overlaps(nothing, true), Overlaps(true, nothing)):
        assert (one.matched_by_cover().f1, one.dice().mean, one.hausdorff().mean) == (0, 0, 5)
    assert (Matches(0, 3, 0).precision, Matches(0, 3, 0).recall, Matches(2, 0, 0).recall) == (0, 0, 0)


def test_the_partner_of_an_object_that_touches_none_is_the_nearest_by_hausdorff_distance():
    rng = np.random.default_rng(3)
    found, true = np.zeros((2, 30, 41), int)
    for number, (row, column) in enumerate(rng.integers(0, 24, (7, 2)), 1):
        true[row : row + 3, column : column + rng.integers(2, 6)] = number
    found[27:30, 33:41], found[0:2, 30:33] = 1, 2

    def distance(a, b):
        apart = cdist(np.argwhere(found == a), np.argwhere(true == b))
        return max(apart.min(0).max(), apart.min(1).max())

    numbers = np.unique(true)[1:]
    areas = [24, 6]
    want = sum(area * min(distance(one, other) for other in numbers) for area, one in zip(areas, (1, 2), strict=True))
    assert Overlaps(found, true).hausdorff().found == pytest.approx(want)


def test_pooled_scores_weigh_images_by_their_objects():
    found, true = example()
    first, second = Overlaps(found, true), Overlaps(true, true)
    matched = first.matched_by_iou() + second.matched_by_iou()
    assert matched == Matches(5, 4, 3)
    dice = first.dice() + second.dice()
    assert dice.found_area == 8 + 3 + 2 + 16 and first.dice().mean < dice.mean < 1
    alone = sum(part.found for part in (first.dice(), second.dice())) / dice.found_area
    assert dice.mean == pytest.approx(0.5 * (alone + dice.true / dice.true_area)) and not math.isnan(dice.mean)


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"different shapes cannot be compared: \(2, 3\) and \(3, 2\)"):
        Overlaps(np.zeros((2, 3), int), np.zeros((3, 2), int))
