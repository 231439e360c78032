from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.errors import UserError
from ganatomy.physics.fourier import fft, ifft
from ganatomy.physics.sampling import GOLDEN, Pattern, Undersampling, spiral, spokes, undersample, zero_filled

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
LINES = ("gaussian", "varden", "power", "uniform", "equispaced")
SHAPE = (256, 256)


def mask_of(pattern: Pattern, fraction: float, shape: tuple[int, int] = SHAPE, **options: object) -> np.ndarray:
    return Undersampling(pattern=pattern, fraction=fraction, **options).mask(shape).numpy()


def radius() -> np.ndarray:
    offset = np.arange(256) - 128
    return np.hypot(offset[:, None], offset)


def around(mask: np.ndarray, distance: float) -> float:
    """Return the density of a mask in a ring 5 samples wide."""
    return float(mask[np.abs(radius() - distance) < 2.5].mean())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(64, 64), (72, 50), (63, 65)])
def test_fraction_centre_and_seed(pattern: Pattern, shape: tuple[int, int]) -> None:
    for fraction in (0.1, 0.3, 0.5):
        scan = Undersampling(pattern=pattern, fraction=fraction, redrawn=True)
        mask, again, other = scan.mask(shape, 1), scan.mask(shape, 1), scan.mask(shape, 2)
        assert mask.shape == shape and mask.dtype == torch.bool
        assert mask[shape[0] // 2, shape[1] // 2] or pattern == "power"
        assert mask.float().mean() == pytest.approx(fraction, abs=0.12 if pattern == "uniform" else 0.04)
        assert torch.equal(mask, again)
        assert not torch.equal(mask, other) or pattern == "equispaced"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_mask_for_all_unless_redrawn(pattern: Pattern) -> None:
    scan = Undersampling(pattern=pattern, fraction=0.2)
    assert torch.equal(scan.mask((48, 48), 1), scan.mask((48, 48), 2, 3))
    others = [Undersampling(pattern=pattern, fraction=0.2, mask_seed=seed).mask((48, 48)) for seed in (1, 2, 3)]
    assert not all(torch.equal(scan.mask((48, 48)), other) for other in others)


@pytest.mark.parametrize("pattern", LINES)
def test_lines_are_whole_columns_or_rows(pattern: Pattern) -> None:
    columns = mask_of(pattern, 0.3, (40, 64))
    assert (columns == columns[0]).all() and 0 < columns[0].sum() < 64
    rows = mask_of(pattern, 0.3, (64, 40), lines="rows")
    np.testing.assert_array_equal(rows, columns.T)


@pytest.mark.parametrize(("fraction", "width"), [(0.1, 12), (0.2, 22), (0.3, 30), (0.4, 37), (0.5, 48)])
def test_gaussian_lines_have_dagans_centre_and_number(fraction: float, width: int) -> None:
    masks = np.stack([mask_of("gaussian", fraction, mask_seed=seed)[0] for seed in range(60)])
    assert (masks.sum(1) == round(256 * fraction)).all()
    centre = slice(128 - width // 2, 128 - width // 2 + width)
    assert masks[:, centre].all()
    assert not masks[:, centre.start - 1].all() and not masks[:, centre.stop].all()


def test_gaussian_lines_thin_out_to_a_floor() -> None:
    masks = [mask_of("gaussian", 0.3, mask_seed=seed)[0] for seed in range(40)]
    apart = np.abs(np.arange(256) - 128)
    density = [np.mean([mask[apart // 16 == ring].mean() for mask in masks]) for ring in range(8)]
    measured = [0.91, 0.47, 0.16, 0.12, 0.16, 0.16, 0.19, 0.19]
    np.testing.assert_allclose(density, measured, atol=0.1)


def test_varden_takes_64_of_512_lines_and_8_in_the_centre() -> None:
    scan = Undersampling(pattern="varden", fraction=1 / 8, redrawn=True)
    masks = np.stack([scan.mask((1, 512), seed).numpy()[0] for seed in range(200)])
    assert (masks.sum(1) == 64).all()
    assert masks[:, 252:260].all()
    offset = np.arange(512) - 256
    weight = np.exp(-0.5 * (offset / 51.2) ** 2) + 1 / 16
    far = np.abs(offset) > 180
    near = (np.abs(offset) > 20) & (np.abs(offset) < 40)
    expected = weight[near].mean() / weight[far].mean()
    assert masks[:, near].mean() / masks[:, far].mean() == pytest.approx(expected, rel=0.25)


def test_power_lines_are_floor_of_n_over_r_and_three_in_the_centre() -> None:
    scan = Undersampling(pattern="power", fraction=0.25, redrawn=True)
    masks = np.stack([scan.mask((1, 256), seed).numpy()[0] for seed in range(60)])
    assert masks[:, 127:130].all()
    assert ((masks.sum(1) >= 64) & (masks.sum(1) <= 67)).all()
    thirds = [masks[:, 128 + a : 128 + b].mean() for a, b in ((2, 43), (43, 86), (86, 128))]
    assert thirds[0] > 1.5 * thirds[1] > 2 * thirds[2]


@pytest.mark.parametrize(("acceleration", "centre"), [(4, 0.08), (8, 0.04)])
def test_uniform_and_equispaced_have_fastmris_centre(acceleration: int, centre: float) -> None:
    scan = Undersampling(pattern="uniform", fraction=1 / acceleration, redrawn=True)
    masks = np.stack([scan.mask((1, 320), seed).numpy()[0] for seed in range(100)])
    width = round(320 * centre)
    start = 160 - width // 2
    assert masks[:, start : start + width].all()
    assert masks.mean() == pytest.approx(1 / acceleration, rel=0.03)
    equispaced = mask_of("equispaced", 1 / acceleration, (1, 320))[0]
    assert equispaced[start : start + width].all()
    gaps = np.diff(np.flatnonzero(equispaced[: start - 1]))
    assert np.ptp(gaps) <= 1


@pytest.mark.parametrize(("fraction", "radius_full"), [(0.1, 6), (0.2, 12), (0.3, 18), (0.4, 24), (0.5, 30)])
def test_gaussian_points_are_exact_in_number_and_full_in_the_middle(fraction: float, radius_full: int) -> None:
    mask = mask_of("gaussian-2d", fraction)
    assert mask.sum() == round(fraction * 256**2)
    assert mask[radius() <= radius_full].all()
    assert not mask[radius() <= radius_full + 3].all()


@pytest.mark.parametrize(
    ("fraction", "densities"),
    [
        (0.1, [0.60, 0.37, 0.18, 0.10, 0.04, 0.03]),
        (0.3, [0.74, 0.44, 0.43, 0.27, 0.25, 0.23]),
        (0.5, [1.00, 0.76, 0.60, 0.54, 0.49, 0.43]),
    ],
)
def test_gaussian_points_thin_out_as_dagans(fraction: float, densities: list[float]) -> None:
    mask = mask_of("gaussian-2d", fraction)
    measured = [around(mask, r) for r in (24, 40, 56, 72, 88, 120)]
    np.testing.assert_allclose(measured, densities, atol=0.12)


def test_poisson_disc_keeps_its_samples_apart() -> None:
    shape = (128, 128)
    mask, independent = mask_of("poisson-disc", 0.15, shape), mask_of("gaussian-2d", 0.15, shape)
    assert mask.sum() == round(0.15 * 128**2)
    assert mask[64 - 7 : 64 + 8, 64 - 7 : 64 + 8].all()
    offset = np.hypot(*(np.indices(shape) - 64))
    assert mask[offset < 15].mean() > 2 * mask[(offset > 25) & (offset < 35)].mean() > 2 * mask[offset > 50].mean()

    def touching(mask: np.ndarray) -> float:
        """Return the fraction of outer samples with a neighbour, relative to that of uniformly random samples."""
        outer = mask & (offset > 40)
        pairs = (outer[:, 1:] & outer[:, :-1]).sum() + (outer[1:] & outer[:-1]).sum()
        return pairs / (2 * outer.sum() * mask[offset > 40].mean())

    assert touching(independent) == pytest.approx(1, abs=0.2)
    assert touching(mask) < 0.1


@pytest.mark.parametrize(("number", "fraction"), [(21, 0.10), (45, 0.21), (67, 0.30), (93, 0.40), (121, 0.51)])
def test_known_numbers_of_spokes(number: int, fraction: float) -> None:
    assert spokes(SHAPE, np.arange(number) * np.pi / number).mean() == pytest.approx(fraction, abs=0.006)


def test_spokes_go_through_the_middle_to_every_side() -> None:
    mask = spokes((33, 64), np.array([0, np.pi / 2]))
    assert mask[16].all() and mask[:, 32].all() and mask.sum() == 33 + 64 - 1


def test_golden_spokes_never_repeat() -> None:
    angles = np.sort((np.arange(34) * GOLDEN) % np.pi)
    gaps = np.diff([*angles, angles[0] + np.pi])
    assert np.degrees(GOLDEN) == pytest.approx(111.246, abs=1e-3)
    assert gaps.max() / gaps.min() < 3


def test_spiral_of_22_turns_measures_a_tenth_and_thins_out() -> None:
    mask = spiral(SHAPE, 22)
    assert mask.mean() == pytest.approx(0.1, abs=0.01)
    measured = [around(mask, r) for r in (8, 16, 32, 64)]
    np.testing.assert_allclose(measured, [0.52, 0.34, 0.23, 0.13], atol=0.06)
    assert mask_of("spiral", 0.1)[radius() <= 4].all()


def test_centre_can_be_chosen() -> None:
    assert mask_of("gaussian", 0.3, centre=50)[0, 103:153].all()
    assert mask_of("poisson-disc", 0.3, (64, 64), centre=20)[22:42, 22:42].all()
    assert mask_of("radial", 0.3, (64, 64), centre=20)[24:41, 32].all()


@pytest.mark.parametrize("pattern", ["gaussian", "varden", "uniform", "equispaced", "gaussian-2d", "poisson-disc"])
def test_a_centre_larger_than_the_fraction_is_refused(pattern: Pattern) -> None:
    with pytest.raises(UserError, match="centre=60"):
        mask_of(pattern, 0.1, (64, 64), centre=60)


def test_a_spiral_cannot_reach_the_corners() -> None:
    with pytest.raises(UserError, match="spiral"):
        mask_of("spiral", 0.9, (64, 64))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="fraction"):
        Undersampling(fraction=0)
    with pytest.raises(ValueError, match="pattern"):
        Undersampling(pattern="zigzag")  # type: ignore[arg-type]


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 99))
def test_measuring_and_zero_filling_are_a_projection(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image, other = torch.randn(2, 1, 1, rows, columns, dtype=torch.complex128, generator=generator)
    mask = torch.rand(rows, columns, generator=generator) < 0.5
    once = zero_filled(undersample(image, mask))
    torch.testing.assert_close(zero_filled(undersample(once, mask)), once)
    assert torch.linalg.vector_norm(once) <= torch.linalg.vector_norm(image) * (1 + 1e-9)
    left = torch.vdot(undersample(image, mask).flatten(), other.flatten())
    right = torch.vdot(image.flatten(), ifft(mask * other).flatten())
    torch.testing.assert_close(left, right)


def test_noise_has_its_variance_where_something_is_measured() -> None:
    image, mask = torch.zeros(1, 1, 128, 128), mask_of("gaussian-2d", 0.5, (128, 128))
    measured = undersample(image, torch.from_numpy(mask), 0.04, torch.Generator().manual_seed(0))
    noise = (measured - fft(image) * mask)[0, 0]
    assert (noise[~mask] == 0).all()
    assert noise[mask].real.var() == pytest.approx(0.02, rel=0.06)
    assert noise[mask].imag.var() == pytest.approx(0.02, rel=0.06)


def test_acquisition_does_not_depend_on_what_else_is_acquired() -> None:
    slices = torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    scan = Undersampling(fraction=0.3, redrawn=True, noise=0.1)
    kspace, masks = scan.acquire(slices, seed=5)
    part, part_masks = scan.acquire(slices[2:], seed=5, first=2)
    assert kspace.shape == (4, 1, 24, 24) and masks.shape == (4, 1, 24, 24)
    assert torch.equal(part, kspace[2:]) and torch.equal(part_masks, masks[2:])
    assert not torch.equal(masks[0], masks[1])
    assert (kspace[~masks] == 0).all()
    fixed, fixed_masks = Undersampling(fraction=0.3).acquire(slices, seed=5)
    assert torch.equal(fixed_masks[0], fixed_masks[3])
    torch.testing.assert_close(fixed, fft(slices) * fixed_masks)
