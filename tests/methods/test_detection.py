import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from ganatomy.game import Turn
from ganatomy.losses.adversarial import gradient_penalty
from ganatomy.methods.detection.anogan import AnoGAN
from ganatomy.methods.detection.anovaegan import AnoVAEGAN, map_norm
from ganatomy.methods.detection.caae import CAAE
from ganatomy.methods.detection.va_gan import VAGAN, Critic, MapGenerator, first_axis_penalty
from ganatomy.tasks.anomaly_detection.task import FeatureAttribution


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def convolved(before, after, side, dims=2, norm=False):
    """Return the number of parameters of a convolution, with a bias or with the gain and shift of a norm."""
    return before * after * side**dims + after * (2 if norm else 1)


def small(kind, **values):
    torch.manual_seed(0)
    return kind(kind.Config.preset("small", **values))


def images(method, count=2):
    return 0.3 * torch.randn(count, 1, *method.config.size, generator=torch.Generator().manual_seed(1))


def round_of(method, **roles):
    """Return all turns of one round, and the batches it took; `roles` is a batch, or streams to batches."""
    taken = []

    def batches():
        while True:
            taken.append(1)
            yield copy.deepcopy(roles)

    (stage,) = method.stages()
    turns = []
    for move in stage.turns(batches()):
        turns += [move] if not isinstance(move, tuple) else list(move)
    return turns, len(taken)


# cAAE


def test_caae_has_the_published_sizes():
    with torch.device("meta"):
        method = CAAE(CAAE.Config())
    blocks = 0
    for width in (16, 32, 64, 128):
        main = convolved(width, width, 3, norm=True) + convolved(width, 2 * width, 3, norm=True)
        blocks += main + convolved(width, 2 * width, 3, norm=True)
    assert count(method.encoder) == convolved(1, 16, 3, norm=True) + blocks + (256 * 16 * 16 + 1) * 128
    assert count(method.critic) == 129 * 200 + 201 * 400 + 401
    blocks = 0
    for width in (128, 64, 32, 16):
        main = convolved(width, width, 3, norm=True) + convolved(width, width // 2, 3, norm=True)
        blocks += main + convolved(width, width // 2, 3, norm=True)
    ends = 129 * 256 * 16 * 16 + convolved(256, 128, 3) + convolved(8, 1, 3)
    assert count(method.decoder) == ends + blocks
    assert method.encoder(torch.zeros(2, 1, 256, 256, device="meta")).shape == (2, 128)
    assert method.decoder(torch.zeros(2, 128, device="meta")).shape == (2, 1, 256, 256)


def test_caae_takes_the_published_turns():
    method = small(CAAE, critic_steps=4, warm_up=0.1, warm_up_steps=6)
    for fraction, critic in ((0.05, 6), (0.5, 4)):
        method.progress.stage_rounds, method.progress.stage_round = 100, round(100 * fraction)
        turns, taken = round_of(method, image=images(method))
        assert taken == 1, "all turns see one batch"
        assert [turn.player for turn in turns] == ["encoder", "decoder", *["critic"] * critic, "encoder"]
        assert set(turns[0].losses) == set(turns[1].losses) == {"reconstruction", "consistency"}
        assert list(turns[-1].losses) == ["adversarial"]


def test_caae_measures_errors_as_published():
    method = small(CAAE).train()
    image = images(method)
    method.decoder = Constant(image.shape[1:])
    method.encoder = Sums(method.config.latent)
    losses = method.rebuilding(image)
    assert losses["reconstruction"] == pytest.approx(image.flatten(1).norm(dim=1).mean().item(), rel=1e-5)
    # All 64 numbers of a code are the sum of the image, 0 for what is rebuilt.
    codes = image.flatten(1).sum(1)
    assert losses["consistency"] == pytest.approx(0.5 * 64 * codes.square().mean().item(), rel=1e-4)
    other = small(CAAE, distances="means", consistency_weight=1.0)
    other.encoder, other.decoder = method.encoder, method.decoder
    losses = other.rebuilding(image)
    assert losses["reconstruction"] == pytest.approx(image.square().mean().item(), rel=1e-5)
    assert losses["consistency"] == pytest.approx(codes.square().mean().item(), rel=1e-4)


class Constant(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, code):
        return code.new_zeros(len(code), *self.shape)


class Sums(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.latent = latent

    def forward(self, image):
        return image.flatten(1).sum(1, keepdim=True).expand(-1, self.latent)


def test_caae_family():
    plain = small(CAAE, consistency_weight=0.0)
    turns, _ = round_of(plain, image=images(plain))
    assert set(turns[0].losses) == {"reconstruction"}, "without its constraint it is the adversarial autoencoder"
    variational = small(CAAE, variant="vae", residual="absolute")
    turns, _ = round_of(variational, image=images(variational))
    assert [turn.player for turn in turns] == ["autoencoder"] and "divergence" in turns[0].losses
    found = variational.eval().detect(images(variational))
    assert torch.allclose(found.map, (images(variational) - found.healthy).abs())


# AnoGAN


def test_anogan_has_the_published_sizes():
    with torch.device("meta"):
        method = AnoGAN(AnoGAN.Config())
    shapes = [tuple(p.shape) for p in method.generator.parameters() if p.dim() == 4]
    assert shapes == [(512, 256, 5, 5), (256, 128, 5, 5), (128, 64, 5, 5), (64, 1, 5, 5)]
    image = torch.zeros(2, 1, 64, 64, device="meta")
    assert method.discriminator.features(image).shape == (2, 512, 4, 4)
    assert method.generator(torch.zeros(2, 100, device="meta")).shape == image.shape


@pytest.fixture
def searcher():
    method = small(AnoGAN, size=(16, 16), latent=4, width=4, levels=2, search_steps=40, search_rate=0.05).eval()
    # Freshly drawn weights make images that hardly depend on the latent point.
    for layer in (method.generator.project, method.generator.layers[2], method.generator.layers[-2]):
        layer.weight.data.mul_(8)
    return method


def test_a_search_finds_what_the_generator_has_made(searcher):
    points = 2 * torch.rand(3, 4, generator=torch.Generator().manual_seed(5)) - 1
    image = searcher.generator(points).detach()
    before = {name: value.clone() for name, value in searcher.state_dict().items()}
    begun = searcher.compare(image, searcher.discriminator.features(image), searcher.start(0, image))
    found = searcher.search(image)
    assert (found.residual < 0.2 * begun.residual).all()
    assert all(torch.equal(value, before[name]) for name, value in searcher.state_dict().items())
    assert all(parameter.grad is None for parameter in searcher.parameters())
    assert found.latent.abs().max() <= 1


def test_every_image_starts_from_the_same_point(searcher):
    start = searcher.start(0, torch.zeros(3, 1, 16, 16))
    assert torch.equal(start[0], start[2]) and start.abs().max() <= 1
    assert not torch.equal(start, searcher.start(1, torch.zeros(3, 1, 16, 16)))


def test_restarts_never_lose(searcher):
    image = images(searcher, 4)
    once = searcher.energy(searcher.search(image))
    more = small(AnoGAN, **{**searcher.config.model_dump(), "restarts": 2}).eval()
    more.load_state_dict(searcher.state_dict())
    assert (more.energy(more.search(image)) <= once + 1e-5).all()


def test_a_search_ends_where_it_would_alone(searcher):
    values = {**searcher.config.model_dump(), "search_steps": 60, "search_batch": 4}
    method = small(AnoGAN, **values).eval()
    method.load_state_dict(searcher.state_dict())
    image = images(method, 3)
    together = method.search(image)
    for index in range(3):
        alone = method.search(image[index : index + 1])
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[index : index + 1], part)
    turned = method.search(image.flip(0))
    assert torch.equal(turned.residual.flip(0), together.residual)


def test_the_score_is_what_the_search_descends(searcher):
    image = images(searcher)
    found = searcher.search(image)
    features = [searcher.discriminator.features(one) for one in (image, found.generated)]
    residual = (image - found.generated).abs().flatten(1).sum(1)
    discriminating = (features[0] - features[1]).abs().flatten(1).sum(1)
    detection = searcher.detect(image)
    assert torch.allclose(detection.score, 0.9 * residual + 0.1 * discriminating, rtol=1e-4)
    assert torch.allclose(detection.map, (image - detection.healthy).abs())


def test_the_discriminator_alone_is_an_option(searcher):
    values = {**searcher.config.model_dump(), "scored_by": "discriminator", "search_term": "score", "search_steps": 2}
    other = small(AnoGAN, **values).eval()
    image = images(other)
    expected = -other.discriminator(image).squeeze(1).sigmoid().log()
    assert torch.allclose(other.detect(image).score, expected, rtol=1e-4)
    found = other.search(image)
    made = -other.discriminator(found.generated).squeeze(1).sigmoid().log()
    assert torch.allclose(found.discriminating, made, rtol=1e-4)


def test_anogan_may_take_more_generator_turns():
    method = small(AnoGAN, generator_steps=2)
    turns, taken = round_of(method, image=images(method))
    assert [turn.player for turn in turns] == ["discriminator", "generator", "generator"] and taken == 1


# AnoVAEGAN


def test_anovaegan_keeps_the_location():
    with torch.device("meta"):
        method = AnoVAEGAN(AnoVAEGAN.Config())
    image = torch.zeros(2, 1, 256, 256, device="meta")
    mean, log_deviation = method.encoder(image)
    assert mean.shape == log_deviation.shape == (2, 64, 16, 16)
    assert method.decoder(mean).shape == image.shape and method.discriminator(image).shape == (2, 1)
    widths = [p.shape[0] for p in method.encoder.convolutions.parameters() if p.dim() == 4]
    assert widths == [32, 64, 128, 128]
    ups = [tuple(p.shape[:2]) for p in method.decoder.parameters() if p.dim() == 4 and p.shape[-1] == 5]
    assert ups == [(128, 128), (128, 64), (64, 32), (32, 32)]


def test_anovaegan_has_a_dense_variant():
    with torch.device("meta"):
        method = AnoVAEGAN(AnoVAEGAN.Config.preset("study"))
    image = torch.zeros(2, 1, 128, 128, device="meta")
    mean, _ = method.encoder(image)
    assert mean.shape == (2, 128) and method.decoder(mean).shape == image.shape
    assert method.encoder.head[0].out_channels == 16, "an eighth of the channels before the dense layer"
    widths, sides = [1, 32, 64, 128, 128], [64, 32, 16, 8]
    kernels = sum(25 * before * after for before, after in pairwise(widths))
    bottleneck = 128 * 16 + 16 + (16 * 8 * 8 + 1) * 2 * 128
    assert count(method.encoder) == kernels + 2 * sum(widths[1:]) + bottleneck
    # Norms over rows and columns: a scale and a shift for every position, alike in all channels.
    assert count(method.discriminator) == kernels + 2 * sum(side**2 for side in sides) + 129
    assert method.discriminator(image).shape == (2, 1, 8, 8), "one score per position"
    ups = 25 * (128 * 128 + 128 * 64 + 64 * 32 + 32 * 32)
    norms = 2 * sum(side**2 for side in (8, 16, 32, 64, 128))
    assert count(method.decoder) == 129 * 16 * 8 * 8 + 16 * 128 + ups + norms + 33
    slopes = {layer.negative_slope for layer in method.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.3}


def test_a_norm_over_planes_is_of_each_channel_alone():
    norm = map_norm("plane", 2, (2, 2))
    maps = torch.tensor([[[[1.0, 3.0], [1.0, 3.0]], [[10.0, 10.0], [10.0, 14.0]]]])
    # Mean 2 and variance 1; mean 11 and variance 3; 0.001 is added to variances.
    first, last = 1 / math.sqrt(1.001), 1 / math.sqrt(3.001)
    expected = torch.tensor([[[[-first, first], [-first, first]], [[-last, -last], [-last, 3 * last]]]])
    torch.testing.assert_close(norm(maps), expected)


def test_the_adversary_moves_the_decoder_alone():
    method = small(AnoVAEGAN)
    turns, _ = round_of(method, image=images(method))
    assert {turn.player: set(turn.losses) for turn in turns} == {
        "encoder": {"reconstruction", "divergence"},
        "decoder": {"reconstruction", "adversarial"},
        "discriminator": {"adversarial"},
    }
    wasserstein = small(AnoVAEGAN, adversary="wasserstein", critic_steps=5)
    turns, _ = round_of(wasserstein, image=images(wasserstein))
    assert [turn.player for turn in turns].count("discriminator") == 5
    assert set(turns[-1].losses) == {"adversarial", "penalty"}


def test_anovaegan_sums_over_pixels_and_over_the_code():
    method = small(AnoVAEGAN, adversary="none")
    image = images(method)
    shape = method.encoder(image)[0].shape
    method.encoder = Code(torch.full(shape, 2.0), torch.zeros(shape))
    method.decoder = Constant(image.shape[1:])
    (turn,), _ = round_of(method, image=image)
    assert turn.losses["reconstruction"] == pytest.approx(image.abs().sum().item() / 2, rel=1e-5)
    assert turn.losses["divergence"] == pytest.approx(0.5 * 4.0 * shape[1:].numel(), rel=1e-5)


class Code(nn.Module):
    def __init__(self, mean, log_deviation):
        super().__init__()
        self.values = mean, log_deviation

    def forward(self, image):
        return self.values


def test_anovaegan_finds_what_is_too_bright():
    method = small(AnoVAEGAN).eval()
    image = images(method)
    found = method.detect(image)
    assert torch.equal(found.map, (image - found.healthy).clamp_min(0)) and found.score.shape == (2,)
    refinement = AnoVAEGAN(AnoVAEGAN.Config()).task.refinement
    assert (refinement.median, refinement.smallest) == (5, 8)


# VA-GAN


@pytest.mark.parametrize("dims", [2, 3])
def test_va_gan_has_the_published_sizes(dims):
    def pairs(before, after):
        return convolved(before, after, 3, dims, norm=True) + convolved(after, after, 3, dims, norm=True)

    down = pairs(1, 16) + pairs(16, 32) + pairs(32, 64) + pairs(64, 128)
    enlarge = sum(convolved(before, 16, 4, dims, norm=True) for before in (128, 64, 32))
    up = pairs(80, 64) + pairs(48, 32) + convolved(32, 16, 3, dims, norm=True) + convolved(16, 1, 3, dims)
    layers = [(1, 16), (16, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    critic = sum(convolved(*pair, 3, dims) for pair in layers) + 257
    with torch.device("meta"):
        generator, judge = MapGenerator(dims), Critic(dims)
        image = torch.zeros(2, 1, *[16] * dims)
    assert count(generator) == down + enlarge + up and count(judge) == critic
    assert generator(image).shape == image.shape and judge(image).shape == (2, 1)


def test_va_gan_takes_the_published_turns(monkeypatch):
    method = VAGAN(VAGAN.Config(size=(16, 16), batch_size=2, width=1))
    monkeypatch.setattr(method, "critic_turn", lambda batch: Turn("critic", none=torch.zeros(())))
    for number, critic in ((0, 100), (24, 100), (25, 5), (100, 100), (101, 5)):
        method.progress.stage_round = number
        turns, taken = round_of(method, effect={"effect": images(method)})
        assert [turn.player for turn in turns] == ["critic"] * critic + ["generator"], number
        assert taken == critic + 1, "every turn sees images of its own"


def test_a_step_may_average_over_batches():
    method = small(VAGAN, accumulated=3, critic_steps=2, many_steps=2)
    image = images(method)
    turns, taken = round_of(method, baseline={"baseline": image}, effect={"effect": image})
    assert [turn.player for turn in turns] == ["critic", "critic", "generator"] and taken == 9
    assert turns[0].scores["real"].shape == (6, 1)
    method.eval()
    one = method.generator_turn(image)
    turns, _ = round_of(method, baseline={"baseline": image}, effect={"effect": image})
    assert turns[-1].total.item() == pytest.approx(one.total.item(), rel=1e-5)


def test_the_changed_image_is_bounded():
    method = small(VAGAN).eval()
    image = images(method)
    assert torch.allclose(method.changed(image), torch.tanh(image + method.generator(image)))
    free = small(VAGAN, tanh=False).eval()
    assert torch.allclose(free.changed(image) - image, free.generator(image), atol=1e-6)
    assert torch.allclose(method.detect(image).map, (method.changed(image) - image).abs())


def test_penalties_of_a_linear_critic():
    slope = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)

    def critic(values):
        return (values * slope).flatten(1).sum(1)

    point, mix = torch.zeros(2, 1, 3, 4), torch.tensor([0.2, 0.7])
    full = (slope.norm() - 1).square()
    assert gradient_penalty(critic, point, point + 1, mix) == pytest.approx(full.item(), rel=1e-5)
    columns = (slope.norm(dim=2) - 1).square().mean()
    assert first_axis_penalty(critic, point, point + 1, mix) == pytest.approx(columns.item(), rel=1e-5)


def test_va_gan_learns_from_two_unpaired_groups():
    method = small(VAGAN)
    (stage,) = method.stages()
    assert isinstance(method.task, FeatureAttribution)
    assert [(stream.name, stream.roles) for stream in stage.streams] == [
        ("baseline", ("baseline",)),
        ("effect", ("effect",)),
    ]
    assert method.task.groups == (("baseline",), ("effect",))
    volumes = VAGAN(VAGAN.Config.preset("volumes", width=2))
    assert volumes.dims == 3 and volumes.stages()[0].stream.patch == (128, 160, 112)
    assert volumes.task.phantom_parts("healthy") == {"baseline": "t1"}
    assert method.task.phantom_parts("effect") == {"effect": "image", "mask": "mask:effect"}
