"""Writers of DICOM segmentations and parametric maps, which refer to the frames that they were computed from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ganatomy.errors import UserError
from ganatomy.images.dicom_out import (
    SECTIONAL,
    Derivation,
    equipment,
    fill,
    make_uid,
    own_file,
    place_in_body,
    series_number,
)
from ganatomy.images.dicom_planes import plane_of
from ganatomy.images.dicom_source import SourceFiles, has_groups, holds_frames, read_source
from ganatomy.images.image import LPS_TO_RAS, Image
from ganatomy.images.labelmaps import LABEL, palette
from ganatomy.images.paths import replacing_folder

MOST_SEGMENTS = 65_535
"""Largest number of a segment that DICOM can state."""

_UNITS = {
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "Bq/mL": Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    "SUV": Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
}


def can_refer(image: Image, planes: bool = False) -> bool:
    """Return whether a segmentation or a parametric map can refer to the frames that an image was read from.

    These are the frames of one DICOM file, or the files of one series. Several of them need places in the patient, and
    these a distance of pixels.

    Args:
        image: any image.
        planes: whether a single slice needs a place, too, as in parametric maps.
    """
    header = image.header
    if header.kind != "dicom" or (header.frame_numbers and len(set(header.paths)) > 1):
        return False
    first = read_source(header.paths[0])
    if holds_frames(first) and not has_groups(first):
        return False
    if header.positions is not None and header.frame_of_reference:
        return header.scaled
    placeless = not header.frame_of_reference and first.SOPClassUID not in SECTIONAL
    return not planes and placeless and len(header.paths) == image.shape[0] == 1


def write_segmentation(
    folder: Path, image: Image, names: Mapping[int, str], derivation: Derivation, seed: str | None = None
) -> None:
    """Write a label map as one DICOM segmentation, with a binary segment for each label.

    Args:
        folder: new or empty folder for the file.
        image: label map (1, slices, rows, columns) that was computed from a DICOM image, see `can_refer`.
        names: label to name of its region; labels without a name are called by their number.
        derivation: description of the processing.
        seed: seed that makes the UIDs repeatable; random when None.

    Raises:
        UserError: values are no labels, there are too many, or the source has a header that highdicom refuses.
    """
    from highdicom.color import CIELabColor  # imported here, since this takes as long as all other imports
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription

    values = image.numpy()[0]
    labels = sorted({*names, *np.unique(values).tolist()} - {0})
    if values.dtype.kind not in "biu" or len(labels) > MOST_SEGMENTS or min(labels, default=1) < 0:
        raise UserError(f"{folder}: a segmentation holds up to {MOST_SEGMENTS} labels, which are integers from 1")
    if not labels:
        labels = [1]
    numbers = np.searchsorted([0, *labels], values).astype(np.uint8 if len(labels) < 256 else np.uint16)
    algorithm = AlgorithmIdentificationSequence(
        derivation.model or "Ganatomy", codes.DCM.ArtificialIntelligence, derivation.version or "0"
    )
    colours, segments = palette(), []
    for number, label in enumerate(labels, start=1):
        name = names.get(label, f"{LABEL} {label}")
        segment = SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=_kind_of(name),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(*(int(part) for part in colours[label % 256])),
        )
        segment.SegmentDescription = f"{LABEL} {label}"
        segments.append(segment)
    _write(
        folder,
        image,
        derivation,
        seed,
        Segmentation,
        pixel_array=numbers,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        omit_empty_frames=bool(numbers.any()),
    )


def write_map(folder: Path, image: Image, derivation: Derivation, seed: str | None = None) -> None:
    """Write real numbers, such as probabilities, as one DICOM parametric map of 32-bit floating-point numbers.

    Args:
        folder: new or empty folder for the file.
        image: map (1, slices, rows, columns) that was computed from a DICOM image, see `can_refer`.
        derivation: description of the processing.
        seed: seed that makes the UIDs repeatable; random when None.

    Raises:
        UserError: values are not finite, or the source has a header that highdicom refuses.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    values = image.numpy()[0].astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{image.header.label}: NaN or infinite values cannot be written as DICOM")
    low, high = float(values.min()), float(values.max())
    meaning = RealWorldValueMapping(
        lut_label="VALUES",
        lut_explanation=derivation.series_description[:64] or "Values",
        unit=_UNITS.get(image.unit or "", codes.UCUM.NoUnits),
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
    )
    _write(
        folder,
        image,
        derivation,
        seed,
        ParametricMap,
        pixel_array=values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        # Widths below 1, as probabilities need, only exist in exact windows.
        voi_lut_transformations=[
            VOILUTTransformation((low + high) / 2, (high - low) or 1.0, voi_lut_function="LINEAR_EXACT")
        ],
    )


def _write(
    folder: Path,
    image: Image,
    derivation: Derivation,
    seed: str | None,
    kind: Any,
    pixel_array: NDArray[Any],
    **own: Any,
) -> None:
    """Write a folder with the one file of a class of highdicom."""
    files = SourceFiles(image, derivation.profile)
    sources = [files.file(path) for path in dict.fromkeys(image.header.paths)]
    for source in sources:
        fill(source, seed)
    try:
        made = kind(
            source_images=sources,
            pixel_array=pixel_array if image.header.positions is not None else pixel_array[0],
            series_instance_uid=make_uid(seed, "series"),
            series_number=series_number(sources[0], image, derivation),
            sop_instance_uid=make_uid(seed, "instance"),
            instance_number=1,
            manufacturer="Ganatomy",
            manufacturer_model_name=(derivation.model or "Ganatomy")[:64],
            software_versions=(derivation.version or "0")[:64],
            device_serial_number=derivation.identity.rpartition(":")[2][:64] or "0",
            content_description=derivation.series_description[:64] or None,
            series_description=derivation.series_description[:64] or None,
            specific_character_set="ISO_IR 192",
            **_places(image, sources[0]),
            **own,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{image.header.label}: no {kind.__name__} can refer to its header ({error}); add --format nifti"
        ) from error
    now = files.now()
    made.ContributingEquipmentSequence = [equipment(derivation, now)]
    if derivation.profile is not None:
        for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
            if keyword in made:
                setattr(made, keyword, now.strftime("%Y%m%d"))
        made.LongitudinalTemporalInformationModified = sources[0].get("LongitudinalTemporalInformationModified")
        derivation.profile.mark(made)
    if kind.__name__ == "ParametricMap":
        place_in_body(made, sources[0])
    if image.header.positions is None:
        made.PatientOrientation = sources[0].get("PatientOrientation")
    with replacing_folder(folder) as temporary:
        own_file(made).save_as(temporary / "00001.dcm", enforce_file_format=True)


def _places(image: Image, source: Dataset) -> dict[str, Any]:
    """Return where the planes of an image lie, as highdicom takes it; sizes alone for an image without places."""
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    plane = plane_of(image)
    measures = {"pixel_measures": PixelMeasuresSequence(plane.spacing, plane.distance, plane.distance)}
    if image.header.positions is None:
        stated = "PixelSpacing" in source or "ImagerPixelSpacing" in source
        return measures if stated and image.header.scaled else {}
    return {
        **measures,
        "plane_orientation": PlaneOrientationSequence("PATIENT", [*plane.right, *plane.down]),
        "plane_positions": [
            PlanePositionSequence("PATIENT", LPS_TO_RAS @ position) for position in image.slice_positions
        ],
    }


def _kind_of(name: str) -> Code:
    """Return SNOMED's term for a region where it has the same name, such as liver; else tissue."""
    keyword = "".join(part.capitalize() for part in name.replace("_", " ").replace("-", " ").split())
    found: Code = getattr(codes.SCT, keyword, codes.SCT.Tissue)
    return found if isinstance(found, Code) else codes.SCT.Tissue
