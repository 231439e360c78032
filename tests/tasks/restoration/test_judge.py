"""Scoring in blocks of slices, and of phantoms as a whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.evaluation.judging import OUTPUT, TARGET, Entry, Score
from ganatomy.images.image import axial_affine
from ganatomy.tasks.restoration.judge import RestorationJudge


class Sums(RestorationJudge):
    scores = (Score("error", "lower"), Score("level", None))
    leading = ("error",)
    caveats = illustrate = measured = verdict = None

    def score(self, output, sample, spacing):
        return {"error": float(np.abs(output - sample["target"]).sum()), "level": float(output.mean()), "own": 1.0}

    def truth(self, case):
        return 3.0 if case.name == "phantom" else None

    def score_truth(self, output, case, truth):
        assert output.shape == case.shape
        return {"level": truth * float(output[-1].mean())}


def case(name, slices=11):
    number = np.arange(slices, dtype=np.float32)[:, None, None] * np.ones((3, 4), np.float32)
    arrays = {"target": number[None], "input": number[None] + 1}
    return Sample(Case(name, "s", "test", {}), arrays, dict.fromkeys(arrays, axial_affine((3.0, 1.0, 1.0))), {})


@pytest.mark.parametrize("name", ["scan", "phantom"])
def test_blocks_are_scored_by_themselves_and_phantoms_as_a_whole(name):
    judge = Sums(SimpleNamespace(out_channels=1, bound_to=lambda case: judge.task))
    output, target = (
        Entry(who, lambda one, start, stop, role=role: one.arrays[role][0, start:stop])
        for who, role in ((OUTPUT, "input"), (TARGET, "target"))
    )
    steps = []
    rows = judge.score_case([output, target], case(name), lambda: steps.append(1))
    whole = name == "phantom"
    assert len(steps) == 2 and len(rows) == 2 * (2 + whole)
    places = [(0, 8), (8, 11), *([(0, 11)] if whole else [])]
    assert [row.slices for row in rows] == 2 * places and {row.subject for row in rows} == {"s"}
    mine, theirs = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    assert [row.scores.get("error") for row in mine[:2]] == [8 * 12, 3 * 12]
    assert [row.scores["level"] for row in mine[:2]] == [4.5, 10]
    # A distance of the target from itself is no score.
    assert [dict(row.scores) for row in theirs[:2]] == [{"level": 3.5}, {"level": 9}]
    assert [row.scores for row in (mine[2:] + theirs[2:])] == ([{"level": 33}, {"level": 30}] if whole else [])
