"""Training with the annotations of only a share of the subjects, for studies of label efficiency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from ganatomy.case import Sample, Task
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.inference.predictor import predictor_of


def learned_roles(method: Method) -> tuple[str, ...]:
    """Return the outputs of a method that its training streams draw: annotations, or target images."""
    required = method.task.required
    streams = [stream for stage in method.stages() for stream in stage.streams_in_order]
    drawn = {role for stream in streams for role in (required if stream.roles is None else stream.roles)}
    return tuple(role for role in predictor_of(method).outputs if role in drawn)


def choose_annotated(samples: Sequence[Sample], roles: Collection[str], fraction: float, seed: int) -> list[str]:
    """Choose the subjects whose annotations are learned from, at least one.

    Subsets are nested: the subjects of a smaller fraction with the same seed are among those of a larger one.

    Args:
        samples: training cases.
        roles: roles that count as annotations, see `learned_roles`.
        fraction: share of the annotated subjects, above 0 and at most 1.
        seed: seed of the order in which subjects are chosen.

    Raises:
        UserError: no case has annotations.
    """
    annotated = sorted({one.case.subject for one in samples if any(role in one.arrays for role in roles)})
    if not annotated:
        raise UserError("--label-fraction: this system learns from no annotations; leave it out")
    order = np.random.default_rng(seed).permutation(len(annotated))
    return sorted(annotated[place] for place in order[: max(1, round(fraction * len(annotated)))])


def without_annotations(
    task: Task, samples: Sequence[Sample], roles: Collection[str], annotated: Collection[str]
) -> list[Sample]:
    """Remove the annotations of all subjects except some.

    The other roles of these subjects are kept for streams that accept cases without annotations. Their cases are left
    out where the task cannot use the remaining roles, or where the removed role is simulated from them.

    Args:
        task: task of the method.
        samples: training cases.
        roles: roles that count as annotations.
        annotated: names of the subjects that keep their annotations.
    """
    kept = []
    for sample in samples:
        hidden, sources = [role for role in roles if role in sample.arrays], _sources(sample)
        if sample.case.subject in annotated or not hidden:
            kept.append(sample)
        elif set(hidden) <= sources and task.usable([role for role in sources if role not in hidden]):
            kept.append(_bare(sample, hidden))
    return kept


def _sources(sample: Sample) -> set[str]:
    """Return the roles of a case that are given, the class of the whole case included."""
    return {*sample.case.sources, *(["label"] if sample.case.label is not None else [])}


def _bare(sample: Sample, hidden: Collection[str]) -> Sample:
    sources = {role: source for role, source in sample.case.sources.items() if role not in hidden}
    label = None if "label" in hidden else sample.case.label
    return replace(sample.without(hidden), case=replace(sample.case, sources=sources, label=label))
