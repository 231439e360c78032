"""Splits of cases by subject: drawn, named, by folds of a cross-validation, or read back from a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ganatomy.case import Case, Split, Task
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError

FEWEST = 5
"""Smallest number of training subjects from which one is taken for validation."""

SITES: Literal["sites"] = "sites"
"""Value of ``--folds`` for a cross-validation that leaves one site out at a time."""


class Fold(BaseModel):
    """One fold of a cross-validation: its subjects are for testing, those of the other folds for training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)  # number of this fold, counted from 0
    of: int = Field(ge=2)  # number of folds
    by: Literal["subjects", "sites"] = "subjects"  # what is dealt into folds; of sites, each is a fold

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.number >= self.of:
            raise ValueError(f"{self.of} folds have the numbers 0 to {self.of - 1}, not {self.number}")
        return self

    @property
    def folds(self) -> int | Literal["sites"]:
        """Value of the option ``--folds``."""
        return SITES if self.by == "sites" else self.of


def divide(
    task: Task,
    cases: Sequence[Case],
    test: Sequence[str] = (),
    val: Sequence[str] = (),
    seed: int = 0,
    fold: Fold | None = None,
    held_out: Sequence[str] = (),
    order: Callable[[str], str] = str,
) -> list[Case]:
    """Return the cases with their sides of the split; cases that the task only tests on are always for testing.

    Args:
        task: task, which says which cases are only for testing.
        cases: cases with the sides that a manifest gives them, else all for training.
        test: names of subjects kept for testing.
        val: names of subjects by which the best weights are chosen.
        seed: seed of random splits.
        fold: fold whose subjects are tested on, in place of named or drawn ones.
        held_out: names of sites whose subjects are all kept for testing.
        order: key by which sites are ordered as folds. Where the folder of a fold is shared, it should be a keyed
            pseudonym: the number of a fold would else tell the place of its site in the alphabet.

    Raises:
        UserError: a named subject or site does not exist, nothing is left for training, there are fewer subjects than
            folds, or a fold or site is given although the sides are, too.
    """
    told = {case.split for case in cases} != {"train"}
    asked = f"--folds {fold.folds}" if fold else f"--hold-out-site {' '.join(held_out)}"
    if (fold and (told or test or val or held_out)) or (held_out and (told or test)):
        given = "a manifest" if told else "--hold-out-site" if fold and held_out else "--test-subjects"
        given += " or --val-subjects" if fold and not told and not held_out else ""
        raise UserError(f"{asked}: the sides of subjects are given by {given}; leave one of the two out")
    if fold and fold.by == "sites":
        held_out = (sorted(sites_of(cases, fold.of), key=order)[fold.number],)
    elif held_out and (unknown := set(held_out) - {case.site for case in cases}):
        there = some(sorted({case.site for case in cases if case.site}))
        raise UserError(f"{asked}: no case is of site {sorted(unknown)[0]!r}; {_there(there)}")
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
    fewest = task.fewest_validation_images
    if held_out:
        return split_by_site(rest, held_out, asked, val, seed, fewest) + extra
    if fold:
        test = folds([case.subject for case in rest], fold.of, seed)[fold.number]
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


def sites_of(cases: Iterable[Case], count: int | None = None) -> list[str]:
    """Return the names of the sites of cases, sorted, for a cross-validation in which each is a fold.

    Args:
        cases: all cases.
        count: number that there must be; None accepts any from 2 on.

    Raises:
        UserError: there are fewer than two sites, or another number of them.
    """
    sites = sorted({case.site for case in cases if case.site})
    if len(sites) < 2:
        raise UserError(f"--folds {SITES}: each site is a fold, so that two are needed; {_there(some(sites))}")
    if count not in (None, len(sites)):
        raise UserError(f"--folds {SITES}: the data have {len(sites)} sites and not {count}: {some(sites)}")
    return sites


def _there(sites: str) -> str:
    named = "a column site of a manifest, or of participants.tsv in BIDS, names them"
    return f"the sites are {sites} ({named})" if sites else f"no case says its site ({named})"


def split_by_site(
    cases: Sequence[Case], held_out: Collection[str], asked: str, val: Sequence[str], seed: int = 0, fewest: int = 1
) -> list[Case]:
    """Return the cases with all subjects of some sites for testing, and those of the other sites for training.

    Validation takes a tenth of the subjects of every site that is trained on, at least one where another is left of
    the site, and more if ``fewest`` are needed; as for random splits, none where fewer than five are left. A whole site
    for validation would show how weights do on another scanner, but would take a scanner from training, of which few
    data sets have more than three (our choice).

    Args:
        cases: cases that may be trained on.
        held_out: sites that are kept for testing.
        asked: option that asks for this split, for messages.
        val: names of subjects by which the best weights are chosen; empty means drawn ones.
        seed: seed of the drawn subjects.
        fewest: smallest number of drawn subjects.

    Raises:
        UserError: the site of a subject is not known, a subject was at several sites, a named subject does not exist or
            is held out, or nothing is left for training.
    """
    places: dict[str, set[str | None]] = {}
    for case in cases:
        places.setdefault(case.subject, set()).add(case.site)
    if unknown := sorted(subject for subject, sites in places.items() if None in sites):
        raise UserError(f"{asked}: the site of {some(unknown)} is not known; name it, or leave these subjects out")
    if several := sorted(subject for subject, sites in places.items() if len(sites) > 1):
        sites = some(sorted(filter(None, places[several[0]])))
        raise UserError(
            f"{asked}: subject {several[0]!r} was at several sites ({sites}), and would be learned from and tested on; "
            "leave such subjects out, or state the sides in a column split"
        )
    site = {subject: next(filter(None, sites)) for subject, sites in places.items()}
    rest = sorted(subject for subject in site if site[subject] not in held_out)
    for name in val:
        if name not in rest:
            what = f"of site {site[name]}, which is held out" if name in site else "not in the data"
            raise UserError(f"--val-subjects: subject {name!r} is {what}; there are {some(rest)}")
    if not val and len(rest) >= FEWEST:
        val = _of_every_site(
            [rest[index] for index in np.random.default_rng(seed).permutation(len(rest))], site, fewest
        )
    if not set(rest) - set(val):
        raise UserError(f"{asked}: no subject is left for training; validation has {some(val) or 'none'}")
    sides: dict[str, Split] = {
        **dict.fromkeys(site, "test"),
        **dict.fromkeys(rest, "train"),
        **dict.fromkeys(val, "val"),
    }
    return [replace(case, split=sides[case.subject]) for case in cases]


def _of_every_site(order: Sequence[str], site: Mapping[str, str], fewest: int) -> list[str]:
    """Return a tenth of the subjects of every site, one or more where two are there, and ``fewest`` if possible.

    Args:
        order: subjects in random order.
        site: subject to site.
        fewest: smallest number of subjects.
    """
    own: dict[str, list[str]] = {}
    for name in order:
        own.setdefault(site[name], []).append(name)
    drawn = {place: min(max(1, round(len(names) / 10)), len(names) - 1) for place, names in own.items()}
    while sum(drawn.values()) < fewest:
        most = max(own, key=lambda place: len(own[place]) - drawn[place])
        if len(own[most]) - drawn[most] < 2:
            break
        drawn[most] += 1
    return [name for place, names in own.items() for name in names[: drawn[place]]]


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
