import math

import pytest
import torch

from ganatomy.nets.vnet import VNet
from ganatomy.nets.warp import affine_matrix, centre_of_mass, positions, smoothness, warp


def volume(*extents, seed=0):
    return torch.rand(2, 1, *extents, generator=torch.Generator().manual_seed(seed))


def matrix_of(centre=(0.0, 0.0, 0.0), **values):
    parameters = torch.zeros(1, 12)
    for name, value in values.items():
        parameters[0, int(name[1:])] = value
    return affine_matrix(parameters, torch.tensor([centre]))


def test_without_parameters_and_with_a_field_of_zeros_a_volume_stays_as_it_is():
    image = volume(6, 8, 5)
    matrix = affine_matrix(torch.zeros(2, 12), centre_of_mass(image))
    for field in (None, torch.zeros(2, 3, 6, 8, 5)):
        torch.testing.assert_close(warp(image, positions(matrix, field, (6, 8, 5))), image, atol=1e-6, rtol=1e-6)


def test_a_translation_of_half_moves_an_impulse_by_one_of_five_voxels():
    image = torch.zeros(1, 1, 5, 5, 5)
    image[0, 0, 2, 2, 2] = 1
    moved = warp(image, positions(matrix_of(p0=0.5), None, (5, 5, 5)))
    assert moved[0, 0, 2, 2, 1] == pytest.approx(1) and moved.sum().item() == pytest.approx(1)
    up = warp(image, positions(matrix_of(p2=0.5), None, (5, 5, 5)))
    assert up[0, 0, 1, 2, 2] == pytest.approx(1), "the third direction is that of the slices"


def test_parameters_have_their_published_meaning():
    assert matrix_of(p9=0.2)[0, 0, 0] == pytest.approx(1.1)
    turned = matrix_of(p5=0.5)[0, :, :3]
    torch.testing.assert_close(turned, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), atol=1e-6, rtol=0)
    assert matrix_of(p6=0.1)[0, 0, 1] == pytest.approx(0.1 * math.pi)
    both = matrix_of(p3=0.25, p4=-0.1, p5=0.4, p7=0.2, p10=0.6, p11=-0.4)[0, :, :3]
    assert torch.linalg.det(both).item() == pytest.approx(1.3 * 0.8, rel=1e-5)


def test_scale_and_rotation_keep_the_centre_and_each_image_has_its_own():
    centre = torch.tensor([[0.3, -0.2, 0.1], [-0.4, 0.0, 0.25]])
    parameters = torch.linspace(-0.2, 0.3, 24).reshape(2, 12)
    parameters[:, :3] = 0
    matrix = affine_matrix(parameters, centre)
    torch.testing.assert_close((matrix[:, :, :3] @ centre[..., None])[..., 0] + matrix[:, :, 3], centre)
    torch.testing.assert_close(affine_matrix(parameters[1:], centre[1:])[0], matrix[1])


def test_the_centre_of_mass_is_that_of_the_values():
    image = torch.zeros(1, 1, 3, 5, 9)
    image[0, 0, 2, 1, 6] = 2
    torch.testing.assert_close(centre_of_mass(image), torch.tensor([[0.5, -0.5, 1.0]]))


def test_displacements_are_in_voxels_and_come_before_the_affine_map():
    image = volume(4, 6, 7)[:1]
    field = torch.zeros(1, 3, 4, 6, 7)
    field[:, 0], field[:, 1] = 1, -2
    identity = affine_matrix(torch.zeros(1, 12), torch.zeros(1, 3))
    moved = warp(image, positions(identity, field, (4, 6, 7)))
    torch.testing.assert_close(moved[..., 2:, :-1], image[..., :-2, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., :2, :], torch.zeros(1, 1, 4, 2, 7), atol=1e-5, rtol=0)
    shrunk = matrix_of(p9=-1.0)
    places = positions(shrunk, field, (4, 6, 7))
    assert (places[0, 0, 0, 3, 0] - places[0, 0, 0, 2, 0]).item() == pytest.approx(0.5 * 2 / 6)
    assert places[0, 0, 3, 3, 0].item() == pytest.approx(0.5 * 2 / 6), "a voxel moved by half of what it would be"


def test_smoothness_is_the_mean_over_all_three_axes():
    field = torch.zeros(1, 3, 4, 4, 4)
    field[:, 0] = torch.arange(4.0)[:, None, None]
    assert smoothness(field).item() == pytest.approx(1 / 9)
    for axis in range(3):
        ramp = torch.arange(4.0).reshape([-1 if place == axis else 1 for place in range(3)]).expand(1, 3, 4, 4, 4)
        assert smoothness(ramp).item() == pytest.approx(1 / 3)


def test_a_v_net_keeps_the_size_of_any_volume_and_halves_in_between():
    network = VNet(1, (1, 2, 3, 4, 5)).eval()
    stages = network.encode(volume(16, 32, 48))
    assert [tuple(stage.shape[1:]) for stage in stages] == [
        (1, 16, 32, 48), (2, 8, 16, 24), (3, 4, 8, 12), (4, 2, 4, 6), (5, 1, 2, 3),
    ]  # fmt: skip
    assert network(volume(12, 16, 21)).shape == (2, 1, 12, 16, 21)
    padded = torch.cat([volume(12, 16, 16), volume(12, 16, 16)[:, :, -1:].expand(-1, -1, 4, -1, -1)], 2)
    torch.testing.assert_close(network(volume(12, 16, 16)), network(padded)[:, :, :12])


def test_a_v_net_may_normalise_every_volume_alone():
    pair = torch.cat([volume(16, 32, 48)[:1], 3 * volume(16, 32, 48)[1:]])
    for norm, apart in (("instance", 0.0), ("batch", 0.01)):
        torch.manual_seed(0)
        network = VNet(1, (1, 2, 3, 4, 5), norm)
        first = network(pair)[:1] - network(pair[:1])
        assert (first.abs().max() <= 1e-4) == (apart == 0) and first.abs().max() >= apart
    assert VNet(1, (1, 2, 3, 4, 5), "instance")(volume(7, 16, 16)).shape == (2, 1, 7, 16, 16)
