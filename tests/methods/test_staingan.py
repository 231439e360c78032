"""StainGAN: the networks, losses and schedule of the release, and its dropout."""

import pytest
import torch
from small import build, count
from torch import nn
from torch.nn.functional import l1_loss

from ganatomy.game import Progress, moves
from ganatomy.methods.synthesis.staingan import StainGAN

SIZE = (16, 24)


def system(**values):
    return build("staingan", **{"size": SIZE, "width": 4, "discriminator_width": 4, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    first, second = (2 * torch.rand(2, 3, *SIZE, generator=draw) - 1 for _ in range(2))
    return {"source": {"scanner_a": first}, "target": {"scanner_b": second}}


@pytest.fixture(scope="module")
def release():
    with torch.device("meta"):
        return StainGAN(StainGAN.Config.preset("code"))


def test_networks_have_the_published_numbers_of_parameters_and_sizes(release):
    assert count(release.to_target) == count(release.to_source) == 11_378_179
    assert count(release.discriminator_source) == count(release.discriminator_target) == 2_764_737
    tile = torch.empty(1, 3, 256, 256, device="meta")
    assert release.to_target(tile).shape == tile.shape
    assert release.discriminator_target(tile).shape == (1, 1, 30, 30)
    norms = [one for one in release.modules() if isinstance(one, nn.InstanceNorm2d)]
    assert norms and not any(one.affine or one.track_running_stats for one in norms)
    assert all(one.eps == 1e-5 for one in norms)


def test_patches_and_the_encoder_with_its_blocks_see_the_published_fields(release):
    field = jump = 1
    for layer in release.discriminator_target:
        if isinstance(layer, nn.Conv2d):
            field, jump = field + (layer.kernel_size[0] - 1) * jump, jump * layer.stride[0]
    assert field == 70
    field = jump = 1
    convolutions = [one for one in release.to_target.modules() if isinstance(one, nn.Conv2d)]
    for layer in convolutions[:-1]:
        field, jump = field + (layer.kernel_size[0] - 1) * jump, jump * layer.stride[0]
    assert field == 157


def test_numbers_of_the_release(release):
    c = release.config
    assert (c.cycle_weight, c.identity_weight, c.pool, c.batch_size) == (10, 0.5, 50, 4)
    assert (c.learning_rate, c.betas, c.jitter, c.flips, c.dropout) == (2e-4, (0.5, 0.999), 0, (2,), 0.5)
    assert StainGAN.Config.preset().identity_weight == 0


def test_rates_fall_in_101_steps_as_in_the_release(release):
    (stage,) = release.stages()
    each = stage.rounds // 200
    for inside in (0, each - 1):
        rates = [
            2e-4 * stage.players[0].schedule(Progress(stage_round=epoch * each + inside, stage_rounds=stage.rounds))
            for epoch in (0, 98, 99, 149, 198, 199)
        ]
        assert rates == pytest.approx([2e-4, 2e-4, 1.980198e-4, 9.90099e-5, 1.980198e-6, 0], rel=1e-6, abs=1e-15)


def test_games_are_of_least_squares():
    method = system(pool=0)
    for network in (method.discriminator_source, method.discriminator_target):
        nn.init.zeros_(network[-1].weight)
        nn.init.constant_(network[-1].bias, 0.3)
    (made,), judged = moves(method.turns(iter([batch_of()])))
    assert made.losses["adversarial target"].item() == pytest.approx(0.49, abs=1e-6)
    assert [turn.total.item() for turn in judged] == pytest.approx([0.5 * (0.49 + 0.09)] * 2, abs=1e-6)
    real, fake = torch.tensor([0.8, 0.4]), torch.tensor([0.3, -0.1])
    method.discriminator_target.forward = lambda scores: scores
    turn = method._judgement("target", method.discriminator_target, real, fake)
    assert turn.total.item() == pytest.approx(0.125)
    assert ((fake - 1) ** 2).mean().item() == pytest.approx(0.85)


def test_cycle_weighs_ten_and_identity_half_of_that():
    method = system(cycle_weight=10.0, identity_weight=0.5)
    batch = batch_of()
    losses = next(iter(method.turns(iter([batch])))).losses
    first, second = batch["source"]["scanner_a"], batch["target"]["scanner_b"]
    for name, given, there, back in (
        ("source", first, method.to_target, method.to_source),
        ("target", second, method.to_source, method.to_target),
    ):
        torch.testing.assert_close(losses[f"cycle {name}"], 10 * l1_loss(back(there(given)), given))
        torch.testing.assert_close(losses[f"identity {name}"], 5 * l1_loss(back(given), given))


@pytest.mark.parametrize("kept", [False, True])
def test_dropout_is_on_in_training_and_at_inference_if_wanted(kept):
    method = system(dropout=0.5, dropout_at_inference=kept)
    image = batch_of()["source"]["scanner_a"]
    assert not torch.equal(method.train().restore(image), method.restore(image))
    method.inference_mode()
    assert torch.equal(method.restore(image), method.restore(image)) != kept


def test_constant_tiles_stay_finite():
    made = system().inference_mode().restore(torch.full((1, 3, *SIZE), 0.9))
    assert made.isfinite().all()
