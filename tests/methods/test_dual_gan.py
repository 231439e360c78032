"""Dual GAN: networks and losses of both stages, order of map and photograph, and sampled maps that are cleaned."""

import math

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.methods.synthesis.dual_gan import DualGAN, without_specks
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SMALL = {
    "size": (32, 48),
    "levels": 3,
    "width": 4,
    "latent": 6,
    "map_widths": (8, 4),
    "map_discriminator_widths": (4, 6),
    "discriminator_width": 4,
}


def system(**values):
    return build("dual-gan", **{**SMALL, **values})


def batch_of(seed=1, rows=2):
    draw = torch.Generator().manual_seed(seed)
    vessels = (torch.rand(rows, 1, 32, 48, generator=draw) > 0.8).float()
    return {"vessels": 2 * vessels - 1, "image": 2 * torch.rand(rows, 3, 32, 48, generator=draw) - 1}


def undecided(network):
    last = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


class Painted(nn.Module):
    """Painter of one photograph, whatever the map."""

    def __init__(self, photograph):
        super().__init__()
        self.photograph = nn.Parameter(photograph)

    def forward(self, maps):
        return self.photograph.atanh()


@pytest.mark.parametrize(
    ("extent", "generator", "discriminator"), [(512, 57_257_857, 4_829_441), (256, 17_543_041, 4_436_225)]
)
def test_networks_of_maps_have_the_weights_of_the_release(extent, generator, discriminator):
    with torch.device("meta"):
        method = DualGAN(DualGAN.Config.preset(size=(extent, extent)))
    assert (count(method.map_generator), count(method.map_discriminator)) == (generator, discriminator)
    if extent == 512:
        assert count(method.map_generator.project) == 52_953_088 and method.map_generator.base == (512, 32, 32)


@pytest.mark.parametrize(("extent", "scores"), [(512, 62), (256, 30)])
def test_networks_of_photographs_have_the_weights_and_maps_of_the_release(extent, scores):
    with torch.device("meta"):
        method = DualGAN(DualGAN.Config.preset())
        assert method.discriminator(torch.empty(1, 6, extent, extent)).shape == (1, 1, scores, scores)
        assert method.painter(torch.empty(2, 3, extent, extent)).shape == (2, 3, extent, extent)
    assert (count(method.painter), count(method.discriminator)) == (54_420_617, 2_767_809)
    seen = 1
    for layer in reversed([layer for layer in method.discriminator if isinstance(layer, nn.Conv2d)]):
        seen = (seen - 1) * layer.stride[0] + layer.kernel_size[0]
    assert seen == 70


def test_weights_begin_as_in_the_release():
    method = build("dual-gan")
    convolutions = [layer.weight for layer in method.map_discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert all(weight.abs().max() <= 0.04 for weight in convolutions)
    norms = [layer for layer in method.map_generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) and norm.momentum == 0.1 for norm in norms)
    assert 0.015 < method.map_generator.project.weight.std() < 0.025


@pytest.mark.parametrize(("preset", "wanted"), [("paper", math.log(2) + 10), ("code", math.log(2) + 0.1)])
def test_losses_of_undecided_discriminators(preset, wanted):
    weight = DualGAN.Config.preset(preset).l1_weight
    method, batch = system(l1_weight=weight), batch_of()
    batch["image"] = 0.8 * batch["image"]
    for network in (method.discriminator, method.map_discriminator):
        undecided(network)
    method.painter = Painted(batch["image"] + 0.1)
    maps = list(method.map_turns(iter([batch])))
    assert maps[0].total.item() == pytest.approx(2 * math.log(2), abs=1e-6)
    photographs = list(method.turns(iter([batch, batch])))
    assert photographs[0].total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert photographs[1].total.item() == pytest.approx(wanted, abs=1e-4)


def test_the_generator_of_maps_moves_twice_with_one_latent_vector():
    method, latents = system(), []
    method.map_generator.register_forward_pre_hook(lambda module, inputs: latents.append(inputs[0]))
    turns = list(method.map_turns(iter([batch_of()])))
    assert [turn.player for turn in turns] == ["map discriminator", "map generator", "map generator"]
    assert all(torch.equal(latents[0], one) for one in latents) and latents[0].abs().max() <= 1


def test_real_and_sampled_maps_have_statistics_of_their_own():
    method, rows = system(), []
    method.map_discriminator.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    list(method.map_turns(iter([batch_of()])))
    assert rows == [2, 2, 2, 2]


def test_discriminator_and_painter_have_batches_of_their_own_and_the_map_is_always_first():
    method, seen = system(), []
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    list(method.turns(iter([batch_of(1), batch_of(2)])))
    real, fake, deceiving = seen
    for pair, drawn in ((real, batch_of(1)), (fake, batch_of(1)), (deceiving, batch_of(2))):
        assert pair.shape[1] == 6 and torch.equal(pair[:, :3], drawn["vessels"].expand(-1, 3, -1, -1))
    assert torch.equal(real[:, 3:], batch_of(1)["image"])


def test_fakes_that_the_discriminator_learns_from_are_painted_as_at_inference():
    method, modes = system(dropout=0.5).train(), []
    method.painter.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    list(method.turns(iter([batch_of(1), batch_of(2)])))
    assert modes == [False, True]


def test_optimisers_are_those_of_the_release():
    with torch.device("meta"):
        maps, photographs = DualGAN(DualGAN.Config.preset()).stages()
    parameter = [nn.Parameter(torch.zeros(1))]
    for player in maps.players:
        (group,) = player.optimizer(parameter).param_groups
        assert (group["lr"], group["betas"]) == (2e-4, (0.5, 0.999)) and player.schedule is None
    for player in photographs.players:
        optimiser = player.optimizer(parameter)
        (group,) = optimiser.param_groups
        assert isinstance(optimiser, torch.optim.RMSprop) and player.schedule is None
        assert (group["lr"], group["alpha"], group["eps"]) == (1e-3, 0.9, 1e-8)
    assert (maps.stream.batch_size, photographs.stream.batch_size) == (7, 32)
    assert maps.stream.roles == ("vessels",) and photographs.stream.roles == ("vessels", "image")


def test_stages_share_no_weight_and_only_the_second_one_is_validated():
    method = system()
    maps, photographs = ({id(p) for player in stage.players for p in player.parameters()} for stage in method.stages())
    assert not maps & photographs
    assert [stage.validated for stage in method.stages()] == [False, True]
    assert [stage.name for stage in system(map_rounds=0).stages()] == ["photographs"]


def test_samples_are_painted_over_the_sharp_map():
    method = system(smallest=0).inference_mode()
    latent = method.draw(range(3))
    made, maps = method.sample(latent), method.map_generator(latent)
    sharp = torch.where(maps > 0, 1.0, -1.0)
    assert torch.equal(made[:, :1], sharp)
    torch.testing.assert_close(made[:, 1:], method.painter(sharp.expand(-1, 3, -1, -1)).tanh())
    assert latent.abs().max() <= 1


def test_coarse_maps_are_learned_from_averages_and_enlarged():
    method, seen = system(coarseness=2), []
    method.map_discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    list(method.map_turns(iter([batch_of()])))
    assert all(maps.shape[2:] == (16, 24) for maps in seen)
    assert seen[0][0, 0, 0, 0] == batch_of()["vessels"][0, 0, :2, :2].mean()
    assert method.inference_mode().sample(method.draw([0])).shape == (1, 4, 32, 48)


def test_specks_are_removed_and_parts_that_touch_at_corners_are_kept():
    maps = -torch.ones(1, 1, 8, 8)
    maps[0, 0, 0, :3] = maps[0, 0, 1, 3] = 1
    maps[0, 0, 5, 5:7] = 1
    cleaned = without_specks(maps, 4)
    assert (cleaned > 0).sum() == 4 and (cleaned[0, 0, 5] < 0).all()
    assert torch.equal(without_specks(maps, 0), maps)


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match=r"--size 36 48: rows and columns must be multiples of 8, for --levels 3"):
        system(size=(36, 48))


def test_a_run_learns_maps_from_cases_without_a_photograph_too_and_paints_over_given_ones(cases, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["subject,vessels,image"]
    for seed in range(14):
        drawn = make("fundus", seed, size=64, around_disc=6.4)
        write(folder / f"vessels{seed}.png", Image.from_array(255 * drawn.masks["vessels"].astype(np.uint8)))
        write(folder / f"image{seed}.png", Image.from_array(np.rint(drawn.image.numpy()).astype(np.uint8)))
        lines.append(f"s{seed},vessels{seed}.png,{f'image{seed}.png' if seed % 7 else ''}")
    (folder / "cases.csv").write_text("\n".join(lines))
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=1, diagnose=False)
    data = DataConfig(data=folder / "cases.csv", cache=cases)
    train("dual-gan", tmp_path / "run", configured("dual-gan"), data, options)
    model = load(tmp_path / "run")
    made = model(seed=3)
    assert set(np.unique(made["vessels"].numpy())) <= {0, 1} and made["image"].channels == 3
    painted = load(tmp_path / "run")(folder / "vessels1.png", ability="restore").main
    assert painted.channels == 3 and painted.shape == (1, 64, 64)
