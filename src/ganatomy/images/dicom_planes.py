"""Places of slices in the patient, as DICOM files state them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from ganatomy.errors import UserError
from ganatomy.images.image import LPS_TO_RAS, Image


@dataclass(frozen=True, eq=False)
class Plane:
    """The planes of an image in the patient, in mm, LPS.

    Attributes:
        spacing: distance between (rows, columns).
        right: unit vector of increasing column index.
        down: unit vector of increasing row index.
        distance: distance between neighbouring planes along their normal.
    """

    spacing: tuple[float, float]
    right: NDArray[np.float64]
    down: NDArray[np.float64]
    distance: float


def plane_of(image: Image) -> Plane:
    """Return the planes of an image; raises `UserError` for slanted pixels, which DICOM cannot express."""
    step, down, right = (LPS_TO_RAS @ image.affine[:3, axis] for axis in range(3))
    spacing = float(np.linalg.norm(down)), float(np.linalg.norm(right))
    down, right = down / spacing[0], right / spacing[1]
    if abs(down @ right) > 1e-3:
        raise UserError(f"{image.header.label} has slanted pixels, which DICOM cannot express: write .nii.gz instead")
    return Plane(spacing, right, down, abs(float(np.cross(right, down) @ step)))


def place(dataset: Dataset, image: Image, position: NDArray[np.float64]) -> None:
    """Write the geometry of a slice; the strings of the source are kept where they still hold.

    A distance of pixels that the source does not state is not stated either, and neither is a place in the patient: an
    arbitrary one would be taken for that in the frame of reference of the source.
    """
    plane = plane_of(image)
    if image.header.scaled:
        put_numbers(dataset, "PixelSpacing", plane.spacing)
    moved = image.shape[0] != len(image.header.paths)
    if image.header.placed or image.header.kind != "dicom":
        put_numbers(dataset, "ImageOrientationPatient", (*plane.right, *plane.down))
        moved = put_numbers(dataset, "ImagePositionPatient", LPS_TO_RAS @ position)
    if moved and "SliceLocation" in dataset:
        del dataset.SliceLocation
    if image.shape[0] != len(image.header.paths) or not dataset.get("SliceThickness"):
        dataset.SliceThickness = format_number_as_ds(plane.distance)
        if "SpacingBetweenSlices" in dataset:
            dataset.SpacingBetweenSlices = format_number_as_ds(plane.distance)
    # Orientation is stated either in one word or in codes.
    patient = () if "PatientOrientationCodeSequence" in dataset else ("PatientPosition",)
    for keyword in (*patient, "PositionReferenceIndicator"):
        if keyword not in dataset:
            setattr(dataset, keyword, None)


def put_numbers(dataset: Dataset, keyword: str, numbers: Sequence[float] | NDArray[np.float64]) -> bool:
    """Set a decimal-string attribute unless its value is equal already; return whether it changed."""
    if dataset.get(keyword) and np.allclose(dataset[keyword].value, numbers, rtol=1e-6, atol=1e-4):
        return False
    setattr(dataset, keyword, [format_number_as_ds(float(number)) for number in numbers])
    return True
