import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ganatomy import catalogue, phantoms
from ganatomy.case import Case
from ganatomy.data import arrays as arraying
from ganatomy.data import store as storing
from ganatomy.data.cases import DataConfig, PhantomSource, discover
from ganatomy.data.store import Store
from ganatomy.errors import Notice, Shortage, UserError
from ganatomy.images import leftovers
from ganatomy.images.codecs import PercentileWindow, Window
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.inference.model import build
from ganatomy.physics.ct import LowDoseScan
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.ct_denoising.task import CTDenoising
from ganatomy.tasks.landmarks.task import LandmarkOptions
from ganatomy.tasks.posed.task import PoseOptions


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
    monkeypatch.setattr(arraying, "SMALL", 0)
    mapped = Store(task(), tmp_path / "cache").get(case).arrays
    assert isinstance(mapped["target"].base, mmap.mmap) and not mapped["target"].flags.writeable
    assert np.array_equal(mapped["target"], second.arrays["target"])
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

    def fail(file, start, values):
        raise failure(errno.EACCES, "Permission denied") if failure is OSError else failure("no")

    if failure is MemoryError:
        monkeypatch.setattr(storing, "slab", lambda *arguments: fail(None, *arguments[1:]))
    else:
        monkeypatch.setattr(storing.ArrayFile, "put", fail)
    expected = {OSError: UserError, MemoryError: Shortage}.get(failure, failure)
    with pytest.raises(expected) as told:
        Store(task(), cache).get(case)
    if failure is OSError:
        assert str(told.value) == f"cache folder {cache} (--cache chooses another): Permission denied"
    if failure is MemoryError:
        assert str(told.value).startswith("a: out of memory; ")
    assert files(cache) == []
    monkeypatch.undo()
    assert Store(task(), cache).get(case).shape == (3, 16, 16)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_in_one_line(ct, tmp_path, monkeypatch):
    case, cache, true = ct(), tmp_path / "cache", Path.open

    def on_a_full_disk(self, mode="r", *more, **options):
        return true(Path("/dev/full") if mode == "wb" else self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(Shortage, match="the disk is full; free some space") as told:
        Store(task(), cache).get(case)
    assert str(told.value).startswith(f"cache folder {cache} (--cache chooses another): ")
    assert files(cache) == []


def left_behind(cache, machine, process, age=0.0):
    """Make a working folder like that of a process that was killed a number of seconds ago."""
    work = cache / f"{storing.WORK}{machine}-{process}-0f0f0f0f"
    (work / "new").mkdir(parents=True)
    (work / "new" / "target.npy").write_bytes(b"half")
    for path in (work / "new" / "target.npy", work / "new", work):
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    return work


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up as POSIX does")
def test_what_killed_preparations_left_is_removed_and_never_the_work_of_a_living_process(ct, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    case, cache, here = ct(), tmp_path / "cache", leftovers.machine()
    abandoned = [
        left_behind(cache, here, gone.pid),
        left_behind(cache, "0a1b2c3d", 1, age=2 * leftovers.DAY),
    ]
    living = [
        left_behind(cache, "strange", "", age=2 * leftovers.DAY),
        left_behind(cache, here, os.getppid(), age=2 * leftovers.DAY),
        left_behind(cache, here, 1, age=2 * leftovers.DAY),
        left_behind(cache, "0a1b2c3d", gone.pid),
    ]
    assert Store(task(), cache).get(case).shape == (3, 16, 16)
    assert not any(work.exists() for work in abandoned)
    assert all((work / "new" / "target.npy").is_file() for work in living)


def test_only_the_user_may_read_prepared_cases(ct, tmp_path):
    cache = tmp_path / "somewhere" / "cache"
    Store(task(), cache).get(ct())
    assert {path.stat().st_mode & 0o777 for path in (cache, *cache.iterdir())} == {0o700}


@pytest.mark.parametrize("damage", ["shortened", "changed", "removed", "facts", "facts in meaning", "no facts"])
def test_a_damaged_case_is_prepared_again(ct, tmp_path, damage):
    case, cache = ct(), tmp_path / "cache"
    before = {role: array.copy() for role, array in Store(task(), cache).get(case).arrays.items()}
    (place,) = cache.iterdir()
    array, facts = place / "target.npy", place / "facts.json"
    if damage == "shortened":
        array.write_bytes(array.read_bytes()[:-1000])
    elif damage == "changed":
        content = bytearray(array.read_bytes())
        content[-7] ^= 64
        array.write_bytes(content)
    elif damage == "removed":
        array.unlink()
    elif damage == "facts":
        facts.write_bytes(facts.read_bytes()[:99])
    elif damage == "facts in meaning":
        facts.write_text(facts.read_text().replace("1.5", "15."))
    else:
        facts.unlink()
    with pytest.warns(Notice, match="a: prepared again, since .* was damaged"):
        found = Store(task(), cache).get(case)
    assert found.spacing == pytest.approx((2.0, 1.5, 1.5))
    assert all(np.array_equal(found.arrays[role], values) for role, values in before.items())
    assert [path.name for path in cache.iterdir()] == [place.name]
    Store(task(), cache).get(case)


def test_damaged_numbers_of_a_codec_are_computed_again(ct, tmp_path, monkeypatch):
    case, cache = ct(), tmp_path / "cache"
    task_of_case = CTDenoising(LowDoseScan(views=20), PercentileWindow(p_low=1, p_high=99), "rmse", 2)
    numbers = Store(task_of_case, cache).get(case).numbers
    assert numbers
    (place,) = cache.iterdir()
    for path in place.glob("*-*.json"):
        path.write_text(path.read_text().replace("1", "2", 1))
    assert Store(task_of_case, cache).get(case).numbers == numbers


def test_a_prepared_file_that_is_shortened_while_it_is_used_is_named(ct, tmp_path, monkeypatch):
    monkeypatch.setattr(arraying, "SMALL", 0)
    sample = Store(task(), tmp_path / "cache").get(ct())
    (path,) = (tmp_path / "cache").rglob("target.npy")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"target\.npy: cannot be read any more .*; leave prepared files alone"):
        sample.arrays["target"]


def test_a_file_that_vanished_is_named(ct, tmp_path):
    case = ct()
    case.sources["target"].paths[0].unlink()
    with pytest.raises(UserError, match=r"a\.nii\.gz: No such file or directory, though it was found before"):
        Store(task(), tmp_path / "cache").get(case)


LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (160,) * 2)
sys.path.insert(0, sys.argv[1])
from test_store import case_of, task
from ganatomy.data import arrays
from ganatomy.data.store import Store
arrays.SMALL = 0
store, cases = Store(task(), Path(sys.argv[3])), [case_of(path) for path in sorted(Path(sys.argv[2]).glob("*.gz"))]
samples, problems = store.get_all(cases)
again, more = store.get_all(cases)
total = sum(float(sample.arrays[role][0, 0, 0, 0]) for _ in range(2) for sample in again for role in sample.arrays)
print(len(again), len(problems) + len(more), total != 0, arrays._mapped.cache_info().currsize)
held = []
try:
    while True:
        held.append(open("/dev/null"))
except OSError:
    pass
try:
    Store(task(), Path(sys.argv[3]) / "new").get_all(cases)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="the limit of open files is set as POSIX does")
def test_there_may_be_more_cases_than_open_files_and_a_lack_of_files_is_no_fault_of_a_case(ct, tmp_path):
    for number in range(100):
        ct(f"case{number:03d}", np.full((1, 8, 8), number, np.float32) + np.arange(8, dtype=np.float32))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(Path(__file__).parent), str(tmp_path / "images"), str(tmp_path / "cache")],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    counted, told = done.stdout.splitlines()
    assert counted == "100 0 True 80"
    assert told.startswith("Shortage ") and "too many open files; raise the limit" in told


def test_values_that_are_not_finite_are_refused_with_the_slice(ct, tmp_path):
    values = np.zeros((3, 16, 16), np.float32) + np.arange(16)
    values[1, 2, 3] = np.nan
    with pytest.raises(UserError, match=r"a\.nii\.gz"):
        Store(task(), tmp_path / "cache").get(ct(values=values))
    assert files(tmp_path / "cache") == []


def test_cases_that_cannot_be_used_are_told_and_the_others_taken(ct, tmp_path):
    good, constant = ct("good"), ct("flat", np.full((3, 16, 16), 40, np.float32))
    heard = []
    with pytest.warns(Notice) as told:
        found, problems = Store(task(), tmp_path / "cache").get_all([constant, good], heard.append)
    assert [case.case.name for case in found] == ["good"] and heard == [constant, good]
    assert [case for case, _ in problems] == [constant] and "same value 40 everywhere" in problems[0][1]
    assert [str(notice.message) for notice in told] == [
        f"left out: flat: {problems[0][1]}", "1 of 2 cases are left out, for the reasons above"
    ]  # fmt: skip


def test_where_no_case_can_be_used_a_few_are_named(ct, tmp_path):
    cases = [ct(f"flat{number}", np.full((3, 16, 16), 40, np.float32)) for number in range(5)]
    with pytest.warns(Notice) as told:
        assert not Store(task(), tmp_path / "cache").get_all(cases)[0]
    said = [str(notice.message) for notice in told]
    assert [line.split(": ")[1] for line in said[:-1]] == ["flat0", "flat1", "flat2"]
    assert said[-1] == "5 of 5 cases are left out, the first of them for the reasons above"


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


# What a changed option of a role means for a case that is prepared already: "key" that it is prepared anew, "check"
# that it is checked again, "later" that the option is applied to prepared cases, "source" that it is another case.
CHANGES = {
    ImageOptions: {
        "part": ("t2", "source"),
        "window": ((0.0, 90.0), "check"),
        "scale": ("zscore", "check"),
        "percentiles": ((2.0, 98.0), "later"),
        "deviations": (2.0, "later"),
        "over": ("all", "later"),
        "unit": ("HU", "key"),
        "channels": (3, "key"),
    },
    MaskOptions: {"part": ("t2", "source")},
    LandmarkOptions: {"part": ("t2", "source")},
    PoseOptions: {"part": ("t2", "source")},
}
SMALL_TRANSLATION = {"size": (32, 32), "levels": 3, "width": 4, "discriminator_width": 4, "discriminator_strided": 1}
SMALL_SYNTHESIS = {"size": (32, 32), "stages": 2, "width": 4}


def kinds_of_options(kind=RoleOptions):
    for other in kind.__subclasses__():
        if other.__module__.startswith("ganatomy."):
            yield other
            yield from kinds_of_options(other)


def test_every_option_of_a_role_says_what_it_means_for_prepared_cases():
    for system in catalogue.ready():
        assert system.cls
    assert {kind: set(kind.model_fields) for kind in kinds_of_options()} == {k: set(v) for k, v in CHANGES.items()}


@pytest.mark.parametrize("option", CHANGES[ImageOptions])
def test_options_of_images_change_the_key_of_prepared_cases_where_arrays_depend_on_them(option, tmp_path):
    value, meaning = CHANGES[ImageOptions][option]
    own, other = (
        build(catalogue.resolve("pix2pix"), {**SMALL_TRANSLATION, "roles": {"t1": given}}).task
        for given in ({}, {option: value})
    )
    one, two = (discover(task, DataConfig(phantom_subjects=3, phantom_size=32))[0] for task in (own, other))
    stores = [Store(task, tmp_path) for task in (own, other)]
    assert (one.fingerprint != two.fingerprint) == (meaning == "source")
    keys = [store._place(one) for store in stores]
    assert (keys[0] != keys[1]) == (meaning == "key")
    passed = [store._passed(tmp_path) for store in stores]
    assert (passed[0] != passed[1]) == (meaning in ("key", "check"))


def test_the_key_depends_on_what_pads_images(tmp_path):
    """A window is applied later, but its lower end is the air around images that are smaller than the grid."""
    roles = [{}, {"t1": {"window": (-50.0, 90.0)}, "t2": {"window": (-50.0, 90.0)}}]
    tasks = [build(catalogue.resolve("pix2pix"), {**SMALL_TRANSLATION, "roles": own}).task for own in roles]
    case = discover(tasks[0], DataConfig(phantom_subjects=3, phantom_size=32))[0]
    assert len({Store(task, tmp_path)._place(case) for task in tasks}) == 2


def test_cases_prepared_with_other_options_are_checked_by_those_of_now(tmp_path):
    write(tmp_path / "a.nii.gz", Image.from_array(np.linspace(0, 90, 2 * 32 * 32).reshape(2, 32, 32), (2.0, 1.0, 1.5)))
    (source,) = find(tmp_path / "a.nii.gz")
    case = Case("a", "a", "train", {"image": source})

    def prepared(**options):
        config = {**SMALL_SYNTHESIS, "roles": {"image": options}}
        return Store(build(catalogue.resolve("dcgan"), config).task, tmp_path / "cache").get(case)

    with pytest.raises(UserError, match="1 channel, but the system works with 3"):
        prepared(channels=3)
    first = prepared(channels=1)
    (kept,) = (path for path in (tmp_path / "cache").iterdir())
    with pytest.raises(UserError, match="1 channel, but the system works with 3"):
        prepared(channels=3)
    with pytest.raises(
        UserError, match=r"names no unit, and its values, 0 to 90, (cannot be HU|hold nothing like air)"
    ):
        prepared(channels=1, unit="HU")
    with pytest.raises(UserError, match=r"values from .* but --image.window is 0 2000"):
        prepared(channels=1, window=(0.0, 2000.0))
    again = prepared(channels=1, percentiles=(5.0, 95.0))
    assert np.array_equal(again.arrays["image"], first.arrays["image"])
    assert list((tmp_path / "cache").iterdir()) == [kept]


def test_phantoms_are_prepared_anew_when_the_code_that_draws_them_changes(tmp_path, monkeypatch):
    task = catalogue.load("pix2pix").of(catalogue.load("pix2pix").Config.preset("small")).task
    store, (case, *_) = Store(task, tmp_path), discover(task, DataConfig(phantom_subjects=4))
    before = store._place(case)
    assert store._place(case) == before and len(phantoms.code()) == 64
    monkeypatch.setattr(phantoms, "code", lambda: "other")
    assert store._place(case) != before
