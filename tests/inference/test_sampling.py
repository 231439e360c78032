import csv
import json
from typing import ClassVar

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from ganatomy import catalogue
from ganatomy.case import Prediction
from ganatomy.data.cases import DataConfig
from ganatomy.data.memory import only_source
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.atomic import locked
from ganatomy.images.files import read
from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.inference.runfile import RunFile
from ganatomy.inference.sampling import LIST, NOTE, sampling_ability, write_samples
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import LabelRole
from ganatomy.roles.signal import Signal, SignalRole
from ganatomy.tasks.synthesis.predictor import SamplePredictor
from ganatomy.tasks.synthesis.task import Synthesis, Synthesiser

PHOTO = ImageOptions(window=(0.0, 255.0), unit=None)
CT = ImageOptions(window=(-100.0, 300.0), unit="HU")
ADC = ImageOptions(window=(0.0, 3000.0), unit="um2/s")

FACTS = RunFile.model_construct(system="dcgan", provenance={"features": "none"}, data=DataConfig())


class Flat(Synthesiser):
    """A generator of constant images: the value depends on latent number and label, and may leave the window."""

    latent_size = 1

    def __init__(self, task: Synthesis, labelled: bool = False):
        super().__init__(MethodConfig())
        self.own, self.labelled = task, labelled

    def build_task(self) -> Synthesis:
        return self.own

    def stages(self):
        return []

    def sample(self, latent, label=None):
        value = latent if label is None else latent + 10 * label[:, None]
        channels = sum(role.channels for role in self.own.images.values())
        return value.view(-1, 1, *[1] * len(self.own.size)).expand(-1, channels, *self.own.size).clone()


def model(folder, labelled=False, images=None, **how) -> Model:
    folder.mkdir(exist_ok=True)
    task = Synthesis(images or {"image": CT}, how.pop("size", (6, 5)), **how)
    return Model(Flat(task, labelled), FACTS, folder, identity="sha256:abc", system=catalogue.resolve("dcgan"))


class Outlined(SamplePredictor):
    """A predictor of a label map, a signal and a grey image from a seed."""

    made: ClassVar = {
        "vessels": LabelRole("vessels", {"artery": (1,), "vein": (3,)}),
        "pulse": SignalRole("pulse"),
        "image": PHOTO.role("image"),
    }

    @property
    def outputs(self):
        return self.made

    def predict(self, sample, seed=0):
        labels = np.zeros((1, 1, 6, 5), np.uint8)
        labels[..., seed % 5] = 3
        values = {
            "vessels": Image.from_array(labels),
            "pulse": Signal(np.arange(8.0)[None] + seed, 0.5),
            "image": Image.from_array(np.full((1, 1, 6, 5), 7.4 + seed, np.float32)),
        }
        return Prediction({}, values, facts={"turn": seed % 2, "units": "mV"})


class Needy(SamplePredictor):
    """A predictor that needs two images and does not sample from noise."""

    @property
    def inputs(self):
        return ("t1", "t2")


class Several(Synthesis):
    """A task with three abilities, the first of which needs images."""

    predictors: ClassVar = {"restore": Needy, "outline": Outlined, "sample": SamplePredictor}


def rows(out):
    with (out / LIST).open() as stream:
        return list(csv.DictReader(stream))


def note(out):
    return json.loads((out / NOTE).read_text())


def test_ct_is_written_as_whole_hu(tmp_path):
    files = write_samples(model(tmp_path / "run"), tmp_path / "out", 3, seed=4)
    assert [file.name for file in files] == [f"synthetic_00000{seed}.nii.gz" for seed in (4, 5, 6)]
    image = read(files[1])
    latent = float(torch.randn(1, generator=torch.Generator().manual_seed(5)))
    assert image.unit == "HU" and image.dtype == np.int16 and image.shape == (1, 6, 5)
    assert (image.numpy() == round(100 + 200 * latent)).all()
    assert rows(tmp_path / "out")[1] == {"file": files[1].name, "label": "", "seed": "5", "role": "image"}


def test_the_note_says_that_they_are_synthetic(tmp_path):
    write_samples(model(tmp_path / "run"), tmp_path / "out", 2, options={"truncation": 0.5})
    told = note(tmp_path / "out")
    assert told["synthetic"] is True and told["system"] == "dcgan" and told["units"] == {"image": "HU"}
    assert told["identity"] == "sha256:abc" and told["features"] == "none" and told["seeds"] == [0, 1]
    assert told["options"] == {"label": None, "truncation": 0.5} and told["codecs"]["image"]["high"] == 300
    assert told["pixel size"].startswith("unknown") and told["trained on"] == "embedded phantom skin-lesion"
    assert told["suffixes"] == {"image": ".nii.gz"} and told["weights"] == "weights.safetensors"


def test_the_image_of_a_seed_does_not_depend_on_the_number_of_images(tmp_path):
    labelled = {"labelled": True, "classes": ("a", "b", "c")}
    many = write_samples(model(tmp_path / "run", **labelled), tmp_path / "many", 5)
    (one,) = write_samples(model(tmp_path / "run", **labelled), tmp_path / "one", 1, seed=4)
    assert one.name == many[4].name == "synthetic_b_000004.nii.gz"
    np.testing.assert_array_equal(read(one).numpy(), read(many[4]).numpy())
    assert [row["label"] for row in rows(tmp_path / "many")] == ["a", "b", "c", "a", "b"]
    assert note(tmp_path / "many")["label"] == ["a", "b", "c"] and note(tmp_path / "one")["label"] == "b"


def test_a_label_can_be_chosen(tmp_path):
    own = model(tmp_path / "run", labelled=True, classes=("a", "b"))
    files = write_samples(own, tmp_path / "out", 2, options={"label": "b", "truncation": 0.0})
    assert all((read(file).numpy() == 100 + 200 * 10).all() for file in files)
    with pytest.raises(UserError, match="--label c: there are a, b"):
        write_samples(own, tmp_path / "out2", 2, options={"label": "c"})


def test_photographs_become_png_cut_off_at_their_ends(tmp_path):
    own = model(tmp_path / "run", images={"image": PHOTO.model_copy(update={"channels": 3})})
    files = write_samples(own, tmp_path / "out", 8)
    pictures = [np.asarray(Pillow.open(file)) for file in files]
    assert all(picture.shape == (6, 5, 3) and picture.dtype == np.uint8 for picture in pictures)
    values = {int(picture.max()) for picture in pictures}
    assert 0 in values or 255 in values
    with Pillow.open(files[3]) as file:
        assert "synthetic" in file.text["Description"] and "seed 3" in file.text["Description"]
    assert read(files[0]).channels == 3


def test_every_role_has_its_file_and_unit(tmp_path):
    own = model(tmp_path / "run", images={"t2": PHOTO, "adc": ADC})
    files = write_samples(own, tmp_path / "out", 1, format="tiff")
    assert [file.name for file in files] == ["synthetic_000000_t2.tif", "synthetic_000000_adc.tif"]
    assert read(files[0]).dtype == np.uint8 and read(files[1]).dtype == np.float32
    with tifffile.TiffFile(files[1]) as file:
        assert "values in um2/s" in file.pages[0].description
    assert [row["role"] for row in rows(tmp_path / "out")] == ["t2", "adc"]
    assert [file.suffix for file in write_samples(own, tmp_path / "usual", 1)] == [".gz", ".gz"], "one format for both"


def test_volumes_stay_volumes(tmp_path):
    (file,) = write_samples(model(tmp_path / "run", size=(3, 6, 5)), tmp_path / "out", 1)
    assert read(file).shape == (3, 6, 5)


def several(folder) -> Model:
    return Model(
        Flat(Several({"image": PHOTO}, (6, 5))), FACTS, folder, identity="sha256:abc", system=catalogue.resolve("dcgan")
    )


def test_whatever_a_system_makes_from_noise_is_written_as_its_kind_is(tmp_path):
    files = write_samples(several(tmp_path / "run"), tmp_path / "out", 2, seed=3)
    assert [file.name for file in files[:3]] == [
        "synthetic_000003_vessels.png",
        "synthetic_000003_pulse.csv",
        "synthetic_000003_image.png",
    ]
    opened = {
        name: role.source(file.name, file.parent, only_source).open()
        for (name, role), file in zip(Outlined.made.items(), files[3:], strict=True)
    }
    assert (opened["vessels"].numpy()[..., 4] == 3).all() and opened["vessels"].numpy().sum() == 18
    np.testing.assert_allclose(opened["pulse"].values[0], np.arange(8.0) + 4)
    assert (opened["image"].numpy() == 11).all(), "7.4 + 4, rounded to bytes"
    told = note(tmp_path / "out")
    assert told["turn"] == [1, 0] and told["units"] == "mV"
    assert told["suffixes"] == {"vessels": ".png", "pulse": ".csv", "image": ".png"}
    written = write_samples(several(tmp_path / "run"), tmp_path / "tiff", 1, format="tiff")
    assert [file.suffix for file in written] == [".tif", ".csv", ".tif"]


def test_the_ability_is_the_first_that_needs_nothing(tmp_path):
    own = several(tmp_path / "run")
    assert sampling_ability(own.method) == "outline" and sampling_ability(own.method, "sample") == "sample"
    with pytest.raises(UserError, match=r"synthesis makes nothing from noise: it needs t1, t2; .* `ganatomy apply`"):
        sampling_ability(own.method, "restore")
    with pytest.raises(UserError, match="--ability draw: this system has restore, outline, sample"):
        sampling_ability(own.method, "draw")
    (file,) = write_samples(own, tmp_path / "out", 1, ability="sample")
    assert file.name == "synthetic_000000.png"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"count": 0}, "-n 0"),
        ({"seed": -1}, "--seed -1"),
        ({"options": {"truncation": float("nan")}}, "--truncation nan"),
        ({"options": {"label": "a"}}, "no labels"),
        ({"options": {"tone": "a"}}, "--tone: no option"),
        ({"format": "png"}, "--format png: the image is in HU, not in 8 bits; choose nifti, tiff or npy"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, how, words):
    with pytest.raises(UserError, match=words):
        write_samples(model(tmp_path / "run"), tmp_path / "out", **{"count": 1, **how})
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_format_must_hold_the_channels(tmp_path):
    own = model(tmp_path / "run", images={"image": PHOTO.model_copy(update={"channels": 5})})
    with pytest.raises(
        UserError, match="--format tiff: does not hold the 5 channels of the image; choose nifti or npy"
    ):
        write_samples(own, tmp_path / "out", 1, format="tiff")
    assert read(write_samples(own, tmp_path / "out", 1)[0]).channels == 5


def test_only_what_sample_has_written_is_replaced(tmp_path):
    own, out = model(tmp_path / "run"), tmp_path / "out"
    (name,) = [path.name for path in write_samples(own, tmp_path / "first", 1)]
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(UserError, match="nothing else is ever replaced"):
        write_samples(own, out, 1, overwrite=True)
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "mine"


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
    (tmp_path / "other" / "synthetic_000001.nii.gz").mkdir(parents=True)
    with pytest.raises(UserError, match="a folder is in the way"):
        write_samples(own, tmp_path / "other", 2, overwrite=True)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["synthetic_000001.nii.gz"]


def test_fewer_samples_leave_no_files_that_the_list_does_not_name(tmp_path):
    own, out = model(tmp_path / "run"), tmp_path / "out"
    write_samples(own, out, 3)
    (out / "mine.txt").write_text("mine")
    (file,) = write_samples(own, out, 1, seed=1, overwrite=True)
    assert {path.name for path in out.iterdir()} == {file.name, LIST, NOTE, "mine.txt"}


def test_a_list_from_elsewhere_removes_nothing_beside_its_folder(tmp_path):
    own, out = model(tmp_path / "run"), tmp_path / "out"
    write_samples(own, out, 1)
    (tmp_path / "mine.txt").write_text("mine")
    with (out / LIST).open("a") as stream:
        stream.write("../mine.txt,,5,t2\n")
    with pytest.raises(UserError, match="nothing else is ever replaced"):
        write_samples(own, out, 1, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_one_process_at_a_time_samples_into_a_folder(tmp_path):
    own, out = model(tmp_path / "run"), tmp_path / "out"
    with locked(out, tmp_path / ".out.lock"), pytest.raises(UserError, match="another process is writing there"):
        write_samples(own, out, 1)
    write_samples(own, out, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_an_interruption_leaves_nothing(tmp_path):
    calls = []

    def advance():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(model(tmp_path / "run"), tmp_path / "out", 5, advance=advance)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_system_that_needs_images_is_refused(tmp_path):
    system = catalogue.load("wgan-vgg")
    denoiser = Model(system(system.Config.preset("small", variant="cnn-mse")), FACTS, tmp_path)
    with pytest.raises(UserError, match="ct-denoising makes nothing from noise: it needs input"):
        write_samples(denoiser, tmp_path / "out", 1)
