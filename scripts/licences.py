"""Write the tables of docs/licences.md from the metadata of the installed packages, or compare with them.

    python scripts/licences.py            write the tables
    python scripts/licences.py --check    exit with 1 where a licence differs, a package lacks, or the GPL is needed

The first table holds all packages that ganatomy needs, and those that these need, as far as they are installed; extras
are in the second. Which packages are needed depends on the platform, so rows of others stay as they are.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEAD = "| package | licence | needed by |\n|---|---|---|\n"
COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )(?<!Library )General Public|Affero", re.IGNORECASE)
"""What licences are called that would extend to programs that use the package; the LGPL is not among them."""
NAMES = {
    "Apache": "Apache-2.0",
    "Python Software Foundation": "PSF-2.0",
    "PSF": "PSF-2.0",
    "GNU General Public": "GPL",
    "GPL": "GPL",
    "MPL": "MPL-2.0",
    "MIT-CMU": "MIT-CMU",
    "MIT": "MIT",
    "BSD": "BSD",
    "ISC": "ISC",
    "matplotlib": "PSF-2.0",
    "Proprietary": "proprietary",
}
"""Words in metadata without a licence expression to how the licence is named in the tables, the first that occurs."""
WORDS = re.compile(r"AGPL|LGPL|GPL|MPL|Apache|BSD|MIT|PSF|ISC|Zlib|proprietary", re.IGNORECASE)
"""What two ways to name a licence must have in common; releases of a package differ in how they name the same one."""


def licence(package: Distribution) -> str:
    """Return the licence of an installed package: its expression, or its classifiers, or the first line of the text."""
    if expression := package.metadata.get("License-Expression"):
        return str(expression)
    classifiers = [text for text in package.metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    text = " ".join(line.rpartition(":: ")[2] for line in classifiers)
    text = text if text not in ("", "OSI Approved") else (package.metadata.get("License") or "").strip().split("\n")[0]
    return next((name for word, name in NAMES.items() if word.lower() in text.lower()), text[:60])


def words(terms: str) -> set[str]:
    """Return which licences a name of licences speaks of."""
    return {word.lower() for word in WORDS.findall(terms)}


def needed(requirements: Iterable[str], by: str, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the packages that requirements name for this platform, and those that they need, each with who needs it."""
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        new = {(name, extra) for extra in ("", *requirement.extras)} - seen
        if not new:
            continue
        seen |= new
        yield name, by
        try:
            theirs = [Requirement(line) for line in distribution(name).requires or ()]
        except PackageNotFoundError:
            continue
        extras = ("", *requirement.extras)
        wanted = [r for r in theirs if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
        for one in wanted:
            one.marker = None
        yield from needed(map(str, wanted), name, seen)


def found(requirements: Iterable[str], by: str) -> dict[str, tuple[str, str]]:
    """Return the licence of every installed package that is needed, and who needs it first."""
    rows: dict[str, tuple[str, str]] = {}
    for name, who in needed(requirements, by, set()):
        try:
            rows.setdefault(name, (licence(distribution(name)), who))
        except PackageNotFoundError:
            continue
    return rows


def project() -> tuple[list[str], dict[str, list[str]]]:
    """Return the requirements of ganatomy, and those of its extras for users."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table["dependencies"], {key: value for key, value in table["optional-dependencies"].items() if key != "dev"}


def rows(section: str) -> dict[str, tuple[str, str]]:
    """Return the rows of a table of the page."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    return {name: (terms, by) for name, terms, by in lines[1:]}


def tables() -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """Return what is installed of the packages that ganatomy needs, and of those that only its extras need."""
    dependencies, extras = project()
    ours = found(dependencies, "ganatomy")
    more: dict[str, tuple[str, str]] = {}
    for extra, requirements in extras.items():
        more |= {name: row for name, row in found(requirements, f"ganatomy[{extra}]").items() if name not in ours}
    return ours, more


def problems(page: str, ours: Mapping[str, tuple[str, str]], more: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return a sentence for every licence that the page does not state as installed, and every one under the GPL."""
    default, extra = (rows(section) for section in page.split("## ")[1:3])
    named = {canonicalize_name(Requirement(line).name) for line in project()[0]}
    stated = [(default, ours), (extra, more)]
    return [
        *(f"{name} is missing in docs/licences.md" for name in sorted(named - set(default))),
        *(
            f"{name} is under {terms!r}, which docs/licences.md does not say; run python scripts/licences.py"
            for table, installed in stated
            for name, (terms, _) in sorted(installed.items())
            if words(table.get(name, ("",))[0]) != words(terms) or name not in table
        ),
        *(
            f"{name} is needed by default and under {terms!r}"
            for name, (terms, _) in sorted({**default, **ours}.items())
            if COPYLEFT.search(terms)
        ),
    ]


def main() -> int:
    """Write or compare."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    page, installed = PAGE.read_text(encoding="utf-8"), tables()
    if arguments.parse_args().check:
        wrong = problems(page, *installed)
        print("\n".join(wrong), file=sys.stderr)
        return bool(wrong)
    parts = page.split("## ")
    for number, table in enumerate(installed, start=1):
        merged = {**rows(parts[number]), **table}
        text = "".join(f"| {name} | {terms} | {by} |\n" for name, (terms, by) in sorted(merged.items()))
        head = parts[number].split("| package |")[0]
        parts[number] = f"{head}{HEAD}{text}\n"
    PAGE.write_text("## ".join(parts).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
