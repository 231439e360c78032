import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.game import Method, Tiling
from ganatomy.images.image import Image
from ganatomy.inference.predictor import predictor_of
from ganatomy.tasks.restoration.likeness import MAE
from ganatomy.tasks.translation.task import Translation, TranslationConfig

CONFIG = TranslationConfig.preset(
    "paper", source="mr", target="ct", fit="patches", mr={"window": (0, 100)}, ct={"window": (-300, 700), "unit": "HU"}
)


class Inverting(Method):
    """A method that inverts the contrast voxel by voxel."""

    Config = TranslationConfig
    scale = (1, 1, 1)

    def build_task(self):
        return Translation(self.config, True, MAE)

    def stages(self):
        return []

    @property
    def tiling(self):
        return Tiling(scale=self.scale)

    def restore(self, input):
        return -input.repeat_interleave(self.scale[1], dim=2).repeat_interleave(self.scale[2], dim=3)


class Finer(Inverting):
    scale = (1, 2, 3)


def stored(order=(1, 2, 0), shape=(4, 5, 7)):
    """Make a volume whose axes are stored in another order than that of axial slices, one of them reversed."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, 1 + np.prod(shape))) * 100 / np.prod(shape)
    directions = np.array([[0, 0, 3.0], [0, -1.5, 0], [-0.8, 0, 0]])  # of axial slices, rows and columns, mm in RAS+
    affine = np.eye(4)
    affine[:3, :3] = directions[list(order)].T
    affine[:3, 3] = (11, -7, 5)
    array = values.reshape(shape).transpose(order)[:, ::-1].astype(np.float32)
    affine[:3, 3] += affine[:3, 1] * (array.shape[1] - 1)
    affine[:3, 1] *= -1
    return Image(array[None], affine, "a.u.")


def test_every_voxel_of_the_source_is_translated_in_its_place():
    image = stored()
    predictor = predictor_of(Inverting(CONFIG).inference_mode())
    assert predictor.inputs == ("mr",) and list(predictor.outputs) == ["ct"]
    sample = predictor.sample_of({"mr": image})
    assert sample.shape == (4, 5, 7), "axial slices, whatever the order in the file"
    prediction = predictor.predict(sample)
    made = prediction["ct"]
    np.testing.assert_allclose(made.numpy(), 700 - 10 * image.numpy(), atol=1e-3)
    assert np.array_equal(made.affine, image.affine) and made.unit == "HU"
    np.testing.assert_array_equal(prediction.slices(1, 3)["ct"], np.asarray(prediction.arrays["ct"])[0, 1:3])


def test_what_is_compared_is_the_source_with_both_ranges():
    image = stored()
    predictor = predictor_of(Inverting(CONFIG).inference_mode())
    (compared,) = predictor.predict(predictor.sample_of({"mr": image})).compared.values()
    assert compared.image is image
    assert [(window.low, window.high) for window in compared.windows] == [(0, 100), (-300, 700)]


def test_a_finer_grid_lies_in_the_same_place():
    image = stored()
    predictor = predictor_of(Finer(CONFIG).inference_mode())
    made = predictor.predict(predictor.sample_of({"mr": image}))["ct"]
    assert made.shape == (10, 21, 4), "rows and columns are finer, in the order of the file"
    corners = (
        np.array([[-0.5, -0.5, -0.5, 1], [9.5, 20.5, 3.5, 1]]),
        np.array([[-0.5, -0.5, -0.5, 1], [4.5, 6.5, 3.5, 1]]),
    )
    np.testing.assert_allclose(corners[0] @ made.affine.T, corners[1] @ image.affine.T, atol=1e-9)
    coarse = made.numpy().reshape(1, 5, 2, 7, 3, 4)
    np.testing.assert_allclose(coarse, (700 - 10 * image.numpy())[:, :, None, :, None, :] + 0 * coarse, atol=1e-3)


@pytest.mark.parametrize("scale", ["window", "percentile"])
def test_what_was_cropped_away_is_dark(scale):
    own = {"scale": scale, "window": (0, 100), "percentiles": (0, 100), "over": "all"}
    method = Inverting(TranslationConfig.preset("paper", fit="cover", size=(6, 6), t1=own, t2=own))
    values = np.random.default_rng(0).uniform(0, 100, (3, 6, 10))
    values[0, 0, :2] = 0, 100
    image = Image.from_array(values)
    if scale == "percentile":
        method.fit([method.task.frame({"t1": image, "t2": image})])
    predictor = predictor_of(method.inference_mode())
    made = predictor.predict(predictor.sample_of({"t1": image}))["t2"].numpy()[0]
    np.testing.assert_allclose(made[:, :, 2:8], 100 - values[:, :, 2:8], atol=1e-3)
    assert np.allclose(made[:, :, :2], 0, atol=1e-3) and np.allclose(made[:, :, 8:], 0, atol=1e-3)


def test_several_channels_become_one():
    own = {"window": (0, 1200)}
    config = TranslationConfig.preset("paper", fit="patches", t1={"channels": 3, **own}, t2=own)
    method = Inverting(config)
    method.restore = lambda input: input.mean(dim=1, keepdim=True)
    values = np.stack([np.full((2, 5, 7), 100.0 * channel + np.arange(7)) for channel in (1, 2, 6)])
    predictor = predictor_of(method.inference_mode())
    made = predictor.predict(predictor.sample_of({"t1": Image.from_array(values)}))["t2"]
    np.testing.assert_allclose(made.numpy(), values.mean(axis=0, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "told"), [({"ct": 1}, "ct: not an input of this system; it takes mr"), ({}, "mr: missing")]
)
def test_other_inputs_are_refused(given, told):
    with pytest.raises(UserError, match=told):
        predictor_of(Inverting(CONFIG)).sample_of(given)


def test_nothing_is_computed_before_it_is_read():
    method, calls = Inverting(CONFIG), []
    restore = method.restore
    method.restore = lambda input: calls.append(tuple(input.shape)) or restore(input)
    predictor = predictor_of(method.inference_mode())
    image = Image.from_array(torch.rand(1, 9, 6, 5).numpy() * 100)
    made = predictor.predict(predictor.sample_of({"mr": image}))["ct"]
    assert not calls
    made.slab(2, 4)
    assert sum(shape[0] for shape in calls) == 2, "two slices of nine"
