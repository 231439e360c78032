"""Test of all claims one after another, cheapest first, which can be stopped and continued."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import sleep
from types import FrameType

from ganatomy.claims.decide import CLAIMS
from ganatomy.claims.reproduction import arms_of
from ganatomy.claims.results import Page, read_page
from ganatomy.training.cost import training_flops

PAGE = "claim.md"
POLL = 0.2
"""Seconds between two looks at the running tests."""


@dataclass(frozen=True)
class Waiting:
    """A claim in the queue.

    Attributes:
        slug: slug of the system.
        flops: floating-point operations of its training, all arms and seeds together.
        done: page of its results, where it need not be tested again.
    """

    slug: str
    flops: float
    done: Page | None


def plan(out: Path, seeds: int, preset: str, rounds: int | None = None) -> list[Waiting]:
    """Return all claims, cheapest first, with the results that are there already.

    Results count where they have as many runs of every arm and are not older than the code.

    Args:
        out: folder of all results, with a folder for each system.
        seeds: runs of every arm.
        preset: name of the preset of every arm.
        rounds: rounds of the proposed method of every claim; None means those of the preset.
    """
    found = []
    for slug, claim in CLAIMS.items():
        flops = seeds * sum(training_flops(arm.method, arm.rounds) for arm in arms_of(claim, preset, rounds))
        path = out / slug / PAGE
        page = read_page(slug, path) if path.is_file() else None
        whole = page is not None and (page.runs or 0) >= seeds and not page.stale
        found.append(Waiting(slug, flops, page if whole else None))
    return sorted(found, key=lambda one: one.flops)


def hours_left(waiting: Sequence[Waiting]) -> float | None:
    """Return the hours of training that are left on one processor, judged by those that are done; None if none are."""
    rates = [one.done.hours / one.flops for one in waiting if one.done and one.done.hours]
    return median(rates) * sum(one.flops for one in waiting if not one.done) if rates else None


def run_all(
    commands: Mapping[str, Sequence[str]], jobs: int, tell: Callable[[str, int], None]
) -> tuple[dict[str, int], int | None]:
    """Run commands of this package, several at a time, until all are done or a signal asks to stop.

    A signal is passed on to what is running, which saves its state.

    Args:
        commands: name to arguments of the command line.
        jobs: number of processes at a time.
        tell: called with the name and exit status of every command that ends.

    Returns:
        Name to exit status of what ended, and the number of the signal that asked to stop, or None.
    """
    left, ended = list(commands), dict[str, int]()
    running: dict[str, subprocess.Popen[bytes]] = {}
    with _passing_on(running) as received:
        while (left and not received) or running:
            while left and not received and len(running) < jobs:
                name = left.pop(0)
                running[name] = subprocess.Popen([sys.executable, "-m", "ganatomy", *commands[name]])
            for name, process in list(running.items()):
                if process.poll() is not None:
                    ended[name] = running.pop(name).returncode
                    tell(name, ended[name])
            sleep(POLL)
    return ended, received[0] if received else None


@contextmanager
def _passing_on(running: Mapping[str, subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Pass signals that ask to stop on to running processes; the list holds their numbers."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        for process in running.values():
            process.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
