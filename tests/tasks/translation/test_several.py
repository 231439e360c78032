"""Translation from several aligned inputs to several outputs, images and label maps."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
import torch

from ganatomy.case import Case
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import Entry, judge_of
from ganatomy.game import Tiling
from ganatomy.images.image import Image
from ganatomy.inference.predictor import predictor_of
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.translation.maps import fit_maps
from ganatomy.tasks.translation.task import TranslationConfig, Translator

CASE = Case("p", "p", "train", {})
SPACING = (3.0, 1.0, 1.5)


class Both(Translator):
    """Makes an image and its mask from an image and a mask, and counts how often it is asked."""

    class Config(TranslationConfig):
        """An image and its label map on either side, and a map of regions for training."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "drawn": MaskOptions,
            "target": ImageOptions,
            "made": MaskOptions,
            "zones": MaskOptions,
        }

        source: str = "ct"
        drawn: str = "ct_mask"
        target: str = "mr"
        made: str = "mr_mask"
        zones: str = "areas"
        fit: str = "patches"
        size: tuple[int, ...] = (12, 14)
        adversarial_weight: float = 0.0

    def __init__(self, config):
        super().__init__(config)
        self.seen = []

    inputs = property(lambda self: (self.config.source, self.config.drawn))
    outputs = property(lambda self: (self.config.target, self.config.made))
    guides = property(lambda self: (self.config.zones,))
    regions = property(lambda self: {self.config.zones: {"lesion": (1,), "rest": (2, 3)}})
    embedded = property(lambda self: Embedded("head-mr-ct", 48, {"slices": 5}, subjects=7))
    tiling = Tiling()

    def stages(self):
        return []

    def restore(self, input):
        self.seen.append(tuple(input.shape))
        image, mask = input[:, :1], input[:, 1:]
        return torch.cat([-image, 1 - 0.8 * mask], dim=1)


def method(**values):
    own = {"ct": {"window": (-100.0, 100.0), "unit": "HU"}, "mr": {"window": (0.0, 400.0)}, **values}
    return Both(Both.Config.preset("paper", **own))


def volume(values, unit=None):
    return Image.from_array(np.asarray(values), SPACING, unit)


def values(seed=0, shape=(3, 12, 14)):
    rng = np.random.default_rng(seed)
    ct = rng.uniform(-100, 100, shape).astype(np.float32)
    mask = (rng.random(shape) > 0.6).astype(np.uint8)
    mr = (200 - 2 * ct * (1 - mask) - 50 * mask).clip(0, 400).astype(np.float32)
    areas = rng.integers(0, 4, shape).astype(np.uint8)
    return {
        "ct": volume(ct, "HU"),
        "ct_mask": volume(mask),
        "mr": volume(mr, "a.u."),
        "mr_mask": volume(1 - mask),
        "areas": volume(areas),
    }


def test_roles_are_in_the_order_of_the_channels():
    own = method().task
    assert list(own.roles) == ["ct", "ct_mask", "mr", "mr_mask", "areas"]
    assert (own.input, own.output, own.given) == ("ct", "mr", "ct")
    assert own.required == ("ct", "ct_mask", "mr", "mr_mask"), "a guide may be missing"
    assert (own.in_channels, own.out_channels, own.images) == (2, 1, ("ct", "mr"))
    assert own.roles["areas"].names == ("lesion", "rest") and own.roles["areas"].channels == 2
    assert own.phantom == "head-mr-ct" and own.phantom_subjects == 7
    assert own.phantom_grid(None) == {"size": 48, "slices": 5} and own.phantom_grid(32) == {"size": 32, "slices": 5}


def test_a_batch_is_seen_as_one_image():
    one = method()
    given = one.task.frame(values(), CASE)
    batch = {
        name: torch.stack([role.tensor(np.asarray(given.arrays[name])[:, :1], 2)]) for name, role in given.roles.items()
    }
    assert one.image(batch).shape == (1, 2, 12, 14) and one.truth(batch).shape == (1, 2, 12, 14)
    assert set(one.image(batch)[:, 1].unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(one.image(batch)[:, :1], batch["ct"])
    torch.testing.assert_close(one.truth(batch)[:, 1:], batch["mr_mask"])
    assert batch["areas"].shape == (1, 2, 12, 14)


def test_both_outputs_come_from_one_pass_and_lie_on_the_grid_of_the_input():
    one = method()
    there = values()
    sample = one.task.frame({name: there[name] for name in ("ct", "ct_mask")})
    predictor = predictor_of(one)
    assert predictor.inputs == ("ct", "ct_mask") and tuple(predictor.outputs) == ("mr", "mr_mask")
    prediction = predictor.predict(sample)
    made = {name: value.numpy() for name, value in prediction.outputs.items()}
    assert one.seen == 3 * [(1, 2, 12, 14)], "each slice is computed once for both outputs"
    np.testing.assert_allclose(made["mr"][0], 200 - 2 * there["ct"].numpy()[0], atol=1e-2)
    # 1 - 0.8 · 1 is less than one half: what was inside is outside.
    assert np.array_equal(made["mr_mask"][0], 1 - there["ct_mask"].numpy()[0])
    assert made["mr_mask"].dtype == np.uint8 and prediction.outputs["mr"].unit == "a.u."
    np.testing.assert_allclose(prediction.outputs["mr_mask"].affine, there["ct"].affine)


def test_a_missing_input_is_named():
    one, there = method(), values()
    with pytest.raises(UserError, match="ct_mask: missing; this system needs ct, ct_mask"):
        predictor_of(one).sample_of({"ct": there["ct"]})
    with pytest.raises(UserError, match="no mr_mask image beside it"):
        one.task.frame({name: value for name, value in there.items() if name != "mr_mask"}, CASE)


def test_simple_maps_are_fitted_to_all_inputs():
    one = method()
    cases = [one.task.frame(values(seed), CASE) for seed in range(3)]
    fitted = {name: mapping for name, _, mapping in fit_maps(one.task, cases)}
    seen = np.stack([np.zeros(4), np.array([0, 1, 0, 1])]).astype(np.float32)
    made = fitted["linear map"](seen)
    assert made.shape == (1, 4)
    assert made[0, 0] == made[0, 2] and made[0, 0] - made[0, 1] > 0.1, "the mask is of use where images are equal"
    judge = judge_of(one.task)
    judge.learn(cases)
    name, run = judge.classical()[1].name, judge.classical()[1].settings[0][1]
    assert name == "linear map" and run(cases[0], 0, 2).shape == (2, 12, 14)
    entries = judge.with_references(Entry("output", run))
    assert {row.method for row in judge.score_case(entries, cases[0])} == {"input", "output", "target"}


def test_a_label_map_may_be_the_only_input():
    class Painter(Both):
        class Config(Both.Config):
            role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"source": MaskOptions, "target": ImageOptions}
            source: str = "vessels"
            target: str = "photo"

        inputs = property(lambda self: ("vessels",))
        outputs = property(lambda self: ("photo",))
        guides = ()
        regions: ClassVar = {}

        def restore(self, input):
            return 1 - 1.5 * input

    config = Painter.Config.preset("paper", photo={"window": (0.0, 255.0), "unit": None})
    one = Painter(config)
    mask = np.zeros((1, 12, 14), np.uint8)
    mask[:, 2:4] = 255
    photo = np.where(mask > 0, 63.75, 255).astype(np.float32)
    sample = one.task.frame({"vessels": volume(mask), "photo": volume(photo)}, CASE)
    prediction = predictor_of(one).predict(sample)
    np.testing.assert_array_equal(prediction.outputs["photo"].numpy()[0], np.rint(photo))
    assert not prediction.compared and one.task.contrasts(sample) is None and one.task.window("vessels") == (0, 1)
    assert one.task.trainable(None, {name: np.asarray(array) for name, array in sample.arrays.items()}).tolist() == [
        True
    ]
    other = one.task.frame({"vessels": volume(mask[:, ::-1]), "photo": volume(photo[:, ::-1])}, CASE)
    maps = {name: mapping for name, _, mapping in fit_maps(one.task, [other, sample])}
    assert "nearest image" not in maps, "patches of any size have no nearest one"
    whole = Painter(Painter.Config.preset("paper", photo={"window": (0.0, 255.0), "unit": None}, fit="cover"))
    maps = {name: mapping for name, _, mapping in fit_maps(whole.task, [other, sample])}
    nearly = mask[None].astype(np.float32).copy()
    nearly[..., 0] = 0
    found = whole.task.roles["photo"].decoded(maps["nearest image"](nearly))
    np.testing.assert_allclose(found[0], photo)
    judge = judge_of(one.task)
    shown = judge.references()[0][0].run(sample, 0, 1)
    assert set(np.unique(shown)) == {0, 255}, "the map is shown in the window of the output"
    scores = {row.method: row.scores for row in judge.score_case(judge.with_references(), sample)}
    assert scores["input"]["contrast"] == pytest.approx(-1)


def test_slices_of_another_plane_and_spacing_are_learned_from_and_come_back():
    one = method(plane="sagittal", spacing=(1.5, 1.0, 1.0), fit="patches")
    there = values(shape=(6, 8, 10))
    sample = one.task.frame({name: there[name] for name in ("ct", "ct_mask")})
    assert sample.shape == (10, 18, 8), "columns become slices; 6 slices of 3 mm become 18 rows of 1 mm"
    made = predictor_of(one).predict(sample).outputs
    assert made["mr"].shape == made["mr_mask"].shape == there["ct"].shape
    np.testing.assert_allclose(made["mr"].affine, there["ct"].affine, atol=1e-6)
