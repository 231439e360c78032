"""DICOM writer: a new series that is marked as derived, with its sources and the model (PS3.3 C.7.6.1, C.12.1)."""

from __future__ import annotations

import copy
import datetime
import re
import tempfile
import uuid
from collections.abc import Iterator
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
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)

from ganatomy.errors import UserError
from ganatomy.images.dicom import IMPLEMENTATION_UID
from ganatomy.images.dicom_pixels import Encoding, encoding_of
from ganatomy.images.dicom_planes import place, put_numbers
from ganatomy.images.dicom_profile import BasicProfile
from ganatomy.images.dicom_source import SourceFiles, SourceFrame, code
from ganatomy.images.image import Image
from ganatomy.images.paths import replacing_folder

IMPLEMENTATION_NAME = "GANATOMY_1"

_CLASS_OF_UNIT = {"HU": CTImageStorage, "a.u.": MRImageStorage}
_PET_UNITS = {"SUV": "GML", "Bq/mL": "BQML"}
_MODALITIES = {CTImageStorage: "CT", MRImageStorage: "MR", PositronEmissionTomographyImageStorage: "PT"}
SECTIONAL = tuple(_MODALITIES)
"""Classes whose images are slices with a place in the patient."""
_XRAY = (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
# Classes whose images must state a slope and an intercept, also where these are 1 and 0.
_RESCALED = (CTImageStorage, PositronEmissionTomographyImageStorage, *_XRAY)

# Attributes that a series of another kind or contrast copies from its source: patient, study and place.
_SHARED = """
    AccessionNumber AnatomicRegionSequence BodyPartExamined BurnedInAnnotation DeidentificationMethod
    DeidentificationMethodCodeSequence FrameOfReferenceUID ImageOrientationPatient IssuerOfPatientID Laterality
    LongitudinalTemporalInformationModified LossyImageCompression LossyImageCompressionMethod
    LossyImageCompressionRatio NumberOfTemporalPositions PatientAge PatientBirthDate PatientID
    PatientIdentityRemoved PatientName PatientPosition PatientSex PatientSize PatientWeight
    PositionReferenceIndicator ReferringPhysicianName SeriesDescription SeriesNumber StudyDate
    StudyDescription StudyID StudyInstanceUID StudyTime TemporalPositionIdentifier
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

# Values that highdicom takes; it refuses a whole file for others, which are not needed.
_STRICT = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": r"[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"(\d\d){1,3}(\.\d{1,6})?",
}

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
    PositronEmissionTomographyImageStorage: {
        "Modality": "PT",
        "SeriesType": ["STATIC", "IMAGE"],
        "CountsSource": "EMISSION",
        "DecayCorrection": "NONE",
        "CorrectedImage": None,
        "CollimatorType": None,
        "FrameReferenceTime": 0,
        "ActualFrameDuration": None,
        "AcquisitionDate": None,
        "AcquisitionTime": None,
        "RadiopharmaceuticalInformationSequence": None,
        "PatientOrientationCodeSequence": None,
        "PatientGantryRelationshipCodeSequence": None,
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
        new_contrast: Whether the image shows another contrast than its source, whose acquisition then does not describe
            it; such images are synthetic, too.
        window: Lowest and highest value that a viewer should show, for images of another contrast.
        number: Number of the output among those of its source, from 1, by which their series numbers differ.
        profile: De-identification of what is passed on from the headers of the source; None passes identities on.
    """

    description: str
    model: str
    identity: str
    version: str
    series_description: str
    synthetic: bool = False
    new_contrast: bool = False
    window: tuple[float, float] | None = None
    number: int = 1
    profile: BasicProfile | None = None


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

    From a DICOM image, each slice keeps the modality, the class and the attributes of its source except private ones,
    overlays and those that the new pixels make untrue, and refers to its frame. Frames of multi-frame files become
    files of the single-frame class of their modality, or Secondary Capture where there is none. CT, MR and PET of
    unknown pixel size become Secondary Captures, which need not state one; slices without a position stay without it.
    An image of another contrast than its source keeps patient, study and place only. From any other image, the series
    is a minimal one: CT for HU, MR for a.u., PET for SUV and Bq/mL, else Secondary Capture.

    Stored numbers have 8 or 16 bits. Integers are exact. Real HU are stored in steps of 1/16 HU (coarser, slice by
    slice, only where the values span more than 4096 HU), real PET values in the finest step of each slice. Other real
    values are stored in one step for the whole series: 1 for MR images that span at least 1024, without a rescale, else
    the finest power of two.

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
        for index, (pixels, encoding) in enumerate(series.planes(temporary)):
            series.slice(index, pixels, encoding).save_as(temporary / f"{index + 1:05d}.dcm", enforce_file_format=True)


class _Series:
    """Attributes that the slices of one output series share."""

    def __init__(self, image: Image, derivation: Derivation, seed: str | None) -> None:
        self._image = image
        self._derivation = derivation
        self._seed = seed
        self._positions = image.slice_positions
        self._sources = SourceFiles(image, derivation.profile)
        source = self._sources.frame(0)
        self._now = self._sources.now()
        first = source.header if source else None
        # What the values are, and so how they are stored; files of an unknown scale may be of another class.
        self._content = _sop_class(image, first, derivation)
        self._kind = self._content if image.header.scaled else _without_spacing(self._content)
        self._shared = _common_uids(first, seed)
        if not self._is_placed():
            del self._shared["FrameOfReferenceUID"]
        self._uid = make_uid(seed, "series")
        self._number = series_number(first or Dataset(), image, derivation)

    def planes(self, scratch: Path) -> Iterator[tuple[NDArray[Any], Encoding]]:
        """Yield the (channels, rows, columns) values of every slice and their encoding.

        Where the encoding depends on all slices, these are computed first, into a file without a name in the folder
        ``scratch``.
        """
        image, streamed = self._image, self._content in (CTImageStorage, PositronEmissionTomographyImageStorage)
        planes = (plane for slab in image.slabs() for plane in np.moveaxis(slab, 1, 0))
        if streamed and image.dtype.kind == "f":
            yield from ((plane, encoding_of([plane], image, self._content)) for plane in planes)
        elif image.dtype in (np.uint8, np.int16, np.uint16):
            yield from ((plane, Encoding(image.dtype)) for plane in planes)
        else:
            slices, *plane_shape = image.shape
            with tempfile.TemporaryFile(dir=scratch) as file:
                computed = np.memmap(file, image.dtype, "w+", shape=(slices, image.channels, *plane_shape))
                for index, plane in enumerate(planes):
                    computed[index] = plane
                encoding = encoding_of(computed, image, self._content)
                yield from ((np.asarray(plane), encoding) for plane in computed)
                del computed  # before its file is closed

    def slice(self, index: int, pixels: NDArray[Any], encoding: Encoding) -> FileDataset:
        """Return the finished dataset of slice `index` from its (channels, rows, columns) values."""
        source = self._sources.frame(index)
        dataset = _template(source.header if source else None, self._kind, self._derivation.new_contrast)
        if self._kind != self._content:
            dataset.Modality = _MODALITIES[self._content]
            if self._content == PositronEmissionTomographyImageStorage and source is not None:
                dataset.Units = source.header.get("Units")
                _state_pet_unit(dataset, self._image.unit)
        self._identify(dataset, index)
        self._describe(dataset, source)
        if self._is_placed():
            place(dataset, self._image, self._positions[index])
        if self._kind == PositronEmissionTomographyImageStorage:
            dataset.ImageIndex, dataset.NumberOfSlices = index + 1, self._image.shape[0]
            _state_pet_unit(dataset, self._image.unit)
        if self._derivation.profile is not None:
            self._derivation.profile.mark(dataset)
        self._put_pixels(dataset, encoding.stored(pixels), encoding)
        return own_file(dataset)

    def _identify(self, dataset: Dataset, index: int) -> None:
        dataset.SOPClassUID = self._kind
        dataset.SOPInstanceUID = make_uid(self._seed, f"slice {index}")
        dataset.SeriesInstanceUID = self._uid
        for keyword, uid in self._shared.items():
            if not dataset.get(keyword):
                setattr(dataset, keyword, uid)
        dataset.InstanceNumber = index + 1
        dataset.SeriesNumber = self._number
        date, time = self._now.strftime("%Y%m%d"), self._now.strftime("%H%M%S")
        for subject in ("InstanceCreation", "Content", "Series"):
            setattr(dataset, f"{subject}Date", date)
            setattr(dataset, f"{subject}Time", time)

    def _describe(self, dataset: Dataset, source: SourceFrame | None) -> None:
        derivation = self._derivation
        # A template copied from the source still has its image type, whose further values are about the view.
        view = list(dataset.get("ImageType") or [])[2:] or _IMAGE_TYPE_3.get(self._kind, [])
        pixels = "PRIMARY" if self._kind == PositronEmissionTomographyImageStorage else "SECONDARY"
        dataset.ImageType = ["DERIVED", pixels, *view]
        dataset.DerivationDescription = derivation.description[:1024]
        dataset.SeriesDescription = (derivation.series_description or derivation.description)[:64]
        if derivation.synthetic or derivation.new_contrast:
            dataset.SyntheticData = "YES"
        dataset.ContributingEquipmentSequence = [
            *(dataset.get("ContributingEquipmentSequence") or []),
            equipment(derivation, self._now),
        ]
        if source is not None and source.reference is not None:
            dataset.SourceImageSequence = [source.reference]

    def _is_placed(self) -> bool:
        """Return whether the position of the image is known, or its kind requires one."""
        header = self._image.header
        if self._kind in SECTIONAL or header.positions is not None:
            return True
        return header.kind != "dicom" and header.scaled

    def _put_pixels(self, dataset: Dataset, stored: NDArray[Any], encoding: Encoding) -> None:
        """Set (channels, rows, columns) stored numbers, what they mean, and how they are shown."""
        colour = len(stored) == 3
        dataset.SamplesPerPixel = len(stored)
        stored = np.moveaxis(stored, 0, -1) if colour else stored[0]
        if colour:
            dataset.PlanarConfiguration = 0
        bits = stored.dtype.itemsize * 8
        inverted = self._image.header.inverted and not self._derivation.new_contrast
        dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME1" if inverted else "MONOCHROME2"
        if "PresentationLUTShape" in dataset:
            dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
        if self._derivation.window is not None and not colour:
            low, high = self._derivation.window
            put_numbers(dataset, "WindowCenter", [(low + high) / 2])
            put_numbers(dataset, "WindowWidth", [high - low])
        dataset.Rows, dataset.Columns = stored.shape[:2]
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit = bits - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        data = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("<")).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        if not colour and (self._kind in _RESCALED or self._image.unit == "HU" or not encoding.plain):
            dataset.RescaleSlope, dataset.RescaleIntercept = encoding.slope, encoding.intercept
            if self._kind != PositronEmissionTomographyImageStorage:
                dataset.RescaleType = "HU" if self._image.unit == "HU" else "US"


def _state_pet_unit(dataset: Dataset, unit: str | None) -> None:
    """Set the unit of PET, where an SUV is one by body weight."""
    if unit not in _PET_UNITS:
        return
    dataset.Units = _PET_UNITS[unit]
    if unit == "SUV":
        dataset.SUVType = "BW"
    elif "SUVType" in dataset:
        del dataset.SUVType


def _sop_class(image: Image, source: Dataset | None, derivation: Derivation) -> UID:
    """Return the class of the output files.

    It is CT for HU, and MR for a.u. and PET for its units unless the source is no sectional image; else the class of
    the source where that is neither CT nor MR and holds as many channels; else Secondary Capture.
    """
    units = _CLASS_OF_UNIT | dict.fromkeys(_PET_UNITS, PositronEmissionTomographyImageStorage)
    by_unit = units.get(image.unit or "") if image.channels == 1 else None
    if source is None:
        return by_unit or SecondaryCaptureImageStorage
    own = UID(source.SOPClassUID)
    if by_unit and (image.unit == "HU" or own in ("", *SECTIONAL, SecondaryCaptureImageStorage)):
        return by_unit
    if not own or own in _CLASS_OF_UNIT.values() or derivation.new_contrast:
        return SecondaryCaptureImageStorage
    colours = 3 if source.get("PhotometricInterpretation") == "PALETTE COLOR" else source.get("SamplesPerPixel", 1)
    return own if colours == image.channels else SecondaryCaptureImageStorage


def _without_spacing(content: UID) -> UID:
    """Return the class for images whose distance of pixels is unknown.

    Files of slices must state a distance, and the one that is counted with would be taken for a measured one. Secondary
    Captures may leave it out; they keep modality, places and the meaning of the values, and lose the acquisition.
    """
    return SecondaryCaptureImageStorage if content in SECTIONAL else content


def _template(source: Dataset | None, kind: UID, new_contrast: bool) -> Dataset:
    """Return the source's attributes that hold for a derived image of this kind, completed to a legal set."""
    dataset = Dataset()
    if source is not None and source.SOPClassUID == kind and not new_contrast:
        dataset.update(copy.deepcopy(source))
        _clean(dataset)
    elif source is not None:
        for keyword in _SHARED.split():
            if keyword in source:
                dataset[keyword] = copy.deepcopy(source[keyword])
        if kind == SecondaryCaptureImageStorage and source.SOPClassUID not in _CLASS_OF_UNIT.values():
            # Doses are stored in a way of their own, which readers expect under their modality.
            dataset.Modality = source.get("Modality") if source.get("Modality") not in (None, "", "RTDOSE") else "OT"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in (dict.fromkeys(_MAY_BE_EMPTY.split()) | _MINIMUM.get(kind, {})).items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)
    place_in_body(dataset, dataset)
    return dataset


def place_in_body(dataset: Dataset, source: Dataset) -> None:
    """Set the part of the body that a source states, and the side of paired or unknown parts, which may be blank."""
    part, side = source.get("BodyPartExamined"), source.get("Laterality")
    if part:
        dataset.BodyPartExamined = part
    if part not in _UNPAIRED.split() and "ImageLaterality" not in source:
        dataset.Laterality = side


def _clean(dataset: Dataset) -> None:
    dataset.remove_private_tags()
    for element in list(dataset):
        curve_or_overlay = element.tag.group & 0xFF00 in (0x5000, 0x6000)
        if element.keyword in _STALE.split() or curve_or_overlay or element.tag.element == 0:
            del dataset[element.tag]


def _common_uids(source: Dataset | None, seed: str | None) -> dict[str, UID]:
    """Return the UIDs of study and frame of reference for a source that lacks them.

    All series derived from a source get the same ones.
    """
    origin = (source is not None and source.SOPInstanceUID) or seed
    return {
        "StudyInstanceUID": make_uid(origin, "study"),
        "FrameOfReferenceUID": make_uid(origin, "frame of reference"),
    }


def fill(header: Dataset, seed: str | None) -> None:
    """Set the identifying attributes that a source lacks, blank or made as those of the series derived from it."""
    for keyword in _MAY_BE_EMPTY.split():
        if keyword not in header or not re.fullmatch(_STRICT.get(keyword, ".*"), str(header[keyword].value or "")):
            setattr(header, keyword, None)
    header.Modality = header.get("Modality") or "OT"
    header.SeriesInstanceUID = header.get("SeriesInstanceUID") or make_uid(header.SOPInstanceUID or seed, "series")
    for keyword, uid in _common_uids(header, seed).items():
        if not header.get(keyword) and (keyword != "FrameOfReferenceUID" or keyword in header):
            setattr(header, keyword, uid)


def series_number(source: Dataset, image: Image, derivation: Derivation) -> int:
    """Return the number of a derived series.

    It is that of its source and 1000 for every output up to this one. Where the source is one of several volumes of a
    series, 10000 for every instance or frame up to its first slice come on top.
    """
    number = int(source.get("SeriesNumber") or 0) + 1000 * derivation.number
    if image.header.volume is not None:
        first = image.header.frame_numbers[:1] or (source.get("InstanceNumber") or 0,)
        number += 10_000 * int(first[0])
    return min(number, 2**31 - 1)


def own_file(dataset: Dataset) -> FileDataset:
    """Return a dataset as a file that names Ganatomy as its implementation."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return FileDataset("", dataset, preamble=b"\0" * 128, file_meta=meta)


def equipment(derivation: Derivation, now: datetime.datetime) -> Dataset:
    """Return an item of Contributing Equipment Sequence with the model that made an image."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code("109102", "Processing Equipment")]
    item.Manufacturer = "Ganatomy"
    item.ManufacturerModelName = derivation.model[:64]
    item.SoftwareVersions = derivation.version[:64]
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    identity = f" Model: {derivation.identity}" if derivation.identity else ""
    item.ContributionDescription = f"{derivation.description}{identity}"[:1024]
    return item


def make_uid(seed: str | None, purpose: str) -> UID:
    """Return a UID in the UUID root: random, or determined by seed and purpose."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"{seed} {purpose}") if seed else uuid.uuid4()
    return UID(f"2.25.{made.int}")
