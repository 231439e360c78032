"""A kind of task from outside of the package goes all the way: training, validation, judging, report, apply."""

import csv
import json
import sys
from pathlib import Path

import pytest

from ganatomy import catalogue

sys.path.insert(0, str(Path(__file__).parent))

from discs import CountDiscs, picture, write_pictures

from ganatomy.data.cases import DataConfig
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.training.run import TrainConfig, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained counter, as if it were in the catalogue."""
    patch = pytest.MonkeyPatch()
    row = catalogue.System("count-discs", None, "Disc counter", "detection", "Nobody", "pictures", "2D",
                           "counts discs", None, "discs:CountDiscs")  # fmt: skip
    patch.setitem(catalogue._BY_NAME, "count-discs", row)
    folder = tmp_path_factory.mktemp("discs")
    data = DataConfig(data=write_pictures(folder), cache=folder / "cache")
    train("count-discs", folder / "run", CountDiscs.Config(), data, TrainConfig(threads=1, validate_every=20))
    yield folder / "run"
    patch.undo()


def test_it_learns_and_its_validation_score_chooses_the_weights(run):
    facts = load(run).facts
    assert facts.selection.score == "count error" and facts.system == "count-discs"
    with (run / "metrics.csv").open() as stream:
        scores = [float(row["value"]) for row in csv.DictReader(stream) if row["name"] == "validation/count error"]
    assert min(scores) < 1 and len(scores) == 3


def test_it_is_judged_with_a_report_of_its_own(run):
    result = evaluate(run)
    assert "than saying the mean" in result.headline
    page = (run / "evaluation" / "report.html").read_text()
    assert "Discs that touch were never seen" in page and "Errors by subject" in page
    assert {"output", "mean"} == set(result.scores.methods)


def test_it_is_called_from_python_and_its_options_are_options(run, tmp_path):
    write(tmp_path / "new.png", Image.from_array(picture(5, 999)))
    found = load(run)(tmp_path / "new.png")
    assert abs(found["discs"] - 5) <= 1 and found.tables["discs"] == [{"discs": found["discs"]}]
    assert load(run)(tmp_path / "new.png", halves=True)["discs"] % 0.5 == 0


def test_it_is_applied_to_files_from_the_command_line(run, tmp_path, capsys):
    from ganatomy.cli import main

    write(tmp_path / "new.png", Image.from_array(picture(5, 999)))
    assert main(["apply", str(run), str(tmp_path / "new.png"), str(tmp_path / "out"), "--halves"]) == 0
    (table,) = (tmp_path / "out").glob("*.csv")
    number = float(table.read_text().split()[1])
    (note,) = (tmp_path / "out").glob("*.json")
    assert json.loads(note.read_text())["discs"] == number and abs(number - 5) <= 1
    assert main(["apply", str(run), str(tmp_path / "new.png"), str(tmp_path / "other"), "--quarters"]) == 2
    assert "--quarters" in capsys.readouterr().err
