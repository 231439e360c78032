"""Networks as ONNX: what is written beside them is enough to predict as ganatomy does."""

import json

import numpy as np
import pytest
import torch

from ganatomy import Image, UserError, catalogue
from ganatomy.images.codecs import Window
from ganatomy.inference import export
from ganatomy.inference.model import Model

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


def model_of(slug, **config):
    """An untrained model whose weights are far from those of zero output."""
    system = catalogue.resolve(slug)
    method = system.cls.of(system.cls.Config.preset("small", **config)).inference_mode()
    return Model(method, system=system, identity="sha256:none")


def used(path, image):
    """Output for an image, made with ONNX Runtime and the description alone, where one tile is the whole image."""
    told = json.loads(path.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (role,), out = told["input"]["roles"], told["output"]
    values = Window(**role["codec"]).encode(image.numpy())
    margin = told["tiling"]["margin"]
    values = np.pad(values, ((0, 0), *((one, one) for one in margin)), mode="reflect")
    batch = values[None] if "slices" in told["input"]["axes"] else values.swapaxes(0, 1)
    (made,) = session.run(None, {told["input"]["name"]: batch.astype(np.float32)})
    made = made[0] if "slices" in told["input"]["axes"] else made.swapaxes(0, 1)
    return Window(**out["role"]["codec"]).decode(made), told


CASES = {
    "pix2pix": (
        {"size": (32, 32), "levels": 3, "t1": {"window": (0, 900)}, "t2": {"window": (-50, 400)}},
        (3, 32, 32),
        (0, 900),
    ),
    "wgan-vgg": ({"patch": 32, "width": 4}, (2, 40, 24), (-900, 900)),
    "srgan3d-brain": ({"patch_shape": (12, 12, 12), "width": 4, "wide": 4, "window": (0, 900)}, (9, 12, 11), (0, 900)),
}


@pytest.mark.parametrize("slug", CASES)
def test_a_network_and_its_description_predict_as_the_model(slug, tmp_path):
    config, shape, ends = CASES[slug]
    model = model_of(slug, **config)
    path = model.export_onnx(tmp_path / "net.onnx")
    unit = model.method.task.roles[model.predictor().inputs[0]].codec.unit
    image = Image.from_array(np.random.default_rng(1).uniform(*ends, shape).astype(np.float32), unit=unit)
    found, told = used(path, image)
    wanted = model(image).main.numpy()
    assert found.shape == wanted.shape and np.ptp(wanted) > 1
    assert np.abs(found - wanted).max() < 1e-3 * np.ptp(wanted)
    assert told["system"] == slug and told["weights"] == "sha256:none" and "research" in told["use"]
    free = model.method.task.preparation.size is None
    assert (told["input"]["shape"][-1] is None) is free


def test_scales_of_single_images_and_those_of_the_training_cases_are_told_apart(tmp_path):
    model = model_of("pix2pix", size=(32, 32), levels=3)
    model.method.fitted.keep({"scale.t2": np.array([[100.0, 300.0]]), "scale.t1": np.array([[0.0, 1.0]])})
    model.export_onnx(tmp_path / "net.onnx")
    told = json.loads((tmp_path / "net.json").read_text())
    assert told["output"]["scale"].startswith("the median of the training cases")
    assert told["input"]["roles"][0]["codec is bound"] == "for each image"
    codec = told["output"]["role"]["codec"]
    assert Window(**codec).decode(np.array([0.0, 1.0], np.float32)) == pytest.approx([100.0, 300.0])


def test_probabilities_of_regions_are_the_output_of_a_segmenter(tmp_path):
    model = model_of("segan", width=4, critic_width=4)
    told = json.loads(model.export_onnx(tmp_path / "net.onnx").with_suffix(".json").read_text())
    assert (told["output"]["values"], told["output"]["scale"]) == ("probabilities", "as they are")
    assert told["output"]["role"]["name"] == model.method.task.labels


@pytest.mark.parametrize(
    ("slug", "told"),
    [
        ("gan", "its input is noise"),
        ("gancs", "only images are"),
        ("caae", "cannot be called alone"),
    ],
)
def test_systems_that_are_more_than_a_network_are_refused(slug, told, tmp_path):
    with pytest.raises(UserError, match=f"cannot be exported, since .*{told}.*ganatomy") as error:
        model_of(slug).export_onnx(tmp_path / "net.onnx")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_operations_that_onnx_lacks_are_refused_without_a_flood_of_words(tmp_path, capfd):
    with pytest.raises(UserError, match="ONNX Runtime does not give the outputs of torch"):
        model_of("srgan", width=4, blocks=1).export_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir()) and capfd.readouterr().out == ""


def test_a_network_that_draws_random_numbers_is_refused(tmp_path, monkeypatch):
    model = model_of("wgan-vgg", patch=32, width=4)
    restore = model.method.restore
    calls = []

    def noisy(block):
        calls.append(1)
        made = restore(block)
        return made if len(calls) == 1 else made + torch.rand_like(made)

    monkeypatch.setattr(type(model.method), "restore", lambda self, block: noisy(block))
    with pytest.raises(UserError, match="draws random numbers"):
        model.export_onnx(tmp_path / "net.onnx")


def test_names_and_packages_are_checked_first(tmp_path, monkeypatch):
    model = model_of("wgan-vgg", patch=32, width=4)
    with pytest.raises(UserError, match=r"give a name that ends in \.onnx"):
        model.export_onnx(tmp_path / "net.pt")
    (tmp_path / "net.json").write_text("mine")
    with pytest.raises(UserError, match=r"net\.json: exists already"):
        model.export_onnx(tmp_path / "net.onnx")
    assert (tmp_path / "net.json").read_text() == "mine"
    monkeypatch.setattr(export, "NEEDED", ("onnx", "no_such_runtime"))
    with pytest.raises(UserError, match=r"needs no_such_runtime: pip install 'ganatomy\[onnx\]'"):
        model.export_onnx(tmp_path / "other.onnx")
