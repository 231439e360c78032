import json
from pathlib import Path

import pytest

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.training.run import TrainConfig, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    config = catalogue.load("wgan-vgg").Config.preset("small", variant="cnn-mse", scan={"views": 60})
    data = DataConfig(phantom_subjects=3, phantom_size=64, test_subjects=("phantom001",), cache=folder / "cache")
    train("wgan-vgg", folder / "run", config, data, TrainConfig(rounds=1, device="cpu"))
    return folder / "run"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and return its error message."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("command", ["evaluate", "reproduce"])
def test_help_is_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: ganatomy {command} ")


def test_a_run_is_judged_and_the_result_printed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--phantom-size", "48", "--out", str(tmp_path / "e")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    facts = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert " ".join(facts["headline"].split()) in said and "report.html" in said
    assert len(facts["subjects"]) == 1 and "48² pixels" in facts["data"]
    assert "phantom001" not in (tmp_path / "e" / "report.html").read_text(), "subjects are called by pseudonyms"


def test_opinions_of_readers_stand_beside_the_scores(run: Path, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("case,method,rating\nthorax-ct-001,output,4\nthorax-ct-001,input,2\n")
    words = ["evaluate", str(run), "--phantom-size", "48", "--ratings", str(tmp_path / "ratings.csv")]
    assert main([*words, "--out", str(tmp_path / "e"), "--names"]) == 0
    told = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert told["subjects"] == ["phantom001"]
    found = told["scores"]["mean opinion"]
    assert found["methods"]["output"]["mean"] == 4 and found["methods"]["input"]["mean"] == 2
    assert "mean opinion" in (tmp_path / "e" / "report.html").read_text()


def test_mistakes_are_told_in_a_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run here" in told(capsys, "evaluate", str(tmp_path))
    assert "needs a run" in told(capsys, "evaluate", "--which", "best")
    assert "no run here" in told(capsys, "evaluate", str(run), "--against", str(tmp_path))
    assert "options: --features" in told(capsys, "evaluate", str(run), "--features", "in-domain")
    assert "middle" in told(capsys, "evaluate", str(run), "--which", "middle")
    (tmp_path / "file").write_text("")
    assert "--out" in told(capsys, "evaluate", str(run), "--out", str(tmp_path / "file"))
    assert "nowhere" in told(capsys, "evaluate", str(run), "--data", str(tmp_path / "nowhere"))
    assert "no-such-system" in told(capsys, "reproduce", "no-such-system")
    assert "--seeds 0" in told(capsys, "reproduce", "wgan-vgg", "--seeds", "0")
