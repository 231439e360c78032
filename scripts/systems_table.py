"""Rewrite the table of systems in README.md from the catalogue, or check that it is up to date.

python scripts/systems_table.py            rewrite the text between the markers
python scripts/systems_table.py --check    exit with 1 when README.md is out of date, and change nothing
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from ganatomy.catalogue import COMPARED, SYSTEMS, Section, System, ready

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- systems:begin -->", "<!-- systems:end -->"
COLUMNS = ("System", "Reference", "What it does", "Modality", "Dims", "State")


def row(system: System) -> str:
    """Return the table row of a system."""
    number = "" if system.reference is None else f"[{system.reference}] "
    paper = f"[{system.authors}]({system.url})" if system.url else system.authors
    title = f"{system.title} `{system.slug}`"
    return line(title, number + paper, system.what, system.modality, system.dims, system.state)


def line(*cells: str) -> str:
    """Return cells as a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def section_table(section: str) -> str:
    """Return heading and table of a section of the catalogue."""
    rows = [row(system) for system in SYSTEMS if system.section == section]
    return "\n".join([f"**{section.capitalize()}**\n", line(*COLUMNS), line(*["---"] * len(COLUMNS)), *rows])


def table() -> str:
    """Return the summary and the tables of all sections."""
    frameworks = sum(system.section == "frameworks" for system in SYSTEMS)
    plain = sum(system.slug in COMPARED for system in SYSTEMS)
    reviewed = len(SYSTEMS) - frameworks - plain
    summary = (
        f"{reviewed} reviewed systems, {frameworks} base frameworks and {plain} to compare with; "
        f"{len(ready())} are ready. Numbers in brackets are the survey's."
    )
    return "\n\n".join([summary, *(section_table(section) for section in get_args(Section))])


def updated(text: str) -> str:
    """Return `text` with a fresh table between the markers; ValueError when they are missing or repeated."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"needs one {BEGIN} followed by one {END}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description="Rewrite the table of systems in README.md from the catalogue.")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the table is out of date")
    parser.add_argument("--readme", type=Path, default=README, help="the file to work on")
    arguments = parser.parse_args()
    readme: Path = arguments.readme
    try:
        current = readme.read_text(encoding="utf-8")
        fresh = updated(current)
    except (OSError, ValueError) as error:
        sys.exit(f"{readme}: {error}")
    if fresh == current:
        return
    if arguments.check:
        sys.exit(f"{readme}: the table of systems is out of date; run python scripts/systems_table.py")
    temporary = readme.with_name(readme.name + ".tmp")
    temporary.write_text(fresh, encoding="utf-8")
    temporary.replace(readme)


if __name__ == "__main__":
    main()
