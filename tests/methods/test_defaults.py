"""Defaults, presets and baselines of all systems against those in tests/fixtures/defaults.json.

    python tests/methods/test_defaults.py    record all of them anew

They are the papers' numbers, which pages in docs/systems explain: a changed one is looked up there before it is
recorded.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from small import READY  # noqa: E402

import recorded  # noqa: E402
from ganatomy import catalogue  # noqa: E402

FILE = recorded.FOLDER / "defaults.json"


def defaults(slug):
    """Return all values of the preset ``paper``, and those that differ from them in other presets and the baseline."""
    kind = catalogue.load(slug).Config
    paper = kind.preset("paper").model_dump(mode="json")
    others = {name: kind.preset(name) for name in kind.presets if name != "paper"}
    if kind.baseline:
        others["baseline"] = kind.preset("paper", **kind.baseline)
    dumped = {name: config.model_dump(mode="json") for name, config in others.items()}
    return recorded.plain(
        {
            "paper": paper,
            **{name: {key: own[key] for key in own if own[key] != paper[key]} for name, own in dumped.items()},
        }
    )


@pytest.mark.parametrize("slug", READY)
def test_defaults_and_presets_are_as_recorded(slug):
    assert defaults(slug) == json.loads(FILE.read_text(encoding="utf-8"))[slug]


if __name__ == "__main__":
    recorded.write(FILE, {slug: defaults(slug) for slug in READY})
