from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.data.cases import PhantomSource
from ganatomy.errors import Shortage, UserError
from ganatomy.evaluation.judging import INPUT, Classical, Entry, Row, Score, Scores
from ganatomy.evaluation.references import MOST_SLICES, Tuned, choose, excerpt, strongest, tune
from ganatomy.images.image import axial_affine

ERROR = Score("error", "lower")


def case(name, slices=3):
    number = np.arange(slices, dtype=np.float32)[:, None, None] * np.ones((4, 5), np.float32)
    source = PhantomSource("brain-mr", 0, ())
    affine = axial_affine((3.0, 1.0, 1.5))
    return Sample(Case(name, name, "val", {"image": source}), {"image": number[None]}, {"image": affine}, {})


class Judging:
    """A judge whose error is the number that an entry returns."""

    decisive, leading, reference, tuned_together = None, ("error",), INPUT, False

    def named(self, name):
        return ERROR

    def score_case(self, entries, sample):
        name = sample.case.name
        return [Row(name, name, (0, 1), one.name, {"error": one.run(sample, 0, 1)}) for one in entries]


def constant(number):
    return lambda sample, start, stop: number


def test_the_setting_that_is_best_on_validation_cases_is_used():
    smoothing = Classical("smoothing", "classical", [(f"width {n}", constant(abs(n - 5))) for n in (2, 4, 9)])
    tuned = tune(Judging(), [smoothing], [Entry(INPUT, constant(7.0))], [case("a"), case("b")])
    (entry,) = tuned.entries
    assert entry.run(None, 0, 1) == 1 and tuned.subjects == 2
    assert entry.about == "classical; width 4, the best of 3 settings on validation cases"
    assert {(row.method, row.scores["error"]) for row in tuned.rows} == {("smoothing", 1), (INPUT, 7.0)}


def test_without_validation_cases_the_middle_setting_is_used():
    smoothing = Classical("smoothing", "classical", [(f"width {n}", constant(n)) for n in (2, 4, 9)])
    tuned = tune(Judging(), [smoothing], [], [])
    assert tuned.entries[0].run(None, 0, 1) == 4 and tuned.entries[0].about == "classical; width 4"
    assert (tuned.rows, tuned.subjects) == ([], 0)


def test_a_case_that_cannot_be_scored_is_left_out_but_a_shortage_stops():
    def refusing(sample, start, stop):
        raise UserError("no picture")

    def short(sample, start, stop):
        raise Shortage("memory")

    assert tune(Judging(), [], [Entry(INPUT, refusing)], [case("a")]).rows == []
    with pytest.raises(Shortage):
        tune(Judging(), [], [Entry(INPUT, short)], [case("a")])


def rows(**errors):
    return [Row("a", "a", (0, 1), name, {"error": error}) for name, error in errors.items()]


def test_the_reference_is_chosen_on_validation_cases_whatever_the_judged_ones_say():
    tuned = Tuned([], rows(input=3.0, smoothing=1.0, network=2.0), 1)
    judged = Scores(rows(output=0.5, input=0.1, smoothing=9.0, network=9.0))
    found = choose(Judging(), tuned, ["input", "smoothing", "network"], judged)
    assert found.name == "smoothing" and found.chosen == "strongest of 3 methods by error on validation cases"


def test_without_validation_cases_the_strongest_on_the_judged_ones_is_the_reference_and_it_is_said():
    judged = Scores(rows(output=0.5, input=0.4, smoothing=9.0))
    found = choose(Judging(), Tuned([], [], 0), ["input", "smoothing"], judged)
    assert found.name == "input" and "on the judged cases, which favours it" in found.chosen
    assert choose(Judging(), Tuned([], [], 0), ["input"], judged) == ("input", "")
    assert choose(Judging(), Tuned([], [], 0), ["nothing"], judged) == (INPUT, "")


def test_scores_that_are_not_finite_are_not_the_best():
    scores = Scores(rows(a=float("nan"), b=2.0, c=float("inf")))
    assert strongest(scores, ["a", "b", "c"], ERROR) == "b"
    assert strongest(scores, ["b"], Score("error", "higher")) == "b" and strongest(scores, [], ERROR) is None


def test_the_middle_slices_of_a_long_case_stand_for_it():
    whole = case("a", slices=21)
    part = excerpt(whole)
    first = (21 - MOST_SLICES) // 2
    np.testing.assert_array_equal(
        part.slices(0, MOST_SLICES)["image"], whole.slices(first, first + MOST_SLICES)["image"]
    )
    np.testing.assert_allclose(part.affines["image"] @ [0, 2, 3, 1], whole.affines["image"] @ [first, 2, 3, 1])
    assert part.case.sources == {}, "the ground truth of a phantom is that of the whole"
    assert excerpt(case("b", slices=2)).shape == (2, 4, 5)


def test_cases_whose_roles_have_other_slices_are_not_cut():
    whole = case("a", slices=20)
    two = SimpleNamespace(**{**vars(whole), "arrays": {**whole.arrays, "low": np.zeros((1, 5, 2, 2))}})
    made = Sample(two.case, two.arrays, {**whole.affines, "low": np.eye(4)}, {})
    assert excerpt(made).shape[0] == 20


class Together(Judging):
    """A judge whose deciding score is the error over all slices of all cases together."""

    tuned_together = True

    def score_case(self, entries, sample):
        self.slices = [*getattr(self, "slices", []), sample.shape[0]]
        return []

    def score_all(self, entries, cases, training):
        total = sum(one.shape[0] for one in cases)
        return [Row(own, own, (0, 1), one.name, {"error": abs(one.run(None, 0, 1) - total)})
                for one in entries for own in ("a", "b")]  # fmt: skip


def test_settings_are_chosen_on_whole_cases_together_where_the_judge_says_so():
    judge = Together()
    smoothing = Classical("smoothing", "classical", [(f"width {n}", constant(n)) for n in (2, 20, 41)])
    tuned = tune(judge, [smoothing], [Entry(INPUT, constant(7.0))], [case("a", 20), case("b", 20)])
    assert judge.slices == [20, 20], "no excerpts"
    assert tuned.entries[0].run(None, 0, 1) == 41
    assert {(row.method, row.scores["error"]) for row in tuned.rows} == {("smoothing", 1), (INPUT, 33)}
