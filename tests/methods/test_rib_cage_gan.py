"""Rib Cage GAN: layers and sizes of the authors' code, the joint batch of its discriminator, its blocks of steps."""

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from small import Samples, build
from torch import nn
from torch.nn.functional import nll_loss

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.game import moves
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.inference.apply import Applier, Output
from ganatomy.inference.predictor import predictor_of
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.methods.segmentation.rib_cage_gan import RibCageGAN
from ganatomy.nets.ribcage import CellEstimator, PlainDiscriminator, RibCage
from ganatomy.phantoms import make, part
from ganatomy.training.run import TrainConfig, train


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def rib_cage(**values):
    return build("rib-cage-gan", **values)


def test_networks_have_the_parameters_of_the_authors_code():
    with torch.device("meta"):
        estimators = [CellEstimator(1, release=release) for release in ("2017", "2018")]
        paper, code = RibCage(1, 3, (236, 236)), RibCage(1, 3, (107, 107), release="2018")
    assert [count(one) for one in estimators] == [114_819, 143_491]
    layers = [count(layer) for layer in estimators[0] if isinstance(layer, nn.Conv2d)]
    assert layers == [1_312, 25_120, 51_264, 36_928, 195]
    assert (count(paper.ribs), count(paper)) == (65_872, 7_820_688)
    assert (count(code.ribs), count(code)) == (301_248, 6_535_424)
    assert (paper.score[0].in_features, code.score[0].in_features) == (144 * 29**2, 576 * 13**2)


def test_presets_are_built_as_their_releases():
    with torch.device("meta"):
        paper, code = (RibCageGAN(RibCageGAN.Config.preset(name)) for name in ("paper", "code"))
    assert (count(paper.estimator), count(paper.critic)) == (114_819, 7_820_688)
    assert count(code.estimator) == 143_491 and code.config.patch == 108
    norms = [layer for layer in paper.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and not any(layer.affine for layer in norms), "neither gain nor offset is trained"
    assert {(layer.eps, layer.momentum) for layer in norms} == {(1e-3, 1e-3)}
    (stage,) = paper.stages()
    assert [player.name for player in stage.players] == ["discriminator", "estimator"]
    for player in stage.players:
        optimiser = player.optimizer([nn.Parameter(torch.ones(1))])
        assert optimiser.defaults["alpha"] == 0.9 and optimiser.defaults["lr"] == 1e-3 and player.schedule is None
        assert player.ema_halflife is None
    averaged = {player.name: player.ema_halflife for player in rib_cage(ema_halflife=50.0).stages()[0].players}
    assert averaged == {"discriminator": None, "estimator": 50.0}


@pytest.mark.parametrize(
    ("release", "given", "made"),
    [("2017", (256, 256), (236, 236)), ("2017", (512, 640), (492, 620)), ("2018", (128, 128), (107, 107))],
)
def test_convolutions_without_padding_lose_twenty_pixels_or_one_more(release, given, made):
    with torch.device("meta"):
        assert CellEstimator(1, release=release)(torch.rand(2, 1, *given)).shape == (2, 3, *made)


def test_the_even_kernel_of_the_last_version_keeps_the_margin_of_ten_pixels():
    method = rib_cage(release="2018", statistics="running").inference_mode()
    with torch.no_grad():
        image = torch.rand(1, 1, 50, 61)
        assert method.segment(image).shape == (1, 3, 30, 41)
        torch.testing.assert_close(method.maps(image)[..., :-1, :-1], method.estimator(image))


def test_the_discriminator_pools_three_times_and_joins_all_streams():
    network, seen = RibCage(1, 3, (236, 236)), []
    for rib in network.ribs:
        rib.register_forward_hook(lambda module, given, made: seen.append([tuple(one.shape[1:]) for one in made]))
    with torch.no_grad():
        assert network(torch.rand(2, 1, 236, 236), torch.rand(2, 3, 236, 236)).shape == (2, 1)
    assert seen == [
        [(8, 118, 118), (8, 118, 118), (20, 118, 118)],
        [(16, 59, 59), (16, 59, 59), (40, 59, 59)],
        [(32, 29, 29), (32, 29, 29), (80, 29, 29)],
    ]


def test_the_plain_discriminator_is_like_vgg_16():
    with torch.device("meta"):
        plain = PlainDiscriminator(1, 3, (96, 96))
    widths = [layer.out_channels for layer in plain.layers if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 256, 256, 256, 256]
    assert [layer.out_features for layer in plain.layers if isinstance(layer, nn.Linear)] == [4096, 4096, 1]
    method = rib_cage(discriminator="plain")
    assert {
        turn.player for move in moves(method.stages()[0].turns(Samples(method, method.stages()[0]))) for turn in move
    }


class Fixed(nn.Module):
    """A discriminator with fixed scores: 0.5 for true segmentations and -0.2 for predicted ones."""

    def forward(self, image, regions):
        rows = len(image) // 2
        return torch.cat([torch.full((rows, 1), 0.5), torch.full((rows, 1), -0.2)])


def test_losses_are_means_over_true_and_predicted_segmentations_together():
    method = rib_cage(entropy_fraction=0.25)
    method.critic = Fixed()
    (stage,) = method.stages()
    turns = [turn for move in moves(stage.turns(Samples(method, stage))) for turn in move]
    first, last = turns[0], turns[-1]
    assert first.losses["adversarial"].item() == pytest.approx(0.536108, abs=1e-6)
    assert last.losses["adversarial"].item() == pytest.approx(0.75 * 0.886108, abs=1e-6)


def test_the_entropy_is_of_logits_and_not_of_probabilities():
    probabilities = torch.tensor([0.7, 0.2, 0.1])
    logits, truth = probabilities.log()[None, :, None, None], torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    assert cross_entropy(logits, truth).item() == pytest.approx(0.356675, abs=1e-6)
    twice = nll_loss(probabilities[None].log_softmax(1), torch.tensor([0]))
    assert twice.item() == pytest.approx(0.767950, abs=1e-6), "what the authors' code has"


def test_rounds_are_blocks_of_ten_and_forty_steps_on_fresh_batches():
    method = rib_cage(discriminator_steps=10, estimator_steps=40)
    (stage,) = method.stages()
    samples = Samples(method, stage)
    players = [turn.player for move in moves(stage.turns(samples)) for turn in move]
    assert players == ["discriminator"] * 10 + ["estimator"] * 40 and samples.drawn == 50
    paper = RibCageGAN.Config()
    assert (paper.discriminator_steps, paper.estimator_steps, paper.batch_size, paper.patch) == (10, 40, 70, 236)


def test_the_adversarial_share_ascends_with_the_updates_of_both_players():
    method = rib_cage(ascent=1000.0, discriminator_steps=1, estimator_steps=2)
    method.progress.stage_round = 333
    assert method.adversarial_share(0) == pytest.approx(0.632121, abs=1e-6)
    method.progress.stage_round = 1666
    assert method.adversarial_share(1) == pytest.approx(0.993262, abs=1e-6)
    assert rib_cage().adversarial_share(0) == 1 and rib_cage(critics=False).adversarial_share(3) == 0


def test_no_output_is_compared_with_the_truth_of_its_own_image():
    method = rib_cage()
    (stage,) = method.stages()
    assert [stream.roles for stream in stage.streams] == [("image", "cells"), ("image",)]
    examples, images = stage.streams
    assert examples.margin == images.margin == (0, 10, 10) and examples.wide >= {"image", "cells"}
    turns = [turn for move in moves(stage.turns(Samples(method, stage))) for turn in move]
    assert {name for turn in turns for name in turn.losses} == {"adversarial"}


def test_the_baseline_is_the_same_estimator_with_cross_entropy():
    method, base = rib_cage(), rib_cage(**RibCageGAN.Config.baseline)
    assert base.critic is None and not base.adversarial and count(base.estimator) == count(method.estimator)
    (stage,) = base.stages()
    (first, *_) = (turn for move in moves(stage.turns(Samples(base, stage))) for turn in move)
    batch = next(Samples(base, stage))["examples"]
    want = cross_entropy(base.maps(base.image(batch)), base.inner_truth(batch))
    assert list(first.losses) == ["entropy"]
    torch.testing.assert_close(first.total, want)


def test_an_image_is_normalised_by_its_own_statistics_or_by_running_averages():
    image = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    image[1] = 3 * image[1] + 1
    own, running = (rib_cage(statistics=kind) for kind in ("image", "running"))
    running.load_state_dict(own.state_dict())
    with torch.no_grad():
        trained = own.train().maps(image[:1])
        alone = own.inference_mode().maps(image)
        averaged = running.inference_mode().maps(image)
    torch.testing.assert_close(alone[:1], trained, rtol=1e-3, atol=1e-3)
    assert (averaged - alone).abs().max() > 0.1, "averages of untrained networks are those of nothing"


def test_a_frame_larger_than_a_tile_of_others_is_normalised_as_a_whole():
    method = rib_cage().inference_mode()
    image = np.random.default_rng(0).normal(size=(1, 1, 150, 530)).astype(np.float32)
    image[..., :80] += 2
    tiler = predictor_of(method).tiled("segment")
    made = tiler(lambda start, stop: image[:, start:stop], (1, 150, 530), 0, 1)
    wide = np.pad(image[0, 0], 10, mode="reflect")
    with torch.no_grad():
        whole = method.segment(torch.from_numpy(wide)[None, None])[0].numpy()
    np.testing.assert_allclose(made[:, 0], whole, atol=1e-5)


def test_cells_are_components_of_the_interior_enlarged_by_their_edge():
    method = rib_cage(objects={"smallest": 4, "grow": 1}, roles={"inputs": {"scale": "window", "window": (0.0, 1.0)}})
    method.maps = lambda image: 20 * method.task.target_maps[..., : image.shape[2] - 20, : image.shape[3] - 20]
    frame = make("fluorescent-cells", 4, size=96)
    truth = frame.instances["cells"]
    inside = method.task.target.indicators(truth[None])[:, 0]
    method.task.target_maps = torch.from_numpy(inside)[None]
    image = part(frame, "image")
    found = predictor_of(method).predict(method.task.frame({"image": image.with_array(image.numpy() / 500)}))
    numbers = found["cells"].numpy()[0]
    scores = method.task.scores({"cells": numbers}, {"cells": truth}, (1.0, 1.0, 1.0))
    assert scores["dice"] > 0.95 and scores["object f1"] > 0.9


def test_what_leaves_nothing_to_the_adversary_is_refused():
    with pytest.raises(UserError, match="--entropy-fraction 1: nothing is left of the adversary"):
        rib_cage(entropy_fraction=1.0)
    with pytest.raises(UserError, match="--patch 6: the discriminator needs at least 8 rows and columns"):
        rib_cage(patch=6, critics=False).check_sizes()


@pytest.fixture(scope="module")
def run(cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("cells") / "run"
    tiny = {"width": 2, "discriminator_width": 2, "discriminator_steps": 1, "estimator_steps": 2, "batch_size": 2}
    config = RibCageGAN.Config.preset("small", **tiny, patch=24, objects={"smallest": 4, "grow": 1})
    options = TrainConfig(rounds=3, device="cpu", threads=1, validate_every=3, validation_slices=2, diagnose=False)
    train("rib-cage-gan", out, config, DataConfig(phantom_subjects=4, phantom_size=72, cache=cases), options)
    return out


def test_a_run_is_judged_by_its_cells_beside_otsu_and_watershed(run):
    found = evaluate(run)
    rows = found.scores.rows
    assert {"threshold", "output", "otsu + watershed"} == {row.method for row in rows}
    assert max(row.scores["object f1"] for row in rows if row.method == "otsu + watershed") > 0.05
    assert found.leading[0] == "object f1" and {"glas f1", "object hausdorff", "dice"} <= set(rows[0].scores)
    assert "All objects together" in (run / "evaluation" / "report.html").read_text()


def test_a_frame_becomes_a_picture_of_numbers_with_a_table_of_cells(run, tmp_path):
    values = make("fluorescent-cells", 7, size=60).image.numpy()[0, ..., :50]
    write(tmp_path / "frame.png", Image.from_array(np.rint(values).astype(np.uint16)))
    (source,), out = find(tmp_path / "frame.png"), tmp_path / "cells.png"
    Applier(run, options={"smallest": 1, "grow": 0, "threshold": 0.3})({"image": source}, Output(out, "png"))
    picture = Pillow.open(out)
    numbers = np.asarray(picture)
    assert picture.size == (50, 60) and set(np.unique(numbers)) == set(range(numbers.max() + 1)) and numbers.max() > 0
    (table,) = tmp_path.glob("cells*objects*.csv")
    lines = table.read_text().splitlines()
    assert lines[0].startswith("object,voxels,mm2") and len(lines) == 1 + numbers.max()
    assert sum(int(line.split(",")[1]) for line in lines[1:]) == np.count_nonzero(numbers)
