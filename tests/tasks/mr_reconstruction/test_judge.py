import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganatomy.case import Case
from ganatomy.claims.decide import find_claim
from ganatomy.data.cases import DataConfig, PhantomSource
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of
from ganatomy.evaluation.references import choose, tune
from ganatomy.images.image import Image
from ganatomy.methods.reconstruction.dagan import DAGAN
from ganatomy.physics.coils import Encoding
from ganatomy.physics.fourier import fft
from ganatomy.physics.sampling import Undersampling, undersample, zero_filled
from ganatomy.reports.report import Report
from ganatomy.tasks.mr_reconstruction.judge import HIGH, LOW, RESIDUAL, Measurement, shrunken, total_variation
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import PSNR, MRReconstruction, ReconstructionConfig
from ganatomy.tasks.restoration.semantics import DICE
from ganatomy.training.run import TrainConfig, train

pytestmark = pytest.mark.usefixtures("one_thread")

SCAN = Undersampling(pattern="radial", fraction=0.4)
SOURCE = PhantomSource("brain-mr", 0, ())


def task(**values):
    return MRReconstruction(ReconstructionConfig(**{"size": (32, 32), "scan": SCAN, **values}), True)


def blocks(seed=0, slices=3):
    """Draw an image of few grey values with straight edges, which suits total variation."""
    planes = np.zeros((slices, 32, 32), np.float32)
    for plane in planes:
        rng = np.random.default_rng(seed)
        for value in (0.4, 0.7, 1.0):
            top, left = rng.integers(3, 14, 2)
            plane[top : top + 12, left : left + 12] = value
    return planes


def case(seed=0, asked=None):
    asked = asked or task()
    own = Case(f"p{seed}", f"p{seed}", "test", {"target": SOURCE})
    sample = asked.simulate(asked.frame({"target": Image.from_array(blocks(seed)[None], (3.0, 1.0, 1.0))}, own), seed)
    return replace(sample, arrays={name: np.array(array) for name, array in sample.arrays.items()})


def judged(run, asked=None, count=4):
    judge, cases = judge_of(asked or task()), [case(seed, asked) for seed in range(count)]
    tuned = tune(judge, judge.classical(), [], [])
    entries = judge.with_references(Entry(OUTPUT, run), *tuned.entries)
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    reference = choose(judge, tuned, [INPUT, *(one.name for one in tuned.entries)], Scores(rows))
    return judge, Judgement(entries, cases, Scores(rows), reference.name)


def right(one, start, stop):
    return one.arrays["target"][0, start:stop]


def brighter(one, start, stop):
    return 1.1 * right(one, start, stop)


def test_total_variation_finds_an_image_of_few_edges_and_keeps_what_was_measured():
    true = torch.from_numpy(blocks())[:, None]
    mask = SCAN.mask((32, 32)).expand(len(true), 1, -1, -1)
    seen = zero_filled(undersample(true, mask))
    found = total_variation(Scan(seen, Encoding(mask)))
    assert (found - true).abs().square().mean() < 0.1 * (seen - true).abs().square().mean()
    torch.testing.assert_close(fft(found) * mask, fft(seen) * mask, atol=1e-5, rtol=0)


@pytest.mark.parametrize("values", [{}, {"phase": 1.0}, {"coils": 4, "sensitivities": "known", "phase": 1.0}])
def test_the_data_consistency_residual_is_the_share_of_the_measurement_that_is_contradicted(values):
    judge = judge_of(task(**values))
    one = case(asked=judge.task)
    measured = Measurement.of(judge.sample(one, 0, 3))
    assert measured.consistency_residual(right(one, 0, 3)) == pytest.approx(0, abs=1e-5)
    assert measured.consistency_residual(brighter(one, 0, 3)) == pytest.approx(0.1, rel=1e-3)
    assert measured.residual_map(right(one, 0, 3)).max() < 2e-5
    assert measured.residual_map(brighter(one, 0, 3)).max() > 0.05


def test_the_complete_scan_is_perfect_and_the_references_are_in_order():
    judge, judgement = judged(right)
    means = {
        name: {score: judgement.scores.interval(name, score).mean for score in (LOW, HIGH, RESIDUAL)}
        for name in (INPUT, OUTPUT, "total variation")
    }
    assert means[OUTPUT] == pytest.approx({LOW: 0, HIGH: 0, RESIDUAL: 0}, abs=1e-5)
    assert means["total variation"][HIGH] < means[INPUT][HIGH]
    assert judgement.scores.interval(TARGET, PSNR) is None, "a distance from itself is no score"
    assert judgement.scores.interval(TARGET, RESIDUAL).mean == pytest.approx(0, abs=1e-5)
    compared = judgement.scores.compare("total variation", INPUT, judge.named(PSNR))
    assert compared.outcome == "better"
    compared = judgement.scores.compare("wavelets", INPUT, judge.named(PSNR))
    assert compared.outcome == "better"
    assert judgement.reference == "total variation"
    assert "No test subject has this score" in judge.verdict(judgement)[0], "the PSNR of a perfect output is infinite"


def test_slices_without_tissue_are_left_out():
    judge, one = judge_of(task()), case()
    sample = judge.sample(one, 0, 3)
    with_empty = {name: np.concatenate([values, 0 * values]) for name, values in sample.items()}
    with_empty["shown 002"] = np.concatenate([sample["shown 002"]] * 2)
    output = brighter(one, 0, 3)
    spacing = (3.0, 1.0, 1.0)
    want = judge.score(output, sample, spacing)
    assert judge.score(np.concatenate([output, output]), with_empty, spacing) == pytest.approx(want)
    assert judge.score(output, {name: 0 * values for name, values in sample.items()}, spacing) == {}


def test_the_verdict_says_who_is_nearer_and_what_contradicts():
    judge, judgement = judged(brighter)
    sentence, outcome = judge.verdict(judgement)
    assert outcome == "worse" and "farther from the complete scan than total variation" in sentence
    assert "Against the zero-filled image: PSNR +" in sentence and "data-consistency residual is 10.0 %" in sentence
    points = " ".join(judge.caveats(judgement))
    assert "contradicts what was measured" in points and "phantoms" in points and "without phase" in points
    judge, judgement = judged(lambda one, start, stop: 0 * right(one, start, stop))
    assert judge.verdict(judgement)[1] == "worse"
    judge, judgement = judged(right, task(phase=1.0))
    points = " ".join(judge.caveats(judgement))
    assert "contradicts" not in points and "artificial phase" in points


def test_pictures_show_the_mask_and_where_the_output_departs():
    judge, judgement = judged(brighter, count=2)
    report = Report("Reconstruction")
    judge.illustrate(report, judgement)
    assert report.html().count("data:image/png") == 3, "two cases and one look at the measurement"
    facts = judge.measured()
    assert "radial" in facts["Scan"] and "40%" in facts["Scan"]


def test_claims_name_scores_that_have_a_better_direction():
    judge = judge_of(task())
    for slug in ("deep-dealiasing", "dagan", "gancs", "refinegan"):
        claim = find_claim(slug)
        assert all(judge.named(predicate.score).better for predicate in claim.predicates)
        assert {predicate.first for predicate in claim.predicates} <= set(claim.arms)
        simple = {method.name for method in judge.classical()}
        assert {predicate.second for predicate in claim.predicates} <= {*claim.arms, *simple, INPUT}


def test_a_trained_run_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr("ganatomy.tasks.restoration.semantics.STEPS", 5)
    config = DAGAN.Config.preset(
        "small", size=(32, 32), levels=3, width=4, batch_size=2, perceptual_weight=0.0, adversarial_weight=0.0
    )
    data = DataConfig(phantom_subjects=3, phantom_size=32, cache=tmp_path / "cases")
    options = TrainConfig(rounds=2, validate_every=2, validation_slices=1, threads=1, diagnose=False)
    train("dagan", tmp_path / "run", config, data, options)
    evaluate(tmp_path / "run", out=tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()
    table = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert DICE in json.dumps(table)


def test_an_empty_slice_stays_empty_where_coefficients_are_shrunk():
    empty = np.zeros((32, 32), np.complex64)
    assert np.array_equal(shrunken(empty, 0.0), empty)
