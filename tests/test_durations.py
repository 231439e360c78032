from types import SimpleNamespace

import durations


def report(nodeid, duration):
    return SimpleNamespace(nodeid=nodeid, duration=duration)


def test_seconds_are_summed_by_system_and_others_left_out():
    found = durations.of_systems(
        [
            report("tests/methods/test_contract.py::test_a[segan]", 1.5),
            report("tests/methods/test_contract.py::test_b[segan-more]", 0.5),
            report("tests/methods/test_wiring.py::test_c[gan]", 4.0),
            report("tests/data/test_batches.py::test_d[segan]", 9.0),
        ]
    )
    assert found == {"gan": 4.0, "segan-more": 0.5, "segan": 1.5} and list(found) == ["gan", "segan", "segan-more"]


def test_those_above_the_budget_are_named():
    told = list(durations.lines({"segan": durations.BUDGET + 1, "gan": 1.0}))
    assert "2 systems" in told[0] and told[1].endswith(": segan")
    assert len(list(durations.lines({"gan": 1.0}))) == 1 and not list(durations.lines({}))
