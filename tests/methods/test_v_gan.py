"""V-GAN: numbers of its paper and release, values of its losses, and what its players are shown."""

import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.methods.segmentation.v_gan import VGAN, shown
from ganatomy.nets.layers import SameConvolution
from ganatomy.nets.vgan import ShiftBatchNorm, VesselDiscriminator, VesselUNet, standardised


def vgan(preset="small", **values):
    torch.manual_seed(0)
    return VGAN(VGAN.Config.preset(preset, **{"width": 4, "size": (64, 96), "steps": 2, **values}))


def batch_of(count=3, size=(64, 96), seed=1):
    """Return pictures with a dark surround, and vessels."""
    draw = torch.Generator().manual_seed(seed)
    image = 0.2 + 0.7 * torch.rand(count, 3, *size, generator=draw)
    image[..., :5] = 0
    vessels = torch.zeros(count, 1, *size)
    vessels[..., 20:24, 10:80] = vessels[..., 5:50, 30:33] = 1
    return {"image": image, "vessels": vessels}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


class Scores(nn.Module):
    """A discriminator that gives true vessels one probability, and drawn ones another."""

    def __init__(self, *probabilities):
        super().__init__()
        self.probabilities = probabilities

    def forward(self, pairs):
        rows = len(pairs) // len(self.probabilities)
        return torch.tensor(self.probabilities).logit().repeat_interleave(rows)[:, None, None, None]


class Maps(nn.Module):
    """A segmentor that draws four pixels with known probabilities."""

    def forward(self, image):
        return torch.tensor([0.2, 0.4, 0.6, 0.8]).logit().reshape(1, 1, 2, 2).repeat(len(image), 1, 1, 1)


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        assert count(VesselUNet(3)) == 7_849_601
        found = {view: count(VesselDiscriminator(4, view)) for view in ("pixel", "patch1", "patch2", "image")}
    assert found == {"pixel": 93_665, "patch1": 287_873, "patch2": 4_715_009, "image": 4_715_009}


@pytest.mark.parametrize(("size", "patch1", "patch2", "deepest"), [(640, 80, 10, 40), (720, 90, 11, 45)])
def test_maps_of_scores_have_the_published_extents(size, patch1, patch2, deepest):
    with torch.device("meta"):
        pair = torch.empty(1, 4, size, size)
        extents = {"pixel": size, "patch1": patch1, "patch2": patch2, "image": 1}
        for view, extent in extents.items():
            assert VesselDiscriminator(4, view, 2)(pair).shape == (1, 1, extent, extent)
        network, seen = VesselUNet(3, 2), []
        network.down[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
        assert network(pair[:, :3]).shape == (1, 1, size, size) and seen == [deepest]


@pytest.mark.parametrize(("view", "field", "size"), [("pixel", 7, 31), ("patch1", 61, 160), ("patch2", 537, 1216)])
def test_receptive_fields_are_those_of_the_catalogue(view, field, size):
    network = VesselDiscriminator(1, view, 1).eval()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    # Equal values would leave the gradient of a maximum to one of them.
    pools = [name for name, layer in network.layers.named_children() if isinstance(layer, nn.MaxPool2d)]
    for name in pools:
        network.layers.add_module(name, nn.AvgPool2d(2))
    pair = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    scores = network.double()(pair)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    rows = pair.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows[-1] - rows[0]) + 1 == field


def test_strided_convolutions_are_padded_after_even_images_and_around_odd_ones():
    layer = SameConvolution(1, 1, 3, 2)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    even = layer(torch.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    torch.testing.assert_close(even, torch.tensor([[45.0, 39.0], [66.0, 50.0]]))
    odd = layer(torch.ones(1, 1, 5, 4))[0, 0]
    torch.testing.assert_close(odd, torch.tensor([[6.0, 4.0], [9.0, 6.0], [6.0, 4.0]]))


def test_batch_norm_shifts_only_and_averages_biased_variances():
    layer, other = ShiftBatchNorm(2), nn.BatchNorm2d(2, eps=1e-3, momentum=0.01)
    batch = torch.randn(2, 2, 3, 1, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        layer.shift.copy_(torch.tensor([0.5, -2.0]))
        other.bias.copy_(layer.shift)
    torch.testing.assert_close(layer(batch), other(batch))
    torch.testing.assert_close(layer.running_mean, other.running_mean)
    biased = batch.transpose(0, 1).flatten(1).var(1, correction=0)
    torch.testing.assert_close(layer.running_var, 0.99 + 0.01 * biased)
    before = layer.running_var.clone()
    layer.eval()(batch)
    torch.testing.assert_close(layer.running_var, before)
    assert count(layer) == 2


def test_pictures_are_standardised_over_their_own_field_of_view():
    image = batch_of()["image"]
    image[1] = 0.1 * image[1] + 0.2
    found = standardised(image, 40 / 255)
    inside = (image[:, :1] > 40 / 255).expand_as(image)
    assert not inside[0, ..., :5].any() and inside[1].all()
    for one, own in zip(found, inside, strict=True):
        for channel, field in zip(one, own, strict=True):
            assert channel[field].mean().abs() < 1e-5 and channel[field].std(correction=0) == pytest.approx(1, abs=1e-4)
    assert (found[0, :, :, :5] < -1).all(), "the surround becomes a negative number"
    assert standardised(torch.zeros(1, 3, 4, 4), 0.2).abs().max() == 0


def test_losses_are_those_of_the_release():
    method = vgan(steps=1, size=(2, 2), adversarial_weight=0.1)
    method.segmentor, method.discriminator = Maps(), Scores(0.8, 0.3)
    batch = {
        "image": torch.rand(2, 3, 2, 2),
        "vessels": torch.tensor([0.0, 0, 1, 1]).reshape(1, 1, 2, 2).repeat(2, 1, 1, 1),
    }
    turns = method.turns(iter([batch, batch]))
    assert next(turns).total.item() == pytest.approx(0.289909, abs=1e-6)
    method.discriminator = Scores(0.3)
    found = {name: term.item() for name, term in next(turns).losses.items()}
    assert found == {"entropy": pytest.approx(0.366985, abs=1e-6), "adversarial": pytest.approx(0.120397, abs=1e-6)}
    assert sum(found.values()) == pytest.approx(0.487382, abs=1e-6)


def test_players_take_turns_by_rounds_at_a_constant_rate():
    method = vgan(steps=3)
    (stage,) = method.stages()
    batches = iter([batch_of(seed=seed) for seed in range(6)])
    assert [turn.player for turn in stage.turns(batches)] == ["discriminator"] * 3 + ["segmentor"] * 3
    plain = vgan(discriminator="none", steps=3)
    assert not plain.adversarial and plain.discriminator is None
    assert [list(turn.losses) for turn in plain.turns(iter([batch_of()] * 3))] == [["entropy"]] * 3
    for player in VGAN(VGAN.Config.preset(width=1)).stages()[0].players:
        moves = player.optimizer([nn.Parameter(torch.ones(1))])
        assert (moves.defaults["lr"], moves.defaults["betas"], moves.defaults["eps"]) == (2e-4, (0.5, 0.999), 1e-8)
        assert player.schedule is None


def test_presets_have_as_many_steps_as_rotated_pictures_fill_batches():
    paper, code = VGAN.Config.preset(), VGAN.Config.preset("code")
    assert (paper.steps, paper.game_rounds, paper.frozen) == (2736 // paper.batch_size, 31, True)
    assert (code.steps, code.game_rounds, code.frozen) == (4560 // code.batch_size, 10, False)
    assert paper.size == (640, 640) and paper.adversarial_weight == 1 / 10


def test_the_discriminator_is_shown_vessels_of_the_inference_mode_in_one_batch_with_true_ones():
    method, seen = vgan(), []
    method.train()
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    batch = batch_of()
    next(iter(method.turns(iter([batch]))))
    (pairs,) = seen
    image = standardised(batch["image"], 40 / 255)
    torch.testing.assert_close(pairs[:, :3], torch.cat([image, image]))
    torch.testing.assert_close(pairs[:3, 3:], batch["vessels"])
    assert method.segmentor.training
    with torch.no_grad():
        torch.testing.assert_close(pairs[3:, 3:], method.eval().segment(batch["image"]))
    assert all(
        not layer.num_batches_tracked for layer in method.segmentor.modules() if isinstance(layer, ShiftBatchNorm)
    )


def test_the_release_trains_the_discriminator_on_in_the_turns_of_the_segmentor():
    method = vgan(frozen=False, steps=1)
    _, both = method.turns(iter([batch_of()] * 2))
    assert [turn.player for turn in both] == ["segmentor", "discriminator"]
    assert both[1].total.item() == pytest.approx(both[0].losses["adversarial"].item())


def test_vessels_of_unknown_truth_are_not_shown():
    truth = torch.tensor([1.0, 0.0, -1.0])
    assert shown(torch.tensor([0.2, 0.3, 0.9]), truth).tolist() == pytest.approx([0.2, 0.3, 0.0])


def test_sizes_that_no_discriminator_scores_are_refused():
    with pytest.raises(UserError, match="--size 32 48: VesselDiscriminator"):
        vgan(size=(32, 48)).check_sizes()
    vgan(size=(32, 48), discriminator="patch1").check_sizes()
    with pytest.raises(UserError, match="--size: the networks see whole pictures"):
        vgan(size=None)
