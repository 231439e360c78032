"""What training says about itself: metrics.csv, TensorBoard, a progress bar, and a guard against nonsense."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Progress as Where
from ganatomy.game import Turn
from ganatomy.images.atomic import write_atomically
from ganatomy.training.loop import Diverged

COLUMNS = ("round", "images", "stage", "name", "value")


class Monitor:
    """Collects losses on the device and reads them only every few rounds.

    ``metrics.csv`` is long: one number a line, averaged over the rounds since the last line of its name.

    Args:
        folder: of the run; None keeps nothing on disk.
        every: rounds between two readings.
        resumed_round: later lines, written after the checkpoint that is resumed, are taken back.
        reduce: mean of a tensor over all processes, where there are several.
    """

    def __init__(
        self,
        folder: Path | None,
        every: int = 10,
        resumed_round: int = 0,
        reduce: Callable[[Tensor], Tensor] = lambda values: values,
    ):
        self.every, self.reduce = every, reduce
        self.pending: list[tuple[int, str, Tensor]] = []
        self.latest: dict[str, float] = {}
        self.path = folder / "metrics.csv" if folder else None
        self.writer: Any = None
        if self.path and folder:
            _keep_until(self.path, resumed_round)
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(folder / "events", purge_step=resumed_round + 1 if resumed_round else None)

    def turn(self, progress: Where, turn: Turn) -> None:
        """Remember the losses and scores of a turn."""
        number = progress.round + 1
        for name, value in turn.losses.items():
            self.pending.append((number, f"{turn.player}/{name}", value.detach()))
        for name, value in turn.scores.items():
            self.pending.append((number, f"{turn.player}/score of {name}", value.detach().float().mean()))

    def wants_gradients(self, progress: Where) -> bool:
        """Gradient norms are taken in the rounds that are read."""
        return (progress.round + 1) % self.every == 0

    def gradients(self, turn: Turn, norm: Tensor) -> None:
        """Remember a gradient norm."""
        number = self.pending[-1][0]
        self.pending.append((number, f"{turn.player}/gradient norm", norm.detach()))

    def round(self, progress: Where) -> None:
        """Read what is pending when it is time."""
        if progress.round % self.every == 0:
            self.flush(progress)

    def flush(self, progress: Where) -> None:
        """Read, check and write what is pending.

        Raises:
            Diverged: a value is not finite; says which term of which turn, and when.
        """
        sums: dict[str, list[float]] = {}
        for name, value in self._read():
            sums.setdefault(name, []).append(value)
        self.pending.clear()
        self.record(progress, {name: sum(parts) / len(parts) for name, parts in sums.items()})

    def _read(self) -> list[tuple[str, float]]:
        """The pending values by name, in one transfer from the device; only finite ones."""
        if not self.pending:
            return []
        values = self.reduce(torch.stack([value.float() for _, _, value in self.pending])).tolist()
        for (number, name, _), value in zip(self.pending, values, strict=True):
            if not math.isfinite(value):
                player, term = name.split("/", 1)
                raise Diverged(
                    f"round {number}: {term!r} in the turn of {player!r} is {value}; the last checkpoint is intact: "
                    "train in another --out with a lower --learning-rate or another --seed"
                )
        return [(name, value) for (_, name, _), value in zip(self.pending, values, strict=True)]

    def state(self) -> dict[str, Any]:
        """What has been heard and not yet written, so that stopping leaves no trace in the curves.

        Raises:
            Diverged: a value is not finite.
        """
        self._read()
        return {"pending": list(self.pending), "latest": dict(self.latest)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on listening where a saved monitor stopped."""
        self.pending, self.latest = list(state["pending"]), dict(state["latest"])

    def record(self, progress: Where, values: Mapping[str, float]) -> None:
        """Write numbers of this round."""
        self.latest |= values
        if self.path is None:
            return
        try:
            with self.path.open("a", newline="") as stream:
                rows = csv.writer(stream)
                for name, value in values.items():
                    rows.writerow((progress.round, progress.images, progress.stage, name, f"{value:.6g}"))
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; free some space and resume") from None
        for name, value in values.items():
            self.writer.add_scalar(name, value, progress.round)

    def close(self) -> None:
        """Finish the event file."""
        if self.writer:
            self.writer.close()


def _keep_until(path: Path, last_round: int) -> None:
    """Drop lines later than a round, and a last line that was cut off."""
    rows: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == len(COLUMNS) and row[0].isdigit()]
    kept = [row for row in rows if int(row[0]) <= last_round]

    def write(work: Path) -> None:
        with work.open("w", newline="") as stream:
            csv.writer(stream).writerows([list(COLUMNS), *kept])

    write_atomically(path, write)


class Bar:
    """A progress bar with the time that is left, or nothing where nobody watches."""

    def __init__(self, total: int, done: int, console: Console, show: bool):
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (show and console.is_terminal),
        )
        self.task = self.progress.add_task("training", total=total, completed=done, note="")
        self.progress.start()

    def update(self, where: Where, latest: Mapping[str, float], names: Iterable[str]) -> None:
        """Show the round and a few of the latest numbers."""
        note = "  ".join(f"{name} {latest[name]:.3g}" for name in names if name in latest)
        self.progress.update(self.task, completed=where.round, description=where.stage, note=note)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.progress.stop()
