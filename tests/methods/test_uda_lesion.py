"""Adversarial domain adaptation: sizes of DeepMedic and its domain classifier, schedules, and who learns what."""

from math import exp

import numpy as np
import pytest
import torch
from small import Samples, build, count
from torch import nn

from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.splits import divide
from ganatomy.errors import UserError
from ganatomy.game import Balanced, NesterovRMSprop, Progress
from ganatomy.methods.segmentation.uda_lesion import UDALesion, log_loss, one_hot_domains
from ganatomy.nets.deepmedic import RESIDUAL, DeepMedic, DomainClassifier, Preactivated, RecentBatchNorm, connected

NARROW = (3, 3, 4, 4, 4, 4, 5, 5)


def published(**values):
    with torch.device("meta"):
        return UDALesion(UDALesion.Config.preset("paper", **values))


def test_networks_have_the_published_numbers_of_parameters():
    method = published()
    network = method.segmentor
    assert count(network) == 1_054_332 and count(method.domain) == 1_919_222
    assert count(network.normal) == count(network.low) == 312_665
    assert count(network.joined) + count(network.last) == 429_000 + 2
    wide = published(hidden=250, inputs=("flair", "t2", "t1", "ge"))
    assert count(wide.domain) == 2_189_422
    assert count(published(inputs=("flair", "t2", "t1", "ge")).segmentor) == 1_052_710


def test_a_segment_of_25_voxels_yields_9_and_taps_are_as_large():
    network = DeepMedic(2, 3, NARROW, 6)
    logits, tapped = network.features(torch.rand(1, 2, 57, 57, 57))
    assert logits.shape == (1, 3, 9, 9, 9)
    sides = {layer: [part.shape[-1] for part in parts] for layer, parts in tapped.items()}
    assert sides == {4: [17, 11], 6: [13, 7], 8: [9, 3], 10: [9]}, "19 voxels of the low path become 3"
    assert connected(tapped, RESIDUAL).shape == (1, 2 * (4 + 4 + 5) + 6, 9, 9, 9)
    assert connected(tapped, (10,)).shape == (1, 6, 9, 9, 9)


def test_whole_tiles_yield_29_voxels_and_the_low_path_is_cropped_from_its_low_corner():
    network, seen = DeepMedic(1, 2, NARROW, 6), []
    for path in (network.normal, network.low):
        path[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
        path[-1].register_forward_hook(lambda *given: seen.append(given[-1].shape[-1]))
    assert network(torch.rand(1, 1, 77, 77, 77)).shape == (1, 2, 29, 29, 29)
    assert seen == [45, 29, 26, 10]
    assert network(torch.rand(1, 1, 49, 50, 56)).shape == (1, 2, 1, 2, 8), "thin ends of a volume, too"


def test_the_low_path_starts_16_voxels_before_the_segment_and_sees_every_third():
    network = DeepMedic(1, 2, NARROW, 6).eval()
    image, seen = torch.arange(57.0).expand(1, 1, 57, 57, 57), []
    for path in (network.normal, network.low):
        path[0].register_forward_pre_hook(lambda _, given: seen.append(given[0][0, 0, 0, 0]))
    network(image)
    segment, low = seen
    assert len(segment) == 25 and segment[0] == low[0] + 16 and low.diff().unique().tolist() == [3] and len(low) == 19


def test_layers_are_preactivated_without_biases_but_the_first_and_the_last():
    network = published().segmentor
    first, second = network.normal[0], network.normal[1]
    assert first[0].bias.shape == (5,) and [type(layer) for layer in first[1]] == [nn.Conv3d]
    assert [type(layer).__name__ for layer in second] == ["RecentBatchNorm", "PReLU", "Conv3d"]
    assert second[1].num_parameters == 30
    assert [type(layer).__name__ for layer in network.joined[0]] == ["RecentBatchNorm", "PReLU", "Conv3d"]
    dropped = [[layer.p for layer in part.modules() if isinstance(layer, nn.Dropout)] for part in network.children()]
    assert dropped == [[], [], [0.5], [0.5]]
    assert all(layer.bias is None for layer in network.modules() if isinstance(layer, nn.Conv3d))
    domain = published().domain
    assert [type(layer).__name__ for layer in domain[0]] == ["RecentBatchNorm", "Conv3d"]
    assert [type(layer).__name__ for layer in domain[4]] == ["RecentBatchNorm", "PReLU", "Dropout", "Conv3d"]


def test_outputs_of_layers_four_six_eight_and_ten_are_added_to_what_came_two_layers_before():
    network = DeepMedic(1, 2, NARROW, 12).double().eval()
    image = torch.rand(1, 1, 57, 57, 57, dtype=torch.float64)
    inputs = {}
    for number, layer in enumerate(network.normal, start=1):
        layer.register_forward_hook(lambda _, given, made, number=number: inputs.update({number: (given[0], made)}))
    network.last.register_forward_pre_hook(lambda _, given: inputs.update({11: given[0]}))
    network.joined[1].register_forward_hook(lambda _, given, made: inputs.update({10: made}))
    network(image)
    for number in (4, 6):
        earlier, made = inputs[number - 1][0][..., 2:-2, 2:-2, 2:-2], inputs[number][1]
        want = made.clone()
        want[:, : earlier.shape[1]] += earlier
        torch.testing.assert_close(inputs[number + 1][0], want)
    torch.testing.assert_close(inputs[3][0], inputs[2][1], msg="nothing is added to layer 2")
    torch.testing.assert_close(
        inputs[11][:, 10:], inputs[10][:, 10:], msg="channels 10 to 12 are those of layer 10 alone"
    )
    assert not torch.allclose(inputs[11][:, :10], inputs[10][:, :10])


def test_batch_norm_remembers_the_last_batches():
    layer = RecentBatchNorm(1, batches=2)
    batches = [torch.full((2, 1, 1, 1, 2), value) + torch.tensor([-1.0, 1.0]) for value in (3.0, 8.0, 4.0)]
    for batch, mean, variance in zip(batches, (1.5, 5.5, 6.0), (1.0, 1.0, 1.0), strict=True):
        torch.testing.assert_close(layer.train()(batch), (batch - batch.mean()) / (1 + 1e-5) ** 0.5)
        torch.testing.assert_close(layer.eval()(batch), (batch - mean) / (variance + 1e-5) ** 0.5)


def test_one_decision_for_each_segment():
    network, sides = DomainClassifier(7, 4), []
    for layer in network:
        if isinstance(layer, Preactivated):
            layer.register_forward_hook(lambda *given: sides.append(given[-1].shape[-1]))
    assert network(torch.rand(3, 7, 9, 9, 9)).shape == (3, 2, 1, 1, 1) and sides == [7, 5, 3, 1, 1]


def test_alpha_and_learning_rate_follow_the_epochs():
    method = published()
    at = {epoch: Progress(stage_round=2_000 * epoch + 1_999) for epoch in (0, 9, 12, 22, 34, 60)}
    assert [method.alpha(at[epoch]) for epoch in (9, 22, 34, 60)] == pytest.approx([0, 0.024, 0.048, 0.05])
    for player in method.stages()[0].players:
        options = player.optimizer([nn.Parameter(torch.ones(1))]).defaults
        assert (options["lr"], options["alpha"], options["eps"], options["momentum"]) == (1e-3, 0.9, 1e-4, 0.6)
        rates = [1e-3 * player.schedule(at[epoch]) for epoch in (0, 12, 34)]
        assert rates == pytest.approx([1e-3, 5e-4, 3.90625e-6])


def test_the_classifier_may_move_at_a_rate_of_its_own():
    first, second = published(domain_learning_rate=0.05).stages()[0].players
    rates = [player.optimizer([nn.Parameter(torch.ones(1))]).defaults["lr"] for player in (first, second)]
    assert [first.name, second.name] == ["segmentor", "domain"] and rates == [1e-3, 0.05]


@pytest.mark.parametrize(("normalised", "change"), [(True, -2.022847e-3), (False, -5.057116e-3)])
def test_the_first_step_of_the_optimiser(normalised, change):
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = NesterovRMSprop([weight], 1e-3, normalised=normalised)
    weight.sum().backward()
    optimizer.step()
    assert weight.tolist() == pytest.approx([change] * 3, rel=1e-6)


def test_the_second_step_has_the_momentum_of_the_first():
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = NesterovRMSprop([weight], 0.1, alpha=0.5, momentum=0.6, eps=0.01, normalised=False)
    value, velocity, square = 0.0, 0.0, 0.0
    for slope in (2.0, -3.0):
        optimizer.zero_grad()
        (slope * weight).sum().backward()
        optimizer.step()
        square = 0.5 * square + 0.5 * slope**2
        step = 0.1 * slope / (square + 0.01) ** 0.5
        velocity = 0.6 * velocity - step
        value += 0.6 * velocity - step
    assert weight.item() == pytest.approx(value)


def test_the_loss_of_known_probabilities():
    answers = torch.tensor([[0.6, 0.4], [0.7, 0.3]]).log().reshape(2, 2, 1, 1, 1)
    assert log_loss(answers, one_hot_domains(answers, 1)).item() == pytest.approx(0.857397, abs=2e-6)
    unknown = torch.tensor([[1.0, 0], [-1, -1]]).reshape(2, 2, 1, 1, 1)
    assert exp(-log_loss(answers, unknown).item()) == pytest.approx(0.6, abs=1e-5)


@pytest.fixture
def method():
    return build("uda-lesion", dropout=0.0, adversarial_weight=0.05, ramp=(10, 35))


def played(method, epoch=22):
    """Return the turns of a round of an epoch in which nobody moves, and its batch."""
    method.progress.stage_round = epoch * method.config.epoch_rounds
    (stage,) = method.stages()
    batch = next(Samples(method, stage))
    (move,) = stage.turns(iter([batch]))
    return {turn.player: turn for turn in move}, batch


def test_both_players_move_at_once_and_the_segmentor_by_the_reversed_gradient(method):
    turns, _ = played(method)
    segmentor, domain = turns["segmentor"], turns["domain"]
    assert list(segmentor.losses) == ["classes", "l1", "l2", "adversarial"]
    assert list(domain.losses) == ["domain", "l1", "l2"]
    assert segmentor.losses["adversarial"].item() == pytest.approx(-0.024 * domain.losses["domain"].item())
    own = list(method.domain.parameters())
    assert all(slope.any() for slope in torch.autograd.grad(domain.losses["domain"], own, retain_graph=True)[1:2])


def test_the_segmentor_is_not_reversed_in_the_first_epochs_but_the_classifier_learns(method):
    turns, _ = played(method, epoch=9)
    assert list(turns["segmentor"].losses) == ["classes", "l1", "l2"] and "domain" in turns["domain"].losses


def test_only_annotated_segments_are_learned_and_only_the_others_are_told_apart(method):
    (stage,) = method.stages()
    method.progress.stage_round = 22 * method.config.epoch_rounds
    shown = []
    method.domain.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    (move,) = stage.turns(Samples(method, stage))
    assert [len(part) for part in shown] == [6] and [len(one) for one in move[1].scores.values()] == [3, 3]


def test_the_penalties_are_of_kernels_alone(method):
    turns, _ = played(method)
    kernels = [one for name, one in method.segmentor.named_parameters() if one.dim() == 5]
    want = sum(one.abs().sum() for one in kernels)
    torch.testing.assert_close(turns["segmentor"].losses["l1"], 1e-6 * want)
    torch.testing.assert_close(turns["domain"].losses["l2"], 1e-4 * sum(
        one.square().sum() for one in method.domain.parameters() if one.dim() == 5
    ))  # fmt: skip


def test_streams_draw_annotated_source_and_unannotated_target_cases(method):
    annotated, source, target = method.stages()[0].streams_in_order
    assert annotated.roles == source.roles == ("flair", "t2", "t1", "ge", "lesions")
    assert target.roles == ("flair", "t2", "t1", "ge") and target.without == ("lesions",)
    assert annotated.place == Balanced("lesions", {1: 0.5}) and source.place is None is target.place
    for stream in (annotated, source, target):
        assert stream.patch == (9, 9, 9) and stream.margin == (24, 24, 24) and stream.flips == (2,)
    values = np.zeros((1, 57, 57, 57))
    assert not source.accepts({"flair": values})
    values[0, 28, 28, 28] = 3
    assert target.accepts({"flair": values}) and annotated.accepts is None


def test_supervision_on_the_target_adds_its_label_maps_for_half_of_the_annotated_segments():
    method = build("uda-lesion", batch_size=5, supervised=True, adversarial_weight=0.0)
    first, second = method.stages()[0].streams_in_order
    assert (first.batch_size, second.batch_size) == (2, 3) and "target_lesions" in second.roles
    assert second.place.role == "target_lesions"
    (move,) = method.stages()[0].turns(Samples(method, method.stages()[0]))
    assert [turn.player for turn in move] == ["segmentor"]


def test_phantoms_of_the_target_have_no_label_map_in_training_and_one_in_testing():
    task = build("uda-lesion").task
    cases = divide(task, find_cases(task, DataConfig(phantom_subjects=30)))
    there = {(case.label, case.split): {"lesions", "target_lesions"} & set(case.sources) for case in cases}
    assert there == {
        ("source", "train"): {"lesions"},
        ("source", "val"): {"lesions"},
        ("target", "train"): {"target_lesions"},
        ("tested", "test"): {"lesions"},
    }


def test_options_that_no_network_has_are_refused():
    with pytest.raises(UserError, match="--widths: 2 numbers, but either path has 8 convolutions"):
        build("uda-lesion", widths=(3, 4))
    with pytest.raises(UserError, match="--ramp 9 9: the weight has to rise"):
        build("uda-lesion", ramp=(9, 9))
    with pytest.raises(UserError, match="--taps 4 5: choose among 4 6 8 10"):
        build("uda-lesion", taps=(4, 5))
