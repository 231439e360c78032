"""Context-aware landmarks: sizes of networks, targets and losses, schedule, read-out, and a run on a phantom."""

import json
import math

import numpy as np
import pytest
import torch
from highdicom.sr import srread
from small import count
from torch import nn

from dicom_kinds import write_cine
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.images.files import find
from ganatomy.inference.apply import Applier, plan
from ganatomy.losses.contours import contour_classes
from ganatomy.losses.heatmaps import gaussians
from ganatomy.methods.detection.dacal_landmarks import SIX, DacalLandmarks
from ganatomy.training.run import TrainConfig, train

TINY = {"size": (48, 32), "width": 2, "discriminator_width": 2, "batch_size": 2}
STAGES = ("landmarks", "contour", "game")


def dacal(preset="small", **values):
    torch.manual_seed(0)
    return DacalLandmarks(DacalLandmarks.Config.preset(preset, **{**(TINY if preset == "small" else {}), **values}))


def batch_of(method, seed=1):
    draw, (rows, columns) = torch.Generator().manual_seed(seed), method.size
    angles = 2 * torch.pi * torch.arange(6) / 6
    places = torch.stack([rows / 2 - 12 * torch.cos(angles), columns / 2 + 9 * torch.sin(angles)], 1)
    points = torch.cat([places + torch.rand(2, 6, 2, generator=draw), torch.ones(2, 6, 1)], 2)
    return {"us": torch.rand(2, 1, rows, columns, generator=draw), "border": points}


def turns_of(method, stage, batch=None):
    return list(method.stages()[stage].turns(iter([batch or batch_of(method)])))


def test_networks_have_the_sizes_of_six_landmarks():
    with torch.device("meta"):
        method = dacal("paper")
        contour = dacal("paper", discriminator_sees="contour", condition=False)
    assert count(method.network) == 8_633_741 and count(method.discriminator) == 2_802_593
    first = next(method.discriminator.parameters())
    assert first.shape[1] == 1 + 6 + 7 and next(contour.discriminator.parameters()).shape[1] == 7
    shapes = [tuple(made.shape) for made in method.network(torch.empty(1, 1, 256, 256, device="meta"))]
    assert shapes == [(1, 6, 256, 256), (1, 7, 256, 256)]


def test_maps_of_landmarks_are_cold_before_training():
    method = dacal("paper", size=(32, 32), width=4).eval()
    assert (method.network.head.bias[:6] == -4).all() and not method.network.head.bias[6:].any()


@pytest.mark.parametrize("stage", range(3))
def test_every_stage_adds_a_loss(stage):
    terms = ["landmarks", "contour", "adversarial"][: stage + 1]
    moves = [("network", terms)] if stage < 2 else [("discriminator", ["adversarial"]), ("network", terms)]
    assert [(turn.player, list(turn.losses)) for turn in turns_of(dacal(), stage)] == moves
    plain = [[turn.player for turn in turns_of(dacal(adversarial_weight=0.0), stage)], ["network"]]
    assert plain[0] == plain[1]
    lonely = turns_of(dacal(adversarial_weight=0.0, contour_weight=0.0), stage)
    assert [list(turn.losses) for turn in lonely] == [["landmarks"]]


def test_the_stages_have_the_shares_of_a_hundred_epochs():
    with torch.device("meta"):
        stages = dacal("paper").stages()
    total = sum(stage.rounds for stage in stages)
    assert [stage.name for stage in stages] == list(STAGES) and total == 100 * 4_000 // 16
    assert [stage.rounds / total for stage in stages] == [0.3, 0.3, 0.4]
    betas = [player.optimizer([nn.Parameter(torch.ones(1))]).defaults["betas"] for player in stages[2].players]
    assert betas == [(0.5, 0.999), (0.9, 0.999)]


def test_the_terms_are_those_of_the_maps():
    method = dacal(speckle=0.0, sigma=5.0, reach=2.0, contour_weight=1.0)
    batch = batch_of(method)
    logits = torch.zeros(2, 6, *method.size), torch.zeros(2, 7, *method.size)
    method.network = _Given(*logits)
    method.discriminator = _Score(0.5)
    judged, moved = turns_of(method, 2, batch)
    heat = gaussians(batch["border"], method.size, 5.0)
    want = ((1 + 50 * heat) * (0.5 - heat).square()).mean()
    assert moved.losses["landmarks"].item() == pytest.approx(want.item(), rel=1e-5)
    assert moved.losses["contour"].item() == pytest.approx(math.log(7), rel=1e-5)
    assert moved.losses["adversarial"].item() == pytest.approx(0.001 * math.log(1 + math.exp(-0.5)), rel=1e-4)
    assert judged.total.item() == pytest.approx(math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(0.5)), rel=1e-4)


class _Given(nn.Module):
    """A network with given maps."""

    def __init__(self, maps, outline):
        super().__init__()
        self.maps, self.outline = maps, outline

    def forward(self, image):
        return self.maps, self.outline


class _Score(nn.Module):
    """A discriminator with one score for everything."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, shown):
        return torch.full((len(shown), 1), self.score)


def test_the_discriminator_is_shown_softened_true_contours():
    method, shown = dacal(speckle=0.0), []
    method.discriminator.register_forward_hook(lambda module, given, made: shown.append(given[0]))
    batch = batch_of(method)
    turns_of(method, 2, batch)
    real, detached, fooled = shown
    frame, heat, outline = real.split([1, 6, 7], 1)
    torch.testing.assert_close(frame, batch["us"])
    torch.testing.assert_close(heat, gaussians(batch["border"], method.size, method.config.sigma))
    assert outline.unique().tolist() == pytest.approx([0.1 / 7, 0.9 + 0.1 / 7])
    classes = contour_classes(batch["border"], method.size, method.config.reach)
    assert torch.equal(outline.argmax(1), classes)
    assert not detached.requires_grad and fooled.requires_grad


def test_mirrored_frames_exchange_left_and_right():
    swaps = dacal().task.landmarks.swaps
    mirrored = [swaps.get(name, {other: one for one, other in swaps.items()}.get(name, name)) for name in SIX]
    assert mirrored == [SIX[-place % 6] for place in range(6)]
    assert dacal().stages()[0].stream.flips == (2,)


def test_an_image_without_a_landmark_teaches_no_contour():
    method = dacal(speckle=0.0)
    batch = batch_of(method)
    batch["border"][:, 2] = 0
    moved = turns_of(method, 1, batch)[0]
    assert moved.losses["contour"].item() == 0 and moved.losses["landmarks"].item() > 0


def test_positions_are_those_of_the_maps():
    method = dacal().eval()
    want = torch.tensor([[10.3, 7.6], [20.0, 25.0], [30.7, 4.4], [41.0, 9.0], [5.0, 5.0], [24.2, 16.9]])
    heat = gaussians(torch.cat([want, torch.ones(6, 1)], 1)[None], method.size, 1.6)
    method.network = _Given(torch.logit(heat.clamp(1e-6, 1 - 1e-6)), None)
    found = method.locate(torch.zeros(1, 1, *method.size))[0]
    assert (found[:, :2] - want).abs().max() < 0.15 and (found[:, 2] > 0.85).all()


def test_sizes_and_names_that_the_networks_cannot_take_are_refused():
    for size in ((48, 32, 32), None):
        with pytest.raises(UserError, match="--size: give rows and columns"):
            dacal(size=size)
    with pytest.raises(UserError, match="--size 40 32: LandmarkContourNet takes no input"):
        dacal(size=(40, 32)).check_sizes()
    with pytest.raises(UserError, match="--names: a contour needs at least 3 landmarks, not 2"):
        assert dacal(names=SIX[:2]).task
    with pytest.raises(UserError, match="--swaps: d is none of the landmarks a, b, c"):
        assert dacal(names=("a", "b", "c"), swaps={"a": "d"}).task


def test_a_run_finds_the_border_of_a_phantom_in_mm(cases, tmp_path):
    rounds = {"landmark_rounds": 2, "contour_rounds": 1, "game_rounds": 1}
    config = DacalLandmarks.Config.preset("small", **{**TINY, **rounds})
    data = DataConfig(phantom_subjects=5, phantom_size=48, cache=cases)
    options = TrainConfig(device="cpu", threads=1, validate_every=3, validation_slices=2, diagnose=False)
    train("dacal-landmarks", tmp_path / "run", config, data, options)
    found = evaluate(tmp_path / "run")
    rows = {row.method: row.scores for row in found.scores.rows}
    assert "mean positions" in rows and 0 <= rows["output"]["dice"] <= 1
    assert 0.7 < rows["mean positions"]["dice"] < 1 and np.isfinite(rows["output"]["error"])
    write_cine(tmp_path / "us.dcm", frames=3, rows=60, columns=48)
    (source,) = find(tmp_path / "us.dcm")
    (output,) = plan([source], tmp_path / "found")
    Applier(tmp_path / "run")({"us": source}, output)
    rows = (tmp_path / "found.csv").read_text().splitlines()
    assert rows[0] == "frame,name,x,y,z,certainty" and len(rows) == 1 + 3 * 6 and rows[7].startswith("2,anterior,")
    note = json.loads((tmp_path / "found.json").read_text())
    assert note["frames"] == 3 and note["frames per second"] > 0 and len(note["area in mm²"]) == 3
    assert len(srread(tmp_path / "found-report.dcm").content.get_planar_roi_measurement_groups()) == 18
    assert any(path.name.startswith("found-region") for path in tmp_path.iterdir())
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text()
    assert "The worst 4 of" in page and "Distances of all landmarks" in page and "nearest images" in page
