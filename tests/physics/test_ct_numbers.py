import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.physics.ct_numbers import (
    CARNEY,
    CT_NUMBERS,
    attenuation_at_511,
    mass_density,
    relative_electron_density,
    water_equivalent_paths,
)
from ganatomy.physics.mr_contrast import MEASURED


def test_every_tissue_of_the_table_has_mr_signals_and_a_usual_number_in_its_range():
    assert set(CT_NUMBERS) == set(MEASURED[1.5]) == set(MEASURED[3.0])
    for name, number in CT_NUMBERS.items():
        assert number.low <= number.usual <= number.high, name
    usual = [number.usual for number in CT_NUMBERS.values()]
    assert usual == sorted(usual)


def test_densities_of_reference_tissues():
    # Air, adipose tissue (0.95), muscle (1.05) and cortical bone (1.92 g/cm³) of ICRU 44, at their CT numbers.
    np.testing.assert_allclose(mass_density([-1000, -100, 50, 1525]), [0.0012, 0.95, 1.05, 1.92], rtol=0.025)
    np.testing.assert_allclose(mass_density([-1024, -98, 15, 20, 60]), [0.00121, 0.93, 1.03, 1.03, 1.0731], atol=2e-3)
    # Electron densities of adipose tissue (0.951), muscle (1.043) and cortical bone (1.781).
    np.testing.assert_allclose(relative_electron_density([-1000, 0, -60, 45]), [0, 1, 0.94, 1.045], atol=1e-6)
    assert relative_electron_density(1525) == pytest.approx(1.781, rel=0.01)


@given(st.floats(-1000, 3000), st.floats(-1000, 3000))
def test_densities_rise_with_the_number_but_where_bone_begins(one, other):
    low, high = sorted((one, other))
    for curve, bone in ((mass_density, 101), (relative_electron_density, 100)):
        if (low < bone) == (high < bone) and high - low > 0.5:
            # Schneider's lines meet only to within 0.002.
            assert curve(high) >= curve(low) - 0.002


def test_attenuation_at_511_is_continuous_and_that_of_water():
    assert attenuation_at_511(0) == pytest.approx(0.0096, rel=1e-6)
    assert attenuation_at_511(-1024) == 0
    assert attenuation_at_511(1000) == pytest.approx(0.01491, rel=1e-3)
    for kilovolts, (limit, _, _) in CARNEY.items():
        below, above = attenuation_at_511([limit - 1e-3, limit], kilovolts)
        assert above == pytest.approx(below, rel=4e-3), kilovolts
    # At a lower voltage bone stands out more in CT, so the same number means less at 511 keV.
    by_voltage = [float(attenuation_at_511(1000, kilovolts)) for kilovolts in sorted(CARNEY)]
    assert by_voltage == sorted(by_voltage)


def test_paths_are_sums_along_rows_and_columns():
    rng = np.random.default_rng(0)
    hu = rng.uniform(-1000, 1500, (2, 20, 26)).astype(np.float32)
    paths = water_equivalent_paths(hu, 1.5, 2)
    density = relative_electron_density(hu).astype(np.float64)
    # 34 rays, of which the middle 26 of the first view look along the columns.
    assert paths.shape == (2, 2, 34)
    np.testing.assert_allclose(paths[:, 0, 4:-4], 1.5 * density.sum(1), rtol=1e-5)
    np.testing.assert_allclose(paths.sum(2), np.repeat(1.5 * density.sum((1, 2))[:, None], 2, 1), rtol=2e-3)


def test_a_cylinder_of_water_is_as_thick_as_it_is():
    y, x = np.mgrid[:120, :120] - 59.5
    inside = np.hypot(x, y) < 40
    paths = water_equivalent_paths(np.where(inside, 0, -1000), 2.0, 5)[0]
    assert paths.shape[0] == 5
    np.testing.assert_allclose(paths.max(1), 160, rtol=0.02)
    # Bone in place of water lengthens the path by what its electron density exceeds that of water by.
    bone = water_equivalent_paths(np.where(inside, 975, -1000), 2.0, 5)[0]
    np.testing.assert_allclose(bone, 1.5 * paths, rtol=1e-4, atol=1e-3)
