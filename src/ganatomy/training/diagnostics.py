"""The game's vector field, taken dry: every player's gradient at one point, nobody steps."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganatomy.game import Batch, Method, Player, Stage, moves

STEP = 1e-3
"""Length of the finite difference, relative to the length of the parameters."""


@dataclass(frozen=True)
class Field:
    """What a dry round tells.

    Attributes:
        norms: gradient norm by player.
        rotation: angle in degrees between the vector field v and its own change Jv along itself: 0 where all players
            descend one landscape, 90 where they circle around each other, above 90 where they drive apart.
    """

    norms: dict[str, float]
    rotation: float


def dry_round(method: Method, stage: Stage, batches: Iterator[Batch]) -> dict[str, list[Tensor]]:
    """Gradients of one round by player, averaged over the player's turns, at the present weights; zeros where it waits.

    The method is left exactly as it was: weights, buffers, its own state, and all random numbers.
    """
    players = {player.name: player.parameters() for player in stage.players}
    sums = {name: [torch.zeros_like(parameter) for parameter in own] for name, own in players.items()}
    counts = dict.fromkeys(players, 0)
    with unchanged(method):
        for move in moves(stage.turns(batches)):
            for turn in move:
                own = players[turn.player]
                slopes = torch.autograd.grad(turn.total, own, retain_graph=turn is not move[-1], allow_unused=True)
                filled = [torch.zeros_like(p) if s is None else s for p, s in zip(own, slopes, strict=True)]
                torch._foreach_add_(sums[turn.player], filled)
                counts[turn.player] += 1
    return {name: [part / max(counts[name], 1) for part in parts] for name, parts in sums.items()}


def vector_field(method: Method, stage: Stage, batches: Iterator[Batch]) -> Field:
    """Gradient norms and rotation of the game at the present weights, from two dry rounds on the same batches.

    The rotation is measured along v itself, cos angle = <v, Jv> / (|v| |Jv|), with Jv a finite difference, so nothing
    needs second derivatives. Balduzzi et al., The Mechanics of n-Player Differentiable Games, arXiv 1802.05642.
    """
    seen: list[Batch] = []
    here = dry_round(method, stage, _remembering(batches, seen))
    norms = {name: _norm(parts) for name, parts in here.items()}
    length = math.hypot(*norms.values())
    players = {player.name: player.parameters() for player in stage.players}
    moving: list[Tensor] = [parameter for name in here for parameter in players[name]]
    gradient = [part for parts in here.values() for part in parts]
    step = STEP * (_norm(moving) + 1e-12) / max(length, 1e-30)
    with unchanged(method):
        with torch.no_grad():
            torch._foreach_add_(moving, gradient, alpha=step)
        there = dry_round(method, stage, iter(seen))
    change = torch._foreach_sub([part for name in here for part in there[name]], gradient)
    inner = sum(float((a * b).sum()) for a, b in zip(gradient, change, strict=True))
    lengths = length * _norm(change)
    rotation = math.degrees(math.acos(max(-1.0, min(1.0, inner / lengths)))) if lengths > 0 else 0.0
    return Field(norms, rotation)


def duality_gap(method: Method, stage: Stage, batches: Iterator[Batch], steps: int = 10) -> dict[str, float]:
    """How much each player could still gain by moving alone, while the others stay where they are.

    At an equilibrium nobody can gain anything. The best response is approximated by a few steps of the player's own
    optimiser, freshly started, and judged on batches that it was not found on; the sum over the players approximates
    the duality gap, for games of any number of players the Nikaido-Isoda function. Grnarova et al., A Domain Agnostic
    Measure for Monitoring and Evaluating GANs, arXiv 1811.05512.

    Args:
        method: left exactly as it was.
        stage: whose turns are played dry.
        batches: fresh ones.
        steps: rounds in which the player moves alone.

    Returns:
        The fall of each player's own loss, by name; below 0 where what it learned alone does not hold on new batches.
        A player that waits before or after is not there.
    """
    judged: list[Batch] = []
    shown: list[Batch] = []
    losses = _losses(method, stage, _remembering(batches, judged))
    gains = {}
    for player in stage.players:
        with unchanged(method):
            _move_alone(stage, player, _replay(batches, shown), steps)
            then = _losses(method, stage, iter(judged))
            if player.name in losses and player.name in then:
                gains[player.name] = losses[player.name] - then[player.name]
    return gains


def _losses(method: Method, stage: Stage, batches: Iterator[Batch]) -> dict[str, float]:
    """Each player's loss in a dry round, averaged over its turns."""
    found: dict[str, list[float]] = {}
    with unchanged(method):
        for move in moves(stage.turns(batches)):
            for turn in move:
                found.setdefault(turn.player, []).append(float(turn.total.detach()))
    return {name: sum(values) / len(values) for name, values in found.items()}


def _move_alone(stage: Stage, player: Player, batches: Iterator[Batch], steps: int) -> None:
    parameters = player.parameters()
    optimizer = player.optimizer(parameters)
    for _ in range(steps):
        for move in moves(stage.turns(batches)):
            own = [turn for turn in move if turn.player == player.name]
            for turn in own:
                turn.total.backward(inputs=parameters)  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


def _replay(batches: Iterator[Batch], seen: list[Batch]) -> Iterator[Batch]:
    """The same batches for every player, fetched when the first one asks for them."""
    number = 0
    while True:
        if number == len(seen):
            seen.append(next(batches))
        yield seen[number]
        number += 1


def _remembering(batches: Iterator[Batch], seen: list[Batch]) -> Iterator[Batch]:
    for batch in batches:
        seen.append(batch)
        yield batch


@contextmanager
def unchanged(method: nn.Module) -> Iterator[None]:
    """Give back every weight, buffer, piece of extra state and random number as it was."""
    assert isinstance(method, Method)
    state = copy.deepcopy(method.state_dict())
    noise = method.noise.generator.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            method.load_state_dict(state)
            method.noise.generator.set_state(noise)


def _norm(parts: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(part.detach().square().sum()) for part in parts))
