"""Pages of docs/results that are made by commands: the trainings behind a page, and its tables."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import BaseModel

import ganatomy
from ganatomy import catalogue
from ganatomy.claims import results as shared
from ganatomy.claims.reproduction import commit
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import limits
from ganatomy.images.atomic import write_text
from ganatomy.metrics.statistics import Interval
from ganatomy.training.arms import unknown_code
from ganatomy.training.code import code_digest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "results"
REMARKS = "## Remarks"
"""Heading of what people wrote about the figures; it is kept when a page is made again."""
OLDER = "> The systems, the judge or the physics have changed since: these figures must be measured again.\n\n"
SECONDS = "seconds.json"
TRIED = {"train": 4, "test": 2}
"""Number of subjects on each side of the split in a trial."""


@dataclass(frozen=True, eq=False)
class Row:
    """One study of a page: a system with options, compared with others and with the strongest simple method.

    Attributes:
        label: what tells the row from others, for a reader.
        system: slug of the system.
        options: options that differ from the preset ``small``, by their names on the command line, such as
            ``fraction`` or ``image.channels``.
        against: other systems, or ``baseline`` for the system without its adversary.
        fractions: shares of the annotated training subjects whose annotations are used; empty means all.
    """

    label: str
    system: str
    options: Mapping[str, Any] = field(default_factory=dict)
    against: Sequence[str] = ("baseline",)
    fractions: Sequence[float] = ()

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.system} {self.label}".lower()).strip("-")

    @property
    def arguments(self) -> dict[str, Any]:
        """Options as `ganatomy.study` takes them: those of a role, and those of a group such as the scan, together."""
        config = catalogue.resolve(self.system).cls.Config.preset("small")
        groups = {name: value for name, value in config if isinstance(value, BaseModel)}
        found: dict[str, Any] = {}
        for name, value in self.options.items():
            role, dot, option = name.partition(".")
            group = next((key for key, one in groups.items() if name in type(one).model_fields), None)
            if dot:
                found.setdefault(role, {})[option] = value
            elif group:
                found.setdefault(group, groups[group].model_dump())[name] = value
            else:
                found[name] = value
        return found


@dataclass(frozen=True)
class Page:
    """A page of results on real images.

    Attributes:
        slug: name of the page, without ``.md``.
        title: heading.
        about: paragraphs on data and conditions, written before the figures are known.
        manifest: writes the manifest of the images into a folder and returns its path; takes the folder of all images
            and that folder.
        rows: studies.
        scores: names of the scores that are shown; those that a row does not have are left out.
    """

    slug: str
    title: str
    about: Sequence[str]
    manifest: Callable[[Path, Path], Path]
    rows: Sequence[Row]
    scores: Sequence[str]

    @property
    def path(self) -> Path:
        """Place of the page."""
        return DOCS / f"{self.slug}.md"

    @property
    def code(self) -> str:
        """Digest of the page's definition and of the systems, judges and physics that it rests on."""
        methods = []
        for row in self.rows:
            for name in (row.system, *(other for other in row.against if other != "baseline")):
                kind = catalogue.resolve(name).cls
                methods.append(kind.of(kind.Config.preset("small")))
        told = [
            repr((row.label, row.system, dict(row.options), tuple(row.against), *filter(None, [tuple(row.fractions)])))
            for row in self.rows
        ]
        return code_digest(methods, *told)

    @property
    def stale(self) -> bool:
        """Whether the page is older than its code, or was not made by this script."""
        return not self.path.is_file() or shared.code_of(self.path.read_text(encoding="utf-8")) != self.code


def folder_of(data: Path, name: str) -> Path:
    """Return the folder of a data set.

    Args:
        data: folder of all real images.
        name: name of the data set's folder in it.

    Raises:
        UserError: there is no such folder.
    """
    found = data / name
    if not found.is_dir():
        raise UserError(f"{found}: no such folder; DATA (--data) is the folder that holds {name}, which the page needs")
    return found


def table_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the index.csv of a data set.

    Raises:
        UserError: the folder holds no such file.
    """
    path = folder / "index.csv"
    if not path.is_file():
        raise UserError(f"{path}: missing; without it nothing tells the images of {folder.name} apart")
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_manifest(folder: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a manifest and return its path."""
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def make(page: Page, data: Path, out: Path, seeds: int, threads: int, trial: int | None = None) -> Path:
    """Train all rows of a page, or use finished runs again, and write the page.

    Args:
        page: page to make.
        data: folder of all real images.
        out: folder for manifests and runs.
        seeds: runs of every arm.
        threads: CPU threads of every training, on which figures depend.
        trial: rounds of every system instead of those of the definition, with a few subjects only, to see whether
            everything works; the page then lies among the runs and not in docs/results.

    Returns:
        Path of the page.

    Raises:
        UserError: images are missing.
    """
    if trial:
        page = replace(
            page, about=(f"A trial of {trial} rounds and a few subjects: the figures mean nothing.", *page.about)
        )
    work = out / (f"{page.slug}-trial" if trial else page.slug)
    work.mkdir(parents=True, exist_ok=True)
    manifest = page.manifest(data, work)
    if trial:
        _shorten(manifest)
    for row in page.rows:
        begun, folder = monotonic(), work / row.folder
        done = (folder / "results.json").is_file()
        ganatomy.study(
            row.system,
            manifest,
            out=folder,
            preset="small",
            against=row.against,
            label_fraction=row.fractions,
            seeds=seeds,
            threads=threads,
            show=True,
            **{**row.arguments, **({"rounds": trial, "validate_every": trial} if trial else {})},
        )
        if not done:
            _add_seconds(folder, monotonic() - begun)
    path = work / "page.md" if trial else page.path
    write(page, work, seeds, threads, path)
    return path


def _shorten(manifest: Path) -> None:
    """Leave only the first few subjects of each side of the split in a manifest."""
    with manifest.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    subject, side = (header.index(name) for name in ("subject", "split"))
    kept: set[str] = set()
    for name, most in TRIED.items():
        kept |= set(list(dict.fromkeys(row[subject] for row in rows if row[side] == name))[:most])
    write_manifest(manifest.parent, header, [row for row in rows if row[subject] in kept])


def _add_seconds(folder: Path, seconds: float) -> None:
    write_text(folder / SECONDS, json.dumps({"seconds": seconds}) + "\n")


def write(page: Page, work: Path, seeds: int, threads: int, path: Path) -> None:
    """Write a page from the results of its studies; remarks that it has already are kept.

    Args:
        page: page to write.
        work: folder of its studies.
        seeds: runs of every arm.
        threads: CPU threads of every training.
        path: path of the page.
    """
    results = {row: json.loads((work / row.folder / "results.json").read_text("utf-8")) for row in page.rows}
    seconds = [_seconds(work / row.folder) for row in page.rows]
    versions = next(iter(results.values()))["versions"]
    lines = [f"# {page.title}", "", *[part for paragraph in page.about for part in (paragraph, "")]]
    lines += [*_table(page, results), "", *_verdicts(results), ""]
    lines += ["| how it was made | |", "|---|---|", f"| command | `make results PAGE={page.slug} DATA=FOLDER` |"]
    lines += [f"| options of {row.system}, {row.label} | {_options(row)} |" for row in page.rows]
    lines += [f"| runs of every arm | {seeds}, the weights of the last round, {threads} thread |"]
    old = [f"{row.folder}/{run}" for row, found in results.items() for run in found["of_unknown_code"]]
    code = unknown_code(old) if old else f"`{page.code}`, commit {commit() or 'unknown'}"
    lines += [f"| hours | {sum(seconds) / 3600:.1f} |", f"| code | {code} |"]
    lines += [f"| versions | {', '.join(f'{name} {number}' for name, number in versions.items())} |", ""]
    write_text(path, "\n".join(lines) + _remarks(path))


def _seconds(folder: Path) -> float:
    try:
        return float(json.loads((folder / SECONDS).read_text("utf-8"))["seconds"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _remarks(path: Path) -> str:
    """Return the remarks of a page that was made before, with their heading."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    place = text.find(f"\n{REMARKS}")
    return text[place:] if place >= 0 else ""


def _options(row: Row) -> str:
    told = {name.replace("_", "-"): value for name, value in row.options.items()}
    words = [f"`--{name} {_typed(value)}`" for name, value in told.items()]
    return " ".join(["preset `small`", *words])


def _typed(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={','.join(map(str, labels))}" for name, labels in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _table(page: Page, results: Mapping[Row, Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table with a line for every arm, reference and simple method of every row."""
    shown = [name for name in page.scores if any(name in found["scores"] for found in results.values())]
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    known = {name: found["scores"][name] for found in results.values() for name in shown if name in found["scores"]}
    heads = [
        f"{name}{arrows[known[name]['better']]}{', ' + known[name]['unit'] if known[name]['unit'] else ''}"
        for name in shown
    ]
    lines = ["| | method | " + " | ".join(heads) + " |", "|---" * (2 + len(shown)) + "|"]
    for row, found in results.items():
        methods = dict.fromkeys(
            method for name in shown for method in found["scores"].get(name, {"means": {}})["means"]
        )
        for method in methods:
            means = [found["scores"].get(name, {"means": {}})["means"].get(method) for name in shown]
            cells = [limits(_interval(mean)) if mean else "" for mean in means]
            simple = " (strongest simple)" if method == found["reference"]["name"] else ""
            lines.append(f"| {row.system}, {row.label} | {method}{simple} | " + " | ".join(cells) + " |")
    return lines


def _interval(told: Mapping[str, Any]) -> Interval:
    numbers = {name: float("nan") if told[name] is None else told[name] for name in ("mean", "low", "high")}
    return Interval(**numbers, n=told["n"])


def _verdicts(results: Mapping[Row, Mapping[str, Any]]) -> list[str]:
    """Return the verdict of every row as a list."""
    return [f"- **{row.system}, {row.label}**: {found['headline']}" for row, found in results.items()]


def marked(page: Page) -> str:
    """Return the text of a page with a mark below its title if it is older than its code, else without."""
    return shared.marked(page.path.read_text(encoding="utf-8"), OLDER, older=page.stale)
