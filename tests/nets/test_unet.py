import pytest
import torch
from torch import nn

from ganatomy.nets.unet import ConvUNet, UNet


def convolutions(network):
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def test_two_convolutions_a_level_and_skips_that_join():
    with torch.device("meta"):
        network = UNet(2, 2, (32, 64, 128, 256, 256), (128, 64, 32, 32), upsampling="linear")
        assert [(c.in_channels, c.out_channels) for c in convolutions(network)] == [
            *((2, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)),
            *((256, 256), (512, 128), (128, 128), (256, 64), (64, 64), (128, 32), (32, 32), (64, 32), (32, 32)),
            (32, 2),
        ]
        assert network(torch.empty(3, 2, 48, 32)).shape == (3, 2, 48, 32)


def test_a_convolution_may_follow_each_upsampling():
    network = UNet(2, 1, (4, 6, 8), (5, 3), kernel=4, padding="reflect", convolved=True)
    assert [(c[0].in_channels, c[0].out_channels) for c in network.enlarged] == [(8, 5), (5, 3)]
    assert [c[0].in_channels for c in network.up] == [5 + 6, 3 + 4]
    assert network(torch.randn(2, 2, 16, 24)).shape == (2, 1, 16, 24)


def test_a_decoder_level_may_halve_what_it_joins_and_have_biases():
    with torch.device("meta"):
        network = UNet(2, 2, (32, 64, 128, 256, 256), (128, 64, 32, 32), halving=True, biased=True)
    assert [[layer.out_channels for layer in convolutions(up)] for up in network.up] == [
        [256, 128],
        [128, 64],
        [64, 32],
        [32, 32],
    ]
    assert sum(weight.numel() for weight in network.parameters()) == 4_320_354


def test_linear_enlargement_keeps_the_corners():
    network = UNet(1, 1, (1, 1), (1,), upsampling="linear")
    corners = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert network.larger(corners[None, None])[0, 0, [0, 0, 3, 3], [0, 3, 0, 3]].tolist() == [0, 1, 2, 3]


def test_even_kernels_reflect_one_pixel_before_and_two_behind():
    network = UNet(1, 1, (1,), (), kernel=4, norm="none", slope=1.0, padding="reflect")
    first, second, head = convolutions(network)
    with torch.no_grad():
        for convolution in (first, second, head):
            nn.init.zeros_(convolution.bias)
            nn.init.zeros_(convolution.weight)
        first.weight[0, 0, 1, 3], second.weight[0, 0, 1, 1], head.weight[0, 0, 0, 0] = 1, 1, 1
    image = torch.arange(6.0).expand(1, 1, 4, 6)
    assert network(image)[0, 0, 0].tolist() == [2, 3, 4, 5, 4, 3]


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_only_unnormalised_convolutions_have_a_bias(norm):
    *hidden, head = convolutions(UNet(1, 1, (2, 4), (2,), norm=norm))
    assert {convolution.bias is not None for convolution in hidden} == {norm == "none"}
    assert head.bias is not None


def test_the_output_is_not_bounded():
    network = UNet(1, 1, (2, 4), (2,)).eval()
    nn.init.constant_(network.head.bias, -7.0)
    nn.init.zeros_(network.head.weight)
    assert torch.equal(network(torch.zeros(1, 1, 4, 4)), torch.full((1, 1, 4, 4), -7.0))


def test_the_plain_one_doubles_its_width_and_has_relus():
    network = ConvUNet(1, 1, width=2, levels=3)
    assert [c.out_channels for c in convolutions(network)] == [2, 2, 4, 4, 8, 8, 4, 4, 2, 2, 1]
    assert {module.negative_slope for module in network.modules() if isinstance(module, nn.LeakyReLU)} == {0.0}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_levels_must_match():
    with pytest.raises(ValueError, match="3 levels down need 2 up, not 3"):
        UNet(1, 1, (2, 4, 8), (4, 2, 1))
