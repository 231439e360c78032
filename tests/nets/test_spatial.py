import pytest
import torch
from torch import nn
from torch.nn import functional

from ganatomy.nets.spatial import SpatialGenerator, _doubled, from_corner, halvings, init_spatial


def test_sizes_are_halved_and_rounded_up() -> None:
    assert halvings((120, 160), 4) == [(8, 10), (15, 20), (30, 40), (60, 80), (120, 160)]


def test_maps_are_resized_from_their_first_pixel() -> None:
    rows = torch.arange(160.0)[:, None].expand(160, 120)[None, None]
    small = from_corner(rows, (10, 8))
    assert small[0, 0, :, 0].tolist() == [16.0 * n for n in range(10)]
    columns = torch.arange(120.0).expand(160, 120)[None, None]
    assert from_corner(columns, (10, 8))[0, 0, 3].tolist() == [15.0 * n for n in range(8)]
    centred = functional.interpolate(rows, (10, 8), mode="bilinear", align_corners=False)
    assert centred[0, 0, 0, 0] == pytest.approx(7.5), "which would be half a cell off"


def test_maps_are_interpolated_between_pixels_where_sizes_have_no_whole_ratio() -> None:
    found = from_corner(torch.arange(6.0)[:, None][None, None].expand(1, 1, 6, 4), (4, 4))
    assert found[0, 0, :, 0].tolist() == [0.0, 1.5, 3.0, 4.5]


@pytest.mark.parametrize(("wanted", "first"), [(16, 0), (15, 1)])
def test_transposed_convolutions_are_cropped_at_the_far_edge_first(wanted: int, first: int) -> None:
    whole = torch.arange(17.0)[:, None].expand(17, 17)[None, None]
    cropped = _doubled(whole, (wanted, wanted))
    assert cropped.shape[2:] == (wanted, wanted) and cropped[0, 0, 0, 0] == first


def test_features_are_centred_before_every_activation_since_norms_have_no_bias() -> None:
    torch.manual_seed(0)
    network = SpatialGenerator((24, 32), 6, width=8)
    init_spatial(network)
    means = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not list(module.parameters())
            module.register_forward_hook(lambda module, given, made: means.append(made.mean(dim=(0, 2, 3))))
    network(torch.randn(4, 6), torch.randn(4, 3, 24, 32))
    assert len(means) == 9 and max(float(one.detach().abs().max()) for one in means) < 1e-4


def test_weights_have_an_sd_of_two_hundredths_and_biases_a_small_value() -> None:
    torch.manual_seed(0)
    network = SpatialGenerator((48, 64), 100, width=64)
    init_spatial(network)
    assert network.dense.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network.dense.bias.unique().tolist() == pytest.approx([0.001]) == network.last.bias.tolist()
