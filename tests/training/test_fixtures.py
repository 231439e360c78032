"""Two rounds of every system against those in tests/fixtures/rounds.json, which scripts/record_fixtures.py records.

Where versions and processor are those of the record, weights and outputs have the same digests as long as nothing is
changed, not even the order of a sum; with other digests loss terms, and a few numbers of weights and outputs, may
differ by 2e-5. Another processor rounds differently, and training enlarges that: elsewhere 2e-4 are allowed, and of the
systems in which rounding soon decides everything only the first turn is compared, and the names and shapes of all that
follows.
"""

import copy
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("record_fixtures", ROOT / "scripts" / "record_fixtures.py")
fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fixtures)

RECORDED = json.loads(fixtures.FILE.read_text(encoding="utf-8"))
QUICK = (
    "sagan-ct",
    "dagan",
    "mdcsrn",
    "pcle-cycle-sr",
    "pix2pix",
    "anovaegan",
    "prostate-lesion-dcgan",
    "ac-gan",
)
"""Systems of every test run: CT, raw MR, volumes, unpaired frames, pairs, a detector, several roles, labels."""


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in fixtures.MODELS]
)
def test_two_rounds_are_as_recorded(model, tmp_path, cases):
    assert fixtures.differences(model, RECORDED[model], fixtures.record(model, tmp_path, cases)) == []


def test_every_ready_system_is_recorded():
    assert sorted(RECORDED) == sorted(fixtures.MODELS), "run scripts/record_fixtures.py for what is missing"
    assert all(entry["turns"] and entry["outputs"] for entry in RECORDED.values())
    assert set(QUICK) | fixtures.DRIFTING <= set(fixtures.MODELS)


@pytest.fixture
def entry():
    weights = {"b.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "a.bias": np.float32([0.5, -2, 7])}
    return {
        "made_with": "here",
        "turns": [{"critic/wasserstein": -0.25, "critic/penalty": 3.0}, {"generator/adversarial": 0.001}],
        "weights": fixtures.described_weights(weights),
        "outputs": {"map": fixtures.described(np.linspace(-300, 900, 30).reshape(1, 5, 6))},
    }


def moved(entry, by):
    """Make a fixture entry with all numbers larger by this share."""
    other = copy.deepcopy(entry)
    other["turns"] = [{name: value * (1 + by) for name, value in turn.items()} for turn in entry["turns"]]
    for part in (other["weights"], *other["outputs"].values()):
        part["digest"] = part["nameless"] = "another"
        part["max"] *= 1 + by
        part["values"][3] *= 1 + by
    return other


def told(entry, other, model="dcgan"):
    return [line.partition(" is ")[0] for line in fixtures.differences(model, entry, other)]


def test_rounding_is_no_difference_and_what_exceeds_it_is(entry):
    assert told(entry, entry) == told(entry, moved(entry, 1e-5)) == []
    assert told(entry, moved(entry, 1e-3)) == [
        "turn 0: critic/wasserstein",
        "turn 0: critic/penalty",
        "weights: max",
        "weights: value 3",
        "output map: max",
        "output map: value 3",
    ]


def test_elsewhere_more_is_rounding_and_in_some_systems_all_but_the_first_turn(entry):
    near, far = moved(entry, 1e-4), moved(entry, 0.5)
    near["made_with"] = far["made_with"] = "elsewhere"
    assert told(entry, near) == []
    assert told(entry, far)[2:4] == ["turn 1: generator/adversarial", "weights: max"]
    assert told(entry, far, "va-gan") == ["turn 0: critic/wasserstein", "turn 0: critic/penalty"]
    far["turns"][0] = entry["turns"][0]
    assert told(entry, far, "va-gan") == []
    far["weights"]["count"] += 1
    assert told(entry, far, "va-gan") == ["weights: 2 tensors, were 2", "weights: 16 count, were 15"]


def test_what_is_no_number_differs(entry):
    for model in ("dcgan", "va-gan"):
        other = copy.deepcopy(entry)
        other["made_with"] = "elsewhere"
        other["turns"][1]["generator/adversarial"] = math.nan
        assert told(entry, other, model) == ["turn 1: generator/adversarial"]


def test_other_turns_outputs_and_shapes_differ(entry):
    other = copy.deepcopy(entry)
    other["turns"].insert(1, {"critic/wasserstein": 1.0})
    assert told(entry, other) == ["3 turns, were 2; turn 1"]
    other = copy.deepcopy(entry)
    other["outputs"]["map"] = fixtures.described(np.linspace(-300, 900, 30).reshape(1, 6, 5))
    assert told(entry, other) == ["output map: shape [1, 6, 5], was [1, 5, 6]"]
    other["outputs"] = {"score": entry["outputs"]["map"]}
    assert told(entry, other) == ["outputs: score, were map"]


def test_weights_are_told_by_name_value_and_type_and_what_was_fitted_does_not_count():
    weights = {"b.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "a.bias": np.float32([0.5, -2, 7])}
    described = fixtures.described_weights(weights)
    assert (described["tensors"], described["count"]) == (2, 15)
    assert fixtures.described_weights({"fitted.scale": np.ones(3), **dict(reversed(weights.items()))}) == described
    renamed = fixtures.described_weights({"c.weight": weights["b.weight"], "a.bias": weights["a.bias"]})
    assert renamed["digest"] != described["digest"] and renamed["nameless"] == described["nameless"]
    turned = fixtures.described_weights({**weights, "b.weight": weights["b.weight"].reshape(4, 3)})
    longer = fixtures.described_weights({**weights, "a.bias": weights["a.bias"].astype(np.float64)})
    assert len({each["nameless"] for each in (described, turned, longer)}) == 3


def test_terms_are_heard_turn_by_turn_and_only_meanwhile():
    with fixtures.turns() as heard:
        fixtures.Turn("critic", {"wasserstein": torch.tensor(0.1)}, penalty=torch.tensor(2.0))
        fixtures.Turn("generator", adversarial=torch.tensor(1 / 3))
    fixtures.Turn("generator", adversarial=torch.tensor(1.0))
    assert heard == [{"critic/wasserstein": 0.1, "critic/penalty": 2.0}, {"generator/adversarial": 0.33333334}]


def test_a_file_is_recorded_compared_and_kept_where_nothing_new_is_asked_for(tmp_path, monkeypatch, capsys):
    file = tmp_path / "deep" / "rounds.json"

    def run(*words):
        monkeypatch.setattr("sys.argv", ["record_fixtures.py", "--file", str(file), *words])
        return fixtures.main()

    assert run("--check", "aae") == 1 and "not recorded" in capsys.readouterr().out
    assert run("aae") == run("prostate-lesion-dcgan") == 0
    recorded = json.loads(file.read_text())
    assert list(recorded) == ["aae", "prostate-lesion-dcgan"]
    assert list(recorded["prostate-lesion-dcgan"]["outputs"]) == ["t2", "adc", "ktrans"]
    capsys.readouterr()
    assert run("--check", "--exact", "aae") == 0 and capsys.readouterr().out.endswith("equal\n")
    term = next(iter(recorded["aae"]["turns"][0]))
    recorded["aae"]["turns"][0][term] *= 1 + 1e-6
    file.write_text(fixtures.text(recorded))
    assert run("--check", "aae") == 0 and "equal but for rounding" in capsys.readouterr().out
    assert run("--check", "--exact", "aae") == 1
    recorded["aae"]["turns"][0][term] *= 2
    file.write_text(fixtures.text(recorded))
    assert run("--check", "aae") == 1 and f"turn 0: {term} is" in capsys.readouterr().out
    assert json.loads(file.read_text()) == recorded
