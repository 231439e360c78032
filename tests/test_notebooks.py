"""The notebooks of the documentation, with settings that are small, given as their users would give them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = ("ct", "mr-pairs", "own-method")
SMALL = {"preset": "small", "rounds": 2, "threads": 1, "diagnose": False, "validation_slices": 1, "batch_size": 2}
NETWORK = {"size": (32, 32), "levels": 3, "width": 4, "discriminator_width": 4, "discriminator_strided": 1, "jitter": 2}
OPTIONS = {
    "mr-pairs": {**SMALL, **NETWORK},
    "ct": {**SMALL, "patch": 32, "width": 4, "critic_width": 4, "critic_dense": 8, "scan": {"views": 40}},
    "own-method": {**SMALL, **NETWORK, "phantom_subjects": 4, "phantom_size": 48},
}


def cells(name):
    """Source of the code cells, with small options after the cell of the settings."""
    told = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    found = []
    for cell in told["cells"]:
        if cell["cell_type"] == "code":
            found.append("".join(cell["source"]))
            if "parameters" in cell["metadata"].get("tags", ()):
                found.append(f"options = {OPTIONS[name]!r}")
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a notebook in this process, and return its names."""

    def run(name):
        monkeypatch.chdir(tmp_path)
        module = ModuleType("notebook")
        monkeypatch.setitem(sys.modules, "notebook", module)
        for number, source in enumerate(cells(name)):
            exec(compile(source, f"{name}.ipynb, cell {number}", "exec"), module.__dict__)
        return module

    return run


def test_there_are_no_others():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_one_cell_of_settings_and_no_outputs(name):
    told = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in told["cells"] if cell["cell_type"] == "code"]
    assert told["nbformat"] == 4 and told["cells"][0]["cell_type"] == "markdown"
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in told["cells"]}) == len(told["cells"])


def test_pairs_of_mr(run):
    made = run("mr-pairs")
    assert len(made.pairs) == 6 and made.t2.shape == made.t1.shape and np.allclose(made.t2.affine, made.t1.affine)
    assert Path("made-t2.nii.gz").is_file() and Path("runs/pairs/evaluation/report.html").is_file()
    assert "<img src=" in made.t2._repr_html_() and made.found.headline


def test_ct_in_memory(run):
    made = run("ct")
    assert made.restored.unit == "HU" and made.restored.shape == (2, 64, 64)
    assert str(made.model.facts.data.data).startswith("memory-") and made.found.headline


def test_a_method_of_ones_own(tmp_path):
    """In a process of its own, since the class of a notebook is one of no file and of the module `__main__`."""
    said = subprocess.run(
        [sys.executable, "-c", "\n\n".join(cells("own-method"))],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "__main__:EdgePix2Pix 50.0"
    scored = json.loads((tmp_path / "runs" / "edges" / "evaluation" / "metrics.json").read_text())
    assert {"output", "usual"} <= set(scored["methods"])
