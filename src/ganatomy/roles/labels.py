"""Label maps as a kind of role: every voxel has one of a few integers, from which regions are made that may overlap."""

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
from ganatomy.images.augmentation import Movement
from ganatomy.images.files import Source
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.images.labelmaps import placed, write_labels
from ganatomy.roles.options import RoleOptions

UNKNOWN = -1.0
"""Value in tensors of voxels that may or may not belong to a region."""

ROUNDING = 1e-3
"""Largest distance of a real number in a file from the integer that it is rounded to."""


class MaskOptions(RoleOptions):
    """Options of a label map."""

    noun = "mask"


@dataclass(frozen=True)
class MapRole(Role):
    """A map of integers on the grid of an image: the base class of label maps and instance maps.

    Maps are read from NIfTI, PNG, TIFF, BMP, GIF and NumPy files (with a palette, the indices are taken and not the
    colours), DICOM series and DICOM segmentations. They are resampled by a vote of the neighbours, which only yields
    integers that the map has.

    Attributes:
        overlapping: whether segments of a DICOM segmentation may overlap; the later segment then replaces the earlier.
    """

    overlapping: bool = field(default=False, kw_only=True)

    is_label_map: ClassVar[bool] = True

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of the file ``text``: a volume, a 2D image, or a DICOM segmentation."""
        found = read(folder / text)
        return found.labelled(self.overlapping) if isinstance(found, Source) else found

    def check(self, value: Any) -> None:
        """Refuse maps with several channels; the integers themselves are checked when they are read."""
        if value.channels != 1:
            raise UserError(f"{value.header.label}: {value.channels} channels, but a label map has one ({self.name})")

    def placed(self, value: Any, grid: Image) -> Image:
        """Return a DICOM segmentation on the grid of the image that it belongs to, 0 where no frame was stored."""
        return placed(value, grid)

    def plan(self, value: Any, preparation: Preparation) -> Frame | None:
        """Return the frame to the working grid, which is padded with 0, the background."""
        return replace(preparation.frame(value, self.name), fill=0.0)

    def framed(
        self, value: Image, frame: Frame | None, dtype: np.dtype[Any], integers: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> Array:
        """Return a map on the working grid, lazily.

        Args:
            value: map on the grid of its source.
            frame: frame to the working grid.
            dtype: type of the result.
            integers: function that converts values of a file to integers, or refuses them.
        """

        def slabs(start: int, stop: int) -> NDArray[Any]:
            return integers(_rounded(value.slab(start, stop))).astype(dtype)

        thickness = value.array.thickness if isinstance(value.array, LazyArray) else 1
        whole = value.with_array(ComputedArray((1, *value.shape), dtype, slabs, thickness), unit=None)
        return frame.into(whole, "labels").array if frame else whole.array

    def value(self, array: Array, frame: Frame | None, like: Any) -> Image:
        """Return an array as a map on the grid of its source."""
        if frame is None:
            return Image(array, np.eye(4))
        back = frame.back(array, 0.0, "labels")
        if like is None:
            return Image(back, frame.affine)
        header = replace(like.header, meaning=like.header.meaning.geometry, stored=None)
        image: Image = replace(like, unit=None, header=header)
        return image.with_geometry(back, frame.affine)

    def move(self, patch: NDArray[Any], movement: Movement) -> NDArray[Any]:
        """Return the moved patch, where every voxel has the integer of the nearest one; no labels are swapped."""
        return movement.nearest(patch)

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which prepared arrays are stored: that of the labels."""
        return np.dtype(dtype)

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write the map as a NIfTI, TIFF or NumPy file, or as PNG with a palette."""
        write_labels(path, value)


def _rounded(values: NDArray[Any]) -> NDArray[Any]:
    """Round real numbers that are close to integers, as files with a slope hold them."""
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    return np.where(np.abs(values - whole) <= ROUNDING, whole, values)


@dataclass(frozen=True)
class LabelRole(MapRole):
    """A label map, which networks take as one indicator channel per region.

    Regions may overlap, as the whole tumour and its core do. Where regions of a prediction overlap, the label of the
    later one in the order of ``regions`` is written.

    Attributes:
        regions: name of each region to the labels that belong to it.
        unknown: label to the regions to which its voxels may or may not belong; no names mean all regions. Such voxels
            are -1 in tensors, and losses and metrics leave them out.
        swaps: pairs of labels that are exchanged where a patch is mirrored from left to right, such as those of the
            left and the right hippocampus.
        lateral: axis of a patch (0 slices, 1 rows, 2 columns) that runs between the left and the right of the body:
            columns of axial and coronal slices, slices of sagittal ones.
    """

    regions: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"inside": (1,)})
    unknown: Mapping[int, tuple[str, ...]] = field(default_factory=dict, kw_only=True)
    any_two: bool = field(default=False, kw_only=True)
    swaps: Mapping[int, int] = field(default_factory=dict, kw_only=True)
    lateral: int = field(default=2, kw_only=True)

    kind: ClassVar[str] = "labels"

    @property
    def channels(self) -> int:
        """Number of channels: one for each region."""
        return len(self.regions)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions, in the order of the channels."""
        return tuple(self.regions)

    @property
    def known(self) -> frozenset[int]:
        """Labels that a map may hold, 0 among them."""
        return frozenset({0, *self.unknown, *(label for labels in self.regions.values() for label in labels)})

    @property
    def written(self) -> dict[str, int]:
        """Region to the label that is written for it: its first label that belongs to no later region."""
        names, found = list(self.regions), {}
        for place, name in enumerate(names):
            later = {label for other in names[place + 1 :] for label in self.regions[other]}
            own = [label for label in self.regions[name] if label not in later]
            found[name] = own[0] if own else self.regions[name][0]
        return found

    @property
    def segments(self) -> Mapping[int, str]:
        """Label that is written for each region to the name of the region."""
        return {label: name for name, label in self.written.items()}

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the label map on the working grid, uint8 or uint16; resampling only yields labels that the map has.

        Raises:
            UserError: a label belongs to no region; raised when the array is read.
        """
        label, pair = value.header.label, self._pair(value) if self.any_two else None
        return self.framed(value, frame, self._dtype, lambda values: self._integers(values, label, pair))

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if max(self.known) < 256 else np.uint16)

    def _pair(self, value: Any) -> tuple[float, float]:
        """Return the lowest and the highest value of a mask."""
        low, high = np.inf, -np.inf
        for part in map(_rounded, value.slabs()):
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

    @property
    def prepared_as(self) -> str:
        """Text with the labels that a map may hold and the label that the larger value of a mask becomes."""
        inside = next(iter(self.regions.values()))[0] if self.any_two else None
        return f"{super().prepared_as} {sorted(self.known)} {inside}"

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Return a patch mirrored along some axes; labels of left and right are exchanged where these sides are."""
        mirrored = super().flip(patch, axes)
        if self.lateral not in axes or not self.swaps:
            return mirrored
        swapped = mirrored.copy()
        for one, other in self.swaps.items():
            swapped[mirrored == one], swapped[mirrored == other] = other, one
        return swapped

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return indicators (regions, [[slices,] rows,] columns), float32: 1 inside, 0 outside, -1 unknown."""
        return spatial(torch.from_numpy(self.indicators(patch)), dims)

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the indicators of the regions, as in tensors."""
        return self.indicators(values)

    def classes(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the labels of an array, which are those that regions are made of."""
        return labels

    def indicators(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Convert labels (1, ...) to indicators (regions, ...): 1 inside, 0 outside, -1 unknown."""
        inside = np.stack([np.isin(labels[0], own) for own in self.regions.values()]).astype(np.float32)
        for label, names in self.unknown.items():
            for channel, name in enumerate(self.regions):
                if not names or name in names:
                    inside[channel][labels[0] == label] = UNKNOWN
        return inside

    def merged(self, inside: NDArray[Any]) -> NDArray[Any]:
        """Merge masks of regions (regions, ...) into a label map (1, ...), where later regions replace earlier ones."""
        labels = np.zeros((1, *inside.shape[1:]), self._dtype)
        for region, label in zip(inside, self.written.values(), strict=True):
            labels[0][region.astype(bool)] = label
        return labels

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return random indicators."""
        return (torch.rand(self.channels, *size, generator=generator) > 0.6).float()

    def overlay(self, labels: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        """Return name of each region to its mask, for labels (1, rows, columns)."""
        return {name: np.isin(labels[0], own) for name, own in self.regions.items()}

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, with its regions."""
        regions = {name: list(labels) for name, labels in self.regions.items()}
        return {**super().describe(), "regions": regions}


def share_of(array: Array, inside: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return the share of pixels of each slice that lie inside a region, (slices,).

    Args:
        array: array (channels, slices, rows, columns).
        inside: function from one slice (channels, 1, rows, columns) to the mask of the region.
    """
    shares = [inside(slab(array, index, index + 1)).mean() for index in range(array.shape[1])]
    return np.array(shares, np.float64)
