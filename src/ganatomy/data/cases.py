"""Discovery of the cases of a data set in manifests, folders and phantoms, with their subjects and splits."""

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import count, takewhile
from math import isfinite
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ganatomy import phantoms
from ganatomy.case import Case, Openable, Task
from ganatomy.data.bids import is_bids, without_derivatives
from ganatomy.data.folders import cache_folder
from ganatomy.data.found import Unfit, needed_images
from ganatomy.data.frames import in_frames
from ganatomy.data.kinds import MOST_LABELS, is_mask_by_name, kinds_of, masks_by_value, suggested
from ganatomy.data.known_layouts import cases_of_layout, channels_of_layout
from ganatomy.data.layouts import by_patterns, by_series, parse_patterns, title_of
from ganatomy.data.memory import cases_in_memory, held_at, images_in_memory
from ganatomy.data.parts import MARK, in_parts, names_of, open_part
from ganatomy.data.splits import divide, some
from ganatomy.data.subjects import merged, place_below, subject_of_place, with_pattern
from ganatomy.data.tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    MANIFEST_SUFFIXES,
    SITE_COLUMNS,
    SUBJECT_COLUMNS,
    check_cells,
    column_name,
    raw_rows,
    rows_of,
    site_column,
    site_of,
)
from ganatomy.data.wanted import advice
from ganatomy.errors import Notice, Shortage, UserError, either
from ganatomy.images.files import Source, find, place_of
from ganatomy.images.image import NO_MEANING, RasterMeaning
from ganatomy.images.parsing import exists
from ganatomy.images.paths import distinct_names, unique_name

MEANINGS = ("slope", "intercept", "unit", "pixel_mm")
"""Columns that say what numbers mean, for all images of a row, or with the name of a role before them for one."""
MANIFEST_OPTIONS = ("split", *MEANINGS)
MANIFEST_NAMES = ("manifest.csv", "index.csv")
UNLABELLED = "unlabelled"
"""Name of the folder, and label, of images whose class is not known."""


class DataConfig(BaseModel):
    """Options that say which images are used and how they are read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: Path | None = None  # folder, file or CSV manifest; none means the built-in phantom
    roles: tuple[str, ...] = ()  # NAME=PATTERN of file names in a folder, such as flair='*_flair.nii.gz', for each role
    series: tuple[str, ...] = ()  # NAME=PATTERN of descriptions, modalities or UIDs of DICOM series, for each role
    resample_to: str | None = None  # role to whose grid images of a case are resampled; none refuses other grids
    halves: tuple[str, str] | None = None  # roles of the left and the right half of pictures that hold two images
    held_out_fold: int | None = Field(
        None, ge=0
    )  # fold that is held out, where a MONAI datalist has folds; none means 0
    frames: tuple[str, ...] = ()  # time frames of recordings over time: all, numbers, or NAME=NUMBER such as ed=0 es=9
    subject_pattern: str | None = (
        None  # regular expression that finds the subject in a path; none: by folders and names
    )
    test_subjects: tuple[str, ...] = ()  # subjects kept for testing; none means a fifth, drawn by the seed
    val_subjects: tuple[str, ...] = ()  # subjects that choose the best weights; none means drawn, or slices held out
    hold_out_site: tuple[str, ...] = ()  # sites (column site of a manifest) all of whose subjects are kept for testing
    slope: float = 1.0  # physical value per stored step, for raster images (PNG, TIFF) without units
    intercept: float = 0.0  # physical value of a stored 0, for raster images without units; -1024 for HU + 1024
    unit: str | None = None  # unit of images without one, as in NIfTI; HU is assumed where slope or intercept is given
    pixel_mm: float | None = None  # pixel size in mm, for raster images; none means that of the file, if it has one
    backdrop: float | None = None  # stored number (0 to 255 in 8 bits) of the grey behind transparent pictures
    nan: float | None = None  # physical value that takes the place of NaN, such as -1024; none refuses images with NaN
    level: int | None = None  # level of whole slides, 0 for the finest; none means 0, which is refused if too large
    mpp: float | None = None  # size in µm of the pixels that are made of whole slides, in place of a level
    uneven: bool = False  # accept series with missing or unevenly spaced slices; each slice keeps its own position
    phantom_subjects: int | None = Field(
        None, ge=3, le=100_000
    )  # number of phantom patients; none means the system's default
    phantom_size: int | None = Field(
        None, ge=16, le=4096
    )  # rows and columns of the phantom; none means the system's default
    cache: Path | None = None  # prepared cases, shared by runs; none: in $GANATOMY_CACHE, else ~/.cache/ganatomy

    @property
    def cache_folder(self) -> Path:
        """Folder of prepared cases, which may be deleted."""
        return self.cache or cache_folder()

    @property
    def meaning(self) -> RasterMeaning:
        """Settings by which files are read that say less than DICOM."""
        scaled = self.slope != 1.0 or self.intercept != 0.0
        unit = self.unit or ("HU" if scaled else None)
        return RasterMeaning(
            self.slope, self.intercept, unit, self.pixel_mm, self.backdrop, self.nan, self.level, self.mpp
        )


@dataclass(frozen=True)
class PhantomSource:
    """A source that draws one patient of a built-in phantom.

    Attributes:
        name: name of the phantom, or its class.
        seed: seed of the patient.
        grid: arguments of the phantom.
        part: part of the patient, such as an image or a mask.
        paths: always empty, since a phantom has no files.
        source: digest of the phantom's source where it is not part of ganatomy; prepared cases change with it.
    """

    name: phantoms.Name
    seed: int
    grid: tuple[tuple[str, Any], ...]
    part: str = "image"
    paths: tuple[Path, ...] = ()
    source: str | None = None

    @property
    def drawn_by(self) -> str:
        """Digest of the code by which the patient is drawn."""
        return self.source or phantoms.code()

    def open(self) -> Any:
        """Return the image, or another part of the patient, such as a vessel."""
        return phantoms.part(self.truth(), self.part)

    def truth(self) -> Any:
        """Return the patient with masks, regions and known scores."""
        return _drawn(self.name, self.seed, self.grid)  # type: ignore[arg-type]  # classes can be hashed


@lru_cache(maxsize=8)
def _drawn(name: phantoms.Name, seed: int, grid: tuple[tuple[str, Any], ...]) -> Any:
    """Draw a phantom patient; cached, since this takes up to seconds and every role of a case calls it."""
    return phantoms.make(name, seed, **dict(grid))


def discover(task: Task, config: DataConfig, seed: int = 0) -> list[Case]:
    """Return all cases of a data set, split by subject.

    Raises:
        UserError: there are no usable cases, a manifest lacks columns or files, or a named subject does not exist.
    """
    return divide(
        task, find_cases(task, config), config.test_subjects, config.val_subjects, seed, None, config.hold_out_site
    )


def find_cases(task: Task, config: DataConfig) -> list[Case]:
    """Return all cases of a data set, of those with labels the ones with a class of the task.

    The cases have the sides of the split that a manifest gives them, else all are for training. In a folder without
    manifest the label of an image is the name of its folder.

    Raises:
        UserError: there are no usable cases, or a manifest lacks columns or files.
    """
    try:
        cases = _all_cases(task, config)
    except Unfit as error:
        error.add_note(advice(task))
        raise
    cases = in_frames(cases, config.frames) if config.frames else cases
    if not task.classes:
        return cases
    labels = {case.label for case in cases}
    if not labels & set(task.classes):
        raise UserError(
            f"--classes {' '.join(task.classes)}: no image in {config.data or 'the phantom'} has one of these labels; "
            f"there are {some(sorted(label or '(none)' for label in labels))}"
        )
    known = [replace(case, label=None) if case.label == UNLABELLED else case for case in cases]
    return [case for case in known if task.takes_label(case.label)]


def _all_cases(task: Task, config: DataConfig) -> list[Case]:
    if config.resample_to and config.resample_to not in task.roles:
        raise UserError(f"--resample-to {config.resample_to}: there is no such role; there are {', '.join(task.roles)}")
    if config.data is None and (config.roles or config.series):
        raise UserError("--roles and --series name images of a folder: give it with --data, too")
    if config.data is None:
        return _phantom_cases(task, config)
    if held := held_at(config.data):
        return cases_in_memory(held, task, config.meaning.unit, config.resample_to)
    manifest = None if config.roles or config.series else _manifest(config.data, task)
    if manifest is not None:
        if config.subject_pattern is not None:
            raise UserError(f"--subject-pattern: {manifest} states the subjects; leave it out, or change the manifest")
        return read_manifest(manifest, task, config)
    cases = _pattern_cases(task, config) if config.roles or config.series else _folder_cases(task, config)
    if config.subject_pattern is not None:
        return with_pattern(cases, config.data, config.subject_pattern)
    if told := merged(cases):
        warnings.warn(told, Notice, stacklevel=2)
    return cases


def _manifest(place: Path, task: Task) -> Path | None:
    """Return the manifest that a place is, or that a folder holds; None where there is none.

    Raises:
        Unfit: a folder has manifests, none of which says which file is which.
    """
    if not place.is_dir():
        return place if place.suffix.lower() in MANIFEST_SUFFIXES else None
    manifests = [path for path in (place / name for name in MANIFEST_NAMES) if path.is_file()]
    usable = [path for path in manifests if _columns(path, task)]
    if manifests and not usable:
        raise _no_columns(manifests[0], task)
    return usable[0] if usable else None


def _no_columns(path: Path, task: Task) -> Unfit:
    """Return the error for a manifest that lacks the columns of a system."""
    there = ", ".join(name for name in next(iter(raw_rows(path)), []) if name) or "none"
    needed = needed_images(task)
    columns = f"subject and {' or '.join(needed) if task.groups else ' and '.join(needed)}"
    images = [name for name in _others(task) if name not in needed]
    others = [*images, *LABEL_COLUMNS[:1], *SITE_COLUMNS[:1], *MANIFEST_OPTIONS]
    return Unfit(
        f"{path}: a manifest for {task.name} needs the columns {columns} (others: {', '.join(others)}); its columns "
        f"are {there}. Correct it, move it out of the folder, or assign files with --roles"
    )


def _phantom_cases(task: Task, config: DataConfig) -> list[Case]:
    grid = tuple(sorted(task.phantom_grid(config.phantom_size).items()))
    subjects = config.phantom_subjects or task.phantom_subjects
    cases, name, source = [], phantoms.called(task.phantom), phantoms.source(task.phantom)
    for number in takewhile(lambda number: _phantom_subject(task, number) < subjects, count()):
        label = phantoms.label(task.phantom, number)
        parts = task.phantom_parts(label)
        sources = {role: PhantomSource(task.phantom, number, grid, part, source=source) for role, part in parts.items()}
        subject = f"phantom{_phantom_subject(task, number):03d}"
        side, site = phantoms.side(task.phantom, number), phantoms.site(task.phantom, number)
        cases.append(Case(f"{name}-{number:03d}", subject, side, sources, label, site=site))
    return cases


def _phantom_subject(task: Task, number: int) -> int:
    """Return the patient that a seed of the task's phantom belongs to."""
    shared = phantoms.subject(task.phantom, number)
    return number if shared is None else shared


def _folder_cases(task: Task, config: DataConfig) -> list[Case]:
    assert config.data is not None
    needed = [role for group in task.groups for role in group] or _seen(task)
    if len(needed) > 1 and all((config.data / role).is_dir() for role in needed):
        return _role_cases(config.data, task, config)
    if task.roles[task.given].suffixes:
        return _file_cases(config.data, task)
    find_all = partial(find, meaning=config.meaning, uneven=config.uneven)
    known = cases_of_layout(task, config.data, find_all, config)
    if known is not None:
        _tell_incomplete(config.data, task, {case.name: case.sources for case in known})
        return known
    sources = find_all(config.data)
    if task.roles[task.given].has_intensities:
        sources = _scans(config.data, task, sources)
    # Where labels are needed, folders are classes and not patients.
    return [
        Case(
            source.name,
            subject_of(config.data, source, bool(task.classes)),
            "train",
            {task.given: task.roles[task.given].adopt(source)},
            source.places[0].parent.name,
        )
        for source in sources
    ]


def subject_of(root: Path, source: Source, classes: bool = False) -> str:
    """Return the subject of an image in a folder: the patient of its header, else what folders and its name tell.

    Args:
        root: folder of the data.
        source: image.
        classes: whether folders are classes and no patients.
    """
    if source.kind == "dicom":
        return source.name if classes else source.subject
    found = subject_of_place(place_below(root, source.places[0]), classes)
    # What is no UTF-8 in a name can be written nowhere; different names stay different.
    return found.encode(errors="backslashreplace").decode()


def _scans(place: object, task: Task, sources: Sequence[Source]) -> list[Source]:
    """Return the images that are no masks, if they are of one kind.

    Args:
        place: folder, file or manifest for messages; names of folders count below a folder.
        task: task, whose given role the images would be.
        sources: images of which nobody has said what they are.

    Raises:
        Unfit: they are of several kinds, the system needs several images for each case, or all are masks.
    """
    root = Path(str(place)) if isinstance(place, Path) and place.is_dir() else sources[0].places[0].parent
    given, needed = task.given, needed_images(task)
    named = [one for one in sources if is_mask_by_name(root, one, folders=not task.classes)]
    by_name = {id(one) for one in named}
    valued = masks_by_value([one for one in sources if id(one) not in by_name])
    masks = by_name | {id(one) for one in valued}
    scans = [one for one in sources if id(one) not in masks]
    told = "; ".join(
        f"{some(one.places[0].name for one in found)} ({len(found)}, by {how})"
        for how, found in (("name", named), ("values", valued)) if found
    )  # fmt: skip
    if not scans:
        raise Unfit(f"{place}: all images are masks or label maps: {told}; --roles {given}='*' uses them as {given}")
    if told:
        warnings.warn(f"{place}: masks are left out: {told}; --roles {given}='*' uses all as {given}", Notice, 2)
    paired = len(needed) > 1 and given in needed
    if kinds := kinds_of(root, scans):
        counts = ", ".join(f"{kind} ({len(own)})" for kind, own in kinds.items())
        all_alike = "" if paired else f", or all with --roles {given}='*'"
        raise Unfit(
            f"{place}: its images are of several kinds by their names: {counts}; choose, such as "
            f"{suggested(kinds, needed)}{all_alike}"
        )
    if paired:
        raise Unfit(
            f"{place}: nothing says which of its images are {' and which are '.join(needed)}; assign them with "
            f"--roles, such as {' '.join(f'{name}={chr(39)}*_{name}.nii.gz{chr(39)}' for name in needed)}"
        )
    return scans


def _seen(task: Task) -> list[str]:
    """Return the roles of a complete case that are read from files, which labels are not."""
    return [role for role in task.required if role not in LABEL_COLUMNS]


def _file_cases(folder: Path, task: Task) -> list[Case]:
    """Return the cases of a folder of files that are no images, such as tables: one case per file.

    The first folder below ``folder`` is the subject, or the file's name where there is none.

    Raises:
        UserError: no file has a suffix of the role.
    """
    role = task.roles[task.given]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in role.suffixes and path.is_file())
    if not paths:
        raise Unfit(f"{folder}: no {either(role.suffixes)} files, which {task.given} is read from")

    def unreadable(path: Path) -> Openable:
        raise UserError(f"{path}: {task.given} is read from {either(role.suffixes)} files")

    cases, taken = [], set[str]()
    for path in paths:
        place = path.relative_to(folder)
        name = unique_name(place.with_suffix("").as_posix().replace("/", "_"), taken)
        subject = place.parts[0] if len(place.parts) > 1 else place.stem
        source = role.source(place.as_posix(), folder, unreadable)
        cases.append(Case(name, subject, "train", {task.given: source}, path.parent.name))
    return cases


def _pattern_cases(task: Task, config: DataConfig) -> list[Case]:
    """Return the cases of a folder by a pattern per role, over file names or over the series of DICOM studies."""
    assert config.data is not None

    def sources(folder: Path) -> list[Source]:
        found = find(folder, meaning=config.meaning, uneven=config.uneven)
        return without_derivatives(folder, found, config.roles) if is_bids(folder) else found

    if config.roles and config.series:
        raise UserError("--roles and --series: give patterns of file names, or of DICOM series, not both")
    if config.series:
        found = by_series(sources(config.data), parse_patterns(config.series, "--series", task.roles))
    else:
        found = by_patterns(config.data, parse_patterns(config.roles, "--roles", task.roles), sources)
    usable = [case for case in found if task.usable(case[2])]
    _tell_incomplete(config.data, task, {name: sources for name, _, sources in found})
    if not usable:
        name, _, chosen = found[0]
        missing = [role for role in _seen(task) if role not in chosen]
        raise Unfit(f"{config.data}: no case has all roles; {name} lacks {', '.join(missing)}")
    cases = []
    for name, subject, chosen in usable:
        adopted = {role: kind.adopt(chosen[role]) for role, kind in task.roles.items() if role in chosen}
        cases.append(Case(name, subject, "train", adopted, resample_to=config.resample_to))
    return cases


def _role_cases(folder: Path, task: Task, config: DataConfig) -> list[Case]:
    """Return the cases of a folder with one subfolder per role; images at equal places below these are one case.

    Raises:
        UserError: two images of a role are at one place, or no case has the roles that the task needs.
    """
    found: dict[str, dict[str, Source]] = {}
    for role in (role for role in task.roles if (folder / role).is_dir()):
        sources = find(folder / role, meaning=config.meaning, uneven=config.uneven)
        for place, source in zip(_places(folder / role, sources), sources, strict=True):
            other = found.setdefault(place, {}).setdefault(role, source)
            if other is not source:
                raise UserError(
                    f"{other.places[0]} and {source.places[0]}: both would be the {role} of one case, {place}; move "
                    "one of them elsewhere, or rename it"
                )
    _tell_incomplete(folder, task, found)
    names = distinct_names([place.replace("/", "_") for place in found], list(found))
    cases = [
        Case(
            name,
            subject_of(folder / next(iter(sources)), next(iter(sources.values()))),
            "train",
            {role: task.roles[role].adopt(source) for role, source in sources.items()},
            None,
            config.resample_to,
        )
        for name, sources in sorted(zip(names, found.values(), strict=True), key=lambda item: item[0])
        if task.usable(sources)
    ]
    if not cases:
        raise Unfit(f"{folder}: no {task.given} image in its subfolder {task.given}")
    return cases


def _places(root: Path, sources: Sequence[Source]) -> list[str]:
    """Return the places of images below the folder of their role, without suffix, by which roles are brought together.

    A DICOM series is at the place of its folder, the first above all its files. Series of one folder are at the places
    of their files where each has only one, else told apart by their descriptions.
    """
    series = [source for source in sources if source.kind == "dicom"]
    beside = Counter(source.folder for source in series)
    alone = {folder for folder in beside if all(len(one.paths) == 1 for one in series if one.folder == folder)}

    def place(source: Source) -> str:
        folder = source.folder
        if source.kind != "dicom" or (folder in alone and (beside[folder] > 1 or folder == root)):
            return place_of(root, source.paths[0])
        title = f"/{title_of(source)}" if beside[folder] > 1 and source.frames else ""
        return place_of(root, folder) + title if folder != root else f"{root.parent.name}{title}"

    # File systems write one name in different ways, with accents as letters of their own or not.
    return [normalize("NFC", place(source)) for source in sources]


def _tell_incomplete(place: Path, task: Task, found: Mapping[str, Collection[str]]) -> None:
    """Tell the user which cases lack a role that others have, since a name may be misspelt.

    Args:
        place: folder of the images, or manifest, for the message.
        task: task with the roles.
        found: name of a case to its roles.
    """
    for role in _seen(task):
        without = [
            name
            for name, roles in found.items()
            if role not in roles and not any(set(group) <= set(roles) for group in task.groups)
        ]
        if without and len(without) < len(found):
            told = f"{len(without)} of {len(found)} cases have no {role} image: {some(without)}"
            warnings.warn(f"{place}: {told}", Notice, stacklevel=2)


def _columns(path: Path, task: Task) -> dict[str, str] | None:
    """Return role or ``subject`` to column name, or None where the file is no manifest of this task."""
    header = next(iter(raw_rows(path)), [])
    columns = {
        role: column_name(role) for role in task.roles if column_name(role) in header and role not in LABEL_COLUMNS
    }
    image = next((name for name in IMAGE_COLUMNS if name in header), None)
    if image and task.given not in columns:
        columns[task.given] = image
    subject = [name for name in SUBJECT_COLUMNS if name in header]
    lacking = not task.groups and task.given in (needed := needed_images(task)) and not set(needed) <= set(columns)
    if not subject or not task.usable(columns) or lacking:
        return None
    return {**columns, "subject": subject[0]}


def names_of_images(config: DataConfig) -> list[str]:
    """Return the names of the images of a data set in order, from its patterns or the columns of its manifest.

    A column counts as one of images where its first path is that of an image and not of a label map.

    Returns:
        Names; none where there are neither patterns nor a manifest.

    Raises:
        UserError: the manifest cannot be read.
    """
    patterns = [text.partition("=")[0] for text in (*config.roles, *config.series)]
    if patterns or config.data is None:
        return patterns
    if held := held_at(config.data):
        return images_in_memory(held)
    paths = [config.data / name for name in MANIFEST_NAMES] if config.data.is_dir() else [config.data]
    path = next((path for path in paths if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES), None)
    if path is None:
        return channels_of_layout(config.data)
    header, *rows = raw_rows(path) or [[]]
    told = {*SUBJECT_COLUMNS, *LABEL_COLUMNS, *SITE_COLUMNS, *MANIFEST_OPTIONS}
    told |= {name for name in header if name.rpartition(".")[2] in MEANINGS}
    first = {
        name: next((row[at] for row in rows if row[at : at + 1] and row[at]), "") for at, name in enumerate(header)
    }
    return [name for name, value in first.items() if value and name not in told and _is_image(path.parent / value)]


def _is_image(path: Path) -> bool:
    """Return whether a path holds one image that is no label map, which has few different values, all integers."""
    place, part = in_parts(path)
    if not exists(place):
        return False
    try:
        found = [open_part(place, part, NO_MEANING)] if part else find(place)
        if len(found) != 1:
            return False
        values = np.unique(found[0].open().numpy()[..., ::2, ::2])
    except Shortage:
        raise
    except UserError:
        return place.is_file()  # the reason is reported when the case is read
    return len(values) > MOST_LABELS or bool((values != np.rint(values)).any())


def read_manifest(path: Path, task: Task, config: DataConfig) -> list[Case]:
    """Read the cases of a CSV file with one column per role and ``subject``, optionally ``split``, ``label``, ``site``.

    Paths are relative to the file; ``#`` stands before a part of a file, see `ganatomy.data.parts`. The columns
    ``slope``, ``intercept``, ``unit`` and ``pixel_mm`` override the options of the same names; ``ROLE.unit`` is that of
    one role.

    Raises:
        UserError: the file, a column, an image or a subject is missing, or a split is unknown.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such manifest")
    columns = _columns(path, task)
    if columns is None:
        raise _no_columns(path, task)
    cases: list[Case] = []
    taken: set[str] = set()
    header, rows = rows_of(path)
    labels = next((name for name in LABEL_COLUMNS if name in header), None)
    own = _options_of_roles(path, header, columns)
    sites = site_column(header, columns.values())
    words = {*MANIFEST_OPTIONS, *own.values(), columns["subject"], *filter(None, (labels, sites))}
    owners: dict[Path, str] = {}
    for where, row in rows:
        check_cells(where, {name: row[name] for name in header if name in {*columns.values(), *words}}, words)
        sources: dict[str, Openable] = {}
        for role, column in columns.items():
            if role == "subject" or not row[column]:
                continue
            meant = {name: row.get(own.get((role, name), "")) or row.get(name, "") for name in MEANINGS}
            read = partial(_row_source, meant=meant, config=config, where=where, manifest=path)
            sources[role] = task.roles[role].source(row[column], path.parent, read)
        subject, split = normalize("NFC", row[columns["subject"]]), (row.get("split") or "train").lower()
        if not subject:
            raise UserError(f"{where}: no subject; splits are by subject, so every row needs one")
        if not task.usable(sources):
            raise UserError(f"{where}: no {task.given} image")
        if split not in ("train", "val", "test"):
            raise UserError(f"{where}: split {split!r}; use train, val or test")
        first = task.given if task.given in sources else next(iter(sources))
        for image in sources[first].paths if isinstance(sources[first], Source) else ():
            if owners.setdefault(image.resolve(), subject) != subject:
                raise UserError(
                    f"{where}: {image} is an image of subject {owners[image.resolve()]!r} in a row above; an image "
                    "belongs to one subject, or the split by subject says nothing"
                )
        name = unique_name(_title(path.parent, row[columns[first]]), taken)
        label = normalize("NFC", row[labels]) if labels and row[labels] else None
        site = site_of(row[sites]) if sites else None
        cases.append(Case(name, subject, split, sources, label, config.resample_to, site=site))  # type: ignore[arg-type]
    if not cases:
        raise UserError(f"{path}: the manifest has no rows")
    if columns.get(task.given) in IMAGE_COLUMNS and columns[task.given] != task.given:
        cases = _of_one_kind(path, task, cases)
    _tell_incomplete(path, task, {case.name: case.sources for case in cases})
    return cases


def _of_one_kind(path: Path, task: Task, cases: Sequence[Case]) -> list[Case]:
    """Return the cases of a manifest whose column of files says not what they are, without those of masks."""
    sources = [source for case in cases if isinstance(source := case.sources.get(task.given), Source)]
    if not sources or not task.roles[task.given].has_intensities:
        return list(cases)
    kept = _scans(path, task, sources)
    left = {id(source) for source in sources} - {id(source) for source in kept}
    return [case for case in cases if id(case.sources.get(task.given)) not in left]


def _others(task: Task) -> list[str]:
    return [role for role in task.roles if role not in (task.given, *LABEL_COLUMNS)]


def _options_of_roles(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return role and option to the column of a manifest that holds it for this role alone, such as ``ct.unit``."""
    found = {}
    for column in header:
        role, dot, option = column.rpartition(".")
        if not dot or option not in MEANINGS:
            continue
        named = [one for one, own in columns.items() if role in (own, column_name(one)) and one != "subject"]
        if not named:
            there = ", ".join(one for one in columns if one != "subject")
            raise UserError(f"{path}: column {column}: there is no role {role}; the manifest has {there}")
        found[named[0], option] = column
    return found


def _title(folder: Path, cell: str) -> str:
    """Return the name of a case by the cell of its first image."""
    _, part = in_parts(folder / cell)
    file = Path(cell[: len(cell) - len(part)].rstrip(MARK + " ") if part else cell)
    name = (file.with_suffix("") if file.name else file).as_posix().replace("/", "_")
    return "_".join([name, *re.findall(r"\w+", part)])


def _row_source(path: Path, meant: Mapping[str, str], config: DataConfig, where: str, manifest: Path) -> Openable:
    place, part = in_parts(path)
    if not exists(place):
        raise UserError(f"{where}: {path} does not exist; paths are relative to the manifest")
    if place.resolve() in manifest.resolve().parent.parents:
        raise UserError(
            f"{where}: {path} is a folder that holds the folder of the manifest; name an image or its series"
        )
    numbers = {}
    for name in MEANINGS:
        if name != "unit" and meant[name]:
            try:
                numbers[name] = float(meant[name])
                if not isfinite(numbers[name]):
                    raise ValueError
            except ValueError:
                raise UserError(f"{where}: {name} {meant[name]!r} is not a number") from None
    options = config.model_copy(update={**numbers, **({"unit": meant["unit"]} if meant["unit"] else {})})
    if part:
        return open_part(place, part, options.meaning, config.uneven)
    found = find(place, meaning=options.meaning, uneven=config.uneven)
    if len(found) != 1:
        named = next(iter(names_of(found[0])), None)
        told = f", such as {place.name}{MARK}{named}" if named else ""
        raise UserError(f"{where}: {path} holds {len(found)} images; name one of them{told}")
    return found[0]
