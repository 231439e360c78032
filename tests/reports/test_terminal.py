import io
import logging
import sys

import pytest
from rich.console import Console

from ganatomy.game import Progress as Where
from ganatomy.reports import terminal
from ganatomy.training.monitor import Bar, Forecast

LOG = logging.getLogger("ganatomy")


class Watch:
    """A clock that stands still unless it is moved."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def after(number, stage="denoise"):
    return Where(round=number, stage=stage)


def test_without_a_terminal_a_line_is_written_every_so_often_and_at_the_end(capsys):
    watch = Watch()
    bar = Bar(500, 20, Console(stderr=True), True, terminal.Clock(30.0, watch))
    with terminal.spoken():
        for number in range(21, 101):
            watch.seconds += 0.5
            bar.update(after(number), {"rmse": 12.345, "content": 0.5})
        bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "round 80 of 500 (denoise): rmse 12.3  content 0.5; 2 rounds a second, 4 minutes left",
        "round 100 of 500 (denoise): rmse 12.3  content 0.5; 2 rounds a second, 3 minutes left",
    ]


def test_nothing_is_written_where_nothing_is_to_be_shown(capsys):
    bar = Bar(5, 0, Console(stderr=True), False)
    with terminal.spoken():
        bar.update(after(5), {})
        bar.close()
    assert not capsys.readouterr().err


@pytest.mark.parametrize("columns", [80, 100])
def test_count_and_time_stay_whole_on_a_narrow_terminal(columns):
    screen = io.StringIO()
    console = Console(file=screen, width=columns, force_terminal=True, color_system=None, legacy_windows=False)
    bar = Bar(1_234_567, 0, console, True)
    bar.update(after(654_321, "a stage with quite a long name"), {f"player {one}/adversarial": 0.5 for one in "abc"})
    bar.close()
    last = screen.getvalue().split("\r")[-1].splitlines()[0].removeprefix("\x1b[2K")
    assert "654321/1234567" in last and "left" in last and last.count(":") >= 4
    assert len(last) <= columns and last.rstrip().endswith("…")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"),
        (1, "1 second"),
        (89, "89 seconds"),
        (120, "2 minutes"),
        (5399, "90 minutes"),
        (9000, "2.5 hours"),
        (200_000, "2.3 days"),
        (12_000_000, "139 days"),
    ],
)
def test_durations_have_a_unit_that_fits(seconds, words):
    assert terminal.duration(seconds) == words


def test_the_forecast_leaves_out_the_first_round_and_is_made_once():
    watch = Watch()
    forecast = Forecast(1000, 100, terminal.Clock(now=watch))
    watch.seconds = 3.0
    assert forecast.after(101) is None
    watch.seconds = 5.0
    assert forecast.after(102) is None
    watch.seconds = 7.0
    assert forecast.after(103) == pytest.approx(2.0 * 897)
    watch.seconds = 60.0
    assert forecast.after(104) is None


def test_a_very_long_first_round_is_enough_for_a_forecast():
    watch = Watch()
    forecast = Forecast(10, 0, terminal.Clock(now=watch))
    watch.seconds = 600.0
    assert forecast.after(1) == pytest.approx(5400.0)


def test_messages_of_a_program_that_handles_them_are_left_to_it(capsys):
    with terminal.spoken():
        LOG.warning("careful [red]")
        LOG.debug("detail")
    with terminal.spoken(level=logging.DEBUG):
        LOG.debug("detail")
    LOG.info("afterwards")
    assert capsys.readouterr().err.splitlines() == ["warning: careful [red]", "detail"]
    handler = logging.StreamHandler(sys.stdout)
    LOG.addHandler(handler)
    try:
        with terminal.spoken():
            LOG.warning("mine")
    finally:
        LOG.removeHandler(handler)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("mine\n", "")


def test_cases_are_told_now_and_then_and_at_the_end():
    watch = Watch()
    clock = terminal.Clock(30.0, watch)
    assert [number for number in range(1, 104) if clock.tells(number, 103)] == [103], "quick work has one line"
    told = []
    for number in range(1, 8):
        watch.seconds += 12.0
        told += [number] if clock.tells(number, 7) else []
    assert told == [3, 6, 7]
