"""Headers of the DICOM files that an image was read from, as the writers of derived files need them."""

from __future__ import annotations

import copy
import datetime
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    BreastTomosynthesisImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    EnhancedUSVolumeStorage,
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from pydicom.valuerep import TEXT_VR_DELIMS

from ganatomy.errors import UserError
from ganatomy.images.dicom import read_file
from ganatomy.images.dicom_private import diffusion_of
from ganatomy.images.dicom_profile import BasicProfile
from ganatomy.images.image import Image

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)

_NONE = UID("")

# The class of single-frame files that holds a frame of files of several; none where there is no such class.
_SINGLE: dict[UID, UID] = {
    EnhancedCTImageStorage: CTImageStorage,
    LegacyConvertedEnhancedCTImageStorage: CTImageStorage,
    EnhancedMRImageStorage: MRImageStorage,
    LegacyConvertedEnhancedMRImageStorage: MRImageStorage,
    LegacyConvertedEnhancedPETImageStorage: PositronEmissionTomographyImageStorage,
    UltrasoundMultiFrameImageStorage: UltrasoundImageStorage,
    EnhancedUSVolumeStorage: UltrasoundImageStorage,
    EnhancedXAImageStorage: XRayAngiographicImageStorage,
    EnhancedXRFImageStorage: XRayRadiofluoroscopicImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage: SecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage: SecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage: SecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage: SecondaryCaptureImageStorage,
    BreastTomosynthesisImageStorage: _NONE,
    EnhancedPETImageStorage: _NONE,
    NuclearMedicineImageStorage: _NONE,
    RTDoseStorage: _NONE,
}

# Attributes that describe the frames of a file together, or how they are played.
_OF_FRAMES = """
    CineRate ConcatenationFrameOffsetNumber ConcatenationUID DimensionIndexSequence
    DimensionOrganizationSequence DimensionOrganizationType EffectiveDuration FrameDelay FrameIncrementPointer
    FrameTime FrameTimeVector ImageType InConcatenationNumber NumberOfFrames PerFrameFunctionalGroupsSequence
    PreferredPlaybackSequencing RecommendedDisplayFrameRate RepresentativeFrameNumber
    SOPInstanceUIDOfConcatenationSource SharedFunctionalGroupsSequence StartTrim StopTrim
"""

# Functional groups about other images, or about the frame's place in its file.
_OF_OTHERS = """
    ConversionSourceAttributesSequence DerivationImageSequence PixelValueTransformationSequence
    RealWorldValueMappingSequence ReferencedImageSequence
"""

# Attributes of functional groups, and those of single-frame files that say the same.
_SAME = {
    "EffectiveEchoTime": "EchoTime",
    "ExposureInmAs": "Exposure",
    "ExposureTimeInms": "ExposureTime",
    "FrameAcquisitionDuration": "ActualFrameDuration",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "InversionTimes": "InversionTime",
    "PulseSequenceName": "SequenceName",
    "RFEchoTrainLength": "EchoTrainLength",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "XRayTubeCurrentInmA": "XRayTubeCurrent",
}

_TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
"""Value representations whose characters the character set of a file declares."""


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """The header of the frame that a slice was computed from.

    Attributes:
        header: attributes of the frame; those of a frame of several are arranged as in a single-frame file, and their
            SOP class is that of such files, blank where there is none.
        reference: item of Source Image Sequence that refers to the frame; None where its file has no identity.
    """

    header: Dataset
    reference: Dataset | None


class SourceFiles:
    """The DICOM files that an image was read from; each header is read when it is needed.

    Args:
        image: any image; one that was not read from DICOM has no frames.
        profile: de-identification of the headers; None leaves them as they are.
    """

    def __init__(self, image: Image, profile: BasicProfile | None = None) -> None:
        self._image = image
        self._profile = profile
        self._days = 0
        self._positions = image.slice_positions
        self._read: tuple[Path, Dataset] | None = None

    def frame(self, index: int) -> SourceFrame | None:
        """Return the frame of slice `index`: its own, or after resampling the nearest one.

        Raises:
            UserError: the file cannot be read any more.
        """
        header = self._image.header
        if header.kind != "dicom":
            return None
        if len(header.paths) != self._image.shape[0] and header.positions is not None:
            index = int(np.linalg.norm(header.positions - self._positions[index], axis=1).argmin())
        index = min(index, len(header.paths) - 1)
        file = self.file(header.paths[index])
        number = header.frame_numbers[index] if header.frame_numbers else None
        return SourceFrame(_single(file, (number or 1) - 1), _reference(file, number))

    def file(self, path: Path) -> Dataset:
        """Return the whole header of a file; raises `UserError` where it cannot be read any more."""
        if self._read is None or self._read[0] != path:
            source = read_source(path)
            if "b-value" in (self._image.header.volume or ""):
                _restate_diffusion(source)
            if self._profile is not None:
                self._days = self._profile.apply(source)
            self._read = path, source
        return self._read[1]

    def now(self) -> datetime.datetime:
        """Return the time of writing, moved as the dates of the last header, since its distance would tell them."""
        return datetime.datetime.now() - datetime.timedelta(self._days)


def read_source(path: Path) -> Dataset:
    """Return the header of a file with its identity and with texts in the character set that they can be read in.

    Raises:
        UserError: the file cannot be read any more.
    """
    try:
        source = read_file(path, stop_before_pixels=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read any more: {error.strerror or error}") from error
    # De-identified files may have these blank in the dataset and correct in the meta header.
    source.SOPClassUID = source.get("SOPClassUID") or source.file_meta.get("MediaStorageSOPClassUID", "")
    source.SOPInstanceUID = source.get("SOPInstanceUID") or source.file_meta.get("MediaStorageSOPInstanceUID", "")
    if source.file_meta.TransferSyntaxUID in _LOSSY:
        source.LossyImageCompression = "01"
    _correct_character_set(source)
    source.decode()
    return source


def _restate_diffusion(source: Dataset) -> None:
    """Set DICOM's own attributes of diffusion from those of the maker, which are not passed on."""
    if source.get("DiffusionBValue") is None:
        for keyword, value in diffusion_of(source).items():
            setattr(source, keyword, value)


def _correct_character_set(source: Dataset) -> None:
    """Replace a declared character set in which texts cannot be read, so that none of their bytes is lost.

    The texts are then taken as UTF-8, or else as Latin-1, in which every byte is a character.
    """
    texts = [text for text in _raw_texts(source) if not text.isascii()]
    declared = source.get("SpecificCharacterSet") or "ISO_IR 6"
    if not texts:
        return
    if declared != "ISO_IR 6":
        with warnings.catch_warnings(action="ignore"):
            decoded = [decode_bytes(text, convert_encodings(declared), TEXT_VR_DELIMS) for text in texts]
        if not any("\ufffd" in text for text in decoded):
            return
    name = "ISO_IR 192" if all(_is_utf8(text) for text in texts) else "ISO_IR 100"
    source.SpecificCharacterSet = name
    implicit, little = source.original_encoding
    source.set_original_encoding(implicit, little, convert_encodings(name))


def _raw_texts(source: Dataset) -> Iterator[bytes]:
    for tag in source.keys():  # noqa: SIM118 - iteration over the dataset would decode its elements
        element = source.get_item(tag)
        if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes) or tag.is_private:
            continue
        try:
            kind = element.VR or dictionary_VR(tag)
        except KeyError:
            continue
        if kind in _TEXTS:
            yield element.value


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reference(file: Dataset, number: int | None) -> Dataset | None:
    if not file.SOPInstanceUID:
        return None
    reference = Dataset()
    reference.ReferencedSOPClassUID = file.SOPClassUID
    reference.ReferencedSOPInstanceUID = file.SOPInstanceUID
    if number is not None:
        reference.ReferencedFrameNumber = number
    reference.PurposeOfReferenceCodeSequence = [code("121322", "Source image for image processing operation")]
    return reference


def code(value: str, meaning: str) -> Dataset:
    """Return a coded term of DICOM's own vocabulary."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def has_groups(file: Dataset) -> bool:
    """Return whether a file describes its frames in functional groups."""
    return "PerFrameFunctionalGroupsSequence" in file or "SharedFunctionalGroupsSequence" in file


def holds_frames(file: Dataset) -> bool:
    """Return whether a file holds frames, one or several, instead of a single image."""
    return "NumberOfFrames" in file or file.SOPClassUID in _SINGLE or has_groups(file)


def _single(file: Dataset, index: int) -> Dataset:
    """Return the header of one frame arranged as in a single-frame file; that of such a file as it is."""
    grouped = has_groups(file)
    if not grouped and file.SOPClassUID not in _SINGLE:
        return file
    frame = Dataset()
    for element in file:
        if element.keyword not in _OF_FRAMES.split():
            frame.add(copy.copy(element))
    for keyword, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        for groups in (file.get(keyword) or [])[place : place + 1]:
            for group in groups:
                if group.VR == "SQ" and group.value and group.keyword not in _OF_OTHERS.split():
                    frame.update(copy.deepcopy(group.value[0]))
    frame.SOPClassUID = _SINGLE.get(file.SOPClassUID, _NONE)
    if grouped:
        _translate(frame)
    return frame


def _translate(frame: Dataset) -> None:
    """Set the attributes of single-frame files from those that only functional groups have."""
    for theirs, ours in _SAME.items():
        value: Any = frame.get(theirs)
        first = value[0] if isinstance(value, MultiValue) else value
        if first is not None and ours not in frame:
            setattr(frame, ours, round(first) if dictionary_VR(ours) == "IS" else first)
    if moment := str(frame.get("FrameAcquisitionDateTime") or ""):
        frame.AcquisitionDate, frame.AcquisitionTime = moment[:8], moment[8:].partition("+")[0].partition("-")[0]
    if frame.get("EchoPulseSequence"):
        echoes = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(frame.EchoPulseSequence, ["RM"])
        further = {"InversionRecovery": "IR", "EchoPlanarPulseSequence": "EP"}
        frame.ScanningSequence = echoes + [name for flag, name in further.items() if frame.get(flag) == "YES"]
