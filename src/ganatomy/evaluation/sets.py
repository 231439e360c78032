"""Judging what is made as a set: how many of which seeds are wanted, and held-out sets in halves by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import Entry
from ganatomy.metrics.distribution import expected_coverage
from ganatomy.metrics.statistics import count

REAL = "real"
"""The entry that shows held-out real things."""
RESAMPLINGS = 5
MOST = 500
"""Members of a set: more are not compared."""
FEWEST = 4
"""Held-out real things without which there are no two halves to speak of."""
FEW = 100
"""With fewer members of a set, distances say little beyond their order."""
NEIGHBOURS = 5
PER_BIN, MOST_BINS = 20, 20
"""Training cases wanted in every bin, and bins at most."""
REPEATED = 0.3
"""Ratio of distances to the nearest other member below which samples are called repetitions (our choice)."""
NEAREST_SHARE = 0.01
"""Share of held-out real things that lie nearer to a training case than the limit for copies."""
COPIED = 3.0
"""Times the expected share of samples that look copied, from which on they are called so (our choice)."""


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


@dataclass(frozen=True)
class SamplerEntry(Entry):
    """A trained run as a entry; ``run`` takes a `Request` and gives a set.

    Args:
        predictor: of the run.
    """

    predictor: Any = None


def check_enough(held: int, kind: str) -> None:
    """Refuse to judge by too few real things.

    Args:
        held: number of held-out ones.
        kind: what they are, such as "image".

    Raises:
        UserError: they cannot be halved.
    """
    if held < FEWEST:
        raise UserError(f"{count(held, f'test {kind}')} cannot be halved and compared; keep more subjects for testing")


def bins_of(known: int) -> int:
    """Number of clusters that so many training cases are divided into."""
    return int(np.clip(known // PER_BIN, min(4, known), MOST_BINS))


def expected_copies(compared: int) -> float:
    """Share of held-out real things that lie as near to a training case as what is called a copy."""
    return max(NEAREST_SHARE, 1 / (compared + 1))


def copied(share: float, compared: int, how: str) -> str:
    """A sentence where too many samples look copied, else nothing.

    Args:
        share: of samples that do.
        compared: members of a set.
        how: how they look like copies, such as "they lie nearer to a training vessel than 99 % of held-out ones do".
    """
    expected = expected_copies(compared)
    if not share > COPIED * expected:
        return ""
    return f"{share:.0%} of the samples look copied: {how}, where {expected:.0%} are expected."


def measured(compared: int, held: int, known: int, kind: str) -> dict[str, str]:
    """Sizes of sets, and what their intervals say, for a report's list of facts.

    Args:
        compared: members of a set.
        held: held-out real things.
        known: training cases that are at hand.
        kind: what they are, such as "image".
    """
    coverage = expected_coverage(compared, compared, min(NEIGHBOURS, compared - 1))
    return {
        "Numbers": f"{RESAMPLINGS} resamplings, each of {compared} real and as many generated {kind}s; "
        f"{count(held, f'held-out real {kind}')}, {count(known, f'training {kind}')}",
        "Intervals": f"over resamplings of the same held-out {kind}s, not over patients: they say how much the choice "
        f"of {kind}s matters, and are too narrow for other patients",
        "Coverage": f"{coverage:.2f} is to be expected of as many real {kind}s",
        "Bins of ndb": f"k-means of the training {kind}s, one per {PER_BIN} of them, 4 to {MOST_BINS}",
    }


def caveats(compared: int, known: int, kind: str) -> list[str]:
    """Sentences on small sets, and on training cases that are gone.

    Args:
        compared: members of a set.
        known: training cases that are at hand.
        kind: what they are, such as "image".
    """
    points = []
    if compared < FEW:
        points.append(
            f"Sets of {compared} {kind}s are small: distances, coverage and shares depend on that number; compare them "
            f"only within this table, and read them beside the row of real {kind}s."
        )
    if known < 2:
        points.append(f"The training {kind}s are not there any more: copying could not be checked.")
    return points
