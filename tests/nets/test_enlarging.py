"""Adversaries that judge several samples together, or are told how close samples are."""

import pytest
import torch
from torch import nn

from ganatomy.nets.aids import EqualisedConv, EqualisedLinear
from ganatomy.nets.dcgan import DCDiscriminator
from ganatomy.nets.enlarging import Compared, Packed, compare, pack, restore_enlarged
from ganatomy.nets.spectral import normalise_weights, restore_norms


def network():
    torch.manual_seed(0)
    return DCDiscriminator(2, (8, 12), (4, 6), kernel=4, norm="none")


def test_a_pack_is_two_neighbours_side_by_side():
    layer = Packed(nn.Linear(3, 2), 2)
    batch = torch.randn(4, 3)
    side = torch.stack([torch.cat([batch[0], batch[1]]), torch.cat([batch[2], batch[3]])])
    assert torch.equal(layer(batch), layer.layer(side))
    image = Packed(nn.Conv2d(2, 5, 3, 2, 1), 3)
    images = torch.randn(6, 2, 8, 10)
    pictures = image.layer(torch.cat([images[3], images[4], images[5]])[None])
    assert torch.allclose(image(images)[1], pictures[0], atol=1e-6)


def test_new_weights_have_the_spread_of_the_old_ones_and_biases_stay():
    old = nn.Conv2d(4, 64, 5)
    nn.init.normal_(old.weight, 0.0, 0.3)
    new = Packed(old, 2).layer
    assert new.weight.shape == (64, 8, 5, 5) and new.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(new.bias, old.bias)


def test_a_batch_that_is_no_number_of_packs_is_refused():
    with pytest.raises(ValueError, match="a batch of 3 samples cannot be divided into packs of 2"):
        Packed(nn.Linear(3, 2), 2)(torch.randn(3, 3))


def test_a_discriminator_of_packs_gives_a_score_for_each_and_sees_all_of_it():
    net = network()
    assert pack(net, 2) and isinstance(net.convolutions[0], Packed)
    images = torch.randn(4, 2, 8, 12, requires_grad=True)
    scores = net(images)
    assert scores.shape == (2, 1)
    (slope,) = torch.autograd.grad(scores[0, 0], images)
    assert [bool(one.abs().sum()) for one in slope] == [True, True, False, False]


def test_closeness_makes_scores_depend_on_the_batch_and_keeps_the_old_weights():
    net = network()
    before = net.head.weight.clone()
    images = torch.randn(3, 2, 8, 12)
    features = net.features(images).flatten(1)
    assert compare(net, 5) and isinstance(net.head, Compared)
    assert torch.equal(net.head.layer.weight[:, : before.shape[1]], before)
    assert net.head.closeness(features).shape == (3, before.shape[1] + 5)
    alike = images.clone()
    alike[1:] = images[0]
    assert not torch.allclose(net(images)[0], net(alike)[0])


def test_the_head_with_a_score_is_told_and_not_that_of_classes():
    net = DCDiscriminator(1, (8, 8), (4, 4), kernel=4, norm="none", classes=3)
    assert compare(net, 2)
    assert isinstance(net.head, Compared) and isinstance(net.classifier, nn.Linear)


def test_weights_with_a_scale_are_left_alone():
    scaled = nn.Sequential(EqualisedConv(1, 2, 3), nn.Flatten(), EqualisedLinear(2, 1))
    assert not pack(scaled, 2) and not compare(scaled, 3)
    assert not compare(nn.Sequential(nn.Conv2d(1, 1, 3)), 3)
    assert [type(one) for one in scaled] == [EqualisedConv, nn.Flatten, EqualisedLinear]


def test_enlarged_networks_are_built_again_from_their_weights():
    net = network()
    pack(net, 2), compare(net, 5), normalise_weights(net)
    whole, other = nn.ModuleDict({"critic": net}), nn.ModuleDict({"critic": network()})
    state = whole.state_dict()
    restore_enlarged(other, state)
    restore_norms(other, state)
    other.load_state_dict(state)
    images = torch.randn(4, 2, 8, 12)
    assert torch.equal(other.eval()["critic"](images), whole.eval()["critic"](images))
