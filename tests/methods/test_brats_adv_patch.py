"""Adversarial patch network: sizes, losses and schedules of the paper's task and of its public re-implementation."""

import pytest
import torch
from small import Samples, build, count, round_of
from torch import nn

from ganatomy.game import Progress
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.methods.segmentation.brats_adv_patch import BratsAdvPatch
from ganatomy.nets.patchwise import CentreDiscriminator, CentreSegmentor


@pytest.fixture
def method():
    return build("brats-adv-patch", dropout=0.0)


@pytest.fixture
def batch(method):
    return next(Samples(method, method.stages()[0]))


def test_networks_have_the_numbers_of_parameters_of_the_re_implementation():
    with torch.device("meta"):
        method = BratsAdvPatch(BratsAdvPatch.Config())
    assert (count(method.segmentor), count(method.discriminator)) == (665_860, 1_681_329)


def test_the_segmentor_returns_the_centre_and_sees_eight_pixels_around_it():
    with torch.device("meta"):
        network = CentreSegmentor(4, 4)
        assert network(torch.empty(2, 4, 31, 31)).shape == (2, 4, 15, 15)
        assert network(torch.empty(1, 4, 240, 240)).shape == (1, 4, 224, 224)
    network = CentreSegmentor(2, 3, width=4).double().eval()
    image = torch.rand(1, 2, 21, 19, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(network(image)[0, :, 2, 1].square().sum(), image)
    rows, columns = (slope.abs().sum((0, 1, 3 - axis)).nonzero().flatten() for axis in (0, 1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 18, 1, 17), "a receptive field of 17 pixels"


def test_the_discriminator_joins_features_of_equal_size_and_gives_one_logit():
    network = CentreDiscriminator(4, 3, width=2)
    maps, image = torch.rand(2, 3, 15, 15), torch.rand(2, 4, 31, 31)
    assert network.maps(maps).shape == network.image(image).shape == (2, 8, 15, 15)
    sizes = []
    for layer in network.joined:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *parts: sizes.append(tuple(parts[-1].shape[1:])))
    assert network(maps, image).shape == (2, 1, 1, 1)
    assert sizes == [(16, 7, 7), (32, 3, 3), (64, 3, 3), (1, 1, 1)]
    assert isinstance(network.joined[-1], nn.Conv2d), "logits of either sign: no ReLU follows"


def test_the_initialisation_is_that_of_the_re_implementation():
    network = CentreSegmentor(4, 4)
    blocks = [layer for layer in network if isinstance(layer, nn.Conv2d)][:-1]
    for layer in blocks:
        fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert layer.bias.any(), "left to the defaults"
    gains = torch.cat([layer.weight.detach() for layer in network if isinstance(layer, nn.BatchNorm2d)])
    assert gains.mean().item() == pytest.approx(1, abs=0.005) and gains.std().item() == pytest.approx(0.02, rel=0.2)


def test_losses_of_known_scores():
    logits = (torch.arange(4.0) / 10).reshape(1, 4, 1, 1)
    target = torch.tensor([0.0, 0, 0, 1]).reshape(1, 4, 1, 1)
    assert cross_entropy(logits, target).item() == pytest.approx(1.242536, abs=1e-6)
    real, fake = torch.tensor([0.5]), torch.tensor([-0.2])
    assert 0.5 * nonsaturating_discriminator(real, fake).item() == pytest.approx(0.536108, abs=1e-6)
    assert nonsaturating_generator(fake).item() == pytest.approx(0.798139, abs=1e-6)


def test_both_rates_fall_by_four_per_cent_an_epoch_and_gradients_are_short():
    method = BratsAdvPatch(BratsAdvPatch.Config(width=1, discriminator_width=1, epoch_rounds=7))
    segmentor, discriminator = method.stages()[0].players
    for player, rate in ((segmentor, 1e-3), (discriminator, 1e-4)):
        (group,) = player.optimizer(player.parameters()).param_groups
        assert group["lr"] == rate and group["betas"] == (0.9, 0.999) and player.max_gradient_norm == 0.2
        found = [rate * player.schedule(Progress(stage_round=7 * epoch + 6)) for epoch in (0, 10, 50)]
        assert found == pytest.approx([rate, 0.6648 * rate, 0.1299 * rate], rel=1e-3)


def test_the_segmentor_moves_first_and_the_discriminator_is_shown_what_it_makes_then(method, batch):
    image, truth = method.image(batch), method.truth(batch)
    logits = method.segmentor(image)
    scores = method.discriminator(logits.softmax(1), image)
    turns = round_of(method, batch)
    first = next(turns)
    assert first.player == "segmentor" and list(first.losses) == ["entropy", "adversarial"]
    torch.testing.assert_close(first.losses["entropy"], cross_entropy(logits, truth))
    torch.testing.assert_close(first.losses["adversarial"], nonsaturating_generator(scores))
    second = next(turns)
    now = method.segmentor(image).softmax(1)
    real, fake = method.discriminator(truth, image), method.discriminator(now, image)
    assert second.player == "discriminator" and not torch.equal(now, logits.softmax(1))
    torch.testing.assert_close(second.total, 0.5 * nonsaturating_discriminator(real, fake))
    reached = torch.autograd.grad(second.total, list(method.segmentor.parameters()), allow_unused=True)
    assert all(slope is None for slope in reached)


def test_the_label_is_that_of_the_centre_of_the_patch(method):
    (stream,) = method.stages()[0].streams_in_order
    assert stream.patch == (1, 15, 15) and stream.margin == (0, 8, 8) and stream.wide == {"flair", "t1", "t1c", "t2"}
    assert stream.place.shares == {1: 0.25, 2: 0.25, 4: 0.25}, "every class equally often"


def test_the_discriminator_learns_nothing_from_voxels_of_unknown_class(method, batch):
    unknown = dict(batch, tumour=batch["tumour"].clone())
    unknown["tumour"][:, :, 2:9, 4:6] = -1
    seen = []
    method.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    list(round_of(method, unknown))
    assert len(seen) == 3 and all((maps[:, :, 2:9, 4:6] == 0).all() and maps.any() for maps in seen)


def test_the_baseline_is_the_same_segmentor_with_cross_entropy(batch):
    base = build("brats-adv-patch", dropout=0.0, **BratsAdvPatch.Config.baseline)
    (turn,) = round_of(base, batch)
    assert base.discriminator is None and list(turn.losses) == ["entropy"]
