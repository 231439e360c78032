"""Detection of single lesions by named criteria."""

import numpy as np
import pytest

from ganatomy.metrics.lesions import CRITERIA, components, find_lesions, kept_components


def disc(column, row=40, radius=20, shape=(80, 120)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, columns - column) <= radius


@pytest.mark.parametrize(
    ("shift", "found"),
    [
        (8, {"touch", "iou 0.1", "iou 0.5", "centre", "dice 0.7"}),
        (12, {"touch", "iou 0.1", "centre"}),
        (20, {"touch", "iou 0.1", "centre"}),
        (24, {"touch", "iou 0.1"}),
        (34, {"touch"}),
        (45, set()),
    ],
)
def test_a_shifted_disc_is_found_by_lax_criteria_longer_than_by_strict_ones(shift, found):
    counts = {name: find_lesions(disc(40 + shift), disc(40), name) for name in CRITERIA}
    assert {name for name, one in counts.items() if one.found} == found
    assert all((one.lesions, one.found + one.false_positives) == (1, 1) for one in counts.values())


def test_a_dice_of_seven_tenths_is_stricter_than_half_of_the_union():
    """An IoU of 0.538 is a Dice of 0.7."""
    true, predicted = np.zeros((1, 200), bool), np.zeros((1, 200), bool)
    true[0, :100], predicted[0, 32:132] = True, True
    assert find_lesions(predicted, true, "iou 0.5").found == 1
    assert find_lesions(predicted, true, "dice 0.7").found == 0


def test_every_component_finds_one_lesion_and_every_lesion_is_found_once():
    true = disc(20, radius=8) | disc(50, radius=8) | disc(100, radius=8)
    over_both = disc(35, radius=24)
    assert components(true).max() == 3
    one = find_lesions(over_both, true, "touch")
    assert (one.lesions, one.found, one.false_positives) == (3, 1, 0)
    twice = disc(96, radius=2) | disc(104, radius=2)
    two = find_lesions(twice, true, "centre")
    assert (two.lesions, two.found, two.false_positives) == (3, 1, 0)
    # The first component could also find the second lesion, so that both are found.
    true, predicted = np.zeros((1, 60), bool), np.zeros((1, 60), bool)
    true[0, 10:20] = true[0, 30:40] = predicted[0, 5:31] = predicted[0, 38:45] = True
    assert find_lesions(predicted, true, "touch").found == 2


def test_nothing_found_is_no_lesion_and_nothing_there_no_success():
    nothing = np.zeros((3, 20, 30), bool)
    there = nothing.copy()
    there[1, 3:6, 4:9] = True
    for name in CRITERIA:
        missed, invented, fine = (
            find_lesions(*pair, name) for pair in ((nothing, there), (there, nothing), (nothing, nothing))
        )
        assert (missed.lesions, missed.found, missed.false_positives) == (1, 0, 0)
        assert (invented.lesions, invented.found, invented.false_positives) == (0, 0, 1)
        assert (fine.lesions, fine.found, fine.false_positives) == (0, 0, 0)


def test_components_touch_by_their_corners_in_three_dimensions():
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[1, 2, 3] = True
    assert components(mask).max() == 2


def test_components_are_kept_by_size_and_place():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 1:9, 2:14], mask[0, 18:22, 28:33], mask[0, 35, 50:52] = True, True, True
    assert components(kept_components(mask, 3)).max() == 2
    assert kept_components(mask, 0).sum() == mask.sum()
    assert kept_components(mask, 0, "largest").sum() == 96
    assert kept_components(mask, 0, "central").sum() == 20
    assert not kept_components(mask, 97, "central").any()
