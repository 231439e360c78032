"""Layers looked up by number of axes, and networks built from them for signals, images and volumes."""

from functools import partial

import pytest
import torch
from torch import nn

from ganatomy.nets import layers
from ganatomy.nets.classifier import Classifier
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, init_dcgan
from ganatomy.nets.dealiasing import DealiasingDiscriminator, DealiasingUNet, init_dealiasing
from ganatomy.nets.dense import MultiLevelDense
from ganatomy.nets.embedding import RandomEmbedding
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.progressive import ProgressiveDiscriminator, ProgressiveGenerator, faded
from ganatomy.nets.residual import (
    PreactivationCritic,
    PreactivationGenerator,
    ResidualDecoder,
    ResidualEncoder,
    ResNetGenerator,
    SRDiscriminator,
    SRResNet,
)
from ganatomy.nets.unet import ConvUNet, Pix2PixUNet, UNet
from ganatomy.nets.volumetric import VolumeSRResNet

DIMS = (1, 2, 3)
SIDES = (8, 16, 24)
"""Of the images, by axis; networks of fewer axes see the last ones."""


def image(channels, dims, sides=SIDES):
    return torch.randn(2, channels, *sides[-dims:])


def wide(channels, dims):
    return image(channels, dims, (16, 24, 32))


def code(channels, dims):
    return torch.randn(2, channels)


def by_size(network, *args, sides=SIDES, **options):
    """Adapt a network class that takes the size of its images to a builder that takes the number of axes."""
    return lambda dims: network(*args, sides[-dims:], **options)


# What each is given, its network by number of axes, and the shape of its output.
KEPT = "same"
NETWORKS = {
    "pix2pix": (image, 2, lambda dims: Pix2PixUNet(2, 3, width=2, levels=3, dims=dims), (3, KEPT)),
    "unet": (image, 2, lambda dims: UNet(2, 3, (2, 4), (3,), upsampling="linear", dims=dims), (3, KEPT)),
    "reflecting unet": (
        *(image, 1),
        lambda dims: UNet(1, 1, (2, 4), (2,), kernel=4, padding="reflect", convolved=True, dims=dims),
        (1, KEPT),
    ),
    "plain unet": (image, 1, lambda dims: ConvUNet(1, 2, width=6, levels=2, dims=dims), (2, KEPT)),
    "cyclegan": (image, 1, lambda dims: ResNetGenerator(1, 2, width=2, blocks=1, dims=dims), (2, KEPT)),
    "patchgan": (wide, 1, lambda dims: PatchGAN(1, width=2, strided=2, dims=dims), (1, (2, 4, 6))),
    "srresnet": (image, 1, lambda dims: SRResNet(1, 2, width=2, blocks=1, factor=2, dims=dims), (2, (16, 32, 48))),
    "sr discriminator": (image, 1, by_size(SRDiscriminator, 1, width=2, dense=3), (1, ())),
    "preactivation generator": (
        *(code, 3),
        lambda dims: PreactivationGenerator(3, 2, (7, 12, 10)[-dims:], (4, 3, 2)),
        (2, (7, 12, 10)),
    ),
    "preactivation critic": (image, 1, by_size(PreactivationCritic, 1, channels=(2, 3)), (1, ())),
    "residual encoder": (image, 1, by_size(ResidualEncoder, 1, latent=3, width=2, blocks=2), (3, ())),
    "residual decoder": (code, 3, by_size(ResidualDecoder, 3, 2, width=2, blocks=2), (2, SIDES)),
    "dense": (image, 1, lambda dims: MultiLevelDense(2, 2, 2, dims=dims), (1, KEPT)),
    "resolving": (
        *(image, 1),
        lambda dims: VolumeSRResNet(1, 2, ((2, 1, 3)[-dims:],), 3, 1, "resize-conv", 4, dims=dims),
        (2, (16, 16, 72)),
    ),
    "dcgan generator": (code, 3, by_size(DCGenerator, 3, 2, channels=(3, 2), kernel=4), (2, SIDES)),
    "dcgan discriminator": (image, 1, by_size(DCDiscriminator, 1, channels=(2, 3)), (1, ())),
    "dealiasing": (wide, 1, lambda dims: DealiasingUNet(2, levels=2, dims=dims), (1, KEPT)),
    "dealiasing discriminator": (
        *(partial(image, sides=(32, 20, 16)), 1),
        by_size(DealiasingDiscriminator, sides=(32, 20, 16), width=16),
        (1, ()),
    ),
    "classifier": (image, 1, lambda dims: Classifier(1, 3, (8, 8, 8), dims=dims), (3, ())),
    "pgan generator": (code, 3, lambda dims: ProgressiveGenerator(3, 2, 8, 4, 4, dims=dims), (2, (8, 8, 8))),
    "pgan discriminator": (
        *(partial(image, sides=(8, 8, 8)), 1),
        lambda dims: ProgressiveDiscriminator(1, 8, 4, 4, dims=dims),
        (1, ()),
    ),
}
FADING = {"pgan generator": (1, 0.5), "pgan discriminator": (1, 0.5)}
"""Level and weight with which every part of these takes part."""


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_any_number_of_axes_have_their_shapes_and_learn(name, dims):
    draw, channels, build, (outputs, sides) = NETWORKS[name]
    network, given = build(dims).train(), draw(channels, dims).requires_grad_()
    result = network(given, *FADING.get(name, ()))
    extents = given.shape[2:] if sides == KEPT else sides[-dims:] if sides else ()
    assert result.shape == (2, outputs, *extents)
    (result * torch.randn_like(result)).sum().backward()
    assert torch.isfinite(given.grad).all() and given.grad.abs().max() > 0
    for parameter, value in network.named_parameters():
        assert torch.isfinite(value.grad).all(), parameter
        # A bias in front of a normalisation changes nothing.
        assert value.dim() == 1 or value.grad.abs().max() > 0, parameter


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"srresnet", "residual decoder"}))
def test_every_kernel_has_the_side_it_has_on_images(name):
    _, _, build, _ = NETWORKS[name]
    signals, images, volumes = (dict(build(dims).named_parameters()) for dims in DIMS)
    assert list(signals) == list(images) == list(volumes)
    for parameter, flat in images.items():
        if flat.dim() == 4:
            *channels, rows, columns = flat.shape
            assert list(signals[parameter].shape) == [*channels, columns]
            assert list(volumes[parameter].shape) == [*channels, volumes[parameter].shape[2], rows, columns]
            assert len({*volumes[parameter].shape[2:]}) == 1


@pytest.mark.parametrize("dims", DIMS)
def test_parameters_by_number_of_axes(dims):
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    k = 4**dims
    with torch.device("meta"):
        widths = [(3, 64), (64, 128), (128, 256), (256, 512), *[(512, 512)] * 4]
        ways = [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64), (128, 3)]
        norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
        assert count(Pix2PixUNet(3, 3, dims=dims)) == sum(k * a * b for a, b in widths + ways) + 3 + norms
        pairs = [(6, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
        biases = 64 + 1 + 2 * (128 + 256 + 512)
        assert count(PatchGAN(6, dims=dims)) == sum(k * a * b for a, b in pairs) + biases
        k = 3**dims
        ends = 7**dims * 64 * 6 + 64 + 3 + k * 2 * (64 * 128 + 128 * 256) + 128 + 256 + 128 + 64
        assert count(ResNetGenerator(3, 3, dims=dims)) == ends + 18 * (k * 256 * 256 + 256)
        doubled = 2 * (k * 64 * 64 * 2**dims + 64 * 2**dims + 1)
        body = 33 * (k * 64 * 64 + 128) + 16
        assert count(SRResNet(3, 3, dims=dims)) == body + doubled + 9**dims * 6 * 64 + 64 + 1 + 3


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("initialise", [init_pix2pix, init_dcgan, init_dealiasing])
def test_initialisations_reach_convolutions_and_norms_of_any_number_of_axes(initialise, dims):
    torch.manual_seed(dims)
    convolution, transposed = layers.CONVOLUTION[dims](8, 64, 3), layers.TRANSPOSED[dims](64, 8, 3)
    norm = layers.BATCH_NORM[dims](4000)
    initialise(nn.Sequential(convolution, transposed, norm))
    wanted = 0.01 if initialise is init_dealiasing else 0.02
    for layer in (convolution, transposed):
        assert layer.weight.std().item() == pytest.approx(wanted, rel=0.2)
        assert layer.bias.abs().max() == 0
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.005)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_norms_of_dense_layers_are_not_those_of_maps():
    dense = nn.BatchNorm1d(5)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 5), dense)
    assert layers.map_norms(network) == (nn.BatchNorm2d,)
    assert layers.map_norms(nn.Sequential(nn.ConvTranspose1d(1, 2, 3), nn.Conv3d(1, 1, 1))) == (
        nn.BatchNorm1d,
        nn.BatchNorm3d,
    )
    init_dcgan(network)
    assert torch.equal(dense.weight, torch.ones(5))


def test_shuffled_channels_lie_in_the_pixel_they_come_from():
    features = torch.arange(2 * 12 * 2 * 3 * 4.0).view(1, 24, 2, 3, 4)
    fine = layers.ChannelShuffle((3, 2, 2))(features)
    assert fine.shape == (1, 2, 6, 6, 8)
    torch.testing.assert_close(fine[0, 1, 4, 3, 5], features[0, 12 + (1 * 2 + 1) * 2 + 1, 1, 1, 2])
    flat = layers.ChannelShuffle((2, 2))(features[:, :, 0])
    assert torch.equal(flat, nn.functional.pixel_shuffle(features[:, :, 0], 2))
    signal = layers.ChannelShuffle((4,))(features[:, :8, 0, 0])
    assert signal[0, 1].tolist() == features[0, 4:8, 0, 0].T.flatten().tolist()


@pytest.mark.parametrize("factors", [(2,), (3, 2), (2, 2, 2), (3, 1, 1), (1, 2, 4)])
def test_a_nearest_transposed_convolution_begins_without_checkerboard(factors):
    dims = len(factors)
    layer = layers.nearest_transposed(2, 3, factors)
    coarse = torch.randn(1, 2, *(4, 5, 6)[:dims])
    fine = layer(coarse)
    assert list(fine.shape[2:]) == [size * times for size, times in zip(coarse.shape[2:], factors, strict=True)]
    places = (slice(None), slice(None), *(slice(None, None, times) for times in factors))
    first = fine[places]
    for axis, times in enumerate(factors, start=2):
        first = first.repeat_interleave(times, axis)
    torch.testing.assert_close(fine, first)
    transposed = layers.TRANSPOSED[dims](2, 3, 3, padding=1)
    transposed.load_state_dict({"weight": layer.weight[places], "bias": layer.bias})
    torch.testing.assert_close(fine[places], transposed(coarse))


@pytest.mark.parametrize("dims", DIMS)
def test_a_growing_pair_fades_in_any_number_of_axes(dims):
    generator = ProgressiveGenerator(3, 1, 16, 8, 4, dims=dims)
    latent = torch.randn(2, 3)
    coarse, fine = generator(latent, 1), generator(latent, 2)
    enlarged = coarse
    for axis in range(2, 2 + dims):
        enlarged = enlarged.repeat_interleave(2, axis)
    torch.testing.assert_close(generator(latent, 2, 0.25), torch.lerp(enlarged, fine, 0.25))
    constant = torch.full((1, 1, *[16] * dims), 3.0)
    assert torch.equal(faded(constant, 0.5), constant)


@pytest.mark.parametrize("dims", DIMS)
def test_random_features_of_any_number_of_axes(dims):
    network, given = RandomEmbedding(1, dims), image(1, dims)
    found = network(given)
    assert found.shape == (2, network.features) and len(found.unique()) > network.features
    assert torch.equal(found, RandomEmbedding(1, dims)(given))


@pytest.mark.parametrize("dims", DIMS)
def test_pools_means_and_linear_interpolation(dims):
    values = image(2, dims)
    halves = nn.functional.interpolate(values, scale_factor=2.0, mode=layers.LINEAR[dims])
    assert halves.shape[2:] == tuple(2 * side for side in SIDES[-dims:])
    ramp = torch.arange(24.0).expand(1, 1, *SIDES[-dims:])
    finer = nn.functional.interpolate(ramp, scale_factor=2.0, mode=layers.LINEAR[dims])
    torch.testing.assert_close(finer[..., 1:-1].reshape(-1, 46)[0], torch.arange(46) / 2 + 0.25)
    torch.testing.assert_close(layers.ADAPTIVE_AVERAGE_POOL[dims](1)(values).flatten(1), values.flatten(2).mean(2))
    assert layers.MAX_POOL[dims](2)(ramp)[..., 0].unique().tolist() == [1]
    assert layers.AVERAGE_POOL[dims](2)(ramp)[..., 1].unique().tolist() == [2.5]
    normalised = layers.INSTANCE_NORM[dims](2)(5 + values)
    torch.testing.assert_close(normalised.flatten(2).mean(2), torch.zeros(2, 2), atol=1e-5, rtol=0)
