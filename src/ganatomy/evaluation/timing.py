"""The run time of judged methods, taken while they are scored, so that it costs nothing and covers all cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import update_wrapper
from time import perf_counter
from typing import Any

import torch

from ganatomy.case import Sample
from ganatomy.evaluation.judging import Entry

DIGITS = 3
"""Number of significant digits of a run time."""


@dataclass
class Clock:
    """Seconds that an entry took for what it was asked to make.

    An entry may keep what it has made, so images that were timed once are not timed again.

    Attributes:
        calls: seconds and number of images of every timed call, in order.
        made: images that were timed: name of the case, and number of the slice.
    """

    calls: list[tuple[float, int]] = field(default_factory=list)
    made: set[tuple[str, int]] = field(default_factory=set)

    def note(self, seconds: float, asked: tuple[Any, ...]) -> None:
        """Note a call that took some seconds.

        Args:
            seconds: wall-clock time.
            asked: arguments of `Entry.run`: a case, and perhaps first slice and one past the last, or a request for a
                number of samples.
        """
        if not isinstance(asked[0], Sample):
            self.calls.append((seconds, asked[0].count))
            return
        case, start, stop = asked if len(asked) == 3 else (asked[0], 0, asked[0].shape[0])
        images = {(case.case.name, number) for number in range(start, stop)}
        if not images & self.made:
            self.calls.append((seconds, len(images)))
        self.made |= images

    @property
    def images(self) -> int:
        """Number of images over which `seconds` is a mean."""
        return sum(images for _, images in self._counted)

    @property
    def seconds(self) -> float:
        """Mean time per image; the first of several calls, in which libraries prepare themselves, is left out."""
        return sum(seconds for seconds, _ in self._counted) / self.images

    @property
    def _counted(self) -> list[tuple[float, int]]:
        return self.calls[1:] or self.calls


def timed(entry: Entry, clocks: dict[str, Clock]) -> Entry:
    """Return an entry that does the same, and whose clock among ``clocks`` notes how long that takes."""
    clock = clocks[entry.name] = Clock()

    def run(*asked: Any) -> Any:
        begun = perf_counter()
        made = entry.run(*asked)
        clock.note(perf_counter() - begun, asked)
        return made

    # Judges that ask an entry for more than masks find its own function by `inspect.unwrap`.
    return replace(entry, run=update_wrapper(run, entry.run, assigned=(), updated=()))


def run_times(clocks: Mapping[str, Clock], device: str, image: str) -> dict[str, Any]:
    """Return the run times of judged methods on this computer, as values that JSON can hold.

    Args:
        clocks: name of the entry to its clock; entries that were never called are left out.
        device: device of the networks, such as ``cuda``.
        image: what a method makes, of which the time is given: a slice of a case, or one sample.
    """
    named = f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
    methods = {
        name: {"seconds": float(f"{clock.seconds:.{DIGITS}g}"), "images": clock.images}
        for name, clock in clocks.items()
        if clock.calls
    }
    return {"device": named, "threads": torch.get_num_threads(), "image": image, "methods": methods}
