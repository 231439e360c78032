import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made import Rods

from ganatomy import phantoms
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.inference.predictor import predictor_of
from ganatomy.physics.centreline import Centreline
from ganatomy.tasks.geometry.predictor import VesselOptions, mask_of, surface_of
from ganatomy.tasks.geometry.task import SHAPE_DISTANCE, VESSEL


def predictor(condition="none", **options):
    return predictor_of(Rods(Rods.Config(condition=condition)).eval(), options=VesselOptions.of(options))


def test_a_seed_makes_a_vessel_from_nothing():
    one = predictor()
    assert one.inputs == () and list(one.outputs) == [VESSEL]
    made = one.predict(one.sample_of({}), seed=5)
    side = float(torch.sign(one.method.draw([5])[0, 0]))
    assert np.allclose(made.main.points[-1], [side * 40, 0, 0]) and np.allclose(made.main.radii, 1)
    assert made.arrays[VESSEL].shape == (4, 1, 1, 64)
    (row,) = made.tables["shape"]
    assert row["length_mm"] == 40 and row["mean_radius_mm"] == 1 and row["curvature_per_mm"] == 0
    assert made.facts == {} and made.notes == ()


def test_surface_and_mask_are_made_where_they_are_asked_for():
    one = predictor(mesh=True, sides=7, mask=0.5)
    assert list(one.outputs) == ["vessel", "mesh", "mask"]
    made = one.predict(one.sample_of({}), seed=5)
    assert len(made["mesh"].vertices) == 7 * 21 + 2
    volume = made["mask"].numpy().sum() * 0.5**3
    assert volume == pytest.approx(np.pi * 40 + 4 / 3 * np.pi, rel=0.05), "a capsule"


def test_the_mask_lies_where_the_line_is():
    line = Centreline([[10, -20, 5], [16, -20, 8], [16, -8, 8]], [1.0, 1.5, 2.0])
    mask = mask_of(line, 0.4)
    inside = np.argwhere(mask.numpy()[0])
    places = inside @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    fine = line.resampled(0.4)
    away = np.linalg.norm(places[:, None] - fine.points, axis=2) - fine.radii
    assert (away.min(axis=1) <= 1e-9).all() and inside.min() >= 2
    assert (np.array(mask.shape) - inside.max(axis=0) > 2).all(), "two voxels are left on every side"
    on = np.rint((fine.points - mask.affine[:3, 3]) @ np.linalg.inv(mask.affine[:3, :3]).T).astype(int)
    assert mask.numpy()[0][tuple(on.T)].all()


def test_a_point_has_an_empty_surface_and_an_empty_mask():
    point = Centreline([[3, 2, 1]], [1.0])
    assert len(surface_of(point, 5).faces) == 0 and len(surface_of(point, 5).stl()) == 84
    assert not mask_of(point, 1.0).numpy().any()
    one = predictor(truncation=1000.0, mesh=True, mask=1.0)
    seed = next(seed for seed in range(20) if one.method.draw([seed])[0, 0] > 0.1)
    made = one.predict(one.sample_of({}), seed)
    assert len(made.main.points) == 1 and list(made.outputs) == ["vessel", "mesh", "mask"]
    assert "ends at its first sample" in made.notes[0]


def test_truncation_pulls_latent_numbers_to_the_centre():
    one, half = predictor(), predictor(truncation=0.5)
    drawn = []
    for made in (one, half):
        made.method.sample = lambda latent, length, keep=drawn.append: (keep(latent), torch.zeros(1, 4, 64))[1]
        made.signals([3])
    assert torch.equal(0.5 * drawn[0], drawn[1])


def test_lengths_are_those_asked_for():
    one = predictor("length", length=90.0)
    assert one.predict(one.sample_of({}), 2).main.length_mm == 90
    assert one.method.asked[0].tolist() == [[np.float32(90 / 128)]]
    assert one.predict(one.sample_of({}), 2).facts == {"length_mm asked for": 90.0}


def test_lengths_that_nobody_asked_for_are_drawn_from_training_vessels():
    one = predictor("length")
    assert one.asked([0, 1]).tolist() == [64, 64]
    one.method.fitted.keep({"lengths": np.array([30, 50, 80], np.float32)})
    drawn = one.asked(range(40))
    assert set(drawn) == {30, 50, 80} and one.asked([7, 8]).tolist() == drawn[7:9].tolist()
    lines = [one.predict(one.sample_of({}), seed).main for seed in range(5)]
    assert [line.length_mm for line in lines] == drawn[:5].tolist()


def test_a_length_that_cannot_be_made_is_refused():
    with pytest.raises(UserError, match="--condition length"):
        predictor(length=50.0)
    with pytest.raises(UserError, match="at most 128 mm"):
        predictor("length", length=129.0)


def test_validation_compares_sets_of_equal_size():
    one = predictor()
    values = [phantoms.part(phantoms.make("coronary-centrelines", seed), "vessel") for seed in range(6)]
    pieces = [Range(one.task.frame({VESSEL: value}), 0, 1) for value in values]
    real = np.stack([piece.sample.arrays[VESSEL][:, 0, 0] for piece in pieces])
    order = np.random.default_rng(0).permutation(6)
    assert one.validate(pieces, 12) == one.task.set_scores(real[order], one.signals(range(6)))
    assert one.validate(pieces, 12)[SHAPE_DISTANCE] > 0.5, "rods are no vessels"
    assert one.validate(pieces[:1], 12) == {}
