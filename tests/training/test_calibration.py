import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_detector import patient, save_run, stand_in

from ganatomy import catalogue
from ganatomy.data.batches import Range
from ganatomy.data.cases import DataConfig
from ganatomy.errors import Notice, UserError
from ganatomy.images.image import Image
from ganatomy.inference.model import CALIBRATION, WEIGHTS, load
from ganatomy.inference.runfile import digest_of, read_run, write_run
from ganatomy.training.calibration import calibrate_run
from ganatomy.training.run import TrainConfig, train


def ranges(count=10, **options):
    return [Range(patient(f"v{number}", split="val", **options), 0, 3) for number in range(count)]


@pytest.fixture
def toys(monkeypatch):
    stand_in(monkeypatch)


def replace_weights(run, which):
    """Replace the weights of a run, as further training does."""
    weights = {name: value + 0.1 for name, value in load_file(run / WEIGHTS[which]).items()}
    save_file(weights, run / WEIGHTS[which])
    write_run(run, read_run(run).with_weights({which: digest_of(weights)}))


def test_both_weights_have_their_own_thresholds(tmp_path, toys):
    run = save_run(tmp_path / "run")
    replace_weights(run, "last")
    calibrate_run(run, ranges(), 0.05, "other subjects")
    best, last = (load(run, which).calibration for which in ("best", "last"))
    assert best == load(run).predictor().calibrate(ranges(), 0.05, "other subjects")
    assert last["pixel"] > best["pixel"] + 20


def test_thresholds_of_replaced_weights_are_not_used(tmp_path, toys):
    run = save_run(tmp_path / "run")
    assert load(run).calibration is None
    calibrate_run(run, ranges(), 0.05, "other subjects")
    assert load(run).calibration is not None
    replace_weights(run, "best")
    assert load(run).calibration is None and load(run, "last").calibration is not None


@pytest.mark.parametrize("text", ["{", "[]", '{"IDENTITY": {"pixel": 1}}', '{"IDENTITY": 3}'])
def test_damaged_thresholds_are_told_in_a_line(tmp_path, toys, text):
    run = save_run(tmp_path / "run")
    calibrate_run(run, ranges(3), 0.05, "")
    identity = next(iter(json.loads((run / CALIBRATION).read_text())))
    (run / CALIBRATION).write_text(text.replace("IDENTITY", identity))
    with pytest.raises(UserError, match=r"calibration\.json: damaged") as error:
        load(run).predictor()
    assert "\n" not in str(error.value)


def test_weights_without_thresholds_can_be_used_and_the_reason_is_said(tmp_path, toys):
    run = save_run(tmp_path / "run", gain=0.0)
    with pytest.warns(Notice, match="weights get no thresholds: 100% of 1296 healthy pixels"):
        calibrate_run(run, ranges(3), 0.05, "other subjects")
    assert (
        load(run).calibration is None
        and "no calibrated thresholds"
        in load(run)
        .predictor()
        .predict(
            load(run)
            .predictor()
            .sample_of({"image": Image.from_array(patient("v").arrays["image"][0], (3.0, 1.0, 1.0))})
        )
        .notes[0]
    )


def test_systems_that_calibrate_nothing_get_no_file(tmp_path, toys, monkeypatch):
    run = save_run(tmp_path / "run")
    monkeypatch.setattr(type(load(run).predictor()), "calibrates", False)
    calibrate_run(run, ranges(), 0.05, "other subjects")
    assert not (run / CALIBRATION).exists()


def test_training_ends_with_thresholds_and_resuming_renews_them(tmp_path, cases, monkeypatch):
    config = catalogue.load("caae").Config.preset("small", size=(32, 32), width=2, latent=4, critic_widths=(4,))
    data = DataConfig(phantom_subjects=8, phantom_size=32, cache=cases)
    options = TrainConfig(rounds=4, threads=1, device="cpu", diagnose=False, false_positive_rate=0.1)
    model = train("caae", tmp_path / "run", config, data, options)
    assert model.calibration["rate"] == 0.1 and model.calibration["images"] > 0
    assert load(tmp_path / "run", "last").calibration is not None
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (copy / CALIBRATION).unlink()
    assert load(copy).calibration is None
    assert train("caae", copy, data=data, resume=True).calibration == model.calibration
    with monkeypatch.context() as patch:
        patch.setattr(
            "ganatomy.tasks.anomaly_detection.predictor.DetectionPredictor.calibrate",
            lambda *arguments: pytest.fail("equal weights are calibrated once"),
        )
        assert train("caae", copy, data=data, resume=True).calibration == model.calibration
    longer = train("caae", copy, data=data, options=TrainConfig(rounds=6), resume=True)
    assert longer.calibration is not None and load(copy, "last").calibration is not None
    assert torch.isfinite(torch.tensor(longer.calibration["pixel"]))
