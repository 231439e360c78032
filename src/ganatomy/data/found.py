"""Cases as a known layout of folders or a list of another tool describes them, before they are cases of a task."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ganatomy.case import Case, Openable, Split, Task
from ganatomy.data.splits import some
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import Source
from ganatomy.images.paths import distinct_names

Find = Callable[[Path], list[Source]]
"""Function that lists the images below a folder."""


class Unfit(UserError):
    """Images that cannot be assigned to the roles of a system; the layouts that can be are told beside the message."""


class Found(NamedTuple):
    """A case of a known layout."""

    name: str
    """Name of the case, which another case may have, too."""
    subject: str
    """Subject, as far as names or lists tell."""
    split: Split
    """Side of the split."""
    sources: Mapping[str, Openable]
    """Role to source."""
    label: str | None = None
    """Class of the case."""
    stated: bool = False
    """Whether the subject is stated by a list or by the layout, and not taken from a name."""
    site: str | None = None
    """Site where it was recorded, as a list names it."""


def cases_of(found: Sequence[Found], task: Task, where: object, resample_to: str | None) -> list[Case]:
    """Return the cases of a layout that have the roles which the task needs.

    Names of files that occur on several sides of a published split, such as ``trainA/1.png`` and ``testA/1.png``, are
    of different subjects, unless a list states the subject.

    Args:
        found: cases of the layout.
        task: task, whose roles the images are assigned to.
        where: folder or file for messages.
        resample_to: role to whose grid images are resampled.

    Raises:
        Unfit: no case has the roles that the task needs.
    """
    usable = [one for one in found if task.usable(one.sources)]
    if not usable:
        raise Unfit(f"{where}: no case has all roles, which are {', '.join(task.required)}")
    lacking = [one.name for one in found if not task.usable(one.sources)]
    tell(where, f"{len(lacking)} cases are left out, since they lack images: {some(lacking)}", lacking)
    names = distinct_names([one.name for one in usable], [_origin(one) for one in usable])
    sides: dict[str, set[str]] = {}
    for one in usable:
        sides.setdefault(one.subject, set()).add(one.split)
    apart = [one for one in usable if len(sides[one.subject]) > 1 and not one.stated]
    return [
        Case(
            name,
            f"{one.split} {one.subject}" if one in apart else one.subject,
            one.split,
            {
                role: task.roles[role].adopt(source) if isinstance(source, Source) else source
                for role, source in one.sources.items()
            },
            one.label,
            resample_to,
            site=one.site,
        )
        for name, one in zip(names, usable, strict=True)
    ]


def _origin(one: Found) -> str:
    """Return a text in which two cases differ: side, name and files."""
    places = [str(path) + str(getattr(source, "place", "")) for source in one.sources.values() for path in source.paths]
    return "|".join([one.split, one.name, *places])


def images_of(task: Task) -> list[str]:
    """Return the names of the roles of a task that are intensity images."""
    return [name for name, role in task.roles.items() if role.has_intensities]


def needed_images(task: Task) -> list[str]:
    """Return the names of the images that a case must have, or of which it must have one where they are unpaired.

    Images that the task simulates or derives from others are not among them, as its phantom does not draw them.
    """
    if task.groups:
        named = [role for group in task.groups for role in group]
    else:
        drawn = task.phantom_parts(None)
        named = [role for role in task.required if role in drawn]
    return [role for role in named if task.roles[role].has_intensities] or [task.given]


def roles_of_channels(task: Task, count: int, names: Sequence[str], where: object) -> list[str]:
    """Return the roles of several images of a case: those of their names, else all images of the system in order.

    Args:
        task: task with the roles.
        count: number of images.
        names: names of the images, as far as they are known.
        where: folder or file for messages.

    Raises:
        Unfit: the system has another number of images.
    """
    images = images_of(task)
    if len(names) == count and set(names) <= set(images):
        return list(names)
    if count == len(images) or (count == 1 and task.given in images):
        return images if count == len(images) else [task.given]
    told = f" ({', '.join(names)})" if names else ""
    raise Unfit(
        f"{where}: {count} channels{told}, but the images of this system are {', '.join(images)}; name "
        "its images after the channels, or give --roles NAME=PATTERN"
    )


def tell(where: object, sentence: str, what: Collection[object] = ()) -> None:
    """Tell the user about something in a layout, unless nothing is concerned by it."""
    if what:
        warnings.warn(f"{where}: {sentence}", Notice, stacklevel=2)
