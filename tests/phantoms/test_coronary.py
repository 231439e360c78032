import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms.coronary import LABELS, CoronaryCentrelines, Vessel

PATIENTS = 40


@pytest.fixture(scope="module")
def patients() -> list[CoronaryCentrelines]:
    return [CoronaryCentrelines(len(LABELS) * number) for number in range(PATIENTS)]


def all_named(patients: list[CoronaryCentrelines], *names: str) -> list[Vessel]:
    return [vessel for patient in patients for vessel in patient.vessels if not names or vessel.name in names]


def places(patient: CoronaryCentrelines, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depth, polar angle and azimuth in degrees of points on the patient's heart."""
    x, y, z = (points @ patient.heart.axes.T / patient.heart.half_axes).T
    depth = np.sqrt(x**2 + y**2 + z**2)
    return depth, np.degrees(np.arccos(z / depth)), np.degrees(np.arctan2(y, x))


def curvature(points: np.ndarray) -> np.ndarray:
    """Return the reciprocal radius in mm of the circle through three successive points."""
    a, b = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
    sides = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) * np.linalg.norm(a + b, axis=1)
    return 2 * np.linalg.norm(np.cross(a, b), axis=1) / sides


def test_seeds_take_turns_among_the_vessels_of_a_patient() -> None:
    group = [CoronaryCentrelines(seed) for seed in range(len(LABELS), 2 * len(LABELS))]
    assert tuple(patient.label for patient in group) == LABELS
    for number, patient in enumerate(group):
        assert patient.vessel.name == patient.label
        np.testing.assert_array_equal(patient.vessel.polyline, group[0].vessels[number].polyline)
    other = CoronaryCentrelines(2 * len(LABELS), label="RCA")
    assert other.vessel.name == "RCA"
    assert other.vessel.length_mm != group[2].vessel.length_mm


def test_the_patient_is_drawn_anew_as_the_same() -> None:
    first = CoronaryCentrelines(7)
    for seed in range(0, 100, 10):
        CoronaryCentrelines(seed + 20)
    again = CoronaryCentrelines(7)
    assert again.vessel is not first.vessel
    np.testing.assert_array_equal(again.vessel.polyline, first.vessel.polyline)
    with pytest.raises(ValueError, match="read-only"):
        first.vessel.points[0] = 0


def test_points_are_evenly_spaced(patients: list[CoronaryCentrelines]) -> None:
    for vessel in all_named(patients):
        steps = np.linalg.norm(np.diff(vessel.points, axis=0), axis=1)
        assert vessel.points.shape == (len(vessel.radii), 3)
        assert steps.max() < 0.51
        # Only in the sharpest bends is a chord shorter than its arc by more than this.
        assert np.quantile(steps, 0.05) > 0.49
    coarse = CoronaryCentrelines(10, step_mm=2).vessel
    assert coarse.length_mm == pytest.approx(patients[1].vessel.length_mm, rel=0.02)
    assert len(coarse.points) == pytest.approx(len(patients[1].vessel.points) / 4, abs=2)


def test_lengths_and_radii_are_those_of_coronary_arteries(patients: list[CoronaryCentrelines]) -> None:
    vessels = all_named(patients)
    lengths = np.array([vessel.length_mm for vessel in vessels])
    assert 25 < lengths.min() < 50
    assert 200 < lengths.max() < 256
    assert 90 < np.median(lengths) < 140
    for vessel in vessels:
        radii = vessel.radii
        assert 1.2 <= radii[0] <= 2.5
        assert 0.3 < radii[-1] < 0.75
        assert radii.min() > 0.3
        assert np.abs(np.diff(radii)).max() < 0.15
        slope = np.polyfit(np.linspace(0, vessel.length_mm, len(radii)), radii, 1)[0]
        assert -0.05 < slope < -0.003


def test_vessels_wind_but_neither_kink_nor_cross_themselves(patients: list[CoronaryCentrelines]) -> None:
    means, sharpest = [], []
    for vessel in all_named(patients):
        bends = curvature(vessel.points)
        means.append(bends.mean())
        sharpest.append(bends.max())
        tortuosity = vessel.length_mm / np.linalg.norm(vessel.points[-1] - vessel.points[0])
        assert 1.1 < tortuosity < 3
        along = 0.5 * np.arange(len(vessel.points))
        apart = np.linalg.norm(vessel.points[:, None] - vessel.points, axis=-1)
        distant = np.abs(along[:, None] - along) > np.pi * vessel.radii.max()
        assert not (distant & (apart < vessel.radii[:, None] + vessel.radii)).any()
    assert 0.04 < np.mean(means) < 0.12
    assert np.quantile(sharpest, 0.95) < 1


def test_arteries_run_in_the_grooves_of_the_heart(patients: list[CoronaryCentrelines]) -> None:
    for patient in patients:
        depth, polar, azimuth = places(patient, patient.vessels[LABELS.index("LAD")].points)
        anterior = (polar > 20) & (polar < 80)
        assert np.abs(azimuth[anterior]).max() < 25
        assert np.abs(depth[anterior] - 1).max() < 0.1
        for name, low, high in (("LCx", 35, 90), ("RCA", -100, -75)):
            depth, polar, azimuth = places(patient, patient.vessels[LABELS.index(name)].points)
            groove = (azimuth > low) & (azimuth < high)
            assert np.abs(np.median(polar[groove]) - 94) < 8
            assert np.abs(np.median(depth[groove]) - 1) < 0.1
        septal = places(patient, patient.vessels[LABELS.index("S1")].points[-1:])
        assert septal[0] < 0.85


def test_the_heart_lies_in_the_body_as_hearts_do(patients: list[CoronaryCentrelines]) -> None:
    left, front, down = np.mean([patient.heart.axes[2] for patient in patients], 0) * (-1, 1, -1)
    assert min(left, front, down) > 0.4
    for patient in patients:
        np.testing.assert_allclose(patient.heart.axes @ patient.heart.axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(patient.heart.axes) == pytest.approx(-1)
        ends = {vessel.name: vessel.points[-1] for vessel in patient.vessels}
        # Right of, left of and below the valves: x increases to the right, z to the head.
        assert ends["LAD"][0] < -15
        assert ends["LAD"][2] < patient.vessels[0].points[0, 2] - 10
        lowest = patient.vessels[LABELS.index("RCA")].points
        assert lowest[:, 0].max() > 15
        assert lowest[:, 2].min() < -10
    directions = [patient.vessel.points[-1] - patient.vessel.points[0] for patient in patients]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    spread = np.degrees(np.arccos(np.clip(directions @ directions.mean(0) / np.linalg.norm(directions.mean(0)), -1, 1)))
    assert 5 < spread.mean() < 30


def test_branches_share_their_parents_line_and_are_thinner_after_it(patients: list[CoronaryCentrelines]) -> None:
    for patient in patients:
        vessels = dict(zip(LABELS, patient.vessels, strict=True))
        descending = "LCx" if patient.heart.left_dominant else "RCA"
        parents = {"LCx": "LAD", "D1": "LAD", "S1": "LAD", "OM1": "LCx", "AM": "RCA", "PDA": descending, "conus": "RCA"}
        for name, parent in parents.items():
            branch, trunk = vessels[name], vessels[parent]
            shared = min(len(branch.points), len(trunk.points))
            apart = np.linalg.norm(branch.points[:shared, None] - trunk.points[None], axis=-1).min(1)
            fork = int(np.argmax(apart > 1))
            assert fork > 8
            # Smoothing moves some millimetres before the fork.
            assert np.median(apart[:fork]) < 0.3
            np.testing.assert_allclose(branch.points[0], trunk.points[0], atol=0.01)
            assert apart[-1] > 5
            assert branch.radii[fork + 8] < trunk.radii[fork - 8 if fork > 8 else 0]


def test_some_patients_are_left_dominant(patients: list[CoronaryCentrelines]) -> None:
    left = [patient for patient in patients if patient.heart.left_dominant]
    right = [patient for patient in patients if not patient.heart.left_dominant]
    assert 1 <= len(left) <= PATIENTS // 4
    mean = {
        (name, side): np.mean([v.length_mm for v in all_named(group, name)])
        for name in ("LCx", "RCA")
        for side, group in (("left", left), ("right", right))
    }
    assert mean["RCA", "left"] < 0.75 * mean["RCA", "right"]
    assert mean["LCx", "left"] > 1.2 * mean["LCx", "right"]


@pytest.mark.parametrize(("options", "message"), [({"label": "SVC"}, "no label 'SVC'"), ({"step_mm": 0}, "step_mm")])
def test_impossible_requests_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CoronaryCentrelines(0, **options)  # type: ignore[arg-type]
