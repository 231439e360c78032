"""Virtual PET: neighbouring slices, the loss in SUV, two networks one after the other, and their blend."""

import numpy as np
import pytest
import torch
from small import Samples, build, configured, count
from torch import nn
from torch.nn.functional import l1_loss, mse_loss

from ganatomy.api import apply
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.images.files import read, write
from ganatomy.inference.model import load
from ganatomy.losses.uptake import split_squared_error
from ganatomy.methods.synthesis.virtual_pet import VirtualPET
from ganatomy.metrics.uptake import detected
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (32, 64)


def pet(**values):
    return build("virtual-pet", **{"size": SIZE, **values})


def batch_of(method, stage=-1):
    return next(Samples(method, method.stages()[stage]))


def code(*suv):
    """Return uptake as the networks see it, one row of pixels."""
    return torch.tensor(suv).reshape(1, 1, 1, 1, -1) / 10 - 1


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        method = VirtualPET(VirtualPET.Config.preset())
        assert method.discriminator(torch.empty(1, 2, 512, 512)).shape == (1, 1, 62, 62)
        seen = []
        method.generator.down[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
        method.generator(torch.empty(1, 1, 512, 512))
    assert count(method.fcn) == 14_716_212
    assert (count(method.generator), count(method.discriminator)) == (54_407_809, 2_764_609)
    assert seen == [(2, 2)]


def test_windows_are_in_hu_and_suv():
    method = pet()
    ct, target = (method.task.roles[name].codec for name in ("ct", "pet"))
    assert (ct.low, ct.high, ct.unit) == (-160, 240, "HU") and (target.low, target.high, target.unit) == (0, 20, "SUV")
    assert target.encode(np.array([2.5, 20.0, 31.0])).tolist() == [-0.75, 1, 1]
    torch.testing.assert_close(method.uptake(torch.tensor([-1.0, -0.75, 1.0])), torch.tensor([0.0, 2.5, 20.0]))


def test_both_networks_are_trained_one_after_the_other_and_alone():
    first, second = pet().stages()
    assert [player.name for player in first.players] == ["fcn"] and not first.validated
    assert [player.name for player in second.players] == ["discriminator", "generator"] and second.validated
    assert [stage.name for stage in pet(variant="fcn").stages()] == ["fcn"]
    assert pet(variant="fcn").stages()[0].validated and not pet(variant="fcn").adversarial
    assert [stage.name for stage in pet(variant="cgan").stages()] == ["game"]
    (base,) = pet(variant="cgan", adversarial_weight=0.0).stages()
    assert [player.name for player in base.players] == ["generator"]


def test_the_fcn_sees_the_slice_and_its_two_neighbours():
    method, seen = pet(), []
    method.fcn.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    volume = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(1, 1, 6, *SIZE)
    made = method.blurred(volume)
    assert made.shape == (1, 1, 4, *SIZE)
    assert seen[0][:, :, 0, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    batch = batch_of(method, 0)
    assert batch["ct"].shape == (2, 1, 3, *SIZE) and batch["pet"].shape == (2, 1, 1, *SIZE)
    seen = []
    method.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    list(method.turns(iter([batch])))
    torch.testing.assert_close(seen[0], batch["ct"][:, :, 1])


def test_the_loss_of_the_fcn_is_in_suv_and_split_at_the_threshold():
    method, batch = pet(), batch_of(pet(), 0)
    true = batch["pet"] = code(0.0, 1.0, 3.0, 5.0)
    method.fcn.forward = lambda image: code(1.0, 1.0, 2.0, 7.0)[0]
    batch["ct"] = torch.zeros(1, 1, 3, 1, 4)
    (turn,) = method.fcn_turns(iter([batch]))
    assert turn.total.item() == pytest.approx(3.0, abs=1e-5)
    made = method.blurred(batch["ct"])
    torch.testing.assert_close(
        turn.total, split_squared_error(method.uptake(made), method.uptake(true), 2.5), rtol=1e-5, atol=1e-5
    )
    plain = pet(split_loss=False)
    plain.fcn.forward = method.fcn.forward
    (turn,) = plain.fcn_turns(iter([batch]))
    assert turn.total.item() == pytest.approx(1.5, abs=1e-5)
    torch.testing.assert_close(turn.total, mse_loss(plain.uptake(made), plain.uptake(true)), rtol=1e-5, atol=1e-5)


def test_the_losses_of_the_game_are_those_of_pix2pix():
    method = pet()
    batch = batch_of(method)
    discriminator, generator = method.turns(iter([batch]))
    ct, true = batch["ct"][:, :, 1], batch["pet"][:, :, 0]
    torch.testing.assert_close(generator.losses["l1"], 100 * l1_loss(method.sharp(ct), true))
    nn.init.zeros_(method.discriminator[-1].weight)
    discriminator, generator = method.turns(iter([batch]))
    assert discriminator.total.item() == pytest.approx(0.6931, abs=1e-4)
    assert generator.losses["adversarial"].item() == pytest.approx(0.6931, abs=1e-4)


def test_the_image_of_the_fcn_is_taken_where_itself_is_above_the_threshold():
    method = pet()
    blurred, sharp = code(1.0, 1.0, 2.0, 7.0), code(9.0, 0.5, 3.0, 4.0)
    torch.testing.assert_close(method.blend(blurred, sharp), code(9.0, 0.5, 3.0, 7.0))
    torch.testing.assert_close(method.blend(code(2.5), code(0.0)), code(0.0))
    torch.testing.assert_close(pet(threshold=8.0).blend(blurred, sharp), sharp)


def test_a_feather_smooths_the_border_between_both():
    hot = torch.full((1, 1, 1, 9, 20), -1.0)
    hot[..., 10:] = 0.0
    sharp = torch.full_like(hot, -1.0)
    plain, smooth = (pet(feather=sigma).blend(hot, sharp) for sigma in (0.0, 2.0))
    torch.testing.assert_close(plain, hot)
    torch.testing.assert_close(smooth[..., :3], hot[..., :3])
    row = smooth[0, 0, 0, 4]
    assert (row.diff() >= -1e-6).all() and -1 < row[10] < row[13] < 1e-6


def test_results_are_the_blend_of_both_and_stay_in_the_window():
    volume = torch.randn(2, 1, 5, *SIZE)
    both = pet().inference_mode()
    nn.init.constant_(both.fcn.scores[-1].bias, 3.0)
    assert (both.restore(volume) == 1).all(), "20 SUV at most"
    nn.init.constant_(both.fcn.scores[-1].bias, -3.0)
    slices = volume[:, :, 1:-1].transpose(1, 2).flatten(0, 1)
    expected = both.sharp(slices).unflatten(0, (2, 3)).transpose(1, 2)
    torch.testing.assert_close(both.restore(volume), expected)
    assert pet(variant="fcn").restore(volume).shape == (2, 1, 3, *SIZE)
    assert pet(variant="cgan").inference_mode().restore(volume).shape == (2, 1, 3, *SIZE)


def test_the_rate_of_the_game_falls_in_the_second_half():
    stage, found = pet().stages()[-1], []
    for epoch in (1, 100, 150, 200):
        found.append([2e-4 * one.schedule(Progress(stage_rounds=200, stage_round=epoch - 1)) for one in stage.players])
    assert found == [pytest.approx([rate] * 2, abs=4e-6) for rate in (2e-4, 2e-4, 1.010e-4, 1.98e-6)]


def test_detections_are_counted_as_in_the_paper():
    lesions, output = np.zeros((1, 1, 60)), np.zeros((1, 1, 60))
    lesions[..., 0:52:2] = 1
    output[..., 0:48:2] = 3.0
    output[..., 55] = 3.0
    result = detected(output, lesions)
    assert (result.found, result.lesions) == (24, 26) and round(24 / 26, 3) == 0.923
    assert result.false_positives == 1


def test_pretrained_weights_need_a_file_and_change_how_slices_are_seen(tmp_path):
    with pytest.raises(UserError, match=r"--vgg16-file .*no such file"):
        pet(vgg16_file=tmp_path / "none.pth").check_sizes()
    file = tmp_path / "vgg16.pth"
    draw = torch.Generator().manual_seed(2)
    own = [value for block in pet().fcn.blocks for value in block.state_dict().values()]
    torch.save({f"features.{at}": torch.randn(one.shape, generator=draw) for at, one in enumerate(own)}, file)
    method, seen = pet(vgg16_file=file), []
    method.check_sizes()
    method.stages()[0].begin()
    saved = torch.load(file)
    now = [value for block in method.fcn.blocks for value in block.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(now, saved.values(), strict=True))
    method.fcn.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    method.blurred(torch.full((1, 1, 3, *SIZE), -1.0))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert method.provenance() == {"FCN": "began with the VGG-16 of vgg16.pth"} and not pet().provenance()


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="must be multiples of 32"):
        pet(size=(40, 64)).check_sizes()
    with pytest.raises(UserError, match="--threshold 30"):
        pet(threshold=30.0)
    with pytest.raises(UserError, match="window"):
        pet(roles={"target": {"scale": "percentile", "window": None}})


def test_a_run_is_applied_to_a_scan(cases, tmp_path):
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    config = configured("virtual-pet")
    train("virtual-pet", tmp_path / "run", config, DataConfig(phantom_subjects=4, cache=cases), options)
    scan, model = make("liver-pet-ct", 7, size=72, slices=3).images["ct"], load(tmp_path / "run")
    write(tmp_path / "ct.nii.gz", scan)
    apply(tmp_path / "run", tmp_path / "ct.nii.gz", tmp_path / "pet.nii.gz")
    written = read(tmp_path / "pet.nii.gz")
    assert scan.dtype == np.int16 and written.dtype == np.float32 and written.unit == "SUV", "SUV are no whole numbers"
    np.testing.assert_allclose(written.numpy(), model(scan).outputs["pet"].numpy(), atol=1e-5)
    made = model(scan).outputs["pet"]
    assert made.shape == (3, 72, 72) and made.unit == "SUV"
    assert made.numpy().min() >= 0 and made.numpy().max() <= 20
