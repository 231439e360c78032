from itertools import chain

import numpy as np
import pytest
import torch

from ganatomy.case import Case, Sample
from ganatomy.data.batches import usable
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.image import axial_affine
from ganatomy.inference.predictor import predictor_of
from ganatomy.methods.frameworks.dcgan import DCGAN
from ganatomy.roles.image import ImageOptions
from ganatomy.tasks.synthesis.predictor import SAMPLES_PER_SLICE, SampleOptions
from ganatomy.tasks.synthesis.task import Synthesis, Synthesiser


class Shades(Synthesiser):
    """A generator of constant images: the latent number in the first channel, the label in the second."""

    latent_size = 1

    def __init__(self, task, labelled=False):
        super().__init__(MethodConfig())
        self.own, self.labelled, self.asked = task, labelled, []

    def build_task(self):
        return self.own

    def stages(self):
        return []

    def sample(self, latent, label=None):
        self.asked.append(len(latent))
        shown = torch.zeros_like(latent) if label is None else label[:, None].float()
        values = torch.cat([latent, shown, *[0 * shown] * (self.own.images["b"].channels - 1)], dim=1)
        return values.view(*values.shape, *[1] * len(self.own.size)).expand(-1, -1, *self.own.size).clone()


def pair(size=(6, 5), classes=(), **options):
    images = {"a": ImageOptions(window=(0, 1000), unit="HU"), "b": ImageOptions(window=(-2, 4), unit=None, channels=3)}
    return Synthesis({name: one.model_copy(update=options) for name, one in images.items()}, size, classes=classes)


def predictor(labelled=False, options=None, **task):
    return predictor_of(Shades(pair(**task), labelled), options=SampleOptions(**(options or {})))


def drawn(seed):
    return float(torch.randn(1, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("size", [(6, 5), (3, 6, 5)])
def test_a_seed_gives_one_image_of_every_role_on_a_grid_of_its_own(size):
    made = predictor(size=size)
    assert made.inputs == () and list(made.outputs) == ["a", "b"]
    found = made.predict(made.sample_of({}), 7)
    slices = size[0] if len(size) == 3 else 1
    assert found["a"].shape == found["b"].shape == (slices, 6, 5)
    assert (found["a"].channels, found["b"].channels) == (1, 3)
    assert found["a"].unit == "HU" and found["b"].unit is None and found["a"].spacing == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(found["a"].numpy(), 500 + 500 * drawn(7), rtol=1e-5)
    np.testing.assert_allclose(found.arrays["b"], 1.0)
    assert found.facts == {"pixel size": "unknown; 1 mm is written where a file must name one"}


def test_nothing_can_be_given():
    with pytest.raises(UserError, match="a: not an input of this system; it takes nothing"):
        predictor().sample_of({"a": np.zeros((6, 5))})


def test_labels_follow_the_seed_or_the_option():
    by_seed = predictor(labelled=True, classes=("x", "y", "z"))
    facts = [by_seed.predict(by_seed.sample_of({}), seed).facts["label"] for seed in (0, 4, 5)]
    assert facts == ["x", "y", "z"] and by_seed.labels([5, 4]).tolist() == [2, 1]
    chosen = predictor(labelled=True, classes=("x", "y", "z"), options={"label": "y"})
    found = chosen.predict(chosen.sample_of({}), 5)
    assert found.facts["label"] == "y" and float(found.arrays["b"][0].max()) == 4.0
    images = by_seed.images([0, 1], torch.tensor([2, 2]))
    assert images[:, 1].eq(2).all(), "a judge says what is wanted"


def test_a_label_that_is_not_made_is_refused():
    with pytest.raises(UserError, match="--label w: there are x, y"):
        predictor(labelled=True, classes=("x", "y"), options={"label": "w"})
    with pytest.raises(UserError, match="--label x: this run has no labels to choose from"):
        predictor(classes=("x", "y"), options={"label": "x"})
    with pytest.raises(UserError, match=r"--truncation -1: .*greater than or equal to 0"):
        SampleOptions.of({"truncation": -1})
    with pytest.raises(UserError, match=r"--truncation nan"):
        SampleOptions.of({"truncation": float("nan")})
    with pytest.raises(UserError, match=r"--tone: no option.* there are --label, --truncation"):
        SampleOptions.of({"tone": 1})


def test_truncation_draws_all_images_towards_one():
    half = predictor(options={"truncation": 0.5})
    np.testing.assert_allclose(half.physical(half.images([3]))["a"], 500 + 250 * drawn(3), rtol=1e-5)


def test_an_image_depends_on_its_seed_alone():
    method = DCGAN(DCGAN.Config.preset("small", size=(16, 16), stages=2, width=4)).inference_mode()
    made = predictor_of(method)
    many, two = made.images(range(10, 50)), made.images([30, 11])
    torch.testing.assert_close(two, many[[20, 1]], rtol=1e-5, atol=1e-6)
    assert not torch.equal(many[0], many[1])


def test_many_images_are_made_some_at_a_time():
    made = predictor()
    assert len(made.images(range(70))) == 70 and made.method.asked == [32, 32, 6]


def cases(task, number, slices=4):
    rng = np.random.default_rng(0)
    for index in range(number):
        arrays = {
            "a": rng.uniform(-200, 1400, (1, slices, 6, 5)).astype(np.float32),
            "b": rng.uniform(-2, 4, (3, slices, 6, 5)).astype(np.float32),
        }
        label = task.classes[index % len(task.classes)] if task.classes else None
        labels = {"label": np.full((1, 1, 1, 1), index % len(task.classes), np.int16)} if task.classes else {}
        affines = dict.fromkeys(arrays, axial_affine((3.0, 2.0, 1.0)))
        yield Sample(Case(f"c{index}", f"s{index}", "val", {}, label), {**arrays, **labels}, affines, task.roles)


def test_validation_compares_sets_with_labels_in_the_same_proportions():
    made = predictor(labelled=True, classes=("x", "y"), size=(6, 5))
    seen = []
    made.method.sample = lambda latent, label: seen.append(label.tolist()) or torch.rand(len(label), 4, 6, 5)
    scores = made.validate(usable(made.task, list(cases(made.task, 3))), 1)
    assert set(scores) == set(made.task.directions) and np.isfinite(list(scores.values())).all()
    assert sum(map(len, seen)) == 12 and sorted(chain.from_iterable(seen)) == [0] * 8 + [1] * 4
    seen.clear()
    made.validate(usable(made.task, list(cases(made.task, 3, slices=40))), 2)
    assert sum(map(len, seen)) == 2 * SAMPLES_PER_SLICE


def test_a_scale_of_every_image_is_decoded_with_the_median_of_the_training_cases():
    task = pair(scale="percentile", percentiles=(0.0, 100.0), over="all")
    method = Shades(task)
    made = predictor_of(method)
    with pytest.raises(UserError, match="a: its scale was not learned"):
        made.predict(made.sample_of({}), 1)
    samples = list(cases(task, 5))
    method.fit(samples)
    ends = [np.percentile(one.arrays["a"], (0, 100)) for one in samples]
    low, high = np.median([end[0] for end in ends]), np.median([end[1] for end in ends])
    found = made.predict(made.sample_of({}), 1)
    wanted = low + (high - low) * (drawn(1) + 1) / 2
    assert float(found["a"].numpy().mean()) == pytest.approx(wanted, rel=2e-2)
