import math

import pytest
import torch

from ganatomy.losses.heatmaps import (
    class_weights,
    emphasised_error,
    gaussians,
    heat_maps,
    heat_of_points,
    read_out,
    weighted_entropy,
)

SIGMAS = (5.0, 5.0, 5.0)


def test_a_point_is_a_gaussian_of_height_one_at_a_position_that_is_not_rounded():
    points = torch.tensor([[[30.0, 12.0, 20.5, 1.0], [3.0, 3.0, 3.0, 0.0]]])
    heat = heat_of_points(points, 1, (60, 40), SIGMAS)
    assert heat[0, 0, 30, 12] == 1 and heat[0, 0, 35, 12] == pytest.approx(0.606531, abs=1e-6)
    assert heat[0, 0, 30, 22] == pytest.approx(0.135335, abs=1e-6) and not heat[0, 1].any()
    assert int((heat > 0.6).sum()) == 81
    coronal = heat_of_points(points, 2, (60, 40), SIGMAS)[0, 0]
    assert coronal[30, 20] == coronal[30, 21] == pytest.approx(math.exp(-0.005))


def test_the_background_is_what_no_point_heats():
    points = torch.tensor([[[2.0, 3.0, 1.0, 1.0], [9.0, 3.0, 1.0, 1.0]]])
    maps = heat_maps(points, 1, (12, 8), (2.0, 1.0, 1.0))
    assert maps.shape == (1, 3, 12, 8)
    torch.testing.assert_close(maps[:, 0], 1 - maps[:, 1:].amax(1))
    assert maps[0, 0, 9, 3] == 0 and maps[0, 1, 4, 3] == pytest.approx(math.exp(-0.5))


def test_the_entropy_has_the_value_of_the_public_code():
    true = torch.tensor([[0.2, 1.0], [0.8, 0.0], [0.0, 0.0]]).reshape(1, 3, 1, 2)
    maps = torch.tensor([[(2 * c + x) / 10 for x in range(2)] for c in range(3)]).reshape(1, 3, 1, 2)
    known = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    assert (maps - true).square().sum().item() == pytest.approx(1.71, abs=1e-5)
    weights = torch.tensor([0.5, 1.0, 2.0])
    assert weighted_entropy(maps, true, weights, known).item() == pytest.approx(2.146859, abs=1e-5)
    assert weighted_entropy(maps, true, torch.ones(3), known).item() == pytest.approx(2.306595, abs=1e-5)
    known[..., 1] = False
    changed = maps.clone()
    changed[..., 1] = 7
    torch.testing.assert_close(
        weighted_entropy(changed, true, weights, known), weighted_entropy(maps, true, weights, known)
    )


def test_rare_classes_weigh_more_and_absent_ones_nothing():
    found = class_weights(torch.tensor([[1000.0, 10.0, 20.0, 40.0, 0.0], [8.0, 2.0, 2.0, 2.0, 2.0]]))
    torch.testing.assert_close(found[0], torch.tensor([0.02, 2.0, 1.0, 0.5, 0.0]))
    torch.testing.assert_close(found[1], torch.tensor([0.25, 1, 1, 1, 1]))


def test_gaussians_have_the_area_of_their_width():
    heat = gaussians(torch.tensor([[[57.6, 100.3, 1.0], [20.0, 30.0, 0.0]]]), (256, 250), 5.0)
    assert heat.shape == (1, 2, 256, 250) and heat[0, 0].sum().item() == pytest.approx(2 * math.pi * 25, rel=1e-4)
    assert not heat[0, 1].any()
    centred = gaussians(torch.tensor([[[100.0, 90.0, 1.0]]]), (256, 250), 5.0)
    assert centred.max() == 1 and (centred >= 0.5).sum() == 109


def test_positions_are_read_with_fractions_of_pixels():
    heat = gaussians(torch.tensor([[[57.6, 100.3, 1.0]]]), (256, 256), 5.0)
    row, column, certain = read_out(heat, 10)[0, 0].tolist()
    assert (row, column) == pytest.approx((57.68, 100.24), abs=0.006) and 0.98 < certain < 1
    edge = read_out(gaussians(torch.tensor([[[0.0, 30.0, 1.0]]]), (32, 40), 2.0), 3)[0, 0]
    assert 0 < edge[0] < 1.5 and edge[1] == pytest.approx(30, abs=1e-4)
    assert read_out(torch.zeros(1, 1, 8, 9), 2)[0, 0, 2] == 0


def test_errors_count_more_where_landmarks_are():
    heat = gaussians(torch.tensor([[[128.0, 128.0, 1.0]]]), (256, 256), 5.0)
    assert emphasised_error(torch.zeros_like(heat), heat, 50.0).item() == pytest.approx(0.041146, rel=1e-3)
    assert emphasised_error(heat + 0.1, heat, 0.0).item() == pytest.approx(0.01, rel=1e-4)
