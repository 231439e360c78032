"""Monitoring of training: ``metrics.csv``, TensorBoard, a progress bar, and a check that losses stay finite."""

import csv
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Progress as Where
from ganatomy.game import Turn
from ganatomy.images.atomic import write_atomically
from ganatomy.reports import terminal
from ganatomy.reports.curves import COLUMNS
from ganatomy.reports.measures import GRADIENT_NORM, Measure
from ganatomy.training.loop import Diverged

METRICS, EVENTS = "metrics.csv", "events"
LONG, SHORT, MANY = 20.0, 4.0, 50
"""Seconds of a first round that suffice for a forecast; seconds, or number, of later ones that do (our choice)."""

log = logging.getLogger(__name__)


class Monitor:
    """Collects losses on the device, transfers them every few rounds, and writes ``metrics.csv`` and TensorBoard files.

    ``metrics.csv`` is in long form, one number a line. Losses and scores are averaged over the rounds since the
    previous line of their name; gradient norms and seconds are those of one round.

    Args:
        folder: run folder; None writes nothing.
        every: number of rounds between two transfers.
        reduce: averages a tensor over all processes.
    """

    def __init__(
        self,
        folder: Path | None,
        every: int = 10,
        reduce: Callable[[Tensor], Tensor] = lambda values: values,
    ):
        self.every, self.reduce = every, reduce
        self.pending: list[tuple[int, Measure, Tensor]] = []
        self.seconds: dict[Measure, float] = {}
        self.latest: dict[Measure, float] = {}
        self.folder, self.path = folder, folder / METRICS if folder else None
        self.writer: Any = None

    def begin(self, done: int = 0) -> None:
        """Begin to write; lines after round ``done``, that of the checkpoint that is resumed, are removed.

        Raises:
            UserError: the files cannot be read or written.
        """
        if not (self.folder and self.path):
            return
        _keep_until(self.path, done)
        from torch.utils.tensorboard import SummaryWriter

        try:
            self.writer = SummaryWriter(self.folder / EVENTS, purge_step=done + 1 if done else None)
        except OSError as error:
            raise UserError(f"{self.folder / EVENTS}: {error.strerror or error}; choose another --out") from None

    def turn(self, progress: Where, turn: Turn) -> None:
        """Collect the losses and scores of a turn."""
        number = progress.round + 1
        for name, value in turn.losses.items():
            self.pending.append((number, Measure("loss", name, turn.player), value.detach()))
        for name, value in turn.scores.items():
            self.pending.append((number, Measure("score", name, turn.player), value.detach().float().mean()))

    def watches(self, progress: Where) -> bool:
        """Whether the round ends with a transfer, so that its gradient norms and seconds are measured."""
        return (progress.round + 1) % self.every == 0

    def spent(self, part: str, player: str | None, seconds: float) -> None:
        """Add to the seconds of a part of the round."""
        measure = Measure("seconds", part, player)
        self.seconds[measure] = self.seconds.get(measure, 0.0) + seconds

    def gradients(self, turn: Turn, norm: Tensor) -> None:
        """Collect the gradient norm of a turn."""
        number = self.pending[-1][0]
        self.pending.append((number, Measure("gradient norm", GRADIENT_NORM, turn.player), norm.detach()))

    def round(self, progress: Where) -> None:
        """Transfer and write the collected values every ``every`` rounds."""
        if progress.round % self.every == 0:
            self.flush(progress)

    def flush(self, progress: Where) -> None:
        """Transfer, check and write all collected values.

        Raises:
            Diverged: a value is not finite; the message names the term, the turn and the round.
        """
        found: dict[Measure, list[float]] = {}
        for measure, value in self._read():
            found.setdefault(measure, []).append(value)
        means = {measure: sum(parts) / len(parts) for measure, parts in found.items()}
        seconds = dict(self.seconds)
        self.pending.clear()
        self.seconds.clear()
        self.record(progress, means | seconds)

    def _read(self) -> list[tuple[Measure, float]]:
        """Transfer the collected values from the device at once and check that they are finite."""
        if not self.pending:
            return []
        values = self.reduce(torch.stack([value.float() for _, _, value in self.pending])).tolist()
        for (number, measure, _), value in zip(self.pending, values, strict=True):
            if not math.isfinite(value):
                term = str(measure).partition("/")[2]
                raise Diverged(
                    f"round {number}: {term!r} in the turn of {measure.player!r} is {value}; the last checkpoint is "
                    "intact: train in another --out with a lower --learning-rate or another --seed"
                )
        return [(measure, value) for (_, measure, _), value in zip(self.pending, values, strict=True)]

    def state(self) -> dict[str, Any]:
        """State for a checkpoint: values that are not written yet, so that stopping does not change the curves.

        Raises:
            Diverged: a value is not finite.
        """
        self._read()
        pending = [(number, str(measure), value) for number, measure, value in self.pending]
        return {"pending": pending, "latest": self.latest_by_name}

    @property
    def latest_by_name(self) -> dict[str, float]:
        """Latest value of every measure, by the text of the measure."""
        return {str(measure): value for measure, value in self.latest.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a saved `state`."""
        self.pending = [(number, Measure.parse(name), value) for number, name, value in state["pending"]]
        self.latest = {Measure.parse(name): value for name, value in state["latest"].items()}

    def record(self, progress: Where, values: Mapping[Measure, float]) -> None:
        """Write values of a round to ``metrics.csv`` and TensorBoard."""
        # Seconds differ between runs that are equal otherwise, and would make their checkpoints differ.
        self.latest |= {measure: value for measure, value in values.items() if measure.kind != "seconds"}
        if self.path is None:
            return
        try:
            with self.path.open("a", newline="") as stream:
                rows = csv.writer(stream)
                for measure, value in values.items():
                    rows.writerow((progress.round, progress.images, progress.stage, str(measure), f"{value:.6g}"))
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; free some space and resume") from None
        for measure, value in values.items():
            self.writer.add_scalar(str(measure), value, progress.round)

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self.writer:
            self.writer.close()


def read_rows(path: Path) -> list[list[str]]:
    """Read the lines of ``metrics.csv`` without the heading and without a last line that a kill has cut off.

    Raises:
        UserError: another line is no reading of a curve, or the file cannot be read.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it, or train in another --out") from None
    readable = [_is_reading(row) for row in rows[1:]]
    in_lines = not any("\n" in cell for row in rows for cell in row)
    if (rows and rows[0] != list(COLUMNS)) or not all(readable[:-1]) or not in_lines:
        raise UserError(f"{path}: damaged, since it holds other lines than readings; restore it, or train again")
    return [row for row, good in zip(rows[1:], readable, strict=True) if good]


def _is_reading(row: Sequence[str]) -> bool:
    try:
        number, images, _, name, value = row
        Measure.parse(name)
        return int(number) >= 0 and int(images) >= 0 and float(value) == float(value)
    except ValueError:
        return False


def _keep_until(path: Path, last_round: int) -> None:
    """Drop the lines of ``metrics.csv`` that are later than a round, and a last line that was cut off."""
    kept = [row for row in read_rows(path) if int(row[0]) <= last_round]

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([list(COLUMNS), *kept])

    write_atomically(path, write)


class Bar:
    """A progress bar with the remaining time; lines in the log where there is no terminal.

    Args:
        total: number of rounds of the run.
        done: number of rounds before this start.
        console: terminal; without one there are lines.
        show: whether to show anything.
        clock: clock that tells when a line is due.
    """

    def __init__(self, total: int, done: int, console: Console, show: bool, clock: terminal.Clock | None = None):
        self.total, self.done, self.clock = total, done, clock or terminal.Clock()
        self.lines, self.line, self.written = show and not console.is_terminal, "", ""
        shown = console if show else Console(quiet=True)
        self.progress = terminal.bar(shown, noted=True, expand=True)
        self.task = self.progress.add_task("training", total=total, completed=done, note="")
        self.progress.start()

    def update(self, where: Where, shown: Mapping[str, float]) -> None:
        """Show the round and some named numbers."""
        note = "  ".join(f"{name} {value:.3g}" for name, value in shown.items())
        self.progress.update(self.task, completed=where.round, description=where.stage, note=note)
        if self.lines:
            self.line = f"round {where.round} of {self.total} ({where.stage}){': ' if note else ''}{note}"
            pace = (where.round - self.done) / max(self.clock.elapsed, 1e-9)
            left = terminal.duration((self.total - where.round) / pace) if pace else "unknown"
            rate = f"{pace:.3g} rounds a second" if pace >= 1 else f"{1 / pace:.3g} seconds a round" if pace else ""
            self.line += f"; {rate}, {left} left" if rate else ""
            if self.clock.is_due():
                self._write()

    def _write(self) -> None:
        if self.line != self.written:
            log.info("%s", self.line)
            self.written = self.line

    def close(self) -> None:
        """Stop updating the bar and leave it on the terminal; write the last line."""
        self._write()
        self.progress.stop()


class Forecast:
    """Forecast of the time that a run takes, from its first rounds.

    Args:
        total: number of rounds of the run.
        done: number of rounds before this start.
        clock: clock that began before the first round.
    """

    def __init__(self, total: int, done: int, clock: terminal.Clock):
        self.total, self.done, self.clock = total, done, clock
        self.first: float | None = None
        self.made = False

    def after(self, number: int) -> float | None:
        """Return the seconds that the rest of the run will take, once, as soon as they can be told; else None.

        The first round is slower than the others and is left out, unless it takes so long that it is all there is.

        Args:
            number: round that is done, counted from 1.
        """
        rounds, elapsed = number - self.done, self.clock.elapsed
        if self.made or rounds < 1:
            return None
        if self.first is None:
            self.first = elapsed
            pace = elapsed if elapsed >= LONG else None
        else:
            later = elapsed - self.first
            pace = later / (rounds - 1) if rounds > 1 and (later >= SHORT or rounds > MANY) else None
        if pace is None:
            return None
        self.made = True
        return pace * (self.total - number)
