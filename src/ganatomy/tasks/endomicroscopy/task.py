"""Frames of an endomicroscope, seen through a bundle of fibres, to what a finer instrument would show."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Volume
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.contrast import global_contrast_factor
from ganatomy.metrics.dependence import mutual_information
from ganatomy.physics.fibre import OUTSIDE, FibreBundle, cell_means
from ganatomy.tasks.restoration.task import Restoration
from ganatomy.tasks.synthesis.task import check_window
from ganatomy.tasks.translation.task import BEST, EDGES, INFORMATION, MAE, PSNR, SSIM, likeness

CONTRAST_TRUE, CONTRAST_LOW = "gcf difference[true]", "gcf difference[low]"
CONSISTENCY = "fibre error"

MOST_FIBRES = 2**16
"""Of a bundle; a power of two, so that numbers of cells divided by it are exact."""


class FibreConfig(MethodConfig):
    """Which frames are sharpened, and through which bundle they are seen where they are simulated."""

    bundle: FibreBundle = FibreBundle()  # fibres, where frames are simulated or come without their own (our choice)
    window: tuple[float, float] = (0.0, 255.0)  # brightness that is kept; its lower end is black around the frame
    window_unit: str | None = None  # of these values
    mean: float = 125.0  # brightness of low-quality frames that becomes 0, in both kinds of images (our choice)
    sd: float = 44.0  # brightness that becomes 1: the SD of low-quality frames (our choice)
    phantom: str = "endomicroscopy"  # learned from where no data are given


class FibreSuperResolution(Restoration):
    """Frames seen through fibres, and high-quality images that need not show the same, not even the same organ.

    A frame has the roles ``low`` (the brightness of the fibres interpolated between them, black outside the field of
    view), ``cells`` (number of the fibre nearest to each pixel, negative outside) and ``signal`` (what that fibre
    measured). Frames without a signal have that of their cells' means, frames without cells those of a bundle that is
    not theirs. Images called ``true`` are seen through simulated fibres, and where nothing else is given they are the
    high-quality images, too.

    Args:
        config: of the method.
        selection: the score that decides which weights are best.
    """

    name = "endomicroscopy"
    ability = "restore"
    roles = ("low", "signal", "cells", "high")
    optional = ("true",)
    streams = (("low",), ("high",))
    given = "true"
    source, product = "low", "true"

    directions: ClassVar[Mapping[str, str]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        EDGES: "target",
        BEST: "lower",
        CONTRAST_TRUE: "target",
        CONTRAST_LOW: "target",
        CONSISTENCY: "lower",
        INFORMATION: "target",
    }

    def __init__(self, config: FibreConfig, selection: str):
        self.bundle, self.phantom, self._selection = config.bundle, config.phantom, selection
        (low, high), mean, sd = config.window, config.mean, config.sd
        self.codec = Window(
            low=low, high=high, to=((low - mean) / sd, (high - mean) / sd), clip=True, unit=config.window_unit
        )

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or 128, "slices": 2}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"true": "image", "high": "elsewhere"}

    @property
    def codecs(self) -> Mapping[str, Codec]:
        cells = Window(low=0, high=MOST_FIBRES, to=(0, 1), unit=None)
        return {**dict.fromkeys(("low", "signal", "high", "true"), self.codec), "cells": cells}

    @property
    def fingerprint(self) -> str:
        return f"{self.bundle.model_dump_json()} {self.codec!r}"

    @property
    def selection(self) -> str:
        return self._selection

    def check(self, image: Image) -> None:
        if image.channels != 1:
            raise UserError(f"{image.header.label}: {image.channels} channels (colour?); give grey frames")
        self.codec.check(image)
        if image.unit in (None, "a.u."):
            check_window(image, self.codec)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        self._check_together(given)
        high = given.get("high")
        if "low" in given:
            found = self._frames(given, seed)
        elif "true" in given:
            found, high = self._simulated(given["true"], seed), high or given["true"]
        else:
            found = {}
        return {**found, "high": high} if high else found

    def _check_together(self, given: Mapping[str, Image]) -> None:
        first = next(iter(given.values()))
        for role, image in given.items():
            if role in ("low", "high", "true"):
                self.check(image)
            if image.shape != first.shape:
                raise UserError(
                    f"{image.header.label}: {image.shape} voxels, but {first.header.label} of the same case has "
                    f"{first.shape}; give images on one grid, or as different cases"
                )
        if "low" not in given and (parts := sorted({"signal", "cells"} & set(given))):
            raise UserError(f"{first.header.label}: {' and '.join(parts)} without the frame; give it as low")

    def _frames(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        """What belongs to frames that somebody recorded."""
        low = given["low"]
        cells = _numbered(given["cells"]) if "cells" in given else self._layout(low, seed)

        def signal(start: int, stop: int) -> NDArray[np.float32]:
            images = (torch.from_numpy(role.slab(start, stop).astype(np.float32)) for role in (low, cells))
            frame, numbers = (image.transpose(0, 1) for image in images)
            return painted(frame, numbers).transpose(0, 1).numpy()

        made = {"low": low, "signal": given.get("signal") or _computed(low, signal), "cells": cells}
        return {**made, "true": given["true"]} if "true" in given else made

    def _layout(self, frame: Image, seed: int) -> Image:
        """Cells of a bundle that might have been the frame's."""
        cells = self.bundle.fibres(frame.shape[1:], seed).cells.numpy().astype(np.float32)
        return _computed(frame, lambda start, stop: np.broadcast_to(cells, (1, stop - start, *cells.shape)))

    def _simulated(self, true: Image, seed: int) -> dict[str, Image]:
        """What a bundle of its own shows of an image."""
        fibres, black = self.bundle.fibres(true.shape[1:], seed), self.codec.low

        @lru_cache(maxsize=1)
        def seen(start: int, stop: int) -> Mapping[str, Tensor]:
            light = torch.from_numpy(true.slab(start, stop).astype(np.float32)).transpose(0, 1) - black
            signals = self.bundle.acquire(light, fibres, seed, start, self.codec.high - black)
            images = {
                "low": fibres.delaunay(signals),
                "signal": fibres.voronoi(signals),
                "true": torch.where(fibres.cells == OUTSIDE, 0, light),
            }
            cells = fibres.cells.expand(light.shape).float()
            return {**{role: image + black for role, image in images.items()}, "cells": cells}

        def slab(role: str, start: int, stop: int) -> NDArray[np.float32]:
            return seen(start, stop)[role].transpose(0, 1).numpy()

        return {role: _computed(true, partial(slab, role)) for role in ("low", "signal", "cells", "true")}

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Nearness and contrast inside the field of view, and agreement with what the fibres measured."""
        window = (self.codec.low, self.codec.high)
        ours, low = self.inner(output), self.inner(sample["low"])
        scores = {
            CONTRAST_LOW: self.contrast(ours) - self.contrast(low),
            CONSISTENCY: fibre_error(output, sample),
            INFORMATION: mutual_information(low.ravel(), ours.ravel(), window, window),
        }
        if "true" in sample:
            true = self.inner(sample["true"])
            scores |= likeness(ours, true, window, spacing)
            scores[CONTRAST_TRUE] = self.contrast(ours) - self.contrast(true)
        return scores

    def inner(self, image: Volume) -> Volume:
        """The largest rectangle of an image's proportions in its round field of view, whose edge would pass for detail.

        Args:
            image: (..., rows, columns); returned whole where the field of view is not round.
        """
        if not self.bundle.circular:
            return image
        rows, columns = (int(np.ceil(extent * (1 - np.sqrt(0.5)) / 2)) for extent in image.shape[-2:])
        return image[..., rows : image.shape[-2] - rows, columns : image.shape[-1] - columns]

    def contrast(self, image: Volume) -> float:
        """Global contrast factor of brightness in the window."""
        low, high = self.codec.low, self.codec.high
        return global_contrast_factor(255 * (np.asarray(image) - low) / (high - low))


def fibre_error(output: Volume, sample: Mapping[str, Volume]) -> float:
    """Mean difference between cell means of an image and what the fibres measured, in SDs of the frame; NaN if flat.

    Args:
        output: (slices, rows, columns).
        sample: ``low``, ``signal`` and ``cells`` of the same shape.
    """
    cells = torch.from_numpy(np.array(sample["cells"], np.float32))[:, None]
    images = (torch.from_numpy(np.array(image, np.float32))[:, None] for image in (output, sample["signal"]))
    (ours, pixels), (theirs, _) = (cell_means(image, cells, int(cells.max()) + 1) for image in images)
    spread = float(np.std(sample["low"], where=sample["cells"] >= 0))
    return float((ours - theirs).abs()[pixels > 0].mean()) / spread if spread else math.nan


def painted(image: Tensor, cells: Tensor) -> Tensor:
    """Every pixel of (N, C, H, W) like the mean of its cell, where it lies in one; cells are (N, 1, H, W)."""
    means, _ = cell_means(image, cells, int(cells.max()) + 1)
    numbers = cells.flatten(2).long()
    found = means.gather(2, numbers.clamp_min(0).expand(image.flatten(2).shape)).view_as(image)
    return torch.where(cells < 0, image, found)


def _numbered(cells: Image) -> Image:
    """The same image, which is looked at slab by slab for what is no number of a cell."""

    def slab(start: int, stop: int) -> NDArray[np.float32]:
        found = cells.slab(start, stop).astype(np.float32)
        if (found >= MOST_FIBRES).any() or (found != np.rint(found)).any():
            raise UserError(
                f"{cells.header.label}: cells are numbered by whole numbers below {MOST_FIBRES}, negative outside"
            )
        return found

    return _computed(cells, slab)


def _computed(like: Image, slab: Callable[[int, int], NDArray[np.float32]]) -> Image:
    return like.with_array(ComputedArray((1, *like.shape), np.float32, slab))
