"""Learning from the annotations of a share of the training subjects, as studies of label efficiency do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from ganatomy.case import Sample, Task
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.inference.predictor import predictor_of


def learned_roles(method: Method) -> tuple[str, ...]:
    """Roles that a method learns to make and that its training draws: the annotations, or the images to be made."""
    required = method.task.required
    streams = [stream for stage in method.stages() for stream in stage.streams_in_order]
    drawn = {role for stream in streams for role in (required if stream.roles is None else stream.roles)}
    return tuple(role for role in predictor_of(method).outputs if role in drawn)


def choose_annotated(samples: Sequence[Sample], roles: Collection[str], fraction: float, seed: int) -> list[str]:
    """Subjects whose annotations are learned from, at least one; those of a smaller fraction are among them.

    Args:
        samples: of training cases.
        roles: that count as annotations, see `learned_roles`.
        fraction: of the annotated subjects, above 0 and at most 1.
        seed: of the order in which subjects are taken.

    Raises:
        UserError: there are no annotations.
    """
    annotated = sorted({one.case.subject for one in samples if any(role in one.arrays for role in roles)})
    if not annotated:
        raise UserError("--label-fraction: this system learns from no annotations; leave it out")
    order = np.random.default_rng(seed).permutation(len(annotated))
    return sorted(annotated[place] for place in order[: max(1, round(fraction * len(annotated)))])


def without_annotations(
    task: Task, samples: Sequence[Sample], roles: Collection[str], annotated: Collection[str]
) -> list[Sample]:
    """The samples with the annotations of some subjects alone.

    Of the other subjects everything else stays, for streams that take cases without annotations. Where nothing that
    the task could use is left, as of a system that learns from images alone, or where what is learned is simulated from
    the rest, their cases are left out.

    Args:
        task: of the method.
        samples: of training cases.
        roles: that count as annotations.
        annotated: names of the subjects that keep them.
    """
    kept = []
    for sample in samples:
        hidden, sources = [role for role in roles if role in sample.arrays], sample.case.sources
        if sample.case.subject in annotated or not hidden:
            kept.append(sample)
        elif set(hidden) <= set(sources) and task.usable([role for role in sources if role not in hidden]):
            kept.append(_bare(sample, hidden))
    return kept


def _bare(sample: Sample, hidden: Collection[str]) -> Sample:
    sources = {role: source for role, source in sample.case.sources.items() if role not in hidden}
    arrays = {role: array for role, array in sample.arrays.items() if role not in hidden}
    return replace(sample, case=replace(sample.case, sources=sources), arrays=arrays)
