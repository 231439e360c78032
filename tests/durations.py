"""How long the contract tests of every system take, told at the end, so that eighty systems still fit."""

import re
from collections import defaultdict

BUDGET = 6.0
"""Seconds of the contract tests of one system on two cores: 80 systems then take 8 of the suite's 15 minutes."""
CONTRACT = re.compile(r"tests/methods/test_(?:contract|wiring)\.py::\w+\[(?P<system>[a-z0-9-]+)")
SHOWN = 5


def of_systems(reports):
    """System to the seconds of its contract tests, the slowest first.

    Args:
        reports: of pytest, each with ``nodeid`` and ``duration``.
    """
    seconds = defaultdict(float)
    for report in reports:
        found = CONTRACT.search(report.nodeid)
        if found:
            seconds[found["system"]] += report.duration
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def lines(seconds):
    """What is told of them."""
    if not seconds:
        return
    yield (
        f"contract tests: {sum(seconds.values()):.0f} s for {len(seconds)} systems; the slowest: "
        + ", ".join(f"{system} {spent:.1f} s" for system, spent in list(seconds.items())[:SHOWN])
    )
    over = [system for system, spent in seconds.items() if spent > BUDGET]
    if over:
        yield f"above the budget of {BUDGET:g} s: {', '.join(over)}"
