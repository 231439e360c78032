import csv

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.images.files import read
from ganatomy.training.run import TrainConfig, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    config = catalogue.load("dcgan").Config.preset("small", width=4, batch_size=4)
    data = DataConfig(phantom_subjects=4, cache=folder / "cache")
    options = TrainConfig(rounds=3, device="cpu", threads=1, diagnose=False)
    train("dcgan", folder / "run", config, data, options)
    return folder / "run"


def test_samples_are_written_listed_and_named(run, tmp_path, capsys):
    assert main(["sample", str(run), "-n", "2", "--out", str(tmp_path / "s")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [str(tmp_path / "s" / f"synthetic_00000{seed}.nii.gz") for seed in (0, 1)]
    assert "synthetic.json" in said[2]
    with (tmp_path / "s" / "samples.csv").open() as stream:
        assert [row["seed"] for row in csv.DictReader(stream)] == ["0", "1"]


def test_one_seed_gives_one_image(run, tmp_path):
    assert main(["sample", str(run), "-n", "5", "--out", str(tmp_path / "a"), "--format", "npy"]) == 0
    assert main(["sample", str(run), "-n", "1", "--seed", "3", "--out", str(tmp_path / "b"), "--which", "last"]) == 0
    assert main(["sample", str(run), "-n", "1", "--seed", "3", "--out", str(tmp_path / "c"), "--format", "tiff"]) == 0
    several, alone = read(tmp_path / "a" / "synthetic_000003.npy"), read(tmp_path / "c" / "synthetic_000003.tif")
    np.testing.assert_array_equal(several.numpy(), alone.numpy())
    assert several.dtype == np.int16


def test_sets_are_compared_by_the_features_asked_for(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ganatomy.tasks.synthesis.features.STEPS", 2)
    assert main(["evaluate", str(run), "--features", "in-domain", "--out", str(tmp_path / "e")]) == 0
    assert "in-domain encoder trained on" in (tmp_path / "e" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}", "--out", "{tmp}/o"], "no run here"),
        (["{run}"], "--out"),
        (["{run}", "--out", "{tmp}/o", "-n", "0"], "-n 0"),
        (["{run}", "--out", "{tmp}/o", "-n", "many"], "many"),
        (["{run}", "--out", "{tmp}/o", "--label", "cyst"], "no labels"),
        (["{run}", "--out", "{tmp}/o", "--format", "png"], "choose nifti"),
        (["{run}", "--out", "{tmp}/o", "--truncation", "-1"], "--truncation"),
        (["{run}", "--out", "{tmp}/o", "--device", "tpu"], "use cpu"),
        (["{run}", "--out", "{run}/run.yaml"], "in the way"),
    ],
)
def test_mistakes_are_told_in_one_line(run, tmp_path, capsys, arguments, words):
    assert main(["sample", *(argument.format(run=run, tmp=tmp_path) for argument in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and words in said
    assert list(tmp_path.iterdir()) == []
