import math

import pytest
import torch
from hypothesis import given, settings
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


@settings(deadline=None)
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


def softplus(t):
    return max(t, 0) + math.log1p(math.exp(-abs(t)))


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("score", [*SCORES, -1.0, 1.0])
def test_values_and_gradients_of_minimax_hinge_and_margin(score):
    one, zero = double(score), double(0.0)
    assert adv.minimax_generator(one).item() == pytest.approx(-softplus(score), abs=1e-12)
    assert slope(adv.minimax_generator, score) == pytest.approx(-sigmoid(score), rel=1e-12)
    assert adv.hinge_generator(one).item() == -score
    assert slope(adv.hinge_generator, score) == -1
    assert adv.margin_generator(one).item() == max(0, 1 - score)
    assert slope(adv.margin_generator, score) == (-1 if score < 1 else 0)
    assert adv.hinge_discriminator(one, zero).item() == max(0, 1 - score) + 1
    assert adv.hinge_discriminator(zero, one).item() == 1 + max(0, 1 + score)
    assert slope(lambda s: adv.hinge_discriminator(s, zero), score) == (-1 if score < 1 else 0)
    assert slope(lambda s: adv.hinge_discriminator(zero, s), score) == (1 if score > -1 else 0)


@pytest.mark.parametrize("score", SCORES)
def test_values_of_the_older_losses(score):
    one, zero = double(score), double(0.0)
    assert adv.nonsaturating_generator(one).item() == pytest.approx(softplus(-score), abs=1e-12)
    expected = softplus(-score) + math.log(2)
    assert adv.nonsaturating_discriminator(one, zero).item() == pytest.approx(expected, abs=1e-12)
    assert adv.least_squares_generator(one).item() == pytest.approx((score - 1) ** 2)
    assert adv.least_squares_discriminator(zero, one).item() == pytest.approx(0.5 + 0.5 * score**2)
    assert adv.wasserstein_critic(one, zero).item() == -score
    assert adv.wasserstein_generator(one).item() == -score


@pytest.mark.parametrize("score", SCORES)
def test_smoothed_labels_change_the_real_side_only(score):
    one, zero = double(score), double(0.0)
    smooth = adv.nonsaturating_discriminator(one, zero, real_target=0.9)
    assert smooth.item() == pytest.approx(0.9 * softplus(-score) + 0.1 * softplus(score) + math.log(2))
    assert slope(lambda s: adv.nonsaturating_discriminator(s, zero, 0.9), score) == pytest.approx(sigmoid(score) - 0.9)
    assert slope(lambda s: adv.nonsaturating_discriminator(zero, s, 0.9), score) == pytest.approx(
        sigmoid(score), abs=1e-12
    )


@settings(deadline=None)
@given(st.lists(st.floats(-150, 150, width=32), min_size=2, max_size=6))
def test_a_real_target_of_one_is_the_plain_loss_bit_for_bit(scores):
    real, fake = torch.tensor(scores[1:]), torch.tensor(scores[:1])
    plain = torch.nn.functional.softplus(-real).mean() + torch.nn.functional.softplus(fake).mean()
    assert torch.equal(adv.nonsaturating_discriminator(real, fake), plain)


@pytest.mark.parametrize("score", SCORES)
def test_general_coding_of_least_squares(score):
    other = double(0.5)
    assert adv.least_squares_discriminator(double(score), other, a=-1, b=2).item() == pytest.approx(
        0.5 * (score - 2) ** 2 + 0.5 * 1.5**2
    )
    assert slope(lambda s: adv.least_squares_discriminator(other, s, a=-1, b=1), score) == pytest.approx(score + 1)
    assert slope(lambda s: adv.least_squares_generator(s, c=0), score) == pytest.approx(2 * score)


@pytest.mark.parametrize("name", adv.GAMES)
def test_every_game_pulls_real_scores_up_and_pushes_fake_scores_down(name):
    game = adv.GAMES[name]
    real, fake = (torch.zeros(3, 1, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    game.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert (fake.grad >= 0).all()
    judged = torch.full((3, 1), -0.5, dtype=torch.float64, requires_grad=True)
    game.generator(judged).backward()
    assert (judged.grad < 0).all()


def test_games_are_complete_and_read_only():
    assert set(adv.GAMES) == {"nonsaturating", "minimax", "least-squares", "wasserstein", "hinge"}
    with pytest.raises(TypeError):
        adv.GAMES["hinge"] = adv.GAMES["minimax"]


def test_r1_and_dragan_of_a_linear_critic_are_exact():
    weight = torch.randn(1, 3, 4, dtype=torch.float64)
    real = torch.randn(5, 3, 4, dtype=torch.float64)
    norm = weight.norm().item()

    def critic(x):
        return (weight * x).sum((1, 2))

    assert adv.r1_penalty(critic, real).item() == pytest.approx(norm**2)
    assert adv.dragan_penalty(critic, real, torch.rand_like(real)).item() == pytest.approx((norm - 1) ** 2)
    assert adv.dragan_penalty(critic, real, torch.rand_like(real), target=norm).item() == pytest.approx(0, abs=1e-20)


def test_dragan_looks_half_a_standard_deviation_around_the_data():
    real, noise = torch.randn(6, 4), torch.randn(6, 4)
    points = []

    def critic(x):
        points.append(x.detach())
        return x.sum(1)

    adv.dragan_penalty(critic, real, noise)
    torch.testing.assert_close(points[0], real + 0.5 * real.std() * noise)


@pytest.mark.parametrize("penalty", ["gradient", "r1", "dragan"])
def test_penalties_have_exact_gradients_in_double_precision(penalty):
    real, fake = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    draws, mix = torch.rand_like(real), torch.rand(3)

    def loss(weight, second):
        def critic(x):
            return torch.tanh(x @ weight) @ second

        if penalty == "gradient":
            return adv.gradient_penalty(critic, real, fake, mix)
        return adv.r1_penalty(critic, real) if penalty == "r1" else adv.dragan_penalty(critic, real, draws)

    weights = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 3), (3, 1))]
    assert torch.autograd.gradcheck(loss, weights)


def test_penalty_of_a_conditional_critic_moves_the_image_only():
    condition = torch.randn(2, 1, 3, 3)

    def critic(image):
        return (torch.cat([image, condition], 1) * torch.arange(1.0, 3.0).reshape(1, 2, 1, 1)).sum((1, 2, 3))

    real, fake = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    assert adv.gradient_penalty(critic, real, fake, torch.rand(2)).item() == pytest.approx(4, rel=1e-5)


def test_losses_of_a_wasserstein_game_on_signals():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -1.0])
    assert adv.wasserstein_critic(real, fake).item() == -2.5
    assert adv.wasserstein_generator(fake).item() == 0.5


def test_penalty_of_signals_takes_its_norm_over_channels_and_samples():
    weight = torch.arange(8.0).reshape(2, 4) / 10
    assert weight.norm().item() == pytest.approx(1.183216, abs=5e-7)
    real, fake = torch.randn(5, 2, 4), torch.randn(5, 2, 4)
    penalty = adv.gradient_penalty(lambda signal: (weight * signal).sum((1, 2)), real, fake, torch.rand(5))
    # 10 (‖w‖ - 1)², the weight of the penalty being 10.
    assert 10 * penalty.item() == pytest.approx(0.335681, abs=5e-6)


def test_penalty_of_signals_draws_one_mixture_per_signal():
    points = []

    def critic(signal):
        points.append(signal.detach())
        return signal.sum((1, 2))

    real, fake, mix = torch.zeros(3, 2, 4), torch.ones(3, 2, 4), torch.tensor([0.25, 0.5, 1.0])
    adv.gradient_penalty(critic, real, fake, mix)
    assert torch.equal(points[0], mix[:, None, None].expand(3, 2, 4))


@pytest.mark.parametrize("penalty", ["gradient", "r1", "dragan"])
def test_a_gradient_of_zero_is_penalised_without_nan(penalty):
    weight = torch.zeros(4, 3, requires_grad=True)
    real, fake = torch.randn(5, 4, 3), torch.randn(5, 4, 3)

    def critic(signal):
        return (weight * signal).sum((1, 2))

    value = {
        "gradient": lambda: adv.gradient_penalty(critic, real, fake, torch.rand(5)),
        "r1": lambda: adv.r1_penalty(critic, real),
        "dragan": lambda: adv.dragan_penalty(critic, real, torch.rand_like(real)),
    }[penalty]()
    value.backward()
    assert value.item() == (0 if penalty == "r1" else 1)
    assert torch.equal(weight.grad, torch.zeros(4, 3))


def test_penalty_asks_for_no_gradient_of_a_side_input():
    length = torch.rand(3, 1, requires_grad=True)
    network = torch.nn.Conv1d(3, 1, 5, bias=False)

    def critic(signal):
        return network(torch.cat([signal, length[:, :, None].expand(-1, -1, 6)], 1)).flatten(1).square().sum(1)

    real, fake, mix = torch.randn(3, 2, 6), torch.randn(3, 2, 6), torch.rand(3)
    point = (real + mix[:, None, None] * (fake - real)).requires_grad_()
    by_signal, by_length = torch.autograd.grad(critic(point).sum(), [point, length])
    norms = by_signal.flatten(1).norm(dim=1)
    assert by_length.abs().min() > 0.001
    assert adv.gradient_penalty(critic, real, fake, mix).item() == pytest.approx(
        (norms - 1).square().mean().item(), rel=1e-5
    )
