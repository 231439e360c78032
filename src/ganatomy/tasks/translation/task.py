"""An image of one kind to one of another kind."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ganatomy.case import Volume
from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, MethodConfig, Stream
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.framing import Fit, Framing
from ganatomy.images.image import Image
from ganatomy.metrics.dependence import correlation, mutual_information
from ganatomy.metrics.fidelity import mae, psnr, ssim
from ganatomy.metrics.sharpness import gradient_ratio
from ganatomy.tasks.restoration.task import Restoration
from ganatomy.tasks.synthesis.task import check_window

Direction = Literal["a2b", "b2a"]

PSNR, SSIM, MAE = "psnr[window]", "ssim[window]", "mae[window]"
CONTRAST, INFORMATION = "contrast", "mutual information"
EDGES, BEST = "gradient ratio[window]", "error+sharpness"

CONTENT = 0.02
"""Share of a slice that must lie above the window's lower end for the slice to be worth learning from."""
FOREGROUND = 0.05
"""Part of a window above its lower end where tissue begins."""
BLUNT = 0.01
"""Edges count as at least this strong, relative to the true ones."""


class TranslationConfig(MethodConfig):
    """What is translated into what."""

    direction: Direction = "a2b"  # which of the roles a and b is given, and which is made of it
    size: tuple[int, int] = (256, 256)  # rows and columns seen
    fit: Fit = "contain"  # of images: lie inside the size whole, fill it, or be cut into patches of it
    flips: tuple[int, ...] = (2,)  # axes along which images are mirrored at random: 1 rows, 2 columns
    channels: tuple[int, int] = (1, 1)  # of a and b; 3 for colours
    window_a: tuple[float, float] = (0.0, 1200.0)  # values of a mapped to [-1, 1] (our choice)
    window_b: tuple[float, float] = (0.0, 1200.0)  # values of b mapped to [-1, 1] (our choice)
    window_units: tuple[str | None, str | None] = ("a.u.", "a.u.")  # of the values of a and b, such as HU
    phantom: str = "brain-mr"  # learned from where no data are given
    parts: tuple[str, str] = ("t1", "t2")  # of the phantom, which play a and b


class Translation(Restoration):
    """Images of kind *a* and of kind *b*, of the same patients or of different ones.

    Args:
        codecs: of a and b.
        direction: which is given, and which is made of it.
        size: rows and columns seen.
        fit: how images get to this size.
        channels: of a and b.
        paired: whether training needs both images of a patient. Otherwise cases with either are of use, and cases with
            both are judged on the pair.
        phantom: name of the embedded one.
        parts: of the phantom, by role.
        selection: the score that decides which weights are best.
    """

    name = "translation"
    ability = "restore"
    roles = ("a", "b")

    directions: ClassVar[Mapping[str, str]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        CONTRAST: "higher",
        INFORMATION: "target",
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(
        self,
        codecs: Mapping[str, Window],
        direction: Direction,
        size: tuple[int, int],
        fit: Fit,
        channels: tuple[int, int],
        paired: bool,
        phantom: str,
        parts: tuple[str, str],
        selection: str,
    ):
        self._codecs, self.size, self.fit = dict(codecs), size, fit
        self.source, self.product = ("a", "b") if direction == "a2b" else ("b", "a")
        self.given = self.source
        self.streams = () if paired else (("a",), ("b",))
        self._channels = dict(zip(self.roles, channels, strict=True))
        self.phantom, self._parts, self._selection = phantom, dict(zip(self.roles, parts, strict=True)), selection

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self._parts

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return self._codecs

    @property
    def channels(self) -> Mapping[str, int]:
        return self._channels

    @property
    def fingerprint(self) -> str:
        return f"{self.size} {self.fit} {sorted(self._codecs.items())} {self._channels}"

    @property
    def selection(self) -> str:
        return self._selection

    @property
    def contrasts(self) -> tuple[Window, Window]:
        return self._codecs[self.source], self._codecs[self.product]

    @property
    def framing(self) -> Framing | None:
        return self._frame(self.source)

    def _frame(self, role: str) -> Framing | None:
        return None if self.fit == "patches" else Framing(self.size, self.fit, self._codecs[role].low)

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        shares = [
            (values > self._codecs[role].low).mean(axis=(0, 2, 3))
            for role, values in arrays.items()
            if role in self.roles
        ]
        return np.asarray(np.min(shares, axis=0) >= CONTENT)

    def check(self, image: Image) -> None:
        self.check_role(image, self.source)

    def check_role(self, image: Image, role: str) -> None:
        """Refuse an image that cannot play this role.

        Raises:
            UserError: another number of channels, another unit, or values that the window does not show.
        """
        if image.channels != self._channels[role]:
            raise UserError(
                f"{image.header.label}: {image.channels} channels, but the system works with {self._channels[role]} "
                f"for {role}; train with other --channels, or give other images"
            )
        codec = self._codecs[role]
        codec.check(image)
        if image.unit in (None, "a.u."):
            check_window(image, codec, f"--window-{role}")

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        there = {role: given[role] for role in self.roles if role in given}
        first = next(iter(given.values()))
        if missing := [role for role in self.roles if role not in there and not self.streams]:
            raise UserError(f"{first.header.label}: no {' or '.join(missing)} image beside it")
        for role, image in there.items():
            self.check_role(image, role)
            if image.shape != first.shape:
                raise UserError(
                    f"{image.header.label}: {image.shape} voxels, but {first.header.label} of the same case has "
                    f"{first.shape}; give pairs on one grid"
                )
        frames = {role: self._frame(role) for role in there}
        return {role: frame(there[role]) if frame else there[role] for role, frame in frames.items()}

    def tissue(self, sample: Mapping[str, Volume]) -> NDArray[np.bool_]:
        """Where any image of a sample lies above the lower end of its window, (slices, rows, columns)."""
        inside = [
            sample[role] > codec.low + FOREGROUND * (codec.high - codec.low)
            for role, codec in self._codecs.items()
            if role in sample
        ]
        return np.asarray(np.logical_or.reduce(inside))

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Distances and sharpness where the true product is known, and what the output still has of its source.

        Correlation (with the true product) and mutual information (with the source, in bits) are taken within tissue.
        """
        tissue = self.tissue(sample)
        source, product = ((codec.low, codec.high) for codec in self.contrasts)
        shared = mutual_information(sample[self.source][tissue], output[tissue], source, product)
        if self.product not in sample:
            return {INFORMATION: shared}
        true = sample[self.product]
        return {
            **likeness(output, true, product, spacing),
            CONTRAST: correlation(output[tissue], true[tissue]),
            INFORMATION: shared,
        }


def likeness(
    output: Volume, true: Volume, window: tuple[float, float], spacing: tuple[float, float, float]
) -> dict[str, float]:
    """How near and how sharp an image is, both clipped to the window: PSNR, SSIM, mean error, strength of edges.

    ``error+sharpness`` adds the mean error, relative to that of a constant image, to the logarithm of the edges'
    relative strength: neither a blurred mean image nor sharp inventions win. A flat true image has none.
    """
    ours, theirs = np.clip(output, *window), np.clip(true, *window)
    scores = {
        PSNR: psnr(ours, theirs, window=window),
        SSIM: ssim(ours, theirs, window=window),
        MAE: mae(ours, theirs),
        EDGES: gradient_ratio(ours, theirs, spacing[1:]),
    }
    constant = float(np.abs(theirs - theirs.mean()).mean())
    if constant > 0 and math.isfinite(scores[EDGES]):
        scores[BEST] = scores[MAE] / constant + abs(math.log(max(scores[EDGES], BLUNT)))
    return scores


class Translator(Method):
    """A method that translates images; its config is a `TranslationConfig` with an ``adversarial_weight``.

    ``jittered`` also needs ``jitter``, the pixels by which images are enlarged.
    """

    paired: ClassVar[bool] = True
    """Whether it learns from both images of a patient."""

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Images of the given kind, (N, C, H, W), to the other kind, of the same size."""

    @property
    def adversarial(self) -> bool:
        """Whether anybody plays against the generators; sharpness then counts when weights are chosen."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> Translation:
        c = self.config
        windows = {"a": (c.window_a, c.window_units[0]), "b": (c.window_b, c.window_units[1])}
        codecs = {
            role: Window(low=window[0], high=window[1], unit=unit, clip=True)
            for role, (window, unit) in windows.items()
        }
        return Translation(
            codecs,
            c.direction,
            c.size,
            c.fit,
            c.channels,
            self.paired,
            c.phantom,
            c.parts,
            BEST if self.adversarial else MAE,
        )

    def stream(self, batch_size: int) -> Stream:
        """Batches of images of the size that is seen, a and b of one patient where the method learns from pairs."""
        c = self.config
        return Stream(
            "samples", None, batch_size, (1, *c.size), flips=c.flips, streams=() if self.paired else (("a",), ("b",))
        )

    def jittered(self, batch: Batch) -> dict[str, Tensor]:
        """The batch a little enlarged and cut to its size at random, pairs at the same place.

        Isola et al., arXiv 1611.07004.
        """
        if not self.config.jitter:
            return dict(batch)
        if not self.paired:
            return {role: self._jittered(images) for role, images in batch.items()}
        widths = [images.shape[1] for images in batch.values()]
        together = self._jittered(torch.cat(list(batch.values()), dim=1))
        return dict(zip(batch, torch.split(together, widths, dim=1), strict=True))

    def _jittered(self, images: Tensor) -> Tensor:
        more, (rows, columns) = self.config.jitter, images.shape[2:]
        enlarged = interpolate(images, (rows + more, columns + more), mode="bicubic")
        corners = (self.noise.uniform(len(images), 2) * (more + 1)).long().clamp_max(more).tolist()
        parts = [
            image[:, top : top + rows, left : left + columns]
            for image, (top, left) in zip(enlarged, corners, strict=True)
        ]
        return torch.stack(parts)
