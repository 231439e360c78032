from dataclasses import replace

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.case import Case
from ganatomy.claims.decide import find_claim
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of
from ganatomy.evaluation.references import tune
from ganatomy.phantoms.endomicroscopy import EndomicroscopyMosaic
from ganatomy.tasks.endomicroscopy.judge import TOTAL, unsharp
from ganatomy.tasks.endomicroscopy.task import (
    CONSISTENCY,
    CONTRAST_LOW,
    CONTRAST_TRUE,
    FibreConfig,
    FibreSuperResolution,
)
from ganatomy.tasks.restoration.likeness import INFORMATION, PSNR, SSIM
from ganatomy.training.run import DataConfig, TrainConfig, train

SOURCE = PhantomSource("endomicroscopy", 0, ())


@pytest.fixture(scope="module")
def case():
    phantom = EndomicroscopyMosaic(0, size=64, slices=2)
    task = FibreSuperResolution(FibreConfig(), SSIM)
    given = {"true": phantom.image, "high": phantom.images["elsewhere"]}
    sample = task.simulate(task.frame(given, Case("p", "p", "test", {"true": SOURCE})), 0)
    return replace(sample, arrays={role: np.array(array) for role, array in sample.arrays.items()})


def without(case, role):
    return replace(case, arrays={name: values for name, values in case.arrays.items() if name != role})


def shown(role):
    return lambda one, start, stop: one.arrays[role][0, start:stop]


def judged(run, cases):
    judge = judge_of(FibreSuperResolution(FibreConfig(), SSIM))
    (mask,) = tune(judge, judge.classical(), [], []).entries
    entries = judge.with_references(mask, Entry(OUTPUT, run))
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores(rows))


def test_entries_are_ranked_by_what_they_make_of_the_frame(case):
    judge, judgement = judged(shown("signal"), [case])
    scores = judgement.scores
    assert scores.methods == [INPUT, "unsharp mask", OUTPUT, TARGET]
    totals = {name: scores.interval(name, TOTAL).mean for name in scores.methods[:3]}
    assert scores.interval(TARGET, TOTAL) is None, "the truth is no entry"
    assert totals["unsharp mask"] > totals[INPUT]
    assert scores.interval(OUTPUT, CONSISTENCY).mean == pytest.approx(0, abs=1e-5)
    assert scores.interval("unsharp mask", SSIM).mean > scores.interval(INPUT, SSIM).mean
    assert scores.interval(TARGET, CONTRAST_LOW).mean == pytest.approx(-scores.interval(INPUT, CONTRAST_TRUE).mean)
    sentence, _ = judge.verdict(judgement)
    assert "PSNR" in sentence and "measured by 0.00" in sentence
    assert not any("contradicts" in point for point in judge.caveats(judgement))


def test_structure_that_no_fibre_saw_is_told(case):
    judge, judgement = judged(shown("high"), [case])
    assert judge.verdict(judgement)[1] == "worse"
    assert any("contradicts its frame" in point for point in judge.caveats(judgement))


def test_frames_whose_truth_nobody_knows_are_judged_by_contrast_and_fibres(case):
    blind = without(case, "true")
    judge, judgement = judged(shown("signal"), [blind])
    scores = judgement.scores
    assert scores.methods == [INPUT, "unsharp mask", OUTPUT]
    assert scores.interval(OUTPUT, PSNR) is None and scores.interval(OUTPUT, INFORMATION)
    assert scores.interval(OUTPUT, TOTAL).mean > scores.interval(INPUT, TOTAL).mean == 0
    sentence, outcome = judge.verdict(judgement)
    assert sentence.startswith("No frame has a true image") and outcome == "undecided"


def test_an_unsharp_mask_sharpens_and_knows_nothing_from_outside():
    field = np.zeros((1, 20, 20), bool)
    field[:, 4:16, 4:16] = True
    flat = np.where(field, 50.0, 0.0).astype(np.float32)
    np.testing.assert_allclose(unsharp(flat, field, 2.0, 1.0), flat, rtol=1e-5)
    edge = flat.copy()
    edge[:, :, 10:16] *= 2
    sharp = unsharp(edge, field, 2.0, 1.0)
    assert sharp[0, 10, 9] < 50 and sharp[0, 10, 10] > 100 and (sharp[~field] == 0).all()


def test_a_trained_run_is_evaluated_with_pictures(tmp_path):
    cls = catalogue.load("pcle-cycle-sr")
    config = cls.Config.preset("small", patch=32, batch_size=2, blocks=1, width=4)
    data = DataConfig(phantom_subjects=3, phantom_size=32, cache=tmp_path / "cache")
    options = TrainConfig(rounds=2, validate_every=2, validation_slices=2, threads=1, diagnose=False)
    train("pcle-cycle-sr", tmp_path / "run", config, data, options)
    found = evaluate(tmp_path / "run")
    assert found.scores.methods == [INPUT, OUTPUT, "unsharp mask", TARGET] and found.leading[0] == SSIM
    assert "<img" in (tmp_path / "run" / "evaluation" / "report.html").read_text()


@pytest.mark.parametrize("slug", ["pcle-cycle-sr", "saliency-srgan"])
def test_claims_name_scores_that_the_judge_has(slug):
    claim, cls = find_claim(slug), catalogue.load(slug)
    judge = judge_of(cls(cls.Config.preset("small")).task)
    for predicate in claim.predicates:
        assert judge.named(predicate.score).better
        simple = [method.name for method in judge.classical()]
        assert predicate.first in claim.arms and predicate.second in (*claim.arms, *simple, INPUT)
    for values in claim.arms.values():
        cls.Config.preset("small", **values)
