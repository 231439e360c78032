"""Writer of DICOM structured reports of points: TID 1500, one measurement group for each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ganatomy.errors import UserError
from ganatomy.images.dicom_out import Derivation, equipment, fill, make_uid, own_file, series_number
from ganatomy.images.dicom_source import SourceFiles
from ganatomy.images.image import LPS_TO_RAS, Image
from ganatomy.images.paths import replacing

IMAGING = Code("363679005", "SCT", "Imaging procedure")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
OWN_SCHEME = "99GANATOMY"
"""Designator of our own codes, which are the names of points."""


class Mark(NamedTuple):
    """A named point of an image.

    Attributes:
        name: its name.
        place: slice, row and column on the grid of the image; centres of voxels are integers.
        certainty: how certain it is, 0 to 1; None where that is not known.
    """

    name: str
    place: tuple[float, float, float]
    certainty: float | None = None


@dataclass(frozen=True, eq=False)
class PointReport:
    """Points of an image that was read from DICOM files.

    Attributes:
        image: the image, whose header names its files.
        marks: points, in the order of the report.
    """

    image: Image
    marks: Sequence[Mark]


def write_report(path: Path, report: PointReport, derivation: Derivation, seed: str | None = None) -> None:
    """Write a DICOM structured report of points by the template TID 1500.

    Points of images with a place in the patient are coordinates in the frame of reference (mm, LPS+). Others are
    coordinates in the pixels of a frame, (column, row) from the corner of the first pixel, whose centre is (0.5, 0.5).

    Args:
        path: file to write.
        report: points and their image.
        derivation: description of the processing.
        seed: seed that makes the UIDs repeatable; random when None.

    Raises:
        UserError: the image was not read from DICOM, or has a header that highdicom refuses.
    """
    from highdicom import sr  # imported here, since this takes as long as all other imports

    image, header = report.image, report.image.header
    if header.kind != "dicom":
        raise UserError(f"{header.label}: a DICOM report of points needs a DICOM image")
    files = SourceFiles(image, derivation.profile)
    places = [min(max(round(mark.place[0]), 0), len(image.slice_positions) - 1) for mark in report.marks]
    paths = [header.paths[min(place, len(header.paths) - 1)] for place in places]
    sources = {used: files.file(used) for used in dict.fromkeys([*paths, *header.paths[:1]])}
    for source in sources.values():
        fill(source, seed)
    first = sources[header.paths[0]]
    name, version = derivation.model or "Ganatomy", derivation.version or "0"
    placed = header.positions is not None and header.frame_of_reference
    groups = []
    try:
        for number, (mark, place, used) in enumerate(zip(report.marks, places, paths, strict=True)):
            region: Any
            frame = header.frame_numbers[place] if header.frame_numbers else None
            if placed:
                at = LPS_TO_RAS @ (image.affine[:3, :3] @ mark.place + image.affine[:3, 3])
                region = sr.ImageRegion3D("POINT", np.array([at]), str(header.frame_of_reference))
            else:
                source = sources[used]
                origin = sr.SourceImageForRegion(
                    source.SOPClassUID, source.SOPInstanceUID, None if frame is None else [frame]
                )
                region = sr.ImageRegion("POINT", np.array([[mark.place[2] + 0.5, mark.place[1] + 0.5]]), origin)
            told = mark.name if frame is None or placed else f"{mark.name}, frame {frame}"
            measured = []
            if mark.certainty is not None:
                percent = 100 * min(max(float(mark.certainty), 0.0), 1.0)
                measured.append(sr.Measurement(CERTAINTY, round(percent, 2), codes.UCUM.Percent))
            groups.append(
                sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                    tracking_identifier=sr.TrackingIdentifier(make_uid(seed, f"point {number}"), told),
                    referenced_region=region,
                    finding_type=Code(_code(mark.name), OWN_SCHEME, mark.name[:64]),
                    algorithm_id=sr.AlgorithmIdentification(name, version),
                    measurements=measured,
                )
            )
        observer = sr.DeviceObserverIdentifyingAttributes(
            make_uid(derivation.identity or None, "observer"), "Ganatomy", "Ganatomy", name[:64]
        )
        content = sr.MeasurementReport(
            sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, observer)),
            IMAGING,
            groups,
        )
        made = sr.Comprehensive3DSR(
            evidence=list(sources.values()),
            content=content[0],
            series_instance_uid=make_uid(seed, "series"),
            series_number=series_number(first, image, derivation),
            sop_instance_uid=make_uid(seed, "instance"),
            instance_number=1,
            manufacturer="Ganatomy",
            manufacturer_model_name=name[:64],
            software_versions=version[:64],
            device_serial_number=derivation.identity.rpartition(":")[2][:64] or "0",
            series_description=derivation.series_description[:64] or None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{header.label}: no DICOM report can refer to its header ({error})") from error
    now = files.now()
    report_file: Any = made
    report_file.ContributingEquipmentSequence = [equipment(derivation, now)]
    if derivation.profile is not None:
        for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
            if keyword in made:
                setattr(made, keyword, now.strftime("%Y%m%d"))
        derivation.profile.mark(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        own_file(made).save_as(temporary, enforce_file_format=True)


def _code(name: str) -> str:
    """Return the code of a name, of at most 16 characters."""
    return "".join(letter for letter in name.title() if letter.isalnum())[:16] or "point"
