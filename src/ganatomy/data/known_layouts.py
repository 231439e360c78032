"""Folders laid out as widely used tools expect them, whose images are assigned to roles by the names of the folders.

- ``imagesTr`` and ``labelsTr``, with ``dataset.json``: the Medical Segmentation Decathlon and nnU-Net, whose images of
  several channels end in ``_0000``, ``_0001``, ...; ``imagesTs`` and ``labelsTs`` are for testing.
- ``trainA`` and ``trainB``, optionally ``valA``, ``valB``, ``testA``, ``testB``: CycleGAN and pix2pix; A is the first
  image of the system, B the second.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ganatomy.case import Case, Split, Task
from ganatomy.errors import Notice, UserError, shortage
from ganatomy.images.files import Source
from ganatomy.images.paths import distinct_names

Find = Callable[[Path], list[Source]]
"""Function that lists the images below a folder."""

CHANNEL = re.compile(r"(.+)_(\d{4})")
DATASET = "dataset.json"
SIDES: Mapping[Split, str] = {"train": "Tr", "test": "Ts"}


def cases_of_layout(task: Task, folder: Path, find: Find, resample_to: str | None) -> list[Case] | None:
    """Return the cases of a folder with a known layout, with the sides of its split; None for another folder.

    Args:
        task: task, whose roles the images are assigned to.
        folder: folder.
        find: function that lists the images below a folder.
        resample_to: role to whose grid images are resampled.

    Raises:
        UserError: images and roles do not fit together.
    """
    if (folder / "imagesTr").is_dir():
        found = _channels_and_labels(task, folder, find)
    elif (folder / "trainA").is_dir() and (folder / "trainB").is_dir():
        found = _two_folders(task, folder, find)
    else:
        return None
    usable = [(name, split, sources) for name, split, sources in found if task.usable(sources)]
    if not usable:
        raise UserError(f"{folder}: no case has all roles, which are {', '.join(task.required)}")
    names = distinct_names([name for name, _, _ in usable], [f"{split}/{name}" for name, split, _ in usable])
    return [
        Case(
            name,
            name,
            split,
            {role: task.roles[role].adopt(source) for role, source in sources.items()},
            None,
            resample_to,
        )
        for name, (_, split, sources) in zip(names, usable, strict=True)
    ]


def channels_of_layout(folder: Path) -> list[str]:
    """Return the names of the channels in ``dataset.json`` as names of roles, in order; none without such a file.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / DATASET
    if not path.is_file() or not (folder / "imagesTr").is_dir():
        return []
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        told = plain.get("channel_names") or plain.get("modality") or {}
        names = [str(told[key]) for key in sorted(told, key=int)]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise shortage(error, path) or UserError(
            f"{path}: cannot be read as the description of a data set ({error}); repair or remove it"
        ) from None
    # A name of a role is a word: T1-w (3D) becomes t1_w_3d.
    return [re.sub(r"\W+", "_", name).strip("_").lower() for name in names]


def _channels_and_labels(task: Task, folder: Path, find: Find) -> list[tuple[str, Split, dict[str, Source]]]:
    """Return name, side and sources of the cases of ``imagesTr``, ``labelsTr``, ``imagesTs`` and ``labelsTs``."""
    found: list[tuple[str, Split, dict[str, Source]]] = []
    roles: list[str] | None = None
    for split, mark in SIDES.items():
        if not (folder / f"images{mark}").is_dir():
            continue
        images = _by_channel(find(folder / f"images{mark}"))
        labels = _by_stem(find(folder / f"labels{mark}")) if (folder / f"labels{mark}").is_dir() else {}
        if split == "test" and not labels:
            told = f"{folder / 'imagesTs'}: {len(images)} images without labels are not used"
            warnings.warn(told, Notice, stacklevel=2)
            continue
        if roles is None:
            roles = _roles_of(task, folder, max(len(channels) for channels in images.values()))
        for name, channels in images.items():
            sources = dict(zip(roles, channels, strict=False))
            if name in labels and task.label_maps:
                sources[task.label_maps[0]] = labels[name]
            found.append((name, split, sources))
    return found


def _by_stem(sources: Sequence[Source]) -> dict[str, Source]:
    """Return images by the name of their file without suffix.

    Raises:
        UserError: two files have one name.
    """
    found: dict[str, Source] = {}
    for source in sources:
        other = found.setdefault(_stem(source), source)
        if other is not source:
            raise UserError(f"{other.paths[0]} and {source.paths[0]}: two images of one name; remove or rename one")
    return found


def _by_channel(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Return name to its channels in order; a file without number is the only one of its name."""
    found: dict[str, list[tuple[str, Source]]] = {}
    for source in sources:
        match = CHANNEL.fullmatch(_stem(source))
        name, number = match.groups() if match else (_stem(source), "")
        found.setdefault(name, []).append((number, source))
    return {name: [source for _, source in sorted(one, key=lambda item: item[0])] for name, one in found.items()}


def _stem(source: Source) -> str:
    return source.paths[0].name.removesuffix(".gz").rpartition(".")[0] or source.paths[0].name


def _roles_of(task: Task, folder: Path, count: int) -> list[str]:
    """Return the roles of the channels: those of their names, else all images of the system in order.

    Raises:
        UserError: the system has another number of images.
    """
    names, images = channels_of_layout(folder), [name for name, role in task.roles.items() if role.has_intensities]
    if len(names) == count and set(names) <= set(images):
        return names
    if count == len(images) or (count == 1 and task.given in images):
        return images if count == len(images) else [task.given]
    told = f" ({', '.join(names)})" if names else ""
    raise UserError(
        f"{folder / 'imagesTr'}: {count} channels{told}, but the images of this system are {', '.join(images)}; name "
        "its images after the channels, or give --roles NAME=PATTERN"
    )


def _two_folders(task: Task, folder: Path, find: Find) -> list[tuple[str, Split, dict[str, Source]]]:
    """Return name, side and sources of the cases of ``trainA``, ``trainB`` and so on; equal names are pairs."""
    images = [name for name, role in task.roles.items() if role.has_intensities]
    if len(images) != 2:
        raise UserError(f"{folder / 'trainA'}: two kinds of images, but this system has {', '.join(images)}")
    found: dict[tuple[str, Split], dict[str, Source]] = {}
    sides: tuple[Split, ...] = ("train", "val", "test")
    for split in sides:
        for role, letter in zip(images, "AB", strict=True):
            if (folder / f"{split}{letter}").is_dir():
                for stem, source in _by_stem(find(folder / f"{split}{letter}")).items():
                    # Pictures of pairs are often called 7_A.png and 7_B.png.
                    name = stem.removesuffix(f"_{letter}")
                    found.setdefault((name, split), {})[role] = source
    return [(name, split, sources) for (name, split), sources in found.items()]
