"""Names of the curves in a run's ``metrics.csv``, which training writes and reports read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["loss", "score", "gradient norm", "validation", "game", "seconds"]

SCORE, GRADIENT_NORM, OF = "score of ", "gradient norm", " of "
ALONE: tuple[Kind, ...] = ("validation", "game", "seconds")
"""Kinds whose text begins with the kind instead of a player."""


@dataclass(frozen=True)
class Measure:
    """Name of one curve of a run.

    Its text is ``player/term`` for a loss, ``player/score of real`` for a score, ``player/gradient norm``,
    ``validation/dice``, ``game/rotation``, or ``seconds/backward of generator``.

    Attributes:
        kind: kind of the curve.
        name: name of the loss term, of the scored images, of the validation score, of the property of the game, or of
            the timed part of a round.
        player: player to which the curve belongs; None if it belongs to no single one.
    """

    kind: Kind
    name: str
    player: str | None = None

    def __str__(self) -> str:
        if self.kind in ALONE:
            whose = f"{OF}{self.player}" if self.player else ""
            return f"{self.kind}/{self.name}{whose}"
        term = {"loss": self.name, "score": f"{SCORE}{self.name}"}.get(self.kind, GRADIENT_NORM)
        return f"{self.player}/{term}"

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Parse a text as made by `str`.

        Raises:
            ValueError: The text names no curve.
        """
        group, slash, term = text.partition("/")
        if not (group and slash and term):
            raise ValueError(f"{text!r} is no player/term")
        for kind in ALONE:
            if group == kind:
                # A validation score may have the word "of" in its name, and has no player.
                name, of, player = (term, "", "") if kind == "validation" else term.rpartition(OF)
                return cls(kind, name, player) if of else cls(kind, term)
        if term == GRADIENT_NORM:
            return cls("gradient norm", GRADIENT_NORM, group)
        if term.startswith(SCORE):
            return cls("score", term.removeprefix(SCORE), group)
        return cls("loss", term, group)


ROTATION = Measure("game", "rotation")
"""Angle in degrees between the joint gradient and its own change along itself."""
GAIN_ALONE = "gain alone"
"""Name of the amount by which the loss of a player falls when it alone is updated."""
