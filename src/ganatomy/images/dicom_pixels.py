"""Numbers that are stored in DICOM files for the values of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, MRImageStorage, PositronEmissionTomographyImageStorage
from pydicom.valuerep import format_number_as_ds

from ganatomy.errors import UserError
from ganatomy.images.image import Image

# Rounding is at most 1/32 HU, far below the noise of any CT; 16 bits then reach from -1024 to 3071 HU.
_HU_STEP, _HU_CENTRE = 1 / 16, 1024.0

# MR images have no fixed scale; a span of as many integers resolves them as finely as scanners do.
_MR_SPAN = 1024


@dataclass(frozen=True)
class Encoding:
    """Type of stored numbers, and slope and intercept as DICOM writes them, in at most 16 characters."""

    dtype: np.dtype[Any]
    slope: str = "1"
    intercept: str = "0"

    @property
    def plain(self) -> bool:
        """Whether stored numbers are values."""
        return (self.slope, self.intercept) == ("1", "0")

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the stored numbers of values."""
        if self.plain and values.dtype == self.dtype:
            return values
        numbers = np.rint((values.astype(np.float64) - float(self.intercept)) / float(self.slope))
        limits = np.iinfo(self.dtype)
        return numbers.clip(limits.min, limits.max).astype(self.dtype)


def encoding_of(planes: Sequence[NDArray[Any]] | NDArray[Any], image: Image, kind: UID) -> Encoding:
    """Return how some slices of an image are stored in 16 bits.

    Args:
        planes: (slices, channels, rows, columns).
        image: image whose slices they are.
        kind: SOP class of the files.

    Raises:
        UserError: values are not finite, or integers that do not fit.
    """
    label, low, high, whole = image.header.label, math.inf, -math.inf, True
    for values in planes:
        if not np.isfinite(values).all():
            raise UserError(f"{label}: NaN or infinite values cannot be written as DICOM")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        whole = whole and (values.dtype.kind != "f" or bool((values == np.rint(values)).all()))
    if image.unit == "HU" and image.dtype.kind == "f":
        return _real(low, high, _HU_STEP, _HU_CENTRE)
    if whole or (kind == MRImageStorage and high - low >= _MR_SPAN):
        # Slices of PET are encoded one by one, most of them signed, in which all of a series should agree.
        signed = kind == PositronEmissionTomographyImageStorage
        for dtype in (np.int16, np.uint16) if signed else (np.uint16, np.int16):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return Encoding(np.dtype(dtype))
    if image.dtype.kind != "f":
        raise UserError(
            f"{label}: values from {low:.0f} to {high:.0f} do not fit the 16 bits of DICOM: write .nii.gz instead"
        )
    return _real(low, high)


def _real(low: float, high: float, finest: float = 0.0, centre: float = 0.0) -> Encoding:
    """Return the encoding of real values from `low` to `high` in steps of a power of two, at least `finest`."""
    if finest and max(high - centre, centre - low) > 32767 * finest:
        centre = float(round((low + high) / 2))
    reach = max(high - centre, centre - low)
    step = max(2.0 ** math.ceil(math.log2(reach / 32767)), finest) if reach else 1.0
    return Encoding(np.dtype(np.int16), format_number_as_ds(step), format_number_as_ds(centre))
