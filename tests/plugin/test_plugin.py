"""A kind of task from outside of the package is trained, validated, judged, reported and applied."""

import csv
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from discs import CountDiscs, picture, write_pictures

from ganatomy.data.cases import DataConfig
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.training.run import TrainConfig, train

SYSTEM = f"{Path(__file__).parent / 'discs.py'}:CountDiscs"
NAMED = ("--system", SYSTEM)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained counter, named by its file."""
    folder = tmp_path_factory.mktemp("discs")
    data = DataConfig(data=write_pictures(folder), cache=folder / "cache")
    train(SYSTEM, folder / "run", CountDiscs.Config(), data, TrainConfig(threads=1, validate_every=20))
    return folder / "run"


def test_it_learns_and_its_validation_score_chooses_the_weights(run):
    facts = load(run, system=SYSTEM).facts
    assert facts.selection.score == "count error" and facts.system == "discs.py:CountDiscs"
    with (run / "metrics.csv").open() as stream:
        scores = [float(row["value"]) for row in csv.DictReader(stream) if row["name"] == "validation/count error"]
    assert min(scores) < 1 and len(scores) == 3


def test_it_is_judged_with_a_report_of_its_own(run):
    result = evaluate(run, systems=[SYSTEM])
    assert "than saying the mean" in result.headline
    page = (run / "evaluation" / "report.html").read_text()
    assert "Discs that touch were never seen" in page and "Errors by subject" in page
    assert {"output", "mean"} == set(result.scores.methods)


def test_it_is_called_from_python_and_its_options_are_options(run, tmp_path):
    write(tmp_path / "new.png", Image.from_array(picture(5, 999)))
    found = load(run, system=SYSTEM)(tmp_path / "new.png")
    assert abs(found["discs"] - 5) <= 1 and found.tables["discs"] == [{"discs": found["discs"]}]
    assert load(run, system=SYSTEM)(tmp_path / "new.png", halves=True)["discs"] % 0.5 == 0


def test_it_is_applied_to_files_from_the_command_line(run, tmp_path, capsys):
    from ganatomy.cli import main

    write(tmp_path / "new.png", Image.from_array(picture(5, 999)))
    assert main(["apply", str(run), str(tmp_path / "new.png"), str(tmp_path / "out"), "--halves", *NAMED]) == 0
    (table,) = (tmp_path / "out").glob("*.csv")
    number = float(table.read_text().split()[1])
    (note,) = (tmp_path / "out").glob("*.json")
    told = json.loads(note.read_text())
    assert told["discs"] == number and abs(number - 5) <= 1
    assert (told["title"], told["citation"]) == ("CountDiscs", "Nobody, 2026")
    assert main(["apply", str(run), str(tmp_path / "new.png"), str(tmp_path / "other"), "--quarters", *NAMED]) == 2
    assert "--quarters" in capsys.readouterr().err
