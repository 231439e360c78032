import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from runs import make_run

from ganatomy import cli
from ganatomy.cli import STATUSES, main
from ganatomy.errors import Shortage
from ganatomy.inference.apply import Applier

DOCS = Path(__file__).parents[2] / "docs" / "exit-statuses.md"
MARKUP = "a[/b]c [red]"
NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return make_run(folder / "run", config={"variant": "cnn-mse", "width": 2, "start": "identity"})


def volume(path, empty=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    hu = np.random.default_rng(0).normal(0, 300, (20, 24, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([0.5, 0.5, 2, 1])), path)
    if empty:
        path.write_bytes(b"")


def test_the_table_in_the_documentation_and_in_the_help_is_that_of_the_code(capsys):
    rows = [line.strip("| ").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert dict(rows[1:]) == STATUSES
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(status in said and meaning in said for status, meaning in STATUSES.items())


@pytest.mark.parametrize(
    ("bad", "status"), [([], 0), (["b"], 3), (["a", "b", "c"], 2)], ids=["none", "one of three", "all"]
)
def test_the_status_tells_whether_all_some_or_no_cases_could_be_used(run, tmp_path, capsys, bad, status):
    for name in "abc":
        volume(tmp_path / "in" / f"{name}.nii", empty=name in bad)
    assert main(["apply", str(run), str(tmp_path / "in"), str(tmp_path / "out")]) == status
    said = capsys.readouterr().err
    assert [name for name in "abc" if f"left out: {name}: " in said] == bad
    assert (f"{len(bad)} of 3 cases are left out" in said) == bool(bad)


@pytest.mark.parametrize(
    "error",
    [Shortage("no files"), MemoryError(), OSError(errno.ENOSPC, "No space left on device")],
    ids=lambda error: type(error).__name__,
)
def test_a_shortage_stops_at_the_first_case(run, tmp_path, capsys, monkeypatch, error):
    tried = []

    def fail(self, sources, *more):
        tried.append(sources)
        raise error

    monkeypatch.setattr(Applier, "_apply", fail)
    for name in "abc":
        volume(tmp_path / "in" / f"{name}.nii")
    assert main(["apply", str(run), str(tmp_path / "in"), str(tmp_path / "out")]) == 4
    assert len(tried) == 1 and capsys.readouterr().err.count("\n") == 1


def test_a_mistake_of_ganatomy_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda name: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files must be Unicode there")
def test_names_that_look_like_markup_or_are_not_utf8_are_printed(run, tmp_path):
    for name in (MARKUP, NOT_UTF8):
        volume(tmp_path / "in" / name / f"{name}.nii")
        volume(tmp_path / "in" / name / f"bad {name}.nii", empty=True)
    words = [sys.executable, "-m", "ganatomy", "apply", str(run), str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": ""}, check=False)
    said = done.stderr.decode()
    assert done.returncode == 3 and "Traceback" not in said, said
    assert MARKUP in said and "caf\\udce9" in said and "2 of 4 cases are left out" in said
    assert len(done.stdout.decode().splitlines()) == 2


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files must be Unicode there")
def test_patients_and_folders_with_such_names_are_trained_on_and_judged(tmp_path, capsys):
    names, data = (MARKUP, "[bold]", "c", "d", "e"), tmp_path / NOT_UTF8
    for name in names:
        volume(data / name / "ct.nii")
    volume(data / MARKUP / "bad.nii", empty=True)
    rows = [f"{name},{name}/ct.nii" for name in names] + [f"{MARKUP},{MARKUP}/bad.nii"]
    (data / "manifest.csv").write_text("\n".join(["subject,target", *rows]))
    words = ["--data", str(data), "--cache", str(tmp_path / "cache"), "--test-subjects", MARKUP, "c"]
    small = ["--preset", "small", "--variant", "cnn-mse", "--batch-size", "2", "--patch", "16", "--views", "20"]
    train = ["train", "wgan-vgg", "--out", str(tmp_path / "run"), *words, *small, "--rounds", "1", "--threads", "1"]
    assert main(train) == 0
    assert main([*train[:4], "--resume", "--cache", str(tmp_path / "cache")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--names", "--cache", str(tmp_path / "cache")]) == 3
    said = capsys.readouterr().err
    assert "left out: a[_b]c [red]_bad: " in said and f"{MARKUP}/bad.nii" in said
    found = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert MARKUP in found["subjects"] and "caf" in found["data"]
    assert "caf\\udce9" in (tmp_path / "run" / "card.md").read_text()
