import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_detector import Template, patient, save_run

from ganatomy import catalogue
from ganatomy.data.batches import Range
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.inference.detecting import CALIBRATION, reached
from ganatomy.inference.model import Model, load
from ganatomy.inference.prepared import detect_case
from ganatomy.training import calibration as calibrating
from ganatomy.training.calibration import calibrate, calibrate_run
from ganatomy.training.run import TrainConfig, train


def ranges(count=10, **options):
    return [Range(patient(f"v{number}", split="val", **options), 0, 3) for number in range(count)]


def test_the_share_of_healthy_pixels_and_images_is_kept():
    model, healthy = Model(Template()), ranges(40)
    for rate in (0.02, 0.05, 0.25):
        found = calibrate(model, healthy, rate, "other subjects")
        maps = np.concatenate([detect_case(model.method, item.case).map[item.case.arrays["image"][0] > 0]
                               for item in healthy])  # fmt: skip
        scores = np.concatenate([detect_case(model.method, item.case).score for item in healthy])
        assert found.pixels == maps.size == 40 * 3 * 144 and found.images == scores.size == 120
        assert reached(maps, found.pixel).mean() == pytest.approx(rate, abs=1e-3)
        assert reached(scores, found.image).mean() == pytest.approx(rate, abs=1 / 120)
        assert reached(maps, found.pixel).mean() <= rate and reached(scores, found.image).mean() <= rate
        assert (found.rate, found.subjects, found.source) == (rate, 40, "other subjects")


def test_abnormal_slices_do_not_raise_the_thresholds():
    model = Model(Template())
    mixed = [Range(patient(f"v{number}", sick=True), 0, 3) for number in range(6)]
    found = calibrate(model, mixed, 0.05, "")
    assert (found.images, found.pixels) == (12, 12 * 144)
    assert found.pixel < 100
    unmasked = [Range(patient("v", sick=True, masked=False), 0, 3)]
    assert calibrate(model, unmasked, 0.05, "") is None
    assert calibrate(model, [], 0.05, "") is None


def test_only_the_slices_of_the_ranges_count():
    case = patient("v")
    found = calibrate(Model(Template()), [Range(case, 0, 1), Range(case, 2, 3)], 0.05, "")
    assert found.images == 2 and found.pixels == 2 * 144


def test_flat_maps_call_nothing():
    model = Model(Template(Template.Config(gain=0.0)))
    found = calibrate(model, ranges(3), 0.05, "")
    assert not reached(np.zeros(3, np.float32), found.pixel).any()
    assert reached(np.full(1, 1e-30, np.float32), found.pixel).all()


def test_a_latent_search_is_spared_the_rest_of_many_cases(monkeypatch):
    monkeypatch.setattr(calibrating, "SLICES", 9)
    found = calibrate(Model(Template()), ranges(20), 0.05, "")
    assert found.subjects == 3 and found.images == 9


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(catalogue, "load", lambda slug: Template)


def test_both_weights_have_their_own_thresholds(tmp_path, toys):
    run = save_run(tmp_path / "run")
    other = {name: value + 0.1 for name, value in load_file(run / "weights-last.safetensors").items()}
    save_file(other, run / "weights-last.safetensors")
    calibrate_run(run, ranges(), 0.05, "other subjects")
    best, last = (load(run, which).calibration for which in ("best", "last"))
    assert best == calibrate(load(run), ranges(), 0.05, "other subjects")
    assert last.pixel > best.pixel + 20


def test_thresholds_of_replaced_weights_are_not_used(tmp_path, toys):
    run = save_run(tmp_path / "run")
    assert load(run).calibration is None
    calibrate_run(run, ranges(), 0.05, "other subjects")
    assert load(run).calibration is not None
    weights = {name: value + 0.1 for name, value in load_file(run / "weights.safetensors").items()}
    save_file(weights, run / "weights.safetensors")
    assert load(run).calibration is None and load(run, "last").calibration is not None


@pytest.mark.parametrize("text", ["{", "[]", '{"IDENTITY": {"pixel": 1}}', '{"IDENTITY": 3}'])
def test_damaged_thresholds_are_told_in_a_line(tmp_path, toys, text):
    run = save_run(tmp_path / "run")
    calibrate_run(run, ranges(3), 0.05, "")
    identity = next(iter(json.loads((run / CALIBRATION).read_text())))
    (run / CALIBRATION).write_text(text.replace("IDENTITY", identity))
    with pytest.raises(UserError, match=r"calibration\.json: damaged") as error:
        load(run)
    assert "\n" not in str(error.value)


def test_training_ends_with_thresholds_and_resuming_renews_them(tmp_path, cases):
    config = catalogue.load("caae").Config.preset("small", size=(32, 32), width=2, latent=4, critic_widths=(4,))
    data = DataConfig(phantom_subjects=8, phantom_size=32, cache=cases)
    options = TrainConfig(rounds=4, threads=1, device="cpu", diagnose=False, false_positive_rate=0.1)
    model = train("caae", tmp_path / "run", config, data, options)
    assert model.calibration.rate == 0.1 and model.calibration.images > 0
    assert load(tmp_path / "run", "last").calibration is not None
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    (copy / CALIBRATION).unlink()
    assert load(copy).calibration is None
    assert train("caae", copy, resume=True).calibration == model.calibration
    longer = train("caae", copy, options=TrainConfig(rounds=6), resume=True)
    assert longer.calibration is not None and load(copy, "last").calibration is not None
    assert torch.isfinite(torch.tensor(longer.calibration.pixel))
