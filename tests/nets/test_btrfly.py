import pytest
import torch

from ganatomy.nets.btrfly import ButterflyNet, EnergyDiscriminator, halved


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        network, discriminator = ButterflyNet(), EnergyDiscriminator()
    assert count(network) == 53_161_138 and count(discriminator) == 36_816
    assert [count(arm) for arm in network.arms] == [93_120] * 2
    assert [count(wing) + count(head) for wing, head in zip(network.wings, network.heads, strict=True)] == [
        7_444_249
    ] * 2


@pytest.mark.parametrize("size", [(64, 32), (61, 43), (2, 16)])
def test_heat_maps_have_the_size_of_the_projections(size):
    network = ButterflyNet(5, 2).eval()
    seen = []
    network.rising[0].block.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1:]))
    for maps in network(torch.rand(2, 1, *size), torch.rand(2, 1, *size)):
        assert maps.shape == (2, 5, *size)
    assert seen[0][0] == 32 * 2 + 16 * 2


def test_the_body_sees_both_projections_and_each_wing_the_skips_of_its_own():
    network = ButterflyNet(3, 2).eval()
    first, second = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32, requires_grad=True)
    made = network(first, second)
    (slope,) = torch.autograd.grad(made[0].sum(), second)
    assert slope.abs().max() > 0


def test_an_energy_is_the_squared_error_of_the_pooled_stack_and_of_each_image_alone():
    discriminator = EnergyDiscriminator(4).eval()
    maps = torch.rand(2, 8, 16, 24, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.avg_pool2d(maps, 2)[:, None]
    want = (pooled - discriminator.autoencoder(pooled)).square().flatten(1).sum(1)
    found = discriminator(maps)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(discriminator(maps[1:]), found[1:])
    with pytest.raises(RuntimeError):
        discriminator(torch.rand(1, 8, 18, 24))


def test_a_discriminator_sees_all_labels_and_128_pixels():
    discriminator = EnergyDiscriminator(2).eval()
    for layer in discriminator.modules():
        if hasattr(layer, "weight") and layer.weight is not None:
            torch.nn.init.constant_(layer.weight, 0.1)
    maps = torch.rand(1, 24, 8, 160, requires_grad=True)
    pooled = discriminator.pool(maps[:, None])
    made = discriminator.autoencoder(pooled)
    (slope,) = torch.autograd.grad(made[0, 0, 12, 2, 40], maps)
    columns = slope.abs().amax((0, 1, 2)).nonzero()
    assert 120 <= int(columns.max() - columns.min()) + 1 <= 136
    assert (slope.abs().amax((0, 2, 3)) > 0).all()


def test_odd_extents_are_padded_by_zeros_before_they_are_halved():
    image = -torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    assert halved(image)[0, 0].tolist() == [[-1, 0], [0, 0]]
    assert halved(-image[..., :2, :2])[0, 0].tolist() == [[5]]
