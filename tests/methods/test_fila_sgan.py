"""Fila-sGAN and Fila-GAN: the game of the release, losses of style within the field, and several results per map."""

import math

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import l1_loss

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.losses.matching import total_variation
from ganatomy.losses.style import gram, style_distance
from ganatomy.methods.synthesis.fila_sgan import CONTENT, STYLE, FilaSGAN
from ganatomy.nets.features import VGG19Features
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (32, 64)


def fila(**values):
    return build("fila-sgan", **{"size": SIZE, **values})


def batch_of(seed=1, rows=2):
    draw = torch.Generator().manual_seed(seed)
    field = torch.ones(rows, 1, *SIZE)
    field[..., :10] = 0
    vessels = (torch.rand(rows, 1, *SIZE, generator=draw) > 0.8).float()
    return {"vessels": vessels, "field": field, "image": 2 * torch.rand(rows, 3, *SIZE, generator=draw) - 1}


def given(batch):
    return torch.cat([batch["vessels"], batch["field"]], 1)


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        method = FilaSGAN(FilaSGAN.Config.preset("paper", variant="fila-gan"))
    assert (count(method.generator), count(method.discriminator)) == (26_112_259, 2_919_905)
    convolutions = [one for one in method.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    assert sum(one.bias is not None for one in convolutions) == 3, "where no norm follows"


def test_one_update_of_the_discriminator_comes_before_two_of_the_generator_with_the_same_noise():
    method, seen = fila(), []
    method.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    turns = list(method.turns(iter([batch_of()])))
    assert [turn.player for turn in turns] == ["discriminator", "generator", "generator"]
    assert len(seen) == 2 and torch.equal(*seen) and 0 < seen[0].std() < 2e-3
    # 20 images and 100 epochs in batches of one.
    paper = FilaSGAN.Config.preset()
    assert (paper.game_rounds, paper.game_rounds * paper.generator_steps, paper.batch_size) == (2_000, 4_000, 1)
    assert (paper.training_noise, paper.noise, paper.latent) == (1e-3, 1.0, 400)


def test_the_generator_moves_by_adam_and_the_discriminator_by_plain_descent_at_constant_rates():
    (stage,) = FilaSGAN(FilaSGAN.Config.preset("small", learning_rate=2e-4, discriminator_learning_rate=8e-5)).stages()
    discriminator, generator = (player.optimizer(player.parameters()) for player in stage.players)
    assert type(discriminator) is torch.optim.SGD and discriminator.defaults["momentum"] == 0
    assert (discriminator.defaults["lr"], generator.defaults["lr"]) == (8e-5, 2e-4)
    assert type(generator) is torch.optim.Adam and generator.defaults["betas"] == (0.5, 0.999)
    assert all(player.schedule is None for player in stage.players)
    paper = FilaSGAN.Config.preset()
    assert (paper.learning_rate, paper.discriminator_learning_rate) == (2e-4, pytest.approx(0.4 * 2e-4))
    assert Progress().fraction == 0


def test_losses_of_the_game_are_sums_without_a_half():
    method, batch = fila(style_weight=0.0, content_weight=0.0, variation_weight=0.0), batch_of()
    nn.init.zeros_(method.discriminator[-1].weight)
    discriminator, generator, _ = method.turns(iter([batch]))
    assert discriminator.total.item() == pytest.approx(2 * math.log(2), abs=1e-5) == pytest.approx(1.3863, abs=1e-4)
    assert generator.total.item() == pytest.approx(math.log(2), abs=1e-5)


def test_the_discriminator_sees_image_map_and_field_which_is_not_laid_over_the_image():
    method, batch, seen = fila(), batch_of(), []
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    list(method.turns(iter([batch])))
    real, fake, judged, _ = seen
    assert torch.equal(real, torch.cat([batch["image"], 2 * given(batch) - 1], 1))
    assert (
        torch.equal(fake, judged) and (fake[:, :3, :, :10] != 0).any() and set(fake[:, 3:].unique().tolist()) == {-1, 1}
    )


def test_losses_of_style_content_and_variation_are_taken_within_the_field():
    method, batch = fila(perceptual_range=1.0, variation_weight=100.0), batch_of()
    method.style.copy_(batch_of(5)["image"][0])
    fake, field = torch.rand(2, 3, *SIZE).requires_grad_(), batch["field"]
    found = method.looks(fake, batch["image"], field)
    features = method.features
    shown, true = ((one + 1) / 2 * field for one in (fake, batch["image"]))
    wanted = [gram(one) for one in features.activations((method.style[None] + 1) / 2, STYLE)]
    textures = features.activations(shown, STYLE)
    torch.testing.assert_close(found["style"], 10 * style_distance(textures, wanted))
    contents = [features.activations(one, (CONTENT,))[0] for one in (shown, true)]
    torch.testing.assert_close(found["content"], l1_loss(*contents))
    torch.testing.assert_close(found["variation"], 100 * total_variation(fake * field))
    (slope,) = torch.autograd.grad(found["style"] + found["content"], fake)
    assert not slope[..., :10].any() and slope[..., 10:].any()
    ranged = fila(perceptual_range=3.0)
    ranged.style.copy_(method.style)
    again = ranged.looks(fake, batch["image"], field)
    assert again["style"].item() == pytest.approx(9 * found["style"].item(), rel=1e-4)
    assert again["content"].item() == pytest.approx(3 * found["content"].item(), rel=1e-4)


def test_the_rim_of_the_field_counts_in_the_variation():
    flat, field = torch.full((1, 3, *SIZE), -1.0), batch_of(rows=1)["field"]
    assert total_variation(flat * field).item() == pytest.approx(1 / (SIZE[1] - 1))


def test_features_are_those_of_the_layers_that_are_named():
    network = VGG19Features("conv5_1", "substitute", width=0.0625)
    maps = network.activations(torch.rand(1, 1, 32, 32), (*STYLE, CONTENT))
    assert [tuple(one.shape[1:3]) for one in maps] == [(4, 32), (8, 16), (16, 8), (32, 4), (32, 2), (32, 4)]
    for name, one in zip((*STYLE, CONTENT), maps, strict=True):
        alone = VGG19Features(name, "substitute", width=0.0625)
        image = torch.rand(1, 3, 32, 32)
        torch.testing.assert_close(network.activations(image, (name,))[0], alone(image))
        assert (one >= 0).all()
    with pytest.raises(ValueError, match="conv5_4"):
        network.activations(torch.rand(1, 3, 32, 32), ("conv5_4",))


def test_without_a_style_there_is_a_pixel_loss_and_no_feature_network():
    method, batch = fila(variant="fila-gan"), batch_of()
    assert method.features is None and not method.provenance()
    turns = list(method.turns(iter([batch])))
    assert set(turns[1].losses) == {"adversarial", "l1"}
    shown = 2 * given(batch) - 1
    seen = []
    method.generator.register_forward_hook(lambda module, inputs, output: seen.append(output.tanh()))
    _, generator, _ = method.turns(iter([batch]))
    assert torch.equal(shown, 2 * given(batch) - 1)
    torch.testing.assert_close(generator.losses["l1"], 100 * l1_loss(seen[0], batch["image"]))


def test_the_baseline_has_the_same_generator_and_no_discriminator():
    base = fila(**FilaSGAN.Config.baseline)
    assert base.discriminator is None and count(base.generator) == count(fila().generator)
    assert [set(turn.losses) for turn in base.turns(iter([batch_of()]))] == [{"style", "content", "variation"}] * 2


def test_results_differ_by_the_noise_and_are_black_outside_of_the_field():
    method, batch = fila().inference_mode(), batch_of()
    plain, one, other = (
        method.restore(given(batch), latent) for latent in (None, method.latent_of(1), method.latent_of(2))
    )
    assert (plain[..., :10] == -1).all() and not torch.equal(one, other) and not torch.equal(plain, one)
    assert torch.equal(method.latent_of(1), method.latent_of(1)) and method.latent_of(1).shape == (1, 8)
    assert fila(noise=0.5).latent_of(3).std().item() == pytest.approx(0.5 * method.latent_of(3).std().item())


def test_missing_weights_of_the_features_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GANATOMY_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match="--features vgg19: no weights in"):
        fila(features="vgg19")
    assert "substitute" in fila(features="auto").provenance()["features"]


def test_impossible_options_are_refused(tmp_path):
    with pytest.raises(UserError, match="must be multiples of 32"):
        fila(size=(48, 64))
    with pytest.raises(UserError, match=r"--style .*no such file"):
        fila(style=tmp_path / "none.png")


def test_a_run_takes_the_style_of_a_picture_and_draws_several_images_of_a_map(cases, tmp_path):
    picture = tmp_path / "style.png"
    values = make("fundus", 99, size=48).image.numpy()
    write(picture, Image.from_array(np.rint(values).astype(np.uint8)))
    config = configured("fila-sgan", style=picture)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    train("fila-sgan", tmp_path / "run", config, DataConfig(phantom_subjects=4, cache=cases), options)
    model = load(tmp_path / "run")
    assert model.method.style.std() > 0.05 and model.method.provenance()["style"] == "style.png"
    phantom = make("fundus", 7, size=48)
    vessels, field = (
        phantom.image.with_array(phantom.masks[name][None].astype(np.uint8)) for name in ("vessels", "field")
    )
    first, again, other = (model(vessels, field=field, seed=seed).outputs["image"].numpy() for seed in (1, 1, 2))
    assert first.shape == (3, 1, 48, 48) and np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.min() >= 0 and first.max() <= 255


def test_neurons_are_grey_and_have_filaments():
    method = build("fila-sgan:neurons", size=(64, 64), width=4, latent=8, levels=4, features_width=0.0625)
    assert method.inputs == ("filaments", "field") and method.task.out_channels == 1
    assert method.task.phantom == "neurons" and method.task.phantom_parts(None)["filaments"] == "mask:filaments"
    assert method.restore(torch.ones(1, 2, 64, 64)).shape == (1, 1, 64, 64)
