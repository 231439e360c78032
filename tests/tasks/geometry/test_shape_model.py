import numpy as np
import pytest

from ganatomy import phantoms
from ganatomy.metrics.geometry import TubeShape, difference
from ganatomy.physics.centreline import Centreline
from ganatomy.tasks.geometry.shape_model import PLACES, ShapeModel, describe, restore


def line(seed):
    rows = phantoms.part(phantoms.make("coronary-centrelines", seed), "vessel")
    return Centreline(rows[:, :3] - rows[0, :3], rows[:, 3])


def test_a_vessel_comes_back_from_its_numbers():
    vessel = line(3)
    numbers = describe(vessel)
    assert numbers.shape == (4 * PLACES + 1,)
    again = restore(numbers)
    away = np.linalg.norm(again.points[:, None] - vessel.points, axis=2).min(axis=1)
    assert away.max() < 1.0, "bends within a step are lost"
    assert again.length_mm == pytest.approx(vessel.length_mm)
    assert np.allclose(again.radii, np.interp(np.linspace(0, 1, PLACES + 1), np.linspace(0, 1, len(vessel.radii)),
                                              vessel.radii), rtol=0.05)  # fmt: skip


def test_numbers_do_not_depend_on_how_fine_a_line_is_drawn():
    vessel = line(6)
    finer = Centreline(
        np.stack([np.interp(np.arange(0, len(vessel.radii) - 0.9, 0.25), np.arange(len(vessel.radii)), axis)
                  for axis in vessel.points.T], axis=1),
        np.interp(np.arange(0, len(vessel.radii) - 0.9, 0.25), np.arange(len(vessel.radii)), vessel.radii),
    )  # fmt: skip
    assert np.allclose(describe(vessel), describe(finer), atol=1e-6)


def test_components_keep_what_they_are_told():
    lines = [line(seed) for seed in range(40)]
    whole, most = ShapeModel.of(lines, 1.0), ShapeModel.of(lines, 0.9)
    assert len(whole.deviations) == 39 and len(most.deviations) < 20
    total = np.sum(whole.deviations**2)
    kept = np.cumsum(whole.deviations**2) / total
    assert kept[len(most.deviations) - 1] >= 0.9 > kept[len(most.deviations) - 2]
    rows = np.stack([describe(one) for one in lines])
    assert total == pytest.approx(rows.var(axis=0, ddof=1).sum())
    shown = (rows - whole.mean) @ whole.components.T
    assert np.allclose(whole.mean + shown @ whole.components, rows)


def test_new_vessels_are_like_those_that_were_learned_from():
    lines = [line(seed) for seed in range(80)]
    made = ShapeModel.of(lines).sample(80, np.random.default_rng(0))
    again = ShapeModel.of(lines).sample(80, np.random.default_rng(0))
    assert np.array_equal(made[7].points, again[7].points)
    theirs, ours = ([TubeShape.of(one.points, one.radii) for one in some] for some in (lines, made))
    for number in ("length_mm", "mean_radius_mm"):
        found = difference(*([getattr(vessel, number) for vessel in some] for some in (theirs, ours)))
        assert found.kolmogorov_smirnov < 0.25, number
    assert made[0].points[0].tolist() == [0, 0, 0]
