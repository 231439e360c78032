import os
import time

import numpy as np
import pytest

from ganatomy.case import Case
from ganatomy.cli import main
from ganatomy.data.cache import prepared_cases, remove_unused
from ganatomy.data.store import Store
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.images.leftovers import DAY
from ganatomy.inference.model import build


@pytest.fixture
def cache(tmp_path):
    """A cache of three cases, the first of which was used 40 days ago; returns the folder, and what reads them."""
    task = build("pix2pix", {"size": (32, 32), "levels": 3}).task
    for name in "abc":
        values = np.linspace(0, 1000, 3 * 20 * 20, dtype=np.float32).reshape(3, 20, 20)
        for role in ("t1", "t2"):
            write(tmp_path / name / f"{role}.nii.gz", Image.from_array(values + ord(name)))
    folder = tmp_path / "cache"

    def read(name):
        sources = {role: find(tmp_path / name / f"{role}.nii.gz")[0] for role in ("t1", "t2")}
        return Store(task, folder).get(Case(name, name, "train", sources))

    for name in "abc":
        read(name)
        if name == "a":
            (old,) = (path for path in folder.iterdir() if path.is_dir())
            os.utime(old, (time.time() - 40 * DAY,) * 2)
    return folder, read


def test_sizes_and_days_without_use_are_told(cache):
    folder, _ = cache
    found = list(prepared_cases(folder))
    assert sorted(round(case.days) for case in found) == [0, 0, 40]
    for case in found:
        assert case.size == sum(path.stat().st_size for path in case.place.iterdir()) > 2 * 4 * 3 * 32 * 32


def test_a_case_that_is_read_counts_as_used(cache):
    folder, read = cache
    read("a")
    assert max(case.days for case in prepared_cases(folder)) < 1


def test_unused_cases_are_removed_and_prepared_again_when_needed(cache):
    folder, read = cache
    (folder / "contents").mkdir()
    (folder / "contents" / "note").write_text("kept")
    assert [round(case.days) for case in remove_unused(folder, 30)] == [40]
    assert len(list(prepared_cases(folder))) == 2 and (folder / "contents" / "note").is_file()
    read("a")
    assert len(remove_unused(folder, 0)) == 3 and not list(prepared_cases(folder))


def test_the_command_lists_and_cleans(cache, capsys):
    folder, _ = cache
    assert main(["cache", "list", "--cache", str(folder)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{folder}: 3 prepared cases, 0.000 GB; not used for 30 days: 1 prepared cases")
    assert main(["cache", "clean", "--days", "0", "--cache", str(folder)]) == 0
    assert "3 prepared cases, 0.000 GB removed" in capsys.readouterr().out
    assert main(["cache", "list", "--cache", str(folder / "none")]) == 0


@pytest.mark.parametrize("words", [[], ["wipe"], ["clean", "--days", "-1"], ["list", "--days", "nan"]])
def test_mistakes_are_told(words, capsys):
    assert main(["cache", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
