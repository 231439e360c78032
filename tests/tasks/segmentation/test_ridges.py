"""Frangi's filter as the classical method for thin lines."""

import numpy as np
import pytest
from levels import Levels, case

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.evaluation.references import tune
from ganatomy.inference.model import Model
from ganatomy.tasks.segmentation.ridges import FRANGI, continued

SIZE = (1, 60, 72)
LINES = {"inputs": ("t1",), "regions": {"vessels": (1,)}, "lines": True}


def picture(seed, brighter):
    """Return an uneven picture with three curved lines three pixels wide, and their mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[2]]
    mask = np.zeros(SIZE[1:], bool)
    for middle in (12, 30, 47):
        mask |= np.abs(rows - middle - 5 * np.sin(columns / 9 + rng.uniform(0, 6))) < 1.6
    values = 300 + 4 * columns + (120 if brighter else -120) * mask + rng.normal(0, 8, mask.shape)
    return values[None], mask[None].astype(np.uint8)


def judged(brighter, field=None):
    method = Levels(**LINES, field_of_view="field" if field is not None else None)
    shown = {"field": field} if field is not None else {}
    cases = []
    for seed in range(3):
        values, mask = picture(seed, brighter)
        values = values if field is None else np.where(field, values, 0)
        cases.append(case(method.task, f"c{seed}", t1=values, tumour=mask, **shown))
    judge = judge_of(method.task)
    judge.learn(cases[:2])
    tuned = tune(judge, judge.classical(), judge.references()[0], cases[1:2])
    entries = judge.with_references(judge.entry(Model(method), OUTPUT), *tuned.entries)
    return judge, Judgement(entries, cases[2:], Scores(judge.score_case(entries, cases[2])))


@pytest.mark.parametrize("brighter", [True, False])
def test_lines_are_found_on_either_side_where_no_threshold_finds_them(brighter):
    _, judgement = judged(brighter)
    found, threshold = (judgement.scores.of_case("c2", name) for name in (FRANGI, "threshold"))
    assert found["dice"] > 0.75 > 0.6 > threshold["dice"] and found["roc area"] > 0.95
    (about,) = (entry.about for entry in judgement.entries if entry.name == FRANGI)
    assert ("bright lines" if brighter else "dark lines") in about and "best of 4 settings" in about


def test_the_border_of_the_field_of_view_is_no_line():
    rows, columns = np.mgrid[: SIZE[1], : SIZE[2]]
    field = (np.hypot(rows - 30, columns - 36) < 27)[None].astype(np.uint8)
    _, judgement = judged(False, field)
    entry = next(one for one in judgement.entries if one.name == FRANGI)
    found, true = entry.run(judgement.cases[0], 0, 1)[0], picture(2, False)[1] > 0
    border = (field > 0) & (np.hypot(rows - 30, columns - 36) > 25)[None]
    assert found[border & ~true].mean() < 0.2 and not found[field == 0].any()
    assert judgement.scores.of_case("c2", FRANGI)["dice"] > 0.7


def test_an_image_is_continued_beyond_its_field_by_what_is_near():
    image = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (70, 1))
    inside = np.zeros((70, 80), bool)
    inside[30:40, 20:60] = True
    found = continued(np.where(inside, image, -5).astype(np.float32), inside)
    np.testing.assert_array_equal(found[inside], image[inside])
    assert found.min() >= image[inside].min() - 1e-4 and abs(found[2, 22] - image[30, 22]) < 0.15
    np.testing.assert_array_equal(continued(image, np.ones_like(inside)), image)


def test_lines_are_one_region_and_other_tasks_have_no_filter():
    with pytest.raises(UserError, match="--lines: thin lines are judged as one region, not as whole, core"):
        Levels(lines=True).build_task()
    judge = judge_of(Levels(inputs=("t1",), regions={"lesion": (1,)}).task)
    assert judge.classical() == ()
    without = judge_of(Levels(**LINES).task)
    without.learn([])
    assert without.classical() == (), "nothing to fit its level on"
