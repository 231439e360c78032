"""Optic disc and cup: numbers of the networks, values of the losses, and what the variants show their adversary."""

import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.methods.segmentation.resunet_cgan_odoc import OpticDiscCGAN
from ganatomy.metrics.segmentation import Overlap
from ganatomy.nets.patchgan import PatchGAN
from ganatomy.nets.resunet import preactivated
from ganatomy.phantoms import make

TINY = {"widths": (4, 6, 8), "critic_width": 3, "size": (48, 64), "loss": "l1"}


def odoc(preset="small", **values):
    torch.manual_seed(0)
    return OpticDiscCGAN(OpticDiscCGAN.Config.preset(preset, **{**TINY, **values}))


def batch_of(count=2, size=(48, 64), seed=1):
    """Return pictures, and maps of three classes."""
    draw = torch.Generator().manual_seed(seed)
    classes = torch.zeros(count, *size, dtype=torch.long)
    classes[:, 10:40, 15:50] = 1
    classes[:, 20:35, 25:40] = 2
    one_hot = nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    return {"image": torch.rand(count, 3, *size, generator=draw), "disc_cup": one_hot}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_networks_have_the_numbers_of_parameters_of_the_catalogue():
    with torch.device("meta"):
        method = OpticDiscCGAN(OpticDiscCGAN.Config.preset())
        assert count(method.generator) == 34_997_571 and count(method.discriminator) == 2_768_705
        assert method.generator(torch.empty(1, 3, 256, 256)).shape == (1, 3, 256, 256)
        assert method.discriminator(torch.empty(1, 6, 256, 256)).shape == (1, 1, 30, 30)


def test_residual_blocks_have_a_shortcut_where_widths_differ():
    same, wider = preactivated(4, 4), preactivated(4, 6)
    assert isinstance(same.shortcut, nn.Identity) and wider.shortcut.kernel_size == (1, 1)
    with torch.no_grad():
        for parameter in same.branch.parameters():
            parameter.zero_()
    features = torch.randn(1, 4, 5, 7)
    torch.testing.assert_close(same(features), features)


def test_losses_are_those_of_the_catalogue():
    method = odoc()
    maps = torch.tensor([-0.6, -0.2, 0.2, 0.6]).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)
    truth = torch.tensor([0.0, 0, 1, 1]).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)
    method.logits = lambda image: maps.atanh()
    given = iter([0.5, -0.2, -0.2])
    method.score = lambda image, shown: torch.full((1, 1, 2, 2), next(given))
    batch = {"image": torch.rand(1, 3, 2, 2), "disc_cup": truth}
    discriminator, generator = method.turns(iter([batch]))
    assert discriminator.total.item() == pytest.approx(0.536108, abs=1e-6)
    assert generator.losses["adversarial"].item() == pytest.approx(0.798139, abs=1e-6)
    assert generator.total.item() == pytest.approx(60.798139, abs=1e-4)


@pytest.mark.parametrize(("iou", "dice"), [(0.89, 0.941799), (0.76, 0.863636)])
def test_dice_and_iou_of_one_mask_determine_each_other(iou, dice):
    found = Overlap(round(1e6 * iou), 0, round(1e6 * (1 - iou)), 0)
    assert found.iou == pytest.approx(iou) and found.dice == pytest.approx(dice, abs=1e-6)


def test_the_adversary_sees_maps_beside_the_picture_or_alone():
    batch, seen = batch_of(), {}
    for adversary in ("conditional", "plain"):
        method, shown = odoc(adversary=adversary), []
        method.discriminator.register_forward_hook(lambda module, inputs, output, kept=shown: kept.append(inputs[0]))
        list(method.turns(iter([batch])))
        seen[adversary] = shown
        assert len(shown) == 3
    true = 2 * batch["disc_cup"] - 1
    torch.testing.assert_close(seen["conditional"][0], torch.cat([2 * batch["image"] - 1, true], 1))
    torch.testing.assert_close(seen["plain"][0], true)
    assert seen["plain"][1].abs().max() <= 1 and not torch.equal(seen["plain"][1], true)


def test_the_variant_without_an_adversary_learns_classes_by_the_cross_entropy():
    method = odoc(**OpticDiscCGAN.Config.baseline)
    assert not method.adversarial and method.discriminator is None
    batch = batch_of()
    (turn,) = method.turns(iter([batch]))
    want = nn.functional.cross_entropy(method.generator(2 * batch["image"] - 1), batch["disc_cup"].argmax(1))
    assert turn.losses["pixel"].item() == pytest.approx(100 * want.item(), rel=1e-5)
    torch.testing.assert_close(method.eval().segment(batch["image"]).sum(1), torch.ones(2, 48, 64))


def test_unknown_pixels_are_equal_in_true_and_drawn_maps():
    method, shown = odoc(), []
    method.discriminator.register_forward_hook(lambda module, inputs, output: shown.append(inputs[0][:, 3:]))
    batch = batch_of()
    batch["disc_cup"][..., :7] = -1
    list(method.turns(iter([batch])))
    assert all(not maps[..., :7].any() for maps in shown) and shown[0][..., 7:].all()


def test_maps_are_probabilities_from_0_to_1_and_the_disc_is_rim_and_cup():
    method = odoc().eval()
    image = batch_of()["image"]
    with torch.no_grad():
        found = method.segment(image)
        torch.testing.assert_close(found, (method.generator(2 * image - 1).tanh() + 1) / 2)
    task = method.task
    assert task.exclusive and dict(task.judged.regions) == {"disc": (1, 2), "cup": (2,)}
    assert [measure.name for measure in task.measures] == ["vertical cup-to-disc ratio", "area cup-to-disc ratio"]


def test_players_move_as_in_pix2pix():
    method = OpticDiscCGAN(OpticDiscCGAN.Config.preset(**TINY))
    for player in method.stages()[0].players:
        moves = player.optimizer([nn.Parameter(torch.ones(1))])
        assert (moves.defaults["lr"], moves.defaults["betas"]) == (2e-4, (0.5, 0.999)) and player.schedule is None
    weights = OpticDiscCGAN(OpticDiscCGAN.Config()).generator.down[0].weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


def test_ratios_of_the_embedded_phantom_vary_between_eyes():
    embedded = odoc().embedded
    ratios = []
    for seed in range(6):
        eye = make(embedded.name, seed, size=64, **embedded.grid)
        masks = {name: eye.masks[name] for name in ("disc", "cup")}
        ratios.append(odoc().task.measures[0](masks, eye.image.spacing))
        assert ratios[-1] == pytest.approx(eye.eyes[0].cup, abs=0.06)
    assert max(ratios) - min(ratios) > 0.2


def test_sizes_that_the_networks_do_not_take_are_refused():
    with pytest.raises(UserError, match="--size 50 64: ResUNet"):
        odoc(size=(50, 64)).check_sizes()
    with pytest.raises(UserError, match="--size 16 16: PatchGAN"):
        odoc(size=(16, 16)).check_sizes()
    with pytest.raises(UserError, match="--adversary none: no loss has a weight"):
        odoc(adversary="none", pixel_weight=0.0)
    assert isinstance(odoc().discriminator, PatchGAN)
