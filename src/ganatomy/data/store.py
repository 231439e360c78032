"""Prepared cases on disk: simulated once, memory-mapped afterwards, never all in memory."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ganatomy.data.cases import Case
from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.tasks.base import Task

FORMAT = 1
"""Changes when prepared cases of an older version must not be used any more."""
SMALL = 2**20
"""Bytes up to which an array is read into memory."""


@dataclass(frozen=True)
class PreparedCase:
    """A case whose roles are memory-mapped (channels, slices, rows, columns) arrays in physical units."""

    case: Case
    arrays: Mapping[str, NDArray[np.float32]]
    spacing: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        _, slices, rows, columns = next(iter(self.arrays.values())).shape
        return slices, rows, columns


class Store:
    """Prepares the cases of a task and keeps the result in a folder.

    A case is prepared slab by slab into a temporary neighbour that is renamed when complete, so a killed process
    leaves no half case and processes may share the folder.
    """

    def __init__(self, task: Task, folder: Path):
        self.task = task
        self.folder = folder

    def _place(self, case: Case) -> Path:
        facts = f"{FORMAT}|{self.task.name}|{self.task.fingerprint}|{case.fingerprint}|{case.seed}"
        return self.folder / hashlib.sha256(facts.encode()).hexdigest()[:24]

    def get(self, case: Case) -> PreparedCase:
        """The prepared case, from the folder or made now.

        Raises:
            UserError: the case cannot be read or does not fit the task, or the folder cannot be written.
        """
        place = self._place(case)
        if not (place / "facts.json").is_file():
            self._prepare(case, place)
        facts = json.loads((place / "facts.json").read_text())
        arrays = {role: _load(place / f"{role}.npy") for role in facts["roles"]}
        return PreparedCase(case, arrays, tuple(facts["spacing"]))

    def _prepare(self, case: Case, place: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(dir=self.folder, prefix=".preparing-"))
        except OSError as error:
            raise UserError(f"cache folder {self.folder}: {error.strerror}; choose another with --cache") from None
        try:
            images = self.task.prepare({role: source.open() for role, source in case.sources.items()}, case.seed)
            self._write(work, place, case, images)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _write(self, work: Path, place: Path, case: Case, images: Mapping[str, Image]) -> None:
        spacing = next(iter(images.values())).spacing
        facts = {"roles": list(images), "spacing": spacing, "case": case.name}
        try:
            write_slabs(work, images)
            (work / "facts.json").write_text(json.dumps(facts))
            work.rename(place)
        except OSError as error:
            if not (place / "facts.json").is_file():
                raise UserError(f"cache folder {self.folder}: {error.strerror}; choose another with --cache") from None

    def get_all(
        self, cases: Iterable[Case], progress: Callable[[Case], None] = lambda case: None
    ) -> tuple[list[PreparedCase], list[str]]:
        """All cases that can be prepared, and one line for each that cannot."""
        good, problems = [], []
        for case in cases:
            progress(case)
            try:
                good.append(self.get(case))
            except UserError as error:
                problems.append(str(error))
        return good, problems


def _load(path: Path) -> NDArray[np.float32]:
    """Memory-mapped where it is large: a mapped file stays open, and of small ones there may be thousands."""
    array: NDArray[np.float32] = np.load(path, mmap_mode="r" if path.stat().st_size > SMALL else None)
    array.flags.writeable = False
    return array


def write_slabs(folder: Path, images: Mapping[str, Image]) -> None:
    """Write images as float32 .npy files named by role, slice by slice.

    In lockstep, because a simulated role is made from the slice of its source that was just computed; images with
    fewer slices than the first one in proportion.

    Raises:
        UserError: values that are not finite.
    """
    targets = {
        role: open_memmap(folder / f"{role}.npy", mode="w+", dtype=np.float32, shape=(image.channels, *image.shape))
        for role, image in images.items()
    }
    slices = next(iter(images.values())).shape[0]
    for index in range(slices):
        for role, image in images.items():
            start, stop = (image.shape[0] * place // slices for place in (index, index + 1))
            if start == stop:
                continue
            slab: NDArray[Any] = image.slab(start, stop)
            if not np.isfinite(slab).all():
                raise UserError(
                    f"{image.header.label}: slice {start} holds values that are not finite; repair or leave it out"
                )
            targets[role][:, start:stop] = slab
    for target in targets.values():
        target.flush()
