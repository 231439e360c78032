import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.physics.coils import (
    Encoding,
    adaptive_sensitivities,
    calibration,
    combine,
    estimated_sensitivities,
    root_sum_of_squares,
    simulated_sensitivities,
)
from ganatomy.physics.fourier import fft, ifft, smooth_phase

SIZE = 48


def disc() -> torch.Tensor:
    """Return a disc with fine structure and a slowly varying phase, (1, 1, SIZE, SIZE)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, SIZE),) * 2, indexing="ij")
    inside = np.hypot(y, x) < 0.8
    values = inside * (1 + 0.5 * np.sin(20 * x) * np.cos(17 * y))
    return (torch.from_numpy(values.astype(np.float32)) * smooth_phase((SIZE, SIZE), 0))[None, None]


def alignment(a: torch.Tensor, b: torch.Tensor, image: torch.Tensor) -> float:
    """Return the lowest percentile of |⟨a, b⟩| over the coils where there is signal, invariant to a common phase."""
    product = (a.conj() * b).sum(1, keepdim=True).abs()
    return float(product[image.abs() > 0.3].quantile(0.01))


def test_simulated_sensitivities_are_smooth_distinct_and_of_unit_power() -> None:
    maps = simulated_sensitivities(6, (40, 56), seed=1)
    assert maps.shape == (1, 6, 40, 56) and maps.dtype == torch.complex64
    torch.testing.assert_close(maps.abs().square().sum(1), torch.ones(1, 40, 56))
    assert (maps[..., 1:] - maps[..., :-1]).abs().max() < 0.15
    brightest = [divmod(int(m.abs().argmax()), 56) for m in maps[0]]
    assert len(set(brightest)) == 6
    assert torch.equal(maps, simulated_sensitivities(6, (40, 56), seed=1))
    assert not torch.equal(maps, simulated_sensitivities(6, (40, 56), seed=2))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9), st.booleans(), st.integers(0, 99))
def test_the_adjoint_of_the_encoding(coils: int, rows: int, columns: int, single: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.complex128, generator=generator)

    mask = torch.rand(2, 1, rows, columns, generator=generator) < 0.5
    encoding = Encoding(mask, None if single else random(1, coils, rows, columns))
    x, y = random(2, 1, rows, columns), random(2, 1 if single else coils, rows, columns)
    left = torch.vdot(encoding.forward(x).flatten(), y.flatten())
    torch.testing.assert_close(left, torch.vdot(x.flatten(), encoding.adjoint(y).flatten()))
    torch.testing.assert_close(encoding.normal(x), encoding.adjoint(encoding.forward(x)))


def test_a_full_measurement_keeps_energy_and_inverts() -> None:
    image, maps = disc(), simulated_sensitivities(5, (SIZE, SIZE), 0)
    encoding = Encoding(torch.ones(1, 1, SIZE, SIZE), maps)
    kspace = encoding.forward(image)
    assert torch.linalg.vector_norm(kspace) == pytest.approx(float(torch.linalg.vector_norm(image)), rel=1e-5)
    torch.testing.assert_close(encoding.adjoint(kspace), image)


def test_coil_images_combine_to_the_image() -> None:
    image, maps = disc(), simulated_sensitivities(5, (SIZE, SIZE), 0)
    torch.testing.assert_close(combine(maps * image, maps), image)
    torch.testing.assert_close(combine(3 * maps * image, 3 * maps), image)
    torch.testing.assert_close(root_sum_of_squares(maps * image), image.abs(), atol=2e-6, rtol=1e-5)
    assert (combine(maps * image, 0 * maps) == 0).all()


def test_sensitivities_from_the_centre_of_kspace() -> None:
    image, maps = disc(), simulated_sensitivities(6, (SIZE, SIZE), 2)
    kspace = fft(maps * image)
    centre = slice(SIZE // 2 - 8, SIZE // 2 + 8)
    only_centre = torch.zeros_like(kspace)
    only_centre[..., centre, centre] = kspace[..., centre, centre]
    estimate = estimated_sensitivities(only_centre, width=16)
    torch.testing.assert_close(estimate, estimated_sensitivities(kspace, width=16))
    assert alignment(estimate, maps, image) > 0.99
    power = estimate.abs().square().sum(1)
    assert ((power - 1).abs() < 1e-4).logical_or(power == 0).all()
    assert (estimate[..., 0, 0] == 0).all()


def test_adaptive_sensitivities_find_the_maps_in_noise() -> None:
    image, maps = disc(), simulated_sensitivities(6, (SIZE, SIZE), 2)
    noise = 0.05 * torch.randn(maps.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    noisy = maps * image + noise
    estimate = adaptive_sensitivities(noisy, block=7)
    assert alignment(estimate, maps, image) > 0.97
    background = image[0, 0].abs() == 0
    combined, rss = combine(noisy, estimate).abs()[0, 0], root_sum_of_squares(noisy)[0, 0]
    assert combined[background].mean() < 0.7 * rss[background].mean()
    inside = image[0, 0].abs() > 0.3
    assert (combined - image[0, 0].abs())[inside].abs().mean() < 0.05


def test_calibration_is_a_blurred_image_on_the_same_grid() -> None:
    image = disc()
    low = calibration(fft(image), 12)
    assert low.shape == image.shape
    assert torch.linalg.vector_norm(low) < torch.linalg.vector_norm(image)
    torch.testing.assert_close(fft(low)[0, 0, SIZE // 2, SIZE // 2], fft(image)[0, 0, SIZE // 2, SIZE // 2])
    torch.testing.assert_close(ifft(fft(low)), low)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    maps = simulated_sensitivities(3, (SIZE, SIZE), 0)
    images = maps * torch.cat([disc(), 2 * disc().roll(5, -1)])
    for estimate in (adaptive_sensitivities, lambda coils: estimated_sensitivities(fft(coils))):
        torch.testing.assert_close(estimate(images)[1:], estimate(images[1:]))


def test_real_coils(shared) -> None:
    kspace = torch.from_numpy(np.load(shared / "recon-mr-volumes/kspace/sigpy_cartesian_ksp.npy"))[None]
    estimate = estimated_sensitivities(kspace, width=24)
    mask = (kspace != 0).any(1, keepdim=True)
    coils = ifft(kspace)
    explained = torch.linalg.vector_norm(estimate * combine(coils, estimate)) / torch.linalg.vector_norm(coils)
    assert mask.float().mean() == pytest.approx(0.124, abs=0.001)
    assert explained > 0.85
