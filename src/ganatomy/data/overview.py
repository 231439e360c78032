"""Overview of a data set: its cases with images, sizes, spacings, ranges of values, units and sides of the split.

It is made before anything is prepared, from headers and the middle slice of each image.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Case, Openable, Sample, Split, Task, slab
from ganatomy.data.cases import MEANINGS
from ganatomy.data.parts import MARK, cell_of
from ganatomy.data.store import FEW, values_of
from ganatomy.errors import Shortage, UserError
from ganatomy.images.archives import archive_of
from ganatomy.images.image import NO_MEANING, Image
from ganatomy.images.paths import replacing
from ganatomy.metrics.statistics import count

SIDES: Mapping[str, str] = {"train": "training", "val": "validation", "test": "testing"}
"""Side of the split to its word."""


PICTURES = ("raster", "npy")
"""Kinds of files that seldom state the size of their pixels."""


@dataclass(frozen=True)
class Item:
    """One image, or another part, of a case.

    Attributes:
        case: name of the case.
        subject: subject that the case belongs to.
        split: side of the split.
        label: class of the case; None where it is not known.
        role: name of the part.
        place: file, or folder of a series; None for phantoms.
        shape: slices, rows and columns; None for parts that are no images, and for images that cannot be read.
        spacing: distances in mm along these axes; None where they are not known, as of most pictures.
        span: lowest and highest value of the middle slice, NaN aside.
        unit: unit of the values; None where the file states none.
        problem: reason why it cannot be read, or is not taken by a system; None where there is none.
        site: site where the case was recorded; None where it is not known.
        is_label_map: whether the values are labels, which have no unit.
    """

    case: str
    subject: str
    split: Split
    label: str | None
    role: str
    place: Path | None
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    span: tuple[float, float] | None = None
    unit: str | None = None
    problem: str | None = None
    site: str | None = None
    is_label_map: bool = False

    @property
    def cells(self) -> tuple[str, str, str]:
        """Voxels, their size in mm and range of values, as they are shown in a table."""
        voxels = " x ".join(map(str, self.shape or ()))
        spacing = " x ".join(f"{length:.3g}" for length in self.spacing or ())
        if self.shape and not self.spacing:
            spacing = "unknown"
        values = f"{self.span[0]:.4g} to {self.span[1]:.4g} {self.unit or ''}".rstrip() if self.span else ""
        return voxels, spacing, "cannot be read" if self.problem and not self.shape else values


def items_of(cases: Iterable[Case], task: Task | None = None) -> Iterator[Item]:
    """Yield every part of the cases, and where a task is given, why training would refuse it.

    Args:
        cases: cases, whose parts are opened one after another.
        task: task whose roles the parts have; None checks nothing but that they can be read.

    Raises:
        Shortage: the machine lacks files or memory; a damaged file is a problem of its item instead.
    """
    for case in cases:
        items = [replace(_item(case, role, source), site=case.site) for role, source in case.sources.items()]
        if task is not None and not any(one.problem for one in items):
            problems = _problems(case, task)
            items = [replace(one, problem=problems.get(one.role)) for one in items]
        yield from items


def _problems(case: Case, task: Task) -> dict[str, str]:
    """Return role to the reason why training would refuse its value, by the checks that training makes."""
    found: dict[str, str] = {}

    @contextmanager
    def noting(role: str) -> Iterator[None]:
        try:
            yield
        except Shortage:
            raise
        except UserError as error:
            found.setdefault(role, str(error))

    first = next(iter(case.sources))
    with noting(first):
        values = values_of(case, task)
        for name, role in task.roles.items():
            if name in values:
                with noting(name if name in case.sources else first):
                    role.check(values[name])
        if found:
            return found
        sample = task.frame(values, case)
        # Which labels a map holds is only known when all of it is read.
        for name in task.label_maps:
            if name in case.sources and name in sample.arrays:
                with noting(name):
                    for index in range(sample.arrays[name].shape[1]):
                        slab(sample.arrays[name], index, index + 1)
    return found


def _item(case: Case, role: str, source: Openable) -> Item:
    about = (case.name, case.subject, case.split, case.label, role, place_of(source))
    try:
        value = source.open()
        if not isinstance(value, Image):
            return Item(*about)
        middle = value.shape[0] // 2
        values = value.slab(middle, middle + 1)
    except Shortage:
        raise
    except UserError as error:
        return Item(*about, problem=str(error))
    spacing = value.spacing if value.header.scaled else None
    labels = getattr(source, "labels", False)
    return Item(*about, value.shape, spacing, _span(values), None if labels else value.unit, is_label_map=labels)


def prepared_items(cases: Iterable[Case], samples: Iterable[Sample]) -> Iterator[Item]:
    """Yield the parts of prepared cases as networks see them, on the working grid, and the roles of the other cases.

    Args:
        cases: all cases.
        samples: those of them that are prepared.
    """
    prepared = {sample.case.name: sample for sample in samples}
    known: dict[object, bool] = {}

    def sized(case: Case) -> bool:
        """Return whether the size of pixels is known; of pictures of one folder, the first is opened to see it."""
        source = next(iter(case.sources.values()))
        if getattr(source, "kind", None) not in PICTURES:
            return True
        key = source.paths[0].parent, repr(getattr(source, "meaning", None))
        if key not in known:
            value = source.open()
            known[key] = not isinstance(value, Image) or value.header.scaled
        return known[key]

    for case in cases:
        sample = prepared.get(case.name)
        for role in sample.arrays if sample else case.sources:
            about = (case.name, case.subject, case.split, case.label, role, None)
            if sample is None or role not in sample.affines:
                yield Item(*about, site=case.site)
                continue
            array = sample.arrays[role]
            _, slices, rows, columns = array.shape
            span = _span(slab(array, slices // 2, slices // 2 + 1))
            codec, labels = sample.roles[role].codec, sample.roles[role].is_label_map
            unit = codec.unit if codec else None
            shape, spacing = (slices, rows, columns), sample.spacing_of(role) if sized(case) else None
            yield Item(*about, shape, spacing, span, unit, site=case.site, is_label_map=labels)


def _span(values: NDArray[Any]) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def place_of(source: Openable) -> Path | None:
    """Return the path that names a source: its file, the folder of its series, its archive; None for a phantom."""
    paths = tuple(dict.fromkeys(map(archive_of, source.paths)))
    return None if not paths else paths[0] if len(paths) == 1 else paths[0].parent


def sentences(items: Sequence[Item], divided: bool = True) -> list[str]:
    """Return what was understood in sentences: subjects and cases by side; size, spacing, range and unit by role.

    Args:
        items: all parts of all cases.
        divided: whether the cases have sides of a split.
    """
    subjects = {side: {one.subject for one in items if one.split == side} for side in ("train", "val", "test")}
    cases = {side: {one.case for one in items if one.split == side} for side in subjects}
    parts = [f"{len(subjects[side])} for {SIDES[side]} ({len(cases[side])})" for side in subjects if cases[side]]
    told = [f"subjects (cases): {', '.join(parts)}"]
    if not divided:
        people, images = (len({getattr(one, name) for one in items}) for name in ("subject", "case"))
        told = [f"{count(people, 'subject')}, {count(images, 'image')}"]
    for role in dict.fromkeys(one.role for one in items):
        read = [one for one in items if one.role == role and one.shape]
        if read:
            told.append(f"{role}: {_extents(read)}; {_spacings(read)}; {_values(read)}")
    if labels := sorted({one.label for one in items if one.label}):
        told.append(f"labels: {', '.join(labels)}")
    told += _sites(items, divided)
    problems = [one for one in items if one.problem]
    # Where none can be used, they are likely to share a reason.
    named = problems if len({one.case for one in problems}) < len({one.case for one in items}) else problems[:FEW]
    told += [f"cannot be {'used' if one.shape else 'read'}: {one.case} {one.role}: {one.problem}" for one in named]
    if len(named) < len(problems):
        told.append(f"cannot be used or read: {len(problems) - len(named)} more, so that no case is left")
    return told


def _sites(items: Sequence[Item], divided: bool) -> list[str]:
    """Return the numbers of subjects of each site, on each side of the split; nothing where no site is known."""
    sites = sorted({one.site for one in items if one.site})
    if not sites:
        return []
    told = []
    for site in (*sites, None):
        own = [one for one in items if one.site == site]
        sides = {side: len({one.subject for one in own if one.split == side}) for side in ("train", "val", "test")}
        parts = ", ".join(f"{SIDES[side]} {number}" for side, number in sides.items() if number)
        number = parts if divided else str(len({one.subject for one in own}))
        told += [f"{site or 'not known'} ({number})"] if own else []
    return [f"sites (subjects{' for' if divided else ''}): {', '.join(told)}"]


def _extents(items: Sequence[Item]) -> str:
    shapes = np.array([one.shape for one in items])
    return f"{' x '.join(_range(*column) for column in zip(shapes.min(0), shapes.max(0), strict=True))} voxels"


def _spacings(items: Sequence[Item]) -> str:
    known = [one.spacing for one in items if one.spacing]
    if not known:
        return "size of pixels unknown"
    spacings = np.array(known)
    told = f"{' x '.join(_range(*column) for column in zip(spacings.min(0), spacings.max(0), strict=True))} mm"
    return told if len(known) == len(items) else f"{told}, unknown for {len(items) - len(known)} of {len(items)}"


def _values(items: Sequence[Item]) -> str:
    spans = [one.span for one in items if one.span]
    units = (
        [] if all(one.is_label_map for one in items) else list(dict.fromkeys(one.unit or "no unit" for one in items))
    )
    span = (
        f"{min(low for low, _ in spans):.5g} to {max(high for _, high in spans):.5g} in middle slices" if spans else ""
    )
    return ", ".join([span or "no finite values", *units])


def _range(low: float, high: float) -> str:
    first, last = f"{low:.4g}", f"{high:.4g}"
    return first if first == last else f"{first}-{last}"


def write_manifest(path: Path, cases: Sequence[Case]) -> None:
    """Write the manifest of cases, which reads as the same cases; paths are relative to it where they lie below it.

    Where a file or folder holds several images, the part stands behind ``#``, see `ganatomy.data.parts`. Statements on
    numbers, such as the unit, have a column; one for each role where images of one case differ.

    Args:
        path: file, which must not exist.
        cases: cases with their sides of the split.

    Raises:
        UserError: the file exists or cannot be written, or nothing names one of the images alone.
    """
    if path.exists():
        raise UserError(f"--write {path}: exists already; choose another name or remove it")
    roles = list(dict.fromkeys(role for case in cases for role in case.sources if case.sources[role].paths))
    if not roles:
        raise UserError(f"--write {path}: phantoms have no files that a manifest could name; give a folder of images")
    labelled, sited = (any(getattr(case, name) for case in cases) for name in ("label", "site"))
    meanings = [_meanings(case, roles) for case in cases]
    columns = list(dict.fromkeys(name for one in meanings for name in one))
    header = ["subject", *roles, "split", *(["label"] if labelled else []), *(["site"] if sited else []), *columns]
    with replacing(path) as work, work.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(header)
        for case, meaning in zip(cases, meanings, strict=True):
            cells = [_cell(path, case, case.sources.get(role)) for role in roles]
            about = [*([case.label or ""] if labelled else []), *([case.site or ""] if sited else [])]
            rows.writerow([case.subject, *cells, case.split, *about, *(meaning.get(name, "") for name in columns)])


def _meanings(case: Case, roles: Sequence[str]) -> Mapping[str, object]:
    """Return column to statement on the numbers of a case, for all its roles or for each, where they are not usual."""
    found: dict[str, object] = {}
    for name in MEANINGS:
        told = {
            role: getattr(meaning, name)
            for role in roles
            if role in case.sources and (meaning := getattr(case.sources[role], "meaning", None)) is not None
        }
        usual = getattr(NO_MEANING, name)
        if all(value == usual for value in told.values()):
            continue
        if len(set(told.values())) == 1 and len(told) == len(case.sources):
            found[name] = next(iter(told.values()))
        else:
            found |= {f"{role}.{name}": value for role, value in told.items() if value != usual}
    return found


def _cell(path: Path, case: Case, source: Openable | None) -> str:
    named = cell_of(source) if source else None
    if named is None:
        return ""
    place, part = named
    root = path.resolve().parent
    told = str(place.resolve().relative_to(root) if place.resolve().is_relative_to(root) else place.resolve())
    return f"{told}{MARK}{part}" if part else told
