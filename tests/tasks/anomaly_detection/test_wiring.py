"""Whether nothing outside of tissue counts, and whose part in the area is whose."""

from dataclasses import replace

import numpy as np
import pytest
from toy_detector import Template, patient

from ganatomy.evaluation.judging import OUTPUT, judge_of
from ganatomy.tasks.anomaly_detection.judge import NCC, SPECIFICITY, DetectorEntry, Found, jackknifed_areas
from ganatomy.tasks.anomaly_detection.predictor import Calibration

CALIBRATION = Calibration(50.0, 10.0, 0.05, 1000, 10, 3, "other subjects")


def scored(case, junk, smallest=1):
    """Scores and evidence of a case, of a detector that says anything in the air."""
    judge = judge_of(Template(Template.Config(smallest=smallest)).task)
    image, healthy = (np.asarray(case.arrays[name], np.float32)[0] for name in ("image", "healthy"))
    rng = np.random.default_rng(5)
    air = image <= 0
    map = np.abs(image - healthy) + rng.uniform(0, 60, image.shape).astype(np.float32)
    map, healthy = np.where(air, junk, map), np.where(air, healthy + junk, healthy + 10)
    found = Found(map.astype(np.float32), map.mean(axis=(1, 2)) * 0, healthy.astype(np.float32))
    detector = DetectorEntry(OUTPUT, lambda _: found, calibration=CALIBRATION)
    (row,) = judge.score_case([detector], case)
    (evidence,) = detector.evidence.values()
    # The cross-correlation of Baumgartner et al. is taken over whole slices.
    return {name: value for name, value in row.scores.items() if name != NCC}, evidence


@pytest.mark.parametrize("name", ["healthy", "sick"])
def test_what_is_said_of_the_air_does_not_count(name):
    case = patient(name, sick=name == "sick")
    (plain, kept), (spoilt, others) = (scored(case, junk) for junk in (0.0, 5000.0))
    assert plain == spoilt and len(plain) == (10 if name == "sick" else 4)
    assert (
        np.array_equal(kept.pixels, others.pixels) and len(kept.pixels) == (np.asarray(case.arrays["image"]) > 0).sum()
    )
    assert np.array_equal(kept.truth, others.truth) and kept.truth.sum() == (12 if name == "sick" else 0)


def test_the_air_is_not_counted_among_what_was_called_healthy():
    case = patient("a", sick=True)
    scores, evidence = scored(case, 5000.0)
    alarms = evidence.pixels[~evidence.truth] >= CALIBRATION.pixel
    assert 0.05 < alarms.mean() < 0.5
    assert scores[SPECIFICITY] == pytest.approx(1 - alarms.mean())


def test_a_mask_that_reaches_into_the_air_ends_at_the_skin():
    case = patient("a", sick=True)
    wide = np.asarray(case.arrays["mask"]).copy()
    wide[:, 1, :2] = 1
    beyond = replace(case, arrays={**case.arrays, "mask": wide})
    assert scored(case, 0.0)[0] == scored(beyond, 0.0)[0]


def test_a_subject_without_whom_the_area_would_be_smaller_has_a_larger_value():
    """Worked out by hand: the pairs of an abnormal and a healthy image that are in order, of 2 and 3."""
    scores, abnormal = np.float32([3, 1, 2, 0, 0]), np.array([True, True, False, False, False])
    values = jackknifed_areas(scores, abnormal, list("abcde"))
    area, without = 5 / 6, {"a": 2 / 3, "b": 1.0, "c": 1.0, "d": 3 / 4, "e": 3 / 4}
    centre = np.mean(list(without.values()))
    assert values == pytest.approx({name: area + 4 * (centre - one) for name, one in without.items()})
    assert values["a"] == max(values.values()) and values["b"] == values["c"] == min(values.values())
