"""Tables of what the losses of every system depend on, from its paper; one module for each section of the survey.

`test_wiring.py` compares these tables with the code: it changes one role of a batch, or doubles one weight, and looks
which terms of which player differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOISE = "noise"
"""Whatever a method draws itself: latent numbers, labels to make, masks, augmentation, places between two images."""
NOTHING = "nothing"
"""Terms that depend on weights of networks alone."""
IMAGE, MASK, COILS = "input: image", "input: mask", "input: coils"
"""The parts of an undersampled scan: zero-filled image, which samples were measured, sensitivities of the coils."""

OTHERWISE = 0.0
"""Instead of a factor, of terms that change without being multiplied by anything."""


@dataclass(frozen=True)
class Losses:
    """Loss terms of a stage, as ``player/term``.

    Attributes:
        roles: each role that the stage draws, and `NOISE` and `NOTHING` where there is such a thing, to the terms that
            depend on it.
        weights: option to the terms that it weighs, each with the factor by which it grows when the option doubles.
            Options that are missing do not change this stage.
    """

    roles: Mapping[str, Sequence[str]]
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def terms(self) -> set[str]:
        return {term for terms in self.roles.values() for term in terms}


@dataclass(frozen=True)
class Wiring:
    """How the losses of one system are connected.

    Attributes:
        system: name in the catalogue, perhaps with ``:preset``.
        stages: by name; one called ``*`` stands for all stages without an entry of their own.
        variant: tells entries of one system apart.
        options: that differ from the small preset: unequal extents, several channels and coils, losses that are off by
            default.
        unused: options with *weight* in their name that weigh no loss of this entry, and why.
        rounds: played before anything is compared, so that pools are full.
    """

    system: str
    stages: Mapping[str, Losses]
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    rounds: int = 0

    @property
    def name(self) -> str:
        return f"{self.system}, {self.variant}" if self.variant else self.system

    @property
    def slug(self) -> str:
        return self.system.partition(":")[0]


def alike(roles: Sequence[str], terms: Sequence[str]) -> dict[str, Sequence[str]]:
    """Several roles on which the same terms depend."""
    return dict.fromkeys(roles, terms)


def doubled(*terms: str) -> dict[str, float]:
    """Terms that are proportional to a weight."""
    return dict.fromkeys(terms, 2.0)


def each(player: str, *terms: str) -> list[str]:
    """Terms of one player."""
    return [f"{player}/{term}" for term in terms]
