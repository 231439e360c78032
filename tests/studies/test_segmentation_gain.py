"""Segmenters of discs with and without synthetic images."""

import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.studies.augmentation import CLASSIC, ONLY, REAL, SYNTHETIC
from ganatomy.studies.segmentation_gain import (
    LabelledImages,
    SegmentationGain,
    dice_by_subject,
    segmentation_gain,
    segmenter,
    subject_folds,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def discs(number, seed, subjects=4, shift=0, noise=0.3):
    """Bright discs in noise, whose masks may be shifted, as if they were drawn at the wrong place."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :40]
    images, masks = [], []
    for _ in range(number):
        inside = np.hypot(rows - rng.uniform(9, 23), columns - rng.uniform(9, 31)) < rng.uniform(4, 7)
        images.append(np.where(inside, 0.6, -0.4) + rng.normal(0, noise, inside.shape))
        masks.append(np.roll(inside, shift, 1))
    names = tuple(f"{seed}-{place % subjects}" for place in range(number))
    values = torch.tensor(np.array(images, np.float32))[:, None].clamp(-1, 1)
    return LabelledImages(values, torch.tensor(np.array(masks)), names)


def test_synthetic_images_like_real_ones_serve_as_well_and_misdrawn_ones_do_not(monkeypatch):
    monkeypatch.setattr("ganatomy.studies.segmentation_gain.WIDTHS", (6, 6, 8, 8, 12, 6))
    monkeypatch.setattr("ganatomy.studies.segmentation_gain.RATE", 5e-3)
    monkeypatch.setattr("ganatomy.studies.segmentation_gain.BATCH", 4)
    data = discs(24, 0, subjects=6)
    asked = []

    def good(fold, training, choosing):
        asked.append((fold, tuple(training), tuple(choosing)))
        return discs(12, 1 + fold)

    found = segmentation_gain(data, good, folds=2, seeds=1, steps=20)
    assert found.dice(ONLY).mean > 0.8 and "No gain" in found.words and "Fewer than 3 seeds" in found.words
    assert found.outcome == "undecided" and set(found.subjects) == set(data.names)
    assert all(table.shape == (1, 6) for table in found.arms.values())
    for fold, training, choosing in asked:
        tested = found.subjects[3 * fold : 3 * fold + 3]
        assert not set(tested) & {*training, *choosing} and training and choosing
        assert {*tested, *training, *choosing} == set(data.names)
    wrong = segmentation_gain(data, lambda fold, *_: discs(60, 1 + fold, shift=16), folds=2, seeds=3, steps=20)
    assert wrong.dice(ONLY).mean < 0.3 < wrong.dice(REAL).mean - 0.3
    assert wrong.outcome == "worse" and "harm" in wrong.words, wrong.words


@pytest.mark.parametrize(
    ("gain", "seeds", "outcome"), [(0.1, 3, "better"), (-0.1, 3, "worse"), (0.0, 3, "undecided"), (0.1, 2, "undecided")]
)
def test_a_verdict_needs_three_seeds_and_an_interval_without_zero(gain, seeds, outcome):
    base = 0.6 + np.random.default_rng(0).normal(0, 0.01, (seeds, 8))
    arms = {REAL: base - 0.1, CLASSIC: base, ONLY: base - 0.2, SYNTHETIC: base[:, ::-1] + gain}
    found = SegmentationGain(arms, tuple("abcdefgh"), ((5, 10),))
    assert found.outcome == outcome
    assert f"{found.difference(SYNTHETIC, CLASSIC).mean:+.3f}" in found.words
    assert "80% of it" in found.alone


def test_dice_is_that_of_all_pixels_of_a_subject():
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    masks[0, :2] = True
    data = LabelledImages(torch.zeros(3, 1, 4, 5), masks, ("a", "a", "b"))
    made = masks.clone()
    made[1, 0, 0] = True
    assert dice_by_subject(lambda images: made, data) == [pytest.approx(20 / 21), 1.0]


def test_the_same_seed_trains_the_same_segmenter_and_mixed_batches_move_masks_along():
    data = discs(8, 3)
    first, second = (segmenter(data, 5, 3)(data.images) for _ in range(2))
    assert torch.equal(first, second) and first.dtype == torch.bool and first.shape == data.masks.shape
    seen = []

    def moved(images, generator):
        seen.append(images.shape[1])
        return torch.flip(images, (3,))

    segmenter(data, 5, 2, moved)
    assert seen == [2, 2], "the mask is moved as a channel of the image"


def test_too_few_subjects_are_refused():
    with pytest.raises(UserError, match="--folds 5: 4 subjects"):
        subject_folds(["a", "b", "c", "d"], 5)
    with pytest.raises(UserError, match=r"--folds 2: of 3 subjects.*less than two are left beside a fold"):
        subject_folds(["a", "b", "c"], 2)
    assert [len(part) for part in subject_folds(["a", "b", "c"], 3)] == [1, 1, 1]
    dealt = subject_folds(list("abcdefg"), 3)
    assert sorted(name for part in dealt for name in part) == list("abcdefg")
    assert sorted(map(len, dealt)) == [2, 2, 3]
