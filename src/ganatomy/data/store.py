"""Prepared cases on disk, which are simulated once and memory-mapped afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ganatomy.case import Case, Role, Sample, Task, label_of, slab
from ganatomy.catalogue import source_of
from ganatomy.data.arrays import ArrayFile, StoredArrays, digest_of, forget_mapped
from ganatomy.errors import LeftOut, Notice, Shortage, UserError, shortage
from ganatomy.images.leftovers import mark, sweep_once
from ganatomy.images.resampling import on_one_grid

FORMAT = 3
"""Version of the files, which is raised when prepared cases of an older version must not be used any more."""
FACTS = "facts.json"
CHECKED = "checked-"
"""Start of the name of an empty file that says that the values of a case fit some options of its roles."""
FEW = 3
"""Number of cases that are named where none can be used."""
WORK = ".preparing-"
"""Start of the names of files and folders that a process is working on."""


class Stored(BaseModel):
    """Size and digest of the file of an array, by which a damaged file is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int  # in bytes
    sha256: str  # in hexadecimal


class Facts(BaseModel):
    """Everything about a prepared case except its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arrays: dict[str, Stored]  # role to the state of its file
    affines: dict[str, list[list[float]]]  # role to the affine of its working grid, (4, 4)
    notes: tuple[str, ...]  # remarks on the case
    numbers: dict[str, dict[str, Any]]  # role to the numbers of its codec that the simulation knows


class Store:
    """Prepares the cases of a task and keeps the result in a folder.

    A case is prepared slab by slab in a temporary folder that is renamed when complete, so a killed process leaves no
    incomplete case and processes may share the folder. What a killed process did leave is removed when the next case is
    prepared. Only the user may read the folder.

    Prepared cases are checked by the size and the SHA-256 of their files when a process opens them for the first time,
    and prepared again where these differ. A SHA-256 takes as long as reading the file from a fast disk, which training
    and evaluation do anyway.
    """

    def __init__(self, task: Task, folder: Path):
        self.task = task
        self.folder = folder

    def _place(self, case: Case) -> Path:
        roles = sorted(role.prepared_as for role in self.task.roles.values())
        # The simulation of a task from outside may change with every change of its file.
        task = "|".join(filter(None, (self.task.name, source_of(type(self.task)), self.task.preparation.digest)))
        # A phantom is drawn by other code with every version, and its ground truth is drawn again when it is judged.
        drawn = sorted({one for source in case.sources.values() if (one := getattr(source, "drawn_by", ""))})
        try:
            facts = f"{FORMAT}|{task}|{roles}|{case.fingerprint}|{case.seed}|{drawn}"
        except OSError as error:
            raise shortage(error, case.name) or UserError(
                f"{error.filename}: {error.strerror}, though it was found before; leave the data as it is meanwhile"
            ) from None
        return self.folder / hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()[:24]

    def get(self, case: Case) -> Sample:
        """Return the prepared case, which is read from the folder or prepared now.

        Raises:
            UserError: the case cannot be read or does not fit the task, or the folder cannot be written.
            Shortage: the machine lacks files, memory or space on the disk.
        """
        place = self._place(case)
        with self._using_folder():
            facts = _read(place)
        if facts is None:
            self._prepare(case, place)
            with self._using_folder():
                facts = _read(place)
        elif not self._passed(place).exists():
            self._check(case, place)
        if facts is None:
            raise UserError(f"{place}: cannot be read back as it was written; check the disk, or give another --cache")
        with suppress(OSError):  # the folder may be shared with others who may only read it
            os.utime(place)  # its last use
        with self._using_folder():
            arrays = StoredArrays({role: place / f"{role}.npy" for role in facts.arrays})
        sample = Sample(
            case,
            arrays,
            {role: np.array(affine) for role, affine in facts.affines.items()},
            self.task.roles,
            notes=facts.notes,
        )
        return replace(sample, numbers={**self._numbers(place, case, sample, facts.numbers), **facts.numbers})

    def framed(self, case: Case) -> Sample:
        """Return a case on the working grid, lazily and without keeping it; what the task simulates is missing.

        Raises:
            UserError: the case cannot be read or does not fit the task.
        """
        with _reading(case):
            return self.task.frame(values_of(case, self.task), case)

    def _numbers(self, place: Path, case: Case, sample: Sample, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of codecs that are bound to this case, which are kept beside its arrays once computed.

        Numbers in ``told``, which are known from the simulation of the case, are not computed.
        """
        return {
            name: self._number(place, case, role)
            for name, role in self.task.roles.items()
            if role.adaptive and name not in told and (name in case.sources or name in sample.arrays)
        }

    def _number(self, place: Path, case: Case, role: Role) -> Mapping[str, Any]:
        unbound = hashlib.sha256(json.dumps(role.numbers(), sort_keys=True).encode()).hexdigest()[:16]
        path = place / f"{role.name}-{unbound}.json"
        with self._using_folder():
            found: Mapping[str, Any] | None = _unsealed(path)
        if found is not None:
            return found
        with _reading(case):
            framed = self.task.simulate(self.task.frame(values_of(case, self.task), case), case.seed)
            numbers = framed.role(role.name).numbers()
        with self._working() as work:
            _seal(work / path.name, dict(numbers))
            (work / path.name).replace(path)
        return numbers

    def _passed(self, place: Path) -> Path:
        """Return the file of a prepared case that says that its values fit the roles of the task as they are now."""
        checked = sorted(role.checked_as for role in self.task.roles.values())
        return place / f"{CHECKED}{hashlib.sha256(repr(checked).encode()).hexdigest()[:16]}"

    def _check(self, case: Case, place: Path) -> None:
        """Check the values of a case that was prepared with other options, on which its arrays do not depend."""
        with _reading(case):
            values = values_of(case, self.task)
            for name, role in self.task.roles.items():
                if name in values:
                    role.check(values[name])
        with self._using_folder(), suppress(PermissionError):  # others may only read a folder that is shared
            self._passed(place).touch()

    def _prepare(self, case: Case, place: Path) -> None:
        with self._working() as work:
            with _reading(case):
                sample = self.task.simulate(self.task.frame(values_of(case, self.task), case), case.seed)
            new = work / "new"
            new.mkdir(mode=0o700)
            write_slabs(new, sample)
            facts = Facts(
                arrays={role: _stored(new / f"{role}.npy") for role in sample.arrays},
                affines={role: affine.tolist() for role, affine in sample.affines.items()},
                notes=sample.notes,
                numbers={role: dict(numbers) for role, numbers in sample.numbers.items()},
            )
            _seal(new / FACTS, facts.model_dump())
            self._passed(new).touch()
            if place.exists() and not _read(place):
                warnings.warn(f"{case.name}: prepared again, since {place} was damaged", Notice, stacklevel=2)
                forget_mapped()
                place.rename(work / "damaged")
            try:
                new.rename(place)
            except OSError:
                if not place.exists():  # no other process was first
                    raise

    def make_folder(self) -> None:
        """Make the folder of prepared cases, so that none is blamed where it cannot be made.

        Raises:
            UserError: the folder cannot be made.
        """
        with self._using_folder():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def _working(self) -> Iterator[Path]:
        """Make a folder to work in, and remove it afterwards with all that is left in it."""
        self.make_folder()
        with self._using_folder():
            sweep_once(self.folder, f"{WORK}*")
            work = self.folder / f"{WORK}{mark()}"
            work.mkdir(mode=0o700)
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def _using_folder(self) -> Iterator[None]:
        """Report errors of the system as errors of the folder of prepared cases."""
        try:
            yield
        except OSError as error:
            where = f"cache folder {self.folder} (--cache chooses another)"
            raise shortage(error, where) or UserError(f"{where}: {error.strerror or error}") from None

    def get_all(
        self, cases: Iterable[Case], progress: Callable[[Case], None] = lambda case: None
    ) -> tuple[list[Sample], list[tuple[Case, str]]]:
        """Return all cases that can be prepared, and the others with the reasons, of which the user is notified.

        Args:
            cases: cases to prepare.
            progress: called with each case before it is prepared.

        Raises:
            Shortage: the machine lacks files, memory or space on the disk, which is no fault of the case.
        """
        self.make_folder()
        good, problems = list[Sample](), list[tuple[Case, str]]()
        for case in cases:
            progress(case)
            try:
                good.append(self.get(case))
            except Shortage:
                raise
            except UserError as error:
                problems.append((case, str(error)))
        tell_left_out([(case.name, problem) for case, problem in problems], len(good) + len(problems))
        return good, problems


def values_of(case: Case, task: Task) -> dict[str, Any]:
    """Return the values of a case as a task frames them: opened, on one grid where the case says so, with its class.

    Raises:
        UserError: a value cannot be read.
    """
    values: dict[str, Any] = {role: source.open() for role, source in case.sources.items()}
    if case.resample_to:
        values = on_one_grid(values, case.resample_to, task.label_maps)
    label = task.roles.get("label")
    if label is not None and "label" not in values and not (label.optional and case.label is None):
        values["label"] = case.label
    return values


def tell_left_out(problems: Sequence[tuple[str, str]], total: int) -> None:
    """Notify the user of the cases that cannot be used, and of their number.

    Where there is no other case, nothing is told, since the caller cannot go on and raises the reason as an error.
    Where no case can be used, a few are named, since they are likely to share a reason.

    Args:
        problems: name of each case that cannot be used, with the reason.
        total: number of all cases.
    """
    if total == 1:
        return
    named = problems if len(problems) < total else problems[:FEW]
    for name, problem in named:
        warnings.warn(f"left out: {name}: {problem}", LeftOut, stacklevel=3)
    if problems:
        why = "for the reasons above" if len(named) == len(problems) else "the first of them for the reasons above"
        warnings.warn(f"{len(problems)} of {total} cases are left out, {why}", LeftOut, stacklevel=3)


@contextmanager
def _reading(case: Case) -> Iterator[None]:
    """Report errors of the system as errors of a case that is being read."""
    try:
        yield
    except (OSError, MemoryError) as error:
        told = f"{case.name}: cannot be read ({error}); check its files"
        raise shortage(error, case.name) or UserError(told) from None


def _stored(path: Path) -> Stored:
    return Stored(size=path.stat().st_size, sha256=digest_of(path))


def _read(place: Path) -> Facts | None:
    """Return the facts of a prepared case; None where it is not there, or not as it was written."""
    plain = _unsealed(place / FACTS)
    try:
        facts = Facts.model_validate(plain)
        sound = all(_stored(place / f"{role}.npy") == stored for role, stored in facts.arrays.items())
    except (ValidationError, FileNotFoundError):
        return None
    return facts if sound else None


def _seal(path: Path, plain: Mapping[str, Any]) -> None:
    """Write values that JSON can hold, with their digest."""
    plain = json.loads(json.dumps(plain))
    path.write_text(json.dumps({"sha256": _digest(plain), "facts": plain}), encoding="utf-8")


def _unsealed(path: Path) -> Any:
    """Return values that `_seal` wrote; None where the file is not there or damaged."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return plain["facts"] if plain["sha256"] == _digest(plain["facts"]) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def write_slabs(folder: Path, sample: Sample) -> None:
    """Write the arrays of a sample as .npy files named by role, slice by slice, in the role's type of storage.

    All roles are written slice by slice together, because a simulated role is made from the slice of its source that
    was just computed; arrays with fewer slices than the first one advance in proportion.

    Raises:
        UserError: an array holds values that are not finite.
        OSError: a file cannot be written.
    """
    slices = sample.arrays[sample.first].shape[1]
    with ExitStack() as files:
        targets = {
            role: files.enter_context(
                ArrayFile(folder / f"{role}.npy", array.shape, sample.roles[role].stored(array.dtype))
            )
            for role, array in sample.arrays.items()
        }
        for index in range(slices):
            for role, array in sample.arrays.items():
                start, stop = (array.shape[1] * place // slices for place in (index, index + 1))
                if start == stop:
                    continue
                with _reading(sample.case):
                    values = slab(array, start, stop)
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    raise UserError(
                        f"{label_of(sample.values.get(role))}: slice {start} of {role} holds values that are not "
                        "finite; repair or leave it out"
                    )
                targets[role].put(start, values)
