"""Statements of the papers on synthesis of lesions and brains on their networks and losses."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import moves, over_processes
from ganatomy.methods.frameworks.aae import AAE, mixture, swiss_roll
from ganatomy.methods.frameworks.vae_gan import VAEGAN
from ganatomy.methods.synthesis.brain_manifold_dcgan import BrainDenoiser, BrainManifoldDCGAN, SkipAutoencoder
from ganatomy.methods.synthesis.liver_dcgan_aug import LiverDCGAN
from ganatomy.methods.synthesis.nodule_dcgan_vtt import NoduleDCGAN
from ganatomy.methods.synthesis.prostate_lesion_dcgan import ProstateLesionDCGAN
from ganatomy.nets.aids import GaussianNoise
from ganatomy.training.diagnostics import duality_gap, vector_field


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def paper(kind, preset="paper", **values):
    with torch.device("meta"):
        return kind(kind.Config.preset(preset, **values))


def small(kind, **values):
    torch.manual_seed(0)
    return kind(kind.Config.preset("small", **{"batch_size": 6, **values})).train()


def batches(method, rows=None):
    task, draw = method.task, torch.Generator().manual_seed(0)
    rows = rows or method.stages()[0].stream.batch_size
    while True:
        batch = {
            name: torch.rand(rows, role.channels, *task.size, generator=draw) for name, role in task.images.items()
        }
        yield {**batch, "label": torch.arange(rows) % max(1, len(task.classes))}


def played(method):
    return list(moves(method.stages()[0].turns(batches(method))))


def turn_of(method, player):
    return next(turn for move in played(method) for turn in move if turn.player == player)


class Answers(nn.Module):
    """Network that returns fixed values for any input."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, shown):
        return self.value


def test_liver_networks_of_the_paper():
    method = paper(LiverDCGAN)
    assert method.prior == "uniform" and method.latent_size == 100
    assert len(method.generators) == len(method.discriminators) == 3
    doublings = 1024 * 512 + 512 * 256 + 256 * 128 + 128
    assert count(method.generators[0]) == 100 * 1024 * 16 + 2 * (1024 + 512 + 256 + 128) + 25 * doublings + 1
    halvings = 64 + 64 * 128 + 128 * 256 + 256 * 512
    assert count(method.discriminators[0]) == 25 * halvings + 64 + 2 * (128 + 256 + 512) + 512 * 16 + 1
    (stage,) = method.stages()
    assert stage.stream.batch_size == 3 * 64 and stage.stream.patch == (1, 64, 64)


def test_liver_acgan_tells_both_networks_the_class():
    method = paper(LiverDCGAN, "acgan")
    assert method.labelled and method.config.learning_rate == 1e-4
    (generator,), (discriminator,) = method.generators, method.discriminators
    assert generator.project.in_features == 103 and discriminator.classifier.out_features == 3
    assert method.stages()[0].stream.batch_size == 64
    (odena,) = paper(LiverDCGAN, "acgan", discriminator="odena").discriminators
    convolutions = [layer for layer in odena.convolutions if isinstance(layer, nn.Conv2d)]
    assert [layer.stride[0] for layer in convolutions] == [2, 1, 2, 1, 2, 1]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert odena.head.in_features == 512 * 64
    with pytest.raises(UserError, match="--classes"):
        LiverDCGAN(LiverDCGAN.Config(variant="acgan", classes=("cyst",)))


def test_an_undecided_acgan_pays_the_logarithms_of_two_and_of_the_classes():
    method = small(LiverDCGAN, variant="acgan")
    for head in (method.discriminators[0].head, method.discriminators[0].classifier):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    (discriminator,), (generator,) = played(method)
    found = [{name: term.item() for name, term in turn.losses.items()} for turn in (discriminator, generator)]
    assert found[0] == pytest.approx(
        {"adversarial": 2 * math.log(2), "real_class": math.log(3), "fake_class": math.log(3)}
    )
    assert found[1] == pytest.approx({"adversarial": math.log(2), "fake_class": math.log(3)})


def test_every_class_has_a_game_of_its_own():
    method = small(LiverDCGAN, batch_size=2)
    shown = []
    for discriminator in method.discriminators:
        discriminator.register_forward_pre_hook(lambda _, images: shown.append(images[0]))
    assert [turn.player for (turn,) in played(method)] == [
        f"{player} of {label}" for label in method.task.classes for player in ("discriminator", "generator")
    ]
    batch = next(batches(method, 6))
    for place, real in enumerate(shown[::3]):
        assert torch.equal(real, batch["image"][batch["label"] == place])


def test_a_class_that_a_batch_lacks_waits():
    method = small(LiverDCGAN)
    lacking = iter([{"image": torch.rand(4, 1, 32, 32), "label": torch.tensor([0, 2, 2, 0])}])
    assert [turn.player for turn in method.turns(lacking)] == [
        *("discriminator of cyst", "generator of cyst"),
        *("discriminator of haemangioma", "generator of haemangioma"),
    ]


def test_labels_choose_the_generator():
    method = small(LiverDCGAN).eval()
    latent, label = method.draw(range(4)), torch.tensor([2, 0, 1, 2])
    made = method.sample(latent, label)
    for row, place in enumerate(label):
        assert torch.allclose(made[row], method.generators[place](latent[row : row + 1])[0], atol=1e-6)


def test_one_class_alone_needs_no_labels():
    method = small(LiverDCGAN, classes=("cyst",))
    assert not method.labelled and [turn.player for (turn,) in played(method)] == [
        "discriminator of all",
        "generator of all",
    ]
    assert method.sample(method.draw([1])).shape == (1, 1, 32, 32)


def test_nodule_networks_of_the_paper():
    method = paper(NoduleDCGAN)
    generator, discriminator = method.generators[1], method.discriminators[1]
    assert generator.base == (256, 7, 7) and method.task.classes == ("benign", "malignant")
    doublings = 25 * (256 * 128 + 128 * 64 + 64) + 1
    assert count(generator) == 100 * 256 * 49 + 2 * (256 + 128 + 64) + doublings
    assert count(discriminator) == 25 * (64 + 64 * 128) + 64 + 2 * 128 + 128 * 14 * 14 + 1
    assert len(paper(NoduleDCGAN, variant="acgan").generators) == 1


def test_a_brain_is_cut_out_of_224_by_176():
    method = paper(BrainManifoldDCGAN)
    assert method.generator.base == (512, 14, 11)
    assert method.discriminator.head.in_features == 512 * 7 * 6
    grid = method.task.phantom_grid(None)
    assert grid == {"shape": (220, 172), "slices": 1} and method.task.phantom_subjects == 500
    assert method.task.phantom_grid(110)["shape"] == (110, 86)
    made = small(BrainManifoldDCGAN).eval()
    assert made.sample(made.draw([3])).shape == (1, 1, 56, 44)


def test_the_second_model_of_the_brain_paper_is_an_autoencoder_without_opponent():
    method = BrainManifoldDCGAN.of(BrainManifoldDCGAN.Config.preset("denoiser"))
    assert isinstance(method, BrainDenoiser)
    assert isinstance(BrainManifoldDCGAN.of(BrainManifoldDCGAN.Config()), BrainManifoldDCGAN)
    ends = (1 * 64 * 9 + 64) + (64 * 1 * 9 + 1)
    assert count(method.autoencoder) == ends + 18 * (64 * 64 * 9 + 64)
    (stage,) = method.stages()
    assert [player.name for player in stage.players] == ["autoencoder"] and stage.stream.patch == (1, 220, 172)
    assert method.task.phantom_grid(None) == {"shape": (220, 172), "slices": 1, "noise": 0.0}
    assert list(method.task.roles) == ["input", "target"] and list(method.task.predictors) == ["restore"]


def test_an_untrained_autoencoder_leaves_slices_as_they_are():
    method = BrainManifoldDCGAN.of(BrainManifoldDCGAN.Config.preset("small-denoiser"))
    noisy, clean = torch.rand(2, 1, 20, 18), torch.rand(2, 1, 20, 18)
    assert torch.equal(method.restore(noisy), noisy)
    (turn,) = method.turns(iter([{"input": noisy, "target": clean}]))
    torch.testing.assert_close(turn.total, ((noisy - clean) ** 2).mean())


@pytest.mark.parametrize(("depth", "skips"), [(1, 1), (4, 2), (10, 5)])
def test_every_second_layer_of_the_autoencoder_is_added_to_its_mirror(depth, skips):
    network = SkipAutoencoder(1, 3, depth)
    for layer in network.encoder:
        torch.nn.init.dirac_(layer.weight)
    for layer in network.decoder:
        torch.nn.init.dirac_(layer.weight)
    image = torch.rand(1, 1, 5, 5)
    torch.testing.assert_close(network(image), (1 + skips) * image)


def test_prostate_channels_share_a_scale_of_their_own():
    task = ProstateLesionDCGAN(ProstateLesionDCGAN.Config()).task
    ends = {"adc": 3000.0, "ktrans": 5.0}
    assert list(task.images) == ["t2", *ends] == list(task.phantom_parts(None))
    assert task.codecs["t2"].adaptive, "arbitrary units differ between scanners; the other two are quantities"
    for role, end in ends.items():
        assert task.codecs[role].encode(torch.tensor(end)) == 1 and task.codecs[role].decode(torch.tensor(0.0)) == 0


def test_prostate_lesions_have_the_images_that_are_asked_for():
    method = small(ProstateLesionDCGAN, images=("t2", "dwi"), dwi={"window": (0.0, 90.0)}).eval()
    made = method.sample(method.draw([1, 2]))
    assert made.shape == (2, 2, 16, 16) and made.min() >= 0
    assert method.task.codecs["dwi"].decode(1.0 * torch.ones(())) == 90 and method.task.codecs["t2"].adaptive


def test_prostate_weights_begin_as_in_the_program():
    method = small(ProstateLesionDCGAN)
    project, (_, up, *_), image = method.generator.project, method.generator.layers[1:4], method.generator.layers[-2]
    wanted = [(project, 25, 1.43, 0.1), (image, 9 * 3, 1.43, 0.0), (method.discriminator.head, 128, 1.0, 0.0)]
    wanted.append((up, 9 * 32, 1.43, 0.1))
    wanted.append((method.discriminator.convolutions[0], 9 * 3, 1.5, 0.0))
    for layer, inputs, gain, bias in wanted:
        limit = gain * math.sqrt(3 / inputs)
        assert 0.9 * limit < layer.weight.abs().max() <= limit
        assert (layer.bias == bias).all()


def test_prostate_generator_moves_first_and_raises_the_error_of_the_discriminator():
    method = small(ProstateLesionDCGAN, saturating=True)
    assert [turn.player for (turn,) in played(method)] == ["generator", "discriminator"]
    nn.init.zeros_(method.discriminator.head.weight)
    nn.init.zeros_(method.discriminator.head.bias)
    (generator,), (discriminator,) = played(method)
    assert generator.total.item() == pytest.approx(-math.log(3))
    assert discriminator.total.item() == pytest.approx(math.log(3))
    method = small(ProstateLesionDCGAN, real_target="paper-code")
    nn.init.zeros_(method.discriminator.head.weight)
    assert turn_of(method, "discriminator").total.item() == pytest.approx(1.5 * math.log(3))


def test_prostate_discriminator_judges_what_the_moved_generator_makes():
    method = small(ProstateLesionDCGAN)
    made = []
    method.generator.register_forward_hook(lambda module, given, image: made.append((given[0], image.requires_grad)))
    played(method)
    (for_generator, learns), (for_discriminator, silent) = made
    assert learns and not silent and not torch.equal(for_generator, for_discriminator)


def test_prostate_patches_are_moved_as_far_as_in_the_program():
    moved = paper(ProstateLesionDCGAN).patches().augmentation
    draw, drawn = np.random.default_rng(0), []
    for _ in range(6000):
        if movement := moved.movement(draw, (1, 16, 16), (3.0, 1.0, 1.0)):
            drawn.append((*movement.offset, math.asin(movement.matrix[1, 0])))
    assert len(drawn) / 6000 == pytest.approx(5 / 6, abs=0.02)
    assert np.std(drawn, axis=0).tolist() == pytest.approx([1.0, 1.0, 0.1], rel=0.03)


def test_prostate_discriminator_is_noisy_between_its_convolutions():
    noisy = [
        layer.std for layer in paper(ProstateLesionDCGAN).discriminator.modules() if isinstance(layer, GaussianNoise)
    ]
    assert noisy == [0.5, 0.5]
    adam = paper(ProstateLesionDCGAN).stages()[0].players[0].optimizer([nn.Parameter(torch.zeros(1))])
    assert adam.defaults["betas"] == (0.1, 0.999) and adam.defaults["eps"] == 1e-6


def test_vae_gan_networks_of_the_code():
    method = paper(VAEGAN)
    halvings = 25 * (3 * 64 + 64 * 128 + 128 * 256) + 2 * (64 + 128 + 256)
    assert count(method.encoder) == halvings + 256 * 64 * 1024 + 2 * 1024 + 1025 * 256
    doublings = 25 * (256 * 256 + 256 * 128 + 128 * 32 + 32 * 3) + 3
    assert count(method.decoder) == 128 * 256 * 64 + 2 * (256 + 256 + 128 + 32) + doublings
    with torch.device("meta"):
        features, scores = method.discriminator(torch.empty(2, 3, 64, 64))
    assert features.shape == (2, 256, 8, 8) and scores.shape == (2, 1)
    assert method.discriminator.features[-1].bias is None and isinstance(method.discriminator.features[-1], nn.Conv2d)


def test_vae_gan_weights_begin_within_a_bound_of_their_number():
    method = small(VAEGAN)
    weight = method.discriminator.head[-1].weight.detach()
    assert weight.abs().max() <= (3 * 128) ** -0.5 and weight.std() == pytest.approx(128**-0.5 / 3, rel=0.15)


def test_vae_gan_hears_only_what_concerns_it():
    method = small(VAEGAN, margin_of_balance=10.0)
    ((encoder, decoder, discriminator),) = played(method)
    assert set(encoder.losses) == {"prior", "likeness"}
    assert set(decoder.losses) == {"likeness", "adversarial"}
    assert set(discriminator.losses) == {"adversarial"}
    heard = torch.autograd.grad(
        encoder.total, list(method.discriminator.head.parameters()), retain_graph=True, allow_unused=True
    )
    assert all(slope is None for slope in heard), "the score has no part in what the encoder descends"
    gamma = method.config.likeness_weight
    assert decoder.losses["likeness"].item() == pytest.approx(gamma * encoder.losses["likeness"].item())


def test_vae_gan_likeness_is_nothing_for_a_perfect_copy():
    method = small(VAEGAN)
    real = method.real(next(batches(method)))
    method.decoder = Answers(real)
    method.encoder = Answers((torch.zeros(6, 32), torch.zeros(6, 32)))
    encoder = turn_of(method, "encoder")
    assert encoder.losses["likeness"].item() == 0 and encoder.losses["prior"].item() == 0


@pytest.mark.parametrize(
    ("real", "fake", "moving"),
    [(0.0, 0.0, (True, True)), (4.0, -4.0, (True, False)), (-1.5, 0.0, (False, True)), (-1.5, -4.0, (True, True))],
)
def test_vae_gan_waits_for_who_lags_behind(real, fake, moving):
    method = small(VAEGAN)
    assert method.balance(torch.full((4, 1), real), torch.full((4, 1), fake)) == moving


def test_the_field_of_a_game_in_which_players_wait():
    method = small(VAEGAN, batch_size=2)
    waiting = itertools.cycle([(True, False), (False, True), (True, True)])
    method.balance = lambda real, fake: next(waiting)
    (stage,) = method.stages()
    found = vector_field(method, stage, batches(method))
    assert set(found.norms) == {"encoder", "decoder", "discriminator"}
    assert found.norms["discriminator"] == 0 < found.norms["decoder"]
    assert set(duality_gap(method, stage, batches(method), steps=1)) <= set(found.norms)


def test_all_processes_wait_or_none(monkeypatch):
    def add_the_other(costs):
        costs += torch.tensor([2.0, 0.0])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", add_the_other)
    own = torch.tensor([0.5, 0.7])
    assert over_processes(own).tolist() == pytest.approx([1.25, 0.35])
    assert own.tolist() == pytest.approx([0.5, 0.7])
    # Alone this process would let both players move.
    assert small(VAEGAN).balance(torch.zeros(4, 1), torch.zeros(4, 1)) == (False, True)


def test_vae_gan_may_judge_decoded_noise_alone():
    counts = {
        judged: len(turn_of(small(VAEGAN, judged=judged, margin_of_balance=9.0), "discriminator").scores["fake"])
        for judged in ("both", "prior")
    }
    assert counts == {"both": 12, "prior": 6}


def test_vae_gan_decoder_descends_the_sum_and_its_discriminator_the_mean_of_both_kinds():
    for judged, kinds in (("both", 2), ("prior", 1)):
        method = small(VAEGAN, judged=judged, game="minimax", margin_of_balance=9.0)
        nn.init.zeros_(method.discriminator.head[-1].weight)
        ((_, decoder, discriminator),) = played(method)
        losses = [turn.losses["adversarial"].item() for turn in (decoder, discriminator)]
        gamma, chance = method.config.likeness_weight, math.log(2)
        assert losses == pytest.approx([-kinds * (1 - gamma) * chance, chance], rel=1e-5)


def test_vae_gan_normalises_together_what_it_compares():
    method = small(VAEGAN, margin_of_balance=9.0)
    seen = []
    method.discriminator.features.register_forward_hook(lambda module, given, made: seen.append(len(given[0])))
    played(method)
    assert seen == [12, 18], "reconstructions with true images, then all that is scored"


def test_vae_gan_learning_rate_falls_with_a_power_of_the_epochs():
    method = VAEGAN(VAEGAN.Config.preset("code"))
    player = method.stages()[0].players[0]
    method.progress.stage_rounds = 62_500
    rates = []
    for method.progress.stage_round in (0, 31_250, 62_249, 62_250, 62_499):
        rates.append(0.025 * player.schedule(method.progress))
    # 0.025 - (t / 250)^0.75 (0.025 - 0.00001) at t = 0, 125, 248, 249, 249, by hand
    assert rates == pytest.approx([0.025, 0.01014086, 1.600904e-4, 8.500755e-5, 8.500755e-5], rel=1e-4)
    defaults = player.optimizer([nn.Parameter(torch.zeros(1))]).defaults
    assert defaults["alpha"] == 0.9 and defaults["weight_decay"] == pytest.approx(2e-5 / 64)


def test_aae_networks_and_updates():
    method = paper(AAE, roles={"image": {"channels": 1}})
    assert count(method.encoder) == 785 * 1000 + 1001 * 1000 + 1001 * 8
    assert count(method.decoder) == 9 * 1000 + 1001 * 1000 + 1001 * 784
    assert count(method.discriminator) == 9 * 1000 + 1001 * 1000 + 1001
    assert [(turn.player, *turn.losses) for (turn,) in played(small(AAE))] == [
        ("autoencoder", "reconstruction"),
        ("discriminator", "adversarial"),
        ("autoencoder", "adversarial"),
    ]
    rates = [player.schedule for player in method.stages()[0].players]
    method.progress.stage_round, method.progress.stage_rounds = 1, 2
    assert [schedule(method.progress) for schedule in rates] == [0.1, 0.1]


def test_aae_prior_is_as_wide_as_it_says():
    method = small(AAE, latent=8, scale=5.0)
    assert method.code(torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))).std() == pytest.approx(
        5, rel=0.02
    )


def test_mixture_has_a_component_for_every_label():
    draws = torch.randn(8000, 3, generator=torch.Generator().manual_seed(0))
    for label in range(4):
        codes = mixture(draws, 4, torch.full((8000,), label))
        angle = label * math.pi / 2
        assert torch.allclose(codes.mean(0), 3 * torch.tensor([math.cos(angle), math.sin(angle)]), atol=0.05)
    unlabelled = mixture(draws, 4)
    quarter = torch.atan2(unlabelled[:, 1], unlabelled[:, 0]).div(math.pi / 2).round().long() % 4
    assert torch.bincount(quarter).div(8000).sub(0.25).abs().max() < 0.02


def test_swiss_roll_gives_every_label_its_own_part():
    draws = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    radii = [swiss_roll(draws, 3, torch.full((4000,), label)).norm(dim=1) for label in range(3)]
    for label, radius in enumerate(radii):
        inner, outer = 3 * math.sqrt(label / 3), 3 * math.sqrt((label + 1) / 3)
        assert ((radius > inner - 0.25) & (radius < outer + 0.25)).all()
    assert swiss_roll(draws, 3).norm(dim=1).max() > 2.9


@pytest.mark.parametrize("shape", ["mixture", "swiss-roll"])
@pytest.mark.parametrize("encoder", ["deterministic", "gaussian"])
def test_aae_with_labels_samples_each_class_from_its_part(shape, encoder):
    method = small(AAE, shape=shape, latent=2, use_labels=True, classes=("healthy", "sick"), encoder=encoder)
    assert method.labelled and len(played(method)) == 3
    assert method.discriminator[0].in_features == 4
    method.eval()
    latent = method.draw([5, 5])
    one, other = method.sample(latent, torch.tensor([0, 1]))
    assert not torch.equal(one, other)
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(method.reconstruct(image), method.reconstruct(image))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": "swiss-roll"}, "--latent 2"),
        ({"use_labels": True, "classes": ("a", "b")}, "--shape mixture"),
        ({"use_labels": True, "shape": "mixture", "latent": 2}, "--classes"),
    ],
)
def test_aae_says_which_options_do_not_go_together(values, message):
    with pytest.raises(UserError, match=message):
        AAE(AAE.Config(**values))
