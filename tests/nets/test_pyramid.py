import pytest
import torch

from ganatomy.nets.pyramid import downsample, low_pass_pyramid, upsample

SIZES = [(9,), (8, 11), (6, 9, 11)]


@pytest.mark.parametrize("size", SIZES)
def test_pyramids_of_any_number_of_axes(size):
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    half = downsample(image)
    assert list(half.shape) == [2, 3, *((side + 1) // 2 for side in size)]
    assert upsample(half, size).shape == image.shape
    assert [level.shape[2] for level in low_pass_pyramid(image, 1)] == [half.shape[2], size[0]]


@pytest.mark.parametrize("size", SIZES)
def test_a_constant_stays_away_from_the_border(size):
    constant = torch.full((1, 1, *size), 2.5, dtype=torch.float64)
    half = downsample(constant)
    torch.testing.assert_close(half, torch.full_like(half, 2.5))
    inner = tuple(slice(2, -2) for _ in size)
    whole = upsample(half, size)[(slice(None), slice(None), *inner)]
    torch.testing.assert_close(whole, torch.full_like(whole, 2.5))


def test_a_volume_that_repeats_one_image_has_its_pyramid():
    flat = torch.randn(1, 1, 8, 11, dtype=torch.float64)
    volume = flat.unsqueeze(2).expand(-1, -1, 7, -1, -1)
    torch.testing.assert_close(downsample(volume)[:, :, 1], downsample(flat))
    signal = torch.randn(1, 1, 11, dtype=torch.float64)
    rows = signal.unsqueeze(2).expand(-1, -1, 8, -1)
    torch.testing.assert_close(downsample(rows)[:, :, 2], downsample(signal))


@pytest.mark.parametrize("size", [(5,), (4, 5), (3, 4, 5)])
def test_pyramids_have_gradients(size):
    image = torch.randn(1, 1, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(downsample, image)
    assert torch.autograd.gradcheck(lambda given: upsample(given, [2 * side - 1 for side in size]), image)
