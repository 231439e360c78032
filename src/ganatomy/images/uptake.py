"""Standardised uptake values (SUV by body weight) of PET that DICOM states in Bq/mL."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ganatomy.errors import UserError
from ganatomy.images.dicom_source import read_source
from ganatomy.images.image import ComputedArray, Image, LazyArray

LEAST_DOSE = 1e4
"""Bq of the smallest dose that is believed; smaller numbers are probably MBq."""
LONGEST = 86_400.0
"""Longest time from injection to scan in seconds that is believed."""


def in_uptake(image: Image) -> Image:
    """Return PET from DICOM files in Bq/mL as SUV by body weight; all other images are returned as they are.

    Raises:
        UserError: the headers lack what the SUV depends on, or it cannot be true.
    """
    if image.unit != "Bq/mL" or image.header.kind != "dicom" or not image.header.paths:
        return image
    headers = [read_source(path) for path in dict.fromkeys(image.header.paths)]
    factor = np.float32(uptake_factor(headers, image.header.label))

    def slab(start: int, stop: int) -> NDArray[Any]:
        return np.asarray(image.slab(start, stop).astype(np.float32) * factor)

    thickness = image.array.thickness if isinstance(image.array, LazyArray) else 1
    array = ComputedArray(image.array.shape, np.dtype(np.float32), slab, thickness)
    return image.with_array(array, "SUV")


def uptake_factor(headers: Sequence[Dataset], label: str) -> float:
    """Return the SUV of 1 Bq/mL: the weight in g over the dose that was left at the time to which decay is corrected.

    This is the calculation of the Quantitative Imaging Biomarkers Alliance for corrected images. The time is that of
    the series, unless this is after the first acquisition, as in series that were processed later; that of the first
    acquisition then takes its place. Doses that are stated as corrected to the injection are taken as they are.

    Args:
        headers: headers of all files of the series.
        label: name of the series for messages.

    Raises:
        UserError: an attribute is missing, zero or impossible.
    """
    first = headers[0]
    isotopes = first.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    isotope, corrected = isotopes[0], first.get("CorrectedImage") or []
    states = [corrected] if isinstance(corrected, str) else list(corrected)
    reference = str(first.get("DecayCorrection") or "")
    numbers = {
        "PatientWeight": first.get("PatientWeight"),
        "RadionuclideTotalDose": isotope.get("RadionuclideTotalDose"),
        "RadionuclideHalfLife": isotope.get("RadionuclideHalfLife"),
    }
    missing = [name for name, value in numbers.items() if not value or not float(value) > 0]
    missing += [f"{name} in CorrectedImage" for name in ("ATTN", "DECY") if name not in states]
    missing += ["DecayCorrection START or ADMIN"] if reference not in ("START", "ADMIN") else []
    if missing:
        raise UserError(
            f"{label}: no standardised uptake can be computed without {', '.join(missing)}; complete the headers, or "
            "give images in SUV"
        )
    weight, dose, half_life = (float(value) for value in numbers.values())
    if dose < LEAST_DOSE:
        raise UserError(f"{label}: a dose of {dose:g} Bq is too small; RadionuclideTotalDose must be in Bq, not in MBq")
    if reference == "ADMIN":
        return 1000 * weight / dose
    waited = _waited(headers, isotope, label)
    return 1000 * weight / (dose * float(2.0 ** (-waited / half_life)))


def _waited(headers: Sequence[Dataset], isotope: Dataset, label: str) -> float:
    """Return the time in s from the injection to that to which decay is corrected."""
    series = _moment(headers[0], "Series")
    acquired = min(_moments(headers, "Acquisition"), default=None)
    known = [moment for moment in (series, acquired) if moment is not None]
    if not known:
        raise UserError(f"{label}: no time of the scan, so that no standardised uptake can be computed")
    scan, injected = min(known), _injected(isotope, min(known))
    if injected is None:
        raise UserError(f"{label}: no RadiopharmaceuticalStartTime, so that no standardised uptake can be computed")
    waited = (scan - injected).total_seconds()
    if not 0 <= waited <= LONGEST:
        raise UserError(
            f"{label}: injected {waited / 3600:.1f} hours before the scan; correct RadiopharmaceuticalStartTime or the "
            "times of the series"
        )
    return waited


def _injected(isotope: Dataset, scan: datetime.datetime) -> datetime.datetime | None:
    """Return the time of the injection; one without a date was in the 24 hours before the scan."""
    if stated := str(isotope.get("RadiopharmaceuticalStartDateTime") or ""):
        return _parsed(stated[:8], stated[8:])
    time = str(isotope.get("RadiopharmaceuticalStartTime") or "")
    moment = _parsed(scan.strftime("%Y%m%d"), time) if time else None
    return moment - datetime.timedelta(days=1) if moment and moment > scan else moment


def _moments(headers: Sequence[Dataset], event: str) -> Iterator[datetime.datetime]:
    for header in headers:
        if moment := _moment(header, event):
            yield moment


def _moment(header: Dataset, event: str) -> datetime.datetime | None:
    return _parsed(str(header.get(f"{event}Date") or ""), str(header.get(f"{event}Time") or ""))


def _parsed(date: str, time: str) -> datetime.datetime | None:
    """Return the moment of a date and a time of DICOM, without time zone; None where they are no such."""
    clock, _, fraction = time.partition("+")[0].partition("-")[0].partition(".")
    try:
        moment = datetime.datetime.strptime(date + clock.ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return moment + datetime.timedelta(seconds=float(f"0.{fraction or 0}"))
