"""Structured reports of points, read back with highdicom: coordinates in the patient and in pixels."""

import numpy as np
import pytest
from highdicom.sr import srread

from dicom_kinds import write_cine, write_series
from ganatomy.errors import UserError
from ganatomy.images.dicom_out import Derivation
from ganatomy.images.dicom_sr import Mark, PointReport, write_report
from ganatomy.images.files import find
from ganatomy.images.image import LPS_TO_RAS, Image

MADE = Derivation("found by a network", "dacal-landmarks", "sha256:12ab", "0.2", "points")


def groups_of(path):
    report = srread(path)
    assert report.Modality == "SR" and report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    return report, report.content.get_planar_roi_measurement_groups()


def test_points_of_placed_images_are_in_mm_in_the_patient(tmp_path):
    write_series(tmp_path / "ct", "CT")
    (source,) = find(tmp_path / "ct")
    image = source.open()
    marks = [Mark("L1", (1.25, 3.5, 6.0), 0.75), Mark("L2", (0.0, 2.0, 9.0))]
    write_report(tmp_path / "r.dcm", PointReport(image, marks), MADE, "seed")
    report, groups = groups_of(tmp_path / "r.dcm")
    assert [group.tracking_identifier for group in groups] == ["L1", "L2"]
    assert [group.finding_type.meaning for group in groups] == ["L1", "L2"]
    for group, mark in zip(groups, marks, strict=True):
        want = LPS_TO_RAS @ (image.affine[:3, :3] @ mark.place + image.affine[:3, 3])
        assert group.roi.graphic_type.value == "POINT"
        np.testing.assert_allclose(np.ravel(group.roi.value), want, atol=1e-4)
        assert group.roi.frame_of_reference_uid == image.header.frame_of_reference
    (certain,) = groups[0].get_measurements()
    assert certain.name.meaning == "Certainty of Finding" and certain.value == 75 and certain.unit.value == "%"
    assert not groups[1].get_measurements()
    assert report.SeriesDescription == "points" and report.PatientID == image.header.subject


def test_points_of_films_are_in_pixels_of_their_frame(tmp_path):
    write_cine(tmp_path / "us.dcm", frames=3, rows=12, columns=20)
    image = find(tmp_path / "us.dcm")[0].open()
    report = PointReport(image, [Mark("left anterior", (1.0, 3.25, 7.5), 1.2), Mark("anterior", (2.0, 1.0, 2.0), 0.5)])
    write_report(tmp_path / "out" / "r.dcm", report, MADE)
    _, groups = groups_of(tmp_path / "out" / "r.dcm")
    assert [group.tracking_identifier for group in groups] == ["left anterior, frame 2", "anterior, frame 3"]
    np.testing.assert_allclose([np.ravel(group.roi.value) for group in groups], [[8.0, 3.75], [2.5, 1.5]])
    origins = [group.roi.ContentSequence[0].ReferencedSOPSequence[0] for group in groups]
    assert [origin.ReferencedFrameNumber for origin in origins] == [2, 3]
    assert groups[0].get_measurements()[0].value == 100


def test_other_images_have_no_report(tmp_path):
    with pytest.raises(UserError, match="needs a DICOM image"):
        write_report(tmp_path / "r.dcm", PointReport(Image.from_array(np.zeros((2, 3))), []), MADE)
