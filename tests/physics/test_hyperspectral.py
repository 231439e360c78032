"""Hyperspectral transmission of tissue: scattering, haemoglobin, flat fields, and principal components of spectra."""

import numpy as np
import pytest

from ganatomy.physics import hyperspectral as hs


def test_bands_and_scattering():
    assert len(hs.BANDS) == 31 and (hs.BANDS[0], hs.BANDS[-1]) == (420, 720)
    loss = hs.scattering([420.0, 500.0, 720.0], 1.5)
    assert loss[1] == 1 and loss[0] / loss[2] == pytest.approx(2.2445, abs=1e-4)


def test_haemoglobin_has_its_peaks():
    fine = np.arange(400.0, 640.0)
    values = hs.haemoglobin(fine)
    inner = values[1:-1]
    peaks = fine[1:-1][(inner > values[:-2]) & (inner > values[2:])]
    np.testing.assert_allclose(peaks, [415, 542, 577], atol=1)
    assert values.max() == pytest.approx(1, abs=1e-6)


def test_light_follows_beer_and_lambert_and_a_flat_field_undoes_the_lamp():
    spectra = np.stack([hs.scattering(hs.BANDS, 1.5), hs.haemoglobin(hs.BANDS)])
    amounts = np.array([[[0.2, 0.0]], [[0.1, 0.0]]])
    found = hs.absorbance(spectra, amounts)
    assert found.shape == (31, 1, 2)
    np.testing.assert_allclose(found[:, 0, 0], 0.2 * spectra[0] + 0.1 * spectra[1])
    lamp = np.linspace(200, 4000, 31)
    light = hs.transmitted(found, lamp)
    np.testing.assert_allclose(light[:, 0, 1], lamp)
    np.testing.assert_allclose(hs.flat_field(light, np.broadcast_to(lamp[:, None, None], light.shape)), found)
    assert hs.flat_field(0.0, 100.0) == pytest.approx(3.0)


def test_principal_components_are_ordered_standardised_and_orthonormal():
    rng = np.random.default_rng(2)
    hidden = rng.standard_normal((2, 5000)) * [[3.0], [0.5]]
    values = rng.standard_normal((6, 2)) @ hidden + 0.05 * rng.standard_normal((6, 5000)) + np.arange(6)[:, None]
    mean, spread, axes, deviations = hs.principal_components(values, 3)
    np.testing.assert_allclose(mean, values.mean(1))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    scores = axes @ ((values - mean[:, None]) / spread[:, None])
    np.testing.assert_allclose(scores.std(1), deviations)
    assert deviations[0] > deviations[1] > deviations[2]
    np.testing.assert_allclose(np.cov(scores, bias=True), np.diag(deviations**2), atol=1e-9)


def test_a_band_without_spread_counts_for_nothing():
    values = np.stack([np.linspace(0, 1, 50), np.full(50, 2.0), np.linspace(1, 0, 50)])
    mean, spread, axes, _ = hs.principal_components(values, 1)
    assert np.isinf(spread[1]) and abs(axes[0, 1]) < 1e-9
    assert np.isfinite((values - mean[:, None]) / spread[:, None]).all()
