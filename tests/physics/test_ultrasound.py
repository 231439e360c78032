import numpy as np
import pytest

from ganatomy.physics.ultrasound import (
    Sector,
    attenuated,
    compressed,
    envelope_of,
    pulse_sd,
    reflected,
    speckled,
    transmitted,
)

SECTOR = Sector(depth_mm=40.0, step_mm=0.5, half_angle=np.radians(30.0), beams=31)


def test_speckle_is_rayleigh_distributed_and_keeps_the_power() -> None:
    amplitude = np.full((60, 40, 40), 0.3, np.float32)
    amplitude[30:] = 0.6
    found = speckled(amplitude, np.random.default_rng(0), (1.0, 1.5, 1.5))
    # At the borders, echoes from outside are those from inside.
    for part, strength in ((found[6:25, 8:-8, 8:-8], 0.3), (found[35:-6, 8:-8, 8:-8], 0.6)):
        assert np.sqrt(np.square(part).mean()) == pytest.approx(strength, rel=0.05)
        assert part.mean() / part.std() == pytest.approx(1.91, rel=0.05), "mean over SD of a Rayleigh distribution"
    lag = [np.corrcoef(found[:25, :, :-k].ravel(), found[:25, :, k:].ravel())[0, 1] for k in (1, 8)]
    assert lag[0] > 0.6 > 0.1 > abs(lag[1])


def test_attenuation_falls_in_decibels_on_both_ways_and_gain_compensates_for_it() -> None:
    ones = np.ones((21, 2, 3), np.float32)
    lost = attenuated(ones, 1.0, 10.0, 0.0)
    np.testing.assert_allclose(20 * np.log10(lost[:, 1, 2]), -2 * np.arange(1, 22), rtol=1e-4)
    np.testing.assert_allclose(attenuated(ones, 0.7, 10.0, 0.7), 1)
    shadow = np.zeros((2, 3), np.float32)
    shadow[1] = 2.0
    beside = attenuated(ones, 0.5 + shadow, 10.0, 0.5)
    assert (beside[:, 0] == 1).all() and (beside[:, 1] < 0.7).all()


def test_grey_levels_are_linear_in_decibels() -> None:
    found = compressed(np.array([1.0, 0.1, 1e-3, 0.0, 4.0], np.float32), 60.0)
    np.testing.assert_allclose(found, [255, 170, 0, 0, 255], atol=1e-3)


def test_converted_values_lie_where_the_samples_are() -> None:
    reach, across, deep, aside = SECTOR.positions()
    assert reach.shape == SECTOR.shape == (81, 31, 31)
    np.testing.assert_allclose(np.sqrt(across**2 + deep**2 + aside**2), reach, atol=1e-4)
    values = (reach + 3 * across - 2 * aside).astype(np.float32)
    places = [axis[20:70:7, 3:28:5, 2:29:4] for axis in (across, deep, aside)]
    np.testing.assert_allclose(SECTOR.converted(values, *places), values[20:70:7, 3:28:5, 2:29:4], atol=1e-2)
    for place in ((30.0, 10.0, 0.0), (0.0, -9.0, 0.0), (0.0, 41.0, 0.0)):
        assert SECTOR.converted(np.ones_like(values), *(np.full((1, 1, 1), at, np.float32) for at in place)) == 0


def test_pulses_are_as_long_as_their_cycles() -> None:
    assert pulse_sd(20.0) == pytest.approx(0.04087, abs=5e-6)
    assert pulse_sd(5.0) == pytest.approx(0.1635, abs=5e-5)


def test_borders_of_impedances_reflect_and_let_pass() -> None:
    fat, muscle, bone, blood = 1.38, 1.70, 7.8, 1.61
    assert reflected(fat, muscle) == pytest.approx(0.103896, abs=1e-6)
    assert transmitted(fat, muscle) == pytest.approx(0.989206, abs=1e-6)
    assert transmitted(muscle, bone) == pytest.approx(1 - reflected(muscle, bone) ** 2) == pytest.approx(0.587701)
    assert reflected(blood, muscle) == pytest.approx(0.027190, abs=1e-6)


def test_the_envelope_of_given_scatterers_keeps_their_power_and_has_the_width_of_the_pulse() -> None:
    scattered = np.random.default_rng(0).standard_normal((2, 200, 200), np.float32) / np.float32(np.sqrt(2))
    found = envelope_of(scattered, (4.0, 2.0))[20:-20, 20:-20]
    assert np.square(found).mean() == pytest.approx(1.0, rel=0.1)
    assert found.mean() / found.std() == pytest.approx(1.913, rel=0.06)
    point = np.zeros((2, 33, 33), np.float32)
    point[0, 16, 16] = 1
    shape = envelope_of(point, (2.0, 2.0))
    assert shape[18, 16] / shape[16, 16] == pytest.approx(np.exp(-0.5), rel=1e-3)
