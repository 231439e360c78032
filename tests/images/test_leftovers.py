import os
import subprocess
import sys

import pytest

from ganatomy.images.leftovers import mark, sweep
from ganatomy.images.paths import replacing

KILLED = """
import os, sys
from pathlib import Path
from ganatomy.images.paths import replacing
with replacing(Path(sys.argv[1])) as work:
    work.write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up as POSIX does")
def test_what_a_killed_process_left_is_removed_by_the_next_one_that_writes_there(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "scan.nii")], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".scan.nii.") and left.read_bytes() == b"half"
    mine = tmp_path / f".other.{mark()}.part"
    foreign = tmp_path / ".download.part"
    for path in (mine, foreign):
        path.write_bytes(b"still being written")
        os.utime(path, (0, 0))
    with replacing(tmp_path / "other") as work:
        work.write_bytes(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([mine, foreign, tmp_path / "other"])


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up as POSIX does")
def test_folders_are_removed_and_links_not_followed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"1")
    name = mark().replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    (tmp_path / f".a.{name}.part" / "inner").mkdir(parents=True)
    (tmp_path / f".b.{name}.part").symlink_to(kept, target_is_directory=True)
    sweep(tmp_path, ".*.part")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (kept / "file").is_file()
