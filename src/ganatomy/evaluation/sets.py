"""Judging of generated sets: requests for samples, halves of the held-out data, and sentences on copying."""

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
"""Name of the entry that consists of held-out real samples."""
RESAMPLINGS = 5
MOST = 500
"""Largest size of a set; further samples are not compared."""
FEWEST = 4
"""Smallest number of held-out real samples that are halved."""
FEW = 100
"""Size of a set below which distances say little beyond their order."""
NEIGHBOURS = 5
PER_BIN, MOST_BINS = 20, 20
"""Number of training cases per bin, and largest number of bins."""
REPEATED = 0.3
"""Ratio of distances to the nearest other member below which samples are called repetitions (our choice)."""
NEAREST_SHARE = 0.01
"""Share of held-out real samples that lie nearer to a training case than the limit for copies."""
COPIED = 3.0
"""Multiple of the expected share of copies from which on a warning is given (our choice)."""


@dataclass(frozen=True)
class Request:
    """Request for a set of samples.

    Attributes:
        count: number of samples.
        number: number of the resampling; each has other samples.
    """

    count: int
    number: int

    @property
    def seeds(self) -> range:
        """Seeds of the samples, which no other resampling shares."""
        return range(self.number * self.count, (self.number + 1) * self.count)


def halves(subjects: Sequence[str], rng: np.random.Generator, most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide samples into two sets of equal size without a common subject, where there is more than one subject.

    Subjects are numbered in the order in which they appear, so that pseudonyms do not change the result.

    Args:
        subjects: subject of every sample.
        rng: draws which subject is in which half.
        most: largest number of samples in a half.

    Returns:
        Indices of the samples of both halves.
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
    """The entry of a trained sampler; ``run`` takes a `Request` and returns a set of samples.

    Args:
        predictor: predictor of the run.
    """

    predictor: Any = None


def check_enough(held: int, kind: str) -> None:
    """Refuse to judge with too few held-out samples.

    Args:
        held: number of held-out real samples.
        kind: noun for a sample, such as "image".

    Raises:
        UserError: there are too few samples for two halves.
    """
    if held < FEWEST:
        raise UserError(f"{count(held, f'test {kind}')} cannot be halved and compared; keep more subjects for testing")


def bins_of(known: int) -> int:
    """Return the number of clusters for a number of training cases."""
    return int(np.clip(known // PER_BIN, min(4, known), MOST_BINS))


def expected_copies(compared: int) -> float:
    """Return the share of held-out real samples that lie as near to a training case as copies do.

    Args:
        compared: size of a set.
    """
    return max(NEAREST_SHARE, 1 / (compared + 1))


def copied(share: float, compared: int, how: str) -> str:
    """Return a warning where too many samples look like copies of training cases, else an empty string.

    Args:
        share: share of samples that look like copies.
        compared: size of a set.
        how: criterion in words, such as "they lie nearer to a training vessel than 99 % of held-out ones do".
    """
    expected = expected_copies(compared)
    if not share > COPIED * expected:
        return ""
    return f"{share:.0%} of the samples look copied: {how}, where {expected:.0%} are expected."


def measured(compared: int, held: int, known: int, kind: str) -> dict[str, str]:
    """Describe the sizes of sets and the meaning of their intervals, for a report's list of facts.

    Args:
        compared: size of a set.
        held: number of held-out real samples.
        known: number of available training cases.
        kind: noun for a sample, such as "image".
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
    """Return warnings about small sets and about training cases that are no longer available.

    Args:
        compared: size of a set.
        known: number of available training cases.
        kind: noun for a sample, such as "image".
    """
    points = []
    if compared < FEW:
        points.append(
            f"Sets of {compared} {kind}s are small: distances, coverage and shares depend on that number; compare them "
            f"only within this table, and read them beside the row of real {kind}s."
        )
    if known < 2:
        points.append(f"The training {kind}s are no longer available: copying could not be checked.")
    return points
