"""Choice of test cases: those of subjects that were used neither to train a run nor to select its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from ganatomy.case import Case, Task
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.splits import some
from ganatomy.errors import Shortage, UserError
from ganatomy.inference.model import Model
from ganatomy.inference.runfile import RunFile

UNCHECKED = (
    "whether cases were seen in training cannot be checked, since the run's pseudonyms of subjects were made with "
    "another secret"
)


def run_facts(model: Model) -> RunFile:
    """Return the run file of a model that was loaded from a run.

    Raises:
        UserError: the model was not loaded from a run.
    """
    if model.facts is None:
        raise UserError("this model comes from no run; load one from the folder that `ganatomy train --out` made")
    return model.facts


def users_pseudonyms(secret: Path | None) -> Pseudonyms | None:
    """Return pseudonyms keyed by a secret; None where no file is given and the user's own cannot be read or made.

    Raises:
        UserError: the given file cannot be used.
    """
    if secret:
        return Pseudonyms.of_user(secret)
    try:
        return Pseudonyms.of_user()
    except UserError:
        return None


def recognising(pseudonyms: Pseudonyms | None, facts: RunFile) -> Pseudonyms | None:
    """Return the pseudonyms if they have the secret of a run, so that its subjects can be recognised, else None."""
    return pseudonyms if pseudonyms and pseudonyms.fingerprint == facts.split.secret else None


class Chosen(NamedTuple):
    """Test cases of a run, and the cases that were left out."""

    cases: list[Case]
    """Cases that may be judged."""
    seen: list[Case]
    """Cases left out because their subjects were in the training or validation of the run."""
    checked: bool
    """Whether the subjects of the run's training could be recognised."""

    def notes(self, labels: Labels) -> list[str]:
        """Return sentences on the choice of cases for readers of the results."""
        left = sorted({labels.subjects[case.subject] for case in self.seen})
        seen = [f"left out, seen in training: {', '.join(left)}"] if left else []
        return [*seen, *([] if self.checked else [UNCHECKED])]


def choose_cases(
    task: Task, facts: RunFile, data: DataConfig | None = None, pseudonyms: Pseudonyms | None = None
) -> Chosen:
    """Choose the cases that a run may be judged on.

    On the run's own data these are the cases of its recorded test subjects. On other data they are those of the
    subjects named with ``test_subjects`` and of the sites named with ``hold_out_site``, else the rows that a manifest
    marks ``test``, else all cases; subjects of the run's training or validation are left out. With another secret than
    that of the run its subjects cannot be recognised: nothing is left out, and on the run's own data only the rows that
    a manifest marks ``test`` are judged.

    Args:
        task: task of the run.
        facts: run file.
        data: how to find and read images; None means the run's own data.
        pseudonyms: keyed by the secret of the user; None where there is no secret.

    Raises:
        UserError: no case is left, a named subject does not exist, or the run's test subjects cannot be recognised.
    """
    data = data or facts.data
    found = find_cases(task, data)
    own_data = same_place(data.data, facts.data.data)
    wanted = () if own_data and data.test_subjects == facts.data.test_subjects else data.test_subjects
    named = set(pseudonyms.named(wanted, [case.subject for case in found]) if pseudonyms else wanted)
    if unknown := named - {case.subject for case in found}:
        raise UserError(f"--test-subjects {' '.join(sorted(unknown))}: not in {place(data)}")
    places = () if own_data and data.hold_out_site == facts.data.hold_out_site else data.hold_out_site
    sites = set(pseudonyms.named_sites(places, [case.site for case in found]) if pseudonyms else places)
    if unknown := sites - {case.site for case in found}:
        raise UserError(f"--hold-out-site {' '.join(sorted(unknown))}: no case in {place(data)} is of it")
    named |= {case.subject for case in found if case.site in sites}
    if own_data:
        return _of_own_data(facts, data, found, named, recognising(pseudonyms, facts))
    marked = [case for case in found if case.subject in named]
    marked = marked or [case for case in found if case.split == "test"] or found
    if (own := recognising(pseudonyms, facts)) is None:
        return Chosen(marked, [], False)
    learned = {*facts.split.train, *facts.split.val}
    known = {subject for subject in {case.subject for case in marked} if own.subject(subject) in learned}
    cases = [case for case in marked if case.subject not in known]
    if not cases:
        raise UserError(
            f"{place(data)}: every subject was in the run's training ({some(sorted(known))}); give other cases"
        )
    return Chosen(cases, [case for case in marked if case.subject in known], True)


def _of_own_data(
    facts: RunFile, data: DataConfig, found: Sequence[Case], named: set[str], pseudonyms: Pseudonyms | None
) -> Chosen:
    """Choose cases from the data that a run was trained on.

    Args:
        facts: run file.
        data: the run's own data, perhaps with other options of reading.
        found: all cases of the data.
        named: subjects to judge; empty means those that the run kept for testing.
        pseudonyms: keyed by the secret of the run; None where that is not known.
    """
    if pseudonyms is None:
        marked = [case for case in found if case.split == "test"]
        if not marked:
            raise UserError(
                f"{place(data)}: which subjects the run kept for testing cannot be told, since their pseudonyms were "
                "made with another secret; give it with --secret FILE, or a manifest with a column split with --data"
            )
        return Chosen(marked, [], False)
    own = {subject: pseudonyms.subject(subject) for subject in {case.subject for case in found}}
    wanted = named or {subject for subject, pseudonym in own.items() if pseudonym in facts.split.test}
    wanted -= {subject for subject, pseudonym in own.items() if pseudonym in (*facts.split.train, *facts.split.val)}
    cases = [replace(case, split="test") for case in found if case.subject in wanted]
    if not cases:
        raise UserError(f"the run kept no subject for testing ({place(data)}); give other cases with --data")
    return Chosen(cases, [], True)


def seen_cases(
    task: Task, facts: RunFile, pseudonyms: Pseudonyms | None, side: Literal["train", "val"] = "train"
) -> list[Case]:
    """Return the training or validation cases of a run; none where images are gone or its secret is not known."""
    if (own := recognising(pseudonyms, facts)) is None:
        return []
    try:
        found = find_cases(task, facts.data)
    except Shortage:
        raise
    except UserError:
        return []
    return [case for case in found if own.subject(case.subject) in getattr(facts.split, side)]


def same_place(first: Path | None, second: Path | None) -> bool:
    """Whether two options for the place of the images name the same one; None stands for the embedded phantom."""
    return first == second or (first is not None and second is not None and first.resolve() == second.resolve())


def place(data: DataConfig) -> str:
    """Describe in words where images come from."""
    size = f" of {data.phantom_size}² pixels" if data.phantom_size else ""
    return str(data.data) if data.data else f"embedded phantoms{size}"
