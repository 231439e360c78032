"""Contours as classes: the band around the spline, its parts, and the weighted cross-entropy."""

import numpy as np
import pytest
import torch

from ganatomy.losses.contours import UNKNOWN, contour_classes, contour_entropy, one_hot_classes


def circle(count=6, radius=60.0, middle=(128.0, 128.0)):
    angles = 2 * np.pi * np.arange(count) / count
    rows, columns = middle[0] - radius * np.cos(angles), middle[1] + radius * np.sin(angles)
    return torch.tensor(np.stack([rows, columns, np.ones(count)], 1), dtype=torch.float32)[None]


def test_a_band_of_four_pixels_lies_around_the_curve():
    classes = contour_classes(circle(48), (256, 256), 2.0)
    assert (classes > 0).sum() == pytest.approx(1516, abs=3)  # 2π · 60 · 4 = 1508
    rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    apart = ((rows - 128).hypot(columns - 128) - 60).abs()
    assert torch.equal(apart[classes[0] > 0] <= 2.01, torch.ones(int((classes > 0).sum()), dtype=torch.bool))


def test_six_landmarks_share_the_band_and_meet_half_way():
    classes = contour_classes(circle(), (256, 256), 2.0)[0]
    shares = [int((classes == place).sum()) for place in range(1, 7)]
    assert all(249 <= share <= 256 for share in shares)
    rows, columns = torch.nonzero(classes == 1, as_tuple=True)
    angles = torch.atan2(columns - 128.0, 128.0 - rows).rad2deg().abs()
    assert angles.max() == pytest.approx(30, abs=1) and classes[68, 128] == 1 and classes[188, 128] == 4


def test_extents_may_differ_and_images_without_a_landmark_are_unknown():
    points = torch.cat([circle(5, 9.0, (12.0, 15.0)), circle(5, 9.0, (12.0, 15.0))])
    points[1, 3, 2] = 0
    classes = contour_classes(points, (24, 31), 1.0)
    assert classes.shape == (2, 24, 31) and set(classes[0].unique().tolist()) == set(range(6))
    assert (classes[1] == UNKNOWN).all()


def test_the_entropy_is_divided_by_the_weights():
    logits = (torch.arange(7.0) / 10)[None, :, None, None].expand(1, 7, 1, 2)
    classes = torch.tensor([[[0, 3]]])
    assert contour_entropy(logits, classes, 0.1).item() == pytest.approx(1.993100, abs=1e-6)
    wider = torch.cat([classes, torch.full((1, 1, 2), UNKNOWN)], 1)
    assert contour_entropy(logits.expand(1, 7, 2, 2), wider, 0.1).item() == pytest.approx(1.993100, abs=1e-6)
    assert contour_entropy(logits, torch.full((1, 1, 2), UNKNOWN), 0.1).item() == 0


def test_maps_of_classes_are_softened_alike():
    maps = one_hot_classes(torch.tensor([[[2, UNKNOWN]]]), 4, 0.1)
    assert maps.shape == (1, 4, 1, 2)
    torch.testing.assert_close(maps[0, :, 0, 0], torch.tensor([0.025, 0.025, 0.925, 0.025]))
    torch.testing.assert_close(maps[0, :, 0, 1], torch.tensor([0.925, 0.025, 0.025, 0.025]))
