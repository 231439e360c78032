"""LAPGAN, MelanoGANs, PGAN and PGAN for skin lesions."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, interpolate

from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.inference.model import build
from ganatomy.methods.frameworks.lapgan import LAPGAN, DetailDiscriminator, DetailGenerator
from ganatomy.methods.frameworks.pgan import PGAN
from ganatomy.methods.synthesis.melanogans import MelanoGANs
from ganatomy.methods.synthesis.pgan_skin import PGANSkin
from ganatomy.metrics import pyramid as reference
from ganatomy.nets.progressive import faded
from ganatomy.nets.pyramid import downsample, low_pass_pyramid, upsample


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(kind, **values):
    return kind(kind.Config.preset("small", **{"batch_size": 4, **values}))


def paper(kind, **values):
    with torch.device("meta"):
        return kind(kind.Config.preset("paper", **values))


def batches(method, rows=4):
    while True:
        yield {"image": torch.rand(rows, 3, *method.config.size) * 2 - 1}


def reached(loss, networks):
    """Return for each of the networks whether it receives gradients of a loss."""
    parameters = [list(network.parameters()) for network in networks]
    every = list(itertools.chain(*parameters))
    slopes = iter(torch.autograd.grad(loss, every, retain_graph=True, allow_unused=True))
    found = [[next(slopes) for _ in own] for own in parameters]
    return [any(slope is not None and bool(slope.abs().max() > 0) for slope in own) for own in found]


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(5, 18), columns=st.integers(5, 18), seed=st.integers(0, 99))
def test_the_operators_are_those_of_the_metric(rows, columns, seed):
    image = np.random.default_rng(seed).normal(size=(2, 3, rows, columns)).astype(np.float32)
    half = downsample(torch.from_numpy(image))
    np.testing.assert_allclose(half, reference.downsample(image), atol=1e-6)
    np.testing.assert_allclose(
        upsample(half, (rows, columns)), reference.upsample(half.numpy(), (rows, columns)), atol=1e-6
    )


def test_an_even_image_stays_even():
    image = torch.full((1, 2, 12, 16), 0.7)
    coarse, middle, fine = low_pass_pyramid(image, 2)
    assert fine is image and middle.shape == (1, 2, 6, 8)
    torch.testing.assert_close(coarse, torch.full((1, 2, 3, 4), 0.7))
    torch.testing.assert_close(upsample(coarse, (6, 8)), middle)


def test_the_operators_have_gradients():
    image = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: upsample(downsample(x), (6, 7)), image, fast_mode=True)


def test_lapgan_networks_of_the_code():
    generator, discriminator = DetailGenerator(3), DetailDiscriminator(3, (32, 32))
    assert count(generator) == (4 * 49 * 64 + 64) + (64 * 49 * 64 + 64) + (64 * 25 * 3 + 3)
    assert count(discriminator) == (3 * 25 * 64 + 64) + (64 * 25 * 64 + 64) + (64 * 12 * 12 + 1)
    low = torch.randn(2, 3, 32, 32)
    assert generator(low, torch.rand(2, 1024)).shape == low.shape
    assert discriminator(low).shape == (2, 1)


def test_lapgan_noise_is_a_vector_and_a_plane_per_scale():
    method = paper(LAPGAN)
    assert method.sizes == [(8, 8), (16, 16), (32, 32)]
    assert method.latent_size == 100 + 16**2 + 32**2
    method = small(LAPGAN, size=(18, 26))
    assert method.sizes == [(5, 7), (9, 13), (18, 26)]
    assert method.sample(method.latents(2)).shape == (2, 3, 18, 26)


def test_a_plane_of_noise_changes_its_own_scale_and_what_follows():
    method = small(LAPGAN).inference_mode()
    latent = method.latents(2)
    before = method.scales(latent)
    for level, start in enumerate((0, 100, 100 + 256)):
        other = latent.clone()
        other[:, start : start + 100] *= -1
        same = [torch.equal(a, b) for a, b in zip(before, method.scales(other), strict=True)]
        assert same == [True] * level + [False] * (3 - level)


def test_detail_is_added_to_real_images_in_training_and_to_made_ones_afterwards():
    method = small(LAPGAN)
    for network in method.generators[1:]:
        torch.nn.init.zeros_(network.layers[-1].weight)
        torch.nn.init.zeros_(network.layers[-1].bias)
    latent = method.latents(4)
    real = low_pass_pyramid(next(batches(method))["image"], 2)
    coarse, middle, fine = method.scales(latent, real)
    torch.testing.assert_close(middle, upsample(real[0], (16, 16)))
    torch.testing.assert_close(fine, upsample(real[1], (32, 32)))
    torch.testing.assert_close(method.sample(latent), upsample(upsample(coarse, (16, 16)), (32, 32)))


def test_lapgan_levels_learn_apart():
    method = small(LAPGAN)
    turns = {turn.player: turn for turn in method.turns(batches(method))}
    assert list(turns) == [f"{who} {rows}" for rows in (8, 16, 32) for who in ("discriminator", "generator")]
    for level, rows in enumerate((8, 16, 32)):
        own = [index == level for index in range(3)]
        assert reached(turns[f"generator {rows}"].total, method.generators) == own
        assert reached(turns[f"discriminator {rows}"].total, method.discriminators) == own


def test_lapgan_momentum_rises_as_in_the_code():
    player = paper(LAPGAN).stages()[0].players[0]
    epoch = 704
    assert player.momentum(Progress()) == 0.5
    assert player.momentum(Progress(stage_round=epoch)) == pytest.approx(0.5008)
    assert player.momentum(Progress(stage_round=400 * epoch)) == pytest.approx(0.7)
    assert player.schedule(Progress()) == 0.5
    assert player.schedule(Progress(stage_round=250 * epoch)) == pytest.approx(0.3 / 1.000004**250)
    weight = torch.nn.Parameter(torch.zeros(1))
    (group,) = player.optimizer([weight]).param_groups
    assert (group["lr"], group["momentum"]) == (0.02, 0.5)


class Slices:
    """Part of a sample that numbers are fitted to: an image of some slices, which is already in the networks' range."""

    def __init__(self, image):
        self.arrays, self.affines, self.roles = {"image": image}, {}, {"image": self}
        self.has_intensities = False

    def role(self, name):
        return self

    def encoded(self, values):
        return values


@pytest.mark.parametrize(("of", "axes"), [("pixel", (1,)), ("channel", (1, 2, 3))])
def test_lapgan_standardises_by_the_training_images(of, axes):
    rng = np.random.default_rng(0)
    cases = [rng.normal(0.3, 0.2, (3, count, 32, 32)).astype(np.float32) for count in (4, 7)]
    method, plain = small(LAPGAN, standardise=of), small(LAPGAN, standardise="none")
    method.fit([Slices(case) for case in cases])
    every = np.concatenate(cases, axis=1)
    mean, sd = (torch.from_numpy(one(every, axis=axes, keepdims=True)[:, 0]) for one in (np.mean, np.std))
    torch.testing.assert_close(method.standardisation.mean, mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(method.standardisation.sd, sd, atol=1e-5, rtol=0)

    images = torch.from_numpy(every).transpose(0, 1)
    (*_, finest), _ = method.shown({"image": images})
    torch.testing.assert_close(finest, (images - mean) / sd, atol=1e-3, rtol=0)
    torch.testing.assert_close(method.standardisation.undo(finest), images)

    names = plain.load_state_dict(method.state_dict(), strict=False).unexpected_keys
    assert [name for name in names if not name.startswith("fitted")] == ["standardisation.mean", "standardisation.sd"]
    latent = method.latents(2)
    torch.testing.assert_close(
        method.inference_mode().sample(latent), plain.inference_mode().sample(latent) * sd + mean, atol=1e-4, rtol=0
    )


def test_a_pixel_without_variation_stays_finite():
    method = small(LAPGAN)
    method.fit([Slices(np.full((3, 4, 32, 32), -1.0, np.float32))])
    (*_, finest), _ = method.shown({"image": torch.full((2, 3, 32, 32), -1.0)})
    assert not finest.any()
    torch.testing.assert_close(method.sample(method.latents(2)), torch.full((2, 3, 32, 32), -1.0), atol=1e-3, rtol=0)


def test_a_dcgan_of_standardised_images_has_no_tanh():
    endings = [small(LAPGAN, coarse="dcgan", standardise=of).generators[0].layers[-1] for of in ("channel", "none")]
    assert [isinstance(ending, torch.nn.Tanh) for ending in endings] == [False, True]


@pytest.mark.parametrize("coarse", ["dense", "dcgan"])
def test_every_network_of_a_labelled_lapgan_is_told_the_class(coarse):
    classes = ("a", "b", "c")
    told = small(LAPGAN, coarse=coarse, use_labels=True, classes=classes).inference_mode()
    plain = small(LAPGAN, coarse=coarse)
    latent = told.latents(2)
    first, other = (told.scales(latent, None, *told.told(torch.full((2,), label))) for label in (0, 1))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(told.sample(latent, torch.zeros(2, dtype=torch.long)), first[-1])
    for level, judge in enumerate(told.discriminators):
        scores = [judge(first[level], *told.told(torch.full((2,), label))) for label in (0, 1)]
        assert not torch.equal(*scores)

    # As published: a dense layer from the classes to a plane, and a further channel of the first convolution.
    for level in (1, 2):
        plane = (3 + 1) * math.prod(told.sizes[level])
        assert count(told.generators[level]) - count(plain.generators[level]) == plane + 49 * 16
        assert count(told.discriminators[level]) - count(plain.discriminators[level]) == plane + 25 * 16
    if coarse == "dense":
        assert count(told.generators[0]) - count(plain.generators[0]) == 3 * 256
        assert count(told.discriminators[0]) - count(plain.discriminators[0]) == 3 * 128


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"use_labels": True}, "--classes: give two labels or more"),
        ({"fit": "patches"}, "--standardise pixel: .* add --standardise channel"),
    ],
)
def test_lapgan_refuses_labels_without_classes_and_pixels_of_patches(values, told):
    with pytest.raises(UserError, match=f"^{told}"):
        build("lapgan", values)


@pytest.mark.parametrize("variant", ["dcgan", "lapgan", "ddgan"])
def test_melanogans_may_be_told_the_class_and_standardise(variant):
    options = {"variant": variant, "use_labels": True, "classes": ("naevus", "melanoma"), "standardise": "channel"}
    method = small(MelanoGANs, **options)
    batch = {**next(batches(method)), "label": torch.arange(4) % 2}
    assert all(torch.isfinite(turn.total) for turn in method.stages()[0].turns(iter([batch])))
    latent = method.inference_mode().latents(2)
    made = [method.sample(latent, torch.full((2,), label)) for label in (0, 1)]
    assert made[0].shape == (2, 3, 32, 32) and not torch.equal(*made)


@pytest.mark.parametrize("values", [{"size": (16, 16, 16)}, {"size": (8, 8)}])
def test_lapgan_refuses_sizes_without_a_pyramid(values):
    with pytest.raises(UserError, match=r"^--size .*rows"):
        build("lapgan", values)


def test_a_dcgan_is_a_pyramid_without_levels():
    method = paper(MelanoGANs, variant="dcgan")
    (generator,), (discriminator,) = method.generators, method.discriminators
    widths = [1024, 512, 256, 128, 64, 32]
    assert generator.base == (1024, 4, 4)
    assert [layer.in_channels for layer in generator.layers if hasattr(layer, "kernel_size")] == widths
    assert [layer.out_channels for layer in discriminator.convolutions if hasattr(layer, "kernel_size")] == widths[::-1]
    assert method.latent_size == 100 and method.sizes == [(256, 256)]


@pytest.mark.parametrize("variant", ["lapgan", "ddgan"])
def test_the_pyramid_of_melanogans_begins_with_a_dcgan_of_64_pixels(variant):
    method = paper(MelanoGANs, variant=variant)
    assert method.sizes == [(64, 64), (128, 128), (256, 256)]
    assert method.generators[0].base == (1024, 4, 4)
    assert len(method.discriminators) == 3


def test_the_deep_cascade_is_trained_from_end_to_end():
    method = small(MelanoGANs)
    *judges, cascade = method.deep_turns(batches(method))
    assert [turn.player for turn in judges] == ["discriminator 8", "discriminator 16", "discriminator 32"]
    for level, (turn, rows) in enumerate(zip(judges, (8, 16, 32), strict=True)):
        assert reached(turn.total, method.discriminators) == [index == level for index in range(3)]
        assert reached(cascade.losses[f"adversarial {rows}"], method.generators) == [
            index <= level for index in range(3)
        ]


def test_the_scales_of_the_cascade_are_weighted():
    losses = []
    for weights in ((1.0,), (1.0, 3.0)):
        torch.manual_seed(0)
        method = small(MelanoGANs, scale_weights=weights)
        *_, cascade = method.deep_turns(batches(method))
        losses.append([loss.item() for loss in cascade.losses.values()])
    assert losses[1] == pytest.approx([losses[0][0], 3 * losses[0][1], 3 * losses[0][2]])


def test_melanogans_learn_from_melanomas_alone_where_asked():
    task = small(MelanoGANs, **MelanoGANs.Config.presets["melanoma"]).task
    labels = [case.label for case in find_cases(task, DataConfig(phantom_subjects=6, phantom_size=32))]
    assert labels and set(labels) == {"melanoma"}


def test_pgan_schedule_of_the_code():
    stages = paper(PGAN).stages()
    names = ["hold 4", *[f"{what} {4 << level}" for level in range(1, 9) for what in ("fade to", "hold")]]
    assert [stage.name for stage in stages] == names
    batch = {stage.name.split()[-1]: stage.stream.batch_size for stage in stages}
    assert list(batch.values()) == [128, 128, 128, 64, 32, 16, 8, 4, 4]
    images = [stage.rounds * stage.stream.batch_size for stage in stages]
    assert images == pytest.approx([600_000] * 16 + [2_400_000], abs=128)
    assert sum(images) == pytest.approx(12e6, rel=1e-3)
    rates = [stage.players[0].optimizer([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"] for stage in stages]
    assert rates == [1e-3] * 15 + [1.5e-3] * 2
    assert [stage.validated for stage in stages] == [False] * 16 + [True]
    for stage in stages:
        halflife = stage.players[1].ema_halflife
        assert 0.5 ** (stage.stream.batch_size / halflife) == pytest.approx(0.999)


def test_pgan_without_growth_shows_as_many_images():
    shown = []
    for grow in (True, False):
        stages = small(PGAN, grow=grow).stages()
        shown.append(sum(stage.rounds * stage.stream.batch_size for stage in stages))
    assert [stage.name for stage in stages] == ["hold 32"]
    assert shown[1] == pytest.approx(shown[0], rel=1e-2)


def test_pgan_skin_is_pgan_up_to_256_pixels():
    method = paper(PGANSkin)
    assert len(method.stages()) == 13 and method.stages()[-1].name == "hold 256"
    assert method.task.phantom == "skin-lesion"
    images = sum(stage.rounds * stage.stream.batch_size for stage in method.stages())
    assert images == pytest.approx(600_000 + 6 * 1_200_000, rel=1e-3)
    assert count(method) == count(paper(PGAN, size=(256, 256)))


@pytest.fixture
def growing():
    return small(PGAN)


def test_the_present_size_is_saved_and_used_for_samples(growing):
    fade = next(stage for stage in growing.stages() if stage.name == "fade to 16")
    growing.progress.stage_round, growing.progress.stage_rounds = 1, 4
    list(fade.turns(batches(growing)))
    latent = growing.latents(3)
    with torch.no_grad():
        image = growing.sample(latent)
        torch.testing.assert_close(image, interpolate(growing.generator(latent, 2, 0.25), (32, 32)))
    assert torch.equal(image[..., ::2, ::2], image[..., 1::2, 1::2])
    twin = small(PGAN)
    twin.load_state_dict(growing.state_dict())
    assert torch.equal(twin.sample(latent), image)


def test_a_fully_grown_generator_is_not_resized(growing):
    list(growing.stages()[-1].turns(batches(growing)))
    latent = growing.latents(2)
    assert torch.equal(growing.sample(latent), growing.generator(latent))


def test_the_critic_sees_whole_real_images_faded_like_the_generated(growing, monkeypatch):
    fade = next(stage for stage in growing.stages() if stage.name == "fade to 16")
    growing.progress.stage_round, growing.progress.stage_rounds = 3, 4
    seen, look = [], growing.critic.features
    monkeypatch.setattr(
        growing.critic, "features", lambda image, *level, **faded: (seen.append(image), look(image, *level, **faded))[1]
    )
    real = next(batches(growing))
    next(fade.turns(iter([real])))
    torch.testing.assert_close(seen[0], faded(avg_pool2d(real["image"], 2), 0.75))
    assert [tuple(image.shape) for image in seen] == [(4, 3, 16, 16)] * 3


def test_images_are_averaged_to_the_size_of_the_stage_as_they_are_read(growing):
    stages = {stage.name: stage.stream for stage in growing.stages()}
    image = np.random.default_rng(0).normal(size=(3, 1, 32, 32)).astype(np.float32)
    drawn = {"image": image, "label": np.array(1)}
    for name, block in (("hold 8", 4), ("fade to 16", 2), ("hold 16", 2), ("fade to 32", 1), ("hold 32", 1)):
        read = stages[name].transform(drawn, None)
        assert read["image"].dtype == np.float32 and read["label"] is drawn["label"]
        wanted = avg_pool2d(torch.from_numpy(image[:, 0]), block)
        torch.testing.assert_close(torch.from_numpy(read["image"][:, 0]), wanted)


def test_a_stage_of_pgan_plays_the_same_with_images_that_were_averaged_before(growing):
    hold, losses = growing.stages()[0], []
    real = next(batches(growing))["image"]
    for image in (real, avg_pool2d(real, 4)):
        torch.manual_seed(3)
        losses.append(next(hold.turns(iter([{"image": image}]))).losses["drift"])
    torch.testing.assert_close(*losses)


def test_pgan_losses(growing):
    critic, generator = growing.stages()[-1].turns(batches(growing))
    real, fake = critic.scores["real"], critic.scores["fake"]
    torch.testing.assert_close(critic.losses["wasserstein"], fake.mean() - real.mean())
    torch.testing.assert_close(critic.losses["drift"], 1e-3 * real.square().mean())
    # Nobody moved in between.
    torch.testing.assert_close(generator.total, -fake.mean())


def test_the_weight_of_the_penalty():
    terms = []
    for weight in (10.0, 5.0):
        torch.manual_seed(0)
        method = small(PGAN, penalty_weight=weight)
        terms.append(next(method.stages()[0].turns(batches(method))).losses["penalty"].item())
    assert terms[0] == pytest.approx(2 * terms[1]) and math.isfinite(terms[0])


def test_every_stage_of_pgan_moves_only_the_layers_that_are_there(growing):
    growing.progress.stage_round, growing.progress.stage_rounds = 1, 2
    for stage, top in zip(growing.stages(), (1, 2, 2, 3, 3), strict=True):
        critic, generator = stage.turns(batches(growing))
        grown = [index <= top for index in range(4)]
        assert reached(generator.total, growing.generator.blocks) == grown
        assert reached(critic.total, growing.critic.blocks) == grown[1:]


@pytest.mark.parametrize("values", [{"size": (64, 32)}, {"size": (48, 48)}, {"size": (8, 8), "start": 16}])
def test_pgan_refuses_sizes_it_cannot_grow_to(values):
    with pytest.raises(UserError, match=r"^--size .* --start .*: growing needs square images, .* with 4, 8, 16, 32,"):
        build("pgan", values)


LABELS = {"use_labels": True, "classes": ("naevus", "melanoma", "other")}


def test_a_labelled_pgan_is_told_the_class_and_names_it():
    plain, told = small(PGAN), small(PGAN, **LABELS)
    assert told.labelled and not plain.labelled and told.latent_size == plain.latent_size
    (before, after) = (method.generator.blocks[0][1].weight.shape for method in (plain, told))
    assert after[1] - before[1] == 3
    assert told.critic.head.weight.shape[0] == 4 and plain.critic.head.weight.shape[0] == 1
    images = torch.rand(4, 3, 32, 32)
    scores, classes = told.critic.judged(told.critic.features(images))
    assert (scores.shape, classes.shape) == ((4, 1), (4, 3))
    torch.testing.assert_close(told.critic(images), scores)
    told.inference_mode()
    latent = told.draw(range(2))
    first, second = (told.sample(latent, torch.full((2,), label)) for label in (0, 2))
    assert first.shape == (2, 3, 32, 32) and not torch.equal(first, second)


def test_both_players_of_a_labelled_pgan_have_the_cross_entropy_of_the_class():
    method = small(PGAN, **LABELS)
    stage = method.stages()[-1]
    batch = {"image": torch.rand(4, 3, 32, 32), "label": torch.tensor([0, 2, 1, 1])}
    torch.nn.init.zeros_(method.critic.head.weight)
    critic, generator = stage.turns(iter([batch]))
    assert critic.losses["class"].item() == pytest.approx(2 * np.log(3), abs=1e-5)
    assert generator.losses["class"].item() == pytest.approx(np.log(3), abs=1e-5)


def test_pgan_refuses_labels_without_classes():
    with pytest.raises(UserError, match="--classes: give two labels or more"):
        small(PGAN, use_labels=True)
