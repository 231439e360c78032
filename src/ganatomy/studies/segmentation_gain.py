"""Test whether synthetic images with label maps help a segmenter, alone or together with real images.

Segmenters are trained on real and on synthetic images of a system, and tested on real images of other subjects, as in
"train on synthetic, test on real" of Esteban et al., arXiv:1706.02633. Every arm gets the same number of updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.metrics.statistics import Interval, crossed_interval
from ganatomy.reports.report import Outcome
from ganatomy.studies.augmentation import CLASSIC, ONLY, REAL, SYNTHETIC, Augment, classic_augmentation

ARMS = (REAL, CLASSIC, ONLY, SYNTHETIC)
FEWEST_SEEDS = 3
"""Number of seeds below which nothing is decided."""
BATCH, RATE = 8, 1e-3
"""Images in a batch, and learning rate of Adam (our choice)."""
WIDTHS = (16, 16, 32, 64, 128, 16)
"""Channels of the levels of the segmenter, and before its last layer (our choice)."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with the masks of a structure.

    Attributes:
        images: (n, channels, rows, columns) in [-1, 1].
        masks: bool (n, rows, columns).
        subjects: name of the subject of every image.
    """

    images: Tensor
    masks: Tensor
    subjects: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def of(self, names: Sequence[str]) -> LabelledImages:
        """Return the images of some subjects."""
        inside = [place for place, name in enumerate(self.subjects) if name in names]
        return LabelledImages(self.images[inside], self.masks[inside], tuple(self.subjects[place] for place in inside))

    @property
    def names(self) -> list[str]:
        """Names of the subjects, in the order in which they first occur."""
        return list(dict.fromkeys(self.subjects))


Segment = Callable[[Tensor], Tensor]
"""Function from images (n, channels, rows, columns) to bool masks (n, rows, columns)."""
Learn = Callable[[int, Sequence[str], Sequence[str]], LabelledImages]
"""Function that trains a system and makes images with it, from the number of the fold, the subjects it is trained on,
and those that select its weights."""


@dataclass(frozen=True)
class SegmentationGain:
    """Results of segmenters that were trained with and without synthetic images.

    Attributes:
        arms: name of each arm to Dice on real images, (seeds, subjects), by the voxels of each subject together.
        subjects: names of the subjects, in the order of the columns.
        made: number of synthetic images, and of real ones, in every fold.
    """

    arms: Mapping[str, NDArray[np.float64]]
    subjects: tuple[str, ...]
    made: tuple[tuple[int, int], ...]

    def dice(self, name: str) -> Interval:
        """Return the mean Dice of an arm, with its interval over subjects and seeds."""
        return crossed_interval(self.arms[name])

    def difference(self, name: str, control: str) -> Interval:
        """Return the difference in Dice of two arms, with its interval over subjects and seeds."""
        return crossed_interval(self.arms[name] - self.arms[control])

    @property
    def enough(self) -> bool:
        """Whether there are enough seeds for a verdict."""
        return len(self.arms[REAL]) >= FEWEST_SEEDS

    @property
    def outcome(self) -> Outcome:
        """Outcome: better where the interval of real and synthetic images minus real ones with augmentation is above
        0, worse where it is below, undecided else or with fewer than three seeds."""
        gain = self.difference(SYNTHETIC, CLASSIC)
        if not self.enough or not (gain.low > 0 or gain.high < 0):
            return "undecided"
        return "better" if gain.low > 0 else "worse"

    @property
    def words(self) -> str:
        """Verdict in a sentence, with the numbers that support it."""
        gain = self.difference(SYNTHETIC, CLASSIC)
        verdict = {
            "better": "Synthetic images help the segmenter more than classic augmentation",
            "worse": "Synthetic images harm the segmenter",
            "undecided": "No gain from synthetic images is shown",
        }[self.outcome]
        few = "" if self.enough else f" Fewer than {FEWEST_SEEDS} seeds decide nothing."
        return (
            f"{verdict}: Dice {self.dice(SYNTHETIC).mean:.3f} with them and {self.dice(CLASSIC).mean:.3f} without, "
            f"both with classic augmentation; difference {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}).{few}"
        )

    @property
    def alone(self) -> str:
        """Result of training on synthetic images alone, in a sentence."""
        made, real = self.dice(ONLY).mean, self.dice(REAL).mean
        share = f", {made / real:.0%} of it" if real > 0 else ""
        return (
            f"Trained on synthetic images alone, a segmenter reaches Dice {made:.3f} on real ones; trained on real "
            f"images {real:.3f}{share}."
        )


def segmentation_gain(
    data: LabelledImages,
    learn: Learn,
    *,
    folds: int = 3,
    seeds: int = 3,
    steps: int = 300,
    advance: Callable[[str], None] = lambda what: None,
) -> SegmentationGain:
    """Train segmenters with and without synthetic images, and test them on real images.

    Subjects are divided into folds; each is tested once, by segmenters that were trained on others, as was the system.
    A fifth of the training subjects selects the weights of the system only.

    Args:
        data: real images with masks.
        learn: function that trains the system of a fold and makes images with it.
        folds: number of folds of the subjects.
        seeds: number of seeds of the segmenters.
        steps: number of updates of each segmenter, equal in every arm.
        advance: called with a description of each step.

    Raises:
        UserError: there are too few subjects for the folds.
    """
    dealt = subject_folds(data.names, folds)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ARMS}
    tested: list[str] = []
    made = []
    for fold, test in enumerate(dealt):
        others = [name for part in dealt if part is not test for name in part]
        choosing = others[:: max(2, min(5, len(others)))]
        training = [name for name in others if name not in choosing]
        advance(f"fold {fold + 1} of {folds}: system")
        synthetic = learn(fold, training, choosing)
        advance(f"fold {fold + 1} of {folds}: segmenters")
        real, held_out = data.of(training), data.of(test)
        both = LabelledImages(
            torch.cat([real.images, synthetic.images]),
            torch.cat([real.masks, synthetic.masks]),
            real.subjects + synthetic.subjects,
        )
        sets: dict[str, tuple[LabelledImages, Augment | None]] = {
            REAL: (real, None),
            CLASSIC: (real, classic_augmentation),
            ONLY: (synthetic, None),
            SYNTHETIC: (both, classic_augmentation),
        }
        for name, (images, augment) in sets.items():
            own = [dice_by_subject(segmenter(images, seed, steps, augment), held_out) for seed in range(seeds)]
            found[name].append(np.array(own))
        tested += held_out.names
        made.append((len(synthetic), len(real)))
    arms = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    return SegmentationGain(arms, tuple(tested), tuple(made))


def subject_folds(names: Sequence[str], folds: int, seed: int = 0) -> list[list[str]]:
    """Deal subjects into folds at random.

    Raises:
        UserError: there are fewer subjects than folds, or less than two are left beside a fold, of which one selects
            weights and one is trained on.
    """
    if len(names) < folds:
        raise UserError(f"--folds {folds}: {len(names)} subjects with images and label maps are too few; use fewer")
    if len(names) - math.ceil(len(names) / folds) < 2:
        raise UserError(
            f"--folds {folds}: of {len(names)} subjects with images and label maps, less than two are left beside a "
            "fold, one to train on and one that selects weights; give more subjects"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return [[names[place] for place in order[fold::folds]] for fold in range(folds)]


def segmenter(data: LabelledImages, seed: int, steps: int, augment: Augment | None = None) -> Segment:
    """Train a small U-Net by Dice and cross-entropy; it returns a bool mask (n, rows, columns) of images.

    Args:
        data: training images.
        seed: seed of the initial weights and of the batches.
        steps: number of updates.
        augment: function that changes images and masks alike; None changes nothing.
    """
    # MONAI is imported when the first segmenter is trained, since the import takes seconds.
    from monai.losses.dice import DiceCELoss
    from monai.networks.nets.basic_unet import BasicUNet

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = BasicUNet(2, data.images.shape[1], 1, WIDTHS, norm=("instance", {"affine": True}))
        loss = DiceCELoss(sigmoid=True)
        optimizer = torch.optim.Adam(network.parameters(), RATE)
        for _ in range(steps):
            chosen = torch.randint(len(data), (BATCH,), generator=generator)
            images, masks = data.images[chosen], data.masks[chosen][:, None].float()
            if augment:
                # The mask is moved as one more channel, whose outside is that of the images.
                moved = augment(torch.cat([images, 2 * masks - 1], dim=1), generator)
                images, masks = moved[:, :-1], (moved[:, -1:] > 0).float()
            optimizer.zero_grad()
            found: Tensor = loss(network(images), masks)
            found.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()

    @torch.no_grad()
    def segmented(images: Tensor) -> Tensor:
        parts = [network(part)[:, 0] > 0 for part in torch.split(images, BATCH)]
        return torch.cat(parts)

    return segmented


def dice_by_subject(segment: Segment, data: LabelledImages) -> list[float]:
    """Return Dice of all pixels of each subject together, 1 where mask and output are both empty."""
    found, owners = segment(data.images), np.array(data.subjects)
    scores = []
    for name in data.names:
        own = torch.from_numpy(owners == name)
        made, true = found[own], data.masks[own]
        total = int(made.sum()) + int(true.sum())
        scores.append(2 * int((made & true).sum()) / total if total else 1.0)
    return scores
