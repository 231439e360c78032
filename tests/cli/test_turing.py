import csv
import json

import pytest

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.training.run import TrainConfig, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("turing")
    config = catalogue.load("dcgan").Config.preset("small", width=4, batch_size=4)
    data = DataConfig(phantom_subjects=4, cache=folder / "cache")
    train("dcgan", folder / "run", config, data, TrainConfig(rounds=2, device="cpu", threads=1, diagnose=False))
    return folder / "run"


def answer(folder, rater, says):
    """Answers as the page of the rater saves them."""
    key = json.loads((folder / "key.json").read_text())
    path = folder.parent / f"{rater}.csv"
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["set", "rater", "trial", "image", "answer", "confidence", "milliseconds"])
        for trial, name in enumerate(key["raters"][rater], start=1):
            lines.writerow([key["set"], rater, trial, name, says(key["images"][name]["real"]), 4, 2000])
    return str(path)


def test_from_a_run_to_a_verdict(run, tmp_path, capsys):
    out = tmp_path / "test"
    arguments = ["--images", "16", "--raters", "2", "--filter", "gaussian"]
    assert main(["turing", "build", str(run), "--out", str(out), *arguments]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [str(out / "raters" / f"rater-{number}.html") for number in (1, 2)] and "key.json" in said[2]
    right = answer(out, "rater-1", lambda real: "real" if real else "synthetic")
    always = answer(out, "rater-2", lambda real: "real")
    assert main(["turing", "score", str(out), right, always]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1.00 (0.81 to 1.00)" in said and "0.50 (0.28 to 0.72)" in said
    assert "rater-1: Tells real from generated images" in said and "rater-2: Undecided" in said
    assert "kappa 0.00" in said and "filter gaussian (sigma 0.7)" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["draw"], "there are build and score"),
        (["build", "{tmp}", "--out", "{tmp}/o"], "no run here"),
        (["build", "{run}"], "--out"),
        (["build", "{run}", "--out", "{tmp}/o", "--images", "3"], "even"),
        (["build", "{run}", "--out", "{tmp}/o", "--filter", "median"], "median"),
        (["score", "{tmp}"], "answers"),
        (["score", "{tmp}", "{tmp}/a.csv"], "no key.json"),
        (["score", "{tmp}", "{tmp}/a.csv", "--margin", "0.7"], "--margin"),
    ],
)
def test_mistakes_are_told_in_one_line(run, tmp_path, capsys, arguments, words):
    assert main(["turing", *(argument.format(run=run, tmp=tmp_path) for argument in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and words.lower() in said.lower(), said
    assert list(tmp_path.iterdir()) == []


def test_help_names_both_halves(capsys):
    assert main(["turing", "--help"]) == 0
    said = capsys.readouterr().out
    assert "turing build RUN" in said and "turing score DIR" in said
