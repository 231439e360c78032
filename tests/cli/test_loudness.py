"""What commands say while they work: messages and lines of progress, less with --quiet, more with --verbose."""

import json
import logging

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.cli import SOME_LEFT_OUT, UNUSABLE, loudness_of, main
from ganatomy.inference.runfile import read_run
from ganatomy.reports import terminal
from ganatomy.training.monitor import Forecast
from ganatomy.training.run import is_small

SMALL = "--preset small --size 32 32 --levels 2 --width 4 --batch-size 2 --features substitute --rounds 2 --device cpu"
DATA = "--phantom-subjects 3 --phantom-size 32 --threads 1 --no-diagnose --validation-slices 1 --log-every 1 --cache"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("loudness")


def train(place, name, *more):
    return main(["train", "dagan", "--out", str(place / name), *SMALL.split(), *DATA.split(), str(place / "c"), *more])


@pytest.fixture(scope="module")
def run(place):
    assert train(place, "run", "--quiet") == 0
    return place / "run"


def test_a_training_says_what_networks_see_and_what_stands_in_and_how_far_it_is(place, capsys, monkeypatch):
    monkeypatch.setattr(Forecast, "after", lambda self, number: 200_000.0 if number == 1 else None)
    assert train(place, "usual") == 0
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert any(line.startswith("networks see images of 32 × 32 pixels at ") for line in lines)
    assert any(line.startswith("warning: features: vgg19 with random weights") for line in lines)
    assert any(line.startswith("round 2 of 2 (game): ") and line.endswith(" left") for line in lines)
    assert "warning: at the pace of the first rounds this training takes 2.3 days on this CPU" in lines
    assert "the weights are the best so far" not in told.err and "ganatomy evaluate" in told.out
    assert not logging.getLogger("ganatomy").level, "the log is as it was before the command"


def test_a_long_preparation_of_cases_is_told_on_lines(place, capsys, monkeypatch):
    monkeypatch.setattr(terminal.Clock, "is_due", lambda self: True)
    assert train(place, "slow") == 0
    assert f"preparing case 2 of 2 (once; kept in {place / 'c'}" in capsys.readouterr().err


def test_quiet_commands_say_nothing_and_verbose_ones_details(place, run, capsys):
    capsys.readouterr()
    assert train(place, "still", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert train(place, "loud", "--verbose") == 0
    assert "the weights are the best so far" in capsys.readouterr().err


def test_errors_are_told_quietly_too(place, capsys):
    assert main(["--quiet", "train", "no-such-system", "--out", str(place / "none")]) == UNUSABLE
    told = capsys.readouterr()
    assert told.err.startswith("ganatomy: ") and not told.out


def test_the_resolution_stands_in_the_run_its_card_its_report_and_the_notes_of_outputs(run, capsys):
    said = read_run(run).resolution
    assert said.startswith("networks see images of 32 × 32 pixels at ") and "unknown" not in said
    assert said in (run / "card.md").read_text()
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    told = capsys.readouterr()
    assert "1 of 1 cases processed" in told.err
    assert json.loads((run / "evaluation" / "metrics.json").read_text())["resolution"].startswith("networks see")
    assert "32 × 32 pixels at" in (run / "evaluation" / "report.html").read_text()


def test_a_run_says_how_many_cases_are_done(place, run, capsys):
    folder = place / "given"
    folder.mkdir()
    values = np.random.default_rng(0).normal(size=(48, 40, 2, 2)).astype(np.float32)
    for name in "ab":
        np.save(folder / f"{name}.npy", (values[..., 0] + 1j * values[..., 1]).transpose(2, 0, 1).astype(np.complex64))
    code = main(["apply", str(run), str(folder), str(place / "applied")])
    told = capsys.readouterr()
    assert code in (0, SOME_LEFT_OUT), told.err
    assert "2 of 2 cases processed" in told.err
    (note, *_) = sorted((place / "applied").glob("*.json"))
    assert json.loads(note.read_text())["resolution"].startswith("networks see images of 32 × 32 pixels")


def test_the_last_word_counts():
    assert loudness_of(["a", "--quiet", "b", "--verbose"]) == ("verbose", ["a", "b"])
    assert loudness_of(["a", "--quietly"]) == ("usual", ["a", "--quietly"])


def test_small_configurations_are_told_from_large_ones():
    kind = catalogue.load("dagan").Config
    assert is_small(kind.preset("small", width=4)) and not is_small(kind()) and not is_small(kind(batch_size=2))
