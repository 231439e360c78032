"""Data that a system learns from, in words: its roles, layouts of folders that fit, and a manifest that would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ganatomy.case import Role, Task
from ganatomy.data.found import images_of, needed_images
from ganatomy.errors import either

KINDS = {"labels": "label map", "class": "class, a word or a number", "points": "points", "pose": "positions"}
"""Kind of a role to its words; other kinds are called by their names."""
ANNOTATED = ("class", "points")
"""Kinds that people annotate. Where such a role is optional, single cases may lack it, but not all training cases."""


class Wanted(NamedTuple):
    """A role of a system in words."""

    name: str
    """Name, which is the column of a manifest."""
    what: str
    """Kind, with unit and channels of images and regions of label maps."""
    needed: str
    """Whether a case needs it."""


def wanted(task: Task) -> list[Wanted]:
    """Return the roles of a task in words, those that a case needs first."""
    rows = [Wanted(name, _what(role), _needed(task, name, role)) for name, role in task.roles.items()]
    return sorted(rows, key=lambda row: row.needed.startswith("no"))


def _what(role: Role) -> str:
    told = KINDS.get(role.kind, role.kind)
    if role.is_label_map and role.segments:
        return f"{told} with {', '.join(f'{label} {name}' for label, name in role.segments.items())}"
    if role.has_intensities and role.kind == "image":
        unit = role.codec.unit if role.codec else None
        colours = ", colour" if role.channels == 3 else f", {role.channels} channels" if role.channels > 1 else ""
        return f"{told}{colours}" + (f", in {unit}" if unit == "HU" else "")
    return told


def _needed(task: Task, name: str, role: Role) -> str:
    needed = needed_images(task)
    if any(name in group for group in task.groups):
        others = [" and ".join(group) for group in task.groups]
        return f"{' or '.join(others)}: a case may have one of them"
    if name in needed:
        return "yes"
    if role.optional:
        return "yes, for training; some cases may lack it" if role.kind in ANNOTATED else "no"
    if role.kind == "class":
        return "yes; without a manifest it is the name of the folder" if task.classes else "no"
    if name in getattr(task, "inputs", ()):
        return "yes"
    if role.is_label_map or role.kind in ANNOTATED:
        return "yes, for training"
    return "no: made from the others where it is absent"


def manifest_for(task: Task) -> list[str]:
    """Return the lines of a manifest for two subjects that a system could be trained on."""
    rows = [row for row in wanted(task) if not row.needed.startswith("no")]
    names = [row.name for row in rows]
    lines = [",".join(["subject", *names, "split"])]
    for subject, split in (("anna", "train"), ("ben", "test")):
        lines.append(",".join([subject, *(_example(task, name, subject) for name in names), split]))
    return lines


def _example(task: Task, name: str, subject: str) -> str:
    role = task.roles[name]
    if role.kind == "class":
        known: Sequence[str] = getattr(role, "classes", ()) or ("healthy",)
        # A role with a class for every slice has them all in one cell.
        return "|".join([*known, known[0]]) if getattr(role, "sliced", False) else known[0]
    suffix = role.suffixes[0] if role.suffixes else role.suffix or ".nii.gz"
    return f"{subject}/{name}{suffix}"


def layouts_for(task: Task) -> list[str]:
    """Return the layouts of folders and files that can be given for a system, one in each line."""
    needed, given, maps = needed_images(task), task.roles[task.given], task.label_maps
    if given.suffixes:
        return [f"a folder of {either(given.suffixes)} files, one case in each", "a CSV manifest"]
    several = [*needed, *maps[:1]] if len(needed) > 1 or (maps and not task.roles[maps[0]].optional) else []
    patterns = " ".join(f"{name}='*_{name}.nii.gz'" for name in several)
    lines = []
    if task.classes and not several:
        lines.append(f"a folder with a folder of images for each class ({', '.join(task.classes)})")
    elif not several and task.only_tested("of any name"):
        lines.append("a folder with the images in folders called by their class; it is trained on those of --normal")
    elif not several:
        lines.append(f"a folder of images, each of which is the {task.given}; its first folders are subjects")
    else:
        lines.append(f"a folder with the folders {', '.join(several)}, in which files of equal names are a case")
        called = ", ".join(f"{name}.nii.gz" for name in several)
        lines.append(f"a folder for each patient or visit, with files called {called}, or a folder of DICOM for each")
        lines.append(f"a folder with --roles {patterns}")
        series = " ".join(f"{name}='*{name.upper()}*'" for name in needed)
        lines.append(f"a folder of DICOM studies with --series {series}")
    if len(needed) == 2:
        lines.append(f"a folder with trainA ({needed[0]}) and trainB ({needed[1]})")
        lines.append(f"pictures with two images side by side, with --halves {needed[0]} {needed[1]}")
    lines.append("imagesTr and labelsTr (nnU-Net), BIDS, a MONAI datalist (.json)")
    if len(images_of(task)) == 1 or not several:
        lines[-1] += ", a MedMNIST archive (.npz)"
    return [*lines, "a CSV manifest with paths relative to it"]


def advice(task: Task) -> str:
    """Return the layouts that a system accepts and a manifest that would do, in several lines."""
    layouts = [f"  - {line}" for line in layouts_for(task)]
    manifest = [f"    {line}" for line in manifest_for(task)]
    return "\n".join(["What can be given to --data:", *layouts, *manifest])
