"""Scores of synthetic CT in HU and of synthetic PET in SUV, over whole cases."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of
from ganatomy.images.image import axial_affine
from ganatomy.metrics.statistics import Interval
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.tasks.translation import physical
from ganatomy.tasks.translation.judge import TranslationJudge, agreement_rows, inverted
from ganatomy.tasks.translation.task import Translation, TranslationConfig

SPACING = (5.0, 2.0, 3.0)


class Marked(TranslationConfig):
    """Options with two label maps."""

    role_fields: ClassVar = {
        "source": ImageOptions,
        "target": ImageOptions,
        "first": MaskOptions,
        "second": MaskOptions,
    }
    first: str = "lesions"
    second: str = "liver"


def task(target="ct"):
    options = {"source": "mr", "target": target, "size": (40, 36), "mr": {"window": (0, 1000)}}
    return Translation(Marked.preset("paper", **options), True, "mae[window]", guides=("lesions", "liver"))


def offsets(shape=(10, 40, 36)):
    """Return the distances in mm from the middle along rows and columns."""
    _, row, column = np.indices(shape)
    return (row - 20) * 2.0, (column - 18) * 3.0


def head(shape=(10, 40, 36)):
    """A head of soft tissue with a skull, fat and a cavity, in air."""
    radius = np.hypot(*offsets(shape))
    hu = np.full(shape, -1000.0, np.float32)
    hu[radius < 34] = -100.0
    hu[radius < 31] = 900.0
    hu[radius < 26] = 40.0
    hu[:, 18:23, 16:20] = -1000.0
    return hu


def case(own, **arrays):
    placed = {name: values[None] for name, values in arrays.items()}
    affines = dict.fromkeys(placed, axial_affine(SPACING))
    return Sample(Case("p", "p", "test", {}), placed, affines, own.roles)


def rows(own, output, one, **options):
    judge = judge_of(own, options)
    entries = judge.with_references(Entry(OUTPUT, lambda _, start, stop: output[start:stop]))
    return judge, entries, judge.score_case(entries, one)


def whole(found, method=OUTPUT):
    """Return the row of a whole case, which has the scores of its unit."""
    own = [row for row in found if row.method == method]
    (row,) = [row for row in own if {physical.SLOPE, physical.FALSE} & set(row.scores)]
    return row


def test_a_body_includes_its_cavities_and_no_air_around_it():
    hu = head()
    inside = physical.body(hu)
    assert inside[3, 20, 18] and hu[3, 20, 18] == -1000 and not inside[3, 0, 0]
    assert (inside[:, 1:-1] == (np.hypot(*offsets()) < 34)[:, 1:-1]).mean() > 0.98
    assert not physical.body(np.full((2, 5, 5), -1000.0)).any()


@pytest.mark.parametrize("slices", [1, 2])
def test_thin_cases_have_a_body_too(slices):
    hu = head((slices, 40, 36))
    assert np.array_equal(physical.body(hu)[0], physical.body(head())[3])
    found = physical.ct_scores(hu, hu, None, None, SPACING)
    assert found[physical.SLOPE] == pytest.approx(1) and found[physical.PATHS] == 0


def test_a_true_ct_has_no_errors():
    hu = head()
    found = physical.ct_scores(hu, hu, None, None, SPACING)
    aims = dict.fromkeys(found, 0.0) | {physical.SLOPE: 1.0}
    assert found == pytest.approx(aims, abs=1e-6)
    assert set(found) == {score.name for score in physical.CT.scores}


def test_errors_are_those_of_each_tissue_and_what_follows_for_rays():
    hu = head()
    soft = np.where(hu == 900, 600, np.where(hu == -1000, -1000, hu + 30))
    found = physical.ct_scores(soft.astype(np.float32), hu, None, None, SPACING)
    assert found["bias bone"] == -300 and found["MAE bone"] == 300
    assert found["bias soft tissue"] == found["bias fat"] == 30 and found["bias air"] == 0
    assert 0.6 < found[physical.SLOPE] < 0.9
    assert found[physical.LOST] == found[physical.INVENTED] == 0
    # 300 HU of bone are 300/1950 of the density of water, over the 10 mm of skull that most rays pass twice.
    assert -4 < found[physical.PATH_BIAS] < -0.5 and found[physical.PATHS] >= -found[physical.PATH_BIAS]


def test_bone_that_vanishes_or_appears_is_counted():
    hu = head()
    lost, made = hu.copy(), hu.copy()
    lost[:, :20][hu[:, :20] == 900] = 40
    found = physical.ct_scores(lost, hu, None, None, SPACING)
    assert found[physical.LOST] == pytest.approx((hu[:, :20] == 900).sum() / (hu == 900).sum())
    made[:, 25:30, 14:22] = 900
    added = (made == 900) & (hu != 900)
    found = physical.ct_scores(made, hu, None, None, SPACING)
    assert found[physical.INVENTED] == pytest.approx(added.sum() / (made == 900).sum()) and found[physical.LOST] == 0


def pet():
    """A liver of SUV 2 with two lesions of 8 and 6, and a hot bowel outside of it."""
    suv, lesions, liver = (np.zeros((10, 40, 36), np.float32) for _ in range(3))
    liver[:, 5:30, 5:30] = 1
    suv[liver > 0] = 2
    for place, value in (
        ((slice(2, 4), slice(8, 11), slice(8, 12)), 8.0),
        ((slice(6, 8), slice(20, 23), slice(20, 23)), 6.0),
    ):
        suv[place], lesions[place] = value, 1
    suv[4, 33:36, 31:34] = 9
    return suv, lesions.astype(np.uint8), liver.astype(np.uint8)


def test_lesions_are_compared_one_by_one():
    true, lesions, liver = pet()
    made = true.copy()
    made[2:4, 8:11, 8:12] = 5.0
    made[6:8, 20:23, 20:23] = 2.2
    made[1, 26:28, 26:28] = 4.0
    found = physical.pet_scores(made, true, lesions, liver, SPACING)
    assert found[physical.MEAN_BIAS] == pytest.approx((-3.0 - 3.8) / 2) == found[physical.MAX_BIAS]
    assert found[physical.MEAN_ERROR] == pytest.approx(3.4)
    assert found[physical.FOUND] == 0.5 and found[physical.FALSE] == 1, "the bowel is no part of the liver"
    assert physical.pet_scores(made, true, lesions, None, SPACING)[physical.FALSE] == 2
    assert found[physical.COLD_ERROR] == pytest.approx(2.0 * 4 / (true < 2.5).sum())
    same = physical.pet_scores(true, true, lesions, liver, SPACING)
    assert same == pytest.approx(dict.fromkeys(same, 0.0) | {physical.FOUND: 1.0})


def test_an_output_that_is_hot_everywhere_finds_all_lesions_and_is_told_to_be_hot_elsewhere():
    true, lesions, liver = pet()
    found = physical.pet_scores(np.full_like(true, 8.0), true, lesions, liver, SPACING)
    assert found[physical.FOUND] == 1 and found[physical.FALSE] == 0
    cold = (true < 2.5).sum()
    assert found[physical.SPREAD] == pytest.approx(cold / true.size)
    assert physical.pet_scores(np.zeros_like(true), true, lesions, liver, SPACING)[physical.SPREAD] == 0
    own = task("pet")
    one = case(own, mr=100 * true, pet=true, lesions=lesions, liver=liver)
    judge, entries, made = rows(own, np.full_like(true, 8.0), one)
    assert any("Uptake was invented" in told for told in judge.faults(Judgement(entries, [one], Scores(made))))


@pytest.mark.parametrize(("low", "high", "told"), [(-0.4, -0.1, True), (-0.2, 0.1, False), (np.nan, np.nan, True)])
def test_a_contrast_is_inverted_where_its_whole_interval_is_negative(low, high, told):
    assert inverted(Interval(-0.1, low, high, 5, "subject", 0.95)) is told


def test_without_a_map_what_is_hot_in_truth_counts_as_a_lesion():
    true, *_ = pet()
    found = physical.pet_scores(np.zeros_like(true), true, None, None, SPACING)
    assert found[physical.FOUND] == 0 and found[physical.MAX_BIAS] == pytest.approx(-(8 + 6 + 9) / 3)
    quiet = np.full((2, 5, 5), 1.0)
    assert physical.FOUND not in physical.pet_scores(quiet, quiet, None, None, SPACING)


def test_the_judge_adds_the_scores_of_the_unit_to_one_row_per_case():
    own, hu = task(), head()
    one = case(own, mr=500 + hu / 4, ct=hu)
    judge, entries, found = rows(own, np.where(hu == 900, 500, hu).astype(np.float32), one)
    row = whole(found)
    assert row.slices == (0, 10) and row.scores["bias bone"] == -400
    assert {row.method for row in found} == {INPUT, OUTPUT, TARGET}
    assert len([row for row in found if row.method == OUTPUT]) == 3, "two blocks of slices, and the whole case"
    faults = judge.faults(Judgement(entries, [one], Scores(found)))
    assert any("slope" in told for told in faults) and not any("Bone was" in told for told in faults)
    assert "Tissues" in judge.particulars() and "Lesions" not in judge.particulars()


def test_the_maps_of_lesions_and_organ_are_the_guides_in_order_or_those_that_are_named():
    own = task("pet")
    true, lesions, liver = pet()
    one = case(own, mr=100 * true, pet=true, lesions=lesions, liver=liver)
    made = np.where(lesions > 0, 1, true).astype(np.float32)
    judge, entries, found = rows(own, made, one)
    row = whole(found)
    assert row.scores[physical.FOUND] == 0 and row.scores[physical.FALSE] == 0
    assert any("Lesions were lost" in told for told in judge.faults(Judgement(entries, [one], Scores(found))))
    assert judge.marks == ("lesions", "liver")
    *_, found = rows(own, made, one, lesions="liver", organ="liver")
    assert whole(found).scores[physical.FOUND] == 0
    with pytest.raises(UserError, match=r"--(lesions|organ) bones: no label map of this run; it has lesions, liver"):
        judge_of(own, {"lesions": "bones"})


def test_the_headline_tells_of_lesions_beside_the_distance():
    own = task("pet")
    true, lesions, liver = pet()
    one = case(own, mr=100 * true, pet=true, lesions=lesions, liver=liver)
    judge, entries, found = rows(own, 0.9 * true, one)
    *_, flat = rows(own, np.minimum(true, 2), one)
    found += [replace(row, method="flat") for row in flat if row.method == OUTPUT]
    words, _ = judge.verdict(Judgement([*entries, Entry("flat", lambda *_: None)], [one], Scores(found), "flat"))
    assert (
        "Lesions found 1.00 against 0.00; false lesions 0.00 per case against 0.00; hot elsewhere 0.00 against 0.00."
        in words
    )


def test_outputs_without_a_physical_unit_have_no_such_scores():
    options = {"source": "a", "target": "b", "a": {"window": (0, 9)}, "b": {"window": (0, 9)}}
    judge = TranslationJudge(Translation(TranslationConfig.preset("paper", **options), True, "mae[window]"))
    assert judge.physical is None and not {score.name for score in judge.scores} & {"slope", "lesions found"}
    with pytest.raises(UserError, match="no label map of this run; it has none"):
        TranslationJudge(judge.task, TranslationJudge.Options(lesions="x"))


def test_limits_of_agreement_are_those_of_the_patients_differences():
    own, hu = task(), head()
    cases = [case(own, mr=500 + hu / 4, ct=hu) for _ in range(3)]
    found = []
    for number, one in enumerate(cases):
        _, entries, more = rows(own, np.where(hu == 900, 800 + 50 * number, hu).astype(np.float32), one)
        found += [replace(row, subject=f"p{number}") for row in more]
    judge = judge_of(own)
    told = {
        row[0]: row[1:] for row in agreement_rows(judge.physical, Judgement(entries, cases, Scores(found)), judge.named)
    }
    assert told["bias bone"] == ["HU", -50.0, 50.0, pytest.approx(-148.0), pytest.approx(48.0), 3]
    assert told["bias fat"][1:3] == [0.0, 0.0] and set(told) == set(physical.CT.agreement)
