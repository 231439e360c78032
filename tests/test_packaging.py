"""What is installed: the lock file, the container's context, and the names of Python versions."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]


def locked():
    """Return the requirements of the lock file by their normalised names."""
    found = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and not line.lstrip().startswith("#"):
            one = Requirement(line)
            found.setdefault(normalised(one.name), []).append(one)
    return found


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("needed", NEEDED, ids=lambda one: one.name)
def test_the_lock_file_holds_accepted_versions_of_all_dependencies(needed):
    for one in locked()[normalised(needed.name)]:
        (pin,) = one.specifier
        assert pin.operator == "==" and needed.specifier.contains(pin.version), f"{one}: run make lock"


def test_the_lock_file_holds_the_torch_that_is_tested():
    (pinned,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert [str(one.specifier) for one in locked()["torch"]] == [pinned.removeprefix("torch")]


def test_the_container_is_built_from_files_that_exist():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(name for names in copied for name in names.split()) == sorted(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_python_versions_are_those_that_are_accepted():
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert PROJECT["requires-python"] == f">={named[0]}" and named == ["3.11", "3.12", "3.13"]
