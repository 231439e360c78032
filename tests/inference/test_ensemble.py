import json

import numpy as np
import pydicom
import pytest
import torch
from runs import make_run
from samples import sample_of
from torch import nn

from ganatomy.case import Prediction, Preparation
from ganatomy.cli import main
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig
from ganatomy.images.codecs import PercentileWindow, Window
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.files import find, read, write
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.apply import Applier, plan
from ganatomy.inference.ensemble import Ensemble, mean
from ganatomy.inference.predictor import Predictor, VoxelPredictor, predictor_of
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.restoration.task import Restoration

IDENTITY = {"variant": "cnn-mse", "width": 2, "start": "identity"}
GAINS = (1.0, 1.1, 1.3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs whose networks multiply values in their range by 1, 1.1 and 1.3."""
    folder = tmp_path_factory.mktemp("runs")

    def louder(gain):
        return lambda method: method.generator[0].weight[0].mul_(gain)

    return [make_run(folder / f"gain{gain}", config=IDENTITY, change=louder(gain)) for gain in GAINS]


def body():
    """Draw integers of a plausible CT, (4, 20, 18) in HU."""
    hu = np.rint(np.random.default_rng(1).normal(40, 20, (4, 20, 18)))
    hu[:, :4] = -1000
    return Image.from_array(hu.astype(np.int16), (2.5, 0.8, 0.7), "HU")


def applied(applier, path, out):
    (source,) = find(path)
    (output,) = plan([source], out)
    applier({"input": source}, output)
    return read(out).numpy().astype(np.float64), json.loads(output.note.read_text())


def test_images_are_averaged_and_the_note_says_so(runs, tmp_path):
    write(tmp_path / "ct.nii", body())
    alone = [applied(Applier(run), tmp_path / "ct.nii", tmp_path / f"{index}.nii") for index, run in enumerate(runs)]
    values, note = applied(Applier(runs[0], ensemble=runs[1:]), tmp_path / "ct.nii", tmp_path / "mean.nii")
    np.testing.assert_allclose(values, np.mean([one for one, _ in alone], axis=0), atol=1)
    assert np.abs(values - alone[0][0]).max() > 100, "the others count"
    identities = [own["identity"] for _, own in alone]
    assert [one["identity"] for one in note["ensemble"]] == identities
    assert [one["run"] for one in note["ensemble"]] == [str(run) for run in runs]
    assert note["averaged"] == {"what": ["target"], "predictions": 3}
    assert note["identity"] not in identities and "ensemble" not in alone[0][1]
    other = Applier(runs[2], ensemble=[runs[0], runs[1]])
    assert other.identity == note["identity"], "whatever their order"


def test_a_dicom_series_says_that_it_is_a_mean(runs, tmp_path):
    made = Derivation("A scan.", "test", "sha256:0", "0", "scan")
    write_dicom(tmp_path / "in", body(), made)
    (source,) = find(tmp_path / "in")
    (output,) = plan([source], tmp_path / "out")
    Applier(runs[0], ensemble=runs[1:])({"input": source}, output)
    first = pydicom.dcmread(sorted((tmp_path / "out").iterdir())[0])
    assert "the mean of 3 neural networks WGAN-VGG" in first.DerivationDescription


def test_the_command_averages(runs, tmp_path, capsys):
    write(tmp_path / "ct.nii", body())
    words = ["apply", str(runs[0]), str(tmp_path / "ct.nii"), "--out", str(tmp_path / "mean.nii")]
    assert main([*words, "--ensemble", str(runs[1]), str(runs[2])]) == 0
    expected, _ = applied(Applier(runs[0], ensemble=runs[1:]), tmp_path / "ct.nii", tmp_path / "again.nii")
    np.testing.assert_array_equal(read(tmp_path / "mean.nii").numpy(), expected)


def test_runs_that_cannot_be_averaged_are_refused(runs, tmp_path):
    small = {"width": 4, "discriminator_width": 4, "sharpness_width": 4}
    other = make_run(tmp_path / "sagan", "sagan-ct", config=small)
    with pytest.raises(UserError, match=f"--ensemble {other}: a run of sagan-ct, but .* is one of wgan-vgg"):
        Applier(runs[0], ensemble=[runs[1], other])
    with pytest.raises(UserError, match=f"--ensemble {runs[1]}: has the weights of {runs[1]}"):
        Applier(runs[0], ensemble=[runs[1], runs[1]])
    narrow = make_run(tmp_path / "narrow", config={**IDENTITY, "window": (-160.0, 240.0)})
    write(tmp_path / "ct.nii", body())
    with pytest.raises(UserError, match=r"narrow: its target lies between -160 and 240, that of the first run between"):
        applied(Applier(runs[1], ensemble=[narrow]), tmp_path / "ct.nii", tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


class Own(Preparation):
    """Configuration of the plane of the slices."""


class Toy(Restoration):
    """Task from MR to MR, on slices of a given plane."""

    name, phantom, selection, given = "toy", "brain-mr", "x", "input"
    directions = {"x": "lower"}  # noqa: RUF012

    def __init__(self, plane="axial", scale=None, spacing=None, high=200):
        given = Window(low=0, high=high, to=(0, 1))
        codec = scale or given
        self.roles = {"input": ImageRole("input", given, checked=False),
                      "target": ImageRole("target", codec, checked=False)}  # fmt: skip
        self.preparation_of, self.fitted = Own(plane=plane, spacing=spacing), {}

    @property
    def preparation(self):
        return self.preparation_of

    def contrasts(self, sample):
        return None

    def same_contrast(self, output):
        return None

    def phantom_grid(self, size):
        return {}

    def scores(self, output, sample, spacing):
        return {}


class Ramp(Method):
    """A method that adds a ramp along rows and columns to every slice, which reveals the plane of the slices."""

    class Config(MethodConfig):
        step: float = 0.01

    def __init__(self, task, step=0.01):
        super().__init__(self.Config(step=step))
        self.own = task
        self.anchor = nn.Parameter(torch.zeros(1))

    def build_task(self):
        return self.own

    def stages(self):
        return []

    def restore(self, input, **side):
        rows, columns = (torch.arange(extent) for extent in input.shape[-2:])
        return input + self.config.step * (rows[:, None] + 2 * columns)


def predictor(step=0.01, **task):
    return predictor_of(Ramp(Toy(**task), step))


def brain():
    """Make a volume of (5, 7, 11) anisotropic voxels, stored with its slices from right to left."""
    values = np.random.default_rng(0).uniform(20, 100, (1, 5, 7, 11)).astype(np.float32)
    affine = np.array([[-2.0, 0, 0, 7], [0, 0, 3.0, -5], [0, -1.0, 0, 2], [0, 0, 0, 1]])
    return Image(values, affine, "a.u.")


def test_planes_are_averaged_where_the_voxels_lie():
    image = brain()
    members = {plane: predictor(plane=plane) for plane in ("axial", "sagittal", "coronal")}
    together = Ensemble(members)
    found = together.predict(together.sample_of({"input": image}))
    alone = [one.predict(one.sample_of({"input": image})).main.numpy() for one in members.values()]
    assert len({one.tobytes() for one in alone}) == 3, "every plane does something else"
    assert np.array_equal(found.main.affine, image.affine) and found.main.shape == image.shape
    np.testing.assert_allclose(found.main.numpy(), np.mean(alone, axis=0), rtol=1e-5)
    for start in (3, 0):
        np.testing.assert_array_equal(found.main.slab(start, start + 2), found.main.numpy()[:, start : start + 2])


def test_grids_that_differ_in_more_than_the_plane_are_refused():
    together = Ensemble({"one": predictor(), "two": predictor(spacing=(2.0, 2.0, 2.0))})
    with pytest.raises(UserError, match="two: works at another spacing or size than the first run"):
        together.predict(together.sample_of({"input": brain()}))


def test_scales_that_were_learned_may_differ_a_little():
    def learned(high):
        one = predictor(scale=PercentileWindow(), step=0.0)
        one.task.fitted["scale.target"] = np.array([[0.0, high]], np.float32)
        return one

    image = brain()
    close = Ensemble({"one": learned(200), "two": learned(240)})
    half = image.numpy() / 200
    np.testing.assert_allclose(close.predict(close.sample_of({"input": image})).main.numpy(), half * 220, rtol=1e-5)
    far = Ensemble({"one": learned(200), "two": learned(400)})
    with pytest.raises(UserError, match="two: its target lies between 0 and 400, that of the first run between 0 and"):
        far.predict(far.sample_of({"input": image}))


def test_prepared_cases_are_averaged_with_every_members_own_codec():
    values = np.full((1, 2, 3, 4), 50.0, np.float32)
    sample = sample_of({"input": values}, codecs={"input": Window(low=0, high=200, to=(0, 1))})
    together = Ensemble({"one": predictor(0.0), "two": predictor(0.0, high=230)})
    np.testing.assert_allclose(np.asarray(together.predict(sample).arrays["target"]), values, rtol=1e-5)
    mixed = Ensemble({"one": predictor(), "two": predictor(plane="coronal")})
    with pytest.raises(UserError, match="averaged on files only"):
        mixed.predict(sample)


class Labels(VoxelPredictor):
    """A segmentation method that predicts labels, or their probabilities, from the values of voxels."""

    dtype, region = np.uint8, "inside"

    @property
    def inputs(self):
        return ("input",)

    @property
    def outputs(self):
        return {"mask": LabelRole("mask", {self.region: (1,)})}

    def arrays(self, sample, seed=0):
        return {"mask": sample.arrays["input"].astype(self.dtype)}

    def finish(self, arrays, sample):
        return Prediction(arrays)


class Probabilities(Labels):
    dtype = np.float32


class Elsewhere(Probabilities):
    region = "outside"


class WholeOnly(Predictor):
    """A predictor without arrays that could be averaged."""

    inputs, outputs = ("input",), {}

    def predict(self, sample, seed=0):
        return Prediction({})


def test_probabilities_are_averaged_and_labels_are_not():
    method, sample = Ramp(Toy()), sample_of({"input": np.array([[[[0.0, 1.0, 1.0]]]], np.float32)})
    other = sample.with_arrays({"input": np.array([[[[0.0, 0.0, 1.0]]]], np.float32)}, {})

    class Shifted(Probabilities):
        def arrays(self, sample, seed=0):
            return super().arrays(other, seed)

    one, two = Probabilities(method), Probabilities(method)
    two.arrays = Shifted(method).arrays
    found = Ensemble({"one": one, "two": two}).predict(sample)
    np.testing.assert_array_equal(np.asarray(found.arrays["mask"]).ravel(), [0, 0.5, 1])
    with pytest.raises(UserError, match="one: predicts labels without probabilities"):
        Ensemble({"one": Labels(method), "two": Labels(method)}).predict(sample)


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (WholeOnly, "two: what toy predicts cannot be averaged; images and probabilities can"),
        (Labels, "two: predicts something else than one"),
        (Elsewhere, "two: predicts something else than one"),
    ],
)
def test_members_that_are_not_alike_are_refused(cls, told):
    method = Ramp(Toy())
    with pytest.raises(UserError, match=told):
        Ensemble({"one": Probabilities(method), "two": cls(method)})


def test_members_with_other_outputs_are_refused():
    method = Ramp(Toy())
    other = Probabilities(method)
    other.region = "outside"
    with pytest.raises(UserError, match=r"two: makes other outputs or regions, or in another order \(mask\) than one"):
        Ensemble({"one": Probabilities(method), "two": other})


def test_a_mean_is_computed_slab_by_slab_when_it_is_read():
    asked = []

    def part(value):
        def slab(start, stop):
            asked.append((value, start, stop))
            return np.full((1, stop - start, 2, 3), value, np.float32)

        return ComputedArray((1, 9, 2, 3), np.float32, slab, 2 * value)

    found = mean([part(1), part(2)])
    assert asked == [] and found.shape == (1, 9, 2, 3) and found.thickness == 4
    np.testing.assert_array_equal(found.slab(3, 5), np.full((1, 2, 2, 3), 1.5, np.float32))
    assert asked == [(1, 3, 5), (2, 3, 5)]
