"""DICOM reader: files become frames, frames become series, and a series becomes one lazily decoded image."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ganatomy.errors import Shortage, UserError
from ganatomy.images.image import LPS_TO_RAS, Header, Image, LazyArray, Rescale, uneven_steps
from ganatomy.images.parsing import check_size, fault, parsing

_PET_UNITS = {"BQML": "Bq/mL", "GML": "SUV"}
_TAGS = """
    BitsAllocated BitsStored Columns FrameOfReferenceUID ImageOrientationPatient ImagePositionPatient ImageType
    ImagerPixelSpacing InstanceNumber Modality NumberOfFrames PatientID PerFrameFunctionalGroupsSequence
    PhotometricInterpretation PixelPaddingValue PixelRepresentation PixelSpacing
    RedPaletteColorLookupTableDescriptor RescaleIntercept RescaleSlope RescaleType Rows SOPClassUID
    SOPInstanceUID SamplesPerPixel SeriesDescription SeriesInstanceUID SeriesNumber
    SharedFunctionalGroupsSequence SliceThickness SpacingBetweenSlices SpecificCharacterSet StudyInstanceUID Units
"""


_UNCOMPRESSED = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
_WITH_PIXELS = ("Image Storage", "Segmentation Storage", "Parametric Map Storage", "RT Dose Storage")
"""Parts of the names of classes of DICOM files that hold pixels."""

_PIXELS = b"\xe0\x7f\x10\0"
"""Tag of the pixels."""

LONGEST_HEADER = 16 << 20
"""Most bytes of the header of a deflated file; pydicom takes seconds for as many that are repeated."""
MOST_FRAMES = 100_000
"""Most frames of one file that are read."""
SLANT = 0.02
"""Largest difference from 1 of squared lengths of the directions of rows and columns, and of their product from 0."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Header fields of one slice: a whole file, or one frame of a multi-frame file.

    Attributes:
        path: File of the slice.
        index: Frame number in the file, or None for a single-frame file.
        series: SeriesInstanceUID, "" when blank.
        description: SeriesDescription or "".
        number: Series and instance number, which order slices without a position.
        position: Centre of the first pixel, mm, RAS+; None when the file states none.
        orientation: Direction of increasing column index and of increasing row index, RAS+, (2, 3).
        spacing: Distance between (rows, columns) in mm.
        thickness: Distance to the next slice as the header states it, mm.
        shape: (rows, columns).
        stored: Type of the decoded pixels, with the (lowest, highest) value that the header allows.
        rescale: Map from decoded pixels to values.
        study: StudyInstanceUID, "" when blank.
        frame_of_reference: FrameOfReferenceUID: slices that share it share their coordinates.
        inverted: Whether low values are shown bright (MONOCHROME1).
    """

    path: Path
    index: int | None
    series: str
    description: str
    number: tuple[int, int]
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float
    shape: tuple[int, int]
    channels: int
    stored: tuple[np.dtype[Any], int, int]
    rescale: Rescale
    unit: str | None
    modality: str | None
    patient: str | None
    padding: float | None
    study: str = ""
    frame_of_reference: str | None = None
    inverted: bool = False

    @property
    def depth(self) -> float:
        """Position along the slice normal in mm; 0 without a position."""
        return 0.0 if self.position is None else float(self.normal @ self.position)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector from slice to slice; towards the head for axial slices."""
        return np.cross(self.orientation[0], self.orientation[1])

    def decode(self) -> NDArray[Any]:
        """Return pixel values after the rescale, (channels, rows, columns).

        Raises `UserError` when the pixels are missing, truncated or in an unknown compression.
        """
        with parsing(self.path, "pixels of DICOM"):
            pixels = self._pixels()
        pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        if pixels.shape != (self.channels, *self.shape):
            raise UserError(f"{self.path} decodes to {pixels.shape} where its header says {self.shape}")
        stored, low, high = self.stored
        return self.rescale.apply(pixels, self.rescale.dtype(stored, low, high))

    def _pixels(self) -> NDArray[Any]:
        file = read_file(self.path, stop_before_pixels=self.index is not None)
        # A path lets pydicom read one frame of many without the rest of the file.
        if self.index is None:
            pixels = file.pixel_array
        else:
            with DicomStream(self.path) as stream:
                pixels = pixel_array(stream, index=self.index)
        if file.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, file)
        return np.asarray(pixels)


class DicomStream(io.BufferedReader):
    """A file of which no more bytes are asked for than it has, since Python reserves memory for all that are asked for.

    Attributes:
        inflated: number of bytes of a deflated file once it is inflated; None for others.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path, self.size = path, path.stat().st_size
        self.inflated: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; of a deflated file only where it is small enough once it is inflated."""
        rest = max(self.size - self.tell(), 0)
        if size is not None and size >= 0:
            return super().read(min(size, rest))
        data = super().read(rest)  # pydicom reads all the rest only where it inflates it
        self.inflated = self._inflated(data)
        return data

    def _inflated(self, data: bytes) -> int:
        inflater, number, head = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while data and not inflater.eof:
            part = inflater.decompress(data, 1 << 20)
            number += len(part)
            check_size(self._path, number, compressed=True)
            head = head if _PIXELS in head else head[-len(_PIXELS) :] + part
            if number > LONGEST_HEADER and _PIXELS not in head:
                raise UserError(f"{self._path}: its header declares more than {LONGEST_HEADER} bytes; export it again")
            data = inflater.unconsumed_tail
        return number


def first_bytes(path: Path) -> bytes:
    """Return the first 132 bytes of a file, the preamble and the mark of DICOM; raises `UserError` where it cannot."""
    with parsing(path, "DICOM"), path.open("rb") as file:
        return file.read(132)


def is_dicom(path: Path) -> bool:
    """Return whether a file starts like DICOM: with its preamble, or else with a plausible first element.

    Raises:
        UserError: The file is empty, or cannot be read.
    """
    if reason := fault(path):
        raise UserError(reason)
    head = first_bytes(path)
    if head[128:] == b"DICM":
        return True
    # Little-endian tags, group 2 (meta header) or 8, low element.
    return len(head) == 132 and head[:2] in (b"\x02\0", b"\x08\0") and head[2] <= 0x20 and head[3] == 0


def read_file(path: Path, **options: Any) -> pydicom.FileDataset:
    """Read a whole DICOM file, including one without meta header."""
    with DicomStream(path) as stream:
        return _read(stream, **options)


def _read(stream: DicomStream, **options: Any) -> pydicom.FileDataset:
    file = pydicom.dcmread(stream, force=True, **options)
    if "TransferSyntaxUID" not in file.file_meta:
        implicit = file.original_encoding[0]
        file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return file


def read_frames(path: Path) -> list[Frame]:
    """Return the slices in one DICOM file, from its header alone; none when it is DICOM but not an image.

    Raises `UserError` when the header is damaged or states an impossible geometry, or the file ends before its pixels.
    """
    with parsing(path, "DICOM"):
        with DicomStream(path) as stream:
            file = _read(stream, stop_before_pixels=True, specific_tags=_TAGS.split())
            # pydicom stops in front of the pixels, whose own header has 8 or 12 bytes.
            before = stream.tell() + (8 if file.original_encoding[0] else 12)
            left = max(stream.size - before, 0) if stream.inflated is None else stream.inflated
        if "Rows" not in file:
            kind = UID(file.file_meta.get("MediaStorageSOPClassUID") or file.get("SOPClassUID") or "").name
            if not kind or any(name in kind for name in _WITH_PIXELS):
                raise UserError(f"{path} is truncated: its header ends before the image; copy or export it again")
            return []
        count = int(file.get("NumberOfFrames") or 1)
        _check_pixels(path, file, count, left)
        if count == 1:
            return [_frame(file, path, None)]
        groups = file.get("PerFrameFunctionalGroupsSequence") or []
        if not groups:  # all frames have one header, which takes long to read
            first = _frame(file, path, 0)
            return [replace(first, index=index) for index in range(count)]
        if len(groups) != count:
            raise UserError(f"{path} describes {len(groups)} of {count} frames; copy or export it again")
        return [_frame(file, path, index) for index in range(count)]


def series_of(path: Path) -> str | None:
    """Return the SeriesInstanceUID of a damaged file; None where it has none that can be read."""
    if fault(path):
        return None
    try:
        with parsing(path, "DICOM"):
            file = read_file(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            return str(file.get("SeriesInstanceUID") or "") or None
    except Shortage:
        raise
    except UserError:
        return None


def _check_pixels(path: Path, file: pydicom.FileDataset, count: int, left: int) -> None:
    """Check the sizes that a header states, alone and against the bytes that are left for the pixels."""
    sizes = {name: int(file.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel")} | {
        "NumberOfFrames": count,
        "BitsAllocated": int(file.BitsAllocated),
    }
    stored = int(file.get("BitsStored") or file.BitsAllocated)
    impossible = (
        min(int(file.Rows), int(file.Columns), *sizes.values()) < 1
        or sizes["SamplesPerPixel"] not in (1, 3, 4)
        or count > MOST_FRAMES
        or not 1 <= stored <= sizes["BitsAllocated"]
    )
    if impossible:
        told = ", ".join(f"{name} {value}" for name, value in sizes.items())
        raise UserError(f"{path} states impossible sizes ({told}, BitsStored {stored}); copy or export it again")
    if not left:
        raise UserError(f"{path} is truncated: its header ends before the pixels; copy or export it again")
    compressed = file.file_meta.TransferSyntaxUID not in _UNCOMPRESSED
    bits = prod(sizes.values())
    if file.get("PhotometricInterpretation") == "YBR_FULL_422" and not compressed:
        bits = bits * 2 // 3  # neighbouring pixels share their colour
    check_size(path, (bits + 7) // 8, left, compressed=compressed)


def _frame(file: pydicom.Dataset, path: Path, index: int | None) -> Frame:
    layers = _layers(file, index or 0)

    def get(keyword: str, default: Any = None) -> Any:
        values = (layer.get(keyword) for layer in layers)
        return next((value for value in values if value not in (None, "")), default)

    position, orientation = get("ImagePositionPatient"), get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)
    rescale, stored, channels = _values(file, get)
    padding = get("PixelPaddingValue")
    rows, columns = get("PixelSpacing", get("ImagerPixelSpacing", (1.0, 1.0)))
    modality = str(get("Modality", "")) or None  # a damaged header may have several
    _check_geometry(path, position, orientation, (rows, columns), (rescale.slope, rescale.intercept))
    return Frame(
        path=path,
        index=index,
        series=str(get("SeriesInstanceUID", "")),
        description=str(get("SeriesDescription", "")),
        number=(int(get("SeriesNumber", 0)), int(get("InstanceNumber", 0))),
        position=None if position is None else LPS_TO_RAS @ np.asarray(position, dtype=np.float64),
        orientation=np.reshape(np.asarray(orientation, np.float64), (2, 3)) @ LPS_TO_RAS,
        spacing=(float(rows), float(columns)),
        thickness=_thickness(get),
        shape=(int(file.Rows), int(file.Columns)),
        channels=channels,
        stored=stored,
        rescale=rescale,
        unit=_unit(modality, get),
        modality=modality,
        patient=str(get("PatientID", "")).strip() or None,
        padding=None if padding is None else float(padding) * rescale.slope + rescale.intercept,
        study=str(get("StudyInstanceUID", "")),
        frame_of_reference=str(get("FrameOfReferenceUID", "")) or None,
        inverted=get("PhotometricInterpretation") == "MONOCHROME1",
    )


def _check_geometry(
    path: Path, position: Any, orientation: Any, spacing: tuple[Any, Any], rescale: tuple[float, float]
) -> None:
    """Refuse numbers that place no slice in space, or give no pixel a value."""
    right, down = np.reshape(np.asarray(orientation, np.float64), (2, 3))
    lengths = [right @ right, down @ down, 1 + right @ down]
    wrong = {
        "ImagePositionPatient": None
        if position is None or np.isfinite(np.asarray(position, float)).all()
        else position,
        "ImageOrientationPatient": None if np.allclose(lengths, 1, atol=SLANT) else orientation,
        "PixelSpacing": None if all(0 < float(step) < np.inf for step in spacing) else spacing,
        "RescaleSlope and RescaleIntercept": None if np.isfinite(rescale).all() and rescale[0] else rescale,
    }
    for name, value in wrong.items():
        if value is not None:
            told = ", ".join(str(number) for number in value)
            raise UserError(f"{path}: its {name} is {told}, which is impossible; copy or export it again")


def _thickness(get: Any) -> float:
    steps = [abs(float(get(name, 0.0))) for name in ("SpacingBetweenSlices", "SliceThickness")]
    return next((step for step in steps if 0 < step < np.inf), 1.0)


def _layers(file: pydicom.Dataset, index: int) -> list[pydicom.Dataset]:
    """Return the dataset, and for enhanced multi-frame images the functional groups of one frame and of all."""
    layers = [file]
    per_frame = file.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *(file.get("SharedFunctionalGroupsSequence") or [])):
        layers += [element.value[0] for element in groups if element.VR == "SQ" and element.value]
    return layers


def _values(file: pydicom.Dataset, get: Any) -> tuple[Rescale, tuple[np.dtype[Any], int, int], int]:
    """Return rescale, stored type with its limits, and channels."""
    photometric = get("PhotometricInterpretation", "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        bits = file.RedPaletteColorLookupTableDescriptor[2]
        return Rescale(), (np.dtype(f"u{bits // 8}"), 0, 2**bits - 1), 3
    bits, signed = int(get("BitsStored", file.BitsAllocated)), int(get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = np.dtype(f"{'i' if signed else 'u'}{max(file.BitsAllocated // 8, 1)}"), low, high
    slope, intercept = float(get("RescaleSlope", 1.0)), float(get("RescaleIntercept", 0.0))
    return Rescale(slope, intercept), stored, int(get("SamplesPerPixel", 1))


def _unit(modality: str | None, get: Any) -> str | None:
    if modality == "CT":
        # Dual-energy maps are CT, too, and state their quantity (PS3.3 C.11.1.1.2); "US" is unspecified.
        kind = str(get("RescaleType", "HU"))
        return None if get("RescaleIntercept") is None else "HU" if kind == "US" else kind
    if modality == "PT":
        units = str(get("Units", ""))
        return _PET_UNITS.get(units, units) or None
    return "a.u." if modality == "MR" else None


def group(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group frames into series, each in slice order.

    Slices of a series share SeriesInstanceUID and orientation, so localisers are series of their own; files without a
    position are, too, because two radiographs need not be neighbours.
    """
    series: list[list[Frame]] = []
    for frame in frames:
        home = next((members for members in series if _belongs(frame, members[0])), None)
        if home is None:
            series.append([frame])
        else:
            home.append(frame)
    for members in series:
        members.sort(key=lambda frame: (frame.depth, frame.number, frame.index or 0, frame.path.name))
    return sorted(series, key=lambda members: (members[0].number[0], members[0].series, str(members[0].path)))


def _belongs(frame: Frame, other: Frame) -> bool:
    if frame.path == other.path and frame.position is None:
        return True
    if frame.series != other.series:
        return False
    if frame.position is not None and other.position is not None:
        return np.allclose(frame.orientation, other.orientation, atol=1e-3)
    # A slice that lost its position must not be lost to its series, which `mismatch` then refuses.
    either = frame.position is not None or other.position is not None
    return either and bool(frame.series) and frame.shape == other.shape


def mismatch(frames: Sequence[Frame]) -> str | None:
    """Return which slice of a series cannot belong to the others, with the reason; None where all do."""
    properties: dict[str, Callable[[Frame], Any]] = {
        "size": lambda frame: f"{frame.shape[0]}x{frame.shape[1]} pixels of {frame.channels} channels",
        "patient": lambda frame: frame.patient,
        "modality": lambda frame: frame.modality,
        "unit": lambda frame: frame.unit,
        "pixel spacing": lambda frame: frame.spacing,
        "position": lambda frame: "a position" if frame.position is not None else "no position",
    }
    for name, value in properties.items():
        usual = Counter(map(value, frames)).most_common(1)[0][0]
        for frame in frames:
            own = value(frame)
            if own != usual and not (name == "pixel spacing" and np.allclose(own, usual, rtol=1e-3)):
                # Identities of patients do not belong on screens.
                told = "another patient" if name == "patient" else f"{own} where the others have {usual}"
                return f"{frame.path} has {told}, though it is of their series: move it to a folder of its own"
    return None


def open_series(frames: Sequence[Frame], uneven: bool = False) -> Image:
    """Return the image made of sorted frames that have no `mismatch`, without decoding any.

    Raises `UserError` when the frames are not evenly spaced and `uneven` does not allow that.
    """
    first = frames[0]
    positions = _positions(frames)
    if positions is not None and not uneven:
        _check_even(frames, positions)
    affine, offsets = _geometry(frames, positions)
    header = Header(
        kind="dicom",
        paths=tuple(frame.path for frame in frames),
        modality=first.modality,
        subject=first.patient,
        padding=first.padding,
        positions=positions,
        frame_numbers=tuple(frame.index + 1 for frame in frames if frame.index is not None),
        frame_of_reference=first.frame_of_reference,
        inverted=first.inverted,
    )
    return Image(DicomArray(frames), affine, first.unit, header, offsets)


def _positions(frames: Sequence[Frame]) -> NDArray[np.float64] | None:
    positions = [frame.position for frame in frames if frame.position is not None]
    return np.stack(positions) if len(positions) == len(frames) else None


def _geometry(
    frames: Sequence[Frame], positions: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return the affine through the first and last slice, and the offset of each slice's position from it."""
    first, last = frames[0], len(frames) - 1
    affine = np.eye(4)
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 2] = first.orientation[0] * first.spacing[1]
    affine[:3, 0] = first.normal * first.thickness
    if positions is None:
        return affine, None
    affine[:3, 3] = positions[0]
    if last and np.linalg.norm(positions[-1] - positions[0]) > 1e-3:
        affine[:3, 0] = (positions[-1] - positions[0]) / last
    offsets = positions - (affine[:3, 3] + np.arange(last + 1)[:, None] * affine[:3, 0])
    return affine, offsets if np.abs(offsets).max() > 1e-4 else None


def _check_even(frames: Sequence[Frame], positions: NDArray[np.float64]) -> None:
    wrong = np.flatnonzero(uneven_steps(positions))
    if not len(wrong):
        return
    way = positions[-1] - positions[0]
    length = np.linalg.norm(way)
    along = positions @ (way / length if length > 1e-3 else frames[0].normal)
    before, after = wrong[0], wrong[0] + 1
    gap, usual = along[after] - along[before], np.median(np.diff(along))
    raise UserError(
        f"{frames[0].path.parent} is not evenly spaced: {frames[before].path.name} at {along[before]:.2f} mm "
        f"and {frames[after].path.name} at {along[after]:.2f} mm are {gap:.2f} mm apart where slices usually "
        f"are {usual:.2f} mm apart ({len(wrong)} such gaps): restore missing slices or remove doubled ones, "
        "or give --uneven to process slice by slice, each at its own position"
    )


class DicomArray(LazyArray):
    """Lazy array of the pixels of a series; each slab decodes its own slices only."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = tuple(frames)
        rows, columns = frames[0].shape
        self.shape = (frames[0].channels, len(frames), rows, columns)
        types = {frame.rescale.dtype(*frame.stored) for frame in frames}
        joint = np.result_type(*types)
        self.dtype = np.dtype(np.float32) if joint.kind == "f" else joint

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop`; raises `UserError` for a file that cannot be decoded."""
        frames = self._frames[start:stop]
        channels, _, rows, columns = self.shape
        slab = np.empty((channels, len(frames), rows, columns), self.dtype)
        for index, frame in enumerate(frames):
            slab[:, index] = frame.decode()
        return slab
