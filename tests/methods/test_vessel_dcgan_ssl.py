"""Vessels by classified patches: numbers of the networks, values of the losses, and what each head learns from."""

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import Balanced
from ganatomy.inference.tiling import Tiler
from ganatomy.methods.segmentation.vessel_dcgan_ssl import VesselDCGAN

TINY = {
    "patch": 8, "generator_widths": (4, 3), "trunk_widths": (3, 4), "hidden": 5, "batch_size": 4, "vessel_share": 0.5,
}  # fmt: skip


def dcgan(preset="small", **values):
    torch.manual_seed(0)
    return VesselDCGAN(VesselDCGAN.Config.preset(preset, **{**TINY, **values}))


def batch_of(count=4, patch=8, seed=1):
    """Return patches whose middle pixels are of both classes; the pixels around them tell nothing."""
    draw = torch.Generator().manual_seed(seed)
    vessels = torch.ones(count, 1, patch, patch)
    vessels[::2, :, patch // 2, patch // 2] = 0
    return {"image": torch.rand(count, 3, patch, patch, generator=draw), "vessels": vessels}


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_networks_have_the_numbers_of_parameters_of_the_catalogue():
    with torch.device("meta"):
        method = VesselDCGAN(VesselDCGAN.Config.preset())
        assert count(method.generator) == 4_935_171
        assert count(method.trunk.convolutions) == 1_030_016 and count(method.trunk.head) == 2_097_664
        assert (count(method.realness), count(method.classes)) == (513, 1_026)
        assert count(method.trunk, method.realness, method.classes) == 3_129_219
        sides = [method.trunk.convolutions[: 4 * n](torch.empty(2, 3, 32, 32)).shape[-1] for n in range(4)]
        assert sides == [32, 16, 8, 4]
        assert method.generator(torch.empty(2, 100)).shape == (2, 3, 32, 32)


def test_losses_are_those_of_the_catalogue():
    method = dcgan()
    given = iter([0.5, -0.2, -0.2])
    method.realness = nn.Module()
    method.realness.forward = lambda features: torch.full((len(features), 1), next(given))
    method.classes.forward = lambda features: torch.tensor([[0.0, 0.1]]).repeat(len(features), 1)
    batch = batch_of()
    batch["vessels"][:] = 1
    discriminator, generator = method.turns(iter([batch]))
    assert discriminator.losses["adversarial"].item() == pytest.approx(1.072216, abs=1e-6)
    assert discriminator.losses["entropy"].item() == pytest.approx(0.644397, abs=1e-6)
    assert discriminator.total.item() == pytest.approx(1.716613, abs=1e-6)
    assert generator.total.item() == pytest.approx(0.798139, abs=1e-6)


def test_classes_are_those_of_the_middle_pixel_where_it_is_known():
    method, batch = dcgan(), batch_of()
    batch["vessels"][3] = -1
    turn = next(iter(method.turns(iter([batch]))))
    again = dcgan()
    logits = again.classes(again.features(2 * batch["image"] - 1))
    want = nn.functional.cross_entropy(logits[:3], torch.tensor([0, 1, 0]))
    assert turn.losses["entropy"].item() == pytest.approx(want.item(), rel=1e-5)


def test_patches_of_vessels_and_of_background_are_drawn_equally_often():
    (stage,) = dcgan().stages()
    assert stage.stream.place == Balanced("vessels", {0: 0.5, 1: 0.5}) and stage.stream.patch == (1, 8, 8)
    assert stage.stream.roles == ("image", "vessels")


def test_other_photographs_may_be_shown_as_real_ones():
    method = dcgan(unlabelled=True)
    (stage,) = method.stages()
    assert [stream.name for stream in stage.streams_in_order] == ["annotated", "pictures"]
    assert stage.streams_in_order[1].roles == ("image",)
    batch = {"annotated": batch_of(), "pictures": {"image": batch_of(seed=2)["image"]}}
    plain, other = (
        next(iter(dcgan(unlabelled=True).turns(iter([one]))))
        for one in (batch, batch | {"pictures": {"image": batch_of(seed=3)["image"]}})
    )
    assert plain.losses["entropy"].item() == pytest.approx(other.losses["entropy"].item())
    assert plain.losses["adversarial"].item() != pytest.approx(other.losses["adversarial"].item(), rel=1e-6)


def test_a_photograph_is_segmented_by_the_patch_around_every_pixel():
    method = dcgan().eval()
    picture = np.random.default_rng(5).random((3, 1, 11, 9), np.float32)
    tiler = Tiler(method.segment, 2, method.tiling)
    found = tiler(lambda start, stop: picture[:, start:stop], (1, 11, 9), 0, 1)
    assert found.shape == (1, 1, 11, 9)
    padded = np.pad(picture[:, 0], ((0, 0), (4, 3), (4, 3)), mode="reflect")
    for row, column in ((0, 0), (6, 3), (10, 8)):
        patch = torch.from_numpy(padded[None, :, row : row + 8, column : column + 8].copy())
        with torch.no_grad():
            want = method.classes(method.features(2 * patch - 1)).softmax(1)[0, 1]
        assert found[0, 0, row, column] == pytest.approx(want.item(), abs=1e-5)


def test_odds_of_batches_become_those_of_pictures():
    even, rare = dcgan().eval(), dcgan(vessel_share=0.2).eval()
    picture = torch.rand(1, 3, 11, 10, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        p, q = even.segment(picture), rare.segment(picture)
    torch.testing.assert_close(q / (1 - q), 0.25 * p / (1 - p))


def test_running_averages_are_those_of_photographs_alone():
    method, again = dcgan().train(), dcgan().train()
    for _ in method.turns(iter([batch_of()])):
        pass
    again.features(2 * batch_of()["image"] - 1)
    buffers = dict(method.trunk.named_buffers())
    found = {name: value for name, value in again.trunk.named_buffers() if name.endswith(("mean", "var"))}
    assert found
    for name, value in found.items():
        torch.testing.assert_close(buffers[name], value)
    assert all(norm.momentum == 0.1 for norm in method.trunk.modules() if isinstance(norm, nn.BatchNorm2d))


def test_rows_are_classified_in_parts(monkeypatch):
    method = dcgan().eval()
    picture = torch.rand(2, 3, 20, 17, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        whole = method.segment(picture)
        monkeypatch.setattr("ganatomy.methods.segmentation.vessel_dcgan_ssl.WINDOWS", 1)
        torch.testing.assert_close(method.segment(picture), whole)
    assert whole.shape == (2, 1, 12, 9)


def test_the_baseline_is_the_trunk_with_its_classes_alone():
    method = dcgan(**VesselDCGAN.Config.baseline)
    assert not method.adversarial and method.generator is None and method.realness is None
    (turn,) = method.turns(iter([batch_of()]))
    assert (turn.player, list(turn.losses)) == ("discriminator", ["entropy"])


def test_players_move_at_a_constant_rate():
    for player in dcgan("paper").stages()[0].players:
        moves = player.optimizer([nn.Parameter(torch.ones(1))])
        assert (moves.defaults["lr"], moves.defaults["betas"]) == (2e-4, (0.5, 0.999)) and player.schedule is None


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(UserError, match="--regions: the patches have two classes"):
        dcgan(regions={"arteries": (1,), "veins": (2,)})
    with pytest.raises(UserError, match="--no-adversary: no loss has a weight"):
        dcgan(adversary=False, class_weight=0.0)
