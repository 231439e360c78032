import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from ganatomy.metrics import segmentation as seg
from ganatomy.metrics.segmentation import Overlap

SPACING = (2.5, 0.7, 1.1)
SHAPE = (7, 13, 11)


def box(*corners, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, stop) for start, stop in corners)] = True
    return mask


def blobs(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=bool)
    mask[1:-1, 1:-2, 2:-1] = rng.random(shape)[1:-1, 1:-2, 2:-1] < 0.6
    return mask


def test_counts_and_ratios():
    truth, found = box((1, 4), (2, 8), (3, 7)), box((2, 5), (2, 7), (3, 9))
    counts = seg.count_overlap(found, truth)
    assert counts == Overlap(2 * 5 * 4, 3 * 5 * 6 - 40, 3 * 6 * 4 - 40, 7 * 13 * 11 - 90 - 72 + 40)
    assert counts.dice == pytest.approx(80 / (90 + 72))
    assert counts.iou == pytest.approx(40 / (90 + 72 - 40))
    assert counts.sensitivity == pytest.approx(40 / 72)
    assert counts.precision == pytest.approx(40 / 90)
    assert counts.specificity == pytest.approx((7 * 13 * 11 - 122) / (7 * 13 * 11 - 72))
    assert counts.dice == pytest.approx(2 * counts.iou / (1 + counts.iou))


def test_pooled_counts_are_those_of_all_voxels_together():
    pairs = [(blobs(seed), blobs(seed + 10)) for seed in range(2)]
    first, second = (seg.count_overlap(*pair) for pair in pairs)
    together = seg.count_overlap(*(np.stack(masks) for masks in zip(*pairs, strict=True)))
    assert first + second == together


def test_empty_masks():
    empty, region = box((0, 0), (0, 0), (0, 0)), box((1, 3), (4, 9), (2, 4))
    both, missed, invented = (seg.count_overlap(*masks) for masks in ((empty, empty), (empty, region), (region, empty)))
    for name in ("dice", "iou", "sensitivity", "precision"):
        assert [getattr(counts, name) for counts in (both, missed, invented)] == [1.0, 0.0, 0.0]
    assert (both.specificity, missed.specificity) == (1.0, 1.0)
    assert math.isnan(seg.count_overlap(~empty, ~empty).specificity)


def test_empty_surfaces():
    empty, region = box((0, 0), (0, 0), (0, 0)), box((1, 3), (4, 9), (2, 4))
    both = seg.surface_distances(empty, empty, SPACING)
    assert (both.hd95, both.average, both.hausdorff()) == (0, 0, 0)
    for pair in ((empty, region), (region, empty)):
        one = seg.surface_distances(*pair, SPACING)
        assert (one.hd95, one.average, one.hausdorff()) == (math.inf,) * 3


def test_what_is_unknown_does_not_count():
    truth, found, known = blobs(1), blobs(2), np.random.default_rng(3).random(SHAPE) < 0.7
    counts = seg.count_overlap(found, truth, known)
    assert counts == seg.count_overlap(found[known], truth[known])
    other = np.where(known, truth, ~truth)
    assert seg.count_overlap(found, other, known) == counts
    scores = seg.score_region(found, other, SPACING, known)
    assert scores.true_volume == pytest.approx((truth & known).sum() * 2.5 * 0.7 * 1.1)
    assert scores.numbers == seg.score_region(found, truth, SPACING, known).numbers


def test_volumes_in_cubic_millimetres():
    mask = box((1, 4), (2, 8), (3, 7))
    assert seg.volume(mask, SPACING) == pytest.approx(3 * 6 * 4 * 2.5 * 0.7 * 1.1)
    with pytest.raises(ValueError, match="3 axes needs as many spacings, not 2"):
        seg.volume(mask, SPACING[:2])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_is_measured_in_mm(axis):
    truth = box((2, 3), (4, 5), (5, 6))
    distances = seg.surface_distances(np.roll(truth, 2, axis), truth, SPACING)
    assert distances.hausdorff() == pytest.approx(2 * SPACING[axis])
    assert distances.average == pytest.approx(2 * SPACING[axis])


def surface_points(mask):
    """Return the centres in mm of all voxels with a face to the outside, found one by one."""
    padded = np.pad(mask, 1)
    points = []
    for index in np.argwhere(mask):
        steps = [step for axis in np.eye(mask.ndim, dtype=int) for step in (axis, -axis)]
        if not all(padded[tuple(index + 1 + step)] for step in steps):
            points.append(index * SPACING[-mask.ndim :])
    return np.array(points)


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[1:]])
def test_distances_agree_with_all_pairs_of_surface_voxels(shape):
    rng = np.random.default_rng(5)
    found, truth = (rng.random(shape) < share for share in (0.8, 0.7))
    found[-2:] = False
    truth[:, :3] = False
    distances = seg.surface_distances(found, truth, SPACING[-len(shape) :])
    pairs = cdist(surface_points(found), surface_points(truth))
    np.testing.assert_allclose(np.sort(distances.to_truth), np.sort(pairs.min(1)))
    np.testing.assert_allclose(np.sort(distances.to_prediction), np.sort(pairs.min(0)))
    both = np.concatenate([pairs.min(0), pairs.min(1)])
    assert distances.average == pytest.approx(both.mean())
    assert distances.hausdorff() == pytest.approx(both.max())
    assert distances.hd95 == pytest.approx(max(np.percentile(pairs.min(axis), 95) for axis in (0, 1)))


def test_surface_dice_is_the_share_within_the_tolerance_as_in_monai():
    metrics = pytest.importorskip("monai.metrics")
    found, truth = box((1, 4), (2, 8), (3, 7)), box((2, 5), (2, 7), (3, 9))
    ours = seg.surface_distances(found, truth, SPACING)
    for tolerance in (0.5, 0.7, 1.1, 2.5):
        one_hot = [torch.from_numpy(np.stack([~mask, mask])[None]) for mask in (found, truth)]
        theirs = metrics.compute_surface_dice(*one_hot, [tolerance], spacing=list(SPACING)).item()
        assert ours.normalised(tolerance) == pytest.approx(theirs)
    assert ours.normalised(0.5) < ours.normalised(2.5) < 1
    empty = box((0, 0), (0, 0), (0, 0))
    assert seg.surface_distances(empty, empty, SPACING).normalised(1.0) == 1
    assert seg.surface_distances(found, empty, SPACING).normalised(1.0) == 0


def test_distances_agree_with_monai():
    metrics = pytest.importorskip("monai.metrics")
    found, truth = box((1, 5), (2, 9), (3, 8)), box((2, 6), (4, 12), (1, 7))
    found[2, 4, 5] = False
    distances = seg.surface_distances(found, truth, SPACING)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (found, truth)]
    hd95 = metrics.compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=SPACING)
    average = metrics.compute_average_surface_distance(
        *tensors, include_background=True, symmetric=True, spacing=SPACING
    )
    assert distances.hd95 == pytest.approx(hd95.item(), rel=1e-6)
    assert distances.average == pytest.approx(average.item(), rel=1e-6)


def test_a_single_slice_has_an_outline():
    found, truth = blobs(7)[2], box((3, 9), (2, 8), shape=SHAPE[1:])
    flat = seg.surface_distances(found, truth, SPACING[1:])
    stacked = seg.surface_distances(found[None], truth[None], SPACING)
    np.testing.assert_array_equal(stacked.to_truth, flat.to_truth)
    assert stacked.to_prediction.size == 2 * (6 + 6) - 4


def test_a_single_voxel():
    one = np.ones((1, 1, 1), dtype=bool)
    assert seg.surface_distances(one, one, SPACING).average == 0
    assert seg.surface_distances(one, ~one, SPACING).hd95 == math.inf


@pytest.mark.parametrize("flipped", [(), 2])
def test_the_border_of_what_is_known_is_no_surface(flipped):
    known = np.flip(box((0, 7), (0, 13), (0, 6)), flipped)
    truth = np.flip(box((1, 5), (2, 9), (2, 9)), flipped)
    found = np.flip(box((1, 5), (2, 9), (3, 9)), flipped)
    distances = seg.surface_distances(found, truth, SPACING, known)
    # Columns 3 to 5 of the prediction: its ring of faces in slices and rows, and all of its first column.
    assert distances.to_truth.size == 4 * 7 + 2 * (2 * 7 + 2 * 2)
    assert distances.hausdorff() == pytest.approx(SPACING[2])
    np.testing.assert_array_equal(
        distances.to_truth, seg.surface_distances(found, np.where(known, truth, False), SPACING, known).to_truth
    )


def test_scores_carry_their_units():
    truth, found = box((1, 4), (2, 8), (3, 7)), box((2, 5), (2, 7), (3, 9))
    scores = seg.score_region(found, truth, SPACING)
    assert scores.numbers == {
        "dice": scores.overlap.dice,
        "iou": scores.overlap.iou,
        "sensitivity": scores.overlap.sensitivity,
        "precision": scores.overlap.precision,
        "specificity": scores.overlap.specificity,
        "hd95_mm": scores.surface.hd95,
        "assd_mm": scores.surface.average,
        "volume_mm3": pytest.approx(90 * 2.5 * 0.7 * 1.1),
        "true_volume_mm3": pytest.approx(72 * 2.5 * 0.7 * 1.1),
    }
    assert scores.surface.hausdorff() == pytest.approx(math.hypot(2.5, 2 * 1.1))


def test_masks_must_fit():
    with pytest.raises(ValueError, match="different shapes"):
        seg.count_overlap(blobs(1), blobs(1)[1:])
    with pytest.raises(ValueError, match="different shapes"):
        seg.surface_distances(blobs(1), blobs(2), SPACING, np.ones(SHAPE[1:], dtype=bool))
    with pytest.raises(ValueError, match="3 axes needs as many spacings"):
        seg.surface_distances(blobs(1), blobs(2), SPACING[1:])
