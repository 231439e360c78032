"""Undersampled scans: their representation for networks, and the roles of complete and undersampled scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Preparation, slab, spatial
from ganatomy.errors import UserError
from ganatomy.images.codecs import Codec, PercentileWindow, Window
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image
from ganatomy.physics.coils import Encoding, centre_width, estimated_sensitivities, root_sum_of_squares
from ganatomy.physics.consistency import consistent_with
from ganatomy.physics.fourier import as_channels, as_complex, ifft, magnitude
from ganatomy.physics.sampling import Undersampling
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.mr_reconstruction.grids import Grids

RANGE = (0.0, 1.0)
"""Range of the magnitudes of a prepared case; values above the percentile that is scaled to 1 exceed it."""
RELATIVE = Window(low=0, high=1, to=RANGE, unit=None)
"""Codec of intensities that have been divided by a percentile of their case."""
COMPLETE = 0.75
"""Share of measured k-space from which on raw data count as complete; scanners omit corners and partial echoes."""


@dataclass(frozen=True)
class Scan:
    """Undersampled scans as the input of a method.

    Attributes:
        image: zero-filled image A* y, complex (N, 1, H, W).
        encoding: encoding operator A; its mask is bool (N, 1, H, W), sensitivities are complex (N, C, H, W) or None.
    """

    image: Tensor
    encoding: Encoding

    @classmethod
    def of(cls, input: Tensor) -> Scan:
        """Unpack scans from channels (N, 3 [+ 2C], H, W), see `packed`."""
        maps = as_complex(input[:, 3:]) if input.shape[1] > 3 else None
        return cls(as_complex(input[:, :2]), Encoding(input[:, 2:3] > 0.5, maps))

    @classmethod
    def measured(cls, kspace: Tensor, mask: Tensor, sensitivities: Tensor | None = None) -> Scan:
        """Return the scans of measured k-space.

        Args:
            kspace: k-space, complex (N, C, H, W), zero where it is not measured.
            mask: which samples are measured, bool (N, 1, H, W).
            sensitivities: coil sensitivities; None estimates those of several coils from the centre of k-space.
        """
        if kspace.shape[1] > 1 and sensitivities is None:
            parts = [
                estimated_sensitivities(one[None], centre_width(place[0]))
                for one, place in zip(kspace, mask, strict=True)
            ]
            sensitivities = torch.cat(parts)
        encoding = Encoding(mask, sensitivities)
        return cls(encoding.adjoint(kspace), encoding)

    @property
    def mask(self) -> Tensor:
        """Mask of the measured samples, bool (N, 1, H, W)."""
        return self.encoding.mask

    @property
    def packed(self) -> Tensor:
        """Channels for networks, (N, 3 [+ 2C], H, W): real and imaginary part, mask, and parts of C sensitivities."""
        maps = self.encoding.sensitivities
        parts = [as_channels(self.image), self.mask.to(self.image.real.dtype)]
        return torch.cat([*parts, *([] if maps is None else [as_channels(maps)])], dim=1)

    def keep(self, image: Tensor) -> Tensor:
        """Project an image onto the data-consistent images; both complex (N, 1, H, W)."""
        return consistent_with(image, self.image, self.encoding)


@dataclass(frozen=True)
class MagnitudeRole(ImageRole):
    """Role of the magnitude of a complete scan: a magnitude image, or complete raw data.

    A percentile of each case is scaled to 1 for the networks. Arrays of raw data keep their grid and their channels,
    real and imaginary part of each coil in turn, until their scan is simulated; images are framed.

    Attributes:
        extents: rows and columns of the k-space that the networks take.
        coils: number of coils of raw data; with 1, any number of coils is combined.
        percentile: percentile of the magnitudes of a case that is scaled to 1.
    """

    scale: Codec | None = RELATIVE
    extents: tuple[int, int] = field(kw_only=True)
    coils: int = field(default=1, kw_only=True)
    percentile: float = field(default=100.0, kw_only=True)

    kind: ClassVar[str] = "complete scan"

    @property
    def adaptive(self) -> bool:
        """Whether the codec is bound per case, which is always true."""
        return True

    def check(self, value: Image) -> None:
        """Refuse images that are no MR magnitudes, and raw data of another number of coils."""
        self._check_modality(value)
        if not is_raw(value):
            if value.channels != 1:
                raise UserError(
                    f"{value.header.label}: {value.channels} channels (colour?); give magnitude images, or raw data"
                )
            RELATIVE.check(value)
        elif self.coils not in (1, value.channels // 2):
            coils = value.channels // 2
            raise UserError(f"{value.header.label}: {coils} coils; train with --coils {coils}, or 1 to combine them")

    def plan(self, value: Image, preparation: Preparation) -> Frame | None:
        """Plan the frame to the working grid; the k-space of raw data is padded or cropped to it, see `Grids`."""
        if not is_raw(value):
            return super().plan(value, preparation)
        frame = Frame.plan(value, "stored")
        working = (frame.size[0], *self.extents)
        return replace(frame, scaled=working, size=working)

    def array(self, value: Image, frame: Frame | None) -> Array:
        """Return an image on the working grid; raw data as they are."""
        return value.array if is_raw(value) else super().array(value, frame)

    def grids(self, value: Image) -> Grids:
        """Return the grids of raw data and of the networks."""
        return Grids((value.shape[1], value.shape[2]), self.extents)

    def bind(self, value: Image) -> Self:
        """Bind the codec to a case, such that the percentile is scaled to 1.

        Raises:
            UserError: no value is above 0, or raw data are not complete.
        """
        seen = self.visible(value)
        bright = PercentileWindow(p_low=0, p_high=self.percentile).bind(seen).high
        if bright <= 0:
            raise UserError(f"{value.header.label} has no value above 0: it is no magnitude image")
        return replace(self, scale=Window(low=0, high=bright, to=RANGE, unit=value.unit))

    def visible(self, value: Image) -> Image:
        """Return the magnitude as an image of one channel on the grid of the value."""
        if not is_raw(value):
            return value
        return computed(value, lambda planes: root_sum_of_squares(complete_images(planes, value)))

    def _check_modality(self, value: Image) -> None:
        if value.header.modality not in (None, "MR"):
            raise UserError(f"{value.header.label}: modality {value.header.modality}, but this system reconstructs MR")

    def _as_measured(self, value: Image, frame: Frame) -> Frame:
        """Return a frame that does not resample, after checking that its size is that of the scan."""
        rows, columns = frame.size[1:]
        if (rows, columns) != self.extents:
            raise UserError(
                f"{value.header.label}: {rows} rows and {columns} columns, but this run's scan measures "
                f"{self.extents[0]}x{self.extents[1]}; complex images are not resized, train with --size {rows} "
                f"{columns}"
            )
        return frame


@dataclass(frozen=True)
class ScanRole(MagnitudeRole):
    """Role of an undersampled scan: raw data, or its zero-filled image as real and imaginary part or magnitude alone.

    Arrays and tensors have the channels of `Scan.packed`: real and imaginary part of the zero-filled image, the mask (1
    where k-space is measured), and real and imaginary part of the sensitivity of each of several coils. Only the first
    two channels are intensities.

    Attributes:
        scan: undersampling with the mask of images; raw data have their own mask.
        phased: whether real and imaginary part are needed, so that magnitudes are refused.
    """

    scan: Undersampling = field(kw_only=True)
    phased: bool = field(default=True, kw_only=True)

    kind: ClassVar[str] = "undersampled scan"
    has_intensities: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Number of channels: three, and two more for each of several coils."""
        return packed_channels(self.coils)

    def check(self, value: Image) -> None:
        """Refuse images that are no MR, and scans whose mask is not known."""
        self._check_modality(value)
        raw = is_raw(value)
        if not raw and value.channels > 2:
            raise UserError(f"{value.header.label}: {value.channels} channels (colour?); give magnitude images")
        if self.phased and value.channels == 1:
            raise UserError(
                f"{value.header.label}: a magnitude, from which the measured k-space cannot be told; this system needs "
                "raw data, or the real and the imaginary part of the zero-filled image as two channels"
            )
        if self.phased and not raw and self.scan.redrawn:
            raise UserError(
                f"{value.header.label}: which samples were measured is not known, since this run draws a mask for "
                "every image; give raw data, or train with --no-redrawn for one mask"
            )
        RELATIVE.check(self.visible(value))

    def plan(self, value: Image, preparation: Preparation) -> Frame | None:
        """Plan the frame to the working grid; complex images are turned but not resized.

        Raises:
            UserError: a complex image has another size than the scan.
        """
        if value.channels == 2 and not is_raw(value):
            return self._as_measured(value, Frame.plan(value, preparation.plane))
        return super().plan(value, preparation)

    def array(self, value: Image, frame: Frame | None) -> Array:
        """Return the packed channels of a scan, (3 [+ 2C], slices, rows, columns), in the unit of the value."""
        if is_raw(value):
            grids, channels = self.grids(value), packed_channels(value.channels // 2)

            def scanned(start: int, stop: int) -> NDArray[np.float32]:
                packed = scan_of_raw(planes_of(value.slab(start, stop)), grids).packed
                return packed.transpose(0, 1).numpy()

            return ComputedArray((channels, value.shape[0], *self.extents), np.float32, scanned)
        framed = super().array(value, frame)
        shape: Any = framed.shape
        mask = self.scan.mask(self.extents).numpy().astype(np.float32)

        def packed(start: int, stop: int) -> NDArray[np.float32]:
            seen = slab(framed, start, stop).astype(np.float32)
            missing = np.zeros((2 - len(seen), *seen.shape[1:]), np.float32)
            return np.concatenate([seen, missing, np.broadcast_to(mask, (1, *seen.shape[1:]))])

        return ComputedArray((packed_channels(1), *shape[1:]), np.float32, packed)

    def value(self, array: Array, frame: Frame | None, like: Any) -> Image:
        """Return real and imaginary part of the zero-filled image as two channels on the grid of the source."""
        shape: Any = array.shape
        if isinstance(like, Image) and is_raw(like):
            grids = self.grids(like)

            def back(start: int, stop: int) -> NDArray[np.float32]:
                seen = grids.back(planes_of(slab(array, start, stop)[:2]))
                return as_channels(seen).transpose(0, 1).numpy()

            own = ComputedArray((2, *like.shape), np.float32, back)
            return super().value(own, Frame.plan(like, "stored"), like)
        parts = ComputedArray((2, *shape[1:]), np.float32, lambda start, stop: slab(array, start, stop)[:2])
        return super().value(parts, frame, like)

    def visible(self, value: Image) -> Image:
        """Return the magnitude of the zero-filled image, as an image of one channel on the grid of the value."""
        if is_raw(value):
            return computed(value, lambda planes: magnitude(scan_of_raw(planes).image))
        return value if value.channels == 1 else computed(value, magnitude)

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Convert a patch to a tensor, with its intensities in the range of the networks."""
        return spatial(torch.from_numpy(self.encoded(np.array(patch, np.float32))), dims)

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Encode the intensities of packed channels; mask and sensitivities are kept."""
        return np.concatenate([super().encoded(values[:2]), np.asarray(values[2:], np.float32)])


def is_raw(value: Image) -> bool:
    """Whether a value is raw data, which have two channels for each coil."""
    return value.header.kind == "kspace"


def packed_channels(coils: int) -> int:
    """Return the number of channels of `Scan.packed`."""
    return 3 if coils == 1 else 3 + 2 * coils


def planes_of(values: NDArray[Any]) -> Tensor:
    """Convert real and imaginary parts in turn, (2C, slices, rows, columns), to complex (slices, C, rows, columns)."""
    return as_complex(torch.from_numpy(values.astype(np.float32)).transpose(0, 1))


def computed(value: Image, function: Callable[[Tensor], Tensor], channels: int = 1) -> Image:
    """Apply a function to the complex slices of a value when the result is read.

    Args:
        value: image of 2C channels, read slab by slab.
        function: maps complex (slices, C, rows, columns) to real (slices, channels, rows, columns).
        channels: number of channels of the result.

    Returns:
        The result as an image on the grid of the value.
    """

    def made(start: int, stop: int) -> NDArray[np.float32]:
        return function(planes_of(value.slab(start, stop))).transpose(0, 1).numpy()

    return value.with_array(ComputedArray((channels, *value.shape), np.float32, made))


def scan_of_raw(kspace: Tensor, grids: Grids | None = None) -> Scan:
    """Return the scan of raw data.

    Args:
        kspace: raw data, complex (slices, C, rows, columns); zeros of all coils are unmeasured.
        grids: grids of the raw data and of the networks, for a scan on the latter; None for one on the former.
    """
    mask = (kspace != 0).any(1, keepdim=True)
    return Scan.measured(kspace, mask) if grids is None else Scan.measured(grids.kspace(kspace), grids.mask(mask))


def complete_images(kspace: Tensor, value: Image) -> Tensor:
    """Return the coil images of complete raw data, complex (slices, C, rows, columns).

    Args:
        kspace: raw data of the same shape.
        value: image they belong to, which the message names.

    Raises:
        UserError: k-space is not complete.
    """
    measured = float((kspace != 0).any(1).float().mean())
    if measured < COMPLETE:
        raise UserError(
            f"{value.header.label}: {measured:.0%} of k-space is measured; only complete scans can be learned from or "
            "judged by, apply a trained run to this one"
        )
    return ifft(kspace)
