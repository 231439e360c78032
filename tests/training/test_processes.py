"""Training with two processes that share every batch equals training with one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ganatomy.reports.curves import read_metrics
from ganatomy.training.run import group_ended

CONSOLE = "import sys; from ganatomy.cli import main; sys.exit(main())"


@pytest.fixture
def command(cases):
    """Run `ganatomy train wgan-vgg` in a separate process."""

    def run(*options, console=None):
        program = [sys.executable, str(console)] if console else [sys.executable, "-m", "ganatomy"]
        usual = {
            "phantom-subjects": 4,
            "phantom-size": 96,
            "views": 60,
            "cache": cases,
            "preset": "small",
            "threads": 1,
        }
        usual |= {"batch-size": 2, "patch": 32, "start": "xavier", "rounds": 4, "log-every": 1}
        size = [
            word for name, value in usual.items() if f"--{name}" not in options for word in (f"--{name}", str(value))
        ]
        words = [*program, "train", "wgan-vgg", *size, *options]
        environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE")}
        return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)

    return run


@pytest.fixture
def pair(command, tmp_path):
    """Two runs with equal options: one process by `python -m ganatomy`, and two by the console script."""

    def run(*options):
        script = tmp_path / "ganatomy"
        script.write_text(CONSOLE)
        ways = {"one": ((), None), "two": (("--processes", "2"), script)}
        for name, (more, console) in ways.items():
            done = command("--out", str(tmp_path / name), *options, *more, console=console)
            said = done.stderr.splitlines()
            assert done.returncode == 0 and len(said) == len(set(said)), "only one process speaks"
            assert said[-1].startswith("round ") and len(said) <= 3, said
            assert done.stdout.count("\n") == 1 and done.stdout.startswith(f"{tmp_path / name}: done")
        return [tmp_path / name for name in ways]

    return run


def agree(folders, names, rounds):
    curves = [
        {str(measure): curve for measure, curve in read_metrics(folder / "metrics.csv").items()} for folder in folders
    ]
    assert curves[0].keys() == curves[1].keys()
    for name in names:
        one, two = (torch.tensor(curve[name][1][:rounds]) for curve in curves)
        torch.testing.assert_close(one, two, rtol=2e-5, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_two_processes_train_the_same_weights(pair):
    one, two = pair("--variant", "cnn-vgg", "--learning-rate", "3e-4")
    a, b = (load_file(folder / "weights-last.safetensors") for folder in (one, two))
    assert max(float((a[name] - b[name]).norm() / a[name].norm()) for name in a) < 1e-3, (
        "single precision; the test in double precision is the strict one"
    )
    agree((one, two), ("generator/content", "generator/gradient norm", "validation/rmse"), 2)
    listed = [sorted(path.relative_to(folder).parts[0] for path in folder.rglob("*")) for folder in (one, two)]
    assert listed[0] == listed[1] and len(list((two / "events").iterdir())) == 1


def test_two_processes_are_one_in_double_precision(tmp_path):
    script = Path(__file__).parent / "double_game.py"
    weights = [tmp_path / f"{processes}.pt" for processes in (1, 2)]
    for processes, file in enumerate(weights, start=1):
        subprocess.run([sys.executable, script, str(processes), file], check=True, capture_output=True, timeout=120)
    one, two = (torch.load(file, weights_only=True) for file in weights)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-8


def test_two_processes_play_the_same_game(pair):
    """Only early rounds agree: in single precision Adam takes full steps along gradients that are rounding errors."""
    folders = pair("--critic-steps", "1", "--rounds", "1")
    agree(folders, ("critic/wasserstein", "critic/penalty", "critic/gradient norm", "generator/content"), 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch-size", "3"], "--batch-size 3: not a multiple of the 2 processes"),
        (["--cache", str(Path(__file__) / "cache")], "cache (--cache chooses another): Not a directory"),
    ],
)
def test_bad_input_ends_both_processes_with_one_line(command, tmp_path, options, told):
    done = command("--out", str(tmp_path / "run"), "--processes", "2", "--quiet", *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and told in done.stderr


def test_an_out_that_only_the_first_process_can_try_ends_both(command, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = command("--out", str(tmp_path / "file" / "run"), "--processes", "2", "--quiet")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "choose a folder you may write to" in done.stderr


def test_a_group_that_begins_within_a_training_is_ended_and_an_earlier_one_stays(tmp_path):
    def begin(name):
        place = f"file://{tmp_path / name}"
        torch.distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)

    with group_ended():
        begin("first")
    assert not torch.distributed.is_initialized()
    begin("second")
    try:
        with group_ended():
            pass
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()
