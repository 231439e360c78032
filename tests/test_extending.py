"""The page on methods of one's own: its blocks are written to files and run as they stand."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
USE = "import ganatomy\n"
"""First line of a Python block that uses the file made of the blocks before it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder in which all blocks and commands of the page were run in order; output is in the file ``said``."""
    folder = tmp_path_factory.mktemp("extending")
    said = []

    def run(*words):
        installed = any(folder.glob("*.dist-info"))
        env = {**os.environ, **({"PYTHONPATH": str(folder)} if installed else {})}
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        said.append(done.stdout + done.stderr)

    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    own = [text for language, text in blocks if language == "python" and not text.startswith(USE)]
    (folder / "discs.py").write_text("\n\n".join(own))
    for language, text in blocks:
        match language:
            case "python" if text.startswith(USE):
                run(sys.executable, "-c", text)
            case "toml":
                install(folder, tomllib.loads(text)["project"]["entry-points"])
            case "":
                for line in text.splitlines():
                    run(Path(sys.executable).parent / "ganatomy", *line.split()[1:])
    (folder / "said").write_text("\n".join(said))
    return folder


def install(folder, groups):
    """Register the entry points of the page, where Python finds packages that it was told of by a path."""
    about = folder / "discs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: discs\nVersion: 1.0\n")
    lines = [line for group, names in groups.items() for line in (f"[{group}]", *map(" = ".join, names.items()))]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def test_the_method_learns_and_is_judged(folder):
    found = json.loads((folder / "runs" / "discs" / "evaluation" / "metrics.json").read_text())
    dice = {name: one["mean"] for name, one in found["scores"]["Dice"]["methods"].items()}
    assert dice["output"] > dice["threshold"] + 0.2
    assert "The network is better than a threshold." in (folder / "said").read_text()


def test_the_run_keeps_name_and_source(folder):
    text = (folder / "runs" / "discs" / "run.yaml").read_text()
    assert "system: discs.py:DiscGAN\n" in text and "source: sha256:" in text and str(folder) not in text
    assert "game: 80\n" in text, "it was resumed"


@pytest.mark.parametrize(("name", "system"), [("found", "discs.py:DiscGAN"), ("installed", "disc-gan")])
def test_its_outputs_cite_it(folder, name, system):
    note = json.loads((folder / f"{name}.nii.gz.json").read_text())
    assert (note["system"], note["title"]) == (system, "DiscGAN")
    assert note["citation"] == "A. Nobody, Journal of Discs 1:1, 2026. doi:10.1234/discs"


def test_what_is_installed_is_listed(folder):
    assert "disc-gan               discs:DiscGAN" in (folder / "said").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_page_is_found(page):
    assert "extending.md" in (ROOT / page).read_text(encoding="utf-8")
