import os

import numpy as np
import pytest

from ganatomy.case import Case
from ganatomy.data import store as storing
from ganatomy.data.cases import DataConfig, PhantomSource, discover
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising


def task(**scan):
    return CTDenoising(LowDoseScan(views=20, **scan), Window(low=-1000, high=1000), "rmse", 2)


@pytest.fixture
def ct(tmp_path):
    """Case with a small CT in a file."""

    def make(name="a", values=None):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(1)
        array = random.normal(-200, 100, (3, 16, 16)).astype(np.float32) if values is None else values
        write(folder / f"{name}.nii.gz", Image.from_array(array, (2.0, 1.5, 1.5), "HU"))
        return case_of(folder / f"{name}.nii.gz")

    return make


def case_of(path):
    (source,) = find(path)
    return Case(source.name, source.subject, "train", {"target": source})


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) if folder.exists() else []


def test_a_case_is_prepared_once_and_mapped(ct, tmp_path, monkeypatch):
    case, calls = ct(), []
    true = CTDenoising.frame
    monkeypatch.setattr(CTDenoising, "frame", lambda self, *rest: calls.append(1) or true(self, *rest))
    first = Store(task(), tmp_path / "cache").get(case)
    second = Store(task(), tmp_path / "cache").get(case)
    assert calls == [1]
    assert not isinstance(second.arrays["target"], np.memmap) and not second.arrays["target"].flags.writeable
    monkeypatch.setattr(storing, "SMALL", 0)
    assert isinstance(Store(task(), tmp_path / "cache").get(case).arrays["target"], np.memmap)
    assert second.shape == (3, 16, 16) and second.spacing == pytest.approx((2.0, 1.5, 1.5))
    for role in ("input", "target"):
        assert np.array_equal(first.arrays[role], second.arrays[role])
    assert np.array_equal(second.arrays["target"][0], case.sources["target"].open().numpy()[0])


def test_tasks_with_different_scans_do_not_share(ct, tmp_path):
    case, cache = ct(), tmp_path / "cache"
    one, other = (Store(task(dose_fraction=dose), cache).get(case) for dose in (0.5, 0.1))
    assert len(list(cache.iterdir())) == 2
    noise = [float(np.std(found.arrays["input"] - found.arrays["target"])) for found in (one, other)]
    assert noise[1] > 1.5 * noise[0]


def test_a_changed_file_is_prepared_again(ct, tmp_path):
    store = Store(task(), tmp_path / "cache")
    before = store.get(ct()).arrays["target"][0].copy()
    case = ct(values=np.random.default_rng(9).normal(0, 100, (3, 16, 16)).astype(np.float32))
    after = store.get(case).arrays["target"][0]
    assert not np.array_equal(before, after)


def test_a_touched_file_changes_the_key(ct):
    case = ct()
    before = case.fingerprint
    path = case.sources["target"].paths[0]
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10))
    assert case.fingerprint != before


def test_cases_of_the_same_name_get_the_same_noise(ct):
    assert ct("a").seed == ct("a").seed != ct("b").seed


@pytest.mark.parametrize("failure", [KeyboardInterrupt, UserError, OSError, MemoryError])
def test_a_preparation_that_fails_leaves_nothing(ct, tmp_path, monkeypatch, failure):
    case, cache = ct(), tmp_path / "cache"
    true = storing.open_memmap

    def fail(path, **options):
        if "input" in path.name:
            raise failure(28, "No space left on device") if failure is OSError else failure("no")
        return true(path, **options)

    monkeypatch.setattr(storing, "open_memmap", fail)
    expected = UserError if failure is OSError else failure
    with pytest.raises(expected) as told:
        Store(task(), cache).get(case)
    if failure is OSError:
        assert str(told.value) == f"cache folder {cache}: No space left on device; choose another with --cache"
    assert files(cache) == []
    monkeypatch.undo()
    assert Store(task(), cache).get(case).shape == (3, 16, 16)


def test_what_a_killed_preparation_left_is_not_taken_for_a_case(ct, tmp_path):
    case, cache = ct(), tmp_path / "cache"
    (cache / ".preparing-killed").mkdir(parents=True)
    (cache / ".preparing-killed" / "target.npy").write_bytes(b"half")
    assert Store(task(), cache).get(case).shape == (3, 16, 16)


def test_values_that_are_not_finite_are_refused_with_the_slice(ct, tmp_path):
    values = np.zeros((3, 16, 16), np.float32) + np.arange(16)
    values[1, 2, 3] = np.nan
    with pytest.raises(UserError, match=r"a\.nii\.gz"):
        Store(task(), tmp_path / "cache").get(ct(values=values))
    assert files(tmp_path / "cache") == []


def test_cases_that_cannot_be_used_are_told_and_the_others_taken(ct, tmp_path):
    good, constant = ct("good"), ct("flat", np.full((3, 16, 16), 40, np.float32))
    heard = []
    found, problems = Store(task(), tmp_path / "cache").get_all([constant, good], heard.append)
    assert [case.case.name for case in found] == ["good"] and heard == [constant, good]
    assert len(problems) == 1 and "same value 40 everywhere" in problems[0]


def test_phantoms_of_another_size_do_not_share(tmp_path):
    keys = [
        Store(task(), tmp_path)._place(discover(task(), DataConfig(phantom_subjects=3, phantom_size=size))[0])
        for size in (32, 48)
    ]
    assert keys[0] != keys[1]


def test_cases_of_tasks_and_phantoms_from_outside_are_prepared_anew_when_their_source_changes(
    ct, tmp_path, monkeypatch
):
    case = ct()
    place = Store(task(), tmp_path)._place(case)
    places = set()
    for source in (None, "sha256:1", "sha256:2"):
        monkeypatch.setattr(storing, "source_of", lambda cls, source=source: source)
        places.add(Store(task(), tmp_path)._place(case))
    assert place in places and len(places) == 3
    drawn = {
        Case("a", "a", "train", {"target": PhantomSource("mine", 0, (), source=source)}).fingerprint
        for source in (None, "sha256:1", "sha256:2")
    }
    assert len(drawn) == 3
