"""VoxelAtlasGAN: sizes, maps of the atlas, losses on fixed numbers, and a run on a phantom."""

import numpy as np
import pytest
import torch
from test_di2in_an import round_of_stage
from test_segmentation import count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.inference.model import load
from ganatomy.methods.segmentation.voxel_atlas_gan import IMAGE, REGIONS, VoxelAtlasGAN
from ganatomy.training.run import TrainConfig, train

TINY = {"size": (32, 32, 32), "width": 1, "discriminator_width": 2, "batch_size": 2}


def voxel_atlas(preset="small", **values):
    torch.manual_seed(0)
    return VoxelAtlasGAN(VoxelAtlasGAN.Config.preset(preset, **{**TINY, **values}))


def batch_of(method, seed=1):
    draw, shape = torch.Generator().manual_seed(seed), (2, 1, *method.config.size)
    ventricle = torch.zeros(shape)
    ventricle[:, :, 8:20, 5:23, 12:22] = 1
    return {"echo": torch.rand(shape, generator=draw), "ventricle": ventricle}


def test_networks_have_the_numbers_of_parameters_of_a_v_net_of_16_to_256_channels():
    with torch.device("meta"):
        method = VoxelAtlasGAN(VoxelAtlasGAN.Config.preset("paper"))
    assert count(method.affine) == 34_444 and count(method.head) == 1_299
    assert count(method.network) + count(method.affine) + count(method.head) == 65_177_695
    assert count(method.discriminator) == 2_773_473
    assert method.discriminator(torch.empty(1, 2, 64, 64, 64, device="meta")).shape == (1, 1, 6, 6, 6)


def test_an_untrained_network_returns_the_atlas_as_it_is():
    method, image = voxel_atlas(), torch.rand(2, 1, 32, 32, 32)
    look, regions, field = method.generate(image)
    atlas = method.atlas(image)
    assert field.shape == (2, 3, 32, 32, 32)
    for warped, own in ((look, atlas[0]), (regions, atlas[1])):
        torch.testing.assert_close(warped, own, atol=1e-3, rtol=0)
    exact = method.generate(image, dense=False)
    torch.testing.assert_close(exact[1], atlas[1], atol=1e-6, rtol=0)
    assert exact[2] is None


def test_the_atlas_is_the_fitted_one_and_follows_the_size_of_the_image():
    method = voxel_atlas()
    mean = np.random.default_rng(0).random((1, 32, 32, 32), np.float32)
    method.fitted.keep({IMAGE: mean, REGIONS: mean > 0.5})
    look, _ = method.atlas(torch.zeros(3, 1, 32, 32, 32))
    assert look.shape == (3, 1, 32, 32, 32) and np.array_equal(look[2].numpy(), mean)
    small, _ = method.atlas(torch.zeros(1, 1, 11, 32, 21))
    assert small.shape == (1, 1, 11, 32, 21) and small[0, 0, 0, 0, 0] == mean[0, 0, 0, 0]
    assert small[0, 0, -1, -1, -1] == mean[0, -1, -1, -1]


def test_the_warm_up_has_neither_displacements_nor_discriminator():
    first, second = voxel_atlas().stages()
    assert [player.name for player in first.players] == ["generator"]
    assert [player.name for player in second.players] == ["discriminator", "generator"]
    method = voxel_atlas()
    turns = [(t.player, list(t.losses)) for t in round_of_affine(method, 0)]
    assert turns == [("generator", ["intensity", "label"])]
    turns = [(t.player, list(t.losses)) for t in round_of_affine(method, 1)]
    terms = ["intensity", "label", "smoothness", "adversarial"]
    assert turns == [("discriminator", ["adversarial"]), ("generator", terms)]
    assert round_of_affine(voxel_atlas(adversarial_weight=0), 1)[0].player == "generator"


def round_of_affine(method, stage):
    """Return the turns of a round without steps; not all parameters take part in the warm-up."""
    return list(method.stages()[stage].turns(iter([batch_of(method)])))


def test_what_is_learned_of_a_volume_does_not_depend_on_the_others_of_its_batch():
    method, images = voxel_atlas(), batch_of(voxel_atlas())["echo"]
    nn.init.normal_(method.affine[-1].weight, 0.0, 0.05)
    nn.init.normal_(method.head.weight, 0.0, 0.5)
    method.train()
    together = method.segment(images)
    alone = torch.cat([method.inference_mode().segment(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)
    assert (together[0] - together[1]).abs().max() > 1e-3
    plain = voxel_atlas(norm="batch")
    assert count(plain.network) == count(method.network)
    assert any(isinstance(layer, nn.BatchNorm3d) for layer in plain.network.modules())


def test_the_rates_and_weights_are_constant():
    paper = VoxelAtlasGAN.Config.preset("paper")
    weights = (paper.adversarial_weight, paper.intensity_weight, paper.label_weight, paper.smoothness_weight)
    assert weights == (1, 1, 100, 0.01)
    with torch.device("meta"):
        stages = VoxelAtlasGAN(paper).stages()
    for player in (*stages[0].players, *stages[1].players):
        made = player.optimizer([nn.Parameter(torch.ones(1))]).defaults
        assert made["lr"] == 2e-4 and made["betas"] == (0.5, 0.999) and player.schedule is None


def test_the_generator_is_paid_for_its_losses_by_their_weights():
    method, batch = voxel_atlas(volume_weight=3.0, label_loss="dice"), batch_of(voxel_atlas())
    look, regions, field = method.generate(batch["echo"])
    losses = method.guidance(batch, look, regions, field)
    truth = batch["ventricle"]
    overlap = 2 * (regions * truth).flatten(1).sum(1) / (regions.flatten(1).sum(1) + truth.flatten(1).sum(1))
    volumes = (regions.flatten(1).sum(1) - truth.flatten(1).sum(1)).abs() / truth.flatten(1).sum(1)
    assert losses["label"].item() == pytest.approx(100 * (1 - overlap).mean().item(), rel=1e-4)
    assert losses["volume"].item() == pytest.approx(3 * volumes.mean().item(), rel=1e-4)
    assert losses["intensity"].item() == pytest.approx((look - batch["echo"]).abs().mean().item())


def test_without_an_atlas_the_v_net_draws_the_regions_itself():
    method = voxel_atlas(guided=False)
    assert method.affine is None and method.network.begin[0].in_channels == 1
    with torch.no_grad():
        made = method.inference_mode().segment(torch.rand(1, 1, 32, 16, 24))
    assert made.shape == (1, 1, 32, 16, 24) and 0 < made.min() < made.max() < 1
    turns = [(t.player, list(t.losses)) for t in round_of_affine(voxel_atlas(guided=False), 1)]
    assert turns == [("discriminator", ["adversarial"]), ("generator", ["label", "adversarial"])]
    list(round_of_stage(voxel_atlas(guided=False).stages()[1], batch_of(method)))


def test_options_without_a_meaning_are_refused():
    for size in ((32, 32), None):
        with pytest.raises(UserError, match="--size: give slices, rows and columns"):
            voxel_atlas(size=size)
    with pytest.raises(UserError, match="no loss has a weight"):
        voxel_atlas(label_weight=0, intensity_weight=0, adversarial_weight=0)
    with pytest.raises(UserError, match="--size 16 16 16: PatchGAN takes no input"):
        voxel_atlas(size=(16, 16, 16)).check_sizes()
    with pytest.raises(UserError, match="--size 16 16 9: one voxel is left after 4 halvings"):
        voxel_atlas(size=(16, 16, 9), adversarial_weight=0).check_sizes()
    for fine in ({"size": (16, 16, 17)}, {"size": (16, 16, 9), "norm": "batch"}):
        voxel_atlas(adversarial_weight=0, **fine).check_sizes()


def test_a_run_keeps_its_atlas_and_is_judged_by_both_frames_of_every_heart(cases, tmp_path):
    config = VoxelAtlasGAN.Config.preset("small", **{**TINY, "warm_up_rounds": 2, "game_rounds": 2})
    data = DataConfig(phantom_subjects=4, phantom_size=32, cache=cases)
    options = TrainConfig(device="cpu", threads=1, validate_every=4, validation_slices=2, diagnose=False)
    train("voxel-atlas-gan", tmp_path / "run", config, data, options)
    numbers = load(tmp_path / "run", device="cpu").method.fitted.numbers
    regions = numbers[REGIONS]
    assert numbers[IMAGE].shape == regions.shape == (1, 32, 32, 32)
    assert regions.max() > 0.9 and ((regions > 0.1) & (regions < 0.9)).any(), "hearts differ"
    found = evaluate(tmp_path / "run")
    rows = [row for row in found.scores.rows if row.method == "output" and "dice" in row.scores]
    assert len(rows) % 2 == 0 and len({row.subject for row in rows}) == len(rows) / 2
    assert np.mean([row.scores["dice"] for row in rows]) > 0.5, "even the atlas as it is lies over the ventricle"
    hearts = [row.scores for row in found.scores.rows if "true ejection fraction" in row.scores]
    assert hearts and all(20 < one["true ejection fraction"] < 75 for one in hearts)
