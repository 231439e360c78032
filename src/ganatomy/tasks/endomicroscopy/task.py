"""Frames of an endomicroscope, seen through a bundle of fibres, to what a finer instrument would show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, slab
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Frame, Plane
from ganatomy.images.image import ComputedArray, LazyArray
from ganatomy.metrics.contrast import global_contrast_factor
from ganatomy.metrics.dependence import mutual_information
from ganatomy.physics.fibre import OUTSIDE, FibreBundle, cell_means
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.restoration.likeness import BEST, EDGES, INFORMATION, MAE, PSNR, SSIM, likeness
from ganatomy.tasks.restoration.task import Restoration

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


class BundlePreparation(Preparation):
    """Through which fibres images are seen."""

    plane: Plane = "stored"  # frames are pictures, which lie in no plane of the body
    bundle: FibreBundle  # of simulated frames, and of those that come without their own
    black: float  # brightness outside the field of view
    white: float  # brightness at the upper end of the window, which a fibre's own light is relative to


@dataclass(frozen=True)
class CellRole(ImageRole):
    """The number of the fibre nearest to each pixel, negative outside the field of view."""

    kind: ClassVar[str] = "cells"
    has_intensities: ClassVar[bool] = False
    is_label_map: ClassVar[bool] = True

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Numbers of cells, float32, which are looked at when they are read.

        Raises:
            UserError: when it is read: what is no number of a cell.
        """
        label, array = value.header.label, super().array(value, frame)

        def numbered(start: int, stop: int) -> NDArray[np.float32]:
            found = slab(array, start, stop).astype(np.float32)
            if (found >= MOST_FIBRES).any() or (found != np.rint(found)).any():
                raise UserError(f"{label}: cells are numbered by whole numbers below {MOST_FIBRES}, negative outside")
            return found

        return computed(array, numbered)


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
    judge = "ganatomy.tasks.endomicroscopy.judge:FibreJudge"
    groups = (("low",), ("high",))
    given = "true"
    input, output = "low", "true"

    directions: ClassVar[Mapping[str, Better]] = {
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
        numbers = Window(low=0, high=MOST_FIBRES, to=(0, 1), unit=None)
        self.roles: Mapping[str, Role] = {
            "low": ImageRole("low", self.codec),
            "signal": ImageRole("signal", self.codec, checked=False),
            "cells": CellRole("cells", numbers, checked=False),
            "true": ImageRole("true", self.codec, optional=True),
            "high": ImageRole("high", self.codec),
        }

    @property
    def preparation(self) -> BundlePreparation:
        return BundlePreparation(bundle=self.bundle, black=self.codec.low, white=self.codec.high)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or 128, "slices": 2}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"true": "image", "high": "elsewhere"}

    @property
    def selection(self) -> str:
        return self._selection

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        known = [values[name] for name in self.roles if name in values]
        first = known[0]
        for image in known:
            if image.shape != first.shape:
                raise UserError(
                    f"{image.header.label}: {image.shape} voxels, but {first.header.label} of the same case has "
                    f"{first.shape}; give images on one grid, or as different cases"
                )
        if "low" not in values and (parts := sorted({"signal", "cells"} & set(values))):
            raise UserError(f"{first.header.label}: {' and '.join(parts)} without the frame; give it as low")
        return super().frame(values, case)

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """The sample with what its frame lacks, and where there is none, with what a bundle would have shown."""
        arrays = dict(sample.arrays)
        if "low" in arrays:
            arrays = {**self._fibres(arrays["low"], arrays.get("cells"), seed), **arrays}
        elif "true" in arrays:
            arrays = {"high": arrays["true"], **arrays, **self._seen(arrays["true"], seed)}
        arrays = {name: arrays[name] for name in self.roles if name in arrays}
        return replace(sample, arrays=arrays, affines=dict.fromkeys(arrays, sample.affines[sample.first]))

    def _fibres(self, low: Array, cells: Array | None, seed: int) -> dict[str, Array]:
        """Cells and signal of frames that somebody recorded."""
        numbers = self._layout(low, seed) if cells is None else cells

        def signal(start: int, stop: int) -> NDArray[np.float32]:
            frame, there = (
                torch.from_numpy(slab(array, start, stop).astype(np.float32)).transpose(0, 1)
                for array in (low, numbers)
            )
            return painted(frame, there).transpose(0, 1).numpy()

        return {"signal": computed(low, signal), "cells": numbers}

    def _layout(self, frame: Array, seed: int) -> LazyArray:
        """Cells of a bundle that might have been the frame's."""
        _, _, rows, columns = frame.shape
        cells = self.bundle.fibres((rows, columns), seed).cells.numpy().astype(np.float32)
        return computed(frame, lambda start, stop: np.broadcast_to(cells, (1, stop - start, *cells.shape)))

    def _seen(self, true: Array, seed: int) -> dict[str, Array]:
        """What a bundle of its own shows of an image, and the image in its field of view."""
        _, _, rows, columns = true.shape
        fibres, black = self.bundle.fibres((rows, columns), seed), self.codec.low

        @lru_cache(maxsize=1)
        def seen(start: int, stop: int) -> Mapping[str, Tensor]:
            light = torch.from_numpy(slab(true, start, stop).astype(np.float32)).transpose(0, 1) - black
            signals = self.bundle.acquire(light, fibres, seed, start, self.codec.high - black)
            images = {
                "low": fibres.delaunay(signals),
                "signal": fibres.voronoi(signals),
                "true": torch.where(fibres.cells == OUTSIDE, 0, light),
            }
            cells = fibres.cells.expand(light.shape).float()
            return {**{role: image + black for role, image in images.items()}, "cells": cells}

        def part(role: str, start: int, stop: int) -> NDArray[np.float32]:
            return seen(start, stop)[role].transpose(0, 1).numpy()

        return {role: computed(true, partial(part, role)) for role in ("low", "signal", "cells", "true")}

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Nearness and contrast inside the field of view, and agreement with what the fibres measured."""
        made, window = output["true"], (self.codec.low, self.codec.high)
        ours, low = self.inner(made), self.inner(sample["low"])
        scores = {
            CONTRAST_LOW: self.contrast(ours) - self.contrast(low),
            CONSISTENCY: fibre_error(made, sample),
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


def computed(like: Array, function: Callable[[int, int], NDArray[np.float32]]) -> LazyArray:
    """An array of one channel as large as another one, computed when it is read."""
    return ComputedArray((1, *like.shape[1:]), np.float32, function)
