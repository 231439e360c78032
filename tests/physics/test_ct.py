import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ganatomy.errors import UserError
from ganatomy.physics.ct import (
    WATER,
    Beam,
    FanBeam,
    LowDoseScan,
    ParallelBeam,
    _project_coarsely,
    attenuation_to_hu,
    hu_to_attenuation,
)
from ganatomy.physics.operators import ProjectionLayer

BEAMS: dict[str, Callable[..., Beam]] = {"parallel": ParallelBeam, "fan": FanBeam}


def disk(shape: tuple[int, int], pixel: float, radius: float, centre: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Return the fraction of each pixel inside a disk; centre as (x to the right, y upwards) in mm."""
    fine = 4
    y, x = (((np.arange(n * fine) + 0.5) / fine - n / 2) * pixel for n in shape)
    inside = np.hypot(x[None] - centre[0], -y[:, None] - centre[1]) < radius
    rows, columns = shape
    return inside.reshape(rows, fine, columns, fine).mean((1, 3)).astype(np.float32)


def distance(shape: tuple[int, int], pixel: float, centre: tuple[float, float] = (0, 0)) -> np.ndarray:
    y, x = ((np.arange(n) + 0.5 - n / 2) * pixel for n in shape)
    return np.hypot(x[None] - centre[0], -y[:, None] - centre[1])


@given(arrays(np.float32, 8, elements=st.floats(-1000, 4000, width=32)), st.floats(0.015, 0.025))
def test_hu_survives_the_way_through_attenuation(hu: np.ndarray, water: float) -> None:
    np.testing.assert_allclose(attenuation_to_hu(hu_to_attenuation(hu, water), water), hu, atol=1e-3)


def test_known_attenuations_and_padding() -> None:
    mu = hu_to_attenuation([-2000, -1024, -1000, 0, 1000])
    assert mu.dtype == np.float32
    np.testing.assert_allclose(mu, [0, 0, 0, WATER, 2 * WATER], rtol=1e-6)


@pytest.mark.parametrize("kind", BEAMS)
@settings(max_examples=15, deadline=None)
@given(st.integers(5, 24), st.integers(5, 24), st.floats(0.3, 3), st.integers(1, 20), st.integers(0, 99))
def test_backprojection_is_the_adjoint(kind: str, rows: int, columns: int, pixel: float, views: int, seed: int) -> None:
    beam = BEAMS[kind]((rows, columns), pixel, views)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(beam.shape, np.float32)
    y = rng.standard_normal((views, beam.elements), np.float32)
    projected, spread = beam.project(x).astype(np.float64), beam.backproject(y).astype(np.float64)
    scale = np.linalg.norm(projected) * np.linalg.norm(y)
    assert abs(np.vdot(projected, y) - np.vdot(x, spread)) < 1e-5 * scale


def test_parallel_rays_through_a_disk_are_chords() -> None:
    centre, radius = (30.0, 20.0), 40.0
    beam = ParallelBeam((128, 160), 1.0, 24)
    offsets = (np.arange(beam.elements) - (beam.elements - 1) / 2) * beam.pitch
    angles = np.arange(24)[:, None] * np.pi / 24
    impact = offsets - centre[0] * np.cos(angles) - centre[1] * np.sin(angles)
    chords = 2 * np.sqrt(np.maximum(radius**2 - impact**2, 0))
    rays = beam.project(disk(beam.shape, 1.0, radius, centre))
    inner = np.abs(impact) < 0.9 * radius
    np.testing.assert_allclose(rays[inner], chords[inner], atol=1.0)
    assert np.abs(rays - chords)[np.abs(impact) > radius + 2].max() == 0


def test_fan_rays_through_a_disk_are_chords() -> None:
    centre, radius = np.array([30.0, 20.0]), 40.0
    beam = FanBeam((128, 160), 1.0, 24)
    offsets = (np.arange(beam.elements) - (beam.elements - 1) / 2) * beam.pitch
    angles = np.arange(24)[:, None, None] * 2 * np.pi / 24
    forward = np.concatenate([-np.sin(angles), np.cos(angles)], -1)
    sideways = np.concatenate([np.cos(angles), np.sin(angles)], -1)
    ray = (beam.source_mm + beam.detector_mm) * forward + offsets[None, :, None] * sideways
    to_centre = centre + beam.source_mm * forward
    cross = ray[..., 0] * to_centre[..., 1] - ray[..., 1] * to_centre[..., 0]
    impact = cross / np.linalg.norm(ray, axis=-1)
    chords = 2 * np.sqrt(np.maximum(radius**2 - impact**2, 0))
    rays = beam.project(disk(beam.shape, 1.0, radius, (30.0, 20.0)))
    inner = np.abs(impact) < 0.9 * radius
    np.testing.assert_allclose(rays[inner], chords[inner], atol=1.5)
    assert np.abs(rays - chords)[np.abs(impact) > radius + 2].max() == 0


@pytest.mark.parametrize("kind", BEAMS)
@pytest.mark.parametrize("centre", [(0.0, 0.0), (75.0, 45.0)])
def test_fbp_restores_a_water_disk_even_outside_the_inscribed_circle(kind: str, centre: tuple[float, float]) -> None:
    shape, pixel, radius = (160, 240), 1.0, 30.0
    beam = BEAMS[kind](shape, pixel, 300)
    hu = attenuation_to_hu(beam.fbp(beam.project(WATER * disk(shape, pixel, radius, centre))))
    away = distance(shape, pixel, centre)
    assert hu[away < radius - 5].mean() == pytest.approx(0, abs=3)
    assert hu[away < radius - 5].std() < 15
    assert hu[away > radius + 5].mean() == pytest.approx(-1000, abs=3)


def test_fbp_of_a_large_cylinder_is_flat() -> None:
    beam = ParallelBeam((256, 256), 1.4, 360)
    rays = beam.project(WATER * disk(beam.shape, 1.4, 100))
    assert rays.max() == pytest.approx(0.0192 * 200, rel=0.01)
    inside = attenuation_to_hu(beam.fbp(rays))[distance(beam.shape, 1.4) < 80]
    assert inside.mean() == pytest.approx(0, abs=0.5)
    assert inside.std() < 2


def test_filters_keep_the_mean_and_are_ordered_by_noise() -> None:
    beam = ParallelBeam((96, 96), 2.0, 144)
    rays = beam.project(WATER * disk(beam.shape, 2.0, 80))
    noise = np.random.default_rng(0).standard_normal(rays.shape).astype(np.float32)
    centre = distance(beam.shape, 2.0) < 50
    for name in ("ramp", "shepp-logan", "cosine", "hann"):
        assert attenuation_to_hu(beam.fbp(rays, name))[centre].mean() == pytest.approx(0, abs=3)
    spread = [beam.fbp(noise, name)[centre].std() for name in ("ramp", "shepp-logan", "cosine", "hann")]
    assert all(a > b for a, b in itertools.pairwise(spread))


def test_a_source_inside_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="source_mm=100"):
        FanBeam((256, 256), 1.0, 10, source_mm=100)


def test_wrong_shapes_are_named() -> None:
    beam = ParallelBeam((16, 16), 1.0, 4)
    with pytest.raises(UserError, match="image has shape"):
        beam.project(np.zeros((16, 17)))
    with pytest.raises(UserError, match="sinogram has shape"):
        beam.fbp(np.zeros((4, 3)))


@pytest.mark.parametrize("kind", BEAMS)
def test_the_layer_differentiates_as_the_operator_it_is(kind: str) -> None:
    beam = BEAMS[kind]((8, 9), 1.5, 5)
    layer = ProjectionLayer(beam)
    x = torch.randn(2, 1, 8, 9, generator=torch.manual_seed(0), requires_grad=True)
    rays = layer(x)
    assert rays.shape == (2, 1, 5, beam.elements)
    np.testing.assert_array_equal(rays[1, 0].detach().numpy(), beam.project(x[1, 0].detach().numpy()))
    (gradient,) = torch.autograd.grad(rays.square().sum() / 2, x, create_graph=True)
    torch.testing.assert_close(gradient, layer.adjoint(rays))
    (curvature,) = torch.autograd.grad((gradient * x).sum(), x)
    torch.testing.assert_close(curvature, 2 * gradient.detach(), rtol=1e-4, atol=1e-3)


def water_cylinder(slices: int = 1) -> np.ndarray:
    return np.repeat(1000 * disk((256, 256), 1.4, 100)[None] - 1000, slices, 0)


def central_sd(hu: np.ndarray) -> float:
    return float(hu[..., 113:143, 113:143].std())


@pytest.mark.parametrize(("photons", "expected"), [(1e4, 86), (1e5, 27), (1e6, 8.2)])
def test_noise_in_a_water_cylinder(photons: float, expected: float) -> None:
    scan = LowDoseScan(photons=photons, views=360, filter="ramp")
    noise = scan.acquire(water_cylinder(2), (1.4, 1.4), seed=0) - water_cylinder(2)
    assert central_sd(noise) == pytest.approx(expected, rel=0.08)
    nearest_sample = 1000 / WATER * np.pi * np.sqrt(np.exp(3.84) / photons) / (1.4 * np.sqrt(12 * 360))
    assert 0.6 < central_sd(noise) / nearest_sample < 0.85


@pytest.mark.parametrize("geometry", BEAMS)
@pytest.mark.parametrize("dose", [0.05, 0.25])
def test_routine_plus_missing_noise_is_low_dose_noise(geometry: str, dose: float) -> None:
    settings_ = {"views": 180, "geometry": geometry, "clip": False}
    clean = water_cylinder(3)
    routine_scan = LowDoseScan(dose_fraction=dose, **settings_)
    routine = routine_scan.acquire(clean, (1.4, 1.4), seed=1)
    partner = routine_scan.low_dose(routine, (1.4, 1.4), seed=1)
    direct = LowDoseScan(photons=1e5 * dose, **settings_).acquire(clean, (1.4, 1.4), seed=2)
    assert central_sd(partner - clean) == pytest.approx(central_sd(direct - clean), rel=0.08)
    routine_noise, added = (routine - clean)[:, 113:143, 113:143], (partner - routine)[:, 113:143, 113:143]
    assert abs(np.corrcoef(routine_noise.ravel(), added.ravel())[0, 1]) < 0.15


def test_starved_rays_stay_finite_and_bounded() -> None:
    steel = np.where(disk((64, 64), 6.0, 150)[None] > 0.5, 3071.0, -1000.0)
    scan = LowDoseScan(views=60, clip=False)
    for scanned in (scan.low_dose(steel, (6, 6), 0), scan.acquire(steel, (6, 6), 0)):
        assert np.abs(scanned - steel).max() < 5000


def test_full_dose_adds_nothing() -> None:
    hu = water_cylinder()[:, ::4, ::4]
    np.testing.assert_array_equal(LowDoseScan(dose_fraction=1, views=20).low_dose(hu, (6, 6), 0), hu)


def test_slices_are_independent_reproducible_and_separable() -> None:
    hu = water_cylinder(3)[:, ::4, ::4]
    scan = LowDoseScan(views=30)
    whole = scan.low_dose(hu, (5.6, 5.6), seed=7)
    np.testing.assert_array_equal(scan.low_dose(hu[2:], (5.6, 5.6), seed=7, first=2), whole[2:])
    assert np.abs(whole[0] - whole[1]).max() > 1
    assert np.abs(scan.low_dose(hu, (5.6, 5.6), seed=8) - whole).max() > 1
    assert whole.dtype == np.float32


@pytest.mark.parametrize("geometry", BEAMS)
def test_full_reconstruction_has_the_same_noise_and_mean(geometry: str) -> None:
    hu = water_cylinder()
    added, full = (
        LowDoseScan(views=360, geometry=geometry, scheme=scheme).acquire(hu, (1.4, 1.4), 3)
        for scheme in ("additive", "full")
    )
    assert central_sd(full) == pytest.approx(central_sd(added), rel=0.1)
    assert full[0, 113:143, 113:143].mean() == pytest.approx(0, abs=2)


def test_halving_the_resolution_does_not_change_the_noise() -> None:
    beam = ParallelBeam((256, 256), 1.4, 90)
    mu = hu_to_attenuation(np.where(water_cylinder()[0] > -500, 40, -1000) + 800 * disk((256, 256), 1.4, 15, (40, 30)))
    fine, coarse = beam.project(mu), _project_coarsely(beam, mu)
    assert coarse.shape == fine.shape
    deviation_ratio = np.exp((coarse - fine) / 2)
    assert np.abs(deviation_ratio - 1).mean() < 0.01
    assert deviation_ratio.mean() == pytest.approx(1, abs=0.002)


def test_output_stays_in_the_scanner_range_and_padding_untouched() -> None:
    hu = water_cylinder()[:, ::4, ::4].copy()
    hu[:, :8] = -2000
    clipped = LowDoseScan(photons=500, views=30).low_dose(hu, (5.6, 5.6), 0)
    assert (clipped[:, :8] == -2000).all()
    assert clipped[:, 8:].min() == -1024
    free = LowDoseScan(photons=500, views=30, clip=False).low_dose(hu, (5.6, 5.6), 0)
    assert free[:, 8:].min() < -1024
    assert (hu[:, :8] == -2000).all()


def test_odd_and_rectangular_matrices() -> None:
    hu = np.full((1, 41, 57), 0.0)
    assert LowDoseScan(views=20).low_dose(hu, (5.0, 5.0), 0).shape == hu.shape


def test_unusable_scans_are_refused() -> None:
    with pytest.raises(UserError, match="square pixels"):
        LowDoseScan().low_dose(np.zeros((1, 8, 8)), (1.0, 1.2), 0)
    with pytest.raises(UserError, match="slices"):
        LowDoseScan().low_dose(np.zeros((8, 8)), (1.0, 1.0), 0)
    with pytest.raises(ValueError, match="dose_fraction"):
        LowDoseScan(dose_fraction=0)
