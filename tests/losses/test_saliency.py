import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.losses.saliency import local_contrast, saliency_filters, salient_error


def field(colour=(0.6, 0.3, 0.2), size=48):
    return torch.tensor(colour).view(1, 3, 1, 1).repeat(1, 1, size, size)


def with_spot(colour=(0.95, 0.9, 0.7)):
    image = field()
    image[..., 28:38, 6:16] = torch.tensor(colour).view(3, 1, 1)
    return image


def test_a_bright_spot_is_what_one_looks_at():
    found = saliency_filters(with_spot(), 80)
    assert found.shape == (1, 1, 48, 48)
    assert found[..., 30:36, 8:14].min() > 0.9 and found[..., :20, 24:].max() < 0.1


def test_a_colour_found_everywhere_is_less_salient_than_one_in_one_place():
    image, other = field(), torch.tensor([0.2, 0.4, 0.7]).view(3, 1, 1)
    for row, column in ((2, 2), (2, 38), (38, 2), (38, 38), (2, 20), (38, 20)):
        image[..., row : row + 8, column : column + 8] = other
    image[..., 20:28, 20:28] = torch.tensor([0.95, 0.9, 0.7]).view(3, 1, 1)
    found = saliency_filters(image, 80)
    assert found[..., 22:26, 22:26].min() > 2 * found[..., 4:8, 4:8].max()


@pytest.mark.parametrize("saliency", [saliency_filters, local_contrast])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_uniform_image_has_nothing_to_look_at(saliency, value):
    assert torch.equal(saliency(torch.full((2, 3, 24, 24), value)), torch.zeros(2, 1, 24, 24))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]), st.integers(8, 40), st.integers(8, 40))
@pytest.mark.parametrize("saliency", [saliency_filters, local_contrast])
def test_maps_reach_to_one_and_images_do_not_mix(saliency, seed, channels, rows, columns):
    image = torch.rand(2, channels, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = saliency(image)
    assert found.shape == (2, 1, rows, columns) and torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.amax((1, 2, 3)).tolist() == pytest.approx([1, 1])
    torch.testing.assert_close(saliency(image[1:]), found[1:])


def test_grey_images_are_seen_as_such_whatever_their_channels():
    grey = with_spot()[:, :1]
    torch.testing.assert_close(saliency_filters(grey, 80), saliency_filters(grey.repeat(1, 3, 1, 1), 80))


def test_values_outside_of_the_range_count_as_its_ends():
    image = with_spot() * 1.5 - 0.2
    assert torch.equal(saliency_filters(image, 80), saliency_filters(image.clamp(0, 1), 80))


def test_contrast_is_the_standard_deviation_around():
    image = torch.rand(1, 1, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = image[0, 0].numpy()
    want = np.array([[values[r - 3 : r + 4, c - 3 : c + 4].std() for c in range(3, 17)] for r in range(3, 17)])
    got = local_contrast(image)[0, 0, 3:17, 3:17].numpy()
    np.testing.assert_allclose(got / got.max(), want / want.max(), rtol=1e-9)


def test_both_images_are_weighted_by_their_own_map():
    output, target = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), 0.8)
    ours, theirs = torch.full((1, 1, 2, 2), 0.4), torch.full((1, 1, 2, 2), 1.0)
    assert salient_error(output, target, ours, theirs).item() == pytest.approx((0.2 - 0.8) ** 2)


def test_no_gradient_passes_through_the_maps():
    image = with_spot().requires_grad_()
    for saliency in (saliency_filters, local_contrast):
        assert not saliency(image).requires_grad
    weights = torch.ones(1, 1, 48, 48, requires_grad=True)
    salient_error(image, torch.zeros_like(image), weights, weights).backward()
    assert weights.grad is None and image.grad is not None
