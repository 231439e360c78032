"""The fuzz test itself: what it makes of outcomes, and a short run."""

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images import archives, dicom, itk, kspace, mgh, nifti, npy, raster, slides

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


EQUAL = {".dicom", ".dicom.gz", ".hdf5", ".ima", ".ima.gz", ".jpeg", ".mgh", ".mrd", ".tiff"}
"""Endings of formats that other sound files have, under another name or uncompressed."""
SCANNERS = {".bif", ".ndpi", ".scn", ".svslide"}
"""Endings of formats that only scanners of slides write."""


def test_every_format_has_a_sound_file_and_changes_of_its_own(fuzz, tmp_path):
    sound = [
        path for one in fuzz.make_images(tmp_path / "sound") for path in (one.iterdir() if one.is_dir() else [one])
    ]
    known = {suffix for format in (archives, dicom, itk, kspace, mgh, nifti, npy, raster, slides)
             for suffix in format.SUFFIXES}  # fmt: skip
    assert {end for end in known if not any(path.name.endswith(end) for path in sound)} == EQUAL | SCANNERS
    without = {path.suffix for path in sound} - set(fuzz.MUTATORS)
    assert without == {".jpg", ".bmp", ".gif", ".raw"}  # which a few bytes of header precede
    for suffix in fuzz.MUTATORS.keys() & {path.suffix for path in sound}:
        path = next(one for one in sorted(sound) if one.suffix == suffix and not one.name.endswith(".dcm.gz"))
        changed = tmp_path / path.name
        for seed in range(12):
            shutil.copy(path, changed)
            assert fuzz.MUTATORS[suffix](changed, random.Random(seed))


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
