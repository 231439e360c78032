import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganatomy.game import Noise
from ganatomy.nets import aids
from ganatomy.nets.layers import BATCH_NORM, CONVOLUTION, CONVOLVE
from ganatomy.nets.patchgan import PatchGAN


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=2, max_size=3), st.integers(0, 5))
def test_base_size_is_the_smallest_that_suffices(size, doublings):
    for base, length in zip(aids.base_size(size, doublings), size, strict=True):
        assert base * 2**doublings >= length > (base - 1) * 2**doublings


def test_centre_crop_takes_the_centre():
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert torch.equal(aids.centre_crop(image, (2, 4)), image[:, :, 2:4, 1:5])
    assert aids.centre_crop(image, (6, 6)).shape == image.shape


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layer_norm_is_over_channels_and_space(dims):
    image = 3 + 5 * torch.randn(4, 3, *[6] * dims)
    normalised = aids.normalisation("layer", 3, dims)(image).flatten(1)
    torch.testing.assert_close(normalised.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.var(1, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    for kind in ("batch", "instance", "none"):
        assert aids.normalisation(kind, 3, dims)(image).shape == image.shape


def test_unknown_layers_are_named():
    with pytest.raises(ValueError, match="'group'"):
        aids.normalisation("group", 3)
    with pytest.raises(ValueError, match="'gelu'"):
        aids.activation_layer("gelu")


def test_priors():
    uniform = aids.latents(Noise(), 4000, 5, "uniform")
    assert uniform.shape == (4000, 5)
    assert -1 <= uniform.min() < -0.99
    assert 0.99 < uniform.max() < 1
    normal = aids.latents(Noise(), 4000, 5)
    assert normal.std().item() == pytest.approx(1, abs=0.03)


def test_gaussian_noise_is_for_training_only():
    layer, image = aids.GaussianNoise(0.5), torch.zeros(100, 100)
    assert layer(image).std().item() == pytest.approx(0.5, rel=0.05)
    draws = torch.randn(100, 100)
    assert torch.equal(layer(image, draws), 0.5 * draws)
    state = torch.get_rng_state()
    assert torch.equal(layer.eval()(image), image)
    assert torch.equal(aids.GaussianNoise(0.0)(image), image)
    assert torch.equal(torch.get_rng_state(), state)


def test_minibatch_discrimination_known_answer():
    layer = aids.MinibatchDiscrimination(2, kernels=1, dims=2)
    with torch.no_grad():
        layer.project.weight.copy_(torch.eye(2))
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
    out = layer(features)
    assert torch.equal(out[:, :2], features)
    e = [math.exp(-d) for d in range(4)]
    wanted = [e[1] + e[3] - 1, e[1] + e[2] - 1, e[3] + e[2] - 1]
    assert out[:, 2].tolist() == pytest.approx(wanted)
    assert layer(features[:1])[0, 2].item() == -1


def test_minibatch_discrimination_tells_collapsed_batches():
    layer = aids.MinibatchDiscrimination(6, kernels=4)
    spread = layer(10 * torch.randn(8, 6))[:, 6:].mean()
    collapsed = layer(torch.randn(1, 6).expand(8, -1))[:, 6:].mean()
    assert collapsed.item() == pytest.approx(6)
    assert spread < collapsed


def test_minibatch_discrimination_is_twice_differentiable_and_saved():
    layer = aids.MinibatchDiscrimination(3, 2, 2).double()
    features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, features)
    assert torch.autograd.gradgradcheck(layer, features)
    other = aids.MinibatchDiscrimination(3, 2, 2).double()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(features), layer(features))


def referenced(layer, reference):
    return aids.WithReference(nn.Sequential(nn.Conv2d(1, 3, 3), layer), reference).double()


def test_virtual_batch_norm_is_batch_norm_of_the_sample_among_the_reference():
    reference, batch = (1 + 2 * torch.randn(n, 1, 6, 6, dtype=torch.float64) for n in (5, 3))
    network = referenced(aids.VirtualBatchNorm(3), reference)
    convolution = network.network[0]
    out = network(batch)
    for index in range(3):
        together = convolution(torch.cat([reference, batch[index : index + 1]]))
        wanted = nn.functional.batch_norm(together, None, None, training=True)[-1]
        torch.testing.assert_close(out[index], wanted)


def test_reference_batch_norm_uses_the_reference_alone():
    reference, batch = (torch.randn(n, 1, 6, 6, dtype=torch.float64) for n in (5, 3))
    network = referenced(aids.ReferenceBatchNorm(3), reference)
    features = network.network[0](reference)
    mean, var = features.mean((0, 2, 3)).detach(), features.var((0, 2, 3), correction=0).detach()
    wanted = nn.functional.batch_norm(network.network[0](batch), mean, var)
    torch.testing.assert_close(network(batch), wanted)
    torch.testing.assert_close(network(batch)[:1], network(batch[:1]))


@pytest.mark.parametrize("layer", [aids.VirtualBatchNorm, aids.ReferenceBatchNorm])
def test_referenced_networks_are_saved_copied_and_follow_their_weights(layer):
    reference, batch = torch.randn(4, 1, 6, 6), torch.randn(2, 1, 6, 6).double()
    network = referenced(layer(3), reference)
    network(batch).sum().backward()
    assert network.network[0].weight.grad is not None
    other = referenced(layer(3), torch.zeros(4, 1, 6, 6))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(batch), network(batch))
    clone = copy.deepcopy(network)
    with torch.no_grad():
        clone.network[0].weight.mul_(1e3)
    torch.testing.assert_close(clone(batch).std(), network(batch).std(), rtol=0.2, atol=0)


def test_flat_features_and_gradients_of_virtual_batch_norm():
    network = aids.WithReference(nn.Sequential(nn.Linear(2, 3), aids.VirtualBatchNorm(3)), torch.randn(4, 2)).double()
    batch = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert network(batch).shape == (2, 3)
    assert torch.autograd.gradcheck(network, batch)
    assert torch.autograd.gradgradcheck(network, batch)


def test_a_reference_layer_alone_says_what_is_missing():
    with pytest.raises(RuntimeError, match="WithReference"):
        aids.VirtualBatchNorm(2)(torch.randn(1, 2, 3, 3))
    broken = aids.WithReference(nn.Sequential(aids.VirtualBatchNorm(2)), torch.randn(3, 2, 4))
    with pytest.raises(RuntimeError):
        broken(torch.randn(1, 5, 4))
    assert broken.network[0].reference is None


def trained(dims):
    """Return a network of two normalised layers with random gains, biases and running averages, and three images."""
    torch.manual_seed(dims)
    network = nn.Sequential(
        CONVOLUTION[dims](1, 3, 3),
        BATCH_NORM[dims](3),
        nn.Sequential(nn.ReLU(), CONVOLUTION[dims](3, 2, 2), BATCH_NORM[dims](2, affine=False)),
    ).double()
    nn.init.normal_(network[1].weight)
    nn.init.normal_(network[1].bias)
    images = torch.stack([3 * k + (1 + k) * torch.randn(1, *(7, 6, 5)[:dims]).double() for k in range(3)])
    network(images)
    return network, images


def test_averages_are_kept_meanwhile_and_move_afterwards():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, momentum=0.3)).train()
    batch = torch.rand(3, 1, 6, 5, generator=torch.Generator().manual_seed(3))
    before = network[1].running_mean.clone()
    with aids.averages_kept(network):
        kept = network(batch)
    assert torch.equal(network[1].running_mean, before) and network.training
    torch.testing.assert_close(network(batch), kept)
    torch.testing.assert_close(network[1].running_mean, 0.3 * network[0](batch).mean((0, 2, 3)))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_own_statistics_give_each_sample_what_a_batch_of_one_would(dims):
    network, images = trained(dims)
    alone = copy.deepcopy(network).train()
    wanted = torch.cat([alone(image[None]) for image in images])
    before = copy.deepcopy(network.state_dict())
    assert not torch.allclose(network.eval()(images), wanted)
    result = aids.own_statistics(network)
    assert result is network
    torch.testing.assert_close(network(images), wanted)
    torch.testing.assert_close(network(images.flip(0)), wanted.flip(0))
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_own_statistics_are_for_inference_alone(dims):
    network, images = trained(dims)
    ordinary = copy.deepcopy(network).train()
    parameters = list(network.parameters())
    for _ in range(2):
        aids.own_statistics(network.eval())
    network.train()
    assert torch.equal(network(images), ordinary(images))
    for name, value in ordinary.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert all(one is other for one, other in zip(network.parameters(), parameters, strict=True))
    assert isinstance(network[1], BATCH_NORM[dims])
    clone = copy.deepcopy(network).eval()
    torch.testing.assert_close(clone(images)[:1], clone(images[:1]))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_one_value_per_channel_becomes_the_bias(dims, training):
    layer = BATCH_NORM[dims](2)
    nn.init.constant_(layer.bias, 0.75)
    features = torch.randn(1 if training else 3, 2, *[1] * dims, requires_grad=True)
    if training:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(features)
    aids.own_statistics(layer).train(training)
    assert torch.equal(layer(features), torch.full_like(features, 0.75))
    assert torch.equal(layer.running_mean, torch.zeros(2))
    plain = aids.own_statistics(BATCH_NORM[dims](2, affine=False)).train(training)
    assert torch.equal(plain(features), torch.zeros_like(features))


def test_own_statistics_of_vectors_leave_the_bias_and_wrong_shapes_are_refused():
    layer = aids.own_statistics(nn.BatchNorm1d(2)).eval()
    nn.init.constant_(layer.bias, -2.0)
    assert torch.equal(layer(torch.randn(4, 2)), torch.full((4, 2), -2.0))
    with pytest.raises(ValueError, match="4D"):
        aids.own_statistics(nn.BatchNorm2d(2)).eval()(torch.randn(1, 2, 3))


def test_a_published_network_with_its_own_statistics_judges_each_sample_alone():
    network = aids.own_statistics(PatchGAN(1, width=4, strided=2).eval())
    images = torch.randn(3, 1, 24, 40) * torch.tensor([1.0, 5.0, 20.0]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]))
    train = copy.deepcopy(network).train()
    torch.testing.assert_close(network(images)[1:2], train(images[1:2]))


def simple_pool(capacity):
    kept = []

    def query(fake, exchange, place):
        if len(kept) < capacity:
            kept.append(fake)
            return fake
        if exchange < 0.5:
            return fake
        slot = int(place * capacity)
        old, kept[slot] = kept[slot], fake
        return old

    return query


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 999))
def test_the_pool_behaves_like_a_list(capacity, batches, seed):
    draw = torch.Generator().manual_seed(seed)
    pool, simple = aids.ImagePool((1,), capacity), simple_pool(capacity)
    count = 0
    for rows in batches:
        fakes = torch.arange(count, count + rows).float().unsqueeze(1)
        draws = torch.rand(rows, 2, generator=draw)
        count += rows
        wanted = [simple(fake.item(), *draw) for fake, draw in zip(fakes, draws.tolist(), strict=True)]
        assert pool(fakes, draws).flatten().tolist() == wanted


def test_the_pool_is_resumed_bit_for_bit():
    first = aids.ImagePool((1, 2, 2), 3)
    for _ in range(4):
        first(torch.randn(2, 1, 2, 2), torch.rand(2, 2))
    second = aids.ImagePool((1, 2, 2), 3)
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        fakes, draws = torch.randn(2, 1, 2, 2), torch.rand(2, 2)
        assert torch.equal(first(fakes, draws), second(fakes, draws))


def test_the_pool_takes_no_graph_and_leaves_the_fakes_alone():
    fakes = torch.randn(2, 1, requires_grad=True)
    before = fakes.detach().clone()
    pool = aids.ImagePool((1,), 1)
    shown = pool(fakes * 1, torch.ones(2, 2) * 0.9)
    assert not shown.requires_grad
    assert torch.equal(fakes, before)
    assert torch.equal(shown, before[[0, 0]])
    assert list(pool.parameters()) == []
    assert torch.equal(aids.ImagePool((1,), 0)(fakes, torch.rand(2, 2)), before)


@pytest.mark.parametrize("layer", [aids.EqualisedConv(32, 64, 3, 1), aids.EqualisedLinear(256, 512)])
def test_equalised_layers_keep_the_scale_with_weights_of_unit_size(layer):
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
    assert layer.bias.abs().sum() == 0
    shape = (64, 256) if isinstance(layer, aids.EqualisedLinear) else (8, 32, 12, 12)
    out = layer(torch.randn(shape))
    inner = out if out.dim() == 2 else out[..., 1:-1, 1:-1]
    assert inner.std().item() == pytest.approx(math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_equalised_layers_scale_at_run_time(dims):
    layer = aids.EqualisedConv(2, 3, 3, padding=1, gain=1.0, dims=dims).double()
    image = torch.randn(1, 2, *(5, 6, 7)[:dims], dtype=torch.float64)
    wanted = CONVOLVE[dims](image, layer.weight / math.sqrt(2 * 3**dims), padding=1)
    torch.testing.assert_close(layer(image), wanted)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_dropout_may_go_on_in_a_network_that_is_evaluated():
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)).eval()
    aids.keep_dropout(network)
    assert [layer.training for layer in network] == [True, False]
