"""Steerable GAN: networks, weights and schedule, the loss of line responses, and application to files."""

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.inference.model import load
from ganatomy.losses.steerable import bank
from ganatomy.methods.synthesis.sgan_mra import SteerableGAN
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (32, 40)


def gan(**values):
    return build("sgan-mra", **{"size": SIZE, "width": 4, "blocks": 1, "discriminator_width": 4, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    t1, t2, mra = (2 * torch.rand(2, 1, *SIZE, generator=draw) - 1 for _ in range(3))
    return {"t1": t1, "t2": t2, "mra": mra}


def paper(**values):
    with torch.device("meta"):
        return SteerableGAN(SteerableGAN.Config.preset("paper", **values))


@pytest.mark.parametrize(
    ("options", "weights"), [({}, 11_374_017), ({"norm": "instance"}, 11_368_769), ({"blocks": 6}, 7_832_001)]
)
def test_generators_have_the_known_numbers_of_weights(options, weights):
    assert count(paper(**options).generator) == weights


def test_the_discriminator_sees_three_channels_and_scores_patches():
    method = paper()
    assert count(method.discriminator) == 2_765_633
    assert method.discriminator(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 1, 30, 30)
    assert method.generator(torch.empty(1, 2, 256, 256, device="meta")).shape == (1, 1, 256, 256)


def test_convolutions_before_batch_norms_have_no_bias():
    convolutions = [one for one in paper().generator.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    assert [one.bias is not None for one in convolutions] == [False] * (len(convolutions) - 1) + [True]


def test_the_rate_is_steady_for_30_of_50_epochs():
    (stage,) = paper().stages()
    for player in stage.players:
        rates = [2e-4 * player.schedule(Progress(stage_rounds=50, stage_round=epoch)) for epoch in (0, 40, 49)]
        assert rates == [pytest.approx(rate) for rate in (2e-4, 1e-4, 1e-5)]


def test_losses_have_the_weights_of_the_paper():
    method = paper()
    c = method.config
    assert (c.adversarial_weight, c.l1_weight, c.steerable_weight) == (0.005, 0.8, 0.145)
    assert (c.directions, c.taps, c.batch_size) == (20, 9, 10)


def test_lines_that_are_missing_cost_their_responses():
    method, batch = gan(), batch_of()
    batch["mra"] = torch.full((2, 1, *SIZE), -1.0)
    batch["mra"][..., 16] = 0.0
    method.generator.forward = lambda given: torch.full((2, 1, *SIZE), -1.0)
    discriminator, generator = method.turns(iter([batch]))
    assert discriminator.player == "discriminator" and generator.player == "generator"
    assert generator.losses["l1"].item() == pytest.approx(0.8 / 40, rel=1e-5)
    filters = bank().float()[:, None]
    apart = torch.nn.functional.conv2d(batch["mra"] + 1, filters, padding=4).abs()
    huber = torch.where(apart <= 1, 0.5 * apart**2, apart - 0.5).mean()
    torch.testing.assert_close(generator.losses["steerable"], 0.145 * huber)


def test_a_discriminator_that_knows_nothing_costs_ln_2_times_the_weight():
    method = gan()
    for parameter in method.discriminator.parameters():
        nn.init.zeros_(parameter)
    discriminator, generator = method.turns(iter([batch_of()]))
    assert discriminator.total.item() == pytest.approx(0.693147, abs=1e-5)
    assert generator.losses["adversarial"].item() == pytest.approx(0.005 * 0.693147, abs=1e-7)


def test_arms_leave_out_what_they_say():
    terms = {
        name: [list(turn.losses) for turn in gan(**options).turns(iter([batch_of()]))]
        for name, options in (
            ("filters", {"steerable_weight": 0.0}),
            ("baseline", SteerableGAN.Config.baseline),
            ("l1", {"steerable_weight": 0.0, "adversarial_weight": 0.0}),
        )
    }
    assert terms["filters"] == [["adversarial"], ["l1", "adversarial"]]
    assert terms["baseline"] == [["l1", "steerable"]] and terms["l1"] == [["l1"]]
    assert gan(**SteerableGAN.Config.baseline).discriminator is None


def test_an_input_that_is_not_shown_is_air_and_the_networks_keep_their_size():
    images = torch.cat([batch_of()["t1"], batch_of()["t2"]], 1)
    assert torch.equal(gan().seen(images), images)
    for shown, kept in (("first", 0), ("second", 1)):
        method = gan(shown=shown)
        seen = method.seen(images)
        assert torch.equal(seen[:, kept], images[:, kept]) and (seen[:, 1 - kept] == -1).all()
        assert count(method.generator) == count(gan().generator)


def test_filters_are_no_part_of_the_saved_weights():
    assert not [name for name in gan().state_dict() if name in ("weights", "shapes")]


def test_a_filter_has_a_middle():
    with pytest.raises(UserError, match=r"--taps 8: a filter has a middle; give an odd number, such as 9"):
        gan(taps=8)


def test_a_run_is_applied_to_two_scans(cases, tmp_path):
    config = configured("sgan-mra", width=4, blocks=1, discriminator_width=4)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    train("sgan-mra", tmp_path / "run", config, DataConfig(phantom_subjects=4, cache=cases), options)
    person, model = make("brain-mra", 7, size=40, slices=3, field_mm=60.0), load(tmp_path / "run")
    made = model(person.images["t1"], t2=person.images["t2"]).outputs["mra"]
    assert made.shape == (3, 40, 40) and np.isfinite(made.numpy()).all()
    other = model(person.images["t1"], t2=person.images["t1"]).outputs["mra"]
    assert not np.array_equal(made.numpy(), other.numpy())
