import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.losses import adversarial as adv

SCORES = (-120.0, -5.0, 0.0, 0.3, 5.0, 120.0)


def slope(loss, score):
    value = torch.tensor([score], dtype=torch.float64, requires_grad=True)
    loss(value).backward()
    return value.grad.item()


def sigmoid(t):
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


def test_an_undecided_discriminator_loses_two_log_two():
    zero = torch.zeros(4)
    assert adv.nonsaturating_discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("score", SCORES)
def test_generator_gradients_are_not_squashed(score):
    assert slope(adv.nonsaturating_generator, score) == pytest.approx(-sigmoid(-score), abs=1e-12)
    assert slope(adv.least_squares_generator, score) == pytest.approx(2 * (score - 1))
    assert slope(adv.wasserstein_generator, score) == -1


@pytest.mark.parametrize("score", SCORES)
def test_discriminator_gradients(score):
    other = torch.zeros(1, dtype=torch.float64)
    assert slope(lambda s: adv.nonsaturating_discriminator(s, other), score) == pytest.approx(
        -sigmoid(-score), abs=1e-12
    )
    assert slope(lambda s: adv.nonsaturating_discriminator(other, s), score) == pytest.approx(sigmoid(score), abs=1e-12)
    assert slope(lambda s: adv.least_squares_discriminator(s, other), score) == pytest.approx(score - 1)
    assert slope(lambda s: adv.least_squares_discriminator(other, s), score) == pytest.approx(score)
    assert slope(lambda s: adv.wasserstein_critic(s, other), score) == -1
    assert slope(lambda s: adv.wasserstein_critic(other, s), score) == 1


@given(st.lists(st.floats(-3, 3), min_size=12, max_size=12), st.floats(0, 2))
def test_penalty_of_a_linear_critic_is_exact(weights, target):
    w = torch.tensor(weights, dtype=torch.float32).reshape(1, 3, 4)
    real, fake = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    penalty = adv.gradient_penalty(lambda x: (w * x).sum((1, 2)), real, fake, torch.rand(5), target)
    norm = math.sqrt(sum(value * value for value in w.flatten().tolist()))
    assert penalty.item() == pytest.approx((norm - target) ** 2, abs=1e-3)


def test_penalty_reaches_the_critic_and_not_the_generator():
    critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    fake = torch.randn(4, 6, requires_grad=True)
    adv.gradient_penalty(critic, torch.randn(4, 6), fake, torch.rand(4)).backward()
    assert fake.grad is None
    assert critic[1].weight.grad.abs().sum() > 0


def test_penalty_stays_in_32_bits_under_autocast():
    critic = torch.nn.Linear(6, 1)
    seen = []
    critic.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adv.gradient_penalty(critic, torch.randn(4, 6), torch.randn(4, 6), torch.rand(4))
    assert seen == [torch.float32]
