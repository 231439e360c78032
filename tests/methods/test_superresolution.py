import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import moves
from ganatomy.inference.tiling import Tiler
from ganatomy.losses.adversarial import least_squares_discriminator
from ganatomy.methods.reconstruction.mdcsrn import MDCSRN
from ganatomy.methods.reconstruction.srgan3d_brain import SRGAN3D
from ganatomy.methods.reconstruction.thin_slice_3dsrgan import ThinSliceSRGAN

TINY = {"blocks": 1, "units": 1, "growth": 2, "critic_width": 1, "critic_dense": 1}


def narrow(kind):
    """Return options for the smallest critic or discriminator of a system."""
    opponent = "critic" if kind is MDCSRN else "discriminator"
    return {f"{opponent}_width": 1, f"{opponent}_dense": 1}


def built(kind, preset="small", **values):
    torch.manual_seed(0)
    return kind(kind.Config.preset(preset, **values))


def paper(kind, **values):
    with torch.device("meta"):
        return built(kind, "paper", **values)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def batches(method):
    generator = torch.Generator().manual_seed(0)
    low, high = method.span
    while True:
        fine = low + (high - low) * torch.rand(2, 1, 12, 12, 12, generator=generator)
        yield {"image": fine, "low": method.degradation(fine)}


def first_turns(stage, method):
    return [turn for move in moves(stage.turns(batches(method))) for turn in move]


def test_parameters_of_the_published_networks():
    assert count(paper(SRGAN3D).generator) == 1_690_593
    assert count(paper(SRGAN3D, upsampler="resize-conv").generator) == 750_689
    assert count(paper(MDCSRN).generator) == 411_648


@pytest.mark.parametrize(
    ("kind", "scale", "shown"),
    [(ThinSliceSRGAN, (3, 1, 1), (8, 64, 64)), (SRGAN3D, (4, 4, 4), (23, 32, 32)), (MDCSRN, (1, 1, 1), (64, 64, 64))],
)
def test_published_patches_and_what_the_generators_are_shown_of_them(kind, scale, shown):
    method = kind(kind.Config(**narrow(kind)))
    stream = method.stages()[-1].stream
    assert method.tiling.scale == scale
    assert method.degradation(torch.zeros(1, 1, *stream.patch)).shape[2:] == shown or method.degradation.same_grid
    assert method.task.required == (("image", "low") if kind is MDCSRN else ("image",))
    assert method.task.codecs["image"].to == method.task.codecs["low"].to == method.span


def test_the_schedule_of_mdcsrn():
    method = built(MDCSRN, "paper", **TINY, patch_shape=(12,) * 3)
    assert [(stage.name, stage.rounds) for stage in method.stages()] == [
        ("pretrain", 500_000),
        ("critic", 10_000),
        ("game", 550_000),
    ]
    alone = method.stages()[1]
    assert [turn.player for turn in first_turns(alone, method)] == ["critic"]
    for done, steps in ((0, 7), (1, 7), (499, 7), (500, 207), (501, 7)):
        method.progress.stage_round = done
        method.critic_turns = lambda batches: iter(("critic",))
        turns = list(itertools.islice(method.turns(batches(method)), steps + 1))
        assert turns[:-1] == ["critic"] * steps and turns[-1].player == "generator"
    assert method.tiling.margin == (3, 3, 3)


def test_mdcsrn_descends_absolute_error_and_a_little_of_the_game():
    method = built(MDCSRN, **TINY, patch_shape=(12,) * 3)
    batch = next(batches(method))
    (pretrain,) = first_turns(method.stages()[0], method)
    want = (method.generator(batch["low"]) - batch["image"]).abs().mean()
    torch.testing.assert_close(pretrain.losses["error"], want)
    *critic, generator = first_turns(method.stages()[2], method)
    assert set(critic[0].losses) == {"wasserstein", "penalty"} and set(generator.losses) == {"error", "adversarial"}
    assert generator.losses["adversarial"].detach().abs() < 0.1


def test_the_brain_generator_descends_sums_over_all_voxels():
    method = built(SRGAN3D, blocks=1, discriminator_width=1, patch_shape=(12,) * 3)
    batch = next(batches(method))["image"]
    _, generator = first_turns(method.stages()[0], method)
    fake = method.generator(method.degradation(batch))
    torch.testing.assert_close(generator.losses["error"], (fake - batch).square().sum())
    slopes = [(batch.diff(dim=axis).abs() - fake.diff(dim=axis).abs()).square().sum() for axis in (2, 3, 4)]
    torch.testing.assert_close(generator.losses["gradient"], sum(slopes))


def test_labels_of_the_brain_discriminator_are_noisy_and_sometimes_exchanged():
    method = built(SRGAN3D)
    many = torch.zeros(4000, 1)
    real, fake = method.labels((0.7, 1.2), many), method.labels((0.0, 0.3), many)
    assert 0.7 <= real.min() < 0.71 and 1.19 < real.max() <= 1.2 and fake.max() <= 0.3
    shown, told = method.exchanged(real, fake)
    assert float((shown < 0.5).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(shown < 0.5, told > 0.5), "both of a sample are exchanged"
    assert not torch.equal(real, method.labels((0.7, 1.2), many)), "drawn anew"


def test_least_squares_take_a_label_for_every_sample():
    scores, labels = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [0.0]])
    assert float(least_squares_discriminator(scores, scores, a=labels, b=labels)) == 2


@pytest.mark.parametrize(
    ("kind", "done", "rate"),
    [
        (SRGAN3D, 0, 1),
        (SRGAN3D, 4920, 1),
        (SRGAN3D, 18_799, 1),
        (ThinSliceSRGAN, 251, 1),
        (ThinSliceSRGAN, 252 * 40, 0.989**40),
    ],
)
def test_learning_rates_fall(kind, done, rate):
    method = kind(kind.Config(**narrow(kind), width=1, blocks=1))
    method.progress.round = method.progress.stage_round = done
    for player in method.stages()[-1].players:
        assert math.isclose(player.schedule(method.progress), rate)


def test_the_rate_of_the_brain_networks_may_fall():
    method = built(SRGAN3D, decay=0.5, decay_every=4920)
    method.progress.stage_round = 9840
    assert {player.schedule(method.progress) for player in method.stages()[0].players} == {0.5}


def test_the_brain_discriminator_begins_with_small_convolutions():
    method = built(SRGAN3D, discriminator_width=8, patch_shape=(16,) * 3)
    layers = [layer for layer in method.discriminator if isinstance(layer, nn.Conv3d)]
    spreads = [layer.weight.std().item() for layer in layers]
    assert len(spreads) == 8 and spreads == pytest.approx([0.02] * 8, rel=0.15)
    assert layers[0].bias.abs().max() == 0


def test_thin_slices_descend_error_variation_and_weights():
    method = built(ThinSliceSRGAN, adversarial_weight=0.0, weight_decay=2.0)
    (turn,) = first_turns(method.stages()[1], method)
    kernels = [module.weight for module in method.generator.modules() if hasattr(module, "kernel_size")]
    torch.testing.assert_close(turn.losses["weights"], 2 * sum(kernel.square().sum() for kernel in kernels))
    assert set(turn.losses) == {"error", "variation", "weights"}
    assert [turn.player for turn in first_turns(method.stages()[0], method)] == ["generator"]


def test_options_that_cannot_work_are_refused():
    with pytest.raises(UserError, match=r"patch_shape: \(10, 12, 12\) are no multiples of \(3, 1, 1\)"):
        built(ThinSliceSRGAN, patch_shape=(10, 12, 12))
    with pytest.raises(UserError, match="option blur"):
        built(SRGAN3D, blur=0.0)
    with pytest.raises(UserError, match="option factor"):
        built(SRGAN3D, factor=3)
    with pytest.raises(UserError, match="option factors"):
        built(MDCSRN, factors=(1, 0, 2))


def tiled(method, values, tile):
    tiler = Tiler(method.restore, 3, replace(method.tiling, tile=tile))
    shape, scale = values.shape[1:], method.tiling.scale
    return torch.from_numpy(tiler(lambda start, stop: values[:, start:stop], shape, 0, shape[0] * scale[0]))


@pytest.mark.parametrize(
    ("kind", "values", "most"),
    [
        (ThinSliceSRGAN, {"width": 4, "blocks": 1}, 1e-5),
        (SRGAN3D, {"width": 4, "blocks": 1, "wide": 8}, 1e-5),
        (MDCSRN, {"blocks": 1, "growth": 4}, 1e-5),
        (MDCSRN, {"blocks": 2, "growth": 4, "trim": 3}, 0.2),
    ],
)
def test_a_volume_restored_in_tiles_has_no_seams(kind, values, most):
    method = built(kind, **values).inference_mode()
    low, high = method.span
    ramp = (
        torch.linspace(low, high, 9)[:, None, None] * torch.linspace(0.5, 1, 10)[:, None] * torch.linspace(0.5, 1, 11)
    )
    whole, parts = (tiled(method, ramp[None].numpy(), tile) for tile in ((9, 10, 11), (4, 5, 6)))
    assert list(whole.shape[1:]) == [size * times for size, times in zip((9, 10, 11), method.tiling.scale, strict=True)]
    assert float((whole - parts).abs().max()) < most * float(whole.std())
