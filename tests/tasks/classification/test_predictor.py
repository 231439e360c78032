"""The predictor of classes: probabilities of slices and cases, calibration, and tables."""

import csv
import math

import numpy as np
import pytest
from shades import SLICED, Shades, case

from ganatomy.data.batches import Range
from ganatomy.errors import NotCalibrated
from ganatomy.inference.predictor import predictor_of
from ganatomy.tasks.classification.predictor import ClassOptions, chosen
from ganatomy.tasks.classification.task import SHARES


def logistic(value):
    return 1 / (1 + math.exp(-value))


def level(mean):
    """Return the logit of the system for a brightness from 0 to 100."""
    return 2 * (mean / 50 - 1)


def test_the_class_of_a_case_is_that_of_its_mean_logits():
    method = Shades()
    sample = case(method.task, [90, 80, 70, 20, 60])
    found = predictor_of(method).find(sample)
    assert found.case[1] == found.units[0, 1] == pytest.approx(logistic(level(64)), abs=0.02)
    assert found.slices[:, 1] == pytest.approx([logistic(level(one)) for one in (90, 80, 70, 20, 60)], abs=0.02)
    prediction = predictor_of(method).predict(sample)
    assert prediction.main == "bright" and prediction.arrays["label"].reshape(-1).tolist() == [1]
    assert prediction.facts["threshold"] == {"bright": 0.5} and prediction.facts["calibrated on"] == "nothing"


def test_temperature_and_frequencies_of_classes_change_probabilities_and_no_ranks():
    method = Shades()
    method.task.fitted = {SHARES: np.array([0.8, 0.2], np.float32)}
    predictor = predictor_of(method, calibration={"temperature": 2.0, "threshold": 0.3, "source": "validation"})
    sample = case(method.task, [90] * 5)
    found = predictor.find(sample)
    assert found.case[1] == pytest.approx(logistic(level(90) / 2 + math.log(0.2 / 0.8)), abs=0.02)
    assert found.threshold == 0.3 and predictor.predict(sample).main == "bright"
    strict = predictor_of(method, options=ClassOptions(threshold=0.9), calibration=predictor.calibration)
    assert strict.predict(sample).main == "dark"


def test_of_three_classes_the_most_probable_one_is_chosen():
    assert chosen(np.array([[0.3, 0.4, 0.3], [0.2, 0.1, 0.7]]), 0.9).tolist() == [1, 2]
    method = Shades(classes=("a", "b", "c"))
    prediction = predictor_of(method).predict(case(method.task, [0] * 5))
    assert prediction.main == "c" and "threshold" not in prediction.facts
    assert list(prediction.tables["slices"][0]) == ["slice", "class", "p(a)", "p(b)", "p(c)"]


@pytest.mark.parametrize("flipped", [False, True])
def test_slices_are_told_in_the_order_of_the_source_and_the_outermost_decides(flipped, tmp_path):
    method = Shades(**SLICED, end="basal")
    levels = [10, 90, 90, 90, 60][:: -1 if flipped else 1]
    predictor, sample = predictor_of(method), case(method.task, levels, flipped=flipped)
    prediction = predictor.predict(sample)
    assert prediction.main == "no basal slice"
    rows = prediction.tables["slices"]
    assert [row["slice"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["class"] for row in rows] == ["other", "basal", "basal", "basal", "basal"][:: -1 if flipped else 1]
    (role,) = predictor.outputs.values()
    role.write(tmp_path / "a.csv", prediction.main)
    (row,) = csv.DictReader((tmp_path / "a.csv").open())
    assert row["class"] == "no basal slice" and float(row["called complete from"]) == 0.5
    assert float(row["p(complete)"]) == pytest.approx(rows[4 if flipped else 0]["p(basal)"], abs=1e-6)


def pieces(task, levels, labels):
    samples = [
        case(task, [one] * 5, label, name=f"c{at}") for at, (one, label) in enumerate(zip(levels, labels, strict=True))
    ]
    return [Range(sample, 0, 5) for sample in samples]


def test_calibration_uses_labelled_cases_alone():
    method = Shades()
    levels, labels = [10, 20, 30, 60, 70, 80, 50], ["dark", "dark", "dark", "bright", "bright", "bright", None]
    found = predictor_of(method).calibrate(pieces(method.task, levels, labels), 0.05, "validation")
    assert found["cases"] == 6 and found["source"] == "validation"
    # Between the darkest bright case and the brightest dark one, at the calibrated temperature.
    low, high = (logistic(level(one) / found["temperature"]) for one in (30, 60))
    assert low < found["threshold"] < high
    with pytest.raises(NotCalibrated, match="no validation case has label"):
        predictor_of(method).calibrate(pieces(method.task, [50], [None]), 0.05, "validation")


def test_slices_of_a_range_are_validated_with_their_own_classes():
    method = Shades(**SLICED)
    words = ["basal", "other", "other", "", "other"]
    sample = case(method.task, [90, 20, 80, 10, 30], words=words)
    predictor = predictor_of(method)
    assert predictor.validate([Range(sample, 0, 5)], 12)["balanced accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    part = predictor.validate([Range(sample, 1, 3)], 12)
    assert part["balanced accuracy"] == 0.5 and "AUC" in part
    assert predictor.validate([Range(case(method.task, [50] * 5), 0, 5)], 12) == {}
