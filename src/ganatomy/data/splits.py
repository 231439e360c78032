"""Splits of cases by subject: drawn, named, by folds of a cross-validation, or read back from a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ganatomy.case import Case, Split, Task
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError

FEWEST = 5
"""Smallest number of training subjects from which one is taken for validation."""


class Fold(BaseModel):
    """One fold of a cross-validation: its subjects are for testing, those of the other folds for training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)  # number of this fold, counted from 0
    of: int = Field(ge=2)  # number of folds

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.number >= self.of:
            raise ValueError(f"{self.of} folds have the numbers 0 to {self.of - 1}, not {self.number}")
        return self


def divide(
    task: Task,
    cases: Sequence[Case],
    test: Sequence[str] = (),
    val: Sequence[str] = (),
    seed: int = 0,
    fold: Fold | None = None,
) -> list[Case]:
    """Return the cases with their sides of the split; cases that the task only tests on are always for testing.

    Args:
        task: task, which says which cases are only for testing.
        cases: cases with the sides that a manifest gives them, else all for training.
        test: names of subjects kept for testing.
        val: names of subjects by which the best weights are chosen.
        seed: seed of random splits.
        fold: fold whose subjects are tested on, in place of named or drawn ones.

    Raises:
        UserError: a named subject does not exist, nothing is left for training, there are fewer subjects than folds,
            or a fold is given although the sides are, too.
    """
    told = {case.split for case in cases} != {"train"}
    if fold and (told or test or val):
        given = "a manifest" if told else "--test-subjects or --val-subjects"
        raise UserError(f"--folds {fold.of}: the sides of subjects are given by {given}; leave one of the two out")
    tested = [] if told else [case for case in cases if task.only_tested(case.label)]
    names = {case.subject for case in tested}
    rest = [case for case in cases if case.subject not in names]
    if not rest:
        labels = some(sorted({case.label or "none" for case in cases}))
        raise UserError(
            f"no case of {task.name} can be trained on: all labels are only for testing ({labels}); without a manifest "
            "the label of an image is the name of its folder"
        )
    extra = [replace(case, split="test") for case in cases if case.subject in names]
    if fold:
        test = folds([case.subject for case in rest], fold.of, seed)[fold.number]
    fewest = task.fewest_validation_images
    return split_by_subject(rest, [name for name in test if name not in names], val, seed, fewest) + extra


def folds(subjects: Iterable[str], count: int, seed: int = 0) -> list[list[str]]:
    """Divide subjects into parts of nearly equal size, which depend on the names and the seed but not on the order.

    Args:
        subjects: names, each once or more often.
        count: number of parts, at least 2.
        seed: seed of the random order of the subjects.

    Raises:
        UserError: there are fewer subjects than parts.
    """
    names = sorted(set(subjects))
    if len(names) < count:
        raise UserError(f"--folds {count}: there are only {len(names)} subjects; give at most {len(names)} folds")
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    return [order[start::count] for start in range(count)]


def recorded(
    cases: Sequence[Case], sides: Mapping[Split, Sequence[str]], pseudonyms: Pseudonyms
) -> tuple[list[Case], list[Case]]:
    """Return the cases on the sides that a run recorded, and the cases of subjects that are not in the run.

    Args:
        cases: cases that exist now.
        sides: side to pseudonyms of its subjects.
        pseudonyms: pseudonyms under the secret of the run.
    """
    by_pseudonym: dict[str, Split] = {one: side for side, members in sides.items() for one in members}
    found = {subject: by_pseudonym.get(pseudonyms.subject(subject)) for subject in {case.subject for case in cases}}
    known, strange = [], []
    for case in cases:
        side = found[case.subject]
        if side is None:
            strange.append(case)
        else:
            known.append(replace(case, split=side))
    return known, strange


def split_by_subject(
    cases: Sequence[Case], test: Sequence[str] = (), val: Sequence[str] = (), seed: int = 0, fewest: int = 1
) -> list[Case]:
    """Return the cases split as in the manifest, as named, or with a fifth of the subjects drawn for testing.

    Where five or more subjects are left for training and none is named for validation, a tenth of them, at least
    ``fewest``, is drawn for validation, too; with fewer, slices of every training case are used for validation.

    Raises:
        UserError: a named subject does not exist, or nothing is left for training.
    """
    subjects = sorted({case.subject for case in cases})
    for name in (*test, *val):
        if name not in subjects:
            raise UserError(f"subject {name!r} is not in the data; there are {some(subjects)}")
    if both := set(test) & set(val):
        raise UserError(f"--test-subjects and --val-subjects both name {some(sorted(both))}; splits are by subject")
    told = {case.split for case in cases}
    if told != {"train"} and not test and not val:
        cases = _one_side_each(cases)
        return cases if "val" in told else _with_validation(cases, seed, fewest)
    order = [subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))]
    if not test and len(subjects) > 1:
        free = [name for name in order if name not in val]
        test = free[: max(1, round(len(free) / 5))]
    rest = [name for name in order if name not in test]
    if not val and len(rest) >= FEWEST:
        val = rest[: max(fewest, round(len(rest) / 10))]
    if not set(rest) - set(val):
        raise UserError(f"no subject is left for training: testing has {some(test)}, validation {some(val)}")
    sides: dict[str, Split] = {**dict.fromkeys(val, "val"), **dict.fromkeys(test, "test")}
    return [replace(case, split=sides.get(case.subject, "train")) for case in cases]


def _with_validation(cases: Sequence[Case], seed: int, fewest: int) -> list[Case]:
    training = sorted({case.subject for case in cases if case.split == "train"})
    order = [training[index] for index in np.random.default_rng(seed).permutation(len(training))]
    val = set(order[: max(fewest, round(len(order) / 10))]) if len(order) >= FEWEST else set()
    return [replace(case, split="val") if case.subject in val else case for case in cases]


def _one_side_each(cases: Sequence[Case]) -> list[Case]:
    sides: dict[str, Split] = {}
    for case in cases:
        if sides.setdefault(case.subject, case.split) != case.split:
            raise UserError(
                f"subject {case.subject!r} is in {sides[case.subject]} and in {case.split}; splits are by subject"
            )
    return list(cases)


def some(names: Iterable[str], most: int = 8) -> str:
    """Return the first few names as text, with the number of the others."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
