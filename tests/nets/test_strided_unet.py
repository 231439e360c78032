"""The U-Net that paints photographs over maps, with the norms of Keras, and layers that are padded as in TensorFlow."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.nets.layers import SameConvolution, SameTransposed, init_truncated
from ganatomy.nets.strided_unet import ImageNorm, StridedDiscriminator, StridedUNet, keras_norm

VESS2RET = {"encoder": (64, 128, 256, 512, 512, 512, 512, 512), "decoder": (512, 512, 512, 512, 512, 256, 128, 64)}
SYNTHMED = {
    "encoder": VESS2RET["encoder"],
    "decoder": VESS2RET["decoder"][1:],
    "kernels": (4, 4),
    "point": False,
    "activated": True,
    "statistics": "running",
    "normalised_end": True,
}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def inputs_of(network, kind=nn.ConvTranspose2d):
    return [layer.in_channels for layer in network.modules() if isinstance(layer, kind)]


def test_numbers_of_weights_and_extents_of_published_painters():
    with torch.device("meta"):
        first, second = StridedUNet(1, 3, **VESS2RET), StridedUNet(3, 3, **SYNTHMED)
        seen = []
        for network in (first, second):
            for layer in network.down:
                layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
        assert first(torch.empty(1, 1, 512, 512)).shape == (1, 3, 512, 512)
        assert seen == [256, 128, 64, 32, 16, 8, 4, 2, 1]
        seen.clear()
        assert second(torch.empty(2, 3, 512, 512)).shape == (2, 3, 512, 512)
        assert seen == [256, 128, 64, 32, 16, 8, 4, 2]
    assert (count(first), count(second)) == (22_869_187, 54_420_617)
    assert inputs_of(first) == [512, 1024, 1024, 1024, 1024, 1024, 512, 256, 128]
    assert [type(layer) for layer in first.up[2]] == [nn.ConvTranspose2d, ImageNorm, nn.Dropout]
    assert [type(layer) for layer in second.up[2]] == [
        *(nn.ConvTranspose2d, nn.BatchNorm2d, nn.LeakyReLU, nn.Dropout),
    ]
    assert sum(isinstance(layer, nn.Dropout) for layer in second.modules()) == 3
    assert isinstance(second.end, nn.Sequential) and isinstance(first.end, nn.ConvTranspose2d)


def restated(network, image):
    """The painter of vess2ret, level by level, after the authors' release: skips are not activated yet."""

    def normal(layer, values):
        made = layer[0](values)
        mean = made.mean((2, 3), keepdim=True)
        deviation = ((made - mean).square().mean((2, 3), keepdim=True) + 1e-3).sqrt()
        return (made - mean) / deviation * layer[1].weight[:, None, None] + layer[1].bias[:, None, None]

    skips, values = [], image
    for layer in network.down:
        skips.append(normal(layer, values))
        values = functional.leaky_relu(skips[-1], 0.2)
    for number, layer in enumerate(network.up, 2):
        values = functional.leaky_relu(torch.cat([normal(layer, values), skips[-number]], 1), 0.2)
    return network.end(values)


def test_the_painter_of_vess2ret_equals_a_restatement_of_its_release():
    torch.manual_seed(0)
    network = StridedUNet(1, 3, (4, 6, 8), (8, 6, 4)).eval().double()
    for layer in network.modules():
        if isinstance(layer, ImageNorm):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    image = torch.rand(2, 1, 16, 16).double()
    torch.testing.assert_close(network(image), restated(network, image))


def test_skips_of_the_second_painter_are_activated_before_they_are_joined():
    torch.manual_seed(0)
    network = StridedUNet(3, 2, (4, 6), (4,), kernels=(4, 4), point=False, activated=True, statistics="running")
    network.eval()
    image = torch.rand(1, 3, 8, 8)
    outer = functional.leaky_relu(network.down[0](image), 0.2)
    inner = functional.leaky_relu(network.down[1](outer), 0.2)
    joined = torch.cat([network.up[0](inner), outer], 1)
    torch.testing.assert_close(network(image), network.end(joined))
    assert (network.up[0](inner) < 0).any() and isinstance(network.up[0][2], nn.LeakyReLU)


def test_the_bottleneck_of_one_pixel_is_the_same_for_all_maps():
    torch.manual_seed(0)
    network, seen = StridedUNet(1, 3, (4, 4), (4, 4)), []
    nn.init.normal_(network.down[-1][1].bias)
    network.down[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.rand(3, 1, 8, 8))
    assert seen[0].shape == (3, 4, 1, 1)
    assert torch.equal(seen[0][0], seen[0][1]) and torch.equal(seen[0][0, :, 0, 0], network.down[-1][1].bias)


@pytest.mark.parametrize("statistics", ["image", "batch", "running"])
def test_norms_differ_in_whose_statistics_they_use(statistics):
    norm, values = keras_norm(statistics, 2), torch.randn(3, 2, 4, 4)
    assert norm.eps == 1e-3
    alone = torch.cat([norm.train()(values[place : place + 1]) for place in range(3)])
    assert torch.allclose(norm.train()(values), alone, atol=1e-5) == (statistics == "image")
    assert torch.allclose(norm.eval()(values), alone, atol=1e-5) == (statistics != "running")
    if statistics != "running":
        assert torch.equal(norm(torch.rand(2, 2, 1, 1)), torch.zeros(2, 2, 1, 1))


def test_a_decoder_of_another_depth_is_refused():
    with pytest.raises(ValueError, match="2 levels down need 1 up, not 2"):
        StridedUNet(1, 1, (4, 4), (4, 4), point=False)


@pytest.mark.parametrize(
    ("widths", "weights", "extent", "field"),
    [((32, 64, 128, 256), 391_009, 512, 63), ((32, 64, 128), 94_689, 256, 31)],
)
def test_discriminators_see_patches_and_have_no_norm(widths, weights, extent, field):
    with torch.device("meta"):
        network = StridedDiscriminator(4, widths)
        assert network(torch.empty(1, 4, extent, extent)).shape == (1, 1, 16, 16)
    assert count(network) == weights
    seen = 1
    for layer in reversed([layer for layer in network if isinstance(layer, nn.Conv2d)]):
        seen = (seen - 1) * layer.stride[0] + layer.kernel_size[0]
    assert seen == field
    assert {type(layer) for layer in network} == {nn.Conv2d, nn.LeakyReLU}


def test_padding_is_that_of_tensorflow():
    layer = SameConvolution(1, 1, 5, 2, bias=False)
    image = torch.rand(1, 1, 8, 12)
    torch.testing.assert_close(
        layer(image), functional.conv2d(functional.pad(image, (1, 2, 1, 2)), layer.weight, stride=2)
    )
    torch.testing.assert_close(SameTransposed(1, 1, 5)(image).shape, torch.Size((1, 1, 16, 24)))


@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_a_transposed_convolution_is_the_reverse_of_the_convolution(kernel):
    down, up = SameConvolution(2, 3, kernel, 2, bias=False), SameTransposed(3, 2, kernel, bias=False)
    up.weight.data.copy_(down.weight.data)
    small, large = torch.randn(1, 3, 4, 6), torch.randn(1, 2, 8, 12)
    torch.testing.assert_close((down(large) * small).sum(), (large * up(small)).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("extent", "channels", "generator", "discriminator"),
    [(512, 1, 57_257_857, 4_829_441), (256, 1, 17_543_041, 4_436_225), (256, 3, 17_546_243, 4_439_425)],
)
def test_dcgans_that_are_padded_as_in_tensorflow(extent, channels, generator, discriminator):
    size = (extent, extent)
    with torch.device("meta"):
        made = DCGenerator(100, channels, size, (512, 256, 128, 64), biased=True, same=True)
        judged = DCDiscriminator(channels, size, (64, 128, 256, 512), biased=True, same=True)
        assert made(torch.empty(2, 100)).shape == (2, channels, *size) and made.base == (
            512,
            extent // 16,
            extent // 16,
        )
        assert judged(torch.empty(2, channels, *size)).shape == (2, 1)
    assert (count(made), count(judged)) == (generator, discriminator)
    assert not any(layer.bias is None for layer in (*made.modules(), *judged.modules()) if hasattr(layer, "bias"))


def test_weights_are_cut_off_at_two_deviations():
    torch.manual_seed(0)
    network = DCDiscriminator(1, (32, 32), (16, 32), biased=True, same=True)
    init_truncated(network)
    weights = network.convolutions[4].weight
    assert weights.abs().max() <= 0.04 and 0.015 < weights.std() < 0.02
    assert torch.equal(network.convolutions[5].weight, torch.ones(32)) and network.head.weight.abs().max() > 0.04
