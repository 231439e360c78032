"""``ganatomy data FOLDER [--for SYSTEM] [--write FILE.csv]``."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import arg

from ganatomy import catalogue
from ganatomy.case import Case, Task
from ganatomy.cli import DONE, SOME_LEFT_OUT, train
from ganatomy.cli.options import leading, parse, peek
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.listing import listed
from ganatomy.data.overview import Item, items_of, sentences, write_manifest
from ganatomy.errors import UserError
from ganatomy.inference.model import build

SHOWN = 20
"""Number of lines of the table, which are shared among subjects; the sentences below it count all images."""

HELP = """usage: ganatomy data FOLDER [--for SYSTEM] [--write FILE.csv] [...]

Shows what is understood of a folder of images or a manifest, before anything is trained: subjects, cases, files by
role, size, spacing, range of values, unit, side of the split, and what cannot be read and why.

With --for SYSTEM the images are assigned to the roles of the system as `ganatomy train SYSTEM --data FOLDER` would,
with the same options (`ganatomy data FOLDER --for SYSTEM --help` shows them), and checked as it would check them: unit,
channels, range of values, grid, labels. --write FILE.csv writes the manifest, which you can correct and give to --data.
Without --for, the images are listed as they are found."""


@dataclasses.dataclass
class Choice:
    """System and manifest."""

    system: Annotated[str, arg(name="for", metavar="SYSTEM")]
    """System to whose roles the images are assigned."""
    write: Path | None = None
    """CSV file for the manifest."""


@dataclasses.dataclass
class Listing:
    """Options without a system."""

    write: Path | None = None
    """CSV file for the manifest, which needs --for SYSTEM."""


def run(arguments: Sequence[str]) -> int:
    """Show what is understood of a data set, and write its manifest where asked to."""
    named = leading(arguments, "data", "folder", "data FOLDER", HELP)
    if named is None:
        return 0
    given = [*arguments[1:], "--data", named]
    name = peek(given, "for").get("for")
    write, cases, task = _assigned(name, given) if name else _found(given)
    items = list(items_of(cases, task))
    _show(items, divided=name is not None)
    for sentence in sentences(items, divided=name is not None):
        print(sentence)
    if write:
        write_manifest(write, cases)
        print(f"{write}: the manifest; correct it where it is wrong, and train with --data {write}")
    return SOME_LEFT_OUT if any(one.problem for one in items) else DONE


def _assigned(name: str, arguments: Sequence[str]) -> tuple[Path | None, list[Case], Task]:
    """Return the cases as a training of the system would use them, the file of the manifest, and the task."""
    system = catalogue.resolve(name)
    options = train.read_options(
        system, arguments, Choice, "data FOLDER --for {system}", "Show what {title} would learn from in a data set."
    )
    task = build(system, options.method.model_dump(mode="json")).task
    return options.general.write, discover(task, options.data, options.training.seed), task


def _found(arguments: Sequence[str]) -> tuple[None, list[Case], None]:
    """Return a case for each image that is found."""
    kind = dataclasses.make_dataclass("Options", [("general", Listing), ("data", DataConfig)])
    options: Any = parse(kind, arguments, "ganatomy data FOLDER", kind(Listing(), DataConfig()))
    if options.general.write:
        raise UserError(f"--write {options.general.write}: a manifest has the roles of a system; add --for SYSTEM")
    return None, listed(options.data), None


def _show(items: Sequence[Item], divided: bool) -> None:
    table = Table(box=None, pad_edge=False)
    for name in (
        "subject",
        "case",
        "role" if divided else "kind",
        "split" if divided else "",
        "voxels",
        "mm",
        "values",
    ):
        table.add_column(name, overflow="fold")
    for one in _some(items):
        cells = (one.subject, one.case, one.role, one.split if divided else "", *one.cells)
        table.add_row(*map(escape, cells))
    console = Console()
    console.print(table)
    if len(items) > SHOWN:
        console.print(f"and {len(items) - SHOWN} more", highlight=False)


def _some(items: Sequence[Item]) -> list[Item]:
    """Return up to SHOWN images in their order: the first of every subject, then their second ones, and so on."""
    before: Counter[str] = Counter()
    turns = []
    for place, one in enumerate(items):
        turns.append((before[one.subject], place))
        before[one.subject] += 1
    return [items[place] for _, place in sorted(sorted(turns)[:SHOWN], key=itemgetter(1))]
