"""Data sets as they are understood before anything is trained, for notebooks and programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path

from ganatomy.case import Case, Task
from ganatomy.data.cases import DataConfig, subject_of
from ganatomy.data.datalists import read_datalist
from ganatomy.data.frames import in_frames
from ganatomy.data.known_layouts import is_medmnist
from ganatomy.data.layouts import by_patterns, by_series, parse_patterns
from ganatomy.data.memory import held_at, images_in_memory
from ganatomy.data.overview import Item, items_of, sentences, write_manifest
from ganatomy.data.subjects import with_pattern
from ganatomy.data.tables import MANIFEST_SUFFIXES
from ganatomy.errors import UserError
from ganatomy.images.files import Source, find
from ganatomy.images.parsing import exists

SHOWN = 20
"""Number of rows of the table in a notebook; the sentences below it count all images."""


class Dataset:
    """The cases of a data set, with what is understood of them; `print` shows it in sentences, notebooks as a table.

    Args:
        config: where the images are and how they are read.
        cases: the cases.
        divided: whether the cases have sides of a split, which they get for a system.
        task: task of the system, by which they are checked as in training; None checks only that they can be read.
    """

    def __init__(self, config: DataConfig, cases: Sequence[Case], divided: bool, task: Task | None = None):
        self.config, self.cases, self.divided, self.task = config, list(cases), divided, task

    def __len__(self) -> int:
        return len(self.cases)

    @cached_property
    def items(self) -> list[Item]:
        """Every image, or other part, of every case."""
        return list(items_of(self.cases, self.task))

    @property
    def problems(self) -> dict[str, str]:
        """Name of each case that cannot be read or used, with the reason."""
        return {one.case: one.problem for one in self.items if one.problem}

    def write(self, path: str | Path) -> Path:
        """Write the manifest of the cases as a CSV file, which can be corrected and given to `train`.

        Raises:
            UserError: the cases have no roles yet, the file exists, or the images are no files.
        """
        if not self.divided:
            raise UserError("a manifest has the roles of a system; name it, as in dataset(FOLDER, 'pix2pix')")
        if held_at(self.config.data) is not None:
            raise UserError("cases in memory have no files that a manifest could name")
        write_manifest(Path(path), self.cases)
        return Path(path)

    def __str__(self) -> str:
        return "\n".join(sentences(self.items, self.divided))

    def __repr__(self) -> str:
        return f"<Dataset of {len(self)} cases: {self.config.data or 'embedded phantoms'}>"

    def _repr_html_(self) -> str:
        head = ("subject", "case", "role" if self.divided else "kind", "split", "voxels", "mm", "values")
        rows = [_row(one, self.divided) for one in self.items[:SHOWN]]
        more = len(self.items) - SHOWN
        cells = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
        told = [*([f"and {more} more images"] if more > 0 else []), *sentences(self.items, self.divided)]
        return (
            f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{''.join(cells)}</table>"
            f"<p>{'<br>'.join(map(escape, told))}</p>"
        )


def _row(one: Item, divided: bool) -> tuple[str, ...]:
    voxels, spacing, values = one.cells
    side = one.split if divided else ""
    return one.subject, one.case, one.role, side, voxels, spacing, values if one.span else one.problem or ""


def listed(config: DataConfig) -> list[Case]:
    """Return the cases of a data set without a system: by the roles that the user names, else one for each image.

    Raises:
        UserError: there is no image, a pattern matches none, or no data are given.
    """
    if config.data is None:
        raise UserError("give the folder, file or list of the images, or name a system, which has an embedded phantom")

    def sources(path: Path) -> list[Source]:
        return find(path, meaning=config.meaning, uneven=config.uneven)

    if held := held_at(config.data):
        roles = images_in_memory(held)
        return [
            Case(one.name, one.subject, one.split, held.sources_of_images(index, roles), one.label)
            for index, one in enumerate(held.entries)
        ]
    texts, option = (config.series, "--series") if config.series else (config.roles, "--roles")
    if texts:
        patterns = parse_patterns(texts, option, [text.partition("=")[0] for text in texts])
        found = (
            by_series(sources(config.data), patterns) if config.series else by_patterns(config.data, patterns, sources)
        )
        return _in_frames([Case(name, subject, "train", chosen) for name, subject, chosen in found], config)
    root = config.data
    if told := _for_a_system(root):
        raise UserError(f"{root} is {told}, which says what each image is for a system: name the system, too (--for)")
    cases = [Case(one.name, subject_of(root, one), "train", {one.kind: one}) for one in sources(root)]
    return _in_frames(with_pattern(cases, root, config.subject_pattern) if config.subject_pattern else cases, config)


def _in_frames(cases: list[Case], config: DataConfig) -> list[Case]:
    return in_frames(cases, config.frames) if config.frames else cases


def _for_a_system(path: Path) -> str | None:
    """Return what a file is that names or holds images for the roles of a system; None for images and folders."""
    suffix = path.suffix.lower()
    if path.is_dir() or not exists(path):
        return None
    if suffix in MANIFEST_SUFFIXES:
        return "a manifest"
    if suffix == ".json" and read_datalist(path) is not None:
        return "a list of cases"
    return "a MedMNIST archive" if suffix == ".npz" and is_medmnist(path) else None
