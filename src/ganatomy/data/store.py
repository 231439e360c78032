"""Prepared cases on disk, which are simulated once and memory-mapped afterwards."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ganatomy.case import Case, Role, Sample, Task, label_of, slab
from ganatomy.catalogue import source_of
from ganatomy.errors import UserError
from ganatomy.images.resampling import on_one_grid

FORMAT = 2
"""Version of the files, which is raised when prepared cases of an older version must not be used any more."""
SMALL = 2**20
"""Largest size in bytes of arrays that are read into memory."""
FACTS = "facts.json"


class Store:
    """Prepares the cases of a task and keeps the result in a folder.

    A case is prepared slab by slab in a temporary folder that is renamed when complete, so a killed process leaves no
    incomplete case and processes may share the folder.
    """

    def __init__(self, task: Task, folder: Path):
        self.task = task
        self.folder = folder

    def _place(self, case: Case) -> Path:
        roles = sorted(role.prepared_as for role in self.task.roles.values())
        # The simulation of a task from outside may change with every change of its file.
        task = "|".join(filter(None, (self.task.name, source_of(type(self.task)), self.task.preparation.digest)))
        facts = f"{FORMAT}|{task}|{roles}|{case.fingerprint}|{case.seed}"
        return self.folder / hashlib.sha256(facts.encode()).hexdigest()[:24]

    def get(self, case: Case) -> Sample:
        """Return the prepared case, which is read from the folder or prepared now.

        Raises:
            UserError: the case cannot be read or does not fit the task, or the folder cannot be written.
        """
        place = self._place(case)
        if not (place / FACTS).is_file():
            self._prepare(case, place)
        facts = json.loads((place / FACTS).read_text())
        sample = Sample(
            case,
            {role: _load(place / f"{role}.npy") for role in facts["roles"]},
            {role: np.array(affine) for role, affine in facts["affines"].items()},
            self.task.roles,
            notes=tuple(facts["notes"]),
        )
        told = facts.get("numbers", {})
        return replace(sample, numbers={**self._numbers(place, case, sample, told), **told})

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
        if path.is_file():
            found: Mapping[str, Any] = json.loads(path.read_text())
            return found
        framed = self.task.simulate(self.task.frame(self._values(case), case), case.seed)
        numbers = framed.role(role.name).numbers()
        work = Path(tempfile.mkstemp(dir=place, prefix=".numbers-")[1])
        work.write_text(json.dumps(numbers))
        work.replace(path)
        return numbers

    def _values(self, case: Case) -> dict[str, Any]:
        values: dict[str, Any] = {role: source.open() for role, source in case.sources.items()}
        if case.resample_to:
            values = on_one_grid(values, case.resample_to, self.task.label_maps)
        if "label" in self.task.roles and "label" not in values:
            values["label"] = case.label
        return values

    def _prepare(self, case: Case, place: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(dir=self.folder, prefix=".preparing-"))
        except OSError as error:
            raise UserError(f"cache folder {self.folder}: {error.strerror}; choose another with --cache") from None
        try:
            sample = self.task.simulate(self.task.frame(self._values(case), case), case.seed)
            self._write(work, place, case, sample)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _write(self, work: Path, place: Path, case: Case, sample: Sample) -> None:
        facts = {
            "roles": list(sample.arrays),
            "affines": {role: affine.tolist() for role, affine in sample.affines.items()},
            "notes": list(sample.notes),
            "numbers": {role: dict(numbers) for role, numbers in sample.numbers.items()},
        }
        try:
            write_slabs(work, sample)
            (work / FACTS).write_text(json.dumps(facts))
            work.rename(place)
        except OSError as error:
            if not (place / FACTS).is_file():
                raise UserError(f"cache folder {self.folder}: {error.strerror}; choose another with --cache") from None

    def get_all(
        self, cases: Iterable[Case], progress: Callable[[Case], None] = lambda case: None
    ) -> tuple[list[Sample], list[str]]:
        """Return all cases that can be prepared, and one message for each that cannot."""
        good, problems = [], []
        for case in cases:
            progress(case)
            try:
                good.append(self.get(case))
            except UserError as error:
                problems.append(str(error))
        return good, problems


def _load(path: Path) -> NDArray[Any]:
    """Load an array, memory-mapped only where it is large: a mapped file stays open, and there may be thousands."""
    array: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > SMALL else None)
    array.flags.writeable = False
    return array


def write_slabs(folder: Path, sample: Sample) -> None:
    """Write the arrays of a sample as .npy files named by role, slice by slice, in the role's type of storage.

    All roles are written slice by slice together, because a simulated role is made from the slice of its source that
    was just computed; arrays with fewer slices than the first one advance in proportion.

    Raises:
        UserError: an array holds values that are not finite.
    """
    targets = {
        role: open_memmap(
            folder / f"{role}.npy", mode="w+", dtype=sample.roles[role].stored(array.dtype), shape=tuple(array.shape)
        )
        for role, array in sample.arrays.items()
    }
    slices = sample.arrays[sample.first].shape[1]
    for index in range(slices):
        for role, array in sample.arrays.items():
            start, stop = (array.shape[1] * place // slices for place in (index, index + 1))
            if start == stop:
                continue
            values = slab(array, start, stop)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise UserError(
                    f"{label_of(sample.values.get(role))}: slice {start} of {role} holds values that are not finite; "
                    "repair or leave it out"
                )
            targets[role][:, start:stop] = values
    for target in targets.values():
        target.flush()
