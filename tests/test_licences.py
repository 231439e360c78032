import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "scripts")]
import licences  # noqa: E402

PAGE = licences.PAGE.read_text(encoding="utf-8")


def test_the_page_names_the_licence_of_every_installed_package():
    assert licences.problems(PAGE, *licences.tables()) == []


def test_packages_that_are_needed_indirectly_are_found():
    found = licences.found(["matplotlib"], "ganatomy")
    assert found["matplotlib"] == ("PSF-2.0", "ganatomy")
    assert found["cycler"] == ("BSD", "matplotlib")


def test_every_requirement_is_in_the_table_even_where_it_is_not_installed():
    table = licences.rows(PAGE.split("## ")[1])
    assert {"torch", "python-gdcm", "numpy"} <= set(table)
    without = "\n".join(line for line in PAGE.splitlines() if not line.startswith("| h5py"))
    assert "h5py is missing in docs/licences.md" in licences.problems(without, {}, {})


@pytest.mark.parametrize("terms", ["GPL-3.0-only", "AGPL-3.0", "GNU General Public License v3 (GPLv3)"])
def test_the_gpl_is_refused_by_default(terms):
    page = PAGE.replace("| h5py | BSD-3-Clause |", f"| h5py | {terms} |")
    assert any("h5py is needed by default" in line for line in licences.problems(page, {}, {}))


@pytest.mark.parametrize("terms", ["LGPL-2.1", "GNU Lesser General Public License v3", "MIT"])
def test_other_licences_are_not(terms):
    page = PAGE.replace("| h5py | BSD-3-Clause |", f"| h5py | {terms} |")
    assert licences.problems(page, {}, {}) == []


def test_a_changed_licence_is_noticed():
    (problem,) = licences.problems(PAGE, {"h5py": ("MPL-2.0", "ganatomy")}, {})
    assert problem.startswith("h5py is under 'MPL-2.0'")


def test_extras_under_the_gpl_are_no_requirements():
    names = {name for name, _ in licences.needed(licences.project()[0], "ganatomy", set())}
    assert not names & {"astra-toolbox", "pylibjpeg-libjpeg"}
    assert licences.licence(distribution("numpy")).startswith("BSD")
