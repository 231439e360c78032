import math

import pytest
import torch
from torch import nn

from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic
from ganatomy.nets.signal import SignalCritic, SignalGenerator, init_signal


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def count(network, *args, **options):
    with torch.device("meta"):
        return parameters(network(*args, **options))


@pytest.fixture
def generator():
    return SignalGenerator(3, 4, 48, condition=2, widths=(10, 8, 6, 4))


@pytest.fixture
def critic():
    return SignalCritic(4, 48, condition=2, widths=(6, 8, 10))


def test_parameters_of_the_generator():
    assert count(SignalGenerator, 32) == 772_612
    assert count(SignalGenerator, 2) == 649_732
    assert count(SignalGenerator, 32, condition=1) == 776_708


def test_parameters_of_the_critic():
    assert count(SignalCritic) == 639_105
    assert count(SignalCritic, condition=1) == 639_425
    assert count(SignalCritic, norm="layer") == 639_105 + 2 * (64 + 2 * 128 + 2 * 256)


def test_signals_grow_from_16_to_512_samples_and_shrink_to_8():
    sizes = []
    generator, critic = SignalGenerator(), SignalCritic()
    for network in (generator.layers, critic.convolutions):
        for layer in network:
            if isinstance(layer, nn.Conv1d):
                layer.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    score = critic(generator(torch.randn(2, 32)))
    assert score.shape == (2, 1)
    assert generator.base == (256, 16)
    up = [(256, 32), (128, 64), (128, 128), (64, 256), (64, 512), (4, 512)]
    down = [(64, 256), (64, 128), (128, 64), (128, 32), (256, 16), (256, 8)]
    assert sizes == up + down


def test_a_position_of_the_last_map_sees_253_samples():
    critic = SignalCritic()
    signal = torch.randn(1, 4, 512, requires_grad=True)
    critic.features(signal)[0, :, 4].sum().backward()
    seen = torch.nonzero(signal.grad.abs().sum((0, 1))).flatten()
    assert (seen[0].item(), seen[-1].item()) == (4 * 64 - 126, 4 * 64 + 126)
    assert len(seen) == 253


@pytest.mark.parametrize(
    ("before", "after", "stride", "std", "limit"),
    [
        (4, 64, 2, 0.14907, 0.25820),
        (64, 64, 2, 0.09129, 0.15811),
        (256, 256, 2, 0.04564, 0.07906),
        (64, 64, 1, math.sqrt(4 / 640), math.sqrt(12 / 640)),
    ],
)
def test_first_weights_of_convolutions(before, after, stride, std, limit):
    layer = nn.Conv1d(before, after, 5, stride)
    init_signal(layer)
    assert layer.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
    assert layer.weight.abs().max().item() <= limit + 5e-6
    assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
    assert (layer.bias == 0).all()


def test_first_weights_of_dense_layers():
    layer = nn.Linear(32, 4096)
    init_signal(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 4128), rel=0.02)
    assert (layer.bias == 0).all()


def test_networks_begin_with_these_weights(generator, critic):
    for network in (generator, critic):
        for layer in network.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear) and layer.bias is not None:
                assert (layer.bias == 0).all()
    first = critic.convolutions[0].weight
    assert math.sqrt(12 / (5 * 6 + 5 * 6 / 2)) * 0.9 < first.abs().max() <= math.sqrt(12 / (5 * 6 + 5 * 6 / 2))


def test_only_the_last_channel_is_made_positive(generator):
    raw = []
    generator.layers.register_forward_hook(lambda module, inputs, output: raw.append(output))
    signal = generator(torch.randn(64, 3), torch.rand(64, 2))
    assert signal.shape == (64, 4, 48)
    assert torch.equal(signal[:, :3], raw[0][:, :3])
    assert (raw[0][:, 3] < 0).any()
    torch.testing.assert_close(signal[:, 3], torch.log1p(raw[0][:, 3].exp()))


def test_the_condition_changes_signals_and_scores(generator, critic):
    latent, condition = torch.randn(5, 3), torch.rand(5, 2)
    generator.eval()
    signal = generator(latent, condition)
    assert not torch.allclose(signal, generator(latent, condition + 0.5))
    assert not torch.allclose(critic(signal, condition), critic(signal, condition + 0.5))


def test_the_condition_reaches_the_critic_as_constant_channels(critic):
    signal, condition = torch.randn(3, 4, 48), torch.rand(3, 2)
    constant = torch.cat([signal, condition[:, :, None] * torch.ones(3, 2, 48)], 1)
    torch.testing.assert_close(critic(signal, condition), critic(constant))


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_scores_do_not_depend_on_the_batch(norm):
    critic = SignalCritic(4, 48, widths=(6, 8, 10), norm=norm)
    signals = torch.randn(5, 4, 48)
    torch.testing.assert_close(critic(signals)[2:3], critic(signals[2:3]))


def test_generated_signals_do_not_depend_on_the_batch_in_evaluation(generator):
    latent, condition = torch.randn(5, 3), torch.rand(5, 2)
    generator(latent, condition)
    generator.eval()
    torch.testing.assert_close(generator(latent, condition)[2:3], generator(latent[2:3], condition[2:3]))


def test_other_lengths_are_refused_or_met():
    with pytest.raises(ValueError, match="500 samples"):
        SignalGenerator(samples=500)
    assert SignalCritic(4, 45, widths=(6, 8, 10))(torch.randn(2, 4, 45)).shape == (2, 1)


def test_a_penalised_critic_gives_finite_gradients_to_its_weights_alone(generator, critic):
    condition = torch.rand(5, 2, requires_grad=True)
    real, fake = torch.randn(5, 4, 48), generator(torch.randn(5, 3), torch.rand(5, 2))
    penalty = gradient_penalty(lambda x: critic(x, condition), real, fake, torch.rand(5))
    weights = list(critic.parameters())
    (wasserstein_critic(critic(real, condition), critic(fake, condition)) + 10 * penalty).backward(inputs=weights)
    assert all(torch.isfinite(weight.grad).all() for weight in weights)
    assert critic.convolutions[0].weight.grad.abs().sum() > 0
    assert condition.grad is None
    assert all(parameter.grad is None for parameter in generator.parameters())
