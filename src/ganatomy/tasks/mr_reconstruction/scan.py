"""Undersampled scans: what was measured, how networks see it, and the roles that files of scans play."""

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

RANGE = (0.0, 1.0)
"""Of the magnitudes of a prepared case, but for what lies above the percentile that becomes 1."""
RELATIVE = Window(low=0, high=1, to=RANGE, unit=None)
"""Codec of intensities that have been divided by the brightest ones of their case."""
COMPLETE = 0.75
"""Share of k-space beyond which raw data count as complete; scanners leave out corners and partial echoes."""


@dataclass(frozen=True)
class Scan:
    """What a method is shown of undersampled scans.

    Attributes:
        image: zero-filled, which is A* y, complex (N, 1, H, W).
        encoding: A, the scanner: its mask is bool (N, 1, H, W), sensitivities are complex (N, C, H, W) or None.
    """

    image: Tensor
    encoding: Encoding

    @classmethod
    def of(cls, input: Tensor) -> Scan:
        """The scan that was `packed` into channels, (N, 3 [+ 2C], H, W)."""
        maps = as_complex(input[:, 3:]) if input.shape[1] > 3 else None
        return cls(as_complex(input[:, :2]), Encoding(input[:, 2:3] > 0.5, maps))

    @classmethod
    def measured(cls, kspace: Tensor, mask: Tensor, sensitivities: Tensor | None = None) -> Scan:
        """The scan of a k-space.

        Args:
            kspace: complex (N, C, H, W), zero where it is not measured.
            mask: bool (N, 1, H, W).
            sensitivities: of several coils; estimated from the measured centre where they are not given.
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
        """Which samples were measured, bool (N, 1, H, W)."""
        return self.encoding.mask

    @property
    def packed(self) -> Tensor:
        """Real part, imaginary part, mask, and the parts of C sensitivities if there are any, (N, 3 [+ 2C], H, W)."""
        maps = self.encoding.sensitivities
        parts = [as_channels(self.image), self.mask.to(self.image.real.dtype)]
        return torch.cat([*parts, *([] if maps is None else [as_channels(maps)])], dim=1)

    def keep(self, image: Tensor) -> Tensor:
        """The image closest to a given one that agrees with what was measured; both complex (N, 1, H, W)."""
        return consistent_with(image, self.image, self.encoding)


@dataclass(frozen=True)
class MagnitudeRole(ImageRole):
    """The magnitude of a complete scan: an image, or raw data that are complete.

    A percentile of each case becomes 1 in the range of the networks. Raw data keep their grid and their channels, real
    and imaginary part of each coil in turn; images are framed.

    Attributes:
        extents: rows and columns of k-space.
        coils: that raw data must have, unless it is 1, for which they are combined.
        percentile: of the magnitudes of a case, which becomes 1.
    """

    scale: Codec | None = RELATIVE
    extents: tuple[int, int] = field(kw_only=True)
    coils: int = field(default=1, kw_only=True)
    percentile: float = field(default=100.0, kw_only=True)

    kind: ClassVar[str] = "complete scan"

    @property
    def adaptive(self) -> bool:
        """Always."""
        return True

    def check(self, value: Image) -> None:
        """Refuse what is no MR, or no magnitude, and raw data of another number of coils."""
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
        """The way to the working grid; raw data stay where they are.

        Raises:
            UserError: raw data of another size than that of the scan.
        """
        if not is_raw(value):
            return super().plan(value, preparation)
        return self._as_measured(value, Frame.plan(value, "stored"))

    def bind(self, value: Image) -> Self:
        """The role whose codec makes the percentile of a case 1.

        Raises:
            UserError: no value is above 0, or raw data that are not complete.
        """
        seen = self.visible(value)
        bright = PercentileWindow(p_low=0, p_high=self.percentile).bind(seen).high
        if bright <= 0:
            raise UserError(f"{value.header.label} has no value above 0: it is no magnitude image")
        return replace(self, scale=Window(low=0, high=bright, to=RANGE, unit=value.unit))

    def visible(self, value: Image) -> Image:
        """The magnitude, as an image of one channel on the grid of the value."""
        if not is_raw(value):
            return value
        return computed(value, lambda planes: root_sum_of_squares(complete_images(planes, value)))

    def _check_modality(self, value: Image) -> None:
        if value.header.modality not in (None, "MR"):
            raise UserError(f"{value.header.label}: modality {value.header.modality}, but this system reconstructs MR")

    def _as_measured(self, value: Image, frame: Frame) -> Frame:
        """A frame without resampling, of rows and columns as the scan has them."""
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
    """An undersampled scan: raw data, the real and the imaginary part of its zero-filled image, or the magnitude alone.

    Prepared and shown to networks as `Scan.packed`: real and imaginary part of the zero-filled image, the mask (1 where
    k-space is measured), and real and imaginary part of the sensitivity of each of several coils. Only the first two
    channels are intensities.

    Attributes:
        scan: whose mask belongs to images; raw data have their own.
        phased: whether a magnitude alone is not enough.
    """

    scan: Undersampling = field(kw_only=True)
    phased: bool = field(default=True, kw_only=True)

    kind: ClassVar[str] = "undersampled scan"
    has_intensities: ClassVar[bool] = False

    @property
    def channels(self) -> int:
        """Three, and two for each of several coils."""
        return packed_channels(self.coils)

    def check(self, value: Image) -> None:
        """Refuse what is no MR, and scans of which nobody knows what was measured."""
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
        """The way to the working grid; raw data stay where they are, and complex images are turned and not resized.

        Raises:
            UserError: raw data or a complex image of another size than that of the scan.
        """
        if value.channels == 2 and not is_raw(value):
            return self._as_measured(value, Frame.plan(value, preparation.plane))
        return super().plan(value, preparation)

    def array(self, value: Image, frame: Frame | None) -> Array:
        """The scan with its channels packed, (3 [+ 2C], slices, rows, columns), in the unit of the value."""
        if is_raw(value):
            return computed(
                value, lambda planes: scan_of_raw(planes).packed, packed_channels(value.channels // 2)
            ).array
        framed = super().array(value, frame)
        shape: Any = framed.shape
        mask = self.scan.mask(self.extents).numpy().astype(np.float32)

        def packed(start: int, stop: int) -> NDArray[np.float32]:
            seen = slab(framed, start, stop).astype(np.float32)
            missing = np.zeros((2 - len(seen), *seen.shape[1:]), np.float32)
            return np.concatenate([seen, missing, np.broadcast_to(mask, (1, *seen.shape[1:]))])

        return ComputedArray((packed_channels(1), *shape[1:]), np.float32, packed)

    def value(self, array: Array, frame: Frame | None, like: Any) -> Image:
        """The real and the imaginary part of the zero-filled image, as two channels on the grid of the source."""
        shape: Any = array.shape
        parts = ComputedArray((2, *shape[1:]), np.float32, lambda start, stop: slab(array, start, stop)[:2])
        return super().value(parts, frame, like)

    def visible(self, value: Image) -> Image:
        """The magnitude of the zero-filled image, as an image of one channel on the grid of the value."""
        if is_raw(value):
            return computed(value, lambda planes: magnitude(scan_of_raw(planes).image))
        return value if value.channels == 1 else computed(value, magnitude)

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """A patch with its intensities in the range of the networks."""
        return spatial(torch.from_numpy(self.encoded(np.array(patch, np.float32))), dims)

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Packed channels with the intensities in the range of the networks."""
        return np.concatenate([super().encoded(values[:2]), np.asarray(values[2:], np.float32)])


def is_raw(value: Image) -> bool:
    """Whether a value is raw data, which have two channels for each coil."""
    return value.header.kind == "kspace"


def packed_channels(coils: int) -> int:
    """Channels of `Scan.packed`."""
    return 3 if coils == 1 else 3 + 2 * coils


def planes_of(values: NDArray[Any]) -> Tensor:
    """Real and imaginary parts in turn, (2C, slices, rows, columns), as complex (slices, C, rows, columns)."""
    return as_complex(torch.from_numpy(values.astype(np.float32)).transpose(0, 1))


def computed(value: Image, function: Callable[[Tensor], Tensor], channels: int = 1) -> Image:
    """What a function makes of the complex planes of a value, on its grid, computed when it is read.

    Args:
        value: of 2C channels, read slab by slab.
        function: complex (slices, C, rows, columns) to real (slices, channels, rows, columns).
        channels: of the result.
    """

    def made(start: int, stop: int) -> NDArray[np.float32]:
        return function(planes_of(value.slab(start, stop))).transpose(0, 1).numpy()

    return value.with_array(ComputedArray((channels, *value.shape), np.float32, made))


def scan_of_raw(kspace: Tensor) -> Scan:
    """The scan of raw data, complex (slices, C, rows, columns): what is 0 in all coils was not measured."""
    return Scan.measured(kspace, (kspace != 0).any(1, keepdim=True))


def complete_images(kspace: Tensor, value: Image) -> Tensor:
    """Images of every coil of complete raw data, complex (slices, C, rows, columns).

    Args:
        kspace: of the same shape.
        value: that it belongs to.

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
