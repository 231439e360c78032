"""Diagnostics of adversarial training from rounds without steps: the game's vector field and its duality gap."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganatomy.game import Batch, Method, Player, Stage, moves

STEP = 1e-3
"""Length of the finite difference relative to the Euclidean norm of the parameters."""


@dataclass(frozen=True)
class Field:
    """Gradient norms and rotation of a game's vector field.

    Attributes:
        norms: player to gradient norm.
        rotation: angle in degrees between the vector field v and its change Jv along itself: 0 where all players
            descend one common loss, 90 where they rotate around an equilibrium, above 90 where they diverge from it.
    """

    norms: dict[str, float]
    rotation: float


def dry_round(method: Method, stage: Stage, batches: Iterator[Batch]) -> dict[str, list[Tensor]]:
    """Compute the gradients of one round at the present weights, without any step.

    The method is left exactly as it was: weights, buffers, its own state, and all random states.

    Returns:
        Player to gradients of its parameters, averaged over its turns; zeros where it has no turn in this round.
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
    """Measure gradient norms and rotation at the present weights, in two rounds without steps on the same batches.

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
    """Estimate how much each player could lower its loss by training alone while the others are fixed.

    At an equilibrium this is zero for every player. The best response is approximated by a few steps of a new optimiser
    of the player and judged on batches other than those of the steps. The sum over the players approximates the duality
    gap; with more than two players, the Nikaido-Isoda function. Grnarova et al., A Domain Agnostic Measure for
    Monitoring and Evaluating GANs, arXiv 1811.05512.

    Args:
        method: left exactly as it was.
        stage: stage whose turns are computed.
        batches: batches not used in training.
        steps: number of rounds in which the player is trained alone.

    Returns:
        Player to decrease of its own loss; negative where the response does not generalise to new batches. Players
        without a turn in the judged rounds are absent.
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
    """Return each player's loss in a round without steps, averaged over its turns."""
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
    """Yield batches from the first on, taking from ``seen`` those drawn before and adding new ones to it."""
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
    """Restore all weights, buffers, extra state and random states of a method after the context."""
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
