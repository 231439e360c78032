"""Doubts about the weights that validation scores have chosen."""

import math
from types import SimpleNamespace

import pytest

from ganatomy.evaluation.selection import doubtful_choice
from ganatomy.inference.model import build
from ganatomy.reports import curves


def doubt(folder, values, score="dice", better="higher", empty=0.0):
    rows = [",".join(curves.COLUMNS)]
    for number, value in enumerate(values, start=1):
        for name, shown in ((score, value), ("other", 0.5)):
            row = {"round": 25 * number, "name": f"validation/{name}", "value": shown}
            rows.append(",".join(str(row.get(column, 0)) for column in curves.COLUMNS))
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    facts = SimpleNamespace(selection=SimpleNamespace(score=score, better=better), validation="other subjects")
    task = SimpleNamespace(constant_scores={} if empty is None else {"dice": empty})
    return doubtful_choice(folder, facts, task, ["ann", "ben"])


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([0.0, 0.0], {}, "never better than 0, that of an empty or constant output, in 2 validations"),
        ([0.0], {}, "never better than 0, that of an empty or constant output, in 1 validation"),
        ([0.5, 0.4, 0.48], {"empty": 0.5}, "never better than 0.5, that of an empty"),
        ([0.31, 0.31, 0.31], {}, "it was the same, 0.31, in all of 3 validations"),
        ([0.31, 0.2, 0.3], {}, "best, 0.31, in the first of 3 validations, at round 25, and never improved"),
        ([7.5, 9.0, 8.0], {"score": "rmse", "better": "lower", "empty": None}, "best, 7.5, in the first of 3"),
        ([math.nan, math.nan], {}, "none of the validations gave a number"),
    ],
)
def test_a_choice_by_scores_that_mean_nothing_is_doubted(tmp_path, values, options, told):
    found = doubt(tmp_path, values, **options)
    assert told in found and "on other subjects (ann, ben): name subjects" in found and "--val-subjects" in found
    assert f"validation score {options.get('score', 'dice')}, but" in found and "\n" not in found


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([0.0, 0.1, 0.05], {}),
        ([0.3, 0.2], {}),
        ([9.0, 7.5, 8.0], {"score": "rmse", "better": "lower", "empty": None}),
        ([], {}),
    ],
)
def test_other_choices_are_not(tmp_path, values, options):
    assert doubt(tmp_path, values, **options) == ""
    (tmp_path / "metrics.csv").unlink()
    assert doubtful_choice(tmp_path, SimpleNamespace(selection=SimpleNamespace(score="dice")), None, []) == ""


@pytest.mark.parametrize("slug", ["segan", "anovaegan"])
def test_tasks_know_the_scores_of_empty_outputs(slug):
    task = build(slug, {}).task
    assert task.constant_scores and set(task.constant_scores) <= set(task.directions)
