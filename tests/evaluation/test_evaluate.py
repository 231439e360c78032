import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.case import Case
from ganatomy.data.cases import DataConfig, PhantomSource
from ganatomy.case import Sample
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import Evaluation, choose_cases, evaluate, load_baselines
from ganatomy.evaluation.judging import (
    INPUT,
    OUTPUT,
    TARGET,
    Contender,
    Judgement,
    Row,
    Scores,
    blocks,
    judge_of,
    role,
    trained,
)
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.metrics.fidelity import rmse
from ganatomy.phantoms import make
from ganatomy.tasks.ct_denoising.judge import PSNR, RMSE, TEXTURE, DenoisingJudge, non_local_means
from ganatomy.training.run import TrainConfig, train

TEST = ("phantom001", "phantom002")


def toy(name: str, seed: int, slices: int = 3) -> Sample:
    """A bright square in fat, with little noise in the target and more in the input."""
    rng = np.random.default_rng(seed)
    clean = np.full((1, slices, 64, 64), -100.0, np.float32)
    clean[..., 16:48, 16:48] = 60
    arrays = {
        "target": clean + rng.normal(0, 4, clean.shape).astype(np.float32),
        "input": clean + rng.normal(0, 20, clean.shape).astype(np.float32),
    }
    return Sample(Case(name, name, "test", {}), arrays, (3.0, 1.5, 1.5))


@pytest.fixture(scope="module")
def judge() -> DenoisingJudge:
    system = catalogue.load("wgan-vgg")
    found = judge_of(system(system.Config.preset("small", variant="cnn-mse")).task)
    assert isinstance(found, DenoisingJudge)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    config = catalogue.load("wgan-vgg").Config.preset("small", variant="cnn-mse", scan={"views": 60})
    data = DataConfig(phantom_subjects=3, phantom_size=64, test_subjects=TEST, cache=folder / "cache")
    train("wgan-vgg", folder / "run", config, data, TrainConfig(rounds=2, device="cpu"))
    return folder / "run"


@pytest.fixture(scope="module")
def result(run: Path) -> Evaluation:
    return evaluate(run)


def judged(judge: DenoisingJudge, outputs: dict[str, str], subjects: int = 6) -> Scores:
    """Roles of toy cases under other names."""
    contenders = [Contender(name, role(shown).run) for name, shown in outputs.items()]
    cases = [toy(f"s{seed}", seed) for seed in range(subjects)]
    return Scores([row for case in cases for row in judge.score_case(contenders, case)])


def test_doing_nothing_scores_as_the_input(judge: DenoisingJudge) -> None:
    scores = judged(judge, {INPUT: "input", OUTPUT: "input"})
    for score in judge.scores:
        ours, theirs = scores.interval(OUTPUT, score.name), scores.interval(INPUT, score.name)
        assert ours == theirs
        comparison = scores.compare(OUTPUT, INPUT, score)
        assert comparison is None or comparison.outcome == "undecided"


def test_a_perfect_output_is_found_better(judge: DenoisingJudge) -> None:
    scores = judged(judge, {INPUT: "input", OUTPUT: "target", TARGET: "target"})
    for name in (RMSE, TEXTURE, "ssim[-160,240]", "nps distance", "mean shift"):
        comparison = scores.compare(OUTPUT, INPUT, judge.named(name))
        assert comparison is not None and comparison.outcome == "better", name
    exact = scores.interval(OUTPUT, RMSE)
    assert exact is not None and exact.mean == 0
    assert scores.interval(TARGET, RMSE) is None
    sd = scores.interval(TARGET, "noise sd")
    assert sd is not None and sd.mean == pytest.approx(4, rel=0.1)


def test_the_verdict_says_who_wins(judge: DenoisingJudge) -> None:
    classical = judge.classical()
    contenders = [
        role(INPUT),
        Contender(OUTPUT, classical.run),
        Contender("rival", role("input").run),
        role(TARGET),
    ]
    cases = [toy(f"s{seed}", seed) for seed in range(4)]
    scores = Scores([row for case in cases for row in judge.score_case(contenders, case)])
    words, outcome = judge.verdict(Judgement(contenders, cases, scores))
    assert outcome == "better"
    assert words.startswith("The output is closer to the routine-dose scan than the low-dose input: PSNR +")
    assert "4 of 4 subjects" in words and "rival" in words


def test_inverted_contrast_is_reported(judge: DenoisingJudge) -> None:
    inverted = Contender(OUTPUT, lambda case, a, b: -role("input").run(case, a, b))
    contenders = [role(INPUT), inverted, role(TARGET)]
    case = toy("s", 0)
    points = judge.caveats(Judgement(contenders, [case], Scores(judge.score_case(contenders, case))))
    assert "inverted" in points[0]


def test_classical_denoising_keeps_edges_and_removes_noise() -> None:
    arrays = toy("s", 0).arrays
    restored = non_local_means(arrays["input"][0], (1.5, 1.5))
    assert restored[:, 24:40, 24:40].std() < 0.5 * arrays["input"][0, :, 24:40, 24:40].std()
    step = restored[:, 20:44, 18].mean() - restored[:, 20:44, 13].mean()
    assert step == pytest.approx(160, abs=8)


def test_long_cases_are_scored_in_blocks_of_bounded_size() -> None:
    assert blocks(19) == [(0, 8), (8, 16), (16, 19)]


def test_a_phantom_is_its_own_truth(judge: DenoisingJudge) -> None:
    grid = (("size", 96), ("slices", 8))
    source = PhantomSource("thorax-ct", 7, grid)
    truth = make("thorax-ct", 7, **dict(grid))
    clean = np.asarray(truth.image.slab(0, 8), np.float32)
    case = Sample(Case("p", "p", "test", {"clean": source}), {"target": clean, "input": clean}, truth.image.spacing)
    found = judge.score_truth(clean[0], case, judge.truth(case.case))
    assert found["agatston error"] == found["risk class error"] == found["region mean error"] == 0
    assert found["agatston"] == truth.agatston
    bright = judge.score_truth(clean[0] + 500, case, truth)
    assert bright["agatston error"] > 100 and bright["region mean error"] == pytest.approx(500)


def test_one_subject_counts_once_however_many_cases_it_has() -> None:
    rows = [Row(f"a{i}", "a", (0, 1), OUTPUT, {"x": 1.0}) for i in range(9)]
    rows.append(Row("b", "b", (0, 1), OUTPUT, {"x": 3.0}))
    interval = Scores(rows).interval(OUTPUT, "x")
    assert interval is not None and interval.mean == 2 and interval.n == 2


def test_a_run_is_judged_on_the_subjects_it_kept_aside(run: Path, result: Evaluation) -> None:
    facts = json.loads((run / "evaluation" / "metrics.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert facts["subjects"] == list(TEST) and facts["headline"] == result.headline
    assert list(facts["methods"]) == [INPUT, OUTPUT, "non-local means", TARGET]
    psnr = facts["scores"][PSNR]
    assert set(psnr["methods"]) == {INPUT, OUTPUT, "non-local means"} and psnr["methods"][OUTPUT]["n"] == 2
    assert [found["second"] for found in psnr["comparisons"]] == [INPUT, "non-local means"]
    assert facts["training"]["seed"] == 0 and facts["versions"]["torch"]
    assert "agatston error" in facts["scores"]
    with (run / "evaluation" / "cases.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 2 * 4 and {line["subject"] for line in lines} == set(TEST)
    page = (run / "evaluation" / "report.html").read_text()
    assert page.index("<img") < page.index("<table") and "How this was measured" in page and "rotation" in page


def test_results_agree_with_the_model(run: Path, result: Evaluation) -> None:
    model = load(run)
    cases, _ = choose_cases(model.method.task, model.facts)
    cache = DataConfig.model_validate(model.facts["data"]).cache
    for case in cases:
        prepared = Store(model.method.task, cache).get(case)
        image = Image.from_array(prepared.arrays["input"], prepared.spacing, unit="HU")
        output = np.asarray(model(image).array)
        expected = rmse(output[0], prepared.arrays["target"][0])
        assert result.scores.by_case(OUTPUT, RMSE)[case.name] == pytest.approx(expected, rel=1e-4)


def test_other_runs_can_be_baselines(run: Path) -> None:
    found = load_baselines([run, run], load(run).method.task, "last", "cpu")
    assert list(found) == ["run", str(run)]
    case = toy("s", 0)
    outputs = [trained(model, name).run(case, 0, 3) for name, model in found.items()]
    assert outputs[0].shape == (3, 64, 64)
    np.testing.assert_array_equal(*outputs)


def test_a_baseline_of_another_task_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"does ct-denoising, but the run does mr-reconstruction"):
        load_baselines([run], SimpleNamespace(name="mr-reconstruction"), "best", "cpu")  # type: ignore[arg-type]


def manifest(folder: Path, rows: list[tuple[str, str, str]], broken: str = "") -> DataConfig:
    """Routine-dose volumes with subjects and sides; the one named broken holds a NaN."""
    lines = ["image,subject,split"]
    for name, subject, split in rows:
        volume = toy(name, len(lines)).arrays["target"][0].copy()
        if name == broken:
            volume[0, 0, 0] = np.nan
        np.save(folder / f"{name}.npy", volume)
        lines.append(f"{name}.npy,{subject},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return DataConfig(data=folder, unit="HU", pixel_mm=1.5, cache=folder / "cache")


def test_on_other_data_the_rows_marked_test_are_judged(run: Path, tmp_path: Path) -> None:
    model = load(run)
    data = manifest(tmp_path, [("a", "p1", "train"), ("b", "p2", "test"), ("c", "p3", "test")])
    cases, notes = choose_cases(model.method.task, model.facts, data)
    assert [case.name for case in cases] == ["b", "c"] and not notes


def test_subjects_seen_in_training_are_left_out(run: Path, tmp_path: Path) -> None:
    model = load(run)
    seen = model.facts["subjects"]["train"][0]
    data = manifest(tmp_path, [("a", seen, ""), ("b", "p2", "")])
    cases, notes = choose_cases(model.method.task, model.facts, data)
    assert [case.name for case in cases] == ["b"] and notes == [f"left out, seen in training: {seen}"]
    with pytest.raises(UserError, match="every subject was in the run's training"):
        choose_cases(model.method.task, model.facts, manifest(tmp_path, [("a", seen, "")]))


def test_a_run_without_test_subjects_says_so(run: Path) -> None:
    model = load(run)
    subjects = {"train": ["phantom000"], "val": [], "test": []}
    facts = {**model.facts, "subjects": subjects, "data": {**model.facts["data"], "test_subjects": []}}
    with pytest.raises(UserError, match="kept no subject for testing"):
        choose_cases(model.method.task, facts)


def test_a_bad_case_does_not_stop_the_good_ones(run: Path, tmp_path: Path) -> None:
    data = manifest(tmp_path, [("a", "p1", ""), ("b", "p2", "")], broken="a")
    result = evaluate(run, data, out=tmp_path / "e")
    assert list(result.scores.cases) == ["b"] and "NaN" in result.problems[0]
    assert "NaN" in (tmp_path / "e" / "report.html").read_text()
    with pytest.raises(UserError, match="no case could be judged"):
        evaluate(run, manifest(tmp_path, [("c", "p1", "")], broken="c"), out=tmp_path / "e")
