"""Btrfly Net: heat maps, energies, schedules, positions from two projections, and a run on a phantom."""

import numpy as np
import pytest
import torch
from test_segmentation import count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.game import Progress
from ganatomy.methods.segmentation.btrfly_net import NAMES, WEIGHTS, BtrflyNet, most_likely
from ganatomy.training.run import TrainConfig, train

TINY = {"size": (64, 16, 16), "width": 2, "discriminator_width": 2, "batch_size": 2}
VIEWS = ("sagittal", "coronal")


def btrfly(preset="small", **values):
    torch.manual_seed(0)
    return BtrflyNet(BtrflyNet.Config.preset(preset, **{**TINY, **values}))


def batch_of(method, seed=1):
    draw, size = torch.Generator().manual_seed(seed), method.config.size
    points = torch.rand(2, 24, 4, generator=draw) * torch.tensor([*(extent - 1.0 for extent in size), 1])
    points[..., 3] = (points[..., 3] > 0.3).float()
    return {"ct": 0.1 + torch.rand(2, 1, *size, generator=draw), "vertebrae": points}


def turns_of(method, batch=None):
    return list(method.stages()[0].turns(iter([batch or batch_of(method)])))


def test_the_paper_has_two_discriminators_and_a_network_of_two_arms():
    with torch.device("meta"):
        method = BtrflyNet(BtrflyNet.Config.preset("paper"))
    assert count(method.generator) == 53_161_138 and [count(one) for one in method.discriminators] == [36_816] * 2
    assert method.task.landmarks.points == NAMES and len(NAMES) == 24


def test_projections_keep_the_brightest_voxel():
    volume = torch.zeros(1, 1, 4, 5, 6)
    volume[0, 0, 1, 2, 3] = 0.7
    sagittal, coronal = btrfly().projections(volume)
    assert sagittal.shape == (1, 1, 4, 5) and coronal.shape == (1, 1, 4, 6)
    assert sagittal[0, 0, 1, 2] == coronal[0, 0, 1, 3] == pytest.approx(0.7)


def test_a_position_is_the_maximum_of_the_product_of_both_maps():
    sagittal = torch.tensor([[0.9, 0.1], [0.2, 0.5]]).reshape(1, 1, 2, 2)
    coronal = torch.tensor([[0.3, 0.2], [0.1, 0.8]]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(most_likely(sagittal, coronal)[0, 0], torch.tensor([1.0, 1.0, 1.0, 0.4]))
    draw = torch.Generator().manual_seed(0)
    sagittal, coronal = torch.rand(2, 3, 5, 4, generator=draw), torch.rand(2, 3, 5, 6, generator=draw)
    product = sagittal[..., :, None] * coronal[..., None, :]
    found = most_likely(sagittal, coronal)
    torch.testing.assert_close(found[..., 3], product.flatten(2).amax(2))
    for place, want in zip(found.reshape(-1, 4), product.reshape(-1, 5, 4, 6), strict=True):
        assert want[tuple(place[:3].long())] == want.max()


def test_a_round_moves_the_discriminators_and_then_the_network():
    energies = [f"{kind} {view}" for view in VIEWS for kind in ("real", "fake")]
    terms = [f"{kind} {view}" for view in VIEWS for kind in ("squared", "entropy", "energy")]
    assert [(turn.player, list(turn.losses)) for turn in turns_of(btrfly())] == [
        ("discriminator", energies),
        ("generator", terms),
    ]
    base = btrfly(**BtrflyNet.Config.baseline)
    assert not base.adversarial and btrfly().adversarial and count(base.generator) == count(btrfly().generator)
    assert [turn.player for turn in turns_of(base)] == ["generator"]


def test_energies_of_predictions_count_up_to_the_margin():
    method = btrfly(margin=2.0)
    for index, energies in enumerate(((10.0, 5.0), (10.0, 40.0))):
        method.discriminators = nn.ModuleList(_Given(*energies) for _ in VIEWS)
        method.energies.fill_(10.0)
        maps = torch.zeros(2, 25, 8, 8)
        losses = method.energy_losses([maps, maps], [maps + 1, maps + 1])
        assert losses["real sagittal"].item() == 10
        assert losses["fake coronal"].item() == (15, 0)[index]


class _Given(nn.Module):
    """A discriminator with a given energy for maps of 1, and another for maps of 0."""

    def __init__(self, real, fake):
        super().__init__()
        self.real, self.fake = real, fake

    def forward(self, maps):
        return torch.full((len(maps),), self.real if maps.mean() > 0.5 else self.fake)


def test_the_margin_follows_the_mean_energy_of_true_maps():
    method = btrfly()
    assert not method.energies.any()
    turns_of(method)
    first = method.energies.clone()
    assert (first > 0).all()
    turns_of(method, batch_of(method, 5))
    assert not torch.equal(first, method.energies)


def test_nothing_is_learned_where_the_projections_are_empty():
    method = btrfly(sigma_mm=2.0, dropout=0.0)
    batch = batch_of(method)
    batch["ct"][:, :, :20] = 0
    other = {**batch, "vertebrae": batch["vertebrae"].clone()}
    inside = other["vertebrae"][..., 0] < 5
    assert inside.any()
    other["vertebrae"][..., 3][inside] = 0
    one, two = (
        turns_of(copy, values)[1].losses
        for copy, values in ((btrfly(sigma_mm=2.0, dropout=0.0), batch), (method, other))
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-4)


def test_the_learning_rate_falls_by_a_quarter_to_a_fifth():
    with torch.device("meta"):
        method = BtrflyNet(BtrflyNet.Config.preset("paper"))
    rates = [1e-3 * method.rate(Progress(stage_round=at)) for at in (0, 9_999, 30_000, 60_000, 99_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 4.21875e-4, 2e-4, 2e-4])
    decays = [
        player.optimizer([nn.Parameter(torch.ones(1))]).defaults["weight_decay"]
        for player in method.stages()[0].players
    ]
    assert decays == [0, 1e-3]


def test_sizes_and_names_that_the_networks_cannot_take_are_refused():
    for size in ((64, 16, 24), (60, 16, 16), (16, 16), None):
        with pytest.raises(UserError, match="--size: give slices, rows and columns that are multiples of 8"):
            btrfly(size=size)
    with pytest.raises(UserError, match="--names: the discriminators need a multiple of 4 landmarks, not 3"):
        btrfly(names=NAMES[:3], parts={})
    assert btrfly(names=NAMES[:3], parts={}, adversarial_weight=0).discriminators is None


def test_a_run_finds_vertebrae_of_a_phantom_in_mm(cases, tmp_path):
    config = BtrflyNet.Config.preset("small", **{**TINY, "game_rounds": 3, "spacing": (10.0, 10.0, 10.0)})
    data = DataConfig(phantom_subjects=5, phantom_size=16, cache=cases)
    options = TrainConfig(device="cpu", threads=1, validate_every=3, validation_slices=2, diagnose=False)
    model = train("btrfly-net", tmp_path / "run", config, data, options)
    weights = model.method.fitted.numbers[WEIGHTS]
    assert weights.shape == (2, 25) and (weights[:, 0] < 0.2).all()
    found = evaluate(tmp_path / "run")
    rows = {row.method: row.scores for row in found.scores.rows}
    assert (
        set(rows) == {"mean positions", "nearest images", "output"} and 0 <= rows["output"]["identification rate"] <= 1
    )
    assert np.isfinite(rows["mean positions"]["error"])
    assert "Distances by landmark" in (tmp_path / "run" / "evaluation" / "report.html").read_text()
