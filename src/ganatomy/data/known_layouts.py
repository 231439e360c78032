"""Folders and lists laid out as widely used tools expect them, whose images are assigned to roles by their names.

- ``imagesTr`` and ``labelsTr``, with ``dataset.json``: the Medical Segmentation Decathlon and nnU-Net, whose images of
  several channels end in ``_0000``, ``_0001``, ...; ``imagesTs`` and ``labelsTs`` are for testing.
- ``trainA`` and ``trainB``, optionally ``valA``, ``valB``, ``testA``, ``testB``: CycleGAN and pix2pix; A is the first
  image of the system, B the second.
- ``train``, optionally ``val`` and ``test``, with pictures twice as wide as high: pairs of pix2pix, side by side.
- ``sub-*``: the Brain Imaging Data Structure, see `ganatomy.data.bids`.
- ``datalist.json``, ``dataset.json``, or a list of another name: MONAI, see `ganatomy.data.datalists`.
- an ``.npz`` with ``train_images`` and ``train_labels``: MedMNIST.
- a folder for each patient or visit, with files or folders of series called by the roles, such as ``ct.nii.gz`` and
  ``pet.nii.gz``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from zipfile import ZipFile

from ganatomy.case import Case, Openable, Split, Task
from ganatomy.data.bids import cases_of_bids, is_bids
from ganatomy.data.datalists import NAMES, cases_of_datalist, read_datalist
from ganatomy.data.found import Find, Found, Unfit, cases_of, images_of, needed_images, roles_of_channels, tell
from ganatomy.data.parts import HALVES, Half, Picture, array_of
from ganatomy.data.parts import SIDES as MEDMNIST_SIDES
from ganatomy.data.splits import some
from ganatomy.data.subjects import subject_of_name, subject_of_place
from ganatomy.errors import Shortage, UserError, shortage
from ganatomy.images.files import Source, place_of
from ganatomy.images.image import RasterMeaning
from ganatomy.images.parsing import parsing

CHANNEL = re.compile(r"(.+)_(\d{4})")
DATASET = "dataset.json"
SIDES: dict[Split, str] = {"train": "Tr", "test": "Ts"}
SPLITS: tuple[Split, ...] = ("train", "val", "test")
LOOKED_AT = 20
"""Number of pictures by whose shape pairs side by side are recognised."""


class Reading(Protocol):
    """Options of a data set that layouts depend on, see `ganatomy.data.cases.DataConfig`."""

    @property
    def resample_to(self) -> str | None:
        """Role to whose grid images are resampled."""

    @property
    def halves(self) -> tuple[str, str] | None:
        """Roles of the left and the right half of pictures that hold two images."""

    @property
    def held_out_fold(self) -> int | None:
        """Fold of a list that is held out."""

    @property
    def meaning(self) -> RasterMeaning:
        """Physical values of the numbers in files."""


def cases_of_layout(task: Task, place: Path, find: Find, reading: Reading) -> list[Case] | None:
    """Return the cases of a folder or file with a known layout, with the sides of its split; None for another one.

    Args:
        task: task, whose roles the images are assigned to.
        place: folder or file.
        find: function that lists the images below a folder.
        reading: options of the data set.

    Raises:
        UserError: images and roles do not fit together, or a list or an archive is damaged.
    """
    found = _found(task, place, find, reading)
    return None if found is None else cases_of(found, task, place, reading.resample_to)


def _found(task: Task, place: Path, find: Find, reading: Reading) -> list[Found] | None:
    if not place.is_dir():
        if place.suffix.lower() == ".json":
            return _datalist(task, place, find, reading, needed=True)
        if place.suffix.lower() == ".npz" and is_medmnist(place):
            return _medmnist(task, place, reading.meaning)
        return _side_by_side(task, place, find, reading) if reading.halves else None
    if reading.halves:
        return _side_by_side(task, place, find, reading)
    if (place / "imagesTr").is_dir():
        return _channels_and_labels(task, place, find)
    if (place / "trainA").is_dir() and (place / "trainB").is_dir():
        return _two_folders(task, place, find)
    if is_bids(place):
        return cases_of_bids(task, place, find)
    for name in NAMES:
        if (place / name).is_file() and (listed := _datalist(task, place / name, find, reading)) is not None:
            return listed
    archives = [path for path in sorted(place.glob("*.npz")) if is_medmnist(path)]
    if len(archives) > 1:
        raise UserError(f"{place}: several MedMNIST archives: {some(path.name for path in archives)}; give one of them")
    if archives:
        return _medmnist(task, archives[0], reading.meaning)
    if called := _called_by_roles(task, place, find):
        return called
    return _side_by_side(task, place, find, reading) if _is_side_by_side(task, place, find) else None


def _datalist(task: Task, path: Path, find: Find, reading: Reading, needed: bool = False) -> list[Found] | None:
    """Return the cases of a list in JSON; None where it is none, unless one is needed."""
    plain = read_datalist(path)
    if plain is None:
        if needed:
            raise Unfit(f"{path}: no list of cases, which has the entries of training under the key training")
        return None

    def read(place: Path) -> Source:
        sources = find(place)
        if len(sources) != 1:
            raise UserError(f"{path}: {place} holds {len(sources)} images; name one of them")
        return sources[0]

    return cases_of_datalist(task, path, plain, read, reading.held_out_fold)


def is_medmnist(path: Path) -> bool:
    """Return whether a file is an archive of NumPy arrays with images and labels for training, as MedMNIST has them."""
    try:
        with parsing(path, "arrays of NumPy"), ZipFile(path) as archive:
            names = set(archive.namelist())
    except Shortage:
        raise
    except UserError:
        return False
    return {"train_images.npy", "train_labels.npy"} <= names


def _medmnist(task: Task, path: Path, meaning: RasterMeaning) -> list[Found]:
    """Return the images of an archive on the sides of its split, with their classes as words; each is a subject."""
    if not task.usable([task.given]) or task.given not in images_of(task):
        raise Unfit(f"{path}: one image for each case, but this system needs {', '.join(task.required)}")
    found, unlabelled = [], []
    for name, side in zip(MEDMNIST_SIDES, SPLITS, strict=True):
        if name != "train" and not _has(path, f"{name}_images"):
            continue
        images, labels = array_of(path, f"{name}_images").shape, array_of(path, f"{name}_labels")
        if len(images) < 3 or labels.shape[:1] != images[:1]:
            raise UserError(f"{path}: {name}_images of shape {images} and {name}_labels of shape {labels.shape}")
        rows = labels.reshape(len(labels), -1)
        single = rows.shape[1] == 1 and rows.dtype.kind in "iub"
        unlabelled += [] if single else [f"{name}_labels of shape {labels.shape}"]
        for number in range(images[0]):
            label = str(int(rows[number, 0])) if single else None
            title = f"{path.stem}_{name}_{number}"
            found.append(Found(title, title, side, {task.given: Picture(path, name, number, meaning)}, label, True))
    tell(path, f"no class is known where an image has several labels: {some(unlabelled)}", unlabelled)
    return found


def _has(path: Path, name: str) -> bool:
    with parsing(path, "arrays of NumPy"), ZipFile(path) as archive:
        return f"{name}.npy" in archive.namelist()


def _is_side_by_side(task: Task, folder: Path, find: Find) -> bool:
    """Return whether a folder holds pictures for training that are twice as wide as high, for a system of two images.

    Pairs are recognised only in folders called ``train``, and only where the first pictures all have this shape.
    """
    train = folder / "train"
    if len(needed_images(task)) != 2 or not train.is_dir():
        return False
    try:
        shapes = [source.open().shape for source in find(train)[:LOOKED_AT] if source.kind == "raster"]
    except Shortage:
        raise
    except UserError:
        return False
    return bool(shapes) and all(slices == 1 and columns == 2 * rows for slices, rows, columns in shapes)


def _side_by_side(task: Task, place: Path, find: Find, reading: Reading) -> list[Found]:
    """Return the cases of pictures whose left and right halves are two images."""
    given, images, needed = reading.halves, images_of(task), needed_images(task)
    if given and (unknown := [name for name in given if name not in images]):
        raise UserError(f"--halves {' '.join(given)}: there is no image {unknown[0]}; there are {', '.join(images)}")
    if given and given[0] == given[1]:
        raise UserError(f"--halves {' '.join(given)}: the halves are different images; give two roles")
    left, right = given or (needed[0], needed[1])
    tell(place, f"pictures hold two images side by side: the left half is {left}, the right half {right} "
         f"(--halves {right} {left} exchanges them)", () if given else (place,))  # fmt: skip
    sides = [side for side in SPLITS if (place / side).is_dir()]
    parts: list[tuple[Path, Split]] = [(place / side, side) for side in sides] or [(place, "train")]
    found = []
    for folder, side in parts:
        for source in find(folder):
            below = place_of(folder if folder.is_dir() else folder.parent, source.places[0])
            halves: dict[str, Openable] = {
                role: Half(source, half) for role, half in zip((left, right), HALVES, strict=True)
            }
            found.append(Found(below.replace("/", "_"), subject_of_place(below), side, halves))
    return found


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


def _channels_and_labels(task: Task, folder: Path, find: Find) -> list[Found]:
    """Return name, side and sources of the cases of ``imagesTr``, ``labelsTr``, ``imagesTs`` and ``labelsTs``."""
    found: list[Found] = []
    roles: list[str] | None = None
    for split, mark in SIDES.items():
        if not (folder / f"images{mark}").is_dir():
            continue
        images = _by_channel(find(folder / f"images{mark}"))
        labels = _by_stem(find(folder / f"labels{mark}")) if (folder / f"labels{mark}").is_dir() else {}
        if split == "test" and not labels:
            tell(folder / "imagesTs", f"{len(images)} images without labels are not used", images)
            continue
        if roles is None:
            count = max(len(channels) for channels in images.values())
            roles = roles_of_channels(task, count, channels_of_layout(folder), folder / "imagesTr")
        for name, channels in images.items():
            sources: dict[str, Openable] = dict(zip(roles, channels, strict=False))
            if name in labels and task.label_maps:
                sources[task.label_maps[0]] = labels[name]
            found.append(Found(name, subject_of_name(name), split, sources))
    return found


def _called_by_roles(task: Task, folder: Path, find: Find) -> list[Found]:
    """Return the cases of folders whose files, or folders of one series each, are called by the roles of a task.

    There is none where the task has a single role, or where no folder has all images that a case needs.
    """
    roles = {name.lower(): name for name in (*images_of(task), *task.label_maps)}
    if len(roles) < 2:
        return []
    cases: dict[Path, dict[str, Source]] = {}
    others: list[Source] = []
    sources = find(folder)
    in_folder = Counter(source.places[0].parent for source in sources)
    for source in sources:
        place = source.places[0]
        word, above = _stem(source).lower(), place.parent
        if word not in roles and in_folder[above] == 1:
            word, above = above.name.lower(), above.parent
        own = cases.setdefault(above, {}) if word in roles and folder in (above, *above.parents) else None
        if own is None or roles[word] in own:
            others.append(source)
        else:
            own[roles[word]] = source
    groups = task.groups or (needed_images(task),)
    if not any(set(group) <= set(own) for own in cases.values() for group in groups):
        return []
    if others:
        tell(folder, f"{len(others)} images are left out: no role is called as they are", [one.name for one in others])
    found = []
    for above, own in cases.items():
        below = above.relative_to(folder).as_posix() if above != folder else above.name
        patient = next((one.frames[0].patient for one in own.values() if one.frames), None)
        found.append(Found(below.replace("/", "_"), patient or subject_of_place(f"{below}/"), "train", dict(own)))
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
            raise UserError(f"{other.places[0]} and {source.places[0]}: two images of one name; remove or rename one")
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
    return source.places[0].name.removesuffix(".gz").rpartition(".")[0] or source.places[0].name


def _two_folders(task: Task, folder: Path, find: Find) -> list[Found]:
    """Return name, side and sources of the cases of ``trainA``, ``trainB`` and so on; equal names are pairs."""
    images = images_of(task)
    if len(images) != 2:
        raise Unfit(f"{folder / 'trainA'}: two kinds of images, but this system has {', '.join(images)}")
    found: dict[tuple[str, Split], dict[str, Source]] = {}
    for split in SPLITS:
        for role, letter in zip(images, "AB", strict=True):
            if (folder / f"{split}{letter}").is_dir():
                for stem, source in _by_stem(find(folder / f"{split}{letter}")).items():
                    # Pictures of pairs are often called 7_A.png and 7_B.png.
                    name = stem.removesuffix(f"_{letter}")
                    found.setdefault((name, split), {})[role] = source
    return [Found(name, subject_of_name(name), split, sources) for (name, split), sources in found.items()]
