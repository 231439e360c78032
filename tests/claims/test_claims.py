import json
from pathlib import Path

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.claims.claim import STRONGEST, Predicate
from ganatomy.claims.code import claim_digest
from ganatomy.claims.decide import CLAIMS, check, find_claim, overall
from ganatomy.claims.page import cells
from ganatomy.claims.reproduction import arms_of, reproduce
from ganatomy.claims.results import read_page
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores, label
from ganatomy.evaluation.judging import INPUT, Judge, Row, Scores, judge_of
from ganatomy.game import Method
from ganatomy.inference.runfile import TrainConfig, read_run, write_run
from ganatomy.nets.classifier import Classifier
from ganatomy.tasks.anomaly_detection.attribution import AttributionJudge
from ganatomy.tasks.translation.judge import TranslationJudge
from ganatomy.tasks.translation.maps import NORMALISATIONS
from ganatomy.training.series import finished, train_once

PSNR, SD = "psnr[-160,240]", "noise sd error"


def method(slug: str = "wgan-vgg", **values: object) -> Method:
    system = catalogue.load(slug)
    found: Method = system(system.Config.preset("small", **values))
    return found


@pytest.fixture(scope="module")
def judge() -> Judge:
    return judge_of(method(variant="cnn-mse").task)


def arms(score: str, **tables: list[list[float]]) -> ArmScores:
    """Rows for tables of (seeds, subjects); ``input`` has one line."""
    rows = [
        Row(f"case{j}", f"subject{j}", (0, 1), INPUT if arm == INPUT else label(arm, seed), {score: value})
        for arm, table in tables.items()
        for seed, line in enumerate(table)
        for j, value in enumerate(line)
    ]
    return ArmScores(Scores(rows), range(max(map(len, tables.values()))))


GOOD = [
    [33.0, 34.0, 35.0, 36.0, 33.5, 34.5],
    [33.2, 34.1, 35.3, 36.1, 33.7, 34.4],
    [33.1, 34.1, 35.1, 36.2, 33.5, 34.6],
]
INPUTS = [[30.0, 31.0, 32.5, 33.0, 30.5, 31.2]]


def test_a_clear_advantage_is_reproduced(judge: Judge) -> None:
    found = check(Predicate("", PSNR, "a"), arms(PSNR, a=GOOD, input=INPUTS), judge)
    assert found.finding == "reproduced" and found.better == "higher"
    assert found.difference.mean == pytest.approx(np.mean(GOOD) - np.mean(INPUTS))


def test_a_clear_disadvantage_is_not(judge: Judge) -> None:
    found = check(Predicate("", SD, "a"), arms(SD, a=GOOD, input=INPUTS), judge)
    assert found.finding == "not reproduced" and found.better == "lower"


def test_seeds_that_disagree_leave_it_open(judge: Judge) -> None:
    flipped = [*GOOD[:2], [value - 9 for value in GOOD[2]]]
    found = check(Predicate("", PSNR, "a"), arms(PSNR, a=flipped, input=INPUTS), judge)
    assert found.finding == "undecided"


def test_one_test_subject_decides_nothing(judge: Judge) -> None:
    found = check(Predicate("", PSNR, "a"), arms(PSNR, a=[[40.0], [41.0], [40.5]], input=[[30.0]]), judge)
    assert found.finding == "undecided" and np.isnan(found.difference.low)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_runs_decide_nothing(judge: Judge, seeds: int) -> None:
    clear, even = (Predicate("", PSNR, first, second) for first, second in (("a", INPUT), ("a", "a")))
    scores = arms(PSNR, a=GOOD[:seeds], input=INPUTS)
    found = [check(part, scores, judge) for part in (clear, even)]
    assert [one.finding for one in found] == ["not run enough", "undecided"]
    assert overall(found, miniature=False) == (
        "Not run enough: a verdict needs at least 3 runs of every arm.",
        "undecided",
    )


def test_runs_of_two_arms_are_not_paired_by_their_seeds(judge: Judge) -> None:
    """Two arms differ by 1 for every seed, but their runs differ by more from each other."""
    spread = [[value + shift for value in GOOD[0]] for shift in (-5, 0, 5)]
    shifted = [[value - 1 for value in line] for line in spread]
    found = check(Predicate("", PSNR, "a", "b"), arms(PSNR, a=spread, b=shifted, input=INPUTS), judge)
    assert found.difference.mean == pytest.approx(1) and found.over_subjects.low == pytest.approx(1)
    assert found.difference.low < -5 and found.finding == "undecided"


@pytest.mark.parametrize(("margin", "finding"), [(0.0, "not reproduced"), (1.0, "not reproduced"), (5.0, "reproduced")])
def test_a_margin_allows_the_first_arm_to_be_worse_by_so_much(judge: Judge, margin: float, finding: str) -> None:
    scores = arms(PSNR, a=GOOD, input=INPUTS)
    found = check(Predicate("", PSNR, INPUT, "a", margin), scores, judge)
    assert found.finding == finding
    assert found.difference.mean == pytest.approx(np.mean(INPUTS) - np.mean(GOOD)), "without the margin"
    told = cells(found)[3]
    assert told.endswith(f", margin {margin:g} dB") if margin else "margin" not in told
    noisier = arms(SD, a=GOOD, input=INPUTS)
    assert check(Predicate("", SD, "a", INPUT, margin), noisier, judge).finding == finding, (
        "for scores to be lower, too"
    )


def test_arms_of_other_systems_take_over_what_belongs_to_the_kind_of_task() -> None:
    arms = {arm.name: arm for arm in arms_of(find_claim("dcgan"), "paper")}
    assert arms["dense"].config.size == arms["dcgan"].config.size != catalogue.load("gan").Config().size


def test_clipping_has_as_many_updates_of_the_generator_as_the_penalty() -> None:
    for rounds in (None, 7):
        penalty, clipping = arms_of(find_claim("wgan-gp"), "small", rounds)
        whole = sum(stage.rounds for stage in penalty.method.stages())
        assert clipping.rounds == (penalty.rounds or whole) == (rounds or whole)


def test_the_sentence_counts_the_parts(judge: Judge) -> None:
    scores = arms(PSNR, a=GOOD, input=INPUTS)
    held = check(Predicate("", PSNR, "a"), scores, judge)
    opposite = check(Predicate("", PSNR, INPUT, "a"), scores, judge)
    even = check(Predicate("", PSNR, "a", "a"), scores, judge)
    assert even.finding == "undecided"
    told = [overall([held, held], miniature=miniature) for miniature in (False, True)]
    assert told == [
        ("Reproduced: all 2 parts of the claim hold.", "better"),
        ("Reproduced in miniature: all 2 parts of the claim hold.", "better"),
    ]
    assert overall([held], miniature=False)[0] == "Reproduced: the only part of the claim holds."
    assert overall([held, opposite, even], miniature=False) == (
        "In part: 1 of 3 parts of the claim reproduced, 1 not reproduced, 1 undecided.",
        "undecided",
    )
    told = overall([opposite], miniature=True)
    assert told == ("Not reproduced in miniature: the opposite holds for the only part of the claim.", "worse")
    assert overall([even, opposite], miniature=True)[1] == "worse"
    assert overall([even], miniature=True)[1] == "undecided"


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.slug)
def test_claims_speak_of_arms_and_scores_that_exist(claim) -> None:  # type: ignore[no-untyped-def]
    methods = {arm.name: arm.method for arm in arms_of(claim, "small")}
    for kind in {m.task.name for m in methods.values()}:
        own = {arm: m for arm, m in methods.items() if m.task.name == kind}
        judge = judge_of(next(iter(own.values())).task)
        assert len({m.task.preparation.digest for m in own.values()}) == 1
        assert (
            len({str((m.task.phantom, m.task.phantom_grid(None), m.task.phantom_parts(None))) for m in own.values()})
            == 1
        )
        if isinstance(judge, AttributionJudge):
            judge.classifier = Classifier(1, 2, maxima=False)
        references = {STRONGEST, *(entry.name for part in judge.references() for entry in part)}
        references |= {method.name for method in judge.classical()}
        if isinstance(judge, TranslationJudge):
            # Fitted to training images, as are all maps of values.
            references |= {"linear map", *(NORMALISATIONS if judge.coloured else ())}
        for predicate in (one for one in claim.predicates if one.first in own):
            assert predicate.second in {*references, *own}
            assert judge.named(predicate.score).better is not None and predicate.margin >= 0


def test_claims_tell_which_phantom_they_were_tested_on_and_take_the_images_of_users_as_they_are() -> None:
    claim = find_claim("ac-gan")
    tested = [arm.method.config for arm in arms_of(claim, "small")]
    assert {one.phantom for one in tested} == {"liver-lesion"}
    assert {one.roles["image"].unit for one in tested} == {"HU"} and len(tested[0].classes) == 3
    own = [arm.method.config for arm in arms_of(claim, "small", on_phantom=False)]
    assert {(one.roles["image"].unit, one.channels) for one in own} == {(None, 3)}


def test_a_claim_may_be_held_against_the_strongest_simple_method() -> None:
    parts = Predicate("", PSNR, "a", STRONGEST), Predicate("", PSNR, "a", "b")
    assert [part.against("total variation").second for part in parts] == ["total variation", "b"]


def test_systems_without_a_claim_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CLAIMS, "sagan-ct")
    with pytest.raises(UserError, match="no claim is written down"):
        find_claim("sagan-ct")


def test_a_claim_is_tested_from_training_to_verdict(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edited,  # type: ignore[no-untyped-def]
) -> None:
    system = catalogue.load("wgan-vgg")
    quick = {"batch_size": 2, "patch": 16, "critic_steps": 1, "scan": {"views": 60}}
    presets = {"paper": {}, "small": {**system.Config.presets["small"], **quick}}
    monkeypatch.setattr(system.Config, "presets", presets)
    data = DataConfig(
        phantom_subjects=3, phantom_size=64, test_subjects=("phantom001", "phantom002"), cache=tmp_path / "c"
    )
    found = reproduce("wgan-vgg", tmp_path / "out", data, seeds=1, rounds=2)
    facts = json.loads((tmp_path / "out" / "claim.json").read_text())
    assert [result["finding"] for result in facts["results"]] == [result.finding for result in found.results]
    mine = Pseudonyms.of_user()
    assert facts["test_subjects"] == sorted(mine.subject(name)[:8] for name in ("phantom001", "phantom002"))
    written = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert written and not [path for path in written if "phantom00" in path.read_text()]
    assert facts["rounds"] == {"wgan-vgg": {"denoise": 2}, "cnn-mse": {"denoise": 4}}, "as many images for both"
    strongest = facts["references"]["strongest reference of wgan-vgg"].partition(":")[0]
    assert strongest in ("non-local means", "total variation", "wavelets", "input", "bm3d")
    assert facts["weights"] == "last" and facts["threads"] == 1 and 0 < facts["hours"] < 1
    assert facts["differences"]["wgan-vgg"]["rounds"][0] == "2" and "patch" in facts["differences"]["cnn-mse"]
    assert facts["code"] == claim_digest(find_claim("wgan-vgg"), arms_of(find_claim("wgan-vgg"), "small"))
    seconds = json.loads((tmp_path / "out" / "seconds.json").read_text())
    assert set(seconds) == {"wgan-vgg#0", "cnn-mse#0"}
    table = (tmp_path / "out" / "claim.md").read_text()
    assert f"`{facts['code']}`" in table and "`rounds` 4" in table
    assert all(result.predicate.words in table for result in found.results) and found.sentence in table
    assert found.sentence in (tmp_path / "out" / "report.html").read_text()

    folder = tmp_path / "out" / "cnn-mse" / "seed0"
    assert finished(folder, read_run(folder))
    options = TrainConfig(rounds=4, augment="none")
    before = (folder / "weights-last.safetensors").stat().st_mtime_ns
    own = find_claim("wgan-vgg").arms["cnn-mse"]
    train_once("wgan-vgg", folder, system.Config.preset("small", **own), data, options)
    assert (folder / "weights-last.safetensors").stat().st_mtime_ns == before
    config = system.Config.preset("small", **own, width=8)
    with pytest.raises(UserError, match="another width"):
        train_once("wgan-vgg", folder, config, data, options)

    other = tmp_path / "out" / "wgan-vgg" / "seed0"
    write_run(other, read_run(other).model_copy(update={"code": None}))
    found = reproduce("wgan-vgg", tmp_path / "out", data, seeds=1, rounds=2)
    assert found.facts["code"] is None and found.facts["of_unknown_code"] == ["wgan-vgg/seed0"]
    page = read_page("wgan-vgg", tmp_path / "out" / "claim.md")
    assert page.code is None and page.stale and "code that is not known" in page.path.read_text()

    edited("ganatomy.methods.denoising.wgan_vgg", "return", "pass;return")
    with pytest.raises(UserError, match=r"cnn-mse.seed0: trained before the code .* add --retrain"):
        reproduce("wgan-vgg", tmp_path / "out", data, seeds=1, rounds=2)
    again = reproduce("wgan-vgg", tmp_path / "out", data, seeds=1, rounds=2, retrain=True)
    assert again.facts["code"] not in (None, facts["code"]) and again.facts["of_unknown_code"] == []
    assert (folder / "weights-last.safetensors").stat().st_mtime_ns != before
    kept = folder.with_name("seed0-earlier1") / "weights-last.safetensors"
    assert kept.stat().st_mtime_ns == before
    assert not read_page("wgan-vgg", tmp_path / "out" / "claim.md").stale


def test_arms_of_two_kinds_of_task_are_judged_each_by_its_own_and_against_tuned_methods(tmp_path: Path) -> None:
    names = tuple(f"phantom{number:03d}" for number in range(6, 14))
    data = DataConfig(phantom_subjects=14, test_subjects=names, cache=tmp_path / "c")
    found = reproduce("brain-manifold-dcgan", tmp_path / "out", data, seeds=1, rounds=2)
    assert {result.predicate.score for result in found.results} == {"told apart", "copies", "psnr[head]"}
    assert all(np.isfinite([result.first.mean, result.second.mean]).all() for result in found.results)
    denoised = found.results[-1]
    assert denoised.second.mean > 15 and denoised.unit == "dB", "non-local means are compared, too"
    page = (tmp_path / "out" / "claim.md").read_text()
    assert "strength" in page and "the best of" in page and "Not tested: the scores of experts" in page
    assert "Not tested: the scores of experts" in (tmp_path / "out" / "report.html").read_text()
