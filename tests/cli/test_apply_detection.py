import json
from dataclasses import asdict

import nibabel
import numpy as np
import pytest
from toy_detector import LESION, anatomy, save_run, stand_in

from ganatomy.cli import main
from ganatomy.inference.model import CALIBRATION, load
from ganatomy.tasks.anomaly_detection.predictor import Calibration


@pytest.fixture
def run(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    return save_run(tmp_path / "run")


def calibrated(run):
    found = Calibration(100.0, 0.01, 0.05, 2592, 18, 6, "other subjects")
    (run / CALIBRATION).write_text(json.dumps({load(run).identity: asdict(found)}))


def volume(path):
    values = anatomy()
    values[8:12, 5:8] = LESION
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.T[..., None], np.diag([-0.5, -0.5, 2, 1])), path)


def test_a_folder_gets_a_map_a_healthy_image_and_a_mask_each(tmp_path, run, capsys):
    calibrated(run)
    for name in ("a", "b"):
        volume(tmp_path / "in" / f"{name}.nii.gz")
    assert main(["apply", str(run), str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path / "out" / f"{name}.nii.gz") for name in ("a", "b")]
    parts = ("-healthy.nii.gz", "-mask.nii.gz", ".nii.gz", ".nii.gz.json")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{n}{p}" for n in "ab" for p in parts]
    assert np.asarray(nibabel.load(tmp_path / "out" / "a-mask.nii.gz").dataobj).sum() == 12


def test_missing_thresholds_are_a_warning(tmp_path, run, capsys):
    volume(tmp_path / "in.nii")
    arguments = ["apply", str(run), str(tmp_path / "in.nii"), str(tmp_path / "out.nii")]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "no mask: these weights have no calibrated thresholds" in " ".join(said.err.split())
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("out", "more", "words"),
    [
        ("map.png", [], "a PNG holds no real numbers"),
        ("map", ["--format", "png"], "a PNG holds no real numbers"),
        ("map.nii", ["--which", "best", "--device", "tpu"], "use cpu, cuda or auto"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, run, capsys, out, more, words):
    volume(tmp_path / "in.nii")
    assert main(["apply", str(run), str(tmp_path / "in.nii"), str(tmp_path / out), *more]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and words in said
    assert not (tmp_path / out).exists()


def test_damaged_thresholds_are_told_in_one_line(tmp_path, run, capsys):
    volume(tmp_path / "in.nii")
    (run / CALIBRATION).write_text("no json")
    assert main(["apply", str(run), str(tmp_path / "in.nii"), str(tmp_path / "out.nii")]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and "calibration.json: damaged" in said
