"""The game of every wiring, in plain values that can be compared with recorded ones.

    python tests/methods/games.py            record all games anew in tests/fixtures/games.json
    python tests/methods/games.py SLUG ...   record those of some systems anew, and remove games that are gone

Recorded are the stages with their streams and players, the optimisers and their schedules, the loss terms of one round
with the weights of a seed, and what the method makes of a few random numbers. Nobody takes a step, so that rounding
stays what it is.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from small import results, shown  # noqa: E402

import recorded  # noqa: E402

FILE = recorded.FOLDER / "games.json"
ALONG = (0.0, 0.2, 0.5, 0.7, 1.0)
"""Shares of a stage at which schedules are looked at."""
USUAL = {"optional": False, "ends": "mirrored"}
"""Values of which nothing is said."""
CHOSEN = ("lr", "betas", "momentum", "alpha", "eps", "weight_decay")
"""Options of optimisers that papers choose; others depend on the version of PyTorch."""


def game(method, terms):
    """Return what is recorded of a method.

    Args:
        method: whose progress is left where it was.
        terms: loss terms of one round of each stage.
    """
    stages = method.stages()
    return recorded.plain(
        {
            "stages": {stage.name: described(method, stage) for stage in stages},
            "terms": {stage.name: found for stage, found in zip(stages, terms, strict=True)},
            "tiling": usual_left_out(asdict(method.tiling)),
            "made": [recorded.numbers(part.detach()) for part in made(method)],
        }
    )


@torch.no_grad()
def made(method):
    """Return what the first ability makes of random numbers."""
    method.inference_mode()
    try:
        values = shown(method, 2)
        # Vessels are made as long as asked for.
        return (
            [method.sample(values, values[:, :1].abs())]
            if getattr(method, "conditional", False)
            else results(method, values)
        )
    finally:
        method.train()


def described(method, stage):
    """Return a stage as plain values."""
    return {
        "rounds": stage.rounds,
        "validated": stage.validated,
        "begins": stage.begin is not None,
        "derived": {name: repr_of(one) for name, one in stage.derive.items()},
        "streams": [repr_of(stream) for stream in stage.streams_in_order],
        "players": {player.name: moves_of(method, stage, player) for player in stage.players},
    }


def moves_of(method, stage, player):
    """Return how a player moves: its optimiser, and what changes along the stage."""
    optimizer = player.optimizer(player.parameters())
    kept, found = replace(method.progress), []
    for share in ALONG:
        progress = method.progress
        progress.stage, progress.stage_rounds, progress.stage_round = (
            stage.name,
            stage.rounds,
            int(share * stage.rounds),
        )
        progress.round, progress.images = progress.stage_round, 2 * progress.stage_round
        functions = (player.schedule, player.momentum, player.restart)
        found.append([None if one is None else one(progress) for one in functions])
    for field in fields(kept):
        setattr(method.progress, field.name, getattr(kept, field.name))
    return {
        "parameters": sum(one.numel() for one in player.parameters()),
        "optimizer": type(optimizer).__name__,
        "options": {name: optimizer.defaults[name] for name in CHOSEN if name in optimizer.defaults},
        "along": found,
        "average": player.ema_halflife,
        "longest": player.max_gradient_norm,
    }


def repr_of(one):
    """Return the values of a stream or a derivation, functions by whether they are there.

    Most streams are not optional, and nothing is said of that.
    """
    if not hasattr(one, "__dataclass_fields__"):
        return callable(one)
    values = usual_left_out({field.name: getattr(one, field.name) for field in fields(one)})
    return {name: simple(value) for name, value in values.items()}


def usual_left_out(values):
    """Return values of a stream or of a tiling without those that are as in most systems."""
    return {name: value for name, value in values.items() if USUAL.get(name, ...) != value}


def simple(value):
    if isinstance(value, frozenset):
        return sorted(value)
    if callable(value):
        return True
    if hasattr(value, "__dataclass_fields__"):
        return [type(value).__name__, repr_of(value)]
    if isinstance(value, Mapping):
        return {str(name): simple(each) for name, each in value.items()}
    return value if isinstance(value, str | int | float | tuple | None) else repr(value)


def main():
    """Record all games anew, or those of the systems that are named."""
    from test_wiring import WIRINGS, untouched

    torch.set_num_threads(1)
    known, found = json.loads(FILE.read_text(encoding="utf-8")) if sys.argv[1:] else {}, {}
    for number, wiring in enumerate(WIRINGS):
        kept = known.get(wiring.name) if wiring.slug not in sys.argv[1:] else None
        found[wiring.name] = kept or game(*untouched(number))
    recorded.write(FILE, found)


if __name__ == "__main__":
    main()
