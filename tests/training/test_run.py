import csv
import os
import shutil
import signal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import Notice, UserError
from ganatomy.images.atomic import locked, write_atomically
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.images.paths import LOCK
from ganatomy.inference.model import load
from ganatomy.inference.runfile import digest_of, read_run, write_run
from ganatomy.reports.curves import read_metrics
from ganatomy.reports.measures import Measure
from ganatomy.training import run as running
from ganatomy.training.loop import Diverged, Stopped
from ganatomy.training.monitor import Monitor
from ganatomy.training.run import TrainConfig, train

WEIGHTS = ("weights.safetensors", "weights-last.safetensors")


def same_weights(one, other, names=WEIGHTS):
    for name in names:
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []


def checkpoint(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def same_values(a, b, where="checkpoint"):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same_values(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            same_values(x, y, f"{where}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def untimed(run):
    """Read the lines of metrics.csv without seconds, which differ from run to run."""
    return [line for line in (run / "metrics.csv").read_text().splitlines() if ",seconds/" not in line]


def same_runs(one, other):
    same_weights(one, other)
    assert untimed(one) == untimed(other)
    assert (one / "card.md").read_text() == (other / "card.md").read_text()
    same_values(checkpoint(one), checkpoint(other))


@pytest.fixture
def stop_after(monkeypatch):
    """Send SIGTERM to this process during a round."""

    def arm(number):
        heard = Monitor.turn

        def turn(self, progress, turn):
            heard(self, progress, turn)
            if progress.round + 1 == number:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Monitor, "turn", turn)
        return lambda: monkeypatch.setattr(Monitor, "turn", heard)

    return arm


@pytest.fixture(scope="module")
def two_stages(tiny, tmp_path_factory):
    """An uninterrupted run of sagan-ct, which has dropout and a first stage that trains another network."""
    out = tmp_path_factory.mktemp("two") / "run"
    tiny("sagan-ct", out, **SAGAN)
    return out


SAGAN = {
    "width": 4,
    "discriminator_width": 4,
    "sharpness_width": 4,
    "rounds": 8,
    "ema_halflife": 10.0,
}


def test_a_run_folder_holds_what_the_design_promises(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    events = {name for name in names if name.startswith("events/")}
    assert names - events == {
        "run.yaml",
        "metrics.csv",
        "card.md",
        *WEIGHTS,
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    }
    assert events
    facts, mine = read_run(trained), Pseudonyms.of_user()
    sides = facts.split.by_side
    everybody = sorted(mine.subject(f"phantom{n:03d}") for n in range(4))
    assert sorted(name for side in sides.values() for name in side) == everybody
    assert facts.split.secret == mine.fingerprint and facts.split.fold is None
    assert facts.rounds == {"denoise": 8} and list(facts.roles) == ["input", "target", "clean"]
    assert not set(sides["train"]) & set(sides["test"])
    for which, name in zip(("best", "last"), WEIGHTS, strict=True):
        assert facts.weights[which] == digest_of(load_file(trained / name))
    assert not facts.writing


def test_nothing_that_is_written_holds_a_name_of_a_subject_or_where_cases_are_kept(trained, cases):
    for path in ("run.yaml", "card.md", "metrics.csv"):
        text = (trained / path).read_text()
        assert "phantom0" not in text and "thorax-ct" not in text and str(cases) not in text, path
    assert "cache" not in yaml.safe_load((trained / "run.yaml").read_text())["data"]


def test_the_curves_hold_every_term_and_score(trained):
    curves = {str(measure): curve for measure, curve in read_metrics(trained / "metrics.csv").items()}
    assert curves["critic/penalty"][0].tolist() == [3, 4, 6, 8]
    assert curves["validation/rmse"][0].tolist() == [4, 8]
    assert {"generator/content", "critic/score of real", "generator/gradient norm", "game/rotation"} <= curves.keys()


def test_the_seconds_of_a_round_are_told_part_by_part(trained):
    curves = {str(measure): curve for measure, curve in read_metrics(trained / "metrics.csv").items()}
    parts = {f"seconds/{part} of {player}" for part in ("forward", "backward", "step")
             for player in ("generator", "critic")}  # fmt: skip
    assert parts | {"seconds/data", "seconds/validation"} <= curves.keys()
    assert all((curves[part][1] > 0).all() for part in parts)
    assert curves["seconds/step of critic"][0].tolist() == curves["generator/gradient norm"][0].tolist()


def test_best_weights_are_those_of_the_best_round(trained):
    saved = checkpoint(trained)
    curve = dict(zip(*read_metrics(trained / "metrics.csv")[Measure("validation", "rmse+texture")], strict=True))
    assert saved["best"]["round"] == min(curve, key=curve.get)
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["progress"]["round"] == saved["best"]["round"]
    assert load(trained, "last").method.progress.round == 0
    weights = load_file(trained / "weights-last.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in saved["method"].items())


def test_averaged_weights_are_what_is_used(two_stages):
    saved, weights = checkpoint(two_stages), load_file(two_stages / "weights-last.safetensors")
    for name, average in saved["averages"].items():
        assert torch.equal(weights[name], average) and not torch.equal(weights[name], saved["method"][name])


def test_run_yaml_repeats_a_run(trained, tmp_path):
    again = tmp_path / "again"
    assert main(["train", "wgan-vgg", "--config", str(trained / "run.yaml"), "--out", str(again)]) == 0
    same_runs(trained, again)


def test_diagnosis_does_not_touch_training(trained, tiny, tmp_path):
    tiny("wgan-vgg", tmp_path / "run", options={"diagnose": False})
    same_weights(trained, tmp_path / "run")


def test_workers_do_not_change_training(trained, tiny, tmp_path):
    tiny("wgan-vgg", tmp_path / "run", options={"workers": 1})
    same_weights(trained, tmp_path / "run")


@pytest.mark.parametrize("number", [1, 4, 5])
def test_a_stopped_and_resumed_run_is_the_undisturbed_run(trained, tiny, stop_after, tmp_path, number):
    out = tmp_path / "run"
    disarm = stop_after(number)
    with pytest.raises(Stopped) as stop:
        tiny("wgan-vgg", out)
    assert (stop.value.round, stop.value.signal_number) == (number, signal.SIGTERM)
    disarm()
    torch.manual_seed(1234)
    tiny("wgan-vgg", out, rounds=None, resume=True)
    same_runs(trained, out)


@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_a_run_of_two_stages_can_be_stopped_anywhere(two_stages, tiny, stop_after, tmp_path, number):
    out = tmp_path / "run"
    disarm = stop_after(number)
    with pytest.raises(Stopped):
        tiny("sagan-ct", out, **SAGAN)
    disarm()
    tiny("sagan-ct", out, resume=True, rounds=None)
    same_runs(two_stages, out)


def test_a_stop_in_the_last_round_is_the_end(trained, tiny, stop_after, tmp_path):
    stop_after(8)
    tiny("wgan-vgg", tmp_path / "run")
    same_runs(trained, tmp_path / "run")


def test_resuming_a_finished_run_changes_nothing(trained, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    tiny("wgan-vgg", out, rounds=None, resume=True)
    same_runs(trained, out)


def test_a_run_may_go_on_longer_and_says_so(trained, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    tiny("wgan-vgg", out, rounds=10, resume=True)
    assert checkpoint(out)["progress"]["round"] == 10
    facts = read_run(out)
    assert facts.rounds == {"denoise": 10} and facts.training.rounds == 10
    assert facts.weights["last"] == digest_of(load_file(out / WEIGHTS[1]))


def test_a_finished_run_without_its_checkpoint_does_not_begin_anew(trained, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    (out / "checkpoints" / "last.ckpt").unlink()
    before = (out / WEIGHTS[0]).read_bytes(), (out / WEIGHTS[1]).read_bytes()
    with pytest.raises(UserError, match=r"weights of round 8 but no checkpoints.last\.ckpt"):
        tiny("wgan-vgg", out, rounds=None, resume=True)
    assert before == ((out / WEIGHTS[0]).read_bytes(), (out / WEIGHTS[1]).read_bytes())


@pytest.mark.parametrize("lost", [WEIGHTS[1], WEIGHTS[0]])
def test_lost_weights_of_a_finished_run_are_written_anew(trained, tiny, tmp_path, lost):
    out = shutil.copytree(trained, tmp_path / "run")
    (out / lost).unlink()
    tiny("wgan-vgg", out, rounds=None, resume=True)
    same_runs(trained, out)
    assert read_run(out).weights == read_run(trained).weights


def test_one_process_at_a_time_writes_into_a_run(trained, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    with locked(out):
        before = contents(out)
        with pytest.raises(UserError, match=r"run: another process is writing there; wait until it is done"):
            tiny("wgan-vgg", out, rounds=10, resume=True)
        assert contents(out) == before
    tiny("wgan-vgg", out, rounds=None, resume=True)
    assert not (out / LOCK).exists()


def test_two_runs_that_begin_at_once_do_not_mix(trained, tiny, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def plan(self):
        true(self)
        shutil.copytree(trained, out)

    true = running.Run._plan
    monkeypatch.setattr(running.Run, "_plan", plan)
    with pytest.raises(UserError, match="already holds a run"):
        tiny("wgan-vgg", out)
    assert contents(out) == contents(trained)


@pytest.mark.parametrize("name", ["thesis.tex", "metrics.csv", "derived"])
def test_nothing_is_trained_into_a_folder_of_other_things(tiny, tmp_path, name):
    out = tmp_path / "run"
    (out / "derived").mkdir(parents=True) if name == "derived" else out.mkdir()
    (out / name / "x" if name == "derived" else out / name).write_text("mine")
    before = sorted(out.rglob("*"))
    with pytest.raises(UserError, match=rf"holds other things \({name}\)"):
        tiny("wgan-vgg", out)
    assert sorted(out.rglob("*")) == before


def test_lines_after_the_checkpoint_are_taken_back(trained, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    with (out / "metrics.csv").open("a") as stream:
        stream.write("9,144,denoise,critic/penalty,1.5\n12,192,denoise,crit")
    tiny("wgan-vgg", out, rounds=None, resume=True)
    same_runs(trained, out)
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert max(int(row["round"]) for row in rows) == 8


@pytest.fixture
def poisoned(monkeypatch):
    """Make the critic's penalty NaN from a round on."""

    def arm(number):
        from ganatomy.methods.denoising import wgan_vgg

        true, calls = wgan_vgg.gradient_penalty, []

        def penalty(*arguments):
            calls.append(1)
            # Two further calls are those of the round that is tried before training.
            return true(*arguments) * (float("nan") if len(calls) > 2 * number else 1.0)

        monkeypatch.setattr(wgan_vgg, "gradient_penalty", penalty)

    return arm


def test_a_loss_that_is_no_number_stops_the_run_before_anything_is_overwritten(tiny, poisoned, tmp_path):
    poisoned(6)
    out = tmp_path / "run"
    with pytest.raises(
        Diverged, match=r"round 6: 'penalty' in the turn of 'critic' is nan; the last checkpoint"
    ) as told:
        tiny("wgan-vgg", out, options={"diagnose": False})
    assert "\n" not in str(told.value)
    saved = checkpoint(out)
    assert saved["progress"]["round"] == 4
    assert all(torch.isfinite(value).all() for value in saved["method"].values())
    for name in WEIGHTS:
        assert all(torch.isfinite(value).all() for value in load_file(out / name).values())
    load(out)


def test_a_stop_does_not_save_what_has_diverged(tiny, poisoned, stop_after, tmp_path):
    poisoned(5)
    stop_after(5)
    with pytest.raises(Diverged, match="round 5"):
        tiny("wgan-vgg", tmp_path / "run", options={"diagnose": False})
    assert checkpoint(tmp_path / "run")["progress"]["round"] == 4


def test_divergence_is_exit_code_2_and_one_line(trained, poisoned, tmp_path, capsys):
    poisoned(2)
    again = ["--config", str(trained / "run.yaml"), "--out", str(tmp_path / "r"), "--no-diagnose", "--quiet"]
    code = main(["train", "wgan-vgg", *again])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1
    assert said.startswith("ganatomy: round 2: 'penalty' in the turn of 'critic' is nan")


def test_an_existing_run_is_not_overwritten(trained, tiny):
    before = (trained / "run.yaml").read_bytes()
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        tiny("wgan-vgg", trained)
    assert (trained / "run.yaml").read_bytes() == before


def test_a_run_is_resumed_by_its_own_name_only(trained, tiny):
    with pytest.raises(UserError, match="a run of wgan-vgg, not of sagan-ct"):
        tiny("sagan-ct", trained, resume=True)


def test_a_checkpoint_of_another_system_is_refused(trained, two_stages, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    shutil.copy(two_stages / "checkpoints" / "last.ckpt", out / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: a checkpoint of sagan-ct, but the run is of wgan-vgg"):
        tiny("wgan-vgg", out, rounds=None, resume=True)


def test_a_checkpoint_of_another_version_is_named(trained, tiny, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    torch.save({**checkpoint(out), "momenta": 3}, out / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: holds what this version of ganatomy does not know: momenta;"):
        tiny("wgan-vgg", out, rounds=None, resume=True)


@pytest.mark.parametrize("damage", ["cut", "garbage", "list", "keys"])
def test_a_damaged_checkpoint_is_named(trained, tiny, tmp_path, damage):
    out = shutil.copytree(trained, tmp_path / "run")
    path = out / "checkpoints" / "last.ckpt"
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:5000])
        case "garbage":
            path.write_bytes(os.urandom(5000))
        case "list":
            torch.save([1, 2], path)
        case "keys":
            torch.save({"system": "wgan-vgg", "progress": {"round": 3}}, path)
    with pytest.raises(UserError, match=r"last\.ckpt: .*(another --out|checkpoint of None)"):
        tiny("wgan-vgg", out, rounds=None, resume=True)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2", "- 1\n- 2", "system: wgan-vgg\nconfig: 3", "system: wgan-vgg\nconfig: {}", b"\xff\xfe\x00", "a: b"],
)
def test_a_damaged_run_yaml_is_named(trained, tiny, tmp_path, text):
    out = shutil.copytree(trained, tmp_path / "run")
    (out / "run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"run\.yaml: damaged or not a run"):
        tiny("wgan-vgg", out, rounds=None, resume=True)


def test_a_killed_run_without_checkpoint_begins_again(trained, tiny, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(trained / "run.yaml", out)
    (out / "metrics.csv").write_text("round,images,stage,name,value\n3,48,denoise,critic/penalty,7\n")
    tiny("wgan-vgg", out, rounds=None, resume=True)
    same_runs(trained, out)


@pytest.mark.parametrize("blocked", ["run", "run/deeper"])
def test_an_out_that_is_a_file_is_refused(tiny, tmp_path, blocked):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match=r"--out .* choose a"):
        tiny("wgan-vgg", tmp_path / blocked)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_full_disk_leaves_the_last_good_files(trained, tiny, tmp_path, monkeypatch):
    out, written = tmp_path / "run", []
    true = torch.save

    def save(state, path):
        written.append(path)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nmore")
        true(state, path)

    monkeypatch.setattr(running.torch, "save", save)
    with pytest.raises(UserError, match=r"cannot write .*last\.ckpt: .* free some space"):
        tiny("wgan-vgg", out)
    monkeypatch.undo()
    assert checkpoint(out)["progress"]["round"] == 4
    assert [path.name for path in (out / "checkpoints").iterdir() if path.name.startswith(".")] == []
    tiny("wgan-vgg", out, rounds=None, resume=True)
    same_runs(trained, out)


def test_a_file_that_meets_its_limit_is_not_replaced(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    path.write_bytes(b"good")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*file"):
            write_atomically(path, lambda work: torch.save(torch.zeros(100_000), work))
        with pytest.raises(UserError, match=r"cannot write .*file"):
            write_atomically(path, lambda work: work.write_bytes(bytes(100_000)) and None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch_size": 0}, "option batch_size: must be at least 1, got 0"),
        ({"betas": (-1.0, 0.9)}, "option betas: must be at least 0 and less than 1"),
        ({"learning_rate": -1.0}, "option learning_rate: must be greater than 0 .*got -1"),
        ({"width": -1}, "option width: must be at least 1 .*got -1"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_made(tiny, tmp_path, wrong, told):
    with pytest.raises(UserError, match=told):
        tiny("wgan-vgg", tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


SCAN = {"batch_size": 2, "patch": 32, "scan": {"views": 60}}


def volumes(folder, subjects, broken=""):
    """Write a CT of two slices per subject, in a file of its name; that of ``broken`` holds a NaN."""
    folder.mkdir(exist_ok=True)
    for number, subject in enumerate(subjects):
        values = np.random.default_rng(number).normal(50, 20, (2, 64, 64)).astype(np.float32)
        values[:, :8] = -1000
        if subject == broken:
            values[1, 3, 3] = np.nan
        write(folder / f"{subject}.nii", Image.from_array(values, (3.0, 2.0, 2.0), "HU"))
    return folder


def test_a_case_that_cannot_be_used_is_told_and_its_subject_not_counted(cases, tmp_path):
    data = volumes(tmp_path / "data", ("anna", "ben", "carl", "dora"), broken="carl")
    config = catalogue.load("wgan-vgg").Config.preset("small", **SCAN)
    images = DataConfig(data=data, test_subjects=("dora",), cache=cases)
    with pytest.warns(Notice, match=r"left out: carl: .*carl\.nii holds NaN"):
        train("wgan-vgg", tmp_path / "run", config, images, TrainConfig(rounds=1, threads=1), show=True)
    facts, mine = read_run(tmp_path / "run"), Pseudonyms.of_user()
    assert facts.split.by_side == {
        "train": tuple(sorted((mine.subject("anna"), mine.subject("ben")))),
        "val": (),
        "test": (mine.subject("dora"),),
    }
    (told,) = facts.left_out
    label = f"{mine.subject('carl')[:8]}-{mine.case('carl')[:4]}"
    assert told.startswith(f"{label}: its file holds NaN")
    text = (tmp_path / "run" / "run.yaml").read_text() + (tmp_path / "run" / "card.md").read_text()
    assert not [name for name in ("anna", "ben", "carl", "dora") if name in text]
    assert facts.data.test_subjects == (mine.subject("dora"),) and facts.data.data == data


def contents(folder):
    """All files of a folder with their bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def changed(tiny, stop_after, cases, tmp_path):
    """A run that was stopped after its first round, and whose data have changed since."""
    data = volumes(tmp_path / "data", ("anna", "ben", "carl", "dora", "emil", "fritz"))
    out = tmp_path / "run"
    disarm = stop_after(1)
    with pytest.raises(Stopped):
        tiny("wgan-vgg", out, rounds=2, data=DataConfig(data=data, cache=cases))
    disarm()
    mine, split = Pseudonyms.of_user(), read_run(out).split
    lost, other = [name for name in ("anna", "ben", "carl", "dora", "emil") if mine.subject(name) in split.train][:2]
    (data / f"{lost}.nii").unlink()
    write(data / "zoe.nii", Image.from_array(np.full((2, 64, 64), 7, np.float32) + np.eye(64, dtype=np.float32)))
    values = np.random.default_rng(99).normal(50, 20, (2, 64, 64)).astype(np.float32)
    write(data / f"{other}.nii", Image.from_array(values, (3.0, 2.0, 2.0), "HU"))
    return out, data, lost, other


def test_a_run_is_not_resumed_with_other_data_than_it_began_with(changed):
    out, _, lost, other = changed
    before, mine = contents(out), Pseudonyms.of_user()
    label = f"{mine.subject(lost)[:8]}-{mine.case(lost)[:4]}"
    with pytest.raises(UserError, match=rf"data: not the data .*\(added: zoe; missing: {label}; changed: {other}\)"):
        train("wgan-vgg", out, resume=True)
    assert contents(out) == before


def test_changes_of_the_data_can_be_ignored_and_stand_in_the_run(changed, capsys):
    out, data, lost, other = changed
    before, mine = read_run(out), Pseudonyms.of_user()
    train("wgan-vgg", out, resume=True, show=True, changed_data="ignore")
    after = read_run(out)
    assert after.split == before.split and after.cases == before.cases
    called = {name: f"{mine.subject(name)[:8]}-{mine.case(name)[:4]}" for name in ("zoe", lost, other)}
    assert set(after.left_out) == {
        f"{called['zoe']}: added since the run began, not used",
        f"{called[lost]}: missing when the run was resumed",
        f"{called[other]}: other content than when the run began",
    }
    assert "added: zoe; missing" in " ".join(capsys.readouterr().err.split())
    for name in ("anna", "ben", "carl", "dora", "emil", "fritz"):
        (data / f"{name}.nii").unlink(missing_ok=True)
    with pytest.raises(UserError, match="no case of the train side and the val side is left"):
        train("wgan-vgg", out, resume=True, changed_data="ignore")


def test_data_may_be_moved_and_times_of_files_may_change(tiny, cases, tmp_path):
    data = volumes(tmp_path / "data", ("anna", "ben", "carl"))
    out = tmp_path / "run"
    tiny("wgan-vgg", out, rounds=1, data=DataConfig(data=data, cache=cases))
    facts = read_run(out)
    assert sum(len(own) for own in facts.cases.values()) == 3
    moved = data.rename(tmp_path / "moved")
    for path in moved.iterdir():
        os.utime(path, (1, 1))
    write_run(out, facts.model_copy(update={"data": facts.data.model_copy(update={"data": moved})}))
    train("wgan-vgg", out, data=DataConfig(cache=cases), resume=True)
    assert read_run(out).left_out == ()


def test_another_secret_does_not_resume_a_run(trained, tmp_path):
    (tmp_path / "secret").write_text("another secret, not mine")
    before = contents(trained)
    with pytest.raises(UserError, match=r"made with another secret, .* with --secret FILE"):
        train("wgan-vgg", trained, resume=True, secret=tmp_path / "secret")
    assert contents(trained) == before


def test_the_cache_is_the_users_own(trained, tiny, cases, tmp_path, monkeypatch):
    out = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setenv("GANATOMY_CACHE", str(tmp_path / "mine"))
    train("wgan-vgg", out, resume=True)
    kept = {path.name for path in (tmp_path / "mine" / "cases").iterdir()}
    assert len(kept - {"contents"}) == len(read_run(out).split.train)
    text = (out / "run.yaml").read_text()
    (out / "run.yaml").write_text(text.replace("data:\n", f"data:\n  cache: {tmp_path / 'theirs'}\n", 1))
    with pytest.raises(UserError, match="does not say where prepared cases are kept"):
        train("wgan-vgg", out, resume=True)
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("moment", range(5))
def test_a_run_killed_while_it_saves_loads_and_resumes(tiny, tmp_path, monkeypatch, moment):
    """Kill the process before a file is written: run.yaml, last weights, best weights, run.yaml again, checkpoint."""
    out, written = tmp_path / "run", []
    files = ["run.yaml", "weights-last.safetensors", "weights.safetensors", "run.yaml", "last.ckpt"]
    dying = [files[0], *files, *files[: moment + 1]]

    class Killed(BaseException):
        pass

    def counted(name):
        written.append(name)
        if written == dying:
            raise Killed

    def write(path, work):
        if path.name != "best.ckpt" and path.parent in (out, out / "checkpoints"):
            counted(path.name)
        write_atomically(path, work)

    def write_facts(folder, facts):
        counted("run.yaml")
        write_run(folder, facts)

    monkeypatch.setattr(running.Best, "improved_by", lambda self, score: True)
    with monkeypatch.context() as patch:
        patch.setattr(running, "write_atomically", write)
        patch.setattr(running, "write_run", write_facts)
        with pytest.raises(Killed):
            tiny("wgan-vgg", out, options={"diagnose": False})
    assert bool(read_run(out).writing) == (0 < moment < 4)
    for which in ("best", "last"):
        load(out, which)
    tiny("wgan-vgg", out, rounds=None, resume=True)
    assert not read_run(out).writing and checkpoint(out)["progress"]["round"] == 8
    assert load(out, "best").identity == load(out, "last").identity


@pytest.mark.parametrize("there", [False, True])
def test_a_run_whose_first_round_fails_leaves_nothing(tiny, tmp_path, monkeypatch, there):
    out = tmp_path / "run"
    if there:
        out.mkdir()
    monkeypatch.setattr(running.Trainer, "_play_round", lambda self: 1 // 0)
    with pytest.raises(UserError, match=r"wgan-vgg: no round can be played with these options: .*zero"):
        tiny("wgan-vgg", out)
    assert [path.name for path in tmp_path.rglob("*")] == (["run"] if there else [])


def test_what_cannot_be_learned_is_found_before_anything_is_written(tiny, tmp_path, monkeypatch):
    seen = []

    def check_samples(self, samples):
        seen.extend(sample.case.split for sample in samples)
        raise UserError("no dose is low")

    def check_sizes(self):
        raise UserError("--patch 32: too small")

    monkeypatch.setattr("ganatomy.game.Method.check_samples", check_samples)
    with pytest.raises(UserError, match="no dose is low"):
        tiny("wgan-vgg", tmp_path / "run")
    assert set(seen) == {"train"}
    seen.clear()
    monkeypatch.setattr("ganatomy.game.Method.check_sizes", check_sizes)
    with pytest.raises(UserError, match="--patch 32: too small"):
        tiny("wgan-vgg", tmp_path / "run")
    assert not seen and not (tmp_path / "run").exists()


def test_weights_may_be_read_by_those_who_may_read_the_folder(trained):
    folder = trained[0] if isinstance(trained, tuple) else trained
    allowed = folder.stat().st_mode & 0o444
    assert {path.stat().st_mode & 0o444 for path in folder.glob("*.safetensors")} == {allowed}
