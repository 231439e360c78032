import csv
import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.codecs import Window
from ganatomy.images.files import read
from ganatomy.inference import sampling
from ganatomy.inference.model import WEIGHTS, Model
from ganatomy.inference.sampling import LIST, NOTE, write_samples
from ganatomy.tasks.synthesis.task import Synthesis, Synthesiser

PHOTO = Window(low=0.0, high=255.0, unit=None)
CT = Window(low=-100.0, high=300.0)
ADC = Window(low=0.0, high=3000.0, unit="um2/s")


class Flat(Synthesiser):
    """Images of one value, which the latent number decides, the label shifts, and the prior lets leave the window."""

    latent_size = 1

    def __init__(self, task: Synthesis, labelled: bool = False):
        super().__init__(MethodConfig())
        self.own, self.labelled = task, labelled

    @property
    def task(self) -> Synthesis:
        return self.own

    def stages(self):
        return []

    def sample(self, latent, label=None):
        value = latent if label is None else latent + 10 * label[:, None]
        channels = sum(self.own.channels.get(role, 1) for role in self.own.roles)
        return value.view(-1, 1, *[1] * len(self.own.size)).expand(-1, channels, *self.own.size).clone()


def model(folder, labelled=False, codecs=None, **how) -> Model:
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS["best"]).write_bytes(b"weights")
    task = Synthesis(codecs or {"image": CT}, how.pop("size", (6, 5)), **how)
    return Model(Flat(task, labelled), {"system": "dcgan", "provenance": {"features": "none"}}, folder)


def rows(out):
    with (out / LIST).open() as stream:
        return list(csv.DictReader(stream))


def test_ct_is_written_as_whole_hu(tmp_path):
    files = write_samples(model(tmp_path / "run"), tmp_path / "out", 3, seed=4)
    assert [file.name for file in files] == [f"synthetic_00000{seed}.nii.gz" for seed in (4, 5, 6)]
    image = read(files[1])
    latent = float(torch.randn(1, generator=torch.Generator().manual_seed(5)))
    assert image.unit == "HU" and image.dtype == np.int16 and image.shape == (1, 6, 5)
    assert (image.numpy() == round(100 + 200 * latent)).all()
    assert rows(tmp_path / "out")[1] == {"file": files[1].name, "label": "", "seed": "5", "role": "image"}


def test_the_note_says_that_they_are_synthetic(tmp_path):
    write_samples(model(tmp_path / "run"), tmp_path / "out", 2)
    note = json.loads((tmp_path / "out" / NOTE).read_text())
    assert note["synthetic"] is True and note["system"] == "dcgan" and note["units"] == {"image": "HU"}
    assert note["identity"].startswith("sha256:") and note["features"] == "none" and note["seeds"] == [0, 1]


def test_the_image_of_a_seed_does_not_depend_on_the_number_of_images(tmp_path):
    labelled = {"labelled": True, "classes": ("a", "b", "c")}
    many = write_samples(model(tmp_path / "run", **labelled), tmp_path / "many", 5)
    (one,) = write_samples(model(tmp_path / "run", **labelled), tmp_path / "one", 1, seed=4)
    assert one.name == many[4].name == "synthetic_b_000004.nii.gz"
    np.testing.assert_array_equal(read(one).numpy(), read(many[4]).numpy())
    assert [row["label"] for row in rows(tmp_path / "many")] == ["a", "b", "c", "a", "b"]


def test_a_label_can_be_chosen(tmp_path):
    own = model(tmp_path / "run", labelled=True, classes=("a", "b"))
    files = write_samples(own, tmp_path / "out", 2, label="b", truncation=0.0)
    assert all((read(file).numpy() == 100 + 200 * 10).all() for file in files)
    with pytest.raises(UserError, match="--label c: there are a, b"):
        write_samples(own, tmp_path / "out2", 2, label="c")


def test_photographs_become_png_cut_off_at_their_ends(tmp_path):
    own = model(tmp_path / "run", codecs={"image": PHOTO}, channels={"image": 3})
    files = write_samples(own, tmp_path / "out", 8)
    pictures = [np.asarray(Pillow.open(file)) for file in files]
    assert all(picture.shape == (6, 5, 3) and picture.dtype == np.uint8 for picture in pictures)
    values = {int(picture.max()) for picture in pictures}
    assert 0 in values or 255 in values
    with Pillow.open(files[3]) as file:
        assert "synthetic" in file.text["Description"] and "seed 3" in file.text["Description"]
    assert read(files[0]).channels == 3


def test_every_role_has_its_file_and_unit(tmp_path):
    own = model(tmp_path / "run", codecs={"t2": PHOTO, "adc": ADC})
    files = write_samples(own, tmp_path / "out", 1, format="tiff")
    assert [file.name for file in files] == ["synthetic_000000_t2.tif", "synthetic_000000_adc.tif"]
    assert read(files[0]).dtype == np.uint8 and read(files[1]).dtype == np.float32
    with tifffile.TiffFile(files[1]) as file:
        assert "values in um2/s" in file.pages[0].description
    assert [row["role"] for row in rows(tmp_path / "out")] == ["t2", "adc"]


def test_volumes_stay_volumes(tmp_path):
    (file,) = write_samples(model(tmp_path / "run", size=(3, 6, 5)), tmp_path / "out", 1)
    assert read(file).shape == (3, 6, 5)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"count": 0}, "-n 0"),
        ({"seed": -1}, "--seed -1"),
        ({"truncation": float("nan")}, "--truncation nan"),
        ({"label": "a"}, "no labels"),
        ({"format": "png"}, "--format png"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, how, words):
    with pytest.raises(UserError, match=words):
        write_samples(model(tmp_path / "run"), tmp_path / "out", **{"count": 1, **how})
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_files_in_the_way_are_kept_unless_told(tmp_path):
    own = model(tmp_path / "run")
    write_samples(own, tmp_path / "out", 2)
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = (tmp_path / "out" / LIST).read_text()
    with pytest.raises(UserError, match="exists already; add --overwrite"):
        write_samples(own, tmp_path / "out", 1, seed=9)
    assert (tmp_path / "out" / LIST).read_text() == before
    write_samples(own, tmp_path / "out", 1, seed=9, overwrite=True)
    assert (tmp_path / "out" / "mine.txt").exists() and rows(tmp_path / "out")[0]["seed"] == "9"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is in the way"):
        write_samples(own, tmp_path / "file", 1)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    real, calls = sampling.write, []

    def failing(path, image):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, image)

    monkeypatch.setattr(sampling, "write", failing)
    with pytest.raises(KeyboardInterrupt):
        write_samples(model(tmp_path / "run"), tmp_path / "out", 5)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_system_that_makes_no_images_is_refused(tmp_path):
    system = catalogue.load("wgan-vgg")
    denoiser = Model(system(system.Config.preset("small", variant="cnn-mse")), {"system": "wgan-vgg"}, tmp_path)
    with pytest.raises(UserError, match="wgan-vgg makes no images from noise"):
        write_samples(denoiser, tmp_path / "out", 1)
