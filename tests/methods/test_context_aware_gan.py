"""Context-aware GAN: networks, losses and their reductions, the chain of networks, and its exact application."""

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import softplus

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.inference.model import load
from ganatomy.inference.tiling import Tiler
from ganatomy.losses.matching import gradient_difference
from ganatomy.methods.synthesis.context_aware_gan import ContextAwareGAN
from ganatomy.nets.context_aware import ContextGenerator
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train


def system(**values):
    return build("context-aware-gan", **values)


def meta(preset="paper", **values):
    with torch.device("meta"):
        return ContextAwareGAN(ContextAwareGAN.Config.preset(preset, **values))


def batch_of(method, stage, seed=1):
    draw, stream = torch.Generator().manual_seed(seed), method.stages()[stage].stream
    wide = [length + 2 * extra for length, extra in zip(stream.patch, stream.margin, strict=True)]
    sizes = {role: wide if role in stream.wide else stream.patch for role in stream.roles}
    return {role: torch.rand(2, 1, *size, generator=draw) for role, size in sizes.items()}


@pytest.mark.parametrize(
    ("preset", "first", "second"), [("paper", 3_638_241, 3_661_569), ("code", 1_876_961, 1_900_289)]
)
def test_networks_have_the_published_numbers_of_parameters(preset, first, second):
    method = meta(preset)
    assert [count(networks[0]) for networks in method.generators] == [first, second]
    assert [count(networks[0]) for networks in method.discriminators] == [6_495_361] * 2


@pytest.mark.parametrize(("preset", "field"), [("paper", 35), ("code", 31)])
def test_a_patch_of_32_voxels_predicts_its_16_inner_ones(preset, field):
    method, seen = meta(preset), []
    generator = method.generators[0][0]
    for layer in generator:
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    assert generator(torch.empty(1, 1, 32, 32, 32, device="meta")).shape == (1, 1, 16, 16, 16)
    assert seen == [24] * 4 + [16] * 5
    assert (method.lost, 2 * method.reach + 1) == (8, field)


def test_the_discriminator_halves_patches_three_times():
    discriminator, seen = meta().discriminators[0][0], []
    for layer in discriminator:
        if isinstance(layer, nn.MaxPool3d | nn.Flatten):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    assert discriminator(torch.empty(2, 1, 16, 16, 16, device="meta")).shape == (2, 1)
    assert seen == [8, 4, 2, 2048]


def test_batch_norms_have_no_gain_and_the_averages_of_the_program():
    norms = [one for one in meta().modules() if isinstance(one, nn.BatchNorm3d)]
    assert norms and {(one.affine, one.eps, one.momentum) for one in norms} == {(False, 1e-3, 1e-3)}


def test_kernels_begin_as_glorot_and_bengio_have_it():
    torch.manual_seed(0)
    (layer,) = [one for one in ContextGenerator(8, (5,), (16,), ()) if isinstance(one, nn.Conv3d)]
    limit = (6 / ((8 + 16) * 5**3)) ** 0.5
    assert 0.95 * limit < float(layer.weight.detach().abs().max()) <= limit and not layer.bias.any()


def test_gradient_differences_have_the_values_of_the_formula():
    image = torch.arange(8.0).reshape(1, 1, 2, 2, 2) / 10
    squared = image**2
    found = [gradient_difference(squared, image, "sum", border).item() for border in ("inner", "zero")]
    assert found == pytest.approx([0.1428, 0.6948], abs=1e-4)
    assert 0.5 * (image - squared).square().sum().item() == pytest.approx(0.1498, abs=1e-4)
    # Signs of gradients are not compared.
    assert gradient_difference(-image, image, "sum").item() == pytest.approx(0, abs=1e-6)


def test_gradient_differences_of_images_have_the_values_of_the_formula():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) / 10
    found = [gradient_difference(image**2, image, "sum", border).item() for border in ("inner", "zero")]
    assert found == pytest.approx([1.5244, 3.2730], abs=1e-4)
    assert 0.5 * (image - image**2).square().sum().item() == pytest.approx(0.7156, abs=1e-4)


@pytest.mark.parametrize(("preset", "adversarial", "decay"), [("paper", 0.5, 5e-4), ("code", 0.05, 1e-3)])
def test_losses_are_sums_over_voxels_weighed_as_published(preset, adversarial, decay):
    c = ContextAwareGAN.Config.preset(preset)
    assert (c.adversarial_weight, c.squared_weight, c.gradient_weight, c.weight_decay) == (adversarial, 1, 1, decay)
    assert (c.reduction, c.learning_rate, c.betas, c.batch_size) == ("sum", 1e-6, (0.5, 0.999), 10)
    method = system(reduction="sum", adversarial_weight=adversarial, border=c.border)
    batch = batch_of(method, 0)
    discriminator, generator = method.stages()[0].turns(iter([batch]))
    network, critic = method.generators[0][0], method.discriminators[0][0]
    made, true = network(batch["t1"]), batch["ct"]
    gain = (1500 / 475) ** 2
    assert method.gain == pytest.approx(gain)
    torch.testing.assert_close(generator.losses["squared"], gain * (made - true).square().sum() / 2)
    gradients = gain * gradient_difference(made, true, "sum", c.border) / 2
    torch.testing.assert_close(generator.losses["gradient"], gradients)
    torch.testing.assert_close(generator.losses["adversarial"], adversarial * softplus(-critic(made)).mean())
    wanted = softplus(-critic(true)).mean() + softplus(critic(made)).mean()
    torch.testing.assert_close(discriminator.total, wanted)


def test_means_are_smaller_than_sums_by_the_voxels_of_a_patch():
    found = []
    for reduction in ("sum", "mean"):
        method = system(reduction=reduction, adversarial_weight=0.0)
        (turn,) = method.stages()[0].turns(iter([batch_of(method, 0)]))
        found.append(turn.losses["squared"].item())
    assert found[0] == pytest.approx(8**3 * found[1], rel=1e-4)


def test_the_rate_is_constant_and_kernels_of_the_generator_alone_decay():
    discriminator, generator = meta().stages()[0].players
    assert generator.schedule is None and discriminator.schedule is None
    method = system(weight_decay=1e-3)
    judged, made = method.stages()[0].turns(iter([batch_of(method, 0)]))
    assert "decay" not in judged.losses
    kernels = [one.weight for one in method.generators[0][0] if isinstance(one, nn.Conv3d)]
    # What the program counts twice: 5e-4 times the sum of squares.
    wanted = 5e-4 * sum(float(one.detach().square().sum()) for one in kernels)
    assert made.losses["decay"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_second_network_is_shown_the_estimate_of_the_first_on_the_same_window():
    method, shown = system(), []
    second = method.stages()[1]
    assert set(second.stream.roles) == {"t1", "ct", "context"} and second.derive["context"].folds == 0
    batch = batch_of(method, 1)
    method.generators[1][0].register_forward_hook(lambda module, inputs, output: shown.append(inputs[0]))
    list(second.turns(iter([batch])))
    less = method.reach - method.lost
    inner = slice(less, -less)
    torch.testing.assert_close(shown[0][:, :1], batch["t1"][:, :, inner, inner, inner])
    torch.testing.assert_close(shown[0][:, 1:], batch["context"][:, :, inner, inner, inner])
    assert shown[0].shape[-1] == 8 + 2 * method.lost


def test_estimates_do_not_depend_on_the_block_that_they_are_computed_in():
    method = system(chain=2).inference_mode()
    volume = np.random.default_rng(1).standard_normal((1, 14, 17, 15)).astype(np.float32)

    def estimate(tile):
        tiling = method.tiling.__class__(margin=method.tiling.margin, tile=tile)
        tiler = Tiler(method.restore, 3, tiling)
        return tiler(lambda start, stop: volume[:, start:stop], volume.shape[1:], 0, 14)

    whole = estimate((14, 17, 15))
    np.testing.assert_allclose(estimate((4, 6, 5)), whole, atol=1e-5)
    assert whole.shape == volume.shape


def test_an_estimate_is_what_the_middle_of_a_large_window_would_have():
    method = system(chain=1).inference_mode()
    network, reach, lost = method.generators[0][0], method.reach, method.lost
    window = torch.rand(1, 1, *(2 * reach + 5,) * 3)
    with torch.no_grad():
        direct = network(window)
        less = reach - lost
        torch.testing.assert_close(method.restore(window), direct[:, :, less:-less, less:-less, less:-less])


def test_contexts_of_training_and_of_application_are_the_same():
    method = system(chain=2).inference_mode()
    margin = 2 * method.reach
    volume = torch.rand(1, 1, *(2 * margin + 4,) * 3)
    with torch.no_grad():
        context = method.estimated(1, {"t1": volume})
        inner = slice(method.reach, -method.reach)
        seen = torch.cat([volume[:, :, inner, inner, inner], context], 1)
        made = method.generators[1][0](seen)
        less = slice(method.reach - method.lost, method.lost - method.reach)
        torch.testing.assert_close(method.restore(volume), made[:, :, less, less, less])


def test_estimates_of_a_fold_are_made_by_the_network_that_has_not_seen_it():
    method = system(context_folds=2, chain=3)
    names = [stage.name for stage in method.stages()]
    folds = [f"network {place}, fold {fold}" for place in (1, 2) for fold in (1, 2)]
    assert names == [*folds[:2], "network 1", *folds[2:], "network 2", "network 3"]
    stages = dict(zip(names, method.stages(), strict=True))
    assert stages["network 1, fold 2"].stream.fold == (1, 2) and stages["network 3"].stream.fold is None
    derivation = stages["network 2"].derive["context"]
    assert derivation.folds == 2
    method.inference_mode()
    volume = torch.rand(1, 1, *(2 * method.reach + 3,) * 3)
    with torch.no_grad():
        for fold in (0, 1):
            made = method.generators[0][fold](volume)
            less = slice(method.reach - method.lost, method.lost - method.reach)
            wanted = made[:, :, less, less, less]
            torch.testing.assert_close(derivation.function({"t1": volume}, fold=fold), wanted)
    assert [stage.validated for stage in method.stages()] == [False] * 6 + [True]


def test_a_network_of_one_layer_equals_a_convolution_written_out():
    torch.manual_seed(3)
    network = ContextGenerator(1, (3, 3), (1, 1), (0,)).eval()
    image = torch.rand(1, 1, 6, 5, 4)
    first, second = [one for one in network if isinstance(one, nn.Conv3d)]

    def convolved(values, layer, padding):
        values = torch.nn.functional.pad(values, (padding,) * 6)
        sides = [extent - 2 for extent in values.shape[2:]]
        total = torch.zeros(sides) + layer.bias[0]
        for i, j, k in np.ndindex(3, 3, 3):
            part = values[0, 0, i : i + sides[0], j : j + sides[1], k : k + sides[2]]
            total = total + layer.weight[0, 0, i, j, k] * part
        return total[None, None]

    norm = next(one for one in network if isinstance(one, nn.BatchNorm3d))
    hidden = convolved(image, first, 0)
    hidden = ((hidden - norm.running_mean) / (norm.running_var + 1e-3).sqrt()).clamp(min=0)
    torch.testing.assert_close(network(image), convolved(hidden, second, 1), rtol=1e-4, atol=1e-5)


def test_impossible_networks_are_refused():
    for values, told in (
        ({"kernels": (3, 4, 3, 3)}, "--kernels 3 4 3 3: the sides of kernels must be odd"),
        ({"widths": (4, 4, 1)}, "--kernels has 4 numbers and --widths 3"),
        ({"widths": (4, 4, 4, 2)}, "--widths: the last number is that of the channels of ct, 1"),
        ({"unpadded": (7,)}, "--unpadded 7: layers are counted from 0 to 3"),
        ({"context_folds": 1}, "--context-folds 1: give 2 or more"),
        ({"size": (1, 8, 8)}, "--size 1 8 8: the discriminator halves patches 1 times"),
        ({"size": (16, 16)}, "--size: give slices, rows and columns"),
    ):
        with pytest.raises(UserError, match=told):
            system(**values)


@pytest.mark.parametrize("folds", [0, 2])
def test_a_run_learns_both_networks_and_makes_ct_in_hu(cases, tmp_path, folds):
    config = configured("context-aware-gan", context_folds=folds)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=6, phantom_size=16, cache=cases)
    train("context-aware-gan", tmp_path / "run", config, data, options)
    assert len(list((tmp_path / "run" / "derived" / "network 2").glob("*/context.npy"))) > 1
    image = make("head-mr-ct", 77, size=16, slices=8, distance_mm=7.5).images["t1"]
    (made,) = load(tmp_path / "run")(image).outputs.values()
    assert made.shape == image.shape and made.unit == "HU"
