"""Compare times of two programs, measured in turns in one process so that other load on the machine affects both."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """Row of a table: ratio of the times of two programs, its middle half, and the goal."""

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
    """Return the seconds that each case took in every repeat; a repeat runs all cases, in changing order."""
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
    """Return the median of the ratios of times from the same repeat, with its middle half."""
    ratios = [a / b for a, b in zip(times[ours], times[theirs], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(what, middle, (low, high), goal)


def machine() -> str:
    """Describe the machine: processor type, threads, and version of torch."""
    cores = torch.get_num_threads()
    return f"{platform.machine()} CPU, {cores} thread{'s' * (cores > 1)}, torch {torch.__version__}, fp32"
