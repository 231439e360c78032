"""Frames of DICOM files: what the header says of every slice, and its pixels, decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from ganatomy.errors import UserError
from ganatomy.images.dicom import IMPLEMENTATION_UID, DicomStream, check_pixels, read_file, read_stream
from ganatomy.images.dicom_marks import MARKS, marks_of, several
from ganatomy.images.dicom_private import TAGS as PRIVATE_TAGS
from ganatomy.images.dicom_private import diffusion_of
from ganatomy.images.dicom_values import FLOATS, Get, Values, in_colours, through_table, values_of
from ganatomy.images.image import LPS_TO_RAS
from ganatomy.images.parsing import parsing

_TAGS = """
    BitsAllocated BitsStored Columns DiffusionGradientDirectionSequence DimensionIndexSequence DoseGridScaling DoseUnits
    FrameOfReferenceUID GridFrameOffsetVector ImageOrientationPatient ImagePositionPatient ImagerPixelSpacing
    InstanceNumber Modality ModalityLUTSequence NominalScannedPixelSpacing NumberOfFrames PatientID
    PerFrameFunctionalGroupsSequence PhotometricInterpretation PixelPaddingValue PixelRepresentation PixelSpacing
    RealWorldValueMappingSequence RescaleIntercept RescaleSlope RescaleType Rows SOPClassUID SOPInstanceUID
    SamplesPerPixel SeriesDescription SeriesInstanceUID SeriesNumber SharedFunctionalGroupsSequence SliceLocation
    SliceThickness SpacingBetweenSlices SpecificCharacterSet StudyInstanceUID TotalPixelMatrixColumns
    SUVType TotalPixelMatrixRows Units
"""
_VECTORS: Mapping[str, str] = {
    "slice": "SliceVector",
    "view": "AngularViewVector",
    "energy window": "EnergyWindowVector",
    "detector": "DetectorVector",
    "interval": "RRIntervalVector",
    "time slot": "TimeSlotVector",
    "phase of the scan": "PhaseVector",
    "rotation": "RotationVector",
    "time slice": "TimeSliceVector",
}
"""Numbers of the frames of nuclear medicine images, and the attributes that hold one for each frame."""
_PLACES = ("slice", "view")
"""Numbers of frames that lie beside each other."""
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_WITH_PIXELS = ("Image Storage", "Segmentation Storage", "Parametric Map Storage", "RT Dose Storage")
"""Parts of the names of classes of DICOM files that hold pixels."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SLICED = ("CT", "MR", "PT")
"""Modalities of slices, in which pictures without a place are no images of the scan."""
_PLACELESS = "secondary capture without a place in the patient"
_CAPTURES = ("SCREEN SAVE", "SCREENSHOT", "SCREEN SHOT", "DOSE_INFO", "DOSE INFO", "DOSE REPORT")
"""Values of ImageType by which scanners mark pages with the dose or protocol, and pictures of a screen."""

SLANT = 0.02
"""Largest difference from 1 of squared lengths of the directions of rows and columns, and of their product from 0."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Header fields of one slice: a whole file, or one frame of a multi-frame file.

    Attributes:
        path: File of the slice.
        index: Frame number in the file, or None for a single-frame file.
        uid: SOPInstanceUID of the file, "" when blank.
        series: SeriesInstanceUID, "" when blank.
        description: SeriesDescription or "".
        number: Series and instance number, which order slices without a position.
        position: Centre of the first pixel, mm, RAS+; None when the file states none.
        location: SliceLocation in mm, which orders slices without a position; None when the file states none.
        orientation: Direction of increasing column index and of increasing row index, RAS+, (2, 3).
        spacing: Distance between (rows, columns) in mm; None when the file states none, or 0.
        thickness: Distance to the next slice as the header states it, mm.
        shape: (rows, columns).
        values: Meaning of the stored numbers.
        padding: Value that the header declares to lie outside the scanned region.
        study: StudyInstanceUID, "" when blank.
        frame_of_reference: FrameOfReferenceUID: slices that share it share their coordinates.
        inverted: Whether low values are shown bright (MONOCHROME1).
        marks: What may tell it from frames of the same series at the same position, see `dicom_marks`.
        aside: Why it is no image of a scan, such as "localiser"; None where it is one.
        problem: Why it cannot be used as an image, though it can be read; None where it can.
    """

    path: Path
    index: int | None
    uid: str
    series: str
    description: str
    number: tuple[int, int]
    position: NDArray[np.float64] | None
    location: float | None
    orientation: NDArray[np.float64]
    spacing: tuple[float, float] | None
    thickness: float
    shape: tuple[int, int]
    values: Values
    modality: str | None
    patient: str | None
    padding: float | None
    study: str = ""
    frame_of_reference: str | None = None
    inverted: bool = False
    marks: Mapping[str, Hashable] = field(default_factory=dict)
    aside: str | None = None
    problem: str | None = None

    @property
    def depth(self) -> float:
        """Position along the slice normal in mm, or SliceLocation; 0 without either."""
        return (self.location or 0.0) if self.position is None else float(self.normal @ self.position)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector from slice to slice; towards the head for axial slices."""
        return np.cross(self.orientation[0], self.orientation[1])

    def decode(self) -> NDArray[Any]:
        """Return the values of the pixels, (channels, rows, columns).

        Raises `UserError` when the pixels are missing, truncated or in an unknown compression.
        """
        with parsing(self.path, "pixels of DICOM"):
            pixels = self._pixels()
        pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        if pixels.shape != (self.values.channels, *self.shape):
            raise UserError(f"{self.path} decodes to {pixels.shape} where its header says {self.shape}")
        return self.values.apply(pixels)

    def _pixels(self) -> NDArray[Any]:
        file = read_file(self.path, stop_before_pixels=self.index is not None)
        syntax = file.file_meta.TransferSyntaxUID
        # An open file lets pydicom read one frame of many without the rest, unless it is deflated as a whole.
        if self.index is None:
            pixels = file.pixel_array
        elif syntax == DeflatedExplicitVRLittleEndian:
            pixels = pixel_array(read_file(self.path), index=self.index)
        else:
            with DicomStream(self.path) as stream:
                pixels = pixel_array(stream, index=self.index, transfer_syntax_uid=syntax)
        if self.values.palette:
            pixels = in_colours(pixels, file)
        return np.asarray(through_table(pixels, file) if self.values.table else pixels)


def read_frames(path: Path) -> list[Frame]:
    """Return the slices in one DICOM file, from its header alone; none when it is DICOM but not an image.

    Raises `UserError` when the header is damaged or states an impossible geometry, or the file ends before its pixels.
    """
    with parsing(path, "DICOM"):
        with DicomStream(path) as stream:
            file = read_stream(
                stream,
                stop_before_pixels=True,
                specific_tags=[*_TAGS.split(), *chain(*MARKS.values()), *_VECTORS.values(), *PRIVATE_TAGS],
            )
            # pydicom stops in front of the pixels, whose own header has 8 or 12 bytes.
            before = stream.tell() + (8 if file.original_encoding[0] else 12)
            left = max(stream.size - before, 0) if stream.inflated is None else stream.inflated
            pixels = _keyword_of_pixels(stream, file)
        if "Rows" not in file:
            kind = UID(file.file_meta.get("MediaStorageSOPClassUID") or file.get("SOPClassUID") or "").name
            if not kind or any(name in kind for name in _WITH_PIXELS):
                raise UserError(f"{path} is truncated: its header ends before the image; copy or export it again")
            return []
        usual = (file[tag] for tag in file.keys() if not tag.is_private)  # noqa: SIM118 - others may not be readable
        # A dictionary is faster than to look each up in pydicom.
        top = {element.keyword: element.value for element in usual}
        if top.get("DiffusionBValue") is None:
            top |= diffusion_of(file)
        count = int(top.get("NumberOfFrames") or 1)
        if tiled := _tiled(top, count, path):
            return [replace(_frame(top, path, None, pixels), problem=tiled)]
        check_pixels(path, file, count, left)
        if count == 1:
            frame = _frame(top, path, None, pixels)
            own = file.file_meta.get("ImplementationClassUID") == IMPLEMENTATION_UID
            # What ganatomy wrote has no place where its source has none.
            return [replace(frame, aside=None) if own and frame.aside == _PLACELESS else frame]
        if top.get("GridFrameOffsetVector"):
            return _dose_planes(top, path, count, pixels)
        groups = top.get("PerFrameFunctionalGroupsSequence") or []
        if not groups:  # all frames have one header, which takes long to read
            first = _frame(top, path, 0, pixels)
            return (
                _nuclear(first, top, count)
                if file.get("Modality") == "NM"
                else [replace(first, index=index) for index in range(count)]
            )
        if len(groups) != count:
            raise UserError(f"{path} describes {len(groups)} of {count} frames; copy or export it again")
        return [_frame(top, path, index, pixels) for index in range(count)]


def _keyword_of_pixels(stream: DicomStream, file: pydicom.FileDataset) -> str:
    """Return the attribute that holds the pixels, of a stream in front of them; a deflated one is past its end."""
    if stream.inflated is not None:
        real = file.get("PixelRepresentation") is None and int(file.get("BitsAllocated") or 0)
        return {32: "FloatPixelData", 64: "DoubleFloatPixelData"}.get(real, "PixelData")
    place = stream.tell()
    tag = stream.read(4)
    stream.seek(place)
    order = "little" if file.original_encoding[1] else "big"
    keyword = keyword_for_tag(int.from_bytes(tag[:2], order) << 16 | int.from_bytes(tag[2:], order))  # type: ignore[arg-type]
    return keyword if keyword in FLOATS else "PixelData"


def _tiled(top: Mapping[str, Any], count: int, path: Path) -> str | None:
    """Return why a whole slide cannot be used: its frames are tiles of one picture; None for other files."""
    rows, columns = (int(top.get(f"TotalPixelMatrix{name}") or 0) for name in ("Rows", "Columns"))
    if top.get("Modality") == "SEG" or (
        count == 1 and (rows, columns) in ((0, 0), (top.get("Rows"), top.get("Columns")))
    ):
        return None
    if not (rows and columns):
        return None
    return (
        f"{path} is a whole slide of {columns} x {rows} pixels in {count} tiles, which is not read as DICOM: "
        "export the region that is wanted as TIFF or PNG"
    )


def _nuclear(first: Frame, top: Mapping[str, Any], count: int) -> list[Frame]:
    """Return the frames of a nuclear medicine image, whose vectors number its windows, time slots, slices and so on.

    Frames that differ in a place, such as the slice, lie one thickness apart; others tell volumes apart.
    """
    vectors = {name: np.atleast_1d(several(top.get(keyword))) for name, keyword in _VECTORS.items() if top.get(keyword)}
    known = {name: numbers for name, numbers in vectors.items() if len(numbers) == count}
    if not known:
        return [replace(first, index=index) for index in range(count)]
    places = next((numbers for name, numbers in known.items() if name in _PLACES), np.ones(count))
    return [
        replace(
            first,
            index=index,
            location=(float(places[index]) - 1) * first.thickness,
            marks={**first.marks, **{name: float(numbers[index]) for name, numbers in known.items()}},
        )
        for index in range(count)
    ]


def _dose_planes(top: Mapping[str, Any], path: Path, count: int, pixels: str) -> list[Frame]:
    """Return the planes of a dose grid, each at its offset from the first along the normal (PS3.3 C.8.8.3.2)."""
    first = _frame(top, path, 0, pixels)
    offsets = np.atleast_1d(np.asarray(top["GridFrameOffsetVector"], np.float64))
    if len(offsets) != count or not np.isfinite(offsets).all():
        raise UserError(f"{path}: its GridFrameOffsetVector does not place its {count} frames; export it again")
    if first.position is None:
        return [replace(first, index=index) for index in range(count)]
    # Where the first offset is not 0, the offsets are the z coordinates of the planes.
    along = offsets - offsets[0]
    return [
        replace(first, index=index, position=first.position + step * first.normal) for index, step in enumerate(along)
    ]


def _frame(top: Mapping[str, Any], path: Path, index: int | None, pixels: str) -> Frame:
    groups = _functional_groups(top, index or 0)

    def get(keyword: str, default: Any = None) -> Any:
        value = groups[keyword] if keyword in groups else top.get(keyword)
        return default if value is None or value == "" else value

    position, orientation = get("ImagePositionPatient"), get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)
    modality = str(top.get("Modality") or "") or None  # a damaged header may have several
    values, padding, location = values_of(top, get, pixels, modality), get("PixelPaddingValue"), get("SliceLocation")
    spacing, rescale = _spacing(get), values.rescale
    _check_geometry(path, position, orientation, spacing, values)
    types = tuple(str(value).upper() for value in several(get("FrameType", get("ImageType"))))
    return Frame(
        path=path,
        index=index,
        uid=str(top.get("SOPInstanceUID") or ""),
        series=str(top.get("SeriesInstanceUID") or ""),
        description=str(top.get("SeriesDescription") or ""),
        number=(int(top.get("SeriesNumber") or 0), int(get("InstanceNumber", 0))),
        position=None if position is None else LPS_TO_RAS @ np.asarray(position, dtype=np.float64),
        location=float(location) if location is not None and np.isfinite(float(location)) else None,
        orientation=np.reshape(np.asarray(orientation, np.float64), (2, 3)) @ LPS_TO_RAS,
        spacing=spacing,
        thickness=_thickness(get),
        shape=(int(top["Rows"]), int(top["Columns"])),
        values=values,
        modality=modality,
        patient=str(top.get("PatientID") or "").strip() or None,
        padding=None if padding is None or values.table else float(padding) * rescale.slope + rescale.intercept,
        study=str(top.get("StudyInstanceUID") or ""),
        frame_of_reference=str(top.get("FrameOfReferenceUID") or "") or None,
        inverted=top.get("PhotometricInterpretation") == "MONOCHROME1",
        marks=marks_of(top, get),
        aside=_aside(types, modality, str(top.get("SOPClassUID") or ""), position is not None),
        problem=f"{path} is a mosaic, a picture of all slices of a volume side by side: convert the series to NIfTI, "
        "for instance with dcm2niix"
        if "MOSAIC" in types
        else None,
    )


def _spacing(get: Get) -> tuple[float, float] | None:
    """Return the distance between rows and between columns as stated first; None where none is, or only 0."""
    for name in _SPACINGS:
        stated = get(name)
        if stated is not None and any(float(step) for step in stated):
            rows, columns = stated
            return float(rows), float(columns)
    return None


def _check_geometry(
    path: Path, position: Any, orientation: Any, spacing: tuple[float, float] | None, values: Values
) -> None:
    """Refuse numbers that place no slice in space, or give no pixel a value."""
    right, down = np.reshape(np.asarray(orientation, np.float64), (2, 3))
    lengths = [right @ right, down @ down, 1 + right @ down]
    rescale = (values.rescale.slope, values.rescale.intercept)
    wrong = {
        "ImagePositionPatient": None
        if position is None or np.isfinite(np.asarray(position, float)).all()
        else position,
        "ImageOrientationPatient": None if np.allclose(lengths, 1, atol=SLANT) else orientation,
        "PixelSpacing": None if spacing is None or all(0 < step < np.inf for step in spacing) else spacing,
        values.stated: None if np.isfinite(rescale).all() and rescale[0] else rescale,
    }
    for name, value in wrong.items():
        if value is not None:
            told = ", ".join(str(number) for number in value)
            raise UserError(f"{path}: its {name} is {told}, which is impossible; copy or export it again")


def _thickness(get: Get) -> float:
    steps = [abs(float(get(name, 0.0))) for name in ("SpacingBetweenSlices", "SliceThickness")]
    return next((step for step in steps if 0 < step < np.inf), 1.0)


def _functional_groups(top: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return what the functional groups of enhanced multi-frame images say of a frame, by keyword.

    What is said of one frame comes before what is said of all, and both before the top of the file, where converters
    leave attributes that hold for some frames only.
    """
    found: dict[str, Any] = {}
    per_frame = top.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *(top.get("SharedFunctionalGroupsSequence") or [])):
        items = [groups, *(element.value[0] for element in groups if element.VR == "SQ" and element.value)]
        for element in (element for item in items for element in item):
            if element.keyword and element.value not in (None, ""):
                found.setdefault(element.keyword, element.value)
    return found


def _aside(types: Sequence[str], modality: str | None, sop_class: str, placed: bool) -> str | None:
    """Return why a frame is no image of a scan; None where it is one."""
    if "LOCALIZER" in types:
        return "localiser"
    if any(value in _CAPTURES or value.endswith(" PROT") for value in types):
        return "screen capture or dose page"
    if sop_class.startswith(_SECONDARY_CAPTURE) and modality in SLICED and not placed:
        return _PLACELESS
    return None
