"""DICOM writer: a new series that is marked as derived, with its sources and the model (PS3.3 C.7.6.1, C.12.1)."""

from __future__ import annotations

import copy
import datetime
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import format_number_as_ds

from ganatomy.errors import UserError
from ganatomy.images.dicom import read_file
from ganatomy.images.image import LPS_TO_RAS, Image
from ganatomy.images.paths import replacing_folder

# A root made from a UUID (PS3.5 B.2) needs no registration.
IMPLEMENTATION_UID = "2.25.327542966975912446904325834199825990013"
IMPLEMENTATION_NAME = "GANATOMY_1"

# Rounding is at most 1/32 HU, far below the noise of any CT; 16 bits then reach from -1024 to 3071 HU.
_HU_STEP, _HU_CENTRE = 1 / 16, 1024.0

_CLASS_OF_UNIT = {"HU": CTImageStorage, "a.u.": MRImageStorage}
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)

# Attributes that a series of another kind copies from its source: patient, study and frame of reference.
_SHARED = """
    AccessionNumber BodyPartExamined BurnedInAnnotation DeidentificationMethod
    DeidentificationMethodCodeSequence FrameOfReferenceUID IssuerOfPatientID LossyImageCompression
    LossyImageCompressionMethod LossyImageCompressionRatio PatientAge PatientBirthDate PatientID
    PatientIdentityRemoved PatientName PatientPosition PatientSex PatientSize PatientWeight
    PositionReferenceIndicator ReferringPhysicianName SeriesDescription SeriesNumber StudyDate
    StudyDescription StudyID StudyInstanceUID StudyTime
"""

# Attributes that are true of the source's pixels or file, and not of derived images.
_STALE = """
    BluePaletteColorLookupTableData BluePaletteColorLookupTableDescriptor CurveDate CurveTime
    DataSetTrailingPadding DigitalSignaturesSequence EncryptedAttributesSequence
    GreenPaletteColorLookupTableData GreenPaletteColorLookupTableDescriptor IconImageSequence
    LargestImagePixelValue LargestPixelValueInSeries MACParametersSequence ModalityLUTSequence
    NumberOfFrames OverlayDate OverlayTime PixelAspectRatio PixelData PixelPaddingRangeLimit
    PixelPaddingValue PlanarConfiguration RedPaletteColorLookupTableData
    RedPaletteColorLookupTableDescriptor RescaleIntercept RescaleSlope RescaleType
    SmallestImagePixelValue SmallestPixelValueInSeries
"""

# Type 2 attributes of the modules that every image has: they must be present and may be empty.
_MAY_BE_EMPTY = """
    AccessionNumber Manufacturer PatientBirthDate PatientID PatientName PatientSex
    ReferringPhysicianName StudyDate StudyID StudyTime
"""

# Type 2C where the body part is paired or unknown, forbidden where it is one of these.
_UNPAIRED = """
    ABDOMEN ABDOMENPELVIS AORTA BLADDER BRAIN CHEST CHESTABDOMEN CHESTABDPELVIS COCCYX CSPINE HEAD HEADNECK
    HEART JAW LIVER LSPINE NECK PANCREAS PELVIS PROSTATE SKULL SPINE SPLEEN SSPINE STOMACH THYROID TSPINE
    UTERUS WHOLEBODY
"""

# Attributes that the modules of one kind of image require at least.
_MINIMUM: dict[UID, dict[str, Any]] = {
    CTImageStorage: {"Modality": "CT", "KVP": None, "AcquisitionNumber": None},
    MRImageStorage: {
        "Modality": "MR",
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": None,
        "MRAcquisitionType": None,
        "RepetitionTime": None,
        "EchoTime": None,
        "EchoTrainLength": None,
    },
    SecondaryCaptureImageStorage: {"Modality": "OT", "ConversionType": "WSD", "PatientOrientation": None},
}
_IMAGE_TYPE_3: dict[UID, list[str]] = {CTImageStorage: ["AXIAL"], MRImageStorage: ["OTHER"]}


@dataclass(frozen=True)
class Derivation:
    """Description of how an image was derived from others, for its DICOM files.

    Attributes:
        description: One sentence on the processing of the source.
        model: Name of the trained model.
        identity: Identifier of this model, such as a hash of its weights.
        version: Version of the software.
        series_description: Name of the new series in a viewer, at most 64 characters.
        synthetic: Whether anatomy was generated rather than measured; sets Synthetic Data (0008,001C).
    """

    description: str
    model: str
    identity: str
    version: str
    series_description: str
    synthetic: bool = False


def is_own_dicom(path: Path) -> bool:
    """Return whether Ganatomy wrote a DICOM file, by the implementation that its meta header names."""
    try:
        meta = read_file_meta_info(path)
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return False
    return str(meta.get("ImplementationClassUID", "")) == IMPLEMENTATION_UID


def write_dicom(
    folder: Path | str, image: Image, derivation: Derivation | None = None, seed: str | None = None
) -> None:
    """Write an image as one new series of single-frame, uncompressed DICOM files, in slice order.

    From a DICOM CT or MR image, each slice keeps the attributes of its source file except private ones, overlays and
    those that the new pixels make untrue, and refers to it. From any other image, the series is a minimal one: CT for
    HU, MR for a.u., else Secondary Capture.

    Stored numbers are 16-bit. Integers are exact. Real HU are stored in steps of 1/16 HU (coarser, slice by
    slice, only where the values span more than 4096 HU); other real values in the finest power of two that
    spans the slice.

    Args:
        folder: New or empty folder for the files.
        image: Any image; lazy ones are computed slab by slab.
        derivation: Description of the processing; without it the files still state that they are derived, by Ganatomy.
        seed: Seed that makes the UIDs repeatable; random when None.

    Raises:
        UserError: Values do not fit 16 bits, are NaN, or channels are neither 1 nor 8-bit RGB.
    """
    if image.channels != 1 and (image.channels != 3 or image.dtype != np.uint8):
        raise UserError(
            f"{folder}: DICOM takes 1 channel, or 3 of 8 bits, not {image.channels} of {image.dtype}: write .nii.gz"
        )
    series = _Series(image, derivation or Derivation("Written by Ganatomy", "", "", "", ""), seed)
    with replacing_folder(Path(folder)) as temporary:
        index = 0
        for slab in image.slabs():
            for pixels in np.moveaxis(slab, 1, 0):
                series.slice(index, pixels).save_as(temporary / f"{index + 1:05d}.dcm", enforce_file_format=True)
                index += 1


class _Series:
    """Attributes that the slices of one output series share."""

    def __init__(self, image: Image, derivation: Derivation, seed: str | None) -> None:
        self._image = image
        self._derivation = derivation
        self._seed = seed
        self._now = datetime.datetime.now()
        self._positions = image.slice_positions
        self._read: tuple[Path, Dataset] | None = None
        first = self._source(0)
        self._kind = _sop_class(image, first)
        # Files may have blank UIDs; all series derived from such a study must get one new set of UIDs.
        origin = (first is not None and first.SOPInstanceUID) or seed
        self._shared = {
            "StudyInstanceUID": _uid(origin, "study"),
            "FrameOfReferenceUID": _uid(origin, "frame of reference"),
        }
        self._uid = _uid(seed, "series")

    def slice(self, index: int, pixels: NDArray[Any]) -> FileDataset:
        """Return the finished dataset of slice `index` from its (channels, rows, columns) values."""
        source = self._source(index)
        dataset = _template(source, self._kind)
        self._identify(dataset, index)
        self._describe(dataset, source)
        if self._is_placed():
            _place(dataset, self._image, self._positions[index])
        _put_pixels(dataset, pixels, self._image)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_NAME
        return FileDataset("", dataset, preamble=b"\0" * 128, file_meta=meta)

    def _source(self, index: int) -> Dataset | None:
        """Return the header of the source file of a slice: its own, or after resampling the nearest one."""
        header = self._image.header
        if header.kind != "dicom":
            return None
        if len(header.paths) != self._image.shape[0] and header.positions is not None:
            distances = np.linalg.norm(header.positions - self._positions[index], axis=1)
            index = int(distances.argmin())
        path = header.paths[min(index, len(header.paths) - 1)]
        if self._read is None or self._read[0] != path:
            self._read = path, _read_source(path)
        return self._read[1]

    def _identify(self, dataset: Dataset, index: int) -> None:
        dataset.SOPClassUID = self._kind
        dataset.SOPInstanceUID = _uid(self._seed, f"slice {index}")
        dataset.SeriesInstanceUID = self._uid
        for keyword, uid in self._shared.items():
            if not dataset.get(keyword):
                setattr(dataset, keyword, uid)
        dataset.InstanceNumber = index + 1
        dataset.SeriesNumber = min(int(dataset.get("SeriesNumber") or 0) + 1000, 2**31 - 1)
        date, time = self._now.strftime("%Y%m%d"), self._now.strftime("%H%M%S")
        for subject in ("InstanceCreation", "Content", "Series"):
            setattr(dataset, f"{subject}Date", date)
            setattr(dataset, f"{subject}Time", time)

    def _describe(self, dataset: Dataset, source: Dataset | None) -> None:
        derivation = self._derivation
        # A template copied from the source still has its image type, whose third value is about the view.
        view = list(dataset.get("ImageType") or [])[2:3] or _IMAGE_TYPE_3.get(self._kind, [])
        dataset.ImageType = ["DERIVED", "SECONDARY", *view]
        dataset.DerivationDescription = derivation.description[:1024]
        dataset.SeriesDescription = (derivation.series_description or derivation.description)[:64]
        if derivation.synthetic:
            dataset.SyntheticData = "YES"
        dataset.ContributingEquipmentSequence = [
            *(dataset.get("ContributingEquipmentSequence") or []),
            _equipment(derivation, self._now),
        ]
        if source is not None and source.SOPInstanceUID:
            reference = Dataset()
            reference.ReferencedSOPClassUID = source.SOPClassUID
            reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
            reference.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
            dataset.SourceImageSequence = [reference]

    def _is_placed(self) -> bool:
        """Return whether the position of the image is known, or its kind requires one."""
        header = self._image.header
        if self._kind in (CTImageStorage, MRImageStorage) or header.positions is not None:
            return True
        return header.kind not in ("dicom", "raster") or header.meaning.pixel_mm is not None


def _read_source(path: Path) -> Dataset:
    try:
        source = read_file(path, stop_before_pixels=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read any more: {error.strerror or error}") from error
    # De-identified files may have these blank in the dataset and correct in the meta header.
    source.SOPClassUID = source.get("SOPClassUID") or source.file_meta.get("MediaStorageSOPClassUID", "")
    source.SOPInstanceUID = source.get("SOPInstanceUID") or source.file_meta.get("MediaStorageSOPInstanceUID", "")
    if source.file_meta.TransferSyntaxUID in _LOSSY:
        source.LossyImageCompression = "01"
    source.decode()
    return source


def _sop_class(image: Image, source: Dataset | None) -> UID:
    """Return CT for HU, MR for a.u.; else the class of the source unless it is CT or MR; else Secondary Capture."""
    if image.channels == 1 and image.unit in _CLASS_OF_UNIT:
        return _CLASS_OF_UNIT[image.unit]
    if source is None or source.SOPClassUID in _CLASS_OF_UNIT.values() or _multi_frame(source):
        return SecondaryCaptureImageStorage
    colours = 3 if source.PhotometricInterpretation == "PALETTE COLOR" else source.get("SamplesPerPixel", 1)
    return UID(source.SOPClassUID if colours == image.channels else SecondaryCaptureImageStorage)


def _multi_frame(source: Dataset) -> bool:
    return int(source.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in source


def _template(source: Dataset | None, kind: UID) -> Dataset:
    """Return the source's attributes that hold for a derived image of this kind, completed to a legal set."""
    dataset = Dataset()
    if source is not None and source.SOPClassUID == kind:
        dataset.update(copy.deepcopy(source))
        _clean(dataset)
    elif source is not None:
        for keyword in _SHARED.split():
            if keyword in source:
                dataset[keyword] = copy.deepcopy(source[keyword])
    dataset.SpecificCharacterSet = "ISO_IR 192"
    needed = dict.fromkeys(_MAY_BE_EMPTY.split()) | _MINIMUM.get(kind, {})
    if dataset.get("BodyPartExamined") not in _UNPAIRED.split():
        needed["Laterality"] = None
    for keyword, value in needed.items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)
    return dataset


def _clean(dataset: Dataset) -> None:
    dataset.remove_private_tags()
    for element in list(dataset):
        curve_or_overlay = element.tag.group & 0xFF00 in (0x5000, 0x6000)
        if element.keyword in _STALE or curve_or_overlay or element.tag.element == 0:
            del dataset[element.tag]


def _equipment(derivation: Derivation, now: datetime.datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("109102", "Processing Equipment")]
    item.Manufacturer = "Ganatomy"
    item.ManufacturerModelName = derivation.model[:64]
    item.SoftwareVersions = derivation.version[:64]
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    identity = f" Model: {derivation.identity}" if derivation.identity else ""
    item.ContributionDescription = f"{derivation.description}{identity}"[:1024]
    return item


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _place(dataset: Dataset, image: Image, position: NDArray[np.float64]) -> None:
    """Write the geometry of a slice; the strings of the source are kept where they still hold."""
    step, down, right = (LPS_TO_RAS @ image.affine[:3, axis] for axis in range(3))
    spacing = float(np.linalg.norm(down)), float(np.linalg.norm(right))
    down, right = down / spacing[0], right / spacing[1]
    if abs(down @ right) > 1e-3:
        raise UserError(f"{image.header.label} has slanted pixels, which DICOM cannot express: write .nii.gz instead")
    distance = abs(float(np.cross(right, down) @ step))
    _put_numbers(dataset, "PixelSpacing", spacing)
    _put_numbers(dataset, "ImageOrientationPatient", (*right, *down))
    if _put_numbers(dataset, "ImagePositionPatient", LPS_TO_RAS @ position) and "SliceLocation" in dataset:
        del dataset.SliceLocation
    if image.shape[0] != len(image.header.paths) or not dataset.get("SliceThickness"):
        dataset.SliceThickness = format_number_as_ds(distance)
        if "SpacingBetweenSlices" in dataset:
            dataset.SpacingBetweenSlices = format_number_as_ds(distance)
    for keyword in ("PatientPosition", "PositionReferenceIndicator"):
        if keyword not in dataset:
            setattr(dataset, keyword, None)


def _put_numbers(dataset: Dataset, keyword: str, numbers: Sequence[float] | NDArray[np.float64]) -> bool:
    """Set a decimal-string attribute unless its value is equal already; return whether it changed."""
    if dataset.get(keyword) and np.allclose(dataset[keyword].value, numbers, rtol=1e-6, atol=1e-4):
        return False
    setattr(dataset, keyword, [format_number_as_ds(float(number)) for number in numbers])
    return True


def _put_pixels(dataset: Dataset, pixels: NDArray[Any], image: Image) -> None:
    """Store (channels, rows, columns) values."""
    colour = len(pixels) == 3
    if colour:
        stored, slope, intercept = np.moveaxis(pixels, 0, -1), "1", "0"
        dataset.PlanarConfiguration = 0
    else:
        stored, slope, intercept = _encode(pixels[0], image)
    bits = stored.dtype.itemsize * 8
    dataset.SamplesPerPixel = len(pixels)
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    data = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    if image.unit == "HU" or (slope, intercept) != ("1", "0"):
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.RescaleType = "HU" if image.unit == "HU" else "US"


def _encode(values: NDArray[Any], image: Image) -> tuple[NDArray[Any], str, str]:
    """Return 16-bit numbers with slope and intercept as DICOM will write them."""
    if values.dtype.kind in "iub":
        for dtype in (np.int16, np.uint16):
            if np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max:
                return values.astype(dtype), "1", "0"
        raise UserError(
            f"{image.header.label}: values from {values.min()} to {values.max()} do not fit the 16 bits of "
            "DICOM: write .nii.gz instead"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{image.header.label}: NaN or infinite values cannot be written as DICOM")
    low, high = float(values.min()), float(values.max())
    finest, centre = (_HU_STEP, _HU_CENTRE) if image.unit == "HU" else (0.0, 0.0)
    if finest and max(high - centre, centre - low) > 32767 * finest:
        centre = float(round((low + high) / 2))
    reach = max(high - centre, centre - low)
    step = max(2.0 ** math.ceil(math.log2(reach / 32767)), finest) if reach else 1.0
    # Decimal strings have 16 characters, so the step is rounded to what fits in there.
    slope = format_number_as_ds(step)
    stored = np.rint((values.astype(np.float64) - centre) / float(slope))
    return np.clip(stored, -32768, 32767).astype(np.int16), slope, format_number_as_ds(centre)


def _uid(seed: str | None, purpose: str) -> UID:
    """Return a UID in the UUID root: random, or determined by seed and purpose."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed} {purpose}") if seed else uuid.uuid4()
    return UID(f"2.25.{made.int}")
