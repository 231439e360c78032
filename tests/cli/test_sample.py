import csv
import json

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
    # An untrained generator makes values near the middle of the window: in a wide one they differ by whole HU.
    image = {"window": (-20_000.0, 30_000.0), "unit": "HU", "channels": 1}
    liver = {"phantom": "liver-lesion", "image": image}
    config = catalogue.load("dcgan").Config.preset("small", width=4, batch_size=4, **liver)
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
    assert (several.numpy() != read(tmp_path / "a" / "synthetic_000002.npy").numpy()).any()


def test_images_are_as_typical_as_they_are_asked_to_be(run, tmp_path):
    for name, truncation in (("full", "1"), ("half", "0.5"), ("none", "0")):
        arguments = ["--out", str(tmp_path / name), "-n", "2", "--format", "npy", f"--truncation={truncation}"]
        assert main(["sample", str(run), *arguments]) == 0
    full, none = ([read(path).numpy() for path in sorted((tmp_path / name).glob("*.npy"))] for name in ("full", "none"))
    assert (none[0] == none[1]).all() and (full[0] != full[1]).any()
    assert json.loads((tmp_path / "half" / "synthetic.json").read_text())["options"]["truncation"] == 0.5


def test_sets_are_compared_by_the_features_asked_for(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ganatomy.tasks.synthesis.features.STEPS", 2)
    assert main(["evaluate", str(run), "--features", "in-domain", "--out", str(tmp_path / "e")]) == 0
    assert "in-domain encoder trained on" in (tmp_path / "e" / "report.html").read_text()


def test_help_names_the_options_of_the_run(run, capsys):
    assert main(["sample", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: ganatomy sample RUN")
    for command, options in (("sample", ("--label", "--truncation", "--format")), ("evaluate", ("--features",))):
        with pytest.raises(SystemExit) as stop:
            main([command, str(run), "--help"])
        said = capsys.readouterr().out
        assert stop.value.code == 0 and all(option in said for option in options)


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
        (["{run}", "--out", "{tmp}/o", "--tone", "dark"], "--tone"),
        (["{run}", "--out", "{tmp}/o", "--ability", "restore"], "--ability restore: this system has sample"),
        (["--out", "{tmp}/o"], "needs a run"),
        (["{run}", "--out", "{run}/run.yaml"], "in the way"),
    ],
)
def test_mistakes_are_told_in_one_line(run, tmp_path, capsys, arguments, words):
    assert main(["sample", *(argument.format(run=run, tmp=tmp_path) for argument in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and words in said
    assert list(tmp_path.iterdir()) == []
