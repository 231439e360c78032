"""Label maps: every voxel has one of a few integers, from which overlapping regions are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Openable, Preparation, Role, slab, spatial
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image

UNKNOWN = -1.0
"""In tensors: where nobody knows whether a voxel belongs to a region."""


@dataclass(frozen=True)
class LabelRole(Role):
    """A label map, shown to networks as one indicator channel a region.

    Regions may overlap, as the whole tumour and its core do. Where regions of a prediction overlap, the later one in
    the order of ``regions`` decides about the label that is written.

    Attributes:
        regions: name of each region to the labels that belong to it.
        unknown: label to the regions of which a voxel with it may be part or not; no names mean all regions. Such
            voxels are -1 in tensors, and losses and metrics leave them out.
        any_two: for a single region: a mask may hold any two values, the larger of which is inside.
    """

    regions: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"inside": (1,)})
    unknown: Mapping[int, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    any_two: bool = field(default=False, kw_only=True)

    kind: ClassVar[str] = "labels"
    is_label_map: ClassVar[bool] = True

    @property
    def channels(self) -> int:
        """One a region."""
        return len(self.regions)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions, in the order of the channels."""
        return tuple(self.regions)

    @property
    def known(self) -> frozenset[int]:
        """Labels that a map may hold."""
        return frozenset({0, *self.unknown, *(label for labels in self.regions.values() for label in labels)})

    @property
    def written(self) -> dict[str, int]:
        """The label that stands for each region in a map: its first that belongs to no later region."""
        names, found = list(self.regions), {}
        for place, name in enumerate(names):
            later = {label for other in names[place + 1 :] for label in self.regions[other]}
            own = [label for label in self.regions[name] if label not in later]
            found[name] = own[0] if own else self.regions[name][0]
        return found

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """The file called ``text``: a volume, a picture, or a DICOM segmentation."""
        return read(folder / text)

    def check(self, value: Any) -> None:
        """Refuse maps of several channels; labels themselves are looked at when they are read."""
        if value.channels != 1:
            raise UserError(f"{value.header.label}: {value.channels} channels, but a label map has one ({self.name})")

    def plan(self, value: Any, preparation: Preparation) -> Frame | None:
        """The way to the working grid, which is filled with 0, the background."""
        return replace(preparation.frame(value, self.name), fill=0.0)

    def array(self, value: Any, frame: Frame | None) -> Array:
        """The label map on the working grid, uint8 or uint16; no label is invented by resampling."""
        label, largest = value.header.label, max((*self.known, 1))
        dtype = np.uint8 if largest < 256 else np.uint16
        pair = self._pair(value) if self.any_two else None

        def labels(start: int, stop: int) -> NDArray[Any]:
            return self._integers(value.slab(start, stop), label, pair).astype(dtype)

        map = value.with_array(ComputedArray((1, *value.shape), dtype, labels), unit=None)
        array: Array = frame.into(map, "labels").array if frame else map.array
        return array

    def _pair(self, value: Any) -> tuple[float, float]:
        """The lowest and the highest value of a mask."""
        low, high = np.inf, -np.inf
        for part in value.slabs():
            low, high = min(low, float(part.min())), max(high, float(part.max()))
        return low, high

    def _integers(self, values: NDArray[Any], label: str, pair: tuple[float, float] | None) -> NDArray[Any]:
        if pair is not None:
            low, high = pair
            inside = next(iter(self.regions.values()))[0]
            if not np.isin(values, pair).all():
                raise UserError(f"{label}: a mask holds two values, but this one holds more; give one with 0 and 1")
            return np.where(values == high, inside, 0) if low < high else np.where(values != 0, inside, 0)
        strange = np.setdiff1d(np.unique(values), list(self.known))
        if strange.size:
            raise UserError(
                f"{label}: label {strange[0]:g}, but {self.name} has {sorted(self.known)}; say which region it belongs "
                "to with --regions, or correct the file"
            )
        return np.asarray(values)

    def value(self, array: Array, frame: Frame | None, like: Any) -> Image:
        """The label map on the grid of its source."""
        placed = frame.back(array, 0.0, "labels") if frame else array
        if frame is None:
            return Image(placed, np.eye(4))
        image = replace(like, unit=None) if like is not None else Image(placed, frame.affine)
        return image.with_geometry(placed, frame.affine)

    @property
    def prepared_as(self) -> str:
        """The labels that it may hold, and the one that stands for the inside of any mask."""
        return f"{super().prepared_as} {sorted(self.known)} {next(iter(self.regions.values())) if self.any_two else ()}"

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Labels keep their integers."""
        return np.dtype(dtype)

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Indicators (regions, [[slices,] rows,] columns), float32: 1 inside, 0 outside, -1 unknown."""
        return spatial(torch.from_numpy(self.indicators(patch)), dims)

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Indicators of the regions, as in tensors."""
        return self.indicators(values)

    def indicators(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """(1, ...) labels to (regions, ...): 1 inside, 0 outside, -1 unknown."""
        inside = np.stack([np.isin(labels[0], own) for own in self.regions.values()]).astype(np.float32)
        for label, names in self.unknown.items():
            for channel, name in enumerate(self.regions):
                if not names or name in names:
                    inside[channel][labels[0] == label] = UNKNOWN
        return inside

    def merged(self, inside: NDArray[Any]) -> NDArray[Any]:
        """Regions (regions, ...), true inside, to one label map (1, ...); later regions decide."""
        dtype = np.uint8 if max(self.known) < 256 else np.uint16
        labels = np.zeros((1, *inside.shape[1:]), dtype)
        for region, label in zip(inside, self.written.values(), strict=True):
            labels[0][region.astype(bool)] = label
        return labels

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Random indicators."""
        return (torch.rand(self.channels, *size, generator=generator) > 0.6).float()

    def overlay(self, labels: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        """Outlines to draw over an image: name of each region to where it is, of (1, rows, columns) labels."""
        return {name: np.isin(labels[0], own) for name, own in self.regions.items()}

    def describe(self) -> dict[str, Any]:
        """The role as plain values, with its regions."""
        regions = {name: list(labels) for name, labels in self.regions.items()}
        return {**super().describe(), "regions": regions}


def share_of(array: Array, inside: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> NDArray[np.float64]:
    """The share of each slice that lies inside, (slices,).

    Args:
        array: (channels, slices, rows, columns).
        inside: says of (channels, 1, rows, columns) where that is.
    """
    shares = [inside(slab(array, index, index + 1)).mean() for index in range(array.shape[1])]
    return np.array(shares, np.float64)
