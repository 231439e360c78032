from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.phantoms import brain
from ganatomy.physics.mr_contrast import (
    BRAINWEB,
    MEASURED,
    Tissue,
    balanced_ssfp,
    ernst_angle,
    inversion_recovery,
    nulling_time,
    pulses_met,
    spin_echo,
    spoiled_gradient_echo,
    time_of_flight,
)


def relaxed(state: np.ndarray, tissue: Tissue, time: float) -> np.ndarray:
    """Return the magnetisation (x, y, z) after free relaxation on resonance."""
    across, along = np.exp(-time / tissue.t2), np.exp(-time / tissue.t1)
    return state * (across, across, along) + np.array([0, 0, tissue.density * (1 - along)])


def turned(state: np.ndarray, degrees: float) -> np.ndarray:
    """Return the magnetisation after a pulse about the x axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) @ state


def spoiled(state: np.ndarray) -> np.ndarray:
    return state * (0, 0, 1)


def simulated(step: Callable[[np.ndarray], tuple[np.ndarray, float]]) -> float:
    """Return the signal of the state that a repetition, an affine map of the magnetisation, leaves unchanged."""
    offset = step(np.zeros(3))[0]
    matrix = np.stack([step(axis)[0] - offset for axis in np.eye(3)], 1)
    return abs(step(np.linalg.solve(np.eye(3) - matrix, offset))[1])


TISSUES = (Tissue(0.8, 1000, 80), Tissue(1.0, 300, 50), Tissue(0.9, 2500, 400))


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize(("repetition", "echo"), [(500, 15), (3000, 100)])
def test_the_spin_echo_is_that_of_simulated_spins(tissue, repetition, echo):
    def step(state):
        state = relaxed(turned(state, 90), tissue, echo / 2)
        state = relaxed(turned(state, 180), tissue, echo / 2)
        return spoiled(relaxed(state, tissue, repetition - echo)), state[1]

    assert spin_echo(tissue, repetition, echo) == pytest.approx(simulated(step), rel=1e-9)


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize("flip", [5, 30, 90])
def test_the_spoiled_gradient_echo_is_that_of_simulated_spins(tissue, flip):
    def step(state):
        state = relaxed(turned(state, flip), tissue, 4)
        return spoiled(relaxed(state, tissue, 21)), state[1]

    assert spoiled_gradient_echo(tissue, 25, 4, flip) == pytest.approx(simulated(step), rel=1e-9)


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize("inversion", [150, 1000])
def test_inversion_recovery_is_that_of_simulated_spins(tissue, inversion):
    def step(state):
        state = relaxed(spoiled(turned(state, 180)), tissue, inversion)
        state = turned(state, 90)
        return spoiled(relaxed(state, tissue, 4000 - inversion)), relaxed(state, tissue, 20)[1]

    assert inversion_recovery(tissue, 4000, inversion, 20) == pytest.approx(simulated(step), rel=1e-9)


@pytest.mark.parametrize("tissue", TISSUES)
@pytest.mark.parametrize("flip", [20, 60])
def test_the_balanced_sequence_is_that_of_simulated_spins(tissue, flip):
    def pair(state):
        for sign in (1, -1):
            state = relaxed(turned(state, sign * flip), tissue, 2.5)
            echo = state[1]
            state = relaxed(state, tissue, 2.5)
        return state, echo

    assert balanced_ssfp(tissue, 5, flip) == pytest.approx(simulated(pair), rel=1e-9)


def test_signals_of_the_sequences_of_brainweb():
    t1 = {name: float(spoiled_gradient_echo(tissue, 18, 10, 30)) for name, tissue in BRAINWEB.items()}
    t2 = {name: float(spin_echo(tissue, 3300, 120)) for name, tissue in BRAINWEB.items()}
    expected = {"csf": 0.0210, "grey": 0.0521, "white": 0.0702, "fat": 0.1189, "muscle": 0.0469, "plaque": 0.0554}
    assert t1 == pytest.approx(expected, abs=6e-5)
    assert (t2["csf"], t2["grey"], t2["white"], t2["plaque"]) == pytest.approx(
        (0.4931, 0.1982, 0.1384, 0.4514), abs=6e-5
    )
    time = nulling_time(2569, 9000)
    flair = {name: float(inversion_recovery(tissue, 9000, time, 120)) for name, tissue in BRAINWEB.items()}
    assert time == pytest.approx(1704.5, abs=0.05)
    assert (flair["csf"], flair["grey"], flair["white"], flair["plaque"]) == pytest.approx(
        (0, 0.1502, 0.1295, 0.3631), abs=6e-5
    )
    assert float(balanced_ssfp(BRAINWEB["csf"], 5, 40)) == pytest.approx(0.1789, abs=6e-5)
    assert ernst_angle(833, 18) == pytest.approx(11.87, abs=0.005)


def test_the_tables_are_those_of_the_brain_phantoms():
    for name, tissue in BRAINWEB.items():
        assert brain.TISSUES[name][:3] == tissue[:3]
        recovered = inversion_recovery(tissue, 3000, 1000, 10)
        assert brain.signal(brain.TISSUES[name], "t1") == pytest.approx(float(recovered))


@given(st.floats(100, 4000), st.floats(5, 3000))
@settings(deadline=None)
def test_the_ernst_angle_is_the_brightest_and_the_nulling_time_the_darkest(t1, repetition):
    tissue = Tissue(1.0, t1, 50)
    best = ernst_angle(t1, repetition)
    around = spoiled_gradient_echo(tissue, repetition, 0, np.array([best - 1, best, best + 1]))
    assert around.argmax() == 1
    assert inversion_recovery(tissue, repetition, nulling_time(t1, repetition), 0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_tissues_have_the_order_of_brightness_that_is_seen(field):
    table = MEASURED[field]

    def order(signal, *names):
        values = [float(signal(table[name])) for name in names]
        assert values == sorted(values, reverse=True), dict(zip(names, values, strict=True))

    def t1(tissue):
        return spoiled_gradient_echo(tissue, 10, 2, 20)

    def flair(tissue):
        return inversion_recovery(tissue, 9000, nulling_time(table["csf"].t1, 9000), 120)

    order(t1, "fat", "white", "grey", "csf", "air")
    order(t1, "liver", "spleen", "fluid", "lung", "bone")
    order(lambda tissue: spin_echo(tissue, 4000, 100), "csf", "plaque", "grey", "white", "muscle", "bone")
    order(lambda tissue: spin_echo(tissue, 4000, 90), "fluid", "spleen", "liver")
    order(flair, "plaque", "grey", "white", "csf")
    order(lambda tissue: balanced_ssfp(tissue, 3.5, 50), "blood", "myocardium", "lung", "bone")
    order(lambda tissue: balanced_ssfp(tissue, 3.5, 50), "fat", "muscle")


def test_signals_of_maps_are_those_of_their_voxels():
    maps = Tissue(*(np.array([a, b]) for a, b in zip(BRAINWEB["grey"], BRAINWEB["fat"], strict=True)))
    for signal in (
        lambda tissue: spin_echo(tissue, 500, 12),
        lambda tissue: spoiled_gradient_echo(tissue, 18, 10, 30),
        lambda tissue: inversion_recovery(tissue, 9000, 2000, 120),
        lambda tissue: balanced_ssfp(tissue, 5, 40),
    ):
        np.testing.assert_allclose(signal(maps), [signal(BRAINWEB["grey"]), signal(BRAINWEB["fat"])])


def test_relaxation_is_slower_at_the_higher_field():
    for name in ("grey", "white", "blood", "muscle", "myocardium", "liver", "spleen", "fat"):
        assert MEASURED[3.0][name].t1 > MEASURED[1.5][name].t1


def test_inflowing_blood_loses_its_brightness_with_every_pulse():
    blood = Tissue(1.0, 1441, 290)
    found = [float(time_of_flight(blood, 25, 0, 20, pulses)) for pulses in (1, 2, 5, 10, 30, np.inf)]
    assert found == [pytest.approx(value, abs=2e-5) for value in (0.34202, 0.32175, 0.26977, 0.20649, 0.10330, 0.07693)]


def test_inflow_is_that_of_simulated_spins():
    blood, state, found = Tissue(0.8, 1441, 290), np.array([0, 0, 0.8]), []
    for _ in range(6):
        excited = turned(state, 20)
        found.append(abs(relaxed(excited, blood, 4)[1]))
        state = spoiled(relaxed(excited, blood, 25))
    assert time_of_flight(blood, 25, 4, 20, np.arange(1, 7)) == pytest.approx(np.array(found), rel=1e-9)


@pytest.mark.parametrize(
    ("density", "t1", "expected"),
    [(0.77, 884, 0.08489), (0.86, 1124, 0.07990), (0.77, 500, 0.12101), (0.86, 833, 0.09872),
     (0.77, 1084, 0.07346), (0.86, 1820, 0.05487)],
)  # fmt: skip
def test_tissue_that_does_not_move_is_in_the_steady_state(density, t1, expected):
    tissue = Tissue(density, t1, 80)
    assert float(time_of_flight(tissue, 25, 0, 20)) == pytest.approx(expected, abs=1e-5)
    assert time_of_flight(tissue, 25, 3, 20) == pytest.approx(spoiled_gradient_echo(tissue, 25, 3, 20))


def test_pulses_are_counted_along_the_way():
    assert pulses_met([0, 7.4, 7.6, 80], 300, 25).tolist() == [1, 1, 2, 11]
    assert float(time_of_flight(Tissue(1.0, 1932, 275), 25, 0, 20, 30)) == pytest.approx(0.0926, abs=1e-4)
