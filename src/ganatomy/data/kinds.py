"""Kinds of images by their names, headers and values: contrasts and modalities, and masks, which are no scans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ganatomy.errors import Shortage, UserError
from ganatomy.images.files import Source
from ganatomy.images.image import Image

CONTRASTS = frozenset(
    {"t1", "t1w", "t1c", "t1ce", "t1gd", "t1n", "t1km", "t1post", "t2", "t2w", "t2f", "t2s", "t2star", "flair", "pd"}
    | {"pdw", "dwi", "adc", "swi", "bold", "asl", "mra", "ktrans", "dce", "dsc", "ct", "cbct", "ldct", "pet", "spect"}
    | {"mr", "mri"}
)
"""Words for contrasts and modalities in names of files and descriptions of series."""
MASKS = frozenset(
    {"mask", "masks", "seg", "segm", "segmentation", "segmentations", "label", "labels", "labelmap", "labelmaps"}
    | {"labelstr", "labelsts", "gt", "groundtruth", "annotation", "annotations", "contour", "contours", "dseg"}
)
"""Words for masks and label maps in names of files and folders."""
SIDES = frozenset({"left", "right", "l", "r", "od", "os", "lt", "rt"})
OCCASIONS = frozenset(
    {"ses", "session", "visit", "timepoint", "tp", "baseline", "followup", "rescan", "repeat", "view", "slice", "frame"}
    | {"ed", "es"}
)
"""Words for an occasion, a view, a phase of the heart or a slice of one subject, which a number may follow."""
APART = frozenset(
    {"left", "right", "od", "os", "baseline", "followup", "pre", "post", "scan", "rescan", "image", "img"}
)
"""Names of images of one patient that are of the same kind."""
MOST_LABELS = 12
"""Largest number of different values with which an image of integers counts as a label map."""


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters."""
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def kinds_of(root: Path, sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Return images by kind where they are of several: by words for contrasts, else by names that folders share.

    Words are searched in names of files, then in those of folders. Other names, such as ``phase`` and ``magnitude``,
    are kinds where several folders hold a file of each of them.

    Args:
        root: folder of the data.
        sources: images below it.

    Returns:
        Kind to its images, at least two kinds; empty where there is one, or none that names tell.
    """
    found: dict[str, list[Source]] = {}
    for source in sources:
        if kind := _contrast(root, source):
            found.setdefault(kind, []).append(source)
    if len(found) > 1:
        return found
    if found:
        return {}
    shared: dict[str, dict[Path, Source]] = {}
    for source in sources:
        path = source.places[0]
        if source.kind != "dicom" and path.parent != root and (name := _own_name(path)):
            shared.setdefault(name, {}).setdefault(path.parent, source)
    kinds = {name: list(own.values()) for name, own in shared.items() if len(own) > 1}
    return kinds if len(kinds) > 1 else {}


def unlike_images(root: Path, subjects: Mapping[str, Sequence[Source]]) -> tuple[str, Source, Source] | None:
    """Return a subject with two images that are of different kinds by their names; None where there is none.

    Images of one kind may differ in numbers and in words for a side, an occasion or a view. Other words than those for
    contrasts are kinds where images of several subjects have them.

    Args:
        root: folder of the data.
        subjects: subject to its images.
    """
    shared: Counter[str] = Counter()
    for own in subjects.values():
        shared.update({_rest(source) for source in own})
    for subject, own in subjects.items():
        first: dict[str | None, Source] = {}
        for source in own:
            if source.frames:
                continue
            rest = _rest(source)
            kind = _contrast(root, source) or (rest if shared[rest] > 1 else None)
            first.setdefault(kind, source)
            if len(first) > 1 and any(first):
                one, other, *_ = first.values()
                return subject, one, other
    return None


def _rest(source: Source) -> str:
    """Return the words of a file's name, without numbers and words that tell images of one kind apart."""
    words = (re.sub(r"\d+", "", word) for word in words_of(source.places[0].name.partition(".")[0]))
    return " ".join(word for word in words if len(word) > 1 and word not in APART | SIDES | OCCASIONS)


def _contrast(root: Path, source: Source) -> str | None:
    """Return the word for the contrast or modality of an image; None where names and headers have none."""
    if source.frames:
        told = [word for word in words_of(source.frames[0].description or "") if word in CONTRASTS]
        modality = {"PT": "pet", "MR": None}.get(str(source.modality), str(source.modality).lower())
        return told[-1] if told and source.modality == "MR" else modality
    path = source.places[0]
    parts = path.relative_to(root).parts if path.is_relative_to(root) and path != root else (path.name,)
    for part in reversed(parts):
        told = [word for word in words_of(part) if word in CONTRASTS]
        if told:
            return told[-1]
    return None


def _own_name(path: Path) -> str | None:
    """Return what is in the name of a file besides that of its folder and numbers; None where that is no kind."""
    stem = path.name.partition(".")[0].lower().replace(path.parent.name.lower(), "")
    words = [word for word in re.split(r"[^a-z]+", stem) if word]
    return " ".join(words) if words and max(map(len, words)) > 1 and not set(words) & APART else None


def is_mask_by_name(root: Path, source: Source, folders: bool = True) -> bool:
    """Return whether the name of a file, or those of folders below the root, say that it is a mask.

    Args:
        root: folder of the data, whose own name says nothing.
        source: image below it.
        folders: whether names of folders count, which may be those of classes.
    """
    if source.modality == "SEG":
        return True
    path = source.places[0]
    parts = path.relative_to(root).parts if path.is_relative_to(root) and path != root else (path.name,)
    return any(word in MASKS for part in (parts if folders else parts[-1:]) for word in words_of(part))


def is_label_map(image: Image) -> bool:
    """Return whether an image has a few different values, all integers from 0, and no unit."""
    if image.channels > 1 or image.unit not in (None, "a.u."):
        return False
    middle = image.shape[0] // 2
    for values in (image.slab(middle, middle + 1), image.numpy()[..., ::2, ::2]):
        levels = np.unique(values)
        if len(levels) > MOST_LABELS or not (np.isfinite(levels).all() and (levels == np.rint(levels)).all()):
            return False
    return bool(len(levels) > 1 and levels[0] == 0)


def masks_by_value(sources: Sequence[Source], opened: Callable[[Source], Image] = Source.open) -> list[Source]:
    """Return the images that are label maps by their values.

    Of images whose names, and those of their folders, differ in numbers only, the first is opened, and the others only
    if that one is a label map.

    Args:
        sources: images; those that cannot be read are left to later steps.
        opened: function that opens an image.
    """

    def one(source: Source) -> bool:
        if source.kind in ("dicom", "kspace") or source.problem:
            return False
        try:
            return is_label_map(opened(source))
        except Shortage:
            raise
        except UserError:
            return False

    groups: dict[tuple[Path, str], list[Source]] = {}
    for source in sources:
        path = source.places[0]
        alike = re.sub(r"\d+", "0", f"{path.parent.name}/{path.name}")
        groups.setdefault((path.parent.parent, alike), []).append(source)
    found = {id(source) for own in groups.values() if one(own[0]) for source in own if source is own[0] or one(source)}
    return [source for source in sources if id(source) in found]


def suggested(kinds: Mapping[str, Sequence[Source]], images: Sequence[str]) -> str:
    """Return the option that assigns images of several kinds to roles, as it is typed.

    Args:
        kinds: kind to its images, from `kinds_of`.
        images: roles of images that a case needs.
    """
    series = any(source.frames for own in kinds.values() for source in own)
    pairs = list(zip(images, (role if role in kinds else None for role in images), strict=True))
    others = [kind for kind in kinds if kind not in images]
    parts = [f"{role}='{_pattern(kinds, kind or (others.pop(0) if others else next(iter(kinds))), series)}'"
             for role, kind in pairs]  # fmt: skip
    return f"--{'series' if series else 'roles'} {' '.join(parts)}"


def _pattern(kinds: Mapping[str, Sequence[Source]], kind: str, series: bool) -> str:
    """Return a pattern for one kind that fits none of another kind, such as ``*t1.*`` beside t1c."""
    if series:
        return f"*{kind}*"
    name = kinds[kind][0].places[0].name.lower()
    place = name.rfind(kind)
    if place < 0:
        return f"*{kind}*/*" if len(kind.split()) == 1 else f"*{kind.replace(' ', '*')}*"
    before = "_" if place and name[place - 1] == "_" else ""
    after = name[place + len(kind) : place + len(kind) + 1]
    return f"*{before}{kind}{after if after in ('.', '_', '-') else ''}*"
