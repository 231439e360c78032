from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.evaluation import timing
from ganatomy.evaluation.judging import OUTPUT, Entry
from ganatomy.evaluation.sets import Request
from ganatomy.evaluation.timing import Clock, run_times, timed
from ganatomy.tasks.segmentation.objects import ObjectJudge, ObjectRun

CASE = Sample(Case("a", "a", "test", {}), {"input": np.zeros((1, 6, 4, 4), np.float32)}, {}, {})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still unless an entry moves it."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(timing, "perf_counter", lambda: now.seconds)
    return now


def entry(now: SimpleNamespace, *seconds: float) -> tuple[Entry, Clock]:
    """An entry whose calls take these times."""
    left = list(seconds)

    def run(*asked: object) -> object:
        now.seconds += left.pop(0)
        return asked

    clocks: dict[str, Clock] = {}
    return timed(Entry(OUTPUT, run, "told"), clocks), clocks[OUTPUT]


def test_a_timed_entry_does_the_same(now: SimpleNamespace) -> None:
    one, _ = entry(now, 1.0)
    assert one.run(CASE, 0, 2) == (CASE, 0, 2) and (one.name, one.about) == (OUTPUT, "told")


def test_the_time_is_a_mean_over_slices_without_the_first_call(now: SimpleNamespace) -> None:
    one, clock = entry(now, 9.0, 3.0, 1.0)
    for start, stop in ((0, 2), (2, 4), (4, 6)):
        one.run(CASE, start, stop)
    assert clock.seconds == pytest.approx(1.0) and clock.images == 4


def test_a_single_call_counts_and_a_whole_case_is_all_its_slices(now: SimpleNamespace) -> None:
    one, clock = entry(now, 3.0)
    one.run(CASE)
    assert clock.seconds == pytest.approx(0.5) and clock.images == 6


def test_slices_that_an_entry_may_have_kept_are_timed_once(now: SimpleNamespace) -> None:
    one, clock = entry(now, 4.0, 2.0, 0.0, 0.0)
    for start, stop in ((0, 3), (3, 6), (0, 6), (3, 4)):
        one.run(CASE, start, stop)
    assert clock.calls == [(4.0, 3), (2.0, 3)]


def test_samples_are_counted_as_often_as_they_are_drawn(now: SimpleNamespace) -> None:
    one, clock = entry(now, 5.0, 2.0, 2.0)
    for number in range(3):
        one.run(Request(8, number))
    assert clock.seconds == pytest.approx(0.25) and clock.images == 16


def test_entries_that_made_nothing_have_no_time(now: SimpleNamespace) -> None:
    one, clock = entry(now, 1.23456)
    one.run(Request(1, 0))
    found = run_times({OUTPUT: clock, "other": Clock()}, "cpu", "image")
    assert found["methods"] == {OUTPUT: {"seconds": 1.23, "images": 1}}
    assert found["device"] == "cpu" and found["image"] == "image" and found["threads"] >= 1


def test_instance_maps_of_timed_entries_are_judged_as_they_are() -> None:
    """Two objects that touch are one component of the mask."""
    numbers = np.zeros((1, 5, 7), np.uint32)
    numbers[0, 1:4, 1:3], numbers[0, 1:4, 3:6] = 1, 2
    entry = timed(Entry(OUTPUT, ObjectRun(lambda case: numbers), "told"), {})
    np.testing.assert_array_equal(ObjectJudge.numbers(None, entry, None), numbers)  # type: ignore[arg-type]
