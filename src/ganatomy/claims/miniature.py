"""How the arms of a claim differ from the methods of their papers: options, and rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ganatomy.claims.claim import Claim
from ganatomy.training.arms import Arm

OF_DATA = frozenset({"phantom", "roles"})
"""Options that say on which images a claim was tested; results name these in another place."""


def differences_from_paper(claim: Claim, arms: Sequence[Arm]) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the options in which arms differ from the preset ``paper``: arm to option to (value, value of the paper).

    Options by which the claim tells its arms apart, such as a weight of 0 for the network without an adversary, are
    part of the comparison, and are left out where they have the value that the claim gives.

    Args:
        claim: the claim.
        arms: its arms.
    """
    found = {}
    for arm in arms:
        own = dict(claim.arms[arm.name])
        paper = type(arm.config).preset("paper", **own)
        ours, theirs = dict(_flat(arm.config)), dict(_flat(paper))
        found[arm.name] = {
            name: (value, theirs.get(name, "none")) for name, value in ours.items() if value != theirs.get(name, "none")
        }
        if arm.rounds is not None:
            whole = sum(stage.rounds for stage in type(arm.method).of(paper).stages())
            found[arm.name]["rounds"] = (str(arm.rounds), str(whole))
    return found


def _flat(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the options of a configuration as they are typed, with their values as text."""
    for name, value in config:
        if not prefix and name in OF_DATA:
            continue
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_text(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value)) or "none"
    return "none" if value is None else repr(value) if isinstance(value, float) else str(value)
