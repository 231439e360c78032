"""The detector of skin lesions: networks of pix2pix, masks, places that are cut out, and detections."""

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn
from torch.nn.functional import l1_loss

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.game import Progress
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.methods.detection.udrea_lesion_cgan import SkinLesionCGAN
from ganatomy.metrics.lesions import find_lesions
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (32, 64)


def detector(**values):
    return build("udrea-lesion-cgan", **{"size": SIZE, "width": 4, "discriminator_width": 4, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    lesion = torch.zeros(2, 1, *SIZE)
    lesion[0, :, 8:20, 12:30] = lesion[1, :, 20:28, 40:50] = 1
    return {"image": torch.rand(2, 3, *SIZE, generator=draw), "lesion": lesion}


@pytest.mark.parametrize(
    ("preset", "values", "generator", "discriminator"),
    [
        ("paper", {}, 54_409_856, 2_766_592),
        ("port", {}, 54_409_857, 2_766_657),
        ("paper", {"mask_channels": 3}, 54_413_952, 2_768_640),
        ("port", {"mask_channels": 3}, 54_413_955, 2_768_705),
        ("half-size", {}, 41_824_896, 2_766_592),
    ],
)
def test_networks_have_the_numbers_of_parameters_of_pix2pix(preset, values, generator, discriminator):
    with torch.device("meta"):
        method = SkinLesionCGAN(SkinLesionCGAN.Config.preset(preset, **values))
    assert (count(method.generator), count(method.discriminator)) == (generator, discriminator)


def test_a_bottom_of_one_pixel_has_no_norm_and_scores_are_30_by_30():
    with torch.device("meta"):
        method, seen = SkinLesionCGAN(SkinLesionCGAN.Config.preset()), []
        innermost = method.generator.down[-1]
        innermost.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
        assert method.generator(torch.empty(1, 3, 256, 256)).shape == (1, 1, 256, 256) and seen == [(512, 1, 1)]
        assert method.discriminator(torch.empty(1, 4, 256, 256)).shape == (1, 1, 30, 30)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in innermost.modules())
    assert not any(
        layer.bias is not None for layer in method.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    )


@pytest.mark.parametrize(("preset", "levels"), [("paper", [0, 1, 2]), ("port", [1, 2, 3]), ("half-size", [0, 1, 2])])
def test_dropout_is_in_the_innermost_levels_or_one_further_out_in_the_port(preset, levels):
    with torch.device("meta"):
        method = SkinLesionCGAN(SkinLesionCGAN.Config.preset(preset))
    found = [place for place, level in enumerate(method.generator.up) if any(isinstance(x, nn.Dropout) for x in level)]
    assert found == levels
    last = method.generator.up[levels[0]]
    assert [type(layer) for layer in last] == [nn.ReLU, nn.ConvTranspose2d, nn.BatchNorm2d, nn.Dropout]


def test_patches_of_70_pixels_are_scored():
    layers = [layer for layer in detector(discriminator_strided=3).discriminator if isinstance(layer, nn.Conv2d)]
    field = 1
    for layer in reversed(layers):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


def test_a_batch_of_one_is_normalised_by_its_own_statistics_in_training_and_at_inference():
    method = detector(dropout=0.0)
    image = batch_of()["image"][:1]
    with torch.no_grad():
        trained = method.train().segment(image)
        torch.testing.assert_close(method.inference_mode().segment(image), trained)
        averaged = detector(dropout=0.0).eval()
        assert not torch.allclose(averaged.segment(image), trained, atol=1e-3)


def test_losses_are_those_of_pix2pix_on_masks_from_minus_one_to_one():
    method, batch = detector(jitter=0), batch_of()
    turns = list(method.turns(iter([batch])))
    assert [turn.player for turn in turns] == ["discriminator", "generator"]
    drawn = method.generator(2 * batch["image"] - 1).tanh()
    true = 2 * batch["lesion"] - 1
    torch.testing.assert_close(turns[1].losses["l1"], 100 * l1_loss(drawn, true))
    undecided = detector(jitter=0)
    nn.init.zeros_(undecided.discriminator[-1].weight)
    told = next(iter(undecided.turns(iter([batch])))).total.item()
    assert told == pytest.approx(np.log(2), abs=1e-6)


def test_three_channels_are_a_grey_picture_and_averaged_again():
    method, batch = detector(mask_channels=3, jitter=0), batch_of()
    true = method.masks(batch["lesion"])
    assert true.shape == (2, 3, *SIZE) and torch.equal(true[:, 0], true[:, 2])
    maps = method.generator(2 * batch["image"] - 1).tanh()
    torch.testing.assert_close(method.segment(batch["image"]), 0.5 * (maps.mean(1, keepdim=True) + 1))


def test_photograph_and_mask_are_cut_at_one_place_and_masks_stay_sharp():
    method = detector(jitter=9)
    truth = torch.rand(6, 1, *SIZE, generator=torch.Generator().manual_seed(3)).round()
    smooth = torch.nn.functional.avg_pool2d(truth, 25, 1, 12)
    image, cut = method.jittered(smooth.repeat(1, 3, 1, 1), (smooth > 0.5).float())
    assert image.shape[2:] == cut.shape[2:] == SIZE and cut.unique().tolist() == [0, 1]
    agree = ((image[:, :1] > 0.5).float() == cut).float().mean()
    assert agree > 0.95
    assert not torch.equal(cut[0], (smooth > 0.5).float()[0])


def test_unknown_pixels_have_no_loss_and_are_shown_as_between():
    method, batch = detector(jitter=0), batch_of()
    batch["lesion"][:, :, :10] = -1
    seen = []
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    list(method.turns(iter([batch])))
    assert all((one[:, 3:, :10] == 0).all() for one in seen)


def test_rates_are_constant_in_torch_and_fall_in_the_port():
    def factors(preset):
        (stage,) = SkinLesionCGAN(SkinLesionCGAN.Config.preset(preset, width=1, discriminator_width=1)).stages()
        found = []
        for share in (0.0, 0.5, 0.75):
            progress = Progress()
            progress.stage_rounds, progress.stage_round = stage.rounds, round(share * stage.rounds)
            found.append([1.0 if one.schedule is None else one.schedule(progress) for one in stage.players])
        return found

    assert factors("paper") == [[1, 1]] * 3
    assert factors("port") == [[1, 1], [1, 1], [pytest.approx(0.5), pytest.approx(0.5)]]


def test_the_baseline_is_the_same_network_with_the_l1_loss():
    method, base = detector(), detector(**SkinLesionCGAN.Config.baseline)
    assert base.discriminator is None and count(base.generator) == count(method.generator)
    assert [list(turn.losses) for turn in base.turns(iter([batch_of()]))] == [["l1"]]


def test_shifted_discs_are_found_by_named_criteria():
    rows, columns = np.mgrid[:80, :120]

    def disc(column):
        return np.hypot(rows - 40, columns - column) <= 20

    found = {
        shift: [bool(find_lesions(disc(40 + shift), disc(40), name).found) for name in SkinLesionCGAN.criteria]
        for shift in (8, 12, 20, 24)
    }
    assert found == {
        8: [True, True, True],
        12: [False, True, False],
        20: [False, True, False],
        24: [False, False, False],
    }


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="--levels 5: rows and columns must be multiples of 32"):
        detector(size=(40, 64))
    with pytest.raises(UserError, match="--size: the networks see whole photographs"):
        detector(size=None)


def test_a_run_is_judged_by_kinds_of_lesions_and_applied_to_a_picture(cases, tmp_path):
    config = configured("udrea-lesion-cgan", width=4, discriminator_width=4)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    train("udrea-lesion-cgan", tmp_path / "run", config, DataConfig(phantom_subjects=12, cache=cases), options)
    rows = {row.method: row.scores for row in evaluate(tmp_path / "run").scores.rows}
    assert {"false positives (iou 0.5)", "false positives (centre)", "dice"} <= set(rows["output"])
    values = make("skin-photograph", 7, size=90).image.numpy()[:, 0, :, :70]
    picture = tmp_path / "skin.png"
    write(picture, Image.from_array(np.rint(values).astype(np.uint8)[:, None]))
    found = load(tmp_path / "run")(picture)
    assert found.outputs["lesion"].shape == (1, 90, 70) and "lesions" in found.tables
