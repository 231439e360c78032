"""DI2IN-AN: sizes, published structure, losses on fixed numbers, and a run on a phantom."""

import pytest
import torch
from test_segmentation import count, round_of
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.losses.adversarial import nonsaturating_generator
from ganatomy.methods.segmentation.di2in_an import DI2INAN
from ganatomy.nets.di2in import DI2IN, MaskDiscriminator
from ganatomy.training.run import TrainConfig, train

TINY = {"width": 2, "discriminator_width": 2, "patch_shape": (16, 24, 16), "batch_size": 2}


def di2in(**values):
    torch.manual_seed(0)
    return DI2INAN(DI2INAN.Config.preset("small", **{**TINY, **values}))


def batch_of(method, seed=1):
    draw, shape = torch.Generator().manual_seed(seed), (2, 1, *method.config.patch_shape)
    liver = torch.zeros(shape)
    liver[:, :, 4:10, 3:12, 5:9] = 1
    return {"ct": torch.rand(shape, generator=draw), "liver": liver}


def test_networks_have_the_numbers_of_parameters_of_the_widths_16_to_128():
    with torch.device("meta"):
        method = DI2INAN(DI2INAN.Config.preset("paper"))
    assert count(method.generator) == 1_460_387 and count(method.discriminator) == 1_163_265
    assert [count(head) for head in method.generator.heads] == [65, 33, 17]
    assert not any(isinstance(layer, nn.MaxPool3d | nn.AvgPool3d) for layer in method.generator.modules())


def test_levels_are_halved_by_convolutions_and_every_output_has_the_full_size():
    network = DI2IN(widths=(2, 3, 5, 7)).eval()
    sizes = []
    for level in network.encoder:
        level.register_forward_hook(lambda module, given, made: sizes.append(tuple(made.shape[1:])))
    made = network(torch.rand(1, 1, 32, 32, 32))
    assert sizes == [(2, 32, 32, 32), (3, 16, 16, 16), (5, 8, 8, 8), (7, 4, 4, 4)]
    assert [tuple(part.shape) for part in made] == [(1, 1, 32, 32, 32)] * 3
    assert [tuple(part.shape[2:]) for part in network(torch.rand(1, 1, 12, 9, 21))] == [(12, 9, 21)] * 3


def test_coarse_outputs_are_enlarged_logits():
    network = DI2IN(widths=(2, 3, 5, 7)).eval()
    coarse = []
    network.heads[0].register_forward_hook(lambda module, given, made: coarse.append(made))
    logits = network(torch.rand(1, 1, 16, 16, 16))[0]
    want = nn.functional.interpolate(coarse[0], scale_factor=4, mode="trilinear", align_corners=False)
    assert coarse[0].shape[2:] == (4, 4, 4)
    torch.testing.assert_close(logits, want)


def test_the_loss_of_levels_and_the_adversarial_loss_have_known_values():
    method = di2in()
    truth = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 1, 2)
    logits = [torch.tensor(values).reshape_as(truth) for values in ([-0.3, 0.1], [0.0, 0.2], [0.5, -1.0])]
    losses = method.level_losses(logits, truth)
    found = {name: value.item() for name, value in losses.items()}
    assert found == pytest.approx({"quarter": 0.2 * 0.799376, "half": 0.4 * 0.745643, "main": 0.393669}, rel=1e-5)
    assert sum(found.values()) == pytest.approx(0.851802, rel=1e-5)
    assert nonsaturating_generator(torch.tensor([0.4])).item() == pytest.approx(0.513015, rel=1e-5)


def test_the_generator_is_taught_first_and_then_plays_with_smaller_steps():
    first, second = di2in().stages()
    assert [player.name for player in first.players] == ["generator"]
    assert [player.name for player in second.players] == ["discriminator", "generator"]
    moves = [player.optimizer([nn.Parameter(torch.ones(1))]) for player in (*first.players, *second.players)]
    assert [one.defaults["lr"] for one in moves] == [1e-3, 1e-4, 1e-4]
    assert {(one.defaults["alpha"], one.defaults["eps"], one.defaults["momentum"]) for one in moves} == {(0.9, 1e-8, 0)}
    assert all(player.schedule is None for player in (*first.players, *second.players))
    assert second.players[0].adversary and not second.players[1].adversary


def rounds_of(method, stage):
    turns = round_of_stage(method.stages()[stage], batch_of(method))
    return [(turn.player, list(turn.losses)) for turn in turns]


def round_of_stage(stage, batch):
    class Only:
        def stages(self):
            return [stage]

    return round_of(Only(), batch)


def test_a_round_of_each_stage():
    levels = ["quarter", "half", "main"]
    assert rounds_of(di2in(), 0) == [("generator", levels)]
    assert rounds_of(di2in(), 1) == [("discriminator", ["adversarial"]), ("generator", [*levels, "adversarial"])]
    base = di2in(**DI2INAN.Config.baseline)
    assert not base.adversarial and base.discriminator is None and di2in().adversarial
    assert rounds_of(base, 1) == [("generator", levels)] and count(base.generator) == count(di2in().generator)
    alone = di2in(level_weights=(0, 0, 1))
    volume, truth = (batch_of(alone)[name] for name in ("ct", "liver"))
    assert list(alone.level_losses(alone.generator(volume), truth)) == ["main"]


def test_the_generator_descends_a_hundredth_of_the_score_of_its_main_output():
    method = di2in()
    turns = list(round_of_stage(method.stages()[1], batch_of(method)))
    with torch.no_grad():
        scores = method.discriminator(method.generator(batch_of(method)["ct"])[-1].sigmoid())
    # The last step of plain descent moves the generator a little after its loss was computed.
    want = 0.01 * nn.functional.softplus(-scores).mean()
    assert turns[-1].losses["adversarial"].item() == pytest.approx(want.item(), rel=0.1)


def test_the_discriminator_sees_masks_alone_and_no_voxel_of_unknown_label():
    assert MaskDiscriminator(3, (2, 4))[0].in_channels == 3
    truth, output = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([0.7, 0.2, 0.9])
    real, fake = di2in().masks(output, truth)
    assert real.tolist() == [1, 0, 0] and fake.tolist() == pytest.approx([0.7, 0.2, 0])


def test_values_outside_of_the_volume_are_the_lower_end_of_the_window():
    task = di2in().task
    assert dict(task.preparation.fill) == {"ct": -200.0}
    assert task.roles["ct"].codec.low == -200 and task.roles["ct"].codec.high == 250
    assert task.target.regions == {"liver": (1, 2)}, "lesions are parts of the liver"


def test_all_regions_have_an_output_of_their_own():
    method = di2in(regions={"liver": (1, 2), "lesion": (2,)}).inference_mode()
    with torch.no_grad():
        assert method.segment(torch.rand(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


def test_options_without_a_meaning_are_refused():
    with pytest.raises(UserError, match="--level-weights: at least one level needs a weight"):
        di2in(level_weights=(0, 0, 0))
    with pytest.raises(UserError, match="--patch-shape 1 1 1: DI2IN takes no input"):
        di2in(patch_shape=(1, 1, 1), batch_size=1).check_sizes()


def test_a_run_on_the_phantom_is_judged_as_whole_volumes(cases, tmp_path):
    config = DI2INAN.Config.preset("small", **{**TINY, "supervised_rounds": 3, "game_rounds": 2})
    data = DataConfig(phantom_subjects=4, phantom_size=32, cache=cases)
    options = TrainConfig(device="cpu", threads=1, validate_every=3, validation_slices=2, diagnose=False)
    train("di2in-an", tmp_path / "run", config, data, options)
    found = evaluate(tmp_path / "run")
    rows = {row.method: row.scores for row in found.scores.rows}
    assert set(rows) >= {"threshold", "output"} and 300 < rows["output"]["true size"] < 2200
