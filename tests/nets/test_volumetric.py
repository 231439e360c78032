from itertools import pairwise

import pytest
import torch
from torch import nn

from ganatomy.nets.dense import DenseBlock, MultiLevelDense
from ganatomy.nets.residual import SRDiscriminator
from ganatomy.nets.volumetric import VolumeSRResNet, without

KINDS = ("sub-pixel", "sub-pixel-nn", "resize-conv")


def count(network, *args, **options):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(*args, **options).parameters())


def test_parameters_of_the_brain_generator():
    assert count(VolumeSRResNet, upsampler="sub-pixel-nn") == 1_690_593
    assert count(VolumeSRResNet, upsampler="resize-conv", output="tanh") == 750_689
    trunk = 864 + 13 * 27 * 32 * 32 + 14 * 32 + 14 * 64
    assert count(VolumeSRResNet, upsampler="sub-pixel") == trunk + (27 * 32 + 1) * 64 + (27 * 8 + 1) * 64 + 27 * 8 + 1


def test_parameters_of_the_dense_generator():
    assert count(MultiLevelDense) == 411_648


def test_parameters_of_the_volumetric_discriminator():
    widths = [32, 32, 64, 64, 128, 128, 256, 256]
    convolutions = 27 * 32 + 32 + sum(27 * before * after + 2 * after for before, after in pairwise(widths))
    dense = 256 * 6 * 8 * 8 * 1024 + 1024 + 1024 + 1
    assert count(SRDiscriminator, 1, (92, 128, 128), 32) == convolutions + dense
    assert SRDiscriminator(1, (17, 9, 20), 2, 3, "layer", 0.3)(torch.randn(2, 1, 17, 9, 20)).shape == (2, 1)
    slopes = {
        layer.negative_slope
        for layer in SRDiscriminator(1, (8, 8), 2, 3, slope=0.3)
        if hasattr(layer, "negative_slope")
    }
    assert slopes == {0.3}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("steps", [((2, 2, 2),), ((3, 1, 1),), ((2, 2, 2), (2, 1, 2))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_with_its_margin_is_part_of_the_whole_volume(kind, steps, skip):
    network = VolumeSRResNet(1, 1, steps, 3, 1, kind, 24, std=None, skip=skip).double().eval()
    nn.init.normal_(network.end[0].weight)
    reach = network.reach
    volume = torch.randn(1, 1, *(2 * side + 4 for side in reach), dtype=torch.float64)
    whole = network(volume)
    times = [torch.tensor(axis).prod().item() for axis in zip(*steps, strict=True)]
    assert list(whole.shape[1:]) == [1, *(size * more for size, more in zip(volume.shape[2:], times, strict=True))]
    tile = network(volume[:, :, 1 : 2 + 2 * reach[0], 2 : 4 + 2 * reach[1], : 3 + 2 * reach[2]], reach)
    first = [(start + side) * more for start, side, more in zip((1, 2, 0), reach, times, strict=True)]
    want = whole[:, :, *(slice(at, at + size * more) for at, size, more in zip(first, (1, 2, 3), times, strict=True))]
    torch.testing.assert_close(tile, want)


@pytest.mark.parametrize(("dims", "steps"), [(1, ((3,), (2,))), (2, ((2, 3),))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_of_an_image_or_a_signal_is_part_of_the_whole(kind, dims, steps):
    network = VolumeSRResNet(1, 1, steps, 3, 1, kind, 12, std=None, skip=True, dims=dims).double().eval()
    nn.init.normal_(network.end[0].weight)
    reach, times = network.reach, network.factors
    image = torch.randn(1, 1, *(2 * side + 4 + axis for axis, side in enumerate(reach)), dtype=torch.float64)
    whole = network(image)
    assert list(whole.shape[2:]) == [size * more for size, more in zip(image.shape[2:], times, strict=True)]
    tile = network(image[:, :, 1:], reach)
    first = without(whole, [side * more for side, more in zip(reach, times, strict=True)])[:, :, times[0] :]
    torch.testing.assert_close(tile, first)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reach_is_no_larger_than_it_must_be(kind):
    network = VolumeSRResNet(1, 1, ((2, 2, 2),), 3, 1, kind, 8, std=None).double().eval()
    reach = network.reach[0]
    volume = torch.randn(1, 1, 2 * reach + 1, 5, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(network(volume)[:, :, 2 * reach : 2 * reach + 2].square().sum(), volume)[0]
    assert slope[:, :, 0].abs().max() > 0 and slope[:, :, -1].abs().max() > 0


def test_a_network_with_a_skip_begins_with_linear_interpolation():
    network = VolumeSRResNet(1, 1, ((3, 1, 1),), 4, 1, "resize-conv", 4, skip=True)
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 1, 6, 5, 5)
    torch.testing.assert_close(network(ramp)[0, 0, 1:-1, 2, 2], torch.arange(16.0) / 3)


def test_channels_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="8 channels cannot be shared among 3 pixels"):
        VolumeSRResNet(1, 1, ((3, 1, 1),), 4, 1, "sub-pixel", 8)


def test_first_weights_have_the_size_asked_for():
    network = VolumeSRResNet(width=16, blocks=1)
    weights = torch.cat([module.weight.flatten() for module in network.modules() if isinstance(module, nn.Conv3d)])
    assert 0.018 < weights.std() < 0.022


def test_dense_units_see_everything_before_them():
    block = DenseBlock(4, 3, 2)
    features = torch.randn(2, 4, 3, 3, 3)
    grown = block(features)
    assert grown.shape == (2, 10, 3, 3, 3)
    torch.testing.assert_close(grown[:, :4], features)
    assert [unit[2].in_channels for unit in block.units] == [4, 6, 8]


def test_dense_summaries_grow_by_a_block_each():
    network = MultiLevelDense()
    assert [layer.in_channels for layer in network.summaries] == [128, 224, 320]
    assert network.end.in_channels == 416
    assert not any("bias" in name and "units" not in name for name, _ in network.named_parameters())


def test_a_dense_tile_with_its_margin_is_part_of_the_whole():
    network = MultiLevelDense(2, 2, 2).double().eval()
    reach = (network.reach,) * 3
    volume = torch.randn(1, 1, *(2 * side + 4 for side in reach), dtype=torch.float64)
    tile = network(volume[:, :, :-2, 1:, 1:-1], reach)
    torch.testing.assert_close(tile, without(network(volume), reach)[:, :, :-2, 1:, 1:-1])
