"""Sketcher and refiner: their networks, games, regions, and sketches of subjects that a sketcher has not seen."""

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import l1_loss, softplus

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.inference.model import load
from ganatomy.losses.regional import regional_l1
from ganatomy.methods.synthesis.sketcher_refiner import SketcherRefiner
from ganatomy.nets.transposed_unet import TransposedUNet
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (16, 16, 16)
MAPS = ("mtr", "fa", "rd", "ad")


def system(**values):
    return build("sketcher-refiner", **{"size": SIZE, "widths": (4, 8), "discriminator_width": 4, **values})


def batch_of(seed=1, rows=2):
    draw = torch.Generator().manual_seed(seed)
    regions = torch.zeros(rows, 4, *SIZE)
    regions[:, 3] = 1
    for place, part in enumerate((slice(0, 2), slice(2, 6), slice(6, 12))):
        regions[:, 3, part], regions[:, place, part] = 0, 1
    images = {name: torch.rand(rows, 1, *SIZE, generator=draw) for name in (*MAPS, "dvr", "sketch")}
    return {**images, "regions": regions}


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return SketcherRefiner(SketcherRefiner.Config.preset())


def test_networks_have_the_numbers_of_parameters_of_the_configuration(paper):
    assert count(paper.sketchers[0]) == 5_605_121 and count(paper.refiner) == 5_605_985
    assert count(paper.sketch_critics[0]) == count(paper.refine_critic) == 2_659_521
    with torch.device("meta"):
        assert [count(TransposedUNet(maps, 1, (4, 8, 16, 32))) for maps in (4, 5)] == [88_449, 88_557]


def test_maps_have_the_sizes_of_the_configuration(paper):
    seen, sketcher = [], paper.sketchers[0]
    for level in (*sketcher.down, *sketcher.up):
        level.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    assert sketcher(torch.empty(1, 4, *paper.config.size, device="meta")).shape == (1, 1, 128, 160, 128)
    down = [(32, 128, 160, 128), (64, 64, 80, 64), (128, 32, 40, 32), (256, 16, 20, 16)]
    assert seen == [*down, *down[-2::-1]]
    for side, scores in (((32, 32, 32), (3, 3, 3)), ((128, 160, 128), (15, 19, 15))):
        assert paper.refine_critic(torch.empty(1, 5, *side, device="meta")).shape == (1, 1, *scores)


def test_scores_are_of_46_voxels_and_two_layers_are_normalised(paper):
    field = 1
    for layer in reversed([one for one in paper.refine_critic if isinstance(one, nn.Conv3d)]):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 46
    norms = [one for one in paper.refine_critic if isinstance(one, nn.InstanceNorm3d)]
    assert [norm.num_features for norm in norms] == [128, 256] and all(norm.affine for norm in norms)
    assert not any(norm.track_running_stats for norm in paper.modules() if isinstance(norm, nn.InstanceNorm3d))


def test_rates_are_halved_after_each_quarter(paper):
    schedule = paper.stages()[0].players[0].schedule
    rates = [5e-4 * schedule(Progress(stage_round=epoch, stage_rounds=200)) for epoch in (0, 49, 50, 75, 199)]
    assert rates == pytest.approx([5e-4, 5e-4, 2.5e-4, 2.5e-4, 6.25e-5])


def test_the_sketcher_comes_first_and_is_frozen_while_the_refiner_learns():
    method = system()
    first, second = method.stages()
    assert (first.name, second.name) == ("sketcher", "refiner") and not first.validated and second.validated
    owned = {id(one) for player in second.players for one in player.parameters()}
    assert not owned & {id(one) for one in method.sketchers.parameters()}
    assert "regions" not in first.stream.roles and {"regions", "sketch"} <= set(second.stream.roles)


def test_games_are_of_maps_and_pet_and_the_losses_those_of_the_paper():
    method, batch, seen = system(), batch_of(), []
    sketching, refining = method.stages()
    for critic in (method.sketch_critics[0], method.refine_critic):
        critic.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    told, made = sketching.turns(iter([batch]))
    maps = torch.cat([batch[name] for name in MAPS], 1)
    sketch = method.sketchers[0](maps)
    assert all(torch.equal(one[:, :4], maps) for one in seen) and torch.equal(seen[0][:, 4:], batch["dvr"])
    torch.testing.assert_close(made.losses["l1"], 100 * l1_loss(sketch, batch["dvr"]))
    real, fake = (method.sketch_critics[0](torch.cat([maps, pet], 1)) for pet in (batch["dvr"], sketch))
    torch.testing.assert_close(told.total, 0.5 * (softplus(-real).mean() + softplus(fake).mean()))
    torch.testing.assert_close(made.losses["adversarial"], softplus(-fake).mean())
    _, refined = refining.turns(iter([batch]))
    output = method.refiner(torch.cat([maps, batch["sketch"]], 1))
    wanted = 100 * regional_l1(output, batch["dvr"], batch["regions"], (1, 1, 1, 1))
    torch.testing.assert_close(refined.losses["regions"], wanted)
    assert not torch.equal(seen[-1][:, 4:], batch["sketch"])


def test_the_result_is_refined_from_maps_and_sketch_and_needs_no_regions():
    method, batch = system().inference_mode(), batch_of()
    maps = torch.cat([batch[name] for name in MAPS], 1)
    with torch.no_grad():
        sketch = method.sketchers[-1](maps)
        torch.testing.assert_close(method.restore(maps), method.refiner(torch.cat([maps, sketch], 1)))
        torch.testing.assert_close(method.sketched(batch), sketch)
    assert "regions" not in method.inputs and method.task.roles["regions"].optional


def test_sketches_of_a_fold_are_made_by_the_sketcher_that_has_not_seen_it():
    method, batch = system(sketch_folds=3), batch_of()
    stages = method.stages()
    assert [stage.name for stage in stages[:-1]] == [*(f"sketcher of fold {n}" for n in (1, 2, 3)), "sketcher"]
    assert [stage.stream.fold for stage in stages] == [(0, 3), (1, 3), (2, 3), None, None]
    derivation = stages[-1].derive["sketch"]
    assert derivation.folds == 3
    maps = torch.cat([batch[name] for name in MAPS], 1)
    for fold in range(3):
        torch.testing.assert_close(derivation.function(batch, fold=fold), method.sketchers[fold](maps))
        own = {id(one) for player in stages[fold].players for one in player.parameters()}
        assert {id(one) for one in method.sketchers[fold].parameters()} <= own
    with pytest.raises(UserError, match="--sketch-folds 1: give 2 or more"):
        system(sketch_folds=1)


def test_baselines_are_the_sketcher_alone_and_a_unet():
    alone, unet = system(refined=False), system(refined=False, adversarial_weight=0.0)
    batch = batch_of()
    assert [stage.name for stage in alone.stages()] == ["sketcher"] and alone.stages()[0].validated
    (turn,) = unet.stages()[0].turns(iter([batch]))
    assert list(turn.losses) == ["l1"]
    maps = torch.cat([batch[name] for name in MAPS], 1)
    torch.testing.assert_close(unet.restore(maps), unet.sketchers[0](maps))


def test_pet_is_in_its_own_unit_and_maps_are_standardised():
    roles = system().task.roles
    values = np.array([0.0, 1.5, 3.0])[None, None, None]
    assert roles["dvr"].encoded(values).ravel().tolist() == [-1, 0, 1]
    assert all(roles[name].adaptive for name in MAPS)


class Reference(nn.Module):
    """The U-Net of the configuration in two levels, written independently."""

    def __init__(self):
        super().__init__()
        shapes = ((4, 4), (4, 4), (4, 8), (8, 8), (8, 4), (4, 4))
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in shapes)
        self.gains = nn.ParameterList(torch.empty(2, b) for _, b in shapes)
        self.larger, self.head = nn.ConvTranspose3d(8, 4, 2, 2), nn.Conv3d(4, 1, 1)

    def forward(self, image):
        def step(place, values):
            values = self.convolutions[place](values)
            mean, spread = values.mean((2, 3, 4), keepdim=True), values.var((2, 3, 4), keepdim=True, unbiased=False)
            gain, shift = self.gains[place].reshape(2, 1, -1, 1, 1, 1)
            return ((values - mean) / (spread + 1e-5).sqrt() * gain + shift).clamp(min=0)

        fine = step(1, step(0, image))
        coarse = step(3, step(2, nn.functional.max_pool3d(fine, 2)))
        return self.head(step(5, step(4, torch.cat([fine, self.larger(coarse)], 1))))


def test_the_unet_equals_an_independent_statement():
    ours, theirs = system(dropout=0.0).sketchers[0], Reference()
    convolutions = [one for one in ours.modules() if isinstance(one, nn.Conv3d)]
    norms = [one for one in ours.modules() if isinstance(one, nn.InstanceNorm3d)]
    for mine, other in zip(convolutions, [*theirs.convolutions, theirs.head], strict=True):
        other.load_state_dict(mine.state_dict())
    with torch.no_grad():
        for mine, other in zip(norms, theirs.gains, strict=True):
            mine.weight.uniform_(0.5, 1.5), mine.bias.uniform_(-0.5, 0.5)
            other.copy_(torch.stack([mine.weight, mine.bias]))
    theirs.larger.load_state_dict(ours.larger[0].state_dict())
    image = torch.rand(2, 4, 8, 8, 8)
    torch.testing.assert_close(theirs(image), ours(image), rtol=1e-4, atol=1e-5)


def test_extents_that_are_no_multiples_are_padded_and_cropped():
    network = TransposedUNet(1, 2, (2, 4, 8)).eval()
    assert network(torch.rand(1, 1, 9, 14, 11)).shape == (1, 2, 9, 14, 11)


@pytest.mark.parametrize("folds", [0, 2])
def test_a_run_sketches_refines_and_makes_pet_of_four_maps(cases, tmp_path, folds):
    values = {"size": (8, 16, 16), "widths": (2, 4), "sketch_folds": folds, "adversarial_weight": 0.0}
    config = configured("sketcher-refiner", **values)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=8, phantom_size=16, cache=cases)
    train("sketcher-refiner", tmp_path / "run", config, data, options)
    sketches = list((tmp_path / "run" / "derived" / "refiner").glob("*/sketch.npy"))
    assert sketches and all(np.load(one).shape == (1, 24, 16, 16) for one in sketches)
    images = make("myelin-mr-pet", 77, size=16, slices=10).images
    made = load(tmp_path / "run")(**{name: images[name] for name in MAPS}).outputs["dvr"]
    assert made.shape == images["dvr"].shape and made.unit is None
