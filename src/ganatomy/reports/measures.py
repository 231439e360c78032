"""Names of the numbers in a run's ``metrics.csv``: written by training, read by curves and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["loss", "score", "gradient norm", "validation", "game", "seconds"]

SCORE, GRADIENT_NORM, OF = "score of ", "gradient norm", " of "
ALONE: tuple[Kind, ...] = ("validation", "game", "seconds")
"""Kinds that are written before the name, where losses and scores have a player."""


@dataclass(frozen=True)
class Measure:
    """One curve of a run.

    Its text is ``player/term`` for a loss, ``player/score of real`` for a score, ``player/gradient norm``,
    ``validation/dice``, ``game/rotation``, or ``seconds/backward of generator``.

    Attributes:
        kind: which of these it is.
        name: of the loss term, of what is scored, of the validation score, of the property of the game, or of the part
            of a round that takes the time.
        player: whose it is; None where it is nobody's alone.
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
        """The measure of a text as `str` makes it.

        Raises:
            ValueError: no such text.
        """
        group, slash, term = text.partition("/")
        if not (group and slash and term):
            raise ValueError(f"{text!r} is no player/term")
        for kind in ALONE:
            if group == kind:
                # A validation score may have the word "of" in its name, and belongs to nobody.
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
"""Name of what the loss of a player falls by when it alone goes on."""
