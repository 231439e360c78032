"""Unpaired MR-to-CT: the networks of CycleGAN on shifted sagittal slices, its losses, and the comparison with pairs."""

import copy

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import l1_loss

from ganatomy.data.cases import DataConfig
from ganatomy.game import Progress, moves
from ganatomy.inference.model import load
from ganatomy.methods.synthesis.unpaired_mr2ct import UnpairedMR2CT
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (16, 24)


def system(**values):
    return build("unpaired-mr2ct", **{"size": SIZE, "width": 4, "discriminator_width": 4, "jitter": 0, **values})


def drawn(seed=1, rows=2):
    draw = torch.Generator().manual_seed(seed)
    t1, ct = (2 * torch.rand(rows, 1, *SIZE, generator=draw) - 1 for _ in range(2))
    return t1, ct


def batch_of(seed=1):
    t1, ct = drawn(seed)
    return {"source": {"t1": t1}, "target": {"ct": ct}}


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return UnpairedMR2CT(UnpairedMR2CT.Config.preset())


def test_networks_have_the_published_numbers_of_parameters(paper):
    assert count(paper.to_target) == count(paper.to_source) == 11_365_633
    # The published discriminator also has biases before instance norms, which have no effect.
    without_effect = 128 + 256 + 512
    assert count(paper.discriminator_source) == count(paper.discriminator_target) == 2_762_689 - without_effect


def test_maps_of_the_generator_and_of_scores_have_the_published_sizes(paper):
    seen = []
    for layer in paper.to_target:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    assert paper.to_target(torch.empty(1, 1, 256, 256, device="meta")).shape == (1, 1, 256, 256)
    sizes = list(dict.fromkeys(seen))
    assert sizes[:4] == [(64, 256, 256), (128, 128, 128), (256, 64, 64), (1, 256, 256)]
    assert paper.discriminator_target(torch.empty(1, 1, 256, 256, device="meta")).shape == (1, 1, 30, 30)
    field = 1
    for layer in reversed([one for one in paper.discriminator_target if isinstance(one, nn.Conv2d)]):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


def test_instance_norms_learn_nothing_and_keep_no_averages(paper):
    norms = [one for one in paper.modules() if isinstance(one, nn.InstanceNorm2d)]
    assert norms and not any(one.affine or one.track_running_stats for one in norms)


def test_there_is_no_identity_loss_and_the_cycle_weighs_ten(paper):
    c = paper.config
    assert (c.identity_weight, c.cycle_weight, c.pool, c.betas, c.learning_rate) == (0, 10, 50, (0.5, 0.999), 2e-4)
    assert c.game_rounds == 200 * 18 * 183
    method = system(cycle_weight=10.0)
    terms = next(iter(method.turns(iter([batch_of()])))).losses
    assert set(terms) == {"cycle source", "cycle target", "adversarial source", "adversarial target"}
    for generator, bias in ((method.to_target, 0.1), (method.to_source, 0.2)):
        for parameter in generator.parameters():
            nn.init.zeros_(parameter)
        nn.init.constant_(generator[-2].bias, float(np.arctanh(bias)))
    level = torch.zeros(2, 1, *SIZE)
    batch = {"source": {"t1": level + 0.1}, "target": {"ct": level + 0.3}}
    terms = next(iter(method.turns(iter([batch])))).losses
    # Mean absolute differences of 0.1 and 0.2.
    total = terms["cycle source"] + terms["cycle target"]
    assert total.item() == pytest.approx(3.0, abs=1e-4)


def test_games_are_of_least_squares_over_the_map_of_scores():
    method = system(batch_size=1, pool=0)
    for place, value in ((method.discriminator_source, 0.8), (method.discriminator_target, 0.8)):
        nn.init.zeros_(place[-1].weight)
        nn.init.constant_(place[-1].bias, value)
    (first,), second = moves(method.turns(iter([batch_of()])))
    assert first.losses["adversarial target"].item() == pytest.approx((0.8 - 1) ** 2, abs=1e-6)
    # With scores of 0.8 for all, half of 0.2² and 0.8².
    assert [turn.total.item() for turn in second] == pytest.approx([0.5 * (0.04 + 0.64)] * 2, abs=1e-6)
    scores = torch.tensor([0.0, 2.0])
    mean_of_squares = ((scores - 1) ** 2).mean()
    assert mean_of_squares.item() == 1 != ((scores.mean() - 1) ** 2).item()


def test_rates_stay_for_half_of_the_training_and_fall_to_zero():
    (stage,) = UnpairedMR2CT(UnpairedMR2CT.Config.preset(width=1, blocks=1, discriminator_width=1)).stages()
    rates = []
    for epoch in (1, 150, 200):
        progress = Progress(stage_round=(epoch - 1) * 3294 + 3293, stage_rounds=stage.rounds)
        rates.append(2e-4 * stage.players[0].schedule(progress))
    assert rates[0] == 2e-4
    # The published code changes the rate once an epoch, in 101 steps.
    assert rates[1:] == pytest.approx([1.010e-4, 1.98e-6], abs=2e-6)


def test_ct_is_read_from_minus_600_to_1400_hu_and_slices_are_sagittal():
    method = system()
    role = method.task.roles["ct"]
    found = role.encoded(np.array([-600.0, 400.0, 1400.0, 3000.0, -1000.0])[None, None, None])
    assert found.ravel().tolist() == pytest.approx([-1, 0, 1, 1, -1])
    assert role.decoded(np.zeros((1, 1, 1, 1), np.float32)).item() == pytest.approx(400)
    assert method.task.preparation.plane == "sagittal"


def test_slices_shift_in_background_and_keep_their_size():
    method = system(jitter=6)
    bright = torch.ones(40, 1, *SIZE)
    (moved,) = method.jittered(bright)
    assert moved.shape == bright.shape and moved.unique().tolist() == [-1, 1]
    rows = (moved == 1).any(3).sum(2).ravel()
    assert rows.min() == SIZE[0] - 3 and rows.max() == SIZE[0]
    first, second = method.jittered(bright[:4], bright[:4])
    assert torch.equal(first, second)


def test_the_comparison_learns_pairs_by_their_difference_and_the_discriminator_of_ct():
    method = system(from_pairs=True, l1_weight=3.0)
    assert method.task.groups == () and not hasattr(method, "to_source")
    (stage,) = method.stages()
    assert [player.name for player in stage.players] == ["generator", "discriminator target"]
    t1, ct = drawn()
    (generator,), (discriminator,) = moves(stage.turns(iter([{"t1": t1, "ct": ct}])))
    made = method.restore(t1)
    torch.testing.assert_close(generator.losses["l1"], 3 * l1_loss(made, ct))
    scores = method.discriminator_target(made)
    torch.testing.assert_close(generator.losses["adversarial"], (scores - 1).square().mean())
    torch.testing.assert_close(discriminator.scores["real"], method.discriminator_target(ct))
    assert count(system().to_target) == count(method.to_target)
    base = system(from_pairs=True, adversarial_weight=0.0)
    assert [list(turn.losses) for turn in base.stages()[0].turns(iter([{"t1": t1, "ct": ct}]))] == [["l1"]]


class Reference(nn.Module):
    """The published ResNet generator, written independently: layers are numbered as there, and blocks apart."""

    def __init__(self, width, blocks, strided):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(1, width, 7)])
        self.convolutions += [nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 3, 2, 1) for i in range(strided)]
        wide = width * 2**strided
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Conv2d(wide, wide, 3) for _ in range(2)) for _ in range(blocks))
        self.transposed = nn.ModuleList(
            nn.ConvTranspose2d(width * 2**i, width * 2 ** (i - 1), 3, 2, 1, 1) for i in range(strided, 0, -1)
        )
        self.last = nn.Conv2d(width, 1, 7)

    def forward(self, image):
        def normed(values):
            mean, spread = values.mean((2, 3), keepdim=True), values.var((2, 3), keepdim=True, unbiased=False)
            return (values - mean) / (spread + 1e-5).sqrt()

        mirrored = nn.functional.pad(image, (3,) * 4, mode="reflect")
        image = normed(self.convolutions[0](mirrored)).clamp(min=0)
        for layer in self.convolutions[1:]:
            image = normed(layer(image)).clamp(min=0)
        for first, second in self.blocks:
            inner = normed(first(nn.functional.pad(image, (1,) * 4, mode="reflect"))).clamp(min=0)
            image = image + normed(second(nn.functional.pad(inner, (1,) * 4, mode="reflect")))
        for layer in self.transposed:
            image = normed(layer(image)).clamp(min=0)
        return self.last(nn.functional.pad(image, (3,) * 4, mode="reflect")).tanh()


def test_the_generator_equals_an_independent_statement_of_the_published_one():
    ours = system(strided=2, blocks=2).to_target
    theirs = Reference(4, 2, 2)
    copied = [one for one in ours.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]
    wanted = [*theirs.convolutions, *(one for block in theirs.blocks for one in block), *theirs.transposed, theirs.last]
    for mine, other in zip(copied, wanted, strict=True):
        other.load_state_dict(copy.deepcopy(mine.state_dict()))
    image = drawn()[0]
    torch.testing.assert_close(theirs(image), ours(image), rtol=1e-4, atol=1e-5)


def test_a_run_makes_ct_in_hu_on_the_grid_of_the_mr_volume(cases, tmp_path):
    config = configured("unpaired-mr2ct", size=(16, 32), width=4, discriminator_width=4, jitter=2)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=6, phantom_size=32, cache=cases)
    train("unpaired-mr2ct", tmp_path / "run", config, data, options)
    image = make("head-mr-ct", 77, size=32, slices=16, distance_mm=7.5).images["t1"]
    (made,) = load(tmp_path / "run")(image).outputs.values()
    assert made.shape == image.shape and made.unit == "HU" and np.allclose(made.affine, image.affine)
    assert made.numpy().min() >= -600 and made.numpy().max() <= 1400
