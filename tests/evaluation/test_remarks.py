import math
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.judging import OUTPUT, Judgement, Row, Score, Scores
from ganatomy.evaluation.page import add_comparisons, add_summary
from ganatomy.evaluation.remarks import (
    against,
    improved,
    nearness,
    phantoms,
    sentences,
)
from ganatomy.images.files import Source
from ganatomy.metrics.statistics import compare
from ganatomy.reports.report import Report

PSNR = Score("psnr", "higher", "dB")


def sample(name, source):
    return Sample(Case(name, name, "test", {"input": source}), {"input": np.zeros((1, 1, 2, 3))}, {}, {})


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (2.0, "The output is closer to the scan than the input: PSNR +2"),
        (-2.0, "The output is farther from the scan than the input: PSNR −2"),
        (0.0, "The output cannot be told from the input by its distance to the scan: PSNR"),
    ],
)
def test_nearness_is_told_with_its_direction(gain, words):
    before = [30.0, 31.0, 33.0]
    found = compare([value + gain for value in before], before, ["a", "b", "c"], metric="psnr", unit="dB")
    said = nearness(found, "the scan", "the input")
    assert said.startswith(words) and said.endswith(f", better in {3 * (gain > 0)} of 3 subjects.")


@pytest.mark.parametrize(
    ("subjects", "few", "end"),
    [("aaaa", "One test subject", " dB (+1.0 to +2.0)."), ("aabb", "Two test subjects", "better in 2 of 2 subjects.")],
)
def test_with_few_subjects_the_difference_is_told_and_no_verdict(subjects, few, end):
    found = compare([31.0, 32.0, 35.0, 35.0], [30.0, 31.0, 33.0, 33.0], [*subjects], metric="psnr", unit="dB")
    assert found.outcome == "undecided" and (subjects == "aabb" or improved(found) == ".")
    said = nearness(found, "the scan", "the input")
    assert said.startswith(f"{few}: no comparison can be decided. By its distance to the scan, the output against the")
    assert "PSNR +1.5" in said and said.endswith(end)
    assert "told apart" not in found.words and found.words.startswith(f"{few}: no comparison can be decided. output")


def test_baselines_without_the_score_are_left_out():
    rows = [
        Row(case, case, (0, 1), method, {"psnr": value})
        for case, value in (("a", 30.0), ("b", 34.0), ("c", 27.5))
        for method, value in ((OUTPUT, value), ("baseline", value - 1.5))
    ]
    rows.append(Row("a", "a", (0, 1), "silent", {"other": 1.0}))
    (said,) = against(Judgement([], [], Scores(rows)), ["baseline", "silent"], PSNR, "PSNR")
    assert said.startswith("Against baseline: PSNR +1.5") and said.endswith(", better.")
    rows.append(Row("a", "a", (0, 1), "silenced", {"psnr": math.nan}))
    report = Report("r")
    add_comparisons(report, SimpleNamespace(scores=[PSNR]), Scores(rows))
    assert "psnr against baseline" in report.html() and "silenced" not in report.html()
    assert math.isnan(Scores(rows).mean("silent", "psnr")) and Scores(rows).mean("baseline", "psnr") == 29.0


def test_a_warning_where_any_case_is_a_phantom(tmp_path):
    scan, drawn = (
        sample("a", Source("a", "a", "nifti", (tmp_path / "a.nii",))),
        sample("b", PhantomSource("brain-mr", 0, ())),
    )
    assert phantoms([scan]) == []
    (warning,) = phantoms([scan, drawn], ", drawn by hand")
    assert warning.startswith("The patients are procedural phantoms, drawn by hand: this shows")


def test_parts_with_nothing_to_say_are_left_out():
    assert sentences("One.", "", "Two.") == "One. Two."


def test_scores_that_are_defined_nowhere_are_left_out_and_named_once():
    contrast, bits = Score("contrast", "higher"), Score("bits", None)
    rows = []
    for case in "abc":
        rows.append(Row(case, case, (0, 1), OUTPUT, {"psnr": 30.0 + ord(case), "contrast": 0.5, "bits": 1.25}))
        rows.append(Row(case, case, (0, 1), "constant", {"psnr": 20.0, "contrast": math.nan, "bits": math.nan}))
        rows.append(Row(case, case, (0, 1), "flat", {"contrast": math.nan}))
    report, judge = Report("r"), SimpleNamespace(scores=[PSNR, contrast, bits], resampled="subjects")
    add_summary(report, judge, Scores(rows))
    page = report.html()
    assert "Left out, since they are not defined: contrast of constant and flat; bits of constant." in page
    assert page.count('class="nothing"') == 2 and "Flat" not in page and "Constant" in page
