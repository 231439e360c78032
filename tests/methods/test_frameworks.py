"""Statements of the papers of the base frameworks on their networks and losses."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.game import Aids, Player, Progress, moves, sgd
from ganatomy.inference.predictor import predictor_of
from ganatomy.methods.frameworks.ac_gan import ACGAN
from ganatomy.methods.frameworks.cgan import CGAN, TiledDiscriminator, TiledGenerator, tiled
from ganatomy.methods.frameworks.dcgan import DCGAN
from ganatomy.methods.frameworks.gan import GAN
from ganatomy.methods.frameworks.lsgan import LSGAN
from ganatomy.methods.frameworks.wgan import WGAN
from ganatomy.methods.frameworks.wgan_gp import WGANGP
from ganatomy.nets.aids import WithReference
from ganatomy.training.aids import Aided
from ganatomy.training.loop import PlayerState

TINY = {
    "gan": {"hidden": (32,), "units": (16,), "pieces": 2, "dropout": 0.0, "input_dropout": 0.0},
    "cgan": {"widths": (8, 16), "dense": 16},
    "dcgan": {"width": 8, "stages": 2},
    "ac-gan": {"generator_widths": (16, 8), "discriminator_widths": (8, 8, 16, 16), "dropout": 0.0},
    "wgan": {"width": 8, "stages": 2},
    "wgan-gp": {"widths": (8, 16)},
    "lsgan": {"generator_widths": (16, 16, 8), "generator_strides": (2, 2), "discriminator_widths": (8, 16)},
}
LABELLED = {"classes": ("dark", "bright")}
GREY = {"roles": {"image": {"channels": 1}}}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def paper(kind, **values):
    with torch.device("meta"):
        return kind(kind.Config(**values))


def tiny(slug, **values):
    torch.manual_seed(0)
    kind = catalogue.load(slug)
    given = {"size": (16, 16), "batch_size": 8, "latent": 8, "ema_halflife": None, **GREY, **TINY[slug]}
    if slug in ("cgan", "ac-gan") or values.get("auxiliary"):
        given |= LABELLED
    return kind(kind.Config.preset("small", **{**given, **values})).train()


def batches(method):
    """Yield batches of dark images labelled 0 and bright ones labelled 1, with a little noise."""
    c, draw = method.config, torch.Generator().manual_seed(1)
    while True:
        label = torch.arange(c.batch_size) % 2
        level = (label - 0.5).reshape(-1, 1, *[1] * len(c.size))
        noise = torch.randn(c.batch_size, c.channels, *c.size, generator=draw)
        yield {"image": level + 0.1 * noise, "label": label}


def turns(method):
    return [turn for move in moves(method.turns(batches(method))) for turn in move]


def play(method, rounds=1, aids=None):
    """Train for a number of rounds and return the name of every turn's player."""
    (stage,) = method.stages()
    stage = Aided(method, stage, aids or Aids()).stage
    states = {player.name: PlayerState(player) for player in stage.players}
    stream, moved = batches(method), []
    for _ in range(rounds):
        for move in moves(stage.turns(stream)):
            for turn in move:
                turn.total.backward(inputs=states[turn.player].parameters, retain_graph=turn is not move[-1])
            for turn in move:
                states[turn.player].step(method.progress)
                moved.append(turn.player)
        method.progress.stage_round += 1
    return moved


class Constant(nn.Module):
    """Network that scores every image alike and records its inputs."""

    def __init__(self, score=0.0, classes=2):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(score))
        self.classes, self.seen = classes, []

    def features(self, image):
        self.seen.append(image.detach())
        return image.flatten(1)

    def score(self, features):
        return self.value.expand(len(features), 1)

    def classify(self, features):
        return 0 * features[:, :1].expand(-1, self.classes)

    def forward(self, image, *condition):
        self.seen.append((image.detach(), *condition))
        return self.value.expand(len(image), 1) + 0 * image.flatten(1)[:, :1]


def test_gan_networks_have_the_published_sizes():
    method = paper(GAN, **GREY)
    assert count(method.generator) == 101 * 1200 + 1201 * 1200 + 1201 * 784
    assert count(method.discriminator) == 785 * 1200 + 241 * 1200 + 241
    made = GAN(GAN.Config(**GREY))
    weights = [layer.weight for layer in made.generator.modules() if isinstance(layer, nn.Linear)]
    assert all(0.049 < weight.abs().max() <= 0.05 for weight in weights)
    assert max(p.abs().max() for p in made.discriminator.parameters()) <= 0.005


def test_convolutional_gan_networks_have_the_published_sizes():
    with torch.device("meta"):
        method = GAN(GAN.Config.preset("convolutional"))
    # The bias of the generated image is one number per pixel and channel.
    assert count(method.generator) == 101 * 8000 + 8001 * 8000 + 80 * 25 * 3 + 3 * 32 * 32
    # 32 pixels become 33, 16, 15, 7, 9 and 5: convolutions without stride, pooling with partial last windows.
    kernels = (3 * 64 + 1) * 64 + (32 * 64 + 1) * 64 + (32 * 25 + 1) * 384
    assert count(method.discriminator) == kernels + (192 * 5 * 5 + 1) * 2500 + 501
    assert method.generator(torch.empty(2, 100, device="meta")).shape == (2, 3, 32, 32)
    assert method.prior == "normal"


def test_latent_numbers_of_the_dense_gan_have_a_variance_of_one():
    drawn = tiny("gan").latents(4000)
    assert drawn.abs().max().item() == pytest.approx(math.sqrt(3), rel=1e-3)
    assert drawn.square().mean().item() == pytest.approx(1, rel=0.02)


def test_the_published_gan_halves_the_discriminators_loss_and_moves_both_players_at_once():
    method = tiny("gan", **GAN.Config.presets["code"])
    method.discriminator = Constant(1.5)
    (move,) = moves(method.turns(batches(method)))
    assert [turn.player for turn in move] == ["discriminator", "generator"]
    # ½ (log(1 + e^-1.5) + log(1 + e^1.5)) and log(1 + e^-1.5)
    assert move[0].total.item() == pytest.approx(0.9514133)
    assert move[1].total.item() == pytest.approx(0.2014133)
    assert len(method.discriminator.seen) == 2, "one set of generated images, and one of real ones"
    with pytest.raises(UserError, match="--discriminator-steps 2: both players move at once"):
        tiny("gan", simultaneous=True, discriminator_steps=2)


@pytest.mark.parametrize(("loss", "expected"), [("nonsaturating", math.log(2)), ("minimax", -math.log(2))])
def test_an_undecided_discriminator_loses_twice_the_logarithm_of_two(loss, expected):
    method = tiny("gan", loss=loss)
    method.discriminator = Constant(0.0)
    first, second = turns(method)
    assert first.total.item() == pytest.approx(2 * math.log(2))
    assert second.total.item() == pytest.approx(expected)


def test_one_sided_smoothing_asks_less_of_real_images_only():
    method = tiny("gan", real_target=0.9)
    method.discriminator = Constant(2.0)
    hard = math.log1p(math.exp(-2.0)) + math.log1p(math.exp(2.0))
    assert turns(method)[0].total.item() == pytest.approx(hard + 0.1 * 2.0)


def test_gan_discriminator_moves_k_times():
    assert play(tiny("gan", discriminator_steps=3)) == ["discriminator"] * 3 + ["generator"]


def test_gan_rate_falls_and_momentum_rises_as_published():
    (stage,) = paper(GAN).stages()
    player = stage.players[0]
    assert player.schedule(Progress(stage_round=0)) == 1
    assert player.schedule(Progress(stage_round=1000)) == pytest.approx(1.000004**-1000)
    assert player.schedule(Progress(stage_round=10**7)) == pytest.approx(1e-5)
    rounds = [0, 62_500, 125_000, 10**6]
    assert [player.momentum(Progress(stage_round=at)) for at in rounds] == pytest.approx([0.5, 0.6, 0.7, 0.7])


def test_a_changing_momentum_reaches_the_optimiser():
    weight = nn.Linear(1, 1, bias=False)
    start = weight.weight.item()
    state = PlayerState(Player("p", (weight,), sgd(0.1, 0.5), momentum=lambda progress: 0.5 + 0.1 * progress.round))
    for done in range(2):
        weight.weight.grad = torch.ones_like(weight.weight)
        state.step(Progress(round=done))
    assert weight.weight.item() == pytest.approx(start - 0.1 - 0.1 * (1 + 0.6))


def test_cgan_networks_have_the_published_sizes():
    digits = tuple("0123456789")
    dense = paper(CGAN, **GREY, classes=digits)
    assert count(dense.generator) == 101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784
    assert count(dense.discriminator) == 785 * 1200 + 11 * 250 + 291 * 960 + 241
    convolutional = paper(CGAN, **GREY, classes=digits, networks="dcgan", optimizer="adam")
    # The four matrices of each player alone: no layer has a bias, and batch norm has no scale and shift.
    generator = 110 * 1024 + 1034 * 6272 + 25 * 138 * 64 + 25 * 74
    discriminator = 25 * 11 * 64 + 25 * 74 * 128 + (6272 + 10) * 1024 + 1034
    assert isinstance(convolutional.generator, TiledGenerator) and count(convolutional.generator) == generator
    assert isinstance(convolutional.discriminator, TiledDiscriminator)
    assert count(convolutional.discriminator) == discriminator


def test_published_labelled_digits_are_learned_with_a_penalty_on_weights():
    with torch.device("meta"):
        (stage,) = CGAN(CGAN.Config.preset("convolutional", **GREY)).stages()
    for player in stage.players:
        assert player.optimizer(player.parameters()).defaults["weight_decay"] == 2.5e-5
        rates = [player.schedule(Progress(stage_round=at, stage_rounds=4)) for at in (0, 2, 3)]
        assert rates == pytest.approx([1, 1, 0.5])


def test_a_condition_becomes_constant_planes():
    maps, condition = torch.rand(2, 3, 4, 5), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    joined = tiled(maps, condition)
    assert torch.equal(joined[:, :3], maps)
    assert torch.equal(joined[:, 3:], condition[:, :, None, None].expand(2, 2, 4, 5))
    assert tiled(torch.rand(2, 1, 2, 3, 4), condition).shape == (2, 3, 2, 3, 4)


@pytest.mark.parametrize("networks", ["mlp", "dcgan"])
def test_both_players_of_cgan_listen_to_the_label(networks):
    method = tiny("cgan", networks=networks).eval()
    latent = method.draw(range(2))
    dark, bright = torch.tensor([0, 0]), torch.tensor([1, 1])
    assert not torch.equal(method.sample(latent, dark), method.sample(latent, bright))
    image = torch.rand(2, 1, 16, 16)
    scores = [method.discriminator(image, method.condition(label)) for label in (dark, bright)]
    assert not torch.equal(*scores)


def test_cgan_fakes_are_judged_with_the_label_they_were_made_from():
    method = tiny("cgan")
    method.discriminator = Constant()
    made = []
    method.generator.register_forward_hook(lambda module, given, image: made.append((image.detach(), given[1])))
    turns(method)
    _, fake_then, fake_now = method.discriminator.seen
    for judged, generated in zip((fake_then, fake_now), made, strict=True):
        assert torch.equal(judged[0], generated[0]) and torch.equal(judged[1], generated[1])


def test_dcgan_networks_have_the_published_sizes():
    method = paper(DCGAN, size=(64, 64))
    norms = 2 * (256 + 512)
    kernels = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    # Every value of the first layer has a scale and a shift, and every channel of the others.
    assert count(method.generator) == 100 * 1024 * 16 + kernels + 2 * 1024 * 16 + norms + 2 * 128
    kernels = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    assert count(method.discriminator) == kernels + norms + 2 * 1024 + 1024 * 16


def test_dcgan_players_are_judged_on_images_of_their_own_and_decay():
    method = tiny("dcgan")
    method.discriminator = Constant()
    turns(method)
    _, first, second = method.discriminator.seen
    assert not torch.equal(first, second)
    (stage,) = method.stages()
    decays = [player.optimizer(player.parameters()).defaults["weight_decay"] for player in stage.players]
    assert decays == [1e-5, 1e-5]


def test_ac_gan_networks_have_the_published_sizes():
    method = paper(ACGAN, classes=tuple("0123456789"))
    kernels = 25 * (768 * 384 + 384 * 256 + 256 * 192 + 192 * 64 + 64 * 3) + 3
    norms = 2 * (768 + 384 + 256 + 192 + 64)
    assert count(method.generator) == 110 * 768 * 16 + kernels + norms
    widths = (3, 16, 32, 64, 128, 256, 512)
    kernels = 9 * sum(a * b for a, b in pairwise(widths)) + 16
    assert count(method.discriminator) == kernels + 2 * sum(widths[2:]) + 512 * 16 * 16 * 11 + 11
    strides = [layer.stride[0] for layer in method.discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert strides == [2, 1, 2, 1, 2, 1]
    assert method.generator(torch.empty(1, 110, device="meta")).shape == (1, 3, 128, 128)


def test_ac_gan_players_both_want_the_class_to_be_found():
    method = tiny("ac-gan", class_weight=0.5)
    method.discriminator = Constant()
    first, second = turns(method)
    assert first.losses["class"].item() == pytest.approx(0.5 * 2 * math.log(2))
    assert second.losses["class"].item() == pytest.approx(0.5 * math.log(2))
    assert first.losses["adversarial"].item() == pytest.approx(2 * math.log(2))


def test_drawn_labels_are_of_every_class_equally_often():
    drawn = tiny("ac-gan", classes=("a", "b", "c")).drawn_labels(6000)
    assert drawn.bincount(minlength=3).tolist() == pytest.approx([2000] * 3, abs=150)


@pytest.mark.parametrize(("done", "steps"), [(0, 100), (24, 100), (25, 5), (499, 5), (500, 100), (501, 5), (1000, 100)])
def test_wgan_critic_moves_more_often_in_some_rounds(done, steps):
    method = paper(WGAN)
    method.progress.stage_round = done
    assert method.critic_steps == steps


def test_wgan_clips_every_parameter_after_every_move_of_the_critic():
    method = tiny("wgan", warm_critic_steps=3, clip=0.01)
    with torch.no_grad():
        for parameter in method.critic.parameters():
            parameter.add_(1.0)
    stream = method.turns(batches(method))
    next(stream)
    assert max(p.detach().abs().max() for p in method.critic.parameters()) > 0.5
    for _ in range(3):
        next(stream)
        assert max(p.detach().abs().max() for p in method.critic.parameters()) <= 0.01


def test_minus_the_loss_of_the_wgan_critic_is_the_difference_of_mean_scores():
    turn = turns(tiny("wgan"))[0]
    estimate = turn.scores["real"].mean() - turn.scores["fake"].mean()
    assert turn.total.item() == pytest.approx(-estimate.item(), abs=1e-6)


def test_wgan_networks_have_the_published_sizes():
    method = paper(WGAN)
    norms = 2 * (256 + 128 + 64)
    assert count(method.generator) == 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + norms + 2 * 512
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert count(method.critic) == kernels + 2 * (128 + 256 + 512) + 16 * 512


def test_wgan_with_dense_networks_has_the_paper_widths():
    method = paper(WGAN, networks="mlp")
    assert count(method.critic) == (3 * 64 * 64 + 1) * 512 + 3 * 513 * 512 + 513
    assert count(method.generator) == 101 * 512 + 3 * 513 * 512 + 513 * 3 * 64 * 64
    assert not any(isinstance(layer, nn.Tanh) for layer in method.generator.modules())
    assert tiny("wgan", networks="mlp").generator(torch.rand(2, 8)).shape == (2, 1, 16, 16)


def test_wgan_gp_penalty_of_a_linear_critic_is_known():
    method = tiny("wgan-gp", penalty_weight=10.0, critic_steps=1)
    linear = nn.Linear(256, 1)
    method.critic = nn.Sequential(nn.Flatten(), linear)
    expected = 10 * (linear.weight.norm() - 1) ** 2
    assert turns(method)[0].losses["penalty"].item() == pytest.approx(float(expected), rel=1e-5)


def test_wgan_gp_residual_networks_have_the_published_sizes():
    method = paper(WGANGP)
    widths = [block.shortcut[1].out_channels for block in method.generator.layers if hasattr(block, "shortcut")]
    assert widths == [512, 256, 128, 64]
    assert [block.shortcut[1].out_channels for block in method.critic if hasattr(block, "shortcut")] == [
        *(128, 256, 512, 512)
    ]
    assert method.generator(torch.empty(2, 128, device="meta")).shape == (2, 3, 64, 64)
    assert method.critic(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 1)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in method.critic.modules())


@pytest.mark.parametrize("networks", ["residual", "dcgan"])
def test_wgan_gp_with_classes_is_an_ac_gan(networks):
    method = tiny("wgan-gp", networks=networks, auxiliary=True, critic_steps=1, generator_factor=2)
    assert method.labelled and method.critic(torch.rand(1, 1, 16, 16)).shape == (1, 3)
    undecided = nn.Linear(256, 3)
    nn.init.zeros_(undecided.weight)
    nn.init.zeros_(undecided.bias)
    method.critic = nn.Sequential(nn.Flatten(), undecided)
    critic, generator = turns(method)
    assert critic.losses["class"].item() == pytest.approx(math.log(2))
    assert generator.losses["class"].item() == pytest.approx(0.1 * math.log(2))
    assert set(turns(tiny("wgan-gp"))[0].losses) == {"wasserstein", "penalty"}


def test_lsgan_networks_have_the_published_sizes():
    method = paper(LSGAN)
    kernels = 9 * (4 * 256 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 3
    assert count(method.generator) == 1024 * 256 * 49 + kernels + 2 * (5 * 256 + 128 + 64)
    kernels = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 64
    assert count(method.discriminator) == kernels + 2 * (128 + 256 + 512) + 512 * 49 + 1
    assert method.generator(torch.empty(2, 1024, device="meta")).shape == (2, 3, 112, 112)


@pytest.mark.parametrize("coding", [(0.0, 1.0, 1.0), (-1.0, 1.0, 0.0)])
def test_lsgan_losses_are_half_squares_of_what_is_missing(coding):
    a, b, c = coding
    method = tiny("lsgan", a=a, b=b, c=c)
    method.discriminator = Constant(0.5)
    first, second = turns(method)
    assert first.total.item() == pytest.approx(0.5 * (0.5 - b) ** 2 + 0.5 * (0.5 - a) ** 2)
    assert second.total.item() == pytest.approx(0.5 * (0.5 - c) ** 2)


AIDED = ["dcgan", "ac-gan", "lsgan"]


def test_feature_matching_takes_the_place_of_fooling():
    method = tiny("dcgan", feature_matching=True)
    method.discriminator = Constant()
    real = next(batches(method))["image"]
    method.generator.register_forward_hook(lambda module, given, image: 0 * image)
    _, second = turns(method)
    assert set(second.losses) == {"feature matching"}
    assert second.total.item() == pytest.approx(float(real.mean(0).square().sum()), rel=1e-4)


@pytest.mark.parametrize("slug", AIDED)
def test_all_aids_work_together(slug):
    method = tiny(
        slug,
        generator_norm="virtual",
        discriminator_norm="layer",
        feature_matching=True,
        minibatch_discrimination=4,
    )
    play(method, 2, Aids(instance_noise=0.1, dragan=10.0))
    assert isinstance(method.generator, WithReference)
    assert "generator.reference" in method.state_dict()
    assert any(isinstance(layer, nn.Module) and type(layer).__name__ == "MinibatchDiscrimination"
               for layer in method.discriminator.modules())  # fmt: skip


@pytest.mark.parametrize("slug", TINY)
@pytest.mark.parametrize(("size", "channels"), [((8, 16, 16), 1), ((20, 12), 4)])
def test_volumes_and_channels_of_any_number(slug, size, channels):
    method = tiny(slug, size=size, image={"channels": channels})
    play(method)
    label = torch.tensor([0, 1]) if method.labelled else None
    assert method.dims == len(size)
    assert predictor_of(method.eval()).images(range(2), label).shape == (2, channels, *size)


def test_residual_networks_make_volumes_too():
    method = tiny("wgan-gp", networks="residual", critic_norm="layer", size=(8, 12, 16))
    assert set(play(method)) == {"critic", "generator"}
    assert predictor_of(method.eval()).images(range(2)).shape == (2, 1, 8, 12, 16)


@pytest.mark.parametrize(("slug", "more"), [("cgan", {}), ("ac-gan", {}), ("wgan-gp", {"auxiliary": True})])
def test_classes_are_needed_to_make_images_by_class(slug, more):
    with pytest.raises(UserError, match="--classes: give two labels or more"):
        tiny(slug, **more, classes=())


def test_ac_gan_samples_have_the_class_asked_for():
    method = tiny("ac-gan", size=(8, 8), batch_size=16, learning_rate=3e-3, discriminator_widths=(8, 16))
    play(method, 90)
    made = predictor_of(method.eval())
    dark, bright = (made.images(range(32), torch.full((32,), label)).mean() for label in (0, 1))
    assert dark < bright - 0.3
