import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from ganatomy.losses import adversarial as adv
from ganatomy.losses import matching

floats = st.floats(-3, 3)


def test_feature_matching_compares_batch_means():
    real = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    fake = torch.tensor([[4.0, 0.0], [0.0, 0.0], [2.0, 3.0]])
    assert matching.feature_matching(real, fake).item() == pytest.approx(1 + 1)
    assert matching.feature_matching(real, fake + 1, "absolute").item() == pytest.approx(1.0)
    assert matching.feature_matching(real, real.flip(0)).item() == 0


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_feature_matching_moves_the_fakes_only(distance):
    real, fake = (torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    matching.feature_matching(real, fake, distance).backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda f: matching.feature_matching(real, f, distance), fake)


@settings(deadline=None)
@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=4))
def test_kl_agrees_with_torch_distributions(pairs):
    mean, log_variance = torch.tensor(pairs, dtype=torch.float64).reshape(2, 1, -1)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)).sum()
    torch.testing.assert_close(matching.kl_standard_normal(mean, log_variance), wanted.double())
    twice = matching.kl_standard_normal(mean.expand(5, -1), log_variance.expand(5, -1))
    torch.testing.assert_close(twice, wanted.double())


def test_kl_sums_over_maps_of_latents():
    assert matching.kl_standard_normal(torch.ones(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)).item() == 16
    zero = torch.zeros(2, 5)
    assert matching.kl_standard_normal(zero, zero).item() == 0


def extended(logits):
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


@settings(deadline=None)
@given(st.lists(floats, min_size=6, max_size=6))
def test_the_implicit_logit_is_an_explicit_one_of_zero(values):
    logits = torch.tensor(values, dtype=torch.float64).reshape(2, 3)
    of_fake = torch.softmax(extended(logits), 1)[:, -1]
    torch.testing.assert_close(torch.sigmoid(matching.realness(logits)), 1 - of_fake)


def test_class_aware_discriminator_is_cross_entropy_over_one_more_class():
    real, fake = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    of_fake = cross_entropy(extended(fake), torch.full((4,), 3))
    as_label = cross_entropy(extended(real), labels)
    as_fake = cross_entropy(extended(real), torch.full((5,), 3))
    torch.testing.assert_close(matching.class_aware_discriminator(real, labels, fake), 0.5 * (as_label + of_fake))
    torch.testing.assert_close(
        matching.class_aware_discriminator(real, labels, fake, "paper-code"), 0.5 * (as_label + as_fake + of_fake)
    )


@pytest.mark.parametrize(("target", "probability"), [("k+1", 1.0), ("paper-code", 0.5)])
def test_what_the_two_real_targets_ask_for(target, probability):
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    fake = torch.full((1, 2), -50.0, dtype=torch.float64)
    optimizer = torch.optim.SGD([logits], lr=2.0)
    for _ in range(300):
        optimizer.zero_grad()
        matching.class_aware_discriminator(logits, torch.tensor([1]), fake, target).backward()
        optimizer.step()
    found = torch.softmax(extended(logits), 1)[0]
    assert found[1].item() == pytest.approx(probability, abs=0.01)
    assert found[2].item() == pytest.approx(1 - probability, abs=0.01)


def test_semi_supervised_discriminator():
    labelled, unlabelled, fake = (torch.randn(n, 4, dtype=torch.float64) for n in (3, 5, 2))
    labels = torch.tensor([3, 0, 1])
    z, z_fake = torch.logsumexp(unlabelled, 1), torch.logsumexp(fake, 1)
    game = -torch.log(z.exp() / (z.exp() + 1)).mean() - torch.log(1 / (z_fake.exp() + 1)).mean()
    wanted = cross_entropy(labelled, labels) + 0.5 * game
    torch.testing.assert_close(matching.semi_supervised_discriminator(labelled, labels, unlabelled, fake), wanted)


@pytest.mark.parametrize("logit", [-120.0, 0.0, 120.0])
def test_class_aware_losses_stay_finite_and_steep(logit):
    fake = torch.full((1, 2), logit, dtype=torch.float64, requires_grad=True)
    score = logit + math.log(2)
    (saturating,) = torch.autograd.grad(matching.class_aware_generator(fake, saturating=True), fake)
    (plain,) = torch.autograd.grad(matching.class_aware_generator(fake), fake)
    sigmoid = torch.sigmoid(torch.tensor(score, dtype=torch.float64)).item()
    assert saturating.sum().item() == pytest.approx(-sigmoid)
    assert plain.sum().item() == pytest.approx(sigmoid - 1)
    loss = matching.class_aware_discriminator(fake, torch.tensor([0]), fake, "paper-code")
    assert torch.isfinite(loss)
    assert adv.minimax_generator(matching.realness(fake)) == matching.class_aware_generator(fake, saturating=True)


def test_total_variation_of_a_step():
    image = torch.zeros(2, 1, 4, 5)
    image[..., 3:] = 2.0
    assert matching.total_variation(image).item() == pytest.approx(2 / 4)
    assert matching.total_variation(image, 2).item() == pytest.approx(4 / 4)
    assert matching.total_variation(image.unsqueeze(2)).item() == pytest.approx(2 / 4)
    assert matching.total_variation(torch.ones(1, 1, 1, 1)).item() == 0


def test_the_gradient_difference_counts_steps_and_not_their_direction():
    real, fake = torch.zeros(2, 1, 3, 4, 5), torch.zeros(2, 1, 3, 4, 5)
    real[:, :, :, :, 2:] = 2.0
    fake[:, :, :, :, 2:] = -1.0
    assert matching.gradient_difference(fake, real, "sum").item() == 2 * 3 * 4
    assert matching.gradient_difference(fake, real, "mean").item() == pytest.approx(1 / 4)
    assert matching.gradient_difference(-real, real, "sum").item() == 0


def test_divergence_of_softmaxes_has_the_values_of_the_release():
    wanted = torch.tensor([[0.0, 1, 2, 3], [1, 1, 1, 1]], requires_grad=True)
    found = torch.tensor([[3.0, 2, 1, 0], [0, 1, 2, 3]], requires_grad=True)
    assert matching.softmax_divergence(wanted, found, "mean").item() == pytest.approx(0.317400, abs=1e-6)
    assert matching.softmax_divergence(wanted, found).item() == pytest.approx(1.269600, abs=1e-6)
    assert matching.softmax_divergence(wanted, wanted).item() == pytest.approx(0, abs=1e-7)
    slopes = torch.autograd.grad(matching.softmax_divergence(wanted, found), (wanted, found), allow_unused=True)
    assert slopes[0] is None and slopes[1].abs().sum() > 0
