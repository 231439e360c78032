"""The task of endomicroscopy super-resolution: predict finer images from frames acquired through a fibre bundle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, slab
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Frame, Plane
from ganatomy.images.image import ComputedArray, LazyArray
from ganatomy.metrics.contrast import global_contrast_factor
from ganatomy.physics.fibre import OUTSIDE, FibreBundle, cell_means
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.restoration.likeness import BEST, EDGES, INFORMATION, MAE, PSNR, SSIM, information, likeness
from ganatomy.tasks.restoration.task import Restoration

CONTRAST_TRUE, CONTRAST_LOW = "gcf difference[true]", "gcf difference[low]"
CONSISTENCY = "fibre error"

MOST_FIBRES = 2**16
"""Largest number of fibres of a bundle; a power of two, so that cell numbers divided by it are exact."""


class FibreConfig(MethodConfig):
    """Options of endomicroscopy super-resolution: the fibre bundle and the intensity scale."""

    bundle: FibreBundle = FibreBundle()  # fibre bundle of simulated frames and of frames without cells (our choice)
    window: tuple[float, float] = (0.0, 255.0)  # range of brightness; the lower end is the black around a frame
    window_unit: str | None = None  # unit of the brightness
    mean: float = 125.0  # mean brightness of low-quality frames, mapped to 0 in all images (our choice)
    sd: float = Field(44.0, gt=0)  # SD of the brightness of low-quality frames, mapped to 1 (our choice)
    phantom: str = "endomicroscopy"  # embedded phantom to learn from where no data are given


class BundlePreparation(Preparation):
    """Preparation with a fibre bundle."""

    plane: Plane = "stored"  # frames have no anatomical plane
    bundle: FibreBundle  # fibre bundle of simulated frames and of frames without cells
    black: float  # brightness outside of the field of view
    white: float  # brightness at the upper end of the window, to which the offsets of fibres are relative


@dataclass(frozen=True)
class CellRole(ImageRole):
    """Role of cell maps: the number of the fibre nearest to each pixel, negative outside of the field of view."""

    kind: ClassVar[str] = "cells"
    has_intensities: ClassVar[bool] = False
    is_label_map: ClassVar[bool] = True

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the cell numbers, float32; reading them raises a UserError where a value is no cell number."""
        label, array = value.header.label, super().array(value, frame)

        def numbered(start: int, stop: int) -> NDArray[np.float32]:
            found = slab(array, start, stop).astype(np.float32)
            if (found >= MOST_FIBRES).any() or (found != np.rint(found)).any():
                raise UserError(f"{label}: cells are numbered by whole numbers below {MOST_FIBRES}, negative outside")
            return found

        return computed(array, numbered)


class FibreSuperResolution(Restoration):
    """Task of super-resolution from frames acquired through fibres and unpaired high-quality images of any organ.

    A frame has the roles ``low`` (the signals of the fibres interpolated between them, black outside of the field of
    view), ``cells`` (number of the fibre nearest to each pixel, negative outside) and ``signal`` (the signal of that
    fibre). A missing signal is replaced by the means of the cells, missing cells by those of a simulated bundle. From
    images of the role ``true`` frames are simulated, and without images of the role ``high`` they also serve as the
    high-quality images.

    Args:
        config: configuration of the method.
        selection: score that selects the best weights.
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

    def changes(self) -> Changes:
        """Return no changes, since the frames of changed images would have to be simulated anew."""
        return Changes(
            Augmentation(), "its frames are simulated before training, and would not be those of changed images"
        )

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """Add the missing roles of a frame, or simulate a frame from a true image."""
        arrays = dict(sample.arrays)
        if "low" in arrays:
            arrays = {**self._fibres(arrays["low"], arrays.get("cells"), seed), **arrays}
        elif "true" in arrays:
            arrays = {"high": arrays["true"], **arrays, **self._seen(arrays["true"], seed)}
        arrays = {name: arrays[name] for name in self.roles if name in arrays}
        return replace(sample, arrays=arrays, affines=dict.fromkeys(arrays, sample.affines[sample.first]))

    def _fibres(self, low: Array, cells: Array | None, seed: int) -> dict[str, Array]:
        """Return cells and signal of acquired frames."""
        numbers = self._layout(low, seed) if cells is None else cells

        def signal(start: int, stop: int) -> NDArray[np.float32]:
            frame, there = (
                torch.from_numpy(slab(array, start, stop).astype(np.float32)).transpose(0, 1)
                for array in (low, numbers)
            )
            return cell_means_as_image(frame, there).transpose(0, 1).numpy()

        return {"signal": computed(low, signal), "cells": numbers}

    def _layout(self, frame: Array, seed: int) -> LazyArray:
        """Return the cells of a simulated bundle, for frames without cells."""
        _, _, rows, columns = frame.shape
        cells = self.bundle.fibres((rows, columns), seed).cells.numpy().astype(np.float32)
        return computed(frame, lambda start, stop: np.broadcast_to(cells, (1, stop - start, *cells.shape)))

    def _seen(self, true: Array, seed: int) -> dict[str, Array]:
        """Simulate frame, signal and cells of an image, and set the image to black outside of the field of view."""
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
        """Score fidelity and contrast inside the field of view, and consistency with the fibres' signals."""
        made, window = output["true"], (self.codec.low, self.codec.high)
        ours, low = self.inner(made), self.inner(sample["low"])
        scores = {
            CONTRAST_LOW: self.contrast(ours) - self.contrast(low),
            CONSISTENCY: fibre_error(made, sample),
            INFORMATION: information(low.ravel(), ours.ravel(), window, window),
        }
        if "true" in sample:
            true = self.inner(sample["true"])
            scores |= likeness(ours, true, window, spacing)
            scores[CONTRAST_TRUE] = self.contrast(ours) - self.contrast(true)
        return scores

    def inner(self, image: Volume) -> Volume:
        """Crop an image to the largest rectangle of its proportions inside of a circular field of view.

        The edge of the field of view would count as detail otherwise.

        Args:
            image: (..., rows, columns); returned whole where the field of view is not circular.
        """
        if not self.bundle.circular:
            return image
        rows, columns = (int(np.ceil(extent * (1 - np.sqrt(0.5)) / 2)) for extent in image.shape[-2:])
        return image[..., rows : image.shape[-2] - rows, columns : image.shape[-1] - columns]

    def contrast(self, image: Volume) -> float:
        """Compute the global contrast factor of an image, scaled from the window to 0 to 255."""
        low, high = self.codec.low, self.codec.high
        return global_contrast_factor(255 * (np.asarray(image) - low) / (high - low))


def fibre_error(output: Volume, sample: Mapping[str, Volume]) -> float:
    """Compute the mean absolute difference between cell means of an image and the fibres' signals, in SDs of the frame.

    Args:
        output: predicted image, (slices, rows, columns).
        sample: ``low``, ``signal`` and ``cells`` of the same shape; the error is NaN where ``low`` is constant.
    """
    cells = torch.from_numpy(np.array(sample["cells"], np.float32))[:, None]
    images = (torch.from_numpy(np.array(image, np.float32))[:, None] for image in (output, sample["signal"]))
    (ours, pixels), (theirs, _) = (cell_means(image, cells, int(cells.max()) + 1) for image in images)
    spread = float(np.std(sample["low"], where=sample["cells"] >= 0))
    return float((ours - theirs).abs()[pixels > 0].mean()) / spread if spread else math.nan


def cell_means_as_image(image: Tensor, cells: Tensor) -> Tensor:
    """Replace every pixel of an image (N, C, H, W) by the mean of its cell; cells are (N, 1, H, W)."""
    means, _ = cell_means(image, cells, int(cells.max()) + 1)
    numbers = cells.flatten(2).long()
    found = means.gather(2, numbers.clamp_min(0).expand(image.flatten(2).shape)).view_as(image)
    return torch.where(cells < 0, image, found)


def computed(like: Array, function: Callable[[int, int], NDArray[np.float32]]) -> LazyArray:
    """Return an array of one channel on the grid of another one, computed when it is read."""
    return ComputedArray((1, *like.shape[1:]), np.float32, function)
