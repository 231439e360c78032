"""SCAN: networks, losses and stages of its paper."""

import numpy as np
import pytest
import torch
from small import build, configured
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.methods.segmentation.scan_cxr import SCAN
from ganatomy.nets.scan import ScanCritic, ScanSegmentor
from ganatomy.training.run import TrainConfig, train

TINY = {"size": (32, 48), "width": 2, "critic_width": 2, "batch_size": 2}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def batch_of(method, seed=1):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.zeros(2, 32, 48, dtype=torch.long)
    labels[:, 4:20, 30:44], labels[:, 4:22, 3:16], labels[:, 14:26, 18:32] = 1, 2, 3
    truth = nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    return {"radiograph": torch.randn(2, 1, 32, 48, generator=draw), "organs": truth}


@pytest.mark.parametrize(
    ("kind", "arguments", "parameters"),
    [
        (ScanSegmentor, (1, 4), 271_440),
        (ScanSegmentor, (1, 3), 267_343),
        (ScanCritic, (4,), 256_057),
        (ScanCritic, (3,), 255_657),
        (ScanCritic, (5,), 256_457),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(kind, arguments, parameters):
    with torch.device("meta"):
        assert count(kind(*arguments)) == parameters


def test_the_segmentor_has_21_layers_with_weights_and_one_large_enlargement():
    network = ScanSegmentor(1, 4)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    shortcuts = sum(layer.kernel_size == (1, 1) for layer in convolutions) - 3 * 2 - 1
    assert len(convolutions) - shortcuts == 21 and shortcuts == 4
    (enlarge,) = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert (enlarge.kernel_size, enlarge.stride, enlarge.padding) == ((32, 32), (16, 16), (8, 8))
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in network.modules())
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in network.modules()) == 4


def test_sizes_are_halved_four_times_and_restored():
    network, sides = ScanSegmentor(1, 4).to("meta").eval(), []
    for layer in network[0]:
        if isinstance(layer, nn.AvgPool2d):
            layer.register_forward_hook(lambda _, inputs, output: sides.extend([inputs[0].shape[-1], output.shape[-1]]))
    out = network(torch.empty(1, 1, 400, 400, device="meta"))
    assert sides == [400, 200, 200, 100, 100, 50, 50, 25] and out.shape == (1, 4, 400, 400)


def test_the_deepest_maps_see_216_pixels():
    network = ScanSegmentor(1, 4, width=1)[0].eval()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.fill_(1.0)
    image = torch.rand(1, 1, 400, 400, dtype=torch.float64, requires_grad=True)
    network.double()(image)[..., 12, 12].sum().backward()
    rows = np.flatnonzero(image.grad.abs().sum((0, 1, 3)).numpy())
    assert rows[-1] - rows[0] + 1 == 216


def test_losses_are_those_of_fixed_scores():
    method = build("scan-cxr", **TINY)

    class Critic(nn.Module):
        def forward(self, maps):
            real = (maps.amax(1) == 1).all()
            return torch.full((len(maps), 1), 0.5 if real else -0.2, requires_grad=True)

    critic, segmentor = method.turns(Critic(), iter([batch_of(method)] * 2))
    assert (critic.player, segmentor.player) == ("critic", "segmentor")
    assert critic.total.item() == pytest.approx(1.072216, abs=1e-6)
    assert segmentor.losses["adversarial"].item() == pytest.approx(0.00798139, abs=1e-8)
    batch = batch_of(method)
    torch.testing.assert_close(
        segmentor.losses["pixel"], cross_entropy(method.segmentor(batch["radiograph"]), batch["organs"])
    )


def test_the_critic_comes_after_the_pretraining_and_sees_label_maps_alone():
    method = build("scan-cxr", **TINY)
    pretraining, game = method.stages()
    assert [player.name for player in pretraining.players] == ["segmentor"]
    assert [player.name for player in game.players] == ["segmentor", "critic"]
    assert [turn.player for turn in pretraining.turns(iter([batch_of(method)]))] == ["segmentor"]
    batch, other = batch_of(method), {**batch_of(method), "radiograph": batch_of(method, 2)["radiograph"]}
    image, truth = method.image(batch), method.truth(batch)
    torch.testing.assert_close(method.shown(image, truth, truth), method.shown(method.image(other), truth, truth))
    seeing = build("scan-cxr", critic_sees_image=True, **TINY)
    assert seeing.shown(image, truth, truth).shape[1] == 5


def test_steps_of_the_critic_are_an_option():
    method = build("scan-cxr", critic_steps=3, **TINY)
    turns = method.stages()[1].turns(iter([batch_of(method)] * 4))
    assert [turn.player for turn in turns] == ["critic"] * 3 + ["segmentor"]


def test_unknown_pixels_tell_the_critic_nothing():
    method = build("scan-cxr", **TINY)
    batch = batch_of(method)
    truth = method.truth(batch)
    truth[:, :, 5:9] = -1
    maps = torch.rand(truth.shape, generator=torch.Generator().manual_seed(3)).softmax(1)
    other = maps.clone()
    other[:, :, 5:9] = 0.25
    image = method.image(batch)
    torch.testing.assert_close(method.shown(image, maps, truth), method.shown(image, other, truth))
    assert (method.shown(image, truth, truth)[:, :, 5:9] == 0).all()


def test_the_baseline_has_the_same_segmentor_and_as_many_rounds():
    method, base = build("scan-cxr"), build("scan-cxr", **SCAN.Config.baseline)
    assert method.adversarial and not base.adversarial and base.critic is None
    assert count(method.segmentor) == count(base.segmentor)
    assert [stage.rounds for stage in method.stages()] == [stage.rounds for stage in base.stages()]
    (turn,) = base.stages()[1].turns(iter([batch_of(base)]))
    assert list(turn.losses) == ["pixel"]


def test_of_every_organ_the_largest_component_is_kept():
    method = build("scan-cxr")
    organs = ("left_lung", "right_lung", "heart")
    assert (method.task.cleaning.largest, method.task.cleaning.fill) == (organs, organs)
    assert SCAN.Config.preset().size == (400, 400) and SCAN.Config.preset().adversarial_weight == 0.01
    assert SCAN.Config.preset().roles["radiograph"].scale == "zscore"


def test_a_size_that_is_no_multiple_of_the_stride_is_refused():
    with pytest.raises(UserError, match="--size"):
        SCAN(configured("scan-cxr", size=(8, 8))).check_sizes()


def test_a_run_on_the_phantom_is_judged_and_applied(cases, tmp_path):
    config = configured("scan-cxr", size=(32, 32), width=2, critic_width=2, pretraining_rounds=2, game_rounds=2)
    options = TrainConfig(rounds=4, device="cpu", threads=1, validate_every=4, validation_slices=2, diagnose=False)
    data = DataConfig(phantom_subjects=4, phantom_size=40, cache=cases)
    train("scan-cxr", tmp_path / "run", config, data, options)
    rows = {row.method: row.scores for row in evaluate(tmp_path / "run").scores.rows}
    assert {"dice left_lung", "dice heart", "hd95 right_lung"} <= set(rows["output"])


def test_the_cardiothoracic_ratio_is_read_from_the_label_map():
    method = build("scan-cxr", **TINY)
    (measure,) = method.task.measures
    masks = {name: np.zeros((1, 32, 48), bool) for name in ("left_lung", "right_lung", "heart")}
    masks["left_lung"][0, 4:20, 30:44] = masks["right_lung"][0, 4:22, 3:16] = masks["heart"][0, 14:26, 18:32] = True
    assert measure.name == "cardiothoracic ratio" and measure(masks, (1.0, 2.0, 2.0)) == pytest.approx(14 / 41)
    masks["left_lung"][:] = masks["right_lung"][:] = False
    assert np.isnan(measure(masks, (1.0, 2.0, 2.0)))
    lungs = build("scan-cxr", **TINY, regions={"background": (0,), "left_lung": (1,), "right_lung": (2,)})
    assert lungs.task.measures == ()
