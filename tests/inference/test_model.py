import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import Header, Image
from ganatomy.inference.model import load
from ganatomy.inference.runfile import digest_of, read_run, write_run


def body(slices=3, rows=50, columns=44, modality=None, unit="HU", header=None):
    values = np.random.default_rng(0).normal(-300, 250, (slices, rows, columns)).astype(np.int16)
    values[:, :4] = -1000
    return Image.from_array(values, (2.5, 0.8, 0.7), unit, header or Header(modality=modality))


@pytest.fixture(scope="module")
def model(trained):
    return load(trained)


def test_geometry_and_unit_come_back(model):
    image = body()
    output = model(image).main
    assert output.unit == "HU" and output.dtype == np.float32 and output.shape == image.shape
    assert np.array_equal(output.affine, image.affine) and output.spacing == image.spacing
    values = output.numpy()
    assert np.isfinite(values).all() and abs(float(values.mean() - image.numpy().mean())) < 100


def test_slabs_are_parts_of_the_whole(model):
    output = model(body()).main
    whole = output.numpy()
    for start in (2, 0, 1):
        assert np.array_equal(output.slab(start, start + 1), whole[:, start : start + 1])
    assert np.array_equal(model(body()).main.numpy(), whole)


def test_paths_images_and_arrays_are_taken(model, tmp_path):
    image = body()
    write(tmp_path / "ct.nii.gz", image)
    want = model(image).main.numpy()
    assert np.array_equal(model(tmp_path / "ct.nii.gz").main.numpy(), want)
    assert np.array_equal(model(str(tmp_path / "ct.nii.gz")).main.numpy(), want)
    assert np.array_equal(model(image.numpy()[0], unit="HU").main.numpy(), want)
    flat = model(image.numpy()[0, 0], unit="HU").main
    assert flat.shape == (1, 50, 44) and np.allclose(flat.numpy(), want[:, :1], atol=1e-3)


def test_using_a_model_does_not_change_it(model):
    before = {name: value.clone() for name, value in model.method.state_dict().items()}
    model(body()).main.numpy()
    assert all(torch.equal(value, before[name]) for name, value in model.method.state_dict().items())
    assert not model.method.training


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (body(modality="MR", unit=None), "modality MR, but this system takes CT as input"),
        (body(unit="SUV"), "is in SUV, but the model works in HU"),
        (Image.from_array(np.arange(64 * 3).reshape(3, 1, 8, 8), unit="HU"), "3 channels"),
        (Image.from_array(np.full((8, 8), 40), unit="HU"), "same value 40 everywhere"),
        (Image.from_array(np.where(np.eye(8) > 0, np.nan, 1.0), unit="HU"), "NaN or infinite"),
        (Image.from_array(np.arange(64).reshape(8, 8)), "names no unit"),
    ],
)
def test_images_that_do_not_fit_are_refused(model, image, told):
    with pytest.raises(UserError, match=told) as error:
        model(image)
    assert "\n" not in str(error.value)


def test_best_and_last_are_different_files(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    tensors = load_file(run / "weights-last.safetensors")
    other = {name: value + 1 for name, value in tensors.items()}
    save_file(other, run / "weights-last.safetensors")
    write_run(run, read_run(run).with_weights({"last": digest_of(other)}))
    best, last = (load(run, which).method.state_dict() for which in ("best", "last"))
    assert all(not torch.equal(best[name], last[name]) for name in best)


@pytest.mark.parametrize(
    "damage", ["nothing", "yaml", "weights", "cut", "other", "less", "config", "system", "planned"]
)
def test_a_run_that_cannot_be_loaded_is_named(trained, tmp_path, damage):
    run = shutil.copytree(trained, tmp_path / "run")
    facts, weights = run / "run.yaml", run / "weights.safetensors"
    match damage:
        case "nothing":
            facts.unlink()
        case "yaml":
            facts.write_bytes(os.urandom(300))
        case "weights":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "other":
            save_file({name: torch.zeros(3, 3) for name in load_file(weights)}, weights)
        case "less":
            save_file(dict(list(load_file(weights).items())[:-1]), weights)
        case "config":
            facts.write_text(facts.read_text().replace("critic_steps:", "critic_stops:"))
        case "system":
            facts.write_text(facts.read_text().replace("system: wgan-vgg", "system: wgan-vhs"))
        case "planned":
            facts.write_text(facts.read_text().replace("system: wgan-vgg", "system: dagan"))
    with pytest.raises(UserError) as error:
        load(run)
    said = str(error.value)
    assert str(run) in said and "\n" not in said


def test_a_gpu_that_is_not_there_is_refused(trained, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: this machine has no usable GPU"):
        load(trained, device="cuda")
    with pytest.raises(UserError, match="--device tpu: use cpu"):
        load(trained, device="tpu")
