import pytest
import torch

from ganatomy.physics.resolution import coarser, enlarged


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_a_ramp_stays_a_ramp_through_the_middles_of_the_new_pixels(blur):
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    low = coarser(ramp, 4, blur)
    assert low.shape == (1, 1, 16, 16)
    assert torch.allclose(low[0, 0, 8, 3:13], 4 * torch.arange(3.0, 13) + 1.5, atol=1e-3)
    assert torch.allclose(enlarged(low, 4)[..., 24:40], ramp[..., 24:40], atol=1e-2)


def test_brightness_stays_and_detail_goes():
    image = torch.rand(2, 3, 32, 32)
    low = coarser(image, 2, 1.0)
    assert torch.allclose(low.mean((2, 3)), image.mean((2, 3)), atol=0.02)
    assert low.std() < 0.5 * image.std()
    assert torch.allclose(coarser(torch.full((1, 1, 8, 8), 0.3), 4, 1.0), torch.tensor(0.3))


def test_channels_and_samples_do_not_mix():
    image = torch.rand(2, 3, 16, 16)
    alone = coarser(image[1:, 2:], 4, 1.0)
    assert torch.allclose(coarser(image, 4, 1.0)[1:, 2:], alone, atol=1e-6)


def test_a_size_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match="30x32 pixels have no 4 times coarser grid"):
        coarser(torch.zeros(1, 1, 30, 32), 4, 0.0)
