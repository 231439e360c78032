"""The adversarial U-Net for prostate cancer: networks, values of losses, and what its players are shown."""

import math

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.game import Balanced
from ganatomy.inference.model import load
from ganatomy.losses.segmentation import cross_entropy, squared_error
from ganatomy.methods.detection.kohl_advseg import AdversarialUNet, softer
from ganatomy.nets.kohl import TransposedUNet, WholeMapDiscriminator
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

SIZE = (64, 80)


def kohl(**values):
    return build("kohl-advseg", **{"size": SIZE, **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.zeros(2, *SIZE, dtype=torch.long)
    labels[:, 10:50, 12:70], labels[:, 20:40, 25:50], labels[0, 42:48, 30:38] = 2, 1, 3
    truth = nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    images = {name: torch.randn(2, 1, *SIZE, generator=draw) for name in ("t2w", "adc", "dwi")}
    return {**images, "prostate": truth}


class Scores(nn.Module):
    """A discriminator with known scores of the expert's maps and of others, which it tells by their sharpness."""

    def forward(self, seen):
        expert = seen[:, -4:].flatten(2).std(-1).max() > 0.3
        return torch.tensor([[0.5], [-1.0]] if expert else [[-0.5], [2.0]], requires_grad=True)


def test_networks_have_the_numbers_of_parameters_of_the_reconstruction():
    with torch.device("meta"):
        assert count(TransposedUNet(3, 4)) == 31_031_940
        assert count(TransposedUNet(3, 2)) == 31_031_810
        found = {
            (channels, positions): count(WholeMapDiscriminator(channels, positions=positions))
            for channels in (7, 4)
            for positions in (True, False)
        }
    assert found == {(7, True): 6_963_649, (4, True): 6_960_577, (7, False): 6_955_969, (4, False): 6_952_897}


def test_the_paper_preset_has_these_networks():
    with torch.device("meta"):
        method = AdversarialUNet(AdversarialUNet.Config.preset())
    assert (count(method.segmentor), count(method.discriminator)) == (31_031_940, 6_963_649)


def test_extents_of_feature_maps():
    with torch.device("meta"):
        network, seen = TransposedUNet(3, 4), []
        network.bottom.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
        assert network(torch.empty(1, 3, 416, 416)).shape == (1, 4, 416, 416) and seen == [(1024, 26, 26)]
        critic, sides = WholeMapDiscriminator(7), []
        for layer in critic.features:
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
        assert critic(torch.empty(1, 7, 416, 416)).shape == (1, 1) and sides == [208, 104, 52, 26, 13]


def test_the_features_of_the_discriminator_see_94_pixels():
    trunk = WholeMapDiscriminator(1, 1).features[:-2]
    layers = [layer for layer in trunk if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
    image = torch.rand(1, 1, 416, 416, dtype=torch.float64, requires_grad=True)
    value = image
    for layer in layers:
        value = layer.double()(value)
    value[..., 6, 6].sum().backward()
    rows = np.flatnonzero(image.grad.abs().sum((0, 1, 3)).numpy())
    assert rows[-1] - rows[0] + 1 == 94


def test_only_the_contracting_path_is_normalised_and_norms_have_no_weights():
    network = TransposedUNet(3, 4, 4)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.InstanceNorm2d)]
    assert len(norms) == 8 and all(layer.weight is None and layer.running_mean is None for layer in norms)
    assert all(layer.eps == 1e-5 for layer in norms)
    assert not any(
        isinstance(layer, nn.InstanceNorm2d) for part in (network.bottom, network.up) for layer in part.modules()
    )
    counts = {
        norm: sum(
            isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d) for layer in TransposedUNet(3, 4, 4, norm).modules()
        )
        for norm in ("instance-all", "batch", "none")
    }
    assert counts == {"instance-all": 18, "batch": 8, "none": 0}
    critic = WholeMapDiscriminator(3, 4)
    assert sum(isinstance(layer, nn.InstanceNorm2d) for layer in critic.modules()) == 4
    assert isinstance(critic.features[1], nn.LeakyReLU) and critic.features[1].negative_slope == 0.2


@pytest.mark.parametrize(
    ("game", "told", "fooled"), [("nonsaturating", 2.194172, 0.550502), ("least-squares", 4.25, 1.625)]
)
def test_losses_of_fixed_scores(game, told, fooled):
    method = kohl(game=game)
    method.discriminator = Scores()
    turns = list(method.turns(False, iter([batch_of()])))
    assert [turn.player for turn in turns] == ["discriminator", "segmentor"]
    assert turns[0].total.item() == pytest.approx(told, abs=1e-6)
    assert turns[1].total.item() == pytest.approx(fooled, abs=1e-6)


def test_losses_of_one_pixel():
    logits = torch.arange(4.0).reshape(1, 4, 1, 1) / 10
    truth = torch.tensor([0.0, 0, 1, 0]).reshape(1, 4, 1, 1)
    assert squared_error(logits.softmax(1), truth).item() == pytest.approx(0.182687, abs=1e-6)
    assert 4 * squared_error(logits.softmax(1), truth).item() == pytest.approx(0.730748, abs=4e-6)
    assert cross_entropy(logits, truth).item() == pytest.approx(1.342536, abs=1e-6)


def test_pixels_of_unknown_truth_have_no_squared_error():
    truth = torch.tensor([[1.0, 0, -1], [0, 1, -1]]).reshape(1, 2, 1, 3)
    maps = torch.tensor([[0.5, 0.5, 0.9], [0.5, 0.5, 0.1]]).reshape(1, 2, 1, 3)
    assert squared_error(maps, truth).item() == pytest.approx(0.25)


def test_experts_maps_are_softened_and_still_add_up_to_one():
    truth = torch.tensor([[0.0, 0, 1, 0]]).reshape(1, 4, 1, 1)
    assert softer(truth, 0.1).flatten().tolist() == pytest.approx([0.1 / 3, 0.1 / 3, 0.9, 0.1 / 3])
    assert torch.equal(softer(truth, 0.0), truth)
    assert softer(torch.full((1, 4, 1, 1), -1.0), 0.1).unique().tolist() == [-1]


def test_the_discriminator_sees_images_first_and_then_maps_or_maps_alone():
    method, batch, seen = kohl(), batch_of(), []
    method.discriminator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    list(method.turns(False, iter([batch])))
    assert [tuple(one.shape[1:]) for one in seen] == [(7, *SIZE)] * 3
    for one in seen:
        torch.testing.assert_close(one[:, :3], method.image(batch).clamp(-5, 5))
    torch.testing.assert_close(seen[0][:, 3:], softer(batch["prostate"], 0.1))
    torch.testing.assert_close(seen[1][:, 3:], method.segment(method.image(batch)))
    alone = kohl(condition_on_image=False)
    assert alone.shown(method.image(batch), batch["prostate"], batch["prostate"]).shape[1] == 4


def test_images_are_clipped_at_five_standard_deviations():
    method = kohl()
    image = 3 * torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    assert image.abs().max() > 5
    assert torch.equal(method.segment(image), method.segment(image.clamp(-5, 5)))


def test_modes_differ_in_their_losses_and_stages():
    assert [list(turn.losses) for turn in kohl().turns(False, iter([batch_of()]))] == [["adversarial"], ["adversarial"]]
    hybrid = kohl(pixel_loss="cross-entropy", adversarial_weight=0.1, warm_up_rounds=4)
    assert [stage.name for stage in hybrid.stages()] == ["warm-up", "game"]
    assert [player.name for player in hybrid.stages()[0].players] == ["segmentor"]
    (warm,) = hybrid.stages()[0].turns(iter([batch_of()]))
    assert list(warm.losses) == ["cross-entropy"]
    *_, last = hybrid.turns(False, iter([batch_of()]))
    assert list(last.losses) == ["adversarial", "pixel"]
    base = kohl(**AdversarialUNet.Config.baseline)
    assert base.discriminator is None and not base.adversarial
    (turn,) = base.turns(False, iter([batch_of()]))
    torch.testing.assert_close(turn.total, cross_entropy(base.logits(base.image(batch_of())), batch_of()["prostate"]))
    assert count(base.segmentor) == count(kohl().segmentor)


def test_half_of_the_slices_show_a_lesion():
    (stage,) = kohl().stages()
    assert stage.streams_in_order[0].place == Balanced("prostate", {3: 0.5})
    (plain,) = kohl(with_lesion=0.0).stages()
    assert plain.streams_in_order[0].place is None


def test_players_move_by_adam_at_a_constant_rate():
    for player in AdversarialUNet(AdversarialUNet.Config.preset(width=1, discriminator_width=1)).stages()[0].players:
        moves = player.optimizer([nn.Parameter(torch.ones(1))]).defaults
        assert (moves["lr"], moves["betas"], moves["eps"], moves["weight_decay"]) == (1e-4, (0.5, 0.999), 1e-8, 0)
        assert player.schedule is None


def test_lesions_alone_can_be_learnt():
    method = kohl(regions={"background": (0, 1, 2), "lesion": (3,)})
    batch = batch_of()
    truth = torch.cat([batch["prostate"][:, :3].sum(1, keepdim=True), batch["prostate"][:, 3:]], 1)
    list(method.turns(False, iter([{**batch, "prostate": truth}])))
    assert method.segment(method.image(batch)).shape == (2, 2, *SIZE) and method.task.judged.names == ("lesion",)


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="--adversarial-weight 0: no loss is left"):
        kohl(adversarial_weight=0.0)
    with pytest.raises(UserError, match="--size: the discriminator sees whole slices"):
        kohl(size=None)
    with pytest.raises(UserError, match="--size 32 32: WholeMapDiscriminator"):
        kohl(size=(32, 32)).check_sizes()
    with pytest.raises(UserError, match="--lesion-region tumour: no such region"):
        kohl(lesion_region="tumour").task  # noqa: B018
    with pytest.raises(UserError, match="--instances"):
        kohl(instances=True).task  # noqa: B018


def test_49_of_50_cases_left_empty_are_a_specificity_of_98_percent_with_a_deviation_of_14():
    values = np.array([1.0] * 49 + [0.0])
    assert (values.mean(), values.std()) == (pytest.approx(0.98), pytest.approx(math.sqrt(0.98 * 0.02)))
    assert round(values.std(), 2) == 0.14


def test_a_run_is_judged_by_lesions_and_applied_to_three_files(cases, tmp_path):
    config = configured("kohl-advseg", width=2, discriminator_width=2)
    options = TrainConfig(rounds=2, device="cpu", threads=1, validate_every=2, validation_slices=2, diagnose=False)
    train("kohl-advseg", tmp_path / "run", config, DataConfig(phantom_subjects=6, cache=cases), options)
    rows = {row.method: row.scores for row in evaluate(tmp_path / "run").scores.rows}
    assert {"dice lesion", "false positives (iou 0.1)", "dice transition"} <= set(rows["output"])
    assert {"threshold", "smoothed threshold"} <= set(rows)
    patient = make("prostate-mr", 91, size=70, slices=3)
    for name, image in patient.images.items():
        image.save(tmp_path / f"{name}.nii.gz")
    found = load(tmp_path / "run")(**{name: tmp_path / f"{name}.nii.gz" for name in ("t2w", "adc", "dwi")})
    assert found.outputs["prostate"].shape == (3, 70, 70)
    assert set(found.tables) == {"lesions", "volumes", "labels"}
    assert found.facts["lesions"] == "all components of lesion"
