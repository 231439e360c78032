"""The predictor of landmarks: positions in the patient, thresholds, and their calibration."""

import numpy as np
import pytest
from highdicom.sr import srread
from spots import NAMES, Spots, case, values_of

from dicom_kinds import write_cine
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.images.files import find
from ganatomy.images.image import Image
from ganatomy.inference.predictor import predictor_of
from ganatomy.methods.detection.dacal_landmarks import DacalLandmarks
from ganatomy.roles.points import Points
from ganatomy.tasks.landmarks.predictor import LandmarkOptions


def predictor(calibration=None, **options):
    return predictor_of(Spots(), options=LandmarkOptions(**options), calibration=calibration)


def test_landmarks_are_found_in_mm_with_a_table_and_written_as_points():
    values = values_of()
    made = predictor().predict(predictor().sample_of({"mr": values["mr"]}))
    for name in NAMES:
        np.testing.assert_allclose(made["spots"][name], values["spots"][name], atol=1e-4)
    rows = made.tables["landmarks"]
    assert [row["name"] for row in rows] == list(NAMES) and rows[1]["certainty"] == pytest.approx(0.8)
    assert made.facts == {"threshold": 0.0, "not found": []}


def test_landmarks_below_the_threshold_are_left_out():
    made = predictor(threshold=0.7).predict(predictor().sample_of({"mr": values_of()["mr"]}))
    assert set(made["spots"]) == {"top", "middle"} and made.facts["not found"] == ["bottom"]
    assert made.arrays["spots"].shape == (3, 1, 1, 4) and not made.arrays["spots"][2].any()
    assert (
        predictor({"threshold": 0.9}).threshold == 0.9 and predictor({"threshold": 0.9}, threshold=0.1).threshold == 0.1
    )


def test_the_threshold_is_that_of_the_best_f1_on_validation_cases():
    task = Spots().task
    # The bottom is there in no case; that of the middle is found for it, with little certainty.
    cases = [case(task, name, there=("top", "middle")) for name in "ab"]
    pieces = [Range(one, 0, one.shape[0]) for one in cases]
    found = predictor().calibrate(pieces, 0.05, "validation")
    assert found["cases"] == 2 and found["source"] == "validation" and 0 <= found["threshold"] < 0.8
    assert predictor().validate(pieces, 8) == {"identification rate": 1, "error": 0, "F1": 1}
    assert predictor().calibrate([], 0.05, "validation") is None and predictor().validate([], 8) == {}


def test_the_format_of_points_is_chosen():
    suffixes = {kind: predictor(points=kind).outputs["spots"].suffix for kind in ("csv", "json", "slicer")}
    assert suffixes == {"csv": ".csv", "json": ".points.json", "slicer": ".mrk.json"}


def test_a_film_is_outlined_frame_by_frame_with_its_speed(tmp_path):
    write_cine(tmp_path / "us.dcm", frames=3, rows=64, columns=48)
    method = DacalLandmarks(DacalLandmarks.Config.preset("small", size=(48, 32), width=2)).inference_mode()
    found = predictor_of(method, options=LandmarkOptions(points="slicer"))
    image = find(tmp_path / "us.dcm")[0].open()
    made = found.predict(found.sample_of({"us": image}))
    assert made.facts["frames"] == 3 and made.facts["frames per second"] > 0 and len(made.facts["area in mm²"]) == 3
    assert list(made.outputs) == ["border", "region", "report"] and len(made["border"].frames) == 3
    assert made["region"].shape == image.shape and [row["frame"] for row in made.tables["landmarks"]][::6] == [1, 2, 3]
    alone = found.predict(found.sample_of({"us": Image.from_array(image.numpy()[:, 1:2])}))
    for name, place in made["border"].frames[1].items():
        np.testing.assert_allclose(alone["border"][name], np.subtract(place, (0, 0, 1)), atol=1e-4)
    for name, path in (("border", "points.mrk.json"), ("report", "report.dcm")):
        found.outputs[name].write(tmp_path / path, made[name])
    groups = srread(tmp_path / "report.dcm").content.get_planar_roi_measurement_groups()
    assert len(groups) == 18 and groups[7].tracking_identifier == "left anterior, frame 2"
    rows, columns = np.linalg.inv(image.affine)[1:3] @ [*made["border"].frames[1]["left anterior"], 1]
    np.testing.assert_allclose(np.ravel(groups[7].roi.value), [columns + 0.5, rows + 0.5], atol=1e-3)


def test_training_frames_have_landmarks_of_their_own():
    method = DacalLandmarks(DacalLandmarks.Config.preset("small", size=(48, 32), width=2))
    film = Image.from_array((np.arange(2 * 48 * 32, dtype=np.float32) % 251).reshape(1, 2, 48, 32))
    with pytest.raises(UserError, match="border of 2 frames together"):
        method.task.frame({"us": film, "border": Points({"anterior": (0.0, 0.0, 0.0)})})
