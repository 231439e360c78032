import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.store import Store
from ganatomy.errors import LeftOut, Notice, UserError
from ganatomy.evaluation.choosing import choose_cases
from ganatomy.evaluation.evaluate import NOT_COMPARED, ONE_RUN, Evaluation, evaluate, lacking, load_others
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET
from ganatomy.images.atomic import locked
from ganatomy.images.files import read
from ganatomy.inference.model import build, load
from ganatomy.inference.runfile import read_run, write_run
from ganatomy.metrics.fidelity import rmse
from ganatomy.tasks.ct_denoising.judge import PSNR, RMSE
from ganatomy.tasks.restoration.judge import trained
from ganatomy.training import run as training_run
from ganatomy.training.run import TrainConfig, train

TEST = ("phantom001", "phantom002")
SMALL = {"variant": "cnn-mse", "scan": {"views": 30}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    config = catalogue.load("wgan-vgg").Config.preset("small", **SMALL)
    data = DataConfig(phantom_subjects=3, phantom_size=64, test_subjects=TEST, cache=folder / "cache")
    train("wgan-vgg", folder / "run", config, data, TrainConfig(rounds=2, device="cpu"))
    return folder / "run"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Data other than the run's: two subjects with one case each, prepared once for all tests."""
    return manifest(tmp_path_factory.mktemp("two"), [("anna_1", "anna kim", ""), ("ben_1", "ben lee", "")])


@pytest.fixture(scope="module")
def mine() -> Pseudonyms:
    return Pseudonyms.of_user()


@pytest.fixture(scope="module")
def result(run: Path) -> Evaluation:
    return evaluate(run, DataConfig(**{**read_run(run).data.model_dump(), "cache": run.parent / "cache"}))


def short(mine: Pseudonyms, subject: str) -> str:
    return mine.subject(subject)[:8]


def test_a_run_is_judged_on_the_subjects_it_kept_aside(run: Path, result: Evaluation, mine: Pseudonyms) -> None:
    facts = json.loads((run / "evaluation" / "metrics.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    subjects = sorted(short(mine, name) for name in TEST)
    assert facts["subjects"] == subjects and facts["headline"] == result.headline
    classical = ["non-local means", "total variation", "wavelets"]
    assert list(facts["methods"]) == [INPUT, OUTPUT, *classical, TARGET]
    assert facts["reference"]["name"] in (INPUT, *classical)
    assert facts["reference"]["chosen"].endswith("which favours it: no validation case is at hand")
    psnr = facts["scores"][PSNR]
    assert set(psnr["methods"]) == {INPUT, OUTPUT, *classical} and psnr["methods"][OUTPUT]["n"] == 2
    assert [found["second"] for found in psnr["comparisons"]] == [INPUT, *classical]
    assert facts["training"]["seed"] == 0 and facts["versions"]["torch"]
    assert facts["notes"] == [ONE_RUN], "the run is a network without an adversary itself"
    assert facts["training"]["subjects"] == {"train": [short(mine, "phantom000")], "val": [], "test": subjects}
    assert "agatston error" in facts["scores"]
    times = facts["run_time"]
    assert list(times["methods"]) == [OUTPUT, *classical] and times["image"] == "slice" and times["device"] == "cpu"
    assert all(found["seconds"] > 0 and found["images"] > 0 for found in times["methods"].values())
    with (run / "evaluation" / "cases.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 2 * len(facts["methods"]) and {line["subject"] for line in lines} == set(subjects)
    page = (run / "evaluation" / "report.html").read_text()
    assert page.index("<img") < page.index("<table") and "How this was measured" in page and "rotation" in page
    assert "seconds per slice" in page and "Run time" in page


def test_nothing_that_is_written_holds_a_real_name(run: Path, result: Evaluation) -> None:
    for path in result.out.iterdir():
        text = path.read_text()
        assert "phantom00" not in text and "thorax-ct-0" not in text, path.name


def test_real_names_are_written_when_asked_for(run: Path, two: DataConfig, tmp_path: Path) -> None:
    evaluate(run, two, out=tmp_path / "e", names=True)
    facts = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert facts["subjects"] == ["anna kim", "ben lee"]
    assert [case["case"] for case in facts["cases"]] == ["anna_1", "ben_1"]
    assert "anna kim" in (tmp_path / "e" / "report.html").read_text()


def test_results_agree_with_the_model(run: Path, result: Evaluation, mine: Pseudonyms) -> None:
    model = load(run)
    cases = choose_cases(model.method.task, read_run(run), None, mine).cases
    labels = Labels(cases, mine)
    predictor = model.predictor()
    for case in cases:
        prepared = Store(model.method.task, run.parent / "cache").get(case)
        output = np.asarray(predictor.predict(prepared).arrays["target"])
        expected = rmse(output[0], prepared.arrays["target"][0])
        assert result.scores.by_case(OUTPUT, RMSE)[labels.cases[case.name]] == pytest.approx(expected, rel=1e-4)


def test_other_runs_can_be_compared_with(run: Path) -> None:
    found = load_others([run, run], load(run).method.task, "last", "cpu")
    assert list(found) == ["run", str(run)]
    task = load(run).method.task
    sample = Store(task, run.parent / "cache").get(find_cases(task, read_run(run).data)[0])
    outputs = [trained(model, name).run(sample, 1, 4) for name, model in found.items()]
    assert outputs[0].shape == (3, 64, 64)
    np.testing.assert_array_equal(*outputs)


def test_a_run_of_another_task_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"does ct-denoising, but the run does mr-reconstruction"):
        load_others([run], SimpleNamespace(name="mr-reconstruction"), "best", "cpu")  # type: ignore[arg-type]


def test_a_baseline_that_has_seen_what_is_judged_is_named(
    run: Path, two: DataConfig, tmp_path: Path, mine: Pseudonyms
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    facts = read_run(other)
    split = facts.split.model_copy(update={"train": (mine.subject("ben lee"),), "test": ()})
    write_run(other, facts.model_copy(update={"split": split}))
    evaluate(run, two, [other], out=tmp_path / "e")
    note, *_ = json.loads((tmp_path / "e" / "metrics.json").read_text())["notes"]
    assert note == f"the run {other} was trained on {short(mine, 'ben lee')}, which are judged here"
    write_run(other, facts.model_copy(update={"split": split.model_copy(update={"secret": "another"})}))
    evaluate(run, two, [other], out=tmp_path / "e")
    note, *_ = json.loads((tmp_path / "e" / "metrics.json").read_text())["notes"]
    assert "cannot be checked: another secret" in note


def volume(seed: int) -> np.ndarray:
    """Draw a bright square in fat with little noise, (2, 48, 40)."""
    values = np.full((2, 48, 40), -100.0, np.float32)
    values[:, 16:40, 8:32] = 60
    return values + np.random.default_rng(seed).normal(0, 4, values.shape).astype(np.float32)


def manifest(folder: Path, rows: list[tuple[str, str, str]], broken: str = "") -> DataConfig:
    """Write routine-dose volumes with subjects and sides; the one named broken holds a NaN."""
    lines = ["image,subject,split"]
    for number, (name, subject, split) in enumerate(rows):
        values = volume(number)
        if name == broken:
            values[0, 0, 0] = np.nan
        np.save(folder / f"{name}.npy", values)
        lines.append(f"{name}.npy,{subject},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return DataConfig(data=folder, unit="HU", pixel_mm=1.5, cache=folder / "cache")


def test_a_bad_case_does_not_stop_the_good_ones(run: Path, tmp_path: Path, mine: Pseudonyms) -> None:
    data = manifest(tmp_path, [("anna_1", "anna", ""), ("b", "p2", "")], broken="anna_1")
    with pytest.warns(LeftOut, match=r"left out: anna_1: .*anna_1\.npy holds NaN"):
        result = evaluate(run, data, out=tmp_path / "e", show=True)
    assert list(result.scores.by_subject(OUTPUT, RMSE)) == [short(mine, "p2")]
    (problem,) = result.problems
    assert problem.startswith(short(mine, "anna")) and "NaN" in problem and "anna" not in problem
    page = (tmp_path / "e" / "report.html").read_text()
    assert "NaN" in page and "anna" not in page
    with pytest.raises(UserError, match=r"no case could be judged: .*c\.npy"):
        evaluate(run, manifest(tmp_path, [("c", "p1", "")], broken="c"), out=tmp_path / "e")


def test_with_another_secret_overlap_is_said_to_be_unknown(run: Path, two: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("a secret of somebody else")
    evaluate(run, two, out=tmp_path / "e", secret=tmp_path / "theirs")
    facts = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert len(facts["subjects"]) == 2
    note, *_ = facts["notes"]
    assert "whether cases were seen in training cannot be checked" in note
    assert "hether cases were seen in training cannot be checked" in (tmp_path / "e" / "report.html").read_text()
    with pytest.raises(UserError, match=r"kept for testing cannot be told, .* --secret FILE, or a manifest"):
        evaluate(run, out=tmp_path / "f", secret=tmp_path / "theirs")


def test_without_a_place_for_a_secret_one_may_judge(
    run: Path, two: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANATOMY_CONFIG", str(tmp_path / "file"))
    evaluate(run, two, out=tmp_path / "e")
    facts = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert "cannot be checked" in facts["notes"][0] and len(facts["subjects"]) == 2
    assert "anna" not in "".join(facts["subjects"])


def test_readers_may_call_cases_by_their_names_or_by_their_labels(
    run: Path, two: DataConfig, tmp_path: Path, mine: Pseudonyms
) -> None:
    labels = Labels(find_cases(load(run).method.task, two), mine)
    anna, ben = labels.cases["anna_1"], labels.cases["ben_1"]
    lines = ["case,method,rating", "anna_1,output,4", f"{ben},output,2", "ben_1,input,1"]
    (tmp_path / "ratings.csv").write_text("\n".join(lines))
    result = evaluate(run, two, out=tmp_path / "e", ratings=tmp_path / "ratings.csv")
    assert result.scores.by_case(OUTPUT, "mean opinion") == {anna: 4, ben: 2}
    assert not [path.name for path in result.out.iterdir() if "anna kim" in path.read_text()]


def test_an_evaluation_replaces_its_own_kind_only(
    run: Path, result: Evaluation, two: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(UserError, match="holds other things"):
        evaluate(run, two, out=tmp_path)
    (tmp_path / "metrics.json").write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match="is not one of ganatomy evaluate"):
        evaluate(run, two, out=tmp_path)
    other = shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(UserError, match="holds the evaluation of"):
        evaluate(other, two, out=run / "evaluation")
    assert (tmp_path / "report.html").read_text() == "mine"
    assert evaluate(other, two).out == other / "evaluation"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_evaluation_replaces_the_old_one_as_a_whole_and_a_failed_one_nothing(
    run: Path, two: DataConfig, tmp_path: Path
) -> None:
    out = tmp_path / "e"
    kept = evaluate(run, two, out=out, keep_images=True)
    (out / "mine.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(UserError, match="no case could be judged"):
        evaluate(run, manifest(tmp_path, [("c", "p1", "")], broken="c"), out=out, keep_images=True)
    assert contents(out) == before
    with locked(out, tmp_path / ".e.lock"), pytest.raises(UserError, match="another process is writing there"):
        evaluate(run, two, out=out)
    assert contents(out) == before
    images_are_kept(kept, run, two)
    evaluate(run, two, out=out, names=True)
    assert (out / "mine.txt").read_text() == "mine" and "anna kim" in (out / "cases.csv").read_text()
    assert not list(tmp_path.glob(".e.*")) and not (out / "images").exists(), "kept images belong to their evaluation"


def images_are_kept(result: Evaluation, run: Path, data: DataConfig) -> None:
    """Compare the images beside a report with the outputs, and their scores with those of the report."""
    model, folder = load(run), result.out / "images"
    assert sorted(path.name for path in folder.iterdir()) == sorted(result.scores.cases)
    assert "images/, a folder for each case" in (result.out / "report.html").read_text()
    for label in result.scores.cases:
        found = {path.name.removesuffix(".nii.gz"): read(path) for path in (folder / label).iterdir()}
        assert set(found) == {INPUT, OUTPUT, "non-local-means", "total-variation", "wavelets", TARGET}
        output, target = (found[name].numpy()[0] for name in (OUTPUT, TARGET))
        assert rmse(output, target) == pytest.approx(result.scores.by_case(OUTPUT, RMSE)[label], rel=1e-4)
        assert found[OUTPUT].spacing == pytest.approx((1.0, 1.5, 1.5))
    store = Store(model.method.task, data.cache_folder)
    true = {store.get(case).arrays[TARGET][0].tobytes() for case in find_cases(model.method.task, data)}
    assert true == {read(folder / label / f"{TARGET}.nii.gz").numpy()[0].tobytes() for label in result.scores.cases}


def test_test_cases_that_have_changed_since_the_run_began_are_named(tmp_path: Path, mine: Pseudonyms) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate(("anna", "ben", "carl", "dora")):
        np.save(folder / f"{name}.npy", volume(number))
    data = DataConfig(data=folder, unit="HU", pixel_mm=1.5, test_subjects=("anna", "ben"), cache=tmp_path / "cache")
    config = catalogue.load("wgan-vgg").Config.preset("small", **SMALL)
    train("wgan-vgg", tmp_path / "run", config, data, TrainConfig(rounds=1, device="cpu", diagnose=False))
    facts = read_run(tmp_path / "run")
    assert sum(len(own) for own in facts.cases.values()) == 4
    own = facts.data.model_copy(update={"cache": tmp_path / "cache"})
    assert evaluate(tmp_path / "run", own).problems == []
    np.save(folder / "anna.npy", volume(9))
    (folder / "ben.npy").unlink()
    with pytest.warns(Notice, match=r"test cases are not those that .* \(missing: .*; changed: anna\)"):
        found = evaluate(tmp_path / "run", own)
    label = {name: f"{mine.subject(name)[:8]}-{mine.case(name)[:4]}" for name in ("anna", "ben")}
    assert found.problems == [
        f"{label['ben']}: was there when the run began, and is not judged",
        f"{label['anna']}: its content or how it is read has changed",
    ]
    page = (found.out / "report.html").read_text()
    assert "has changed" in page and "was there when the run began" in page and "anna" not in page


def test_only_methods_that_have_a_baseline_are_said_to_lack_one():
    assert lacking(build("pix2pix", {})) == [NOT_COMPARED]
    assert lacking(build("pix2pix", {"adversarial_weight": 0.0})) == []
    assert lacking(build("vessel-geometry-wgan", {})) == [], "there is nothing to train without its critic"


def test_weights_chosen_by_a_score_that_never_improved_are_doubted_at_the_end_and_in_the_report(
    tmp_path, monkeypatch, caplog
):
    name = "rmse"
    values = iter([5.0, 7.0, 6.0])
    monkeypatch.setattr(training_run, "validate", lambda *arguments: {name: next(values)})
    config = catalogue.load("wgan-vgg").Config.preset("small", **SMALL)
    data = DataConfig(phantom_subjects=3, phantom_size=64, test_subjects=TEST, cache=tmp_path / "cache")
    options = TrainConfig(rounds=3, device="cpu", validate_every=1, monitor=name, diagnose=False)
    with caplog.at_level("WARNING", logger="ganatomy"):
        train("wgan-vgg", tmp_path / "run", config, data, options)
    assert "in the first of 3 validations, at round 1, and never improved" in caplog.text
    assert "slices held out of the training subjects (phantom000)" in caplog.text
    evaluate(tmp_path / "run")
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text()
    assert "The weights were chosen by the validation score" in page and "never improved" in page
    evaluate(tmp_path / "run", which="last")
    assert "never improved" not in (tmp_path / "run" / "evaluation" / "report.html").read_text()
