"""De-identification of DICOM headers by the Basic Application Level Confidentiality Profile (PS3.15 Annex E)."""

from __future__ import annotations

import datetime
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from ganatomy.errors import UserError
from ganatomy.images.dicom import read_file
from ganatomy.images.dicom_frames import SLICED

EDITION = "dicomfields_2026c"
"""Edition of the standard whose table of actions is used, as dicom-anonymizer names it."""
METHOD = "PS3.15 Basic Profile, dates shifted, by Ganatomy"
_CODES = (
    codes.DCM.BasicApplicationConfidentialityProfile,
    codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption,
)
FEWEST_DAYS, MOST_DAYS = 366, 3652
"""Days by which the dates of a patient are moved into the past at least, and at most."""
DUMMY = "REMOVED"
"""Text in the place of those that a file needs not empty."""

# Dates that the option of modified dates does not keep: they follow the table of the profile.
_UNKEPT = """
    GPSTimeStamp PatientBirthDate PatientBirthDateInAlternativeCalendar PatientBirthTime
    PatientDeathDateInAlternativeCalendar
"""
# UIDs of kinds of things, which are no identities, also where their makers have registered them elsewhere.
_OF_KINDS = """
    CodingSchemeUID ContextUID MappingResourceUID OriginalSpecializedSOPClassUID RelatedGeneralSOPClassUID
    ReferencedSOPClassUID SOPClassUID SOPClassesInStudy SOPClassesSupported
"""
# What coded terms consist of besides their meaning.
_OF_CODES = "CodeValue CodingSchemeDesignator CodingSchemeVersion"
# Attributes whose values must not come back in any text that is kept.
_TELLING = """
    AccessionNumber InstitutionName IssuerOfPatientID OperatorsName OtherPatientIDs OtherPatientNames PatientBirthDate
    PatientBirthName PatientID PatientName PerformingPhysicianName ReferringPhysicianName RequestingPhysician StudyDate
    StudyID
"""
_TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
_DUMMIES = ("AE", "CS", *_TEXTS)
_SHORTEST = 3
"""Fewest characters of a name that is looked for in texts."""
_DAY = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_MOMENT = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2,6}(?:\.\d{1,6})?)?(?:[+-]\d{4})?")


@cache
def actions() -> Mapping[tuple[int, int], str]:
    """Return the actions of the profile on attributes: X removed, Z emptied, D replaced, U another UID, or a choice."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    tables = dicom_anonymization_database_selector(EDITION)
    names = {"X_Z_U_STAR_TAGS": "U", **{f"{name}_TAGS": name for name in "D Z X U Z_D X_Z X_D X_Z_D".split()}}  # noqa: SIM905
    return {tuple(tag): action for name, action in names.items() for tag in tables[name] if len(tag) == 2}


@dataclass(frozen=True)
class BasicProfile:
    """The Basic Profile with the option to retain longitudinal temporal information with modified dates.

    All that it puts in the place of identities depends on a secret, so that it is equal for equal identities in all
    outputs of a user, and cannot be found by trying names, numbers or UIDs without the secret.

    Attributes:
        secret: bytes that nobody else knows.
        subject: pseudonym of a patient, from the number or the name.
    """

    secret: bytes = field(repr=False)
    subject: Callable[[str], str]

    def apply(self, header: Dataset) -> int:
        """De-identify a header in place, nested ones included.

        What the table of the standard does not list is kept, except private and unknown attributes, overlays, names of
        persons, UIDs of instances, and texts in which a name, a number or a date of the patient or the study occurs.

        Returns:
            Days by which the dates are moved into the past.
        """
        patient = _patient(header)
        days = self.days(patient)
        telling = _telling(header)
        identified = bool(header.get("PatientID") or header.get("PatientName"))
        self._clean(header, days, telling)
        pseudonym = self.subject(patient) if identified else ""
        header.PatientID, header.PatientName = pseudonym, f"{pseudonym}^" if pseudonym else ""
        if getattr(header, "file_meta", None):
            header.file_meta.MediaStorageSOPInstanceUID = header.get("SOPInstanceUID", "")
        return days

    def uid(self, uid: str) -> UID:
        """Return the UID that takes the place of another one."""
        return UID(f"2.25.{int.from_bytes(self._digest('uid', uid)[:16])}")

    def days(self, patient: str) -> int:
        """Return by how many days the dates of a patient are moved into the past."""
        return FEWEST_DAYS + int.from_bytes(self._digest("days", patient)[:8]) % (MOST_DAYS - FEWEST_DAYS + 1)

    def mark(self, made: Dataset) -> None:
        """State in a finished file how it was de-identified."""
        made.PatientIdentityRemoved = "YES"
        methods = [str(one) for one in _several(made.get("DeidentificationMethod"))]
        made.DeidentificationMethod = [*(one for one in methods if one != METHOD), METHOD]
        known = list(made.get("DeidentificationMethodCodeSequence") or [])
        stated = {item.get("CodeValue") for item in known}
        made.DeidentificationMethodCodeSequence = known + [_item(one) for one in _CODES if one.value not in stated]
        if made.get("LongitudinalTemporalInformationModified") != "REMOVED":
            made.LongitudinalTemporalInformationModified = "MODIFIED"

    def _digest(self, kind: str, name: str) -> bytes:
        return hmac.new(self.secret, f"dicom {kind}\0{name}".encode(errors="surrogateescape"), sha256).digest()

    def _clean(self, dataset: Dataset, days: int, telling: re.Pattern[str] | None) -> None:
        for element in list(dataset):
            if not self._keeps(element, days, telling):
                del dataset[element.tag]

    def _keeps(self, element: DataElement, days: int, telling: re.Pattern[str] | None) -> bool:
        """De-identify an attribute; returns False for one that is to be removed."""
        tag, kind, value = element.tag, element.VR, element.value
        action = actions().get((tag.group, tag.element), "")
        if tag.is_private or not element.keyword or kind == "UN" or tag.group & 0xFF00 in (0x5000, 0x6000):
            return False
        if kind in ("DA", "DT", "TM") and element.keyword not in _UNKEPT.split():
            if kind != "TM":  # times stay, since dates are moved by whole days
                element.value = _each(value, lambda one: _moved(str(one), days, kind == "DT"))
        elif action in ("X", "X_Z_D"):
            return False
        elif action in ("Z", "X_Z"):
            element.value = [] if kind == "SQ" else None
        elif action in ("D", "X_D", "Z_D") and kind != "UI":
            if kind not in _DUMMIES:
                return False
            element.value = DUMMY if value else value
        elif kind == "SQ":
            for item in value:
                self._clean(item, days, telling)
        elif kind == "UI":
            if element.keyword not in _OF_KINDS.split():
                element.value = _each(value, lambda one: one if UID(one).name != one else self.uid(str(one)))
        elif kind == "PN" or (element.keyword not in _OF_CODES.split() and kind in _TEXTS and _found(telling, value)):
            element.value = None
        return True


def check_burned_in(paths: Sequence[Path]) -> Iterator[str]:
    """Refuse files whose headers say that their pixels show who the patient is.

    Yields:
        A warning where the headers do not say whether there is text in the pixels, though the kind of image may have.

    Raises:
        UserError: a file has burned-in annotations.
    """
    silent = 0
    for path in paths:
        header = read_file(path, stop_before_pixels=True, specific_tags=["BurnedInAnnotation", "Modality"])
        stated = str(header.get("BurnedInAnnotation") or "")
        if stated == "YES":
            raise UserError(
                f"{path} says that text is burned into its pixels (Burned In Annotation), which --deidentify does not "
                "remove: blacken it and set the attribute to NO, or leave the file out"
            )
        silent += stated != "NO" and header.get("Modality") not in SLICED
    if silent:
        yield (
            f"{silent} of {len(paths)} DICOM files do not say whether text is burned into their pixels, which is not "
            "removed: look at the output before you pass it on"
        )


def _patient(header: Dataset) -> str:
    """Return what identifies the patient of a file best."""
    values = (str(header.get(name) or "").strip() for name in ("PatientID", "PatientName", "StudyInstanceUID"))
    return next(filter(None, values), "") or str(header.get("SOPInstanceUID") or "")


def _telling(header: Dataset) -> re.Pattern[str] | None:
    """Return a pattern of the names, numbers and dates of a header; None where it has none."""
    texts = [str(one) for name in _TELLING.split() for one in _several(header.get(name))]
    words = {part for text in texts for part in (text, *re.split(r"[\s^=,]+", text)) if len(part) >= _SHORTEST}
    if not words:
        return None
    choice = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![^\W_])(?:{choice})(?![^\W_])", re.IGNORECASE)


def _found(telling: re.Pattern[str] | None, value: Any) -> bool:
    return telling is not None and any(telling.search(str(one)) for one in _several(value))


def _moved(text: str, days: int, timed: bool) -> str:
    """Return a date, or a date with a time and as exact as before, some days earlier; blank where it is none."""
    text = text.strip()
    found = _DAY.fullmatch(text) or (_MOMENT.fullmatch(text) if timed else None)
    if not found:
        return ""
    year, month, day, *time = found.groups()
    try:
        moved = datetime.date(int(year), int(month or 1), int(day or 1)) - datetime.timedelta(days)
    except (ValueError, OverflowError):
        return ""
    # The zone of a time would tell where it was taken.
    return moved.isoformat().replace("-", "")[: 4 + 2 * (month is not None) + 2 * (day is not None)] + "".join(
        filter(None, time)
    )


def _several(value: Any) -> Sequence[Any]:
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, MultiValue | list) else (value,)


def _each(value: Any, change: Callable[[Any], str]) -> Any:
    """Return a value, or each of several, changed; blank ones stay."""
    if isinstance(value, MultiValue | list):
        return [change(one) if one else one for one in value]
    return change(value) if value else value


def _item(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
