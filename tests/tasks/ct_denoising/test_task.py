import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.image import Header, Image
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising, mostly_air

SCAN = LowDoseScan(views=60, photons=2e4)


def disk(slices=2, size=64, inside=50.0, outside=-1000.0):
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    plane = np.where(np.hypot(rows, columns) < 0.4 * size, inside, outside)
    return np.broadcast_to(plane, (slices, size, size)).astype(np.int16)


def image(array, unit="HU", modality=None):
    return Image.from_array(array, (3.0, 2.0, 2.0), unit, Header(modality=modality))


@pytest.fixture
def task():
    return CTDenoising(SCAN, Window(low=-1024, high=3072, to=(0, 1)), "rmse", dims=2)


def test_a_phantom_is_scanned_twice(task):
    clean = image(disk())
    sample = task.prepare({"clean": clean}, seed=3)
    assert sorted(sample) == ["input", "target"]
    body = disk()[None] > 0
    noise, more = (np.std((sample[role].numpy() - clean.numpy())[body]) for role in ("target", "input"))
    assert 0 < 1.3 * noise < more
    again = task.prepare({"clean": clean}, seed=3)
    assert np.array_equal(again["input"].slab(1, 2), sample["input"].numpy()[:, 1:2]), "slices may be asked for alone"
    assert not np.array_equal(task.prepare({"clean": clean}, seed=4)["input"].numpy(), sample["input"].numpy())


def test_a_routine_scan_stays_the_target(task):
    scan = image(disk(), modality="CT")
    sample = task.prepare({"target": scan}, seed=0)
    assert np.array_equal(sample["target"].numpy(), scan.numpy().astype(np.float32))
    assert sample["input"].unit == "HU"
    assert sample["input"].spacing == scan.spacing


def test_an_acquired_pair_is_taken_as_it_is(task):
    low, full = image(disk(inside=60)), image(disk())
    sample = task.prepare({"input": low, "target": full}, seed=0)
    assert np.array_equal(sample["input"].numpy(), low.numpy())
    with pytest.raises(UserError, match="one grid"):
        task.prepare({"input": image(disk(slices=1)), "target": full}, seed=0)


def test_padding_becomes_the_lowest_number(task):
    array = disk()
    array[:, :4] = -2000
    assert task.prepare({"target": image(array)}, seed=0)["target"].numpy().min() == -1024


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (image(disk(), modality="MR"), "modality MR"),
        (image(disk(), unit="SUV"), "SUV"),
        (image(np.stack([disk()] * 3)), "3 channels"),
        (image(disk(inside=200, outside=0), unit=None), "cannot be HU"),
        (image(np.zeros((2, 64, 64), np.int16)), "same value"),
    ],
)
def test_what_is_no_ct_is_refused(task, wrong, says):
    with pytest.raises(UserError, match=says):
        task.check(wrong)


def test_scores_know_good_from_bad(task):
    rng = np.random.default_rng(0)
    target = disk(size=128).astype(np.float32) + 10 * rng.standard_normal((2, 128, 128)).astype(np.float32)
    low = target + 20 * rng.standard_normal(target.shape).astype(np.float32)
    sample, spacing = {"input": low, "target": target}, (3.0, 1.0, 1.0)
    perfect, as_input = task.scores(target, sample, spacing), task.scores(low, sample, spacing)
    smooth = task.scores(disk(size=128).astype(np.float32), sample, spacing)
    assert set(as_input) == set(task.directions)
    assert perfect["rmse"] == 0
    assert perfect["rmse+texture"] == pytest.approx(0, abs=1e-6)
    assert as_input["rmse"] == pytest.approx(20, rel=0.02)
    assert as_input["noise sd"] == pytest.approx(np.hypot(10, 20), rel=0.05)
    assert smooth["rmse"] < as_input["rmse"], "wiping the noise out is nearer in squared error"
    assert smooth["texture error"] == pytest.approx(1, abs=0.01)
    assert smooth["rmse+texture"] > as_input["rmse+texture"], "but it does not win the selection"


def test_patches_of_air_are_refused():
    accepts = mostly_air(0.5)
    assert accepts({"target": np.array([-1000.0, 0, 0])})
    assert not accepts({"target": np.array([-1000.0, -900, 0])})


def test_codecs_and_fingerprint(task):
    assert set(task.codecs) == set(task.roles)
    other = CTDenoising(SCAN.model_copy(update={"photons": 1e4}), task.codec, "rmse", dims=2)
    assert task.fingerprint != other.fingerprint
