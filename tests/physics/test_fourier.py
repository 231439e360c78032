import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.physics.fourier import PLANE, VOLUME, as_channels, as_complex, fft, ifft, magnitude, smooth_phase

SIZES = st.integers(1, 9)


def random_image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dims", [PLANE, VOLUME])
@settings(max_examples=12, deadline=None)
@given(SIZES, SIZES, SIZES, st.integers(0, 99))
def test_unitary_on_even_and_odd_grids(dims: tuple[int, ...], d: int, h: int, w: int, seed: int) -> None:
    x, y = random_image(2, 1, d, h, w, seed=seed), random_image(2, 1, d, h, w, seed=seed + 1)
    torch.testing.assert_close(ifft(fft(x, dims), dims), x)
    assert torch.linalg.vector_norm(fft(x, dims)) == pytest.approx(float(torch.linalg.vector_norm(x)))
    torch.testing.assert_close(
        torch.vdot(fft(x, dims).flatten(), y.flatten()), torch.vdot(x.flatten(), ifft(y, dims).flatten())
    )


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 5)])
def test_the_zero_frequency_and_the_origin_lie_in_the_middle(shape: tuple[int, int]) -> None:
    middle = tuple(extent // 2 for extent in shape)
    flat = fft(torch.ones(1, 1, *shape))
    assert flat[0, 0][middle] == pytest.approx(np.sqrt(np.prod(shape)))
    assert flat.abs().sum() == pytest.approx(np.sqrt(np.prod(shape)), rel=1e-4)
    point = torch.zeros(1, 1, *shape)
    point[0, 0][middle] = 1
    torch.testing.assert_close(fft(point), torch.full((1, 1, *shape), np.prod(shape) ** -0.5 + 0j).to(torch.complex64))


def test_noise_has_the_same_deviation_in_both_domains() -> None:
    noise = torch.randn(1, 1, 64, 64, dtype=torch.complex64)
    assert fft(noise).real.std() == pytest.approx(float(noise.real.std()), rel=0.03)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_channels_hold_real_and_imaginary_parts_in_turn(shape: tuple[int, ...]) -> None:
    values = random_image(*shape)
    channels = as_channels(values)
    assert channels.shape == (shape[0], 2 * shape[1], *shape[2:])
    torch.testing.assert_close(channels[:, 0::2], values.real)
    torch.testing.assert_close(channels[:, 1::2], values.imag)
    torch.testing.assert_close(as_complex(channels), values)


def test_short_floats_become_single_precision() -> None:
    channels = torch.randn(1, 2, 4, 4).bfloat16()
    assert fft(as_complex(channels)).dtype == torch.complex64
    assert fft(channels).dtype == torch.complex64


def test_magnitude_agrees_and_has_a_gradient_at_zero() -> None:
    values = random_image(2, 3, 4, 5)
    torch.testing.assert_close(magnitude(values), values.abs())
    torch.testing.assert_close(magnitude(as_channels(values)), values.abs())
    zero = torch.zeros(1, 2, 3, 3, requires_grad=True)
    magnitude(zero).sum().backward()
    assert (zero.grad == 0).all()


def test_phase_is_smooth_seeded_and_of_unit_magnitude() -> None:
    phase = smooth_phase((48, 64), 3, swing=0.8)
    torch.testing.assert_close(phase.abs(), torch.ones(48, 64))
    torch.testing.assert_close(phase, smooth_phase((48, 64), 3, swing=0.8))
    assert (phase - smooth_phase((48, 64), 4)).abs().max() > 0.1
    steps = (phase[:, 1:] * phase[:, :-1].conj()).angle()
    assert steps.abs().max() < 0.4
    turned = (phase * phase.mean().conj()).angle()
    assert turned.std() == pytest.approx(0.8, rel=0.1)
