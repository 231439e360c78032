"""Lists of cases in JSON as MONAI and the Medical Segmentation Decathlon write them, with a key for each side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ganatomy.case import Openable, Split, Task
from ganatomy.data.found import Found, Unfit, roles_of_channels, tell
from ganatomy.data.splits import some
from ganatomy.data.subjects import subject_of_place
from ganatomy.data.tables import LABEL_COLUMNS, SUBJECT_COLUMNS
from ganatomy.errors import UserError
from ganatomy.images.files import Source, place_of
from ganatomy.images.parsing import exists, parsing

SIDES: Mapping[str, Split] = {
    "training": "train", "train": "train", "validation": "val", "val": "val", "testing": "test", "test": "test",
}  # fmt: skip
NAMES = ("datalist.json", "dataset.json")
"""Names of lists that are looked for in a folder."""
LARGEST = 256 << 20
SUBJECTS = (*SUBJECT_COLUMNS, "participant_id")


def read_datalist(path: Path) -> dict[str, Any] | None:
    """Return the content of a list; None where a JSON file is none, as it has no list of cases under ``training``.

    Raises:
        UserError: the file is damaged or too large.
    """
    with parsing(path, "a list of cases in JSON"):
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST >> 20} MiB, which no list of cases is")
        plain = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(plain, dict):
        return None
    return plain if any(isinstance(plain.get(key), list) and plain[key] for key in ("training", "train")) else None


def cases_of_datalist(
    task: Task, path: Path, plain: Mapping[str, Any], read: Callable[[Path], Source], held_out: int | None
) -> list[Found]:
    """Return the cases of a list; paths are relative to it.

    ``image`` is one path, or several that are the images of the system in order; ``label`` is the path of a label map,
    or a class. A key that is the name of a role stands for that role.

    Args:
        task: task, whose roles the images are assigned to.
        path: the list.
        plain: its content.
        read: function that returns the one image of a path.
        held_out: fold that is held out where the cases have folds; None means 0.

    Raises:
        UserError: an entry or a path is wrong; the message names it.
    """
    entries = [(key, number, one) for key in SIDES for number, one in enumerate(_list(path, plain, key))]
    folds = sorted({one["fold"] for _, _, one in entries if isinstance(one, dict) and _is_number(one.get("fold"))})
    fold = held_out if held_out is not None else 0
    if held_out is not None and held_out not in folds:
        raise UserError(f"--held-out-fold {held_out}: the cases of {path} have the folds {folds or 'none'}")
    reader = _Reader(task, path, read)
    found = [reader.case(key, number, one) for key, number, one in entries]
    needs_map = bool(task.label_maps) and not task.roles[task.label_maps[0]].optional
    bare = [one for one in found if needs_map and task.label_maps[0] not in one.sources and one.split != "train"]
    tell(path, f"{len(bare)} images without label are not used: {some(one.name for one in bare)}", bare)
    kept = [(one, entry) for one, (_, _, entry) in zip(found, entries, strict=True) if one not in bare]
    tell(path, f"not used of its entries: {some(sorted(reader.unused))}", reader.unused)
    if not folds:
        return [one for one, _ in kept]
    side: Split = "val" if any(one.split == "test" for one, _ in kept) else "test"
    tell(path, f"fold {fold} of {folds} is for {'validation' if side == 'val' else 'testing'} (--held-out-fold)", folds)
    return [
        one._replace(split=side) if one.split == "train" and isinstance(entry, dict) and entry.get("fold") == fold
        else one for one, entry in kept
    ]  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list(path: Path, plain: Mapping[str, Any], key: str) -> list[Any]:
    entries = plain.get(key, [])
    if not isinstance(entries, list):
        raise UserError(f"{path}: {key} is no list of cases")
    return entries


class _Reader:
    """Reader of the entries of one list."""

    def __init__(self, task: Task, path: Path, read: Callable[[Path], Source]) -> None:
        self.task, self.path, self.read = task, path, read
        self.unused: set[str] = set()

    def case(self, key: str, number: int, entry: Any) -> Found:
        """Return the case of an entry, which is a dictionary, or the path of an image."""
        where, task = f"{self.path}: {key}[{number}]", self.task
        one = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(one, dict):
            raise UserError(f"{where} is no dictionary with image and label")
        sources: dict[str, Openable] = {}
        label: str | None = None
        for name, value in one.items():
            if name in task.roles and isinstance(value, str) and name not in LABEL_COLUMNS:
                sources[name] = self._read(where, name, value)
            elif name == "image":
                sources |= self._images(where, value)
            elif name in LABEL_COLUMNS:
                if isinstance(value, str) and exists(self.path.parent / value):
                    if task.label_maps:
                        sources[task.label_maps[0]] = self._read(where, name, value)
                    else:
                        self.unused.add(name)
                elif isinstance(value, str | int):
                    if task.label_maps and isinstance(value, str) and ("/" in value or "." in value):
                        raise UserError(f"{where} {name}: {value} does not exist; paths are relative to the list")
                    label = str(value)
                else:
                    raise UserError(f"{where} {name}: give a path, a class or a number, not {str(value)[:40]}")
            elif name not in ("fold", *SUBJECTS):
                self.unused.add(str(name))
        if not sources:
            raise Unfit(f"{where} has no image; there are {some(map(str, one))}")
        first = next(iter(sources.values())).paths[0]
        root = self.path.resolve().parent
        inside = first.resolve().is_relative_to(root)
        place = place_of(root, first.resolve()) if inside else place_of(first.parent, first)
        stated = next((str(one[name]) for name in SUBJECTS if isinstance(one.get(name), str | int)), None)
        subject = stated or subject_of_place(place, bool(task.classes))
        return Found(place.replace("/", "_"), subject, SIDES[key], sources, label, stated is not None)

    def _images(self, where: str, value: Any) -> dict[str, Openable]:
        paths = [value] if isinstance(value, str) else value
        if not isinstance(paths, list) or not paths or not all(isinstance(one, str) for one in paths):
            raise UserError(f"{where} image: give a path or a list of paths")
        roles = roles_of_channels(self.task, len(paths), [], where)
        return {role: self._read(where, "image", one) for role, one in zip(roles, paths, strict=True)}

    def _read(self, where: str, name: str, text: str) -> Source:
        place = self.path.parent / text
        if not text or "\0" in text or not exists(place):
            raise UserError(f"{where} {name}: {text!r} does not exist; paths are relative to the list")
        if place.is_dir() and self.path.resolve().is_relative_to(place.resolve()):
            raise UserError(f"{where} {name}: {text!r} is a folder that holds the list; name an image or its series")
        return self.read(place)
