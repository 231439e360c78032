import numpy as np
import pytest

from ganatomy import phantoms
from ganatomy.case import Case
from ganatomy.data.batches import Batches, datasets, usable
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.store import Store
from ganatomy.metrics.geometry import TubeShape, difference
from ganatomy.physics.centreline import Centreline, CentrelineCodec
from ganatomy.tasks.geometry.roles import CentrelineRole
from ganatomy.tasks.geometry.task import LENGTH, SHAPE_DISTANCE, VESSEL, VesselGeometry, turn

CODEC = CentrelineCodec(samples=96, step_mm=2.0, radius_mm=2.0)


def vessel(seed):
    return phantoms.part(phantoms.make("coronary-centrelines", seed), "vessel")


def signals(seeds, codec=CODEC):
    role = CentrelineRole(VESSEL, signals=codec)
    return np.stack([role.array(vessel(seed), None)[:, 0, 0] for seed in seeds])


def straight(length, radius=1.0):
    return Centreline(np.linspace([0, 0, 0], [length, 0, 0], 200), np.full(200, radius))


@pytest.fixture(scope="module")
def real():
    return signals(range(60))


def test_a_vessel_of_a_phantom_becomes_a_case_of_its_patient(cases):
    task = VesselGeometry(CODEC)
    found = discover(task, DataConfig(phantom_subjects=3))
    assert len(found) == 30 and len({case.subject for case in found}) == 3
    assert {case.split for case in found if case.subject == found[0].subject} == {found[0].split}
    sample = Store(task, cases).get(found[12])
    assert set(sample.arrays) == {VESSEL}
    assert np.array_equal(sample.arrays[VESSEL][:, 0, 0], signals([12])[0])


def test_lengths_are_measured_from_the_vessels_and_learned_from_training(cases):
    task = VesselGeometry(CODEC, conditional=True)
    store = Store(task, cases)
    samples = [store.get(case) for case in discover(task, DataConfig(phantom_subjects=3))[:4]]
    asked = [float(sample.arrays[LENGTH].item()) for sample in samples]
    true = [Centreline(v[:, :3], v[:, 3]).length_mm for v in map(vessel, range(4))]
    assert np.allclose(asked, true, atol=1.0), "half a step at most"
    assert np.array_equal(task.fit(samples)["lengths"], np.float32(asked))
    assert task.fit(samples[:0]) == {} and VesselGeometry(CODEC).fit(samples) == {}
    stream = task.stream(3)
    batches = Batches(datasets(usable(task, samples), [stream], task.required, 1, [0]), [stream])
    batch = next(batches)
    assert batch[VESSEL].shape == (3, 4, 96) and batch[LENGTH].shape == (3, 1)
    told = CODEC.lengths_mm(batch[VESSEL].numpy()) / CODEC.longest_mm
    assert np.allclose(batch[LENGTH][:, 0], told)


def test_a_length_in_a_manifest_does_not_count():
    task = VesselGeometry(CODEC, conditional=True)
    case = Case("a", "a", "train", {})
    sample = task.simulate(task.frame({VESSEL: vessel(1), LENGTH: 7.0}, case), 0)
    assert sample.arrays[LENGTH].item() == pytest.approx(CODEC.lengths_mm(signals([1]))[0])


def test_a_vessel_that_is_cut_is_told():
    task = VesselGeometry(CODEC)
    assert task.frame({VESSEL: straight(150)}).notes == ()
    (note,) = task.frame({VESSEL: straight(250)}).notes
    assert "250 mm is cut at 192 mm" in note


def test_only_numbers_that_change_the_signal_are_part_of_the_key():
    def digest(**numbers):
        return VesselGeometry(CentrelineCodec(**numbers)).preparation.digest

    assert digest() == digest(shortest_step=0.3, thinnest_mm=0.2)
    others = [{"samples": 256}, {"step_mm": 1.0}, {"radius_mm": 2.0}, {"encoding": "absolute"}, {"extent_mm": 50.0}]
    assert len({digest(), *(digest(**numbers) for numbers in others)}) == 6


def test_random_turns_turn_vessels_about_the_long_axis(real):
    plain = VesselGeometry(CODEC).stream(2)
    assert plain.transform is None and plain.roles == (VESSEL,)
    drawn = {VESSEL: real[0][:, None, None]}
    turned = VesselGeometry(CODEC).stream(2, 10.0).transform(drawn, np.random.default_rng(0))[VESSEL]
    assert np.array_equal(turned[2:], drawn[VESSEL][2:]) and not np.allclose(turned[:2], drawn[VESSEL][:2], atol=1e-3)
    before, after = ((values[0] + 1j * values[1])[0, 0, :12] for values in (drawn[VESSEL], turned))
    angle = np.degrees(np.angle(after / before))
    assert np.allclose(angle, angle[0], atol=1e-3) and 0 < abs(angle[0]) <= 10


@pytest.mark.parametrize("encoding", ["displacement", "absolute"])
def test_a_quarter_turn_takes_right_to_front(encoding):
    codec = CentrelineCodec(samples=96, step_mm=2.0, encoding=encoding)
    signal = codec.encode(straight(100)).signal
    end = codec.decode(turn(signal, 90)).points[-1]
    assert np.allclose(end, [0, 100, 0], atol=1e-6)


def test_the_shape_distance_is_the_mean_of_scaled_distances(real):
    task = VesselGeometry(CODEC)
    first, second = real[:30], real[30:]
    shapes = [[TubeShape.of(line.points, line.radii) for line in map(CODEC.decode, part)] for part in (first, second)]
    wanted = []
    for name in ("length_mm", "mean_radius_mm", "max_radius_mm", "tortuosity", "taper", "curvature_per_mm"):
        a, b = ([getattr(shape, name) for shape in part] for part in shapes)
        wanted.append(difference(a, b).wasserstein / np.std(a))
    assert task.set_scores(first, second)[SHAPE_DISTANCE] == pytest.approx(np.mean(wanted))


def test_vessels_are_nearest_to_themselves_and_points_are_far(real):
    task = VesselGeometry(CODEC)
    same = task.set_scores(real[:30], real[:30])
    other = task.set_scores(real[:30], real[30:])
    points = task.set_scores(real[:30], np.zeros_like(real[30:]))
    assert same[SHAPE_DISTANCE] == 0 and same["variety"] == 1
    assert 0 < other[SHAPE_DISTANCE] < 0.5 < points[SHAPE_DISTANCE]
    assert other["kernel distance@signal"] < points["kernel distance@signal"] and points["variety"] == 0
    as_slabs = task.scores({VESSEL: real[30:]}, {VESSEL: real[:30]}, (1.0, 1.0, 1.0))
    assert as_slabs == other
    assert set(task.directions) == set(other) and task.selection in other
