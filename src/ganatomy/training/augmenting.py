"""The decision whether random changes are added to the training images of a run, and which ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ganatomy.errors import UserError
from ganatomy.game import Method, Stage, Stream
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.inference.runfile import Augment

FEW = 30
"""Number of training subjects below which random changes are added where a source says nothing (our choice)."""


class Added(NamedTuple):
    """Random changes that are added to training images."""

    changes: Augmentation | None
    """Changes; None where nothing is added."""
    told: str
    """Sentence without a full stop that names the changes, or the reason why there are none."""


def check_wish(method: Method, wish: Augment) -> None:
    """Refuse augmentation where a task has none.

    Raises:
        UserError: it is wanted always, but no change would leave the cases of the task true.
    """
    changes = method.task.changes()
    if wish == "always" and not (changes.allowed.moves or changes.allowed.varies):
        raise UserError(f"--augment always: nothing can be changed here, because {changes.because}; leave it out")


def added(method: Method, wish: Augment, subjects: int, own: bool) -> Added:
    """Return the random changes that are added to the training images of a run.

    Without being asked for, changes are added where the source of the system says nothing about such changes, and the
    user's own data have few training subjects.

    Args:
        method: method to train.
        wish: whether they are added.
        subjects: number of training subjects.
        own: whether the images are the user's and not phantoms.
    """
    changes, stated = method.task.changes(), method.stated_augmentation
    if wish == "none":
        return Added(None, "no augmentation is added, as asked for")
    if has_own(method):
        return Added(None, "augmentation is that of the options of the system; none is added")
    if wish == "always":
        beside = " beside what the source of the system states" if stated else ""
        return Added(changes.allowed, f"augmentation is added{beside}, as asked for: {changes.allowed.told}")
    if not own:
        return Added(None, "no augmentation is added: images are phantoms")
    if subjects >= FEW:
        return Added(None, f"no augmentation is added: {subjects} training subjects, and {FEW} are enough")
    usual = usual_changes(method)
    if usual.moves or usual.varies:
        few = f"{subjects} training subjects are few, and the source of the system is silent on it"
        return Added(usual, f"augmentation is added, since {few} (--augment none leaves it out): {usual.told}")
    if changes.usual and (changes.allowed.moves or changes.allowed.varies):
        return Added(None, f"no augmentation is added: the source of the system states its own ({stated})")
    return Added(None, f"no augmentation is added: {changes.because}")


def usual_changes(method: Method) -> Augmentation:
    """Return the changes that are added to few images without being asked for: none where its source states some."""
    changes: Changes = method.task.changes()
    return changes.allowed if changes.usual and method.stated_augmentation is None else Augmentation()


def with_changes(stage: Stage, roles: Sequence[str], changes: Augmentation | None) -> list[Stream]:
    """Return the streams of a stage with random changes of their patches.

    Args:
        stage: stage to train.
        roles: roles of streams that name none.
        changes: added changes; None where there are none.
    """
    if changes is None:
        return list(stage.streams_in_order)
    return [
        replace(stream, augmentation=changes.among(roles if stream.roles is None else stream.roles))
        for stream in stage.streams_in_order
    ]


def has_own(method: Method) -> bool:
    """Whether options of a system change its patches, so that nothing is added."""
    own = [stream.augmentation for stage in method.stages() for stream in stage.streams_in_order]
    return any(one is not None and (one.moves or one.varies) for one in own)
