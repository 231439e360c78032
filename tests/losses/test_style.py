"""Gram matrices and their distance."""

import pytest
import torch

from ganatomy.losses.matching import total_variation
from ganatomy.losses.style import gram, style_distance

FEATURES = (4 * torch.arange(2.0)[:, None] + torch.arange(4.0)).reshape(1, 2, 2, 2) / 10
"""F[c, k] = (4 c + k) / 10 of two channels and four places."""


def test_gram_matrices_are_divided_by_the_number_of_features():
    expected = torch.tensor([[[0.0175, 0.0475], [0.0475, 0.1575]]])
    torch.testing.assert_close(gram(FEATURES), expected)


def test_the_distance_is_the_mean_over_entries_and_layers():
    nothing = torch.zeros(1, 2, 2)
    assert style_distance([FEATURES], [nothing]).item() == pytest.approx(0.0675)
    assert style_distance([FEATURES, FEATURES], [nothing, gram(FEATURES)]).item() == pytest.approx(0.0675 / 2)
    assert style_distance([FEATURES], [gram(2 * FEATURES)]).item() == pytest.approx(3 * 0.0675)


def test_gram_matrices_forget_places_and_number_of_places():
    turned = FEATURES.flip(2, 3)
    torch.testing.assert_close(gram(turned), gram(FEATURES))
    torch.testing.assert_close(gram(FEATURES.repeat(1, 1, 2, 2)), gram(FEATURES))


def test_total_variation_is_the_sum_of_both_axes():
    places = torch.meshgrid(*(torch.arange(float(extent)) for extent in (3, 2, 2)), indexing="ij")
    image = (4 * places[0] + 2 * places[1] + places[2]) / 10
    assert total_variation(image[None]).item() == pytest.approx(0.3)
