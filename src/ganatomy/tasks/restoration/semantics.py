"""Semantic scores: whether a segmentation network finds a structure in predicted images as in real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, pad

from ganatomy.case import Sample, Volume, grey, slab
from ganatomy.evaluation.judging import Score
from ganatomy.metrics.detection import dice
from ganatomy.nets.unet import ConvUNet
from ganatomy.tasks.restoration.judge import RestorationJudge

DICE, INTERPRETABILITY = "dice of a segmenter", "semantic interpretability"
SEMANTICS = (
    Score(DICE, None, "", "Overlap of the mask with what a network, trained on complete images, finds; 1 is best.",
          "What it shows", 3),
    Score(INTERPRETABILITY, "higher", "", "That overlap over the one in the complete image; 1 is as good.",
          "What it shows", 3),
)  # fmt: skip

SEGMENTED = (
    "a small U-Net, trained on the complete images and masks of the training subjects, finds the masked structure"
)
STEPS, BATCH, RATE, CROP = 300, 8, 1e-3, 64
"""Updates of the segmenter, batch size, learning rate of Adam, and side of its patches in pixels (our choice)."""
WIDTH, LEVELS, SURROUNDINGS = 12, 4, 15
"""Channels and levels of the network, and side of the neighbourhood of local contrast in pixels (our choice)."""
FEWEST, MOST = 8, 2000
"""Smallest number of training slices with a mask, and approximate largest number that is held in memory."""
LEAST = 20
"""Smallest number of pixels of a mask for an overlap to be computed."""
RECOGNISED = 0.3
"""Overlap in the complete image below which the segmenter counts as not trained successfully (our choice)."""


class Segmenter:
    """A small U-Net trained to segment a structure in real images.

    Seitzer et al., MICCAI 2018, arXiv 1806.11216, rate reconstructions by the Dice coefficient of such a network. Their
    score is at most 1 only if divided by the one on the true images, which the network does not segment perfectly.

    Args:
        images: real images, (n, H, W).
        masks: masks of the structure, bool (n, H, W).
    """

    def __init__(self, images: Tensor, masks: Tensor):
        self.mean, self.deviation = images.mean(), images.std().clamp_min(1e-6)
        self.detail = (images.diff(dim=2).std() / self.deviation).clamp_min(1e-6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = ConvUNet(2, 1, WIDTH, LEVELS)
            optimizer = torch.optim.Adam(self.network.parameters(), RATE)
            for _ in range(STEPS):
                seen, wanted = _patches(images, masks)
                loss = _loss(self._logits(seen), wanted)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    def __call__(self, images: Tensor) -> Tensor:
        """Segment images (n, H, W): bool of the same shape, true inside the structure."""
        with torch.no_grad():
            return self._logits(images) > 0

    def _logits(self, images: Tensor) -> Tensor:
        rows, columns = images.shape[1:]
        step = 2 ** (LEVELS - 1)
        bright = ((images - self.mean) / self.deviation)[:, None]
        around = avg_pool2d(bright, SURROUNDINGS, 1, SURROUNDINGS // 2, count_include_pad=False)
        # Thin structures differ from their surroundings by much less than image regions differ from each other.
        seen = torch.cat([bright, (bright - around) / self.detail], dim=1)
        whole = pad(seen, (0, -columns % step, 0, -rows % step), mode="replicate")
        found: Tensor = self.network(whole)[:, 0, :rows, :columns]
        return found


class SemanticJudge(RestorationJudge):
    """Base class of judges that also score by a segmenter, where cases have a ``mask``."""

    compares_with_training = True

    def __init__(self, task: Any, options: BaseModel | None = None):
        super().__init__(task, options)
        self.segmenter: Segmenter | None = None

    def learn(self, training: Sequence[Sample]) -> None:
        """Train the segmenter, where there are masks to learn from."""
        self.segmenter = train_segmenter(training, self.task.output)

    def interpreted(self, output: Volume, sample: Mapping[str, Volume]) -> dict[str, float]:
        """Compute both semantic scores of a block of slices; nothing without a segmenter or a mask."""
        if self.segmenter is None or "mask" not in sample:
            return {}
        scaled = self.task.roles[self.task.output].encoded
        volumes = (scaled(output), scaled(sample[self.task.output]), sample["mask"])
        return semantic_scores(self.segmenter, *(grey(self.apart(volume)) for volume in volumes))

    @property
    def told(self) -> dict[str, str]:
        """Description of the segmenter, for the report's list of facts."""
        return {"Segmenter": SEGMENTED} if self.segmenter else {}


def train_segmenter(training: Sequence[Sample], role: str) -> Segmenter | None:
    """Train a segmenter on the masks of training cases; None where there are too few.

    Args:
        training: training cases, some of which may have a ``mask``.
        role: role of the real images, which are mapped to the range of the networks by the scale of each case.
    """
    masked = [case for case in training if "mask" in case.arrays]
    images, masks = [], []
    for case in masked:
        mask, scaled = np.asarray(case.arrays["mask"])[0] > 0, case.role(role).encoded
        places = np.flatnonzero(mask.any(axis=(1, 2)))
        for place in places[:: -(-len(places) * len(masked) // MOST) or 1]:
            masks.append(torch.from_numpy(mask[place]))
            shown = slab(case.arrays[role], place, place + 1)[:, 0]
            images.append(torch.from_numpy(scaled(shown).mean(axis=0)))
    if len(masks) < FEWEST or len({part.shape for part in masks}) > 1:
        return None
    return Segmenter(torch.stack(images), torch.stack(masks))


def semantic_scores(segmenter: Segmenter, output: Volume, truth: Volume, mask: NDArray[Any]) -> dict[str, float]:
    """Compute both semantic scores of a block of slices; nothing where the mask is almost empty.

    Args:
        segmenter: segmenter of the structure.
        output: predicted image, (slices, rows, columns).
        truth: true image of the same shape.
        mask: mask of the structure, above 0 inside.
    """
    inside = mask > 0
    if inside.sum() < LEAST:
        return {}
    made, real = (dice(_found(segmenter, image), inside) for image in (output, truth))
    return {DICE: made, **({INTERPRETABILITY: made / real} if real >= RECOGNISED else {})}


def _found(segmenter: Segmenter, image: Volume) -> NDArray[np.bool_]:
    return np.asarray(segmenter(torch.from_numpy(np.array(image, np.float32))).numpy())


def _patches(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a batch of patches at random places, and their masks."""
    size = [min(CROP, extent) for extent in images.shape[1:]]
    patches = []
    for number in torch.randint(len(images), (BATCH,)).tolist():
        spans = zip(size, images.shape[1:], strict=True)
        top, left = (int(torch.randint(extent - length + 1, ())) for length, extent in spans)
        place = (number, slice(top, top + size[0]), slice(left, left + size[1]))
        patches.append((images[place], masks[place].float()))
    seen, wanted = zip(*patches, strict=True)
    return torch.stack(seen), torch.stack(wanted)


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the cross-entropy plus one minus a soft Dice coefficient."""
    inside = logits.sigmoid()
    overlap = 2 * (inside * masks).sum() / (inside.sum() + masks.sum()).clamp_min(1)
    return binary_cross_entropy_with_logits(logits, masks) + 1 - overlap
