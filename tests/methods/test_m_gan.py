"""M-GAN: channels that are shown, the U-Net of 256 pixels for slices of 200, the game of pix2pix, and edited labels."""

import math

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn import functional
from torch.nn.functional import l1_loss

from ganatomy.data.cases import DataConfig
from ganatomy.game import Progress
from ganatomy.inference.model import load
from ganatomy.methods.synthesis.m_gan import MultiChannelGAN
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (40, 64)


def gan(**values):
    return build("m-gan", **{"size": SIZE, "width": 4, "discriminator_width": 4, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    lesions = torch.zeros(2, 1, *SIZE)
    lesions[0, :, 8:20, 12:30] = 1
    ct, pet = (2 * torch.rand(2, 1, *SIZE, generator=draw) - 1 for _ in range(2))
    return {"ct": ct, "lesions": lesions, "pet": pet}


def paper(**values):
    with torch.device("meta"):
        return MultiChannelGAN(MultiChannelGAN.Config.preset("paper", **values))


def test_networks_have_the_numbers_of_parameters_of_pix2pix():
    method = paper()
    assert (count(method.generator), count(method.discriminator)) == (54_408_833, 2_765_633)
    convolutions = [one for one in method.generator.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    assert [one.bias is not None for one in convolutions] == [False] * (len(convolutions) - 1) + [True]
    # Biases before the norms would make up the other number that is known of this network.
    assert count(method.generator) + sum(one.out_channels for one in convolutions[:-1]) == 54_414_337


def test_slices_of_200_pixels_are_padded_by_28_on_every_side_and_scores_of_256_are_30_by_30():
    method, seen = paper(), []
    method.generator.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape[2:])))
    with torch.device("meta"):
        assert method.translated(torch.empty(1, 2, 200, 200)).shape == (1, 1, 200, 200) and seen == [(256, 256)]
        assert method.discriminator(torch.empty(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    small, seen = gan(levels=3, size=(40, 60)), []
    small.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    shown = torch.rand(1, 2, 40, 60)
    small.translated(shown)
    # 60 columns become 64, two on either side; 40 rows are a multiple of eight.
    torch.testing.assert_close(seen[0][..., 2:62], shown)
    assert (seen[0][..., [0, 1, 62, 63]] == -1).all()


def test_a_bottom_of_one_pixel_has_no_norm():
    innermost = paper().generator.down[-1]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in innermost.modules())


def test_patches_of_70_pixels_are_scored():
    field = 1
    for layer in reversed([one for one in gan(discriminator_strided=3).discriminator if isinstance(one, nn.Conv2d)]):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


def test_maps_are_shown_from_minus_one_to_one_and_what_is_hidden_is_background():
    batch = batch_of()
    shown = {name: gan(shown=name).shown(torch.cat([batch["ct"], batch["lesions"]], 1)) for name in
             ("both", "image", "labels")}  # fmt: skip
    assert shown["both"][:, 1:].unique().tolist() == [-1, 1]
    torch.testing.assert_close(shown["both"][:, :1], batch["ct"])
    torch.testing.assert_close(shown["image"][:, :1], batch["ct"])
    assert (shown["image"][:, 1] == -1).all() and (shown["labels"][:, 0] == -1).all()
    torch.testing.assert_close(shown["labels"][:, 1:], shown["both"][:, 1:])
    networks = {name: count(gan(shown=name)) for name in shown}
    assert len(set(networks.values())) == 1


def test_losses_are_those_of_pix2pix_with_half_the_loss_of_the_discriminator():
    method, batch = gan(), batch_of()
    turns = list(method.turns(iter([batch])))
    assert [turn.player for turn in turns] == ["discriminator", "generator"]
    fake = method.restore(torch.cat([batch["ct"], batch["lesions"]], 1))
    torch.testing.assert_close(turns[1].losses["l1"], 100 * l1_loss(fake, batch["pet"]))
    for parameter in method.discriminator.parameters():
        nn.init.zeros_(parameter)
    batch["pet"] = fake.detach() + 0.1
    discriminator, generator = method.turns(iter([batch]))
    assert discriminator.total.item() == pytest.approx(0.6931, abs=1e-4)
    assert generator.total.item() == pytest.approx(10.6931, abs=1e-3)


def test_the_discriminator_sees_ct_map_and_pet():
    method, batch, seen = gan(), batch_of(), []
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    list(method.turns(iter([batch])))
    real, fake, judged = seen
    assert all((one[:, :2] == torch.cat([batch["ct"], 2 * batch["lesions"] - 1], 1)).all() for one in seen)
    assert torch.equal(real[:, 2:], batch["pet"]) and torch.equal(fake, judged)


def test_the_rate_falls_in_the_second_half():
    (stage,) = paper().stages()
    found = []
    for epoch in (1, 100, 150, 200):
        progress = Progress(stage_rounds=200, stage_round=epoch - 1)
        found.append([2e-4 * player.schedule(progress) for player in stage.players])
    # The reference steps down by 1/101 of the rate after every epoch; here it falls with every update.
    assert found == [pytest.approx([rate] * 2, abs=4e-6) for rate in (2e-4, 2e-4, 1.010e-4, 1.98e-6)]


def test_grey_levels_of_the_paper():
    assert 20 * math.log10(255 / 10.08) == pytest.approx(28.06, abs=0.01)


def reference(network, image):
    """The U-Net of the reference code, restated: every level wraps the next one; the skip comes last, as in Torch."""

    def norm(layer, features):
        return functional.batch_norm(features, None, None, layer.weight, layer.bias, True, 0.1, layer.eps)

    def level(depth, features):
        down = [one for one in network.down[depth] if not isinstance(one, nn.LeakyReLU)]
        up = [one for one in network.up[len(network.up) - 1 - depth] if not isinstance(one, nn.ReLU | nn.Dropout)]
        found = features if depth == 0 else functional.leaky_relu(features, 0.2)
        found = functional.conv2d(found, down[0].weight, None, 2, 1)
        found = norm(down[1], found) if len(down) > 1 else found
        if depth < len(network.down) - 1:
            found = torch.cat([level(depth + 1, found), found], 1)
        found = functional.conv_transpose2d(functional.relu(found), up[0].weight, up[0].bias, 2, 1)
        return norm(up[1], found) if len(up) > 1 else found

    return level(0, image).tanh()


def test_the_generator_equals_the_reference_with_the_same_weights():
    method, image = gan(levels=5).train(), torch.rand(2, 2, 64, 96)
    torch.testing.assert_close(method.generator(image).tanh(), reference(method.generator, image))


def test_dropout_stays_on_at_inference_only_if_asked():
    given = torch.cat([batch_of()["ct"], batch_of()["lesions"]], 1)
    for wanted in (False, True):
        method = gan(dropout=0.5, dropout_at_inference=wanted).inference_mode()
        assert torch.equal(method.restore(given), method.restore(given)) != wanted


def test_the_baseline_is_the_same_network_with_the_l1_loss():
    method, base = gan(), gan(**MultiChannelGAN.Config.baseline)
    assert base.discriminator is None and count(base.generator) == count(method.generator)
    assert [list(turn.losses) for turn in base.turns(iter([batch_of()]))] == [["l1"]]


def test_a_run_is_applied_to_a_scan_whose_label_map_was_edited(cases, tmp_path):
    config = configured("m-gan", width=4, discriminator_width=4)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    train("m-gan", tmp_path / "run", config, DataConfig(phantom_subjects=4, cache=cases), options)
    phantom, model = make("chest-pet-ct", 7, size=72, slices=3, lesions=0), load(tmp_path / "run")
    labels = phantom.images["ct"].with_array(np.zeros((1, 3, 72, 72), np.uint8))
    edited = labels.with_array(labels.numpy().copy())
    edited.array[:, 1, 30:40, 20:30] = 1
    plain, moved = (model(phantom.images["ct"], lesions=one).outputs["pet"] for one in (labels, edited))
    assert plain.shape == (3, 72, 72) and plain.unit == "SUV"
    values, others = plain.numpy(), moved.numpy()
    assert values.min() >= 0 and values.max() <= 20
    assert np.array_equal(values[:, [0, 2]], others[:, [0, 2]]) and not np.array_equal(values[:, 1], others[:, 1])
