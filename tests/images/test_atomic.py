import os
import signal
import subprocess
import sys

import pytest

from ganatomy.errors import UserError
from ganatomy.images import atomic
from ganatomy.images.atomic import locked, replacing_results, replacing_together
from ganatomy.images.paths import LOCK

HOLD = """
import sys, time
from pathlib import Path
from ganatomy.images.atomic import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process is writing there"), locked(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        assert names(tmp_path) == [LOCK]
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_cannot_be_locked(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file: .* choose a folder you may write to"), locked(tmp_path / "file"):
        pass


def old_results(folder):
    folder.mkdir()
    (folder / "a.json").write_text("old")
    (folder / "old.html").write_text("old")
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")


OWN = ("a.json", "old.html")


@pytest.mark.parametrize("replacing", [replacing_results, replacing_together])
def test_results_are_replaced_as_a_whole_and_other_things_stay(tmp_path, replacing):
    out = tmp_path / "out"
    old_results(out)
    with pytest.raises(UserError, match="no"), replacing(out, OWN) as work:
        (work / "a.json").write_text("half")
        raise UserError("no")
    assert names(out) == ["a.json", "notes", "old.html"] and (out / "a.json").read_text() == "old"
    with replacing(out, OWN) as work:
        (work / "a.json").write_text("new")
        assert (out / "a.json").read_text() == "old"
    assert names(out) == ["a.json", "notes"] and (out / "a.json").read_text() == "new"
    assert (out / "notes" / "mine.txt").read_text() == "mine" and names(tmp_path) == ["out"]


def ends_after(count, change, done):
    """A function that changes the disk, and ends the process instead once ``count`` changes are done."""

    def counted(*arguments, **options):
        done.append(change)
        if len(done) > count:
            os._exit(9)
        return change(*arguments, **options)

    return counted


@pytest.mark.parametrize("moment", range(8))
@pytest.mark.parametrize("replacing", [replacing_results, replacing_together])
def test_a_kill_at_any_moment_leaves_no_mixture(tmp_path, monkeypatch, replacing, moment):
    """Stop before the n-th change of the disk, run no clean-up, and look at what is there."""
    out, done = tmp_path / "out", []
    old_results(out)
    child = os.fork()
    if child == 0:
        for owner, name in ((atomic.Path, "replace"), (atomic.Path, "unlink"), (atomic.shutil, "rmtree")):
            setattr(owner, name, ends_after(moment, getattr(owner, name), done))
        with replacing(out, OWN) as work:
            for name in ("a.json", "b.csv"):
                (work / name).write_text("new")
        os._exit(0)
    os.waitpid(child, 0)
    texts = {path.read_text() for path in out.iterdir() if path.is_file()} if out.exists() else set()
    assert len(texts) <= 1 and (out.exists() or replacing is replacing_results)
    with replacing(out, (*OWN, "b.csv")) as work:
        there = {path.name for path in out.iterdir() if path.is_file()}
        assert there <= {"a.json", "old.html"} or there <= {"a.json", "b.csv"}
        (work / "a.json").write_text("newer")
    assert (out / "a.json").read_text() == "newer" and (out / "notes" / "mine.txt").is_file()
    assert [name for name in names(tmp_path) if name != "out"] == [] and "b.csv" not in names(out)


def test_a_folder_that_one_stands_in_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot be replaced as a whole"), replacing_results(tmp_path, ()):
        pass
