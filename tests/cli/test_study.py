"""Studies on the command line."""

import json
import signal

import pytest

from ganatomy.cli import main
from ganatomy.cli.study import read_options
from ganatomy.inference.runfile import read_run
from ganatomy.training.loop import Stopped

SYSTEM = "--preset small --variant wgan-vgg --width 2 --batch-size 2 --patch 16 --critic-steps 1 --views 20"
TRAINING = "--rounds 1 --threads 1 --validation-slices 1 --no-diagnose"
DATA = "--phantom-subjects 4 --phantom-size 48"


@pytest.fixture
def words(cases):
    return ["study", "wgan-vgg", *f"{SYSTEM} {TRAINING} {DATA}".split(), "--cache", str(cases)]


def told(capsys, *arguments):
    """Run a command that must fail, and return its error message."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_system_is_studied_with_its_options_and_a_run_with_those_that_it_had(words, tmp_path, capsys):
    out = tmp_path / "study"
    asked = [*words, "--label-fraction", "0.5", "1", "--seeds", "1", "--out", str(out)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "wgan-vgg-1" in said and "wgan-vgg-0.5" in said and "report.html" in said
    results = json.loads((out / "results.json").read_text())
    assert results["study"]["label_fraction"] == [0.5, 1.0] and results["seeds"] == [0]
    before = (out / "arms" / "wgan-vgg-1" / "seed0" / "weights.safetensors").stat().st_mtime_ns
    assert main(asked) == 0
    assert (out / "arms" / "wgan-vgg-1" / "seed0" / "weights.safetensors").stat().st_mtime_ns == before
    capsys.readouterr()
    assert "holds a study with another seeds" in told(capsys, *asked[:-4], "--seeds", "2", *asked[-2:])

    run = out / "arms" / "wgan-vgg-1" / "seed0"
    facts = read_run(run)
    system, options = read_options(str(run), ["--out", "x", "--against", "sagan-ct", "baseline", "--seeds", "2"])
    assert system.slug == "wgan-vgg" and options.method.model_dump(mode="json") == facts.config
    assert options.training == facts.training and options.data.test_subjects == facts.split.test
    assert options.general.against == ("sagan-ct", "baseline") and options.general.seeds == 2
    _, folded = read_options(str(run), ["--out", "x", "--folds", "2", "--test-subjects"])
    assert folded.data.test_subjects == ()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--against", "nothing-like-it"], "--against nothing-like-it: unknown system"),
        (["--against", "gan"], "--against gan: gan does synthesis, but wgan-vgg does ct-denoising"),
        (["--label-fraction", "2"], "--label-fraction 2: a share is above 0 and at most 1"),
        (["--label-fraction", "some"], "--label-fraction"),
        (["--folds", "5"], "--folds 5: there are only 4 subjects"),
        (["--seeds", "0", "--folds", "2"], "--seeds 0: at least one"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(words, tmp_path, capsys, more, says):
    assert says in told(capsys, *words, *more, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_images_of_a_system_are_judged_by_what_a_classifier_learns(cases, tmp_path, capsys):
    words = ["study", "cgan", "--preset", "small", "--batch-size", "4", *TRAINING.split(), "--cache", str(cases)]
    words += ["--phantom-subjects", "30", "--downstream", "--updates", "2", "--seeds", "1"]
    out = tmp_path / "out"
    assert main([*words, "--folds", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "right with synthetic images" in said and "real + duplicates" in said and "report.html" in said
    assert json.loads((out / "results.json").read_text())["study"]["steps"] == 2
    nothing = str(tmp_path / "nothing")
    assert "cannot be combined with --label-fraction or --against" in told(
        capsys, *words, "--against", "x", "--out", nothing
    )
    assert "--folds 1 --seeds 1 --updates 2" in told(capsys, *words, "--folds", "1", "--out", nothing)
    segan = ["study", "segan", "--preset", "small", "--downstream", "--out", nothing]
    assert "segan does segmentation; take a system that samples" in told(capsys, *segan)
    assert not (tmp_path / "nothing").exists()


def test_a_folder_must_be_given_and_hold_nothing_else(words, tmp_path, capsys):
    assert "--out" in told(capsys, *words, "--folds", "2")
    (tmp_path / "mine.txt").write_text("kept")
    assert "holds other things (mine.txt)" in told(capsys, *words, "--folds", "2", "--out", str(tmp_path))
    assert "no run here" in told(capsys, "study", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "unknown system" in told(capsys, "study", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))


def test_a_stopped_study_goes_on_with_the_same_command(words, tmp_path, capsys, monkeypatch):
    def stopped(*arguments, **options):
        raise Stopped(signal.SIGTERM, 3)

    monkeypatch.setattr("ganatomy.cli.study.study", stopped)
    assert main([*words, "--folds", "2", "--out", str(tmp_path / "out")]) == 128 + signal.SIGTERM
    assert "the same command continues" in capsys.readouterr().err


def test_help_tells_what_can_be_compared(capsys):
    assert main(["study", "--help"]) == 0
    assert "--label-fraction" in capsys.readouterr().out
