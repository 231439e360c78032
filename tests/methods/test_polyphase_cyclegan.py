"""Polyphase CycleGAN: networks, losses and schedule of the system's specification."""

import numpy as np
import pytest
import torch
from small import build
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import Progress
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.methods.segmentation.polyphase_cyclegan import PolyphaseCycleGAN, falling
from ganatomy.nets.biased_patchgan import BiasedPatchGAN
from ganatomy.nets.polyphase import PolyphaseUNet

TINY = {"widths": (2, 4), "discriminator_width": 2, "patch": 32, "batch_size": 2}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def batch_of(method, seed=1):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.zeros(2, 32, 32, dtype=torch.long)
    labels[:, 4:24, 6:20], labels[:, 8:12, 9:15] = 1, 2
    truth = nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    return {"ct": torch.rand(2, 1, 32, 32, generator=draw), "liver": truth}


def turns_of(method, batch=None):
    """Return all turns of a round by the names of their players."""
    found = {}
    for move in method.turns(iter([batch or batch_of(method)])):
        for turn in move if isinstance(move, tuple) else (move,):
            found[turn.player] = turn
    return found


def test_networks_have_the_specified_numbers_of_parameters():
    with torch.device("meta"):
        method = PolyphaseCycleGAN(PolyphaseCycleGAN.Config.preset())
    found = (method.to_labels, method.to_image, method.discriminator_labels, method.discriminator_image)
    assert [count(network) for network in found] == [17_850_371, 17_851_393, 2_764_737, 2_762_689]


@pytest.mark.parametrize(("side", "scores"), [(256, 30), (512, 62)])
def test_discriminators_score_patches(side, scores):
    with torch.device("meta"):
        found = BiasedPatchGAN(3, norm="instance")(torch.empty(1, 3, side, side))
    assert found.shape == (1, 1, scores, scores)


def test_discriminators_see_70_pixels():
    network = BiasedPatchGAN(1, 2, norm="none")
    image = torch.rand(1, 1, 256, 256, requires_grad=True)
    network(image)[..., 15, 15].sum().backward()
    rows = np.flatnonzero(image.grad.abs().sum((0, 1, 3)).numpy())
    assert rows[-1] - rows[0] + 1 == 70


def test_images_are_split_into_sub_lattices_and_put_together_again_to_the_bit():
    network = PolyphaseUNet(1, 1, (2, 4))
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    parts = network.split(image)
    assert parts[0].flatten(1).tolist() == [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    noise = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(3))
    assert torch.equal(network.join(network.split(noise)), noise)


def test_nothing_is_pooled_and_the_inverse_acts_on_both_signs():
    network = PolyphaseUNet(1, 1, (2, 4, 8)).eval()
    assert not any(isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) for layer in network.modules())
    seen = []
    network.join.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    network(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(3)))
    assert len(seen) == 2 and all(maps.min() < 0 < maps.max() for maps in seen)


def test_the_weighted_cross_entropy_is_divided_by_the_weights():
    logits = torch.tensor([[0.0, 1], [0, 0], [0, 2]]).reshape(1, 3, 1, 2)
    target = nn.functional.one_hot(torch.tensor([[[0, 2]]]), 3).movedim(-1, 1).float()
    weights = (1.0, 1.0, 10.0)
    assert cross_entropy(logits, target, weights, per_weight=True).item() == pytest.approx(0.470425, abs=1e-6)
    assert cross_entropy(logits, target, weights).item() == pytest.approx(2.587336, abs=1e-6)
    torch.testing.assert_close(
        cross_entropy(logits, target, weights, per_weight=True),
        nn.functional.cross_entropy(logits, target.argmax(1), torch.tensor(weights)),
    )


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 2e-4), (99, 2e-4 * 100 / 101 + 2e-4 / 101), (150, 9.90e-5), (199, 1.98e-6)]
)
def test_rates_fall_in_the_second_half(epoch, rate):
    assert 2e-4 * falling(epoch) == pytest.approx(rate, rel=1e-3)


def test_the_schedule_follows_the_rounds_of_the_stage():
    method = build("polyphase-cyclegan", epochs=200, **TINY)
    for epoch in (0, 150, 199):
        progress = Progress(stage_round=1000 * epoch + 7, stage_rounds=200_000)
        assert method.rate(progress) == pytest.approx(falling(epoch))


def test_losses_are_those_of_the_two_cycles():
    method = build("polyphase-cyclegan", **TINY, cycle_weight=3.0, squared_weight=2.0, entropy_weight=0.5)
    method.eval()
    batch = batch_of(method)
    image, truth = 2 * batch["ct"] - 1, batch["liver"]
    found = turns_of(method, batch)
    losses = found["generators"].losses
    made_image = method.to_image(truth)
    torch.testing.assert_close(losses["squared"], 2 * (made_image - image).square().mean())
    maps = method.to_labels(image).softmax(1)
    torch.testing.assert_close(losses["cycle image"], 3 * (method.to_image(maps) - image).abs().mean())
    back = method.to_labels(made_image).softmax(1)
    torch.testing.assert_close(losses["cycle labels"], 3 * (back - truth).abs().mean())
    scores = method.discriminator_labels(truth), method.discriminator_labels(maps)
    want = 0.5 * (scores[0] - 1).square().mean() + 0.5 * scores[1].square().mean()
    torch.testing.assert_close(found["discriminator labels"].total, want)
    assert set(found) == {"generators", "discriminator labels", "discriminator image"}
    assert made_image.min() >= -1 and made_image.max() <= 1


def test_the_cycle_reaches_the_generator_of_label_maps():
    method = build("polyphase-cyclegan", **TINY)
    losses = turns_of(method)["generators"].losses
    slopes = torch.autograd.grad(losses["cycle image"], list(method.to_labels.parameters()), allow_unused=True)
    assert all(slope is not None and slope.any() for slope in slopes[:3])


def test_the_baseline_keeps_cycles_and_pairs():
    method, base = (
        build("polyphase-cyclegan", **TINY),
        build("polyphase-cyclegan", **TINY, **PolyphaseCycleGAN.Config.baseline),
    )
    assert method.adversarial and not base.adversarial and base.discriminator_labels is None
    assert list(turns_of(base)["generators"].losses) == ["entropy", "squared", "cycle image", "cycle labels"]
    assert count(base.to_labels) == count(method.to_labels)


def test_cross_entropy_alone_trains_one_generator():
    method = build("polyphase-cyclegan", **TINY, adversarial_weight=0.0, cycle_weight=0.0, squared_weight=0.0)
    (stage,) = method.stages()
    assert [player.modules for player in stage.players] == [(method.to_labels,)]
    assert list(turns_of(method)["generators"].losses) == ["entropy"]


def test_unknown_pixels_teach_nothing_about_labels():
    method = build("polyphase-cyclegan", **TINY, pool=0)
    method.eval()
    batch = batch_of(method)
    batch["liver"][:, :, 20:24] = -1
    losses = turns_of(method, batch)["generators"].losses
    logits = method.to_labels(2 * batch["ct"] - 1)
    want = cross_entropy(logits[:, :, :20], batch["liver"][:, :, :20], (1.0, 1.0, 10.0), per_weight=True)
    rest = cross_entropy(logits[:, :, 24:], batch["liver"][:, :, 24:], (1.0, 1.0, 10.0), per_weight=True)
    assert min(want, rest) <= losses["entropy"] <= max(want, rest)


def test_lesions_are_judged_as_parts_of_the_liver_and_kept_inside_of_it():
    method = build("polyphase-cyclegan", **TINY)
    assert method.task.judged.regions == {"liver": (1, 2), "lesion": (2,)}
    assert method.task.cleaning.organ == ("parenchyma", "lesion")
    role = method.task.roles["ct"]
    assert (role.codec.low, role.codec.high, role.codec.unit) == (-200, 250, "HU")


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="--class-weights: 2 numbers, but there are 3 classes"):
        build("polyphase-cyclegan", **TINY, class_weights=(1.0, 2.0))
    with pytest.raises(UserError, match="--organ spleen: no such class"):
        build("polyphase-cyclegan", **TINY, organ=("spleen",))
    with pytest.raises(UserError, match="--patch 15"):
        build("polyphase-cyclegan", **{**TINY, "patch": 15}).check_sizes()
