"""The absolute difference by region."""

import pytest
import torch

from ganatomy.losses.regional import regional_l1

ERROR = torch.arange(8.0).reshape(1, 1, 2, 2, 2) / 10


def regions(*groups):
    maps = torch.zeros(1, len(groups), 8)
    for place, voxels in enumerate(groups):
        maps[0, place, list(voxels)] = 1
    return maps.reshape(1, -1, 2, 2, 2)


def test_every_region_counts_alike_whatever_its_size():
    parts = regions({7}, {4, 5, 6}, {0, 1, 2, 3})
    zeros = torch.zeros_like(ERROR)
    assert regional_l1(ERROR, zeros, parts, (1, 1, 1)).item() == pytest.approx(0.45)
    assert regional_l1(zeros, ERROR, parts, (1 / 3,) * 3).item() == pytest.approx((0.7 + 0.5 + 0.15) / 3)
    assert ERROR.mean().item() == pytest.approx(0.35)
    assert regional_l1(ERROR, zeros, parts, (2, 1, 1)).item() == pytest.approx((1.4 + 0.5 + 0.15) / 4)


def test_an_empty_region_is_left_out():
    parts = regions((), {4, 5, 6}, {0, 1, 2, 3})
    output = ERROR.clone().requires_grad_(True)
    loss = regional_l1(output, torch.zeros_like(ERROR), parts, (1, 1, 1))
    assert loss.item() == pytest.approx(0.325)
    loss.backward()
    assert torch.isfinite(output.grad).all() and output.grad[0, 0, 1, 1, 1] == 0


def test_without_regions_the_loss_is_zero():
    assert regional_l1(ERROR, 0 * ERROR, regions((), ()), (1, 1)).item() == 0


def test_voxels_of_unknown_region_do_not_count():
    parts = regions({7}, {0, 1, 2, 3})
    parts[:, :, 1, 0] = -1
    assert regional_l1(ERROR, 0 * ERROR, parts, (1, 1)).item() == pytest.approx((0.7 + 0.15) / 2)
