"""Data sets in the memory of a Python program: sequences of cases, such as a map-style data set of torch.

A run names such a data set by a digest of its values. The program has to hand it over again, as the same values, where
another process goes on with the run or evaluates it.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ganatomy.case import Case, Held, Openable, Role, Split, Task
from ganatomy.data.kinds import is_label_map
from ganatomy.data.splits import some
from ganatomy.data.tables import site_of
from ganatomy.errors import LeftOut, UserError
from ganatomy.images.conversions import has_geometry, image_of, is_image
from ganatomy.images.files import find
from ganatomy.images.image import Image
from ganatomy.images.paths import safe_name, unique_name

ABOUT = ("name", "subject", "split", "label", "site", "spacing", "unit")
"""Keys of an item that say something about the case; all others are names of roles."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")
NAME = re.compile("memory-[0-9a-f]{16}")
GIVEN = ""
"""Name that stands for the main role of a system, where an item is a value and not a mapping."""

_held: dict[str, MemoryDataset] = {}


@dataclass(frozen=True, eq=False)
class MemorySource:
    """A value of an item, which the data set is asked for when the source is opened.

    Attributes:
        dataset: data set of the item.
        index: number of the item.
        role: name of the value in the item.
        digest: digest of the value when the data set was handed over.
        unit: unit of an image that states none.
    """

    dataset: MemoryDataset = field(repr=False)
    index: int
    role: str
    digest: str
    unit: str | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Nothing, since the value has no files."""
        return ()

    def __repr__(self) -> str:
        # The fingerprint of a case depends on it, so it says what the value is and not where it is.
        return f"MemorySource({self.digest}, {self.unit})"

    def open(self) -> Any:
        """Return the value.

        Raises:
            UserError: the data set gives another value than before.
        """
        value = self.dataset.value(self.index, self.role)
        if digest_of(value) != self.digest:
            raise UserError(
                f"{self.dataset.entries[self.index].name}: {self.role or 'the item'} has other values than when it was "
                "first asked for; a data set gives the same values every time, and random changes are options of "
                "the system"
            )
        if isinstance(value, Image) and value.unit is None and self.unit:
            return value.with_array(value.array, self.unit)
        return value


@dataclass(frozen=True)
class Entry:
    """An item of a data set.

    Attributes:
        name: name of the case, unique in the data set.
        subject: subject that the case belongs to.
        split: side of the split.
        label: class of the case; None where it is not known.
        values: role to the digest of its value, or to the text or path that names it.
        site: site where it was recorded; None where it is not known.
    """

    name: str
    subject: str
    split: Split
    label: str | None
    values: Mapping[str, str | Text]
    site: str | None = None


class Text(str):
    """A text in an item: the path of a file, or a word such as a class."""


class MemoryDataset:
    """A sequence of items, each of which is a mapping from roles to values, or a single value.

    Args:
        items: object with a length and numbered items, which are asked for when they are used.

    Raises:
        UserError: an item cannot be used; the message says what items look like.
    """

    def __init__(self, items: Any):
        self.items = items
        self.entries: list[Entry] = []
        self._last: tuple[int, Any] | None = None
        taken: set[str] = set()
        for index in range(len(items)):
            self.entries.append(self._entry(index, taken))
        if not self.entries:
            raise UserError("the data set has no items; give at least one case")
        facts = [
            (one.name, one.subject, one.split, one.label, sorted(one.values.items()), *([one.site] if one.site else []))
            for one in self.entries
        ]
        self.place = Path(f"memory-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}")

    def __getstate__(self) -> dict[str, Any]:
        # Processes that cut patches from prepared cases are sent the names of cases, and not all values.
        return {**self.__dict__, "items": None, "_last": None}

    def _item(self, index: int) -> Mapping[str, Any]:
        if self._last is None or self._last[0] != index:
            there = self if self.items is not None else held_at(self.place)
            assert there is not None
            found = there.items[index]
            self._last = index, found if isinstance(found, Mapping) else {GIVEN: found}
        item: Mapping[str, Any] = self._last[1]
        return item

    def _entry(self, index: int, taken: set[str]) -> Entry:
        item = self._item(index)
        where = f"item {index} of the data set"
        if not all(isinstance(name, str) for name in item):
            raise UserError(f"{where}: its keys are names of roles, such as 't1', and not {some(map(repr, item))}")
        values: dict[str, str | Text] = {}
        for role in item:
            if role in ABOUT or item[role] is None:
                continue
            if role == GIVEN and not (is_image(item[role]) or isinstance(item[role], str | Path)):
                raise UserError(
                    f"{where} is a {type(item[role]).__name__}; an item is a mapping from roles to values, such as "
                    "{'t1': array, 'subject': 'p01'}, or a single image"
                )
            text = isinstance(item[role], str | Path)
            values[role] = Text(item[role]) if text else digest_of(self.value(index, role))
        if not values:
            raise UserError(f"{where} has no values; it is a mapping from roles to values")
        split = str(item.get("split") or "train").lower()
        if split not in SPLITS:
            raise UserError(f"{where}: split {split!r}; use train, val or test")
        subject = str(item["subject"]) if item.get("subject") is not None else f"case{index:04d}"
        label = None if item.get("label") is None else str(item["label"])
        site = None if item.get("site") is None else site_of(str(item["site"]).strip())
        name = unique_name(safe_name(str(item.get("name") or subject)), taken)
        return Entry(name, subject, split, label, values, site)

    def value(self, index: int, role: str) -> Any:
        """Return the value of an item, images of all libraries as `Image`."""
        item = self._item(index)
        grid = next((one for one in item.values() if isinstance(one, Image)), None)
        return value_of(item[role], _of_role(item.get("spacing"), role), _of_role(item.get("unit"), role), grid)

    def sources_of_images(self, index: int, names: Sequence[str]) -> dict[str, Openable]:
        """Return name to source of some images of an item, without the roles of a task."""
        values = {name: value for name, value in self.entries[index].values.items() if name in names or name == GIVEN}
        return {
            name or "image": only_source(Path(value))
            if isinstance(value, Text)
            else MemorySource(self, index, name, value)
            for name, value in values.items()
        }

    def sources(self, index: int, roles: Mapping[str, Role], given: str, unit: str | None) -> dict[str, Openable]:
        """Return role to source of the values that the roles of a task name.

        Args:
            index: number of the item.
            roles: name to role.
            given: role of items that are single values.
            unit: unit of images that state none.
        """
        entry, found = self.entries[index], dict[str, Openable]()
        for name, value in entry.values.items():
            role = roles.get(name or given)
            if role is None:
                continue
            if isinstance(value, Text):
                found[role.name] = role.source(str(value), Path(), only_source)
            else:
                found[role.name] = MemorySource(self, index, name, value, unit)
        return found


def value_of(
    value: Any, spacing: Sequence[float] | None = None, unit: str | None = None, like: Image | None = None
) -> Any:
    """Return a value as a role takes it: images of all libraries become `Image`, others stay as they are.

    Args:
        value: value of a user.
        spacing: mm between slices, rows and columns, for images that state none.
        unit: unit of images that state none.
        like: image on whose grid an image without geometry lies if it has as many voxels.
    """
    if not is_image(value):
        return value
    return image_of(value, None if has_geometry(value) else spacing, unit, like=like)


def _of_role(told: Any, role: str) -> Any:
    """Return what an item says for one role, where it says it for all or for each."""
    return told.get(role) if isinstance(told, Mapping) else told


def opened_values(
    values: Mapping[str, Any],
    roles: Mapping[str, Role],
    unit: str | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Convert paths and images of other libraries, of one case, to values of its roles.

    An array gets the affine of the first image of the case if both have the same number of voxels.

    Args:
        values: role to path, array or value.
        roles: name to role.
        unit: unit of images that state none.
        spacing: mm between slices, rows and columns, for images that state none.

    Raises:
        UserError: a path cannot be read or holds several images, or a value is no image.
    """
    opened = {
        name: roles[name].source(str(value), Path(), only_source).open()
        if isinstance(value, str | Path) and name in roles
        else value
        for name, value in values.items()
    }
    grid = next((value for value in opened.values() if isinstance(value, Image)), None)
    return {
        name: value_of(value, spacing, unit, grid) if name in roles and roles[name].on_grid else value
        for name, value in opened.items()
    }


def only_source(path: Path) -> Openable:
    """Return the source of the only image at a path.

    Raises:
        UserError: the path holds no image, or several.
    """
    from ganatomy.images.files import read

    sources = find(path)
    return sources[0] if len(sources) == 1 else Held(read(path), (path,))


def digest_of(value: Any) -> str:
    """Return a digest of a value: of an image, its numbers, geometry and unit."""
    digest = hashlib.sha256()
    if isinstance(value, Image):
        header = value.header
        facts = [value.array.shape, value.dtype.str, np.asarray(value.affine).tolist(), value.unit]
        offsets = None if value.offsets is None else value.offsets.tolist()
        digest.update(repr([*facts, offsets, header.modality, header.colours, header.inverted]).encode())
        for slab in value.slabs():
            digest.update(np.ascontiguousarray(slab).tobytes())
    else:
        try:
            digest.update(pickle.dumps(value))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise UserError(f"data: a value that is a {type(value).__name__} cannot be used ({error})") from None
    return digest.hexdigest()[:32]


def hand_over(data: Any) -> Path:
    """Take a data set from a program, and return the name by which its cases are found.

    Args:
        data: sequence of items, or object with a length and numbered items, such as a map-style data set of torch; or
            a mapping from roles to equally long lists.

    Raises:
        UserError: it is nothing of this kind, or an item cannot be used.
    """
    if isinstance(data, Mapping):
        columns = {name: list(column) for name, column in data.items() if isinstance(column, list | tuple)}
        if len(columns) != len(data) or len(lengths := {len(column) for column in columns.values()}) != 1:
            raise UserError(
                "data: a mapping gives a list for every role, all of one length; for a single case, give a list of one "
                "mapping: [{...}]"
            )
        data = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] if lengths else []
    if hasattr(data, "iloc"):
        raise UserError("data: give the rows of a table as mappings, as in table.to_dict('records')")
    if is_image(data) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise UserError(
            f"data: a {type(data).__name__} is neither a path nor a sequence of cases; give a list with a mapping from "
            "roles to values for each case, or an object with a length and numbered items"
        )
    held = MemoryDataset(data)
    _held[held.place.name] = held
    return held.place


def is_memory(place: Path) -> bool:
    """Return whether a path is the name of cases in memory."""
    return NAME.fullmatch(str(place)) is not None


def held_at(place: Path | None) -> MemoryDataset | None:
    """Return the data set that was handed over under a name; None where the name is that of a file or folder.

    Raises:
        UserError: the name is that of a data set which this process was not given.
    """
    if place is None or not is_memory(place):
        return None
    if place.name not in _held and not place.exists():
        raise UserError(
            f"{place.name}: the data were in the memory of a Python program; give them again, as in "
            "ganatomy.evaluate(RUN, data), or other images with --data"
        )
    return _held.get(place.name)


def cases_in_memory(dataset: MemoryDataset, task: Task, unit: str | None, resample_to: str | None) -> list[Case]:
    """Return the cases of a data set that a task can use.

    Args:
        dataset: data set that a program has handed over.
        task: task with the roles.
        unit: unit of images that state none.
        resample_to: role to whose grid the other images of a case are resampled; None where all must lie on one grid.

    Raises:
        UserError: no case has the roles that the task needs, or a name is nearly that of a role which is missing.
    """
    cases, lacking, owners = list[Case](), list[str](), dict[Path, str]()
    for index, entry in enumerate(dataset.entries):
        sources = dataset.sources(index, task.roles, task.given, unit)
        for name in entry.values:
            free = [role for role in task.roles if role not in sources]
            if name and name not in task.roles and (near := get_close_matches(name.lower(), free, n=1)):
                raise UserError(
                    f"{entry.name}: {name!r} is no role of {task.name}, whose roles are {', '.join(task.roles)}; "
                    f"is it meant to be {near[0]!r}?"
                )
        if task.usable(sources):
            first = task.given if task.given in sources else next(iter(sources))
            for image in sources[first].paths:
                if owners.setdefault(image.resolve(), entry.subject) != entry.subject:
                    raise UserError(
                        f"{entry.name}: {image} is an image of subject {owners[image.resolve()]!r}, too; an image "
                        "belongs to one subject, or the split by subject says nothing"
                    )
            about = (entry.name, entry.subject, entry.split, sources, entry.label, resample_to)
            cases.append(Case(*about, site=entry.site))
        else:
            lacking.append(entry.name)
    if not cases:
        one = dataset.entries[0]
        raise UserError(
            f"data: no case has the images that {task.name} needs: its roles are {', '.join(task.roles)}; "
            f"{one.name} has {some(one.values)}"
        )
    if lacking:
        told = f"{len(lacking)} of {len(dataset.entries)} cases lack images that {task.name} needs: {some(lacking)}"
        warnings.warn(told, LeftOut, stacklevel=2)
    return cases


def images_in_memory(dataset: MemoryDataset) -> list[str]:
    """Return the roles of the first item that are images and no label maps, in order."""
    found = []
    for name, value in dataset.entries[0].values.items():
        image = dataset.value(0, name) if not isinstance(value, Text) else None
        if isinstance(value, Text) and Path(value).exists():
            image = only_source(Path(value)).open()
        if isinstance(image, Image) and not is_label_map(image) and name:
            found.append(name)
    return found
