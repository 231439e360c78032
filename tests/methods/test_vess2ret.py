"""vess2ret: sizes, losses and blocks of its release, dropout off where the discriminator learns, and a whole run."""

import math

import numpy as np
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
from ganatomy.methods.synthesis.vess2ret import Vess2Ret
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (32, 64)
SMALL = {"size": SIZE, "levels": 4, "width": 4, "discriminator_widths": (4, 6), "steps": 1}


def painter(**values):
    return build("vess2ret", **{**SMALL, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    vessels = (torch.rand(2, 1, *SIZE, generator=draw) > 0.8).float()
    return {"vessels": vessels, "image": 2 * torch.rand(2, 3, *SIZE, generator=draw) - 1}


def undecided(method):
    """Let the discriminator give every patch the probability of one half."""
    nn.init.zeros_(method.discriminator[-1].weight)
    nn.init.zeros_(method.discriminator[-1].bias)
    return method


class Constant(nn.Module):
    """Painter whose photographs differ from the true ones by a constant."""

    def __init__(self, painted):
        super().__init__()
        self.painted = nn.Parameter(painted)

    def forward(self, vessels):
        return self.painted.atanh()


def test_networks_have_the_weights_and_extents_of_the_release():
    with torch.device("meta"):
        method = Vess2Ret(Vess2Ret.Config.preset())
        assert method.painter(torch.empty(1, 1, 512, 512)).shape == (1, 3, 512, 512)
        assert method.discriminator(torch.empty(1, 4, 512, 512)).shape == (1, 1, 16, 16)
    assert (count(method.painter), count(method.discriminator)) == (22_869_187, 391_009)


def test_a_game_of_100_epochs_of_614_pairs_has_60000_steps_of_both_players():
    c = Vess2Ret.Config.preset()
    blocks = 614 // c.steps
    assert blocks == 30 and blocks * 100 == c.game_rounds and c.game_rounds * c.steps == 60_000
    assert c.steps * blocks == 600


def test_rates_are_constant_and_those_of_the_release():
    with torch.device("meta"):
        (stage,) = Vess2Ret(Vess2Ret.Config.preset()).stages()
    for player in stage.players:
        assert player.schedule is None
        (group,) = player.optimizer([nn.Parameter(torch.zeros(1))]).param_groups
        assert (group["lr"], group["betas"], group["eps"]) == (2e-4, (0.5, 0.999), 1e-8)
    assert stage.stream.batch_size == 1 and stage.stream.flips == ()


def test_losses_of_an_undecided_discriminator():
    method, batch = undecided(painter()), batch_of()
    batch["image"] = 0.8 * batch["image"]
    method.painter = Constant(batch["image"] + 0.1)
    turns = list(method.turns(iter([batch] * 3)))
    assert [turn.player for turn in turns] == ["discriminator", "painter"]
    assert turns[0].total.item() == pytest.approx(math.log(2), abs=1e-6)
    assert turns[1].total.item() == pytest.approx(math.log(2) + 10, abs=1e-4)


def test_losses_are_the_cross_entropies_of_the_release_with_1_for_fake_and_0_for_real():
    method, batches = painter(dropout=0.0), [batch_of(seed) for seed in range(3)]
    first, second = list(method.turns(iter(batches)))

    def told(batch, photograph):
        pair = torch.cat([batch["vessels"], photograph], 1)
        return 1 - method.discriminator(pair).sigmoid()  # the release's output is the probability of a fake

    with torch.no_grad():
        painted = method.painter(batches[0]["vessels"]).tanh()
        fake, real = told(batches[0], painted), told(batches[1], batches[1]["image"])
        labels = torch.cat([torch.ones_like(fake), torch.zeros_like(real)])
        torch.testing.assert_close(first.total, binary_cross_entropy(torch.cat([fake, real]), labels))
        painted = method.painter(batches[2]["vessels"]).tanh()
        fake = told(batches[2], painted)
        wanted = binary_cross_entropy(fake, torch.zeros_like(fake)) + 100 * l1_loss(painted, batches[2]["image"])
        torch.testing.assert_close(second.total, wanted)


def test_players_move_in_blocks():
    method = painter(steps=3)
    drawn = iter([batch_of(seed) for seed in range(20)])
    assert [turn.player for turn in method.turns(drawn)] == ["discriminator"] * 3 + ["painter"] * 3
    assert len(list(drawn)) == 20 - 9, "a fake and a real pair in each step of the discriminator"


def test_dropout_is_off_where_the_discriminator_learns_and_at_inference_and_on_where_the_painter_does():
    method, batch = painter(dropout=0.5).train(), batch_of()
    modes = []
    method.painter.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    list(method.turns(iter([batch] * 3)))
    assert modes == [False, True] and method.painter.training
    method.inference_mode()
    assert torch.equal(method.restore(batch["vessels"]), method.restore(batch["vessels"]))


def test_a_photograph_does_not_depend_on_the_rest_of_its_batch_in_either_mode():
    method, vessels = painter(dropout=0.0), batch_of()["vessels"]
    for mode in (True, False):
        method.train(mode)
        torch.testing.assert_close(method.restore(vessels)[:1], method.restore(vessels[:1]), rtol=1e-4, atol=1e-5)


def test_information_passes_by_the_skips_alone_where_the_bottom_has_one_pixel():
    method, seen = painter(size=(32, 32)), []
    method.painter.down[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    maps = batch_of()["vessels"][:, :, :, :32]
    made = method.restore(maps)
    assert seen[0].shape[2:] == (1, 1) and torch.equal(seen[0][0], seen[0][1])
    assert not torch.allclose(made[0], made[1])


def test_the_baseline_is_the_same_painter_without_the_discriminator():
    method, base = painter(), painter(**Vess2Ret.Config.baseline)
    assert base.discriminator is None and count(base.painter) == count(method.painter)
    assert [list(turn.losses) for turn in base.turns(iter([batch_of()]))] == [["l1"]]


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="--levels 4: rows and columns must be multiples of 16"):
        painter(size=(40, 64))


def test_small_images_of_the_phantom_show_the_disc_where_vessels_are_thick_enough():
    whole, near = Vess2Ret.Config.preset(), Vess2Ret.Config.preset("small")
    with torch.device("meta"):
        grids = [Vess2Ret(config).task.phantom_grid(None) for config in (whole, near)]
    assert grids[0] == {"size": 512, "slices": 4}
    assert grids[1]["around_disc"] == pytest.approx(6.4)
    assert make("fundus", 3, **grids[1]).masks["vessels"].mean() > 0.03


def test_progress_does_not_change_weights_of_losses():
    method = painter(dropout=0.0)
    found = []
    for done in (0, 1500, 2999):
        method.progress = Progress(round=done, stage="game", stage_round=done, stage_rounds=3000)
        found.append([float(turn.total.detach()) for turn in method.turns(iter([batch_of()] * 3))])
    assert found[0] == found[1] == found[2]


def test_a_run_is_judged_and_paints_over_a_map_of_any_size_in_8_bits(cases, tmp_path):
    config = configured("vess2ret", width=4, discriminator_widths=(4, 6), steps=1)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    train("vess2ret", tmp_path / "run", config, DataConfig(phantom_subjects=12, cache=cases), options)
    rows = {row.method: row.scores for row in evaluate(tmp_path / "run").scores.rows}
    assert "psnr[window]" in rows["output"] and {"constant", "linear map"} <= set(rows)
    vessels = make("fundus", 7, size=90).masks["vessels"][:, :, :70]
    picture = tmp_path / "vessels.png"
    write(picture, Image.from_array(255 * vessels.astype(np.uint8)))
    found = load(tmp_path / "run")(picture).main
    assert found.channels == 3 and found.shape == (1, 90, 70) and found.dtype == np.uint8
    assert found.numpy().min() >= 0 and found.numpy().max() <= 255
