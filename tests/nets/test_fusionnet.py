import torch
from torch import nn

from ganatomy.nets.fusionnet import FusionBlock, FusionNet


def test_the_published_width_has_the_known_number_of_parameters_and_sizes():
    with torch.device("meta"):
        network = FusionNet(1, 3)
    assert sum(one.numel() for one in network.parameters()) == 4_917_555
    seen = []
    for block in network.encoder:
        block.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    with torch.device("meta"):
        assert network(torch.empty(1, 1, 256, 256)).shape == (1, 3, 256, 256)
    assert seen == [(16, 256, 256), (32, 128, 128), (64, 64, 64), (128, 32, 32), (256, 16, 16)]


def test_nothing_follows_the_sum_within_a_block():
    block = FusionBlock(2, 3, nn.ReLU()).eval()
    torch.nn.init.constant_(block.residual[-2].bias, -2.0)
    features = torch.randn(1, 2, 5, 6)
    first = block.first(features)
    total = first + block.residual(first)
    assert (total < 0).any()
    torch.testing.assert_close(block(features), block.last(total))


def test_skips_are_means_of_both_maps():
    network = FusionNet(1, 1, width=4, halvings=1).eval()
    image = torch.randn(2, 1, 8, 12)
    fine = network.encoder[0](image)
    coarse = network.encoder[1](network.pool(fine))
    made = network.last(network.decoder[0]((network.enlarge[0](coarse) + fine) / 2))
    torch.testing.assert_close(network(image), made)


def test_transposed_convolutions_keep_the_usual_weights():
    network = FusionNet(1, 3)
    assert abs(network.enlarge[0][0].weight.std().item() - 0.017) < 0.003
    assert abs(network.encoder[4].first[0].weight.std().item() - 0.02) < 0.001
