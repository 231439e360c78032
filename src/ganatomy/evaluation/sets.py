"""Judging what is made as a set: how many of which seeds are wanted, and held-out sets in halves by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Request:
    """Request for a set of samples.

    Attributes:
        count: number of samples.
        number: of the resampling; another one means other samples.
    """

    count: int
    number: int

    @property
    def seeds(self) -> range:
        """One for each sample, and none twice."""
        return range(self.number * self.count, (self.number + 1) * self.count)


def halves(subjects: Sequence[str], rng: np.random.Generator, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of two sets of equal size that share no subject, where there are several, and no sample.

    Subjects are taken in the order in which they appear, so that pseudonyms change nothing.

    Args:
        subjects: of every sample.
        rng: draws which subject is in which half.
        most: samples in a half.
    """
    names = rng.permutation(list(dict.fromkeys(subjects)))
    place = {name: number for number, name in enumerate(names)}
    owners = np.array([place[name] for name in subjects])
    order = np.argsort(owners, kind="stable")
    middle = len(owners) // 2
    if len(names) > 1:
        edges = 1 + np.flatnonzero(np.diff(owners[order]))
        middle = int(edges[np.argmin(np.abs(edges - len(owners) / 2))])
    size = min(middle, len(owners) - middle, most)
    first, second = (rng.permutation(part)[:size] for part in (order[:middle], order[middle:]))
    return first, second
