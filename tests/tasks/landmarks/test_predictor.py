"""The predictor of landmarks: positions in the patient, thresholds, and their calibration."""

import numpy as np
import pytest
from spots import NAMES, Spots, case, values_of

from ganatomy.data.batches import Range
from ganatomy.inference.predictor import predictor_of
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
