"""Scores of angiographies by their vessels."""

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import judge_of
from ganatomy.methods.synthesis.sgan_mra import SteerableGAN
from ganatomy.tasks.translation.angiograms import CENTRES, DICE, DRAWN, PROJECTION, centreline_dice, vessel_scores

SPACING = (1.5, 1.0, 1.0)


def tubes(shape=(8, 48, 48), missing=False, height=400.0):
    """Two tubes of 3 pixels across the slices' plane, in noise."""
    z, y, x = np.indices(shape)
    noise = np.random.default_rng(3).normal(100, 5, shape)
    first = np.exp(-((z - 3) ** 2 * 2.25 + (y - 12) ** 2) / 3)
    second = np.exp(-((x - 20 - 0.2 * y) ** 2 + (z - 4) ** 2 * 2.25) / 3)
    both = first if missing else np.maximum(first, second)
    return (noise + height * both).astype(np.float32), both > 0.4


def scores(output, true, drawn=None, organ=None, spacing=SPACING):
    return vessel_scores(output, true, drawn, organ, spacing)


def test_equal_images_have_equal_vessels_that_are_the_drawn_ones():
    true, drawn = tubes()
    found = scores(true, true, drawn)
    assert found[DICE] == found[CENTRES] == 1 and found[PROJECTION] == np.inf
    assert found[DRAWN] > 0.75


@pytest.mark.parametrize("spacing", [SPACING, (4.0, 1.0, 1.0)])
def test_a_missing_vessel_and_a_faint_one_cost_overlap(spacing):
    true, drawn = tubes()
    less, _ = tubes(missing=True)
    faint, _ = tubes(height=100.0)
    for output in (less, faint):
        found = scores(output, true, drawn, spacing=spacing)
        assert found[DICE] < 0.85 and found[CENTRES] < 0.9 and found[PROJECTION] < 40
    assert DRAWN not in scores(less, true)


def test_no_vessels_at_all_overlap_with_nothing():
    true, _ = tubes()
    found = scores(np.full_like(true, 100.0), true)
    assert found[DICE] == found[CENTRES] == 0


def test_only_vessels_of_the_organ_count():
    true, drawn = tubes()
    other = true.copy()
    other[:, 24:] = 100.0
    half = np.zeros(true.shape)
    half[:, :22] = 1
    whole, inside = (scores(other, true, drawn, organ)[DICE] for organ in (None, half))
    assert inside > 0.95 > whole


def test_middle_lines_weigh_wide_and_thin_vessels_alike():
    wide, thin = np.zeros((1, 20, 40), bool), np.zeros((1, 20, 40), bool)
    wide[:, 2:9], thin[:, 15] = True, True
    both = wide | thin
    assert centreline_dice(both, both) == 1
    assert 0.5 < centreline_dice(wide, both) < 0.9
    assert centreline_dice(wide, thin) == 0 and centreline_dice(wide & thin, wide & thin) == 1


def test_the_judge_scores_vessels_of_angiographies_and_names_its_label_maps():
    task = SteerableGAN(SteerableGAN.Config.preset("small", width=2, discriminator_width=2)).task
    judge = judge_of(task)
    assert DICE in [score.name for score in judge.scores] and judge.marks == ("arteries", "brain")
    with pytest.raises(UserError, match="--lesions t1: no label map of this run; it has arteries, brain"):
        type(judge)(task, judge.Options(lesions="t1"))
