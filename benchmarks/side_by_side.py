"""Ratios of times taken in turns in one process, so that whatever else the machine does hits both alike."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One line of a table: ours over theirs, and the goal."""

    what: str
    ratio: float
    spread: tuple[float, float]
    goal: float

    def __str__(self) -> str:
        verdict = "met" if self.ratio <= self.goal else "missed"
        low, high = self.spread
        return f"| {self.what} | {self.ratio:.2f} | {low:.2f} to {high:.2f} | {self.goal:.2f} | {verdict} |"


HEAD = "| what | ratio (median) | middle half | goal | |\n|---|---|---|---|---|"


def interleaved(cases: Mapping[str, Callable[[], object]], repeats: int = 20, warm: int = 2) -> dict[str, list[float]]:
    """Seconds of every repeat of every case; each repeat runs all cases, in changing order."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for repeat in range(-warm, repeats):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            cases[name]()
            if repeat >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def compare(what: str, times: Mapping[str, list[float]], ours: str, theirs: str, goal: float) -> Row:
    """The median of the ratios of neighbouring times."""
    ratios = [a / b for a, b in zip(times[ours], times[theirs], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(what, middle, (low, high), goal)


def machine() -> str:
    """What the numbers were taken on."""
    cores = torch.get_num_threads()
    return f"{platform.machine()} CPU, {cores} thread{'s' * (cores > 1)}, torch {torch.__version__}, fp32"
