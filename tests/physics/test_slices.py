import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.physics.fourier import VOLUME, fft, smooth_phase
from ganatomy.physics.slices import decimated, thick_slices, truncated


def volume(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_truncation_keeps_the_centre_of_kspace_and_nothing_else() -> None:
    image = volume(1, 1, 6, 20, 24).to(torch.complex128)
    result = truncated(image, (1, 2, 2))
    kept, before = fft(result, VOLUME), fft(image, VOLUME)
    torch.testing.assert_close(kept[..., 5:15, 6:18], before[..., 5:15, 6:18])
    assert torch.linalg.vector_norm(kept) == pytest.approx(
        float(torch.linalg.vector_norm(before[..., 5:15, 6:18])), rel=1e-9
    )
    torch.testing.assert_close(truncated(result, (1, 2, 2)), result)


@pytest.mark.parametrize("same_grid", [True, False])
@pytest.mark.parametrize("window", ["none", "hann"])
def test_truncation_keeps_intensities(same_grid: bool, window: str) -> None:
    flat = torch.full((1, 1, 18, 24), 7.0)
    result = truncated(flat, (2, 3), window, same_grid)
    assert result.shape == (flat.shape if same_grid else (1, 1, 9, 8))
    torch.testing.assert_close(result, torch.full_like(result, 7))


def test_truncation_rings_at_edges_and_a_window_prevents_it() -> None:
    edge = torch.zeros(1, 1, 1, 128)
    edge[..., 32:96] = 1
    ringing, calm = truncated(edge, (4,)), truncated(edge, (4,), "hann")
    assert 1.05 < ringing.max() < 1.15
    assert calm.max() < 1.02


def test_cropping_and_padding_show_the_same_at_common_places() -> None:
    image = volume(1, 1, 16, 16) * smooth_phase((16, 16), 0)
    large, small = truncated(image, (2, 2)), truncated(image, (2, 2), same_grid=False)
    torch.testing.assert_close(large[..., ::2, ::2], small)


def test_truncation_of_a_real_image_is_a_magnitude() -> None:
    assert (truncated(volume(1, 1, 12, 12), (3, 3)) >= 0).all()
    with pytest.raises(ValueError, match="truncated"):
        truncated(volume(1, 1, 4, 4), (0.5, 1))
    with pytest.raises(ValueError, match="truncated"):
        truncated(volume(1, 1, 4, 4), (1, 9))


def test_thick_slices_are_means_of_thin_ones() -> None:
    thin = volume(2, 1, 12, 3, 4)
    thick = thick_slices(thin, 3)
    assert thick.shape == (2, 1, 4, 3, 4)
    torch.testing.assert_close(thick[:, :, 1], thin[:, :, 3:6].mean(2))
    torch.testing.assert_close(thick_slices(thin, 3, gap=1)[:, :, 1], thin[:, :, 3:5].mean(2))
    torch.testing.assert_close(thick_slices(thin, 4, gap=2)[:, :, 0], thin[:, :, 1:3].mean(2))


def test_a_gaussian_profile_has_the_thickness_as_its_width() -> None:
    factor, reach = 8, 3
    weights = []
    for place in range(factor * (2 * reach + 1)):
        thin = torch.zeros(1, 1, factor * (2 * reach + 1), 1, 1)
        thin[:, :, place] = 1
        weights.append(float(thick_slices(thin, factor, "gaussian")[0, 0, reach]))
    profile = np.array(weights)
    centre = (len(profile) - 1) / 2
    assert np.average(np.arange(len(profile)), weights=profile) == pytest.approx(centre, abs=1e-4)
    assert profile.sum() == pytest.approx(1, abs=1e-5)
    above = np.interp(0.5 * profile.max(), profile[: int(centre) + 1], np.arange(int(centre) + 1))
    assert 2 * (centre - above) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("profile", ["box", "gaussian"])
def test_flat_volumes_stay_flat_and_ramps_stay_ramps(profile: str) -> None:
    ramp = torch.arange(24.0).view(1, 1, 24, 1, 1).expand(1, 1, 24, 2, 2)
    thick = thick_slices(ramp, 4, profile)
    torch.testing.assert_close(thick[0, 0, 1:-1, 0, 0], torch.arange(4) * 4 + 5.5)
    torch.testing.assert_close(thick_slices(torch.ones(1, 1, 24, 2, 2), 4, profile), torch.ones(1, 1, 6, 2, 2))


def test_slices_across_another_axis() -> None:
    thin = volume(1, 1, 2, 6, 4)
    torch.testing.assert_close(thick_slices(thin, 2, dim=-1), thick_slices(thin.transpose(2, 4), 2).transpose(2, 4))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.floats(0.3, 2), st.integers(0, 9))
def test_the_adjoint_of_decimation(d: int, h: int, w: int, blur: float, seed: int) -> None:
    x = volume(1, 1, 3 * d, 2 * h, w, seed=seed).requires_grad_()
    coarse = decimated(x, (3, 2, 1), blur)
    y = volume(*coarse.shape, seed=seed + 1)
    assert coarse.shape == (1, 1, d, h, w)
    (adjoint,) = torch.autograd.grad(coarse, x, y)
    # The sums may cancel, so that their error is one of the size of their terms.
    size = float(coarse.norm() * y.norm())
    torch.testing.assert_close((coarse * y).sum(), (x * adjoint).sum(), rtol=0, atol=1e-6 * size)
    torch.testing.assert_close(decimated(torch.ones_like(x), (3, 2, 1), blur), torch.ones_like(coarse))


def test_decimation_samples_in_the_middle() -> None:
    ramp = torch.arange(32.0).view(1, 1, 1, 32)
    torch.testing.assert_close(decimated(ramp, (4,), 1.0)[0, 0, 0, 1:-1], torch.arange(6) * 4 + 5.5)
    fine = torch.zeros(1, 1, 1, 32)
    fine[..., 13] = 1
    assert decimated(fine, (4,), 1.0)[0, 0, 0].argmax() == 3


def test_numbers_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="joined"):
        thick_slices(volume(1, 1, 7, 2, 2), 3)
    with pytest.raises(ValueError, match="joined"):
        thick_slices(volume(1, 1, 6, 2, 2), 3, gap=3)
    with pytest.raises(ValueError, match="every 3-th"):
        decimated(volume(1, 1, 7, 2, 2), (3, 1, 1), 1.0)
