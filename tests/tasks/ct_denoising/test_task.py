import numpy as np
import pytest

from ganatomy.case import Case
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.image import Header, Image
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising, mostly_air

SCAN = LowDoseScan(views=60, photons=2e4)
CASE = Case("p", "p", "train", {})


def disk(slices=2, rows=64, columns=56, inside=50.0, outside=-1000.0):
    row, column = np.mgrid[:rows, :columns] - (columns - 1) / 2
    plane = np.where(np.hypot(row - 2, column) < 0.4 * columns, inside, outside)
    return np.broadcast_to(plane, (slices, rows, columns)).astype(np.int16)


def image(array, unit="HU", modality=None):
    return Image.from_array(array, (3.0, 2.0, 2.0), unit, Header(modality=modality))


def prepared(task, seed, **given):
    """Return the images of a prepared sample by role."""
    sample = task.simulate(task.frame(given, CASE), seed)
    return {role: sample.image(role) for role in sample.arrays}


@pytest.fixture
def task():
    return CTDenoising(SCAN, Window(low=-1024, high=3072, to=(0, 1)), "rmse", dims=2)


def test_prepared_cases_of_another_projector_are_not_used():
    digests = {
        CTDenoising(scan, Window(low=-1024, high=3072), "rmse", dims=2).preparation.digest
        for scan in (LowDoseScan(), LowDoseScan(projector="astra"))
    }
    assert len(digests) == 2


def test_a_phantom_is_scanned_twice(task):
    clean = image(disk())
    sample = prepared(task, 3, clean=clean)
    assert sorted(sample) == ["input", "target"]
    body = disk()[None] > 0
    noise, more = (np.std((sample[role].numpy() - clean.numpy())[body]) for role in ("target", "input"))
    assert 0 < 1.3 * noise < more
    again = prepared(task, 3, clean=clean)
    assert np.array_equal(again["input"].slab(1, 2), sample["input"].numpy()[:, 1:2]), "slices may be asked for alone"
    assert not np.array_equal(prepared(task, 4, clean=clean)["input"].numpy(), sample["input"].numpy())


def test_a_routine_scan_stays_the_target(task):
    scan = image(disk(), modality="CT")
    sample = prepared(task, 0, target=scan)
    assert np.array_equal(sample["target"].numpy(), scan.numpy().astype(np.float32))
    assert sample["input"].unit == "HU"
    assert sample["input"].spacing == scan.spacing and np.array_equal(sample["input"].affine, scan.affine)


def test_an_acquired_pair_is_taken_as_it_is(task):
    low, full = image(disk(inside=60)), image(disk())
    sample = prepared(task, 0, input=low, target=full)
    assert np.array_equal(sample["input"].numpy(), low.numpy())
    with pytest.raises(UserError, match="one grid"):
        prepared(task, 0, input=image(disk(slices=1)), target=full)


def test_padding_becomes_the_lowest_number(task):
    array = disk()
    array[:, :4] = -2000
    assert prepared(task, 0, target=image(array))["target"].numpy().min() == -1024


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
        task.frame({"input": wrong})


def test_scores_know_good_from_bad(task):
    rng = np.random.default_rng(0)
    target = disk(rows=128, columns=120).astype(np.float32) + 10 * rng.standard_normal((2, 128, 120)).astype(np.float32)
    low = target + 20 * rng.standard_normal(target.shape).astype(np.float32)
    sample, spacing = {"input": low, "target": target}, (3.0, 1.0, 1.0)
    perfect, as_input = task.scores({"target": target}, sample, spacing), task.scores({"target": low}, sample, spacing)
    smooth = task.scores({"target": disk(rows=128, columns=120).astype(np.float32)}, sample, spacing)
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


def test_cases_are_prepared_anew_for_another_dose_but_not_for_another_window(task):
    assert set(task.codecs) == set(task.required) == {"input", "target"} and task.optional == ("clean",)
    fewer = CTDenoising(SCAN.model_copy(update={"photons": 1e4}), task.codecs["target"], "rmse", dims=2)
    narrow = CTDenoising(SCAN, Window(low=-160, high=240, to=(0, 1)), "rmse", dims=2)
    digests = [one.preparation.digest for one in (task, fewer, narrow)]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize(
    ("roles", "enough"), [({"target"}, True), ({"clean"}, True), ({"input", "target"}, True), ({"input"}, False)]
)
def test_a_case_needs_a_routine_scan_or_a_phantom(task, roles, enough):
    assert task.usable(roles) == enough


def test_a_low_dose_scan_alone_is_enough_to_be_denoised(task):
    sample = task.frame({"input": image(disk(), modality="CT")})
    assert set(sample.arrays) == {"input"} and task.same_contrast("target") == "input"
    assert task.contrasts(sample) is None and task.window("target") == (-1024, 3072)
