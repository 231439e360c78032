import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.physics.coils import Encoding, estimated_sensitivities, simulated_sensitivities
from ganatomy.physics.consistency import (
    DataConsistency,
    conjugate_gradients,
    consistency_residual,
    consistent,
    consistent_with,
)
from ganatomy.physics.fourier import as_channels, as_complex, fft

SEEDS = st.integers(0, 99)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def scanner(rows: int, columns: int, coils: int | None, seed: int = 0) -> Encoding:
    mask = torch.rand(2, 1, rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.4
    maps = simulated_sensitivities(coils, (rows, columns), seed).to(torch.complex128) if coils else None
    return Encoding(mask, maps)


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), SEEDS)
def test_one_coil_takes_the_measured_samples_and_keeps_the_others(rows: int, columns: int, seed: int) -> None:
    encoding, image = scanner(rows, columns, None, seed), random(2, 1, rows, columns, seed=seed)
    measured = encoding.forward(random(2, 1, rows, columns, seed=seed + 1))
    result = consistent(image, measured, encoding)
    torch.testing.assert_close(encoding.forward(result), measured)
    torch.testing.assert_close(fft(result)[~encoding.mask], fft(image)[~encoding.mask])
    torch.testing.assert_close(consistent(result, measured, encoding), result)
    assert consistency_residual(result, encoding.adjoint(measured), encoding).max() < 1e-9


@pytest.mark.parametrize("coils", [None, 3])
@pytest.mark.parametrize("weight", [None, 0.7])
def test_the_zero_filled_image_tells_as_much_as_the_measurement(coils: int | None, weight: float | None) -> None:
    encoding, image = scanner(8, 6, coils), random(2, 1, 8, 6)
    measured = encoding.forward(random(2, 1, 8, 6, seed=1))
    measured = measured + encoding.mask * random(*measured.shape, seed=2)
    torch.testing.assert_close(
        consistent_with(image, encoding.adjoint(measured), encoding, weight),
        consistent(image, measured, encoding, weight),
    )


def test_one_coil_departs_in_the_image_as_much_as_in_kspace() -> None:
    encoding, image = scanner(8, 6, None), random(2, 1, 8, 6)
    measured = encoding.forward(random(2, 1, 8, 6, seed=1))
    norms = [torch.linalg.vector_norm(part, dim=(1, 2, 3)) for part in (encoding.forward(image) - measured, measured)]
    torch.testing.assert_close(consistency_residual(image, encoding.adjoint(measured), encoding), norms[0] / norms[1])


def test_the_null_space_form_is_the_same() -> None:
    encoding, network = scanner(8, 6, None), random(2, 1, 8, 6, seed=3)
    measured = encoding.forward(random(2, 1, 8, 6))
    null_space = encoding.adjoint(measured) + network - encoding.normal(network)
    torch.testing.assert_close(consistent(network, measured, encoding), null_space)


@pytest.mark.parametrize("weight", [0.1, 1.0, 20.0])
def test_the_weight_mixes_as_published(weight: float) -> None:
    encoding, image = scanner(6, 7, None), random(2, 1, 6, 7)
    measured = encoding.forward(random(2, 1, 6, 7, seed=1))
    kspace = fft(image)
    expected = torch.where(encoding.mask, (kspace + weight * measured) / (1 + weight), kspace)
    torch.testing.assert_close(fft(consistent(image, measured, encoding, weight)), expected)


def test_a_large_weight_is_no_noise_and_gradients_are_known() -> None:
    encoding, image = scanner(6, 6, None), random(2, 1, 6, 6)
    measured = encoding.forward(random(2, 1, 6, 6, seed=1))
    torch.testing.assert_close(
        consistent(image, measured, encoding, 1e9), consistent(image, measured, encoding), atol=1e-6, rtol=1e-6
    )
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    kspace = fft(image)
    mixed = fft(consistent(image, measured, encoding, weight))
    (gradient,) = torch.autograd.grad(mixed.real.sum(), weight)
    assert gradient == pytest.approx(float(((measured - kspace) * encoding.mask / 9).real.sum()))


@pytest.mark.parametrize("weight", [None, 3.0])
def test_coils_solve_the_least_squares_problem(weight: float | None) -> None:
    rows, columns, coils = 5, 4, 3
    encoding, image = scanner(rows, columns, coils), random(2, 1, rows, columns)
    measured = encoding.forward(random(2, 1, rows, columns, seed=1)) + 0.1 * encoding.mask * random(
        2, coils, rows, columns
    )
    result = consistent(image, measured, encoding, weight, steps=40)
    for n in range(2):
        alone = Encoding(encoding.mask[n : n + 1], encoding.sensitivities)
        basis = torch.eye(rows * columns, dtype=torch.complex128).view(-1, 1, 1, rows, columns)
        matrix = torch.stack([alone.forward(unit).flatten() for unit in basis], 1)
        missing = measured[n].flatten() - matrix @ image[n].flatten()
        if weight is None:
            step = torch.linalg.pinv(matrix, rtol=1e-9) @ missing
        else:
            normal = torch.eye(rows * columns) + weight * matrix.mH @ matrix
            step = torch.linalg.solve(normal, weight * matrix.mH @ missing)
        torch.testing.assert_close(result[n].flatten(), image[n].flatten() + step, atol=1e-5, rtol=1e-5)


def test_one_uniform_coil_is_no_coil() -> None:
    encoding, image = scanner(6, 5, None), random(2, 1, 6, 5)
    uniform = Encoding(encoding.mask, torch.ones(1, 1, 6, 5, dtype=torch.complex128))
    measured = encoding.forward(random(2, 1, 6, 5, seed=1))
    for weight in (None, 2.0):
        torch.testing.assert_close(
            consistent(image, measured, uniform, weight), consistent(image, measured, encoding, weight)
        )


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    encoding, image = scanner(6, 6, 3), random(2, 1, 6, 6)
    measured = encoding.forward(random(2, 1, 6, 6, seed=1))
    together = consistent(image, measured, encoding, steps=4)
    alone = consistent(image[1:], measured[1:], Encoding(encoding.mask[1:], encoding.sensitivities), steps=4)
    torch.testing.assert_close(together[1:], alone)


def test_conjugate_gradients_stay_at_a_solution() -> None:
    target = random(2, 1, 4, 4)
    solved = conjugate_gradients(lambda x: 2 * x, target, steps=20)
    torch.testing.assert_close(solved, target / 2)
    assert (conjugate_gradients(lambda x: 2 * x, 0 * target, steps=3) == 0).all()


@pytest.mark.parametrize("coils", [None, 2])
def test_gradients_pass_through(coils: int | None) -> None:
    encoding, image = scanner(3, 4, coils), random(2, 1, 3, 4).requires_grad_()
    measured = encoding.forward(random(2, 1, 3, 4, seed=1)).detach()
    weight = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, v: torch.view_as_real(consistent(x, measured, encoding, v, steps=2)), (image, weight), fast_mode=True
    )
    solved = consistent(image.detach(), measured, encoding, steps=12).requires_grad_()
    (gradient,) = torch.autograd.grad(consistent(solved, measured, encoding).abs().sum(), solved)
    assert torch.isfinite(torch.view_as_real(gradient)).all()


def test_the_data_consistency_residual_is_the_contradicted_share_of_the_measurement() -> None:
    encoding, truth = scanner(8, 8, 2), random(2, 1, 8, 8)
    seen = encoding.adjoint(encoding.forward(truth))
    images = torch.stack([truth[0], 1.25 * truth[1]])
    torch.testing.assert_close(
        consistency_residual(images, seen, encoding), torch.tensor([0, 0.25], dtype=torch.float64), atol=1e-9, rtol=1e-6
    )
    torch.testing.assert_close(consistency_residual(0 * truth, seen, encoding), torch.ones(2, dtype=torch.float64))


def test_the_layer_works_on_channels_and_learns_a_positive_weight() -> None:
    encoding, image = scanner(6, 6, None), random(2, 1, 6, 6).to(torch.complex64)
    measured = encoding.forward(random(2, 1, 6, 6, seed=1)).to(torch.complex64)
    hard = DataConsistency()
    assert not list(hard.parameters()) and hard.weight is None
    result = hard(as_channels(image), as_channels(measured), encoding.mask.float())
    torch.testing.assert_close(as_complex(result), consistent(image, measured, encoding))

    fixed, learned = DataConsistency(0.7), DataConsistency(0.7, learned=True)
    assert not any(p.requires_grad for p in fixed.parameters())
    for layer in (fixed, learned):
        assert layer.weight.item() == pytest.approx(0.7, rel=1e-5)
    learned(as_channels(image), as_channels(measured), encoding.mask).square().sum().backward()
    (parameter,) = learned.parameters()
    assert parameter.grad != 0
    with torch.no_grad():
        parameter.fill_(-50)
    assert learned.weight > 0
    with pytest.raises(ValueError, match="learned"):
        DataConsistency(learned=True)


def test_a_large_weight_of_the_layer_is_kept() -> None:
    assert DataConsistency(1000.0).weight.item() == pytest.approx(1000)


def test_the_layer_with_coils() -> None:
    encoding, truth = scanner(16, 16, 4), random(2, 1, 16, 16)
    measured = encoding.forward(truth).to(torch.complex64)
    layer = DataConsistency(steps=10)
    maps = as_channels(encoding.sensitivities.to(torch.complex64))
    start = torch.zeros(2, 2, 16, 16)
    result = as_complex(layer(start, as_channels(measured), encoding.mask, maps))
    assert consistency_residual(result, encoding.adjoint(measured), encoding).max() < 0.05


def test_several_coils_explain_a_real_measurement_better_step_by_step(shared) -> None:
    whole = np.load(shared / "recon-mr-volumes/kspace/sigpy_cartesian_ksp.npy", mmap_mode="r")
    kspace = torch.from_numpy(whole[:, 83:147, 58:122].copy())[None]
    encoding = Encoding((kspace != 0).any(1, keepdim=True), estimated_sensitivities(kspace))
    start = encoding.adjoint(kspace)
    residuals = [
        float(consistency_residual(consistent(start, kspace, encoding, steps=n), start, encoding)) for n in (0, 2, 6)
    ]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < 0.6 * residuals[0]
