"""End-to-end retinal synthesis: networks of the release, joint loss, blocks of three parties, samples and painting."""

import math

import numpy as np
import PIL.Image
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import binary_cross_entropy, l1_loss

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.game import Progress
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.inference.sampling import write_samples
from ganatomy.methods.synthesis.retina_aae import RetinaAAE
from ganatomy.nets.retina_aae import MapDecoder, MapEncoder
from ganatomy.nets.strided_unet import keras_norm
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

PARTIES = ["discriminator", "code discriminator", "generators"]


def system(**values):
    given = {"size": (32, 32), "width": 4, "latent": 6, "discriminator_widths": (4, 6), "steps": 1}
    return build("retina-aae", **{**given, **values})


def batch_of(seed=1, rows=2):
    draw = torch.Generator().manual_seed(seed)
    vessels = (torch.rand(rows, 1, 32, 32, generator=draw) > 0.8).float()
    return {"vessels": 2 * vessels - 1, "image": 2 * torch.rand(rows, 3, 32, 32, generator=draw) - 1}


def played(method, batch=None):
    return list(method.turns(iter([batch or batch_of()] * 4)))


class Fixed(nn.Module):
    """Network that returns the same whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, anything):
        return self.value


@pytest.mark.parametrize(
    ("latent", "encoder", "decoder", "codes"), [(16, 5_044_512, 2_967_329, 577), (32, 5_118_272, 2_971_425, 1_089)]
)
def test_networks_have_the_weights_of_the_release(latent, encoder, decoder, codes):
    with torch.device("meta"):
        method = RetinaAAE(RetinaAAE.Config.preset(latent=latent))
    # The release has 384 further weights in a convolution and a norm whose output it does not use.
    assert (count(method.encoder), count(method.decoder)) == (encoder, decoder)
    assert (count(method.painter), count(method.discriminator)) == (4_607_075, 94_689)
    assert count(method.code_discriminator) == codes


@pytest.mark.parametrize(("latent", "weights"), [(16, 4_988_288), (32, 4_996_512)])
def test_a_pyramid_that_halves_from_the_first_level_has_the_intended_weights_but_for_its_last_norm(latent, weights):
    with torch.device("meta"):
        assert count(MapEncoder(32, 7, latent, halving=True)) == weights - 2 * 256


def test_extents_of_the_encoder_are_those_of_the_release():
    seen = []
    with torch.device("meta"):
        encoder = MapEncoder(32, 7, 16)
        for layer in encoder.layers:
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
        encoder(torch.empty(1, 1, 256, 256))
        assert MapDecoder(16, 32, 8)(torch.empty(2, 16)).shape == (2, 1, 256, 256)
    assert list(dict.fromkeys(seen)) == [256, 128, 64, 32, 16, 8, 4, 3]
    dropouts = [sum(isinstance(layer, nn.Dropout) for layer in one.layers) for one in (encoder, MapDecoder(16, 4, 8))]
    assert dropouts == [6, 3]


@pytest.mark.parametrize("halving", [False, True])
def test_codes_depend_on_the_map(halving):
    torch.manual_seed(0)
    encoder = MapEncoder(4, 4, 6, halving=halving)
    mean, log_variance = encoder((torch.rand(2, 1, 32, 32) > 0.5).float())
    assert (mean[0] - mean[1]).abs().max() > 0 and (log_variance[0] - log_variance[1]).abs().max() > 0


def test_a_norm_of_one_pixel_would_give_all_maps_one_code():
    torch.manual_seed(0)
    encoder = MapEncoder(4, 4, 6, halving=True)
    last = [place for place, layer in enumerate(encoder.layers) if isinstance(layer, nn.Conv2d)][-1]
    encoder.layers.insert(last + 1, keras_norm("image", 32))
    mean, _ = encoder((torch.rand(2, 1, 32, 32) > 0.5).float())
    assert torch.equal(mean[0], mean[1])


def test_the_joint_loss_of_undecided_parties():
    method, batch = system(), batch_of()
    batch["image"] = 0.8 * batch["image"]
    method.decoder = Fixed(torch.zeros(2, 1, 32, 32))
    method.painter = Fixed((batch["image"] + 0.1).atanh())
    for network in (method.discriminator, method.code_discriminator):
        last = [layer for layer in network if hasattr(layer, "weight")][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    first, second, third = played(method, batch)
    assert first.total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert second.total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert third.total.item() == pytest.approx(80.7010, abs=1e-3)


def test_losses_are_the_cross_entropies_of_the_release_with_1_for_real():
    method, batch = system(dropout=0.0), batch_of()
    method.code = lambda maps: method.encoder(maps)[0]
    first, _, third = played(method, batch)
    with torch.no_grad():
        true, photograph = (batch["vessels"] > 0).float(), batch["image"]
        code = method.code(true)
        decoded = method.decoder(code).sigmoid()
        painted = method.painter(decoded).tanh()
        fake = method.discriminator(torch.cat([decoded, painted], 1)).sigmoid()
        real = method.discriminator(torch.cat([true, photograph], 1)).sigmoid()
        labels = torch.cat([torch.zeros_like(fake), torch.ones_like(real)])
        torch.testing.assert_close(first.total, binary_cross_entropy(torch.cat([fake, real]), labels))
        judged = method.code_discriminator(code).sigmoid()
        wanted = binary_cross_entropy(fake, torch.ones_like(fake)) + 100 * binary_cross_entropy(decoded, true)
        wanted = wanted + 100 * l1_loss(painted, photograph) + binary_cross_entropy(judged, torch.ones_like(judged))
        torch.testing.assert_close(third.total, wanted, rtol=1e-4, atol=1e-4)


def shown_maps(method):
    seen = []
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0][:, :1]))
    played(method)
    return seen


def test_parties_are_shown_soft_maps_and_the_code_of_the_release_true_ones_as_the_discriminator_learns():
    real, fake, deceiving = shown_maps(system())
    assert set(real.unique().tolist()) == {0, 1}
    assert all(len(maps.unique()) > 2 for maps in (fake, deceiving))
    _, fake, deceiving = shown_maps(system(shown_map="true"))
    assert set(fake.unique().tolist()) == {0, 1} and len(deceiving.unique()) > 2
    assert RetinaAAE.Config.preset("code").shown_map == "true"


def test_parties_move_in_blocks_and_the_code_discriminator_is_no_part_of_the_joint_step():
    method = system(steps=3)
    drawn = iter([batch_of(seed) for seed in range(20)])
    assert [turn.player for turn in method.turns(drawn)] == [party for party in PARTIES for _ in range(3)]
    assert len(list(drawn)) == 20 - 12, "a fake and a real pair in each step of the discriminator of pairs"
    (stage,) = method.stages()
    joint = {id(one) for one in stage.players[-1].parameters()}
    assert not joint & {id(one) for one in method.code_discriminator.parameters()}


def test_a_game_of_100_epochs_of_614_pairs_has_60000_steps_of_every_party():
    c = RetinaAAE.Config.preset()
    assert 614 // c.steps * 100 == c.game_rounds and c.game_rounds * c.steps == 60_000


def test_rates_are_constant_and_those_of_the_release():
    with torch.device("meta"):
        (stage,) = RetinaAAE(RetinaAAE.Config.preset()).stages()
    found = {}
    for player in stage.players:
        (group,) = player.optimizer([nn.Parameter(torch.zeros(1))]).param_groups
        found[player.name] = (group["lr"], group["betas"])
        assert player.schedule is None
    assert found == {
        "discriminator": (2e-4, (0.5, 0.999)),
        "code discriminator": (1e-3, (0.9, 0.999)),
        "generators": (2e-4, (0.5, 0.999)),
    }


def test_weights_of_losses_are_constant():
    method, found = system(dropout=0.0), []
    method.code = lambda maps: method.encoder(maps)[0]
    for done in (0, 1500, 2999):
        method.progress = Progress(round=done, stage="game", stage_round=done, stage_rounds=3000)
        found.append([float(turn.total.detach()) for turn in played(method)][::2])
    assert found[0] == found[1] == found[2]


def test_dropout_is_off_as_discriminators_learn_and_codes_are_drawn_all_the_same():
    method, modes = system(dropout=0.5).train(), []
    method.encoder.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    played(method)
    assert modes == [False, False, True] and method.training
    maps = (batch_of()["vessels"] > 0).float()
    method.inference_mode()
    assert not torch.equal(method.code(maps), method.code(maps))


def test_samples_are_sharp_maps_and_photographs_that_are_painted_over_the_soft_ones():
    method = system().inference_mode()
    latent = method.draw(range(3))
    made = method.sample(latent)
    soft = method.decoder(latent).sigmoid()
    assert torch.equal(made[:, :1] > 0, soft > 0.5) and set(made[:, :1].unique().tolist()) <= {-1, 1}
    torch.testing.assert_close(made[:, 1:], method.painter(soft).tanh())
    given = 2 * (soft > 0.5).float() - 1
    torch.testing.assert_close(method.restore(given), method.painter((soft > 0.5).float()).tanh())


def test_without_adversaries_the_same_networks_reconstruct_alone():
    method, base = system(), system(**RetinaAAE.Config.baseline)
    assert base.discriminator is None and base.code_discriminator is None and not base.adversarial
    assert [list(turn.losses) for turn in base.turns(iter([batch_of()]))] == [["map", "l1"]]
    assert count(base.painter) == count(method.painter)


@pytest.mark.parametrize("size", [(32, 64), (48, 48), (16, 16)])
def test_sizes_that_no_doubling_of_a_pixel_gives_are_refused(size):
    with pytest.raises(UserError, match="rows and columns must be one power of 2, from 32 on"):
        system(size=size)


def test_a_run_samples_label_maps_paints_over_given_ones_and_is_judged_by_its_maps(cases, tmp_path):
    config = configured("retina-aae")
    options = TrainConfig(rounds=1, device="cpu", threads=1, validate_every=1, validation_slices=2, diagnose=False)
    train("retina-aae", tmp_path / "run", config, DataConfig(phantom_subjects=8, cache=cases), options)
    rows = {row.method: row.scores for row in evaluate(tmp_path / "run").scores.rows}
    assert {"copied maps", "shared with a map", "map area", "kernel distance"} <= set(rows["output"])
    assert 0 < rows["real"]["map area"] < 50

    model = load(tmp_path / "run")
    files = write_samples(model, tmp_path / "made", 2)
    maps = [file for file in files if "vessels" in file.name]
    assert len(files) == 4 and all(file.suffix == ".png" for file in files)
    with PIL.Image.open(maps[0]) as opened:
        labels = np.array(opened)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1} and labels.shape == (32, 32)

    vessels = make("fundus", 7, size=90).masks["vessels"][:, :, :70]
    picture = tmp_path / "vessels.png"
    write(picture, Image.from_array(255 * vessels.astype(np.uint8)))
    painted = load(tmp_path / "run")(picture, ability="restore").main
    assert painted.channels == 3 and painted.shape == (1, 90, 70) and painted.dtype == np.uint8
    assert painted.numpy().min() >= 0 and painted.numpy().max() <= 255


def test_options_of_a_system_are_those_of_its_task():
    method = system()
    assert method.task.phantom_grid(None)["around_disc"] == pytest.approx(3.2)
    assert method.stages()[0].stream.roles == ("vessels", "image")
    assert list(method.task.predictors) == ["sample", "restore"]
