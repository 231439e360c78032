"""The fuzz test itself: what it makes of outcomes, and a short run."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ganatomy.errors import UserError

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def refuse():
    raise UserError("scan.nii: damaged; copy it again")


def fail():
    return str(1 / 0)


def allocate():
    return str(np.ones(2**30).sum())


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("read", "kind", "told"),
    [
        (lambda: "3 slices", "accepted", "3 slices"),
        (refuse, "refused", "scan.nii: damaged; copy it again"),
        (fail, "traceback", "ZeroDivisionError"),
        (die, "signal", "SIGKILL"),
        (lambda: time.sleep(60) or "late", "hang", "no end in 0.5 s"),
        pytest.param(
            allocate, "memory", "", marks=pytest.mark.skipif(sys.platform != "linux", reason="no limit of memory")
        ),
    ],
    ids=["accepted", "refused", "traceback", "signal", "hang", "memory"],
)
def test_outcomes_are_told_apart(fuzz, tmp_path, read, kind, told):
    outcome = fuzz.ended(read, tmp_path / "heard", seconds=0.5 if kind == "hang" else 60, memory=1 << 30)
    assert outcome.kind == kind and told in outcome.told


def test_a_seed_makes_the_same_changes(fuzz):
    data = bytes(range(256)) * 4
    first, again = ([fuzz.changed_bytes(data, random.Random(seed)) for seed in range(40)] for _ in range(2))
    assert first == again and len({changed for changed, _ in first}) > 30
    assert fuzz.changed_bytes(b"", random.Random(1))[0] is not None


def test_a_series_that_lost_slices_is_garbage(fuzz, tmp_path):
    fuzz.write(tmp_path / "series", fuzz._volume())
    assert "(6, 20, 24)" in fuzz._read_images(tmp_path / "series", 6)
    sorted((tmp_path / "series").iterdir())[-1].unlink()
    with pytest.raises(fuzz.Garbage, match="5 of 6 slices"):
        fuzz._read_images(tmp_path / "series", 6)


def test_no_damaged_input_ends_badly(tmp_path):
    listed = tmp_path / "accepted.md"
    words = [sys.executable, str(SCRIPT), "--count", "120", "--seed", "1", "--accepted", str(listed)]
    done = subprocess.run(
        [*words, "--only", "images", "tables", "manifests"], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("120 trials, 0 failures\n") and "images: " in done.stdout
    assert listed.read_text().startswith("| input | change | read as |")
