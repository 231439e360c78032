"""The aids of `ganatomy.game.Aids`, applied to the turns of any method without code in the method.

Networks of adversaries are observed while the turns of a round are computed: whatever calls one of them, for a turn of
the adversary or of others, is noted, so that noise can be added to what it is shown and penalties can be computed at
the samples that it has judged. Nothing is observed where no aid is switched on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ganatomy.errors import UserError
from ganatomy.game import Aids, Batch, Method, Player, Stage, Turn, moves
from ganatomy.losses.adversarial import dragan_penalty, gradient_penalty, r1_penalty
from ganatomy.losses.matching import feature_matching
from ganatomy.nets.aids import averages_kept
from ganatomy.nets.enlarging import compare, pack
from ganatomy.nets.spectral import normalise_weights, reachable

ENTRANCES = "forward", "features"
"""Methods of an adversary's network that take images, or other samples, as their first argument."""
PENALTIES = "r1", "dragan", "gradient_penalty"
"""Aids that need the slope of the score of every single sample."""
TRACED = *PENALTIES, "feature_matching"
"""Aids that need to know what adversaries were shown."""
JOINT = "extragradient", "consensus"
"""Aids that compute all turns of a round before any player moves."""
WEIGHTED = _ConvNd, nn.Linear
"""Layers whose inputs can be the features of a network."""


@dataclass
class Call:
    """A call of an adversary's network: what it was shown, and what it returned."""

    network: nn.Module
    shown: tuple[Any, ...]
    """Arguments, the first of which holds the samples, after noise was added."""
    named: Mapping[str, Any]
    """Arguments by name."""
    returned: tuple[Tensor, ...]
    """Tensors that were returned."""
    function: Callable[..., Any]
    """The network's method that was called, one of `ENTRANCES`."""

    @property
    def made(self) -> bool:
        """Whether the samples come from a network that learns from the call."""
        return any(isinstance(one, Tensor) and one.grad_fn is not None for one in self.shown)

    def of(self, rows: slice) -> Call:
        """Return the call for some of its samples; tensors by place and name are cut where they have a row for each."""
        count = len(self.shown[0])

        def part(value: Any) -> Any:
            return value[rows] if isinstance(value, Tensor) and value.dim() and len(value) == count else value

        named = {name: part(one) for name, one in self.named.items()}
        return replace(self, shown=tuple(map(part, self.shown)), named=named)

    def features(self) -> Tensor:
        """Return what the layer that gives the scores is told of the samples, computed anew, (N, ...).

        That is the input of the last layer with weights that runs, or what the network's own ``features`` returns.
        """
        if self.function.__name__ == "features":
            return _tensors(self.function(*self.shown, **self.named))[0]
        seen: list[Tensor] = []
        hooks = [
            layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            for layer in self.network.modules()
            if isinstance(layer, WEIGHTED)
        ]
        try:
            self.network(*self.shown, **self.named)
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise UserError("--aids.feature-matching: the adversary has no convolution or dense layer")
        return seen[-1]

    def scores(self, place: int, rows: slice, samples: Tensor) -> Tensor:
        """Return what the network returns at ``place`` for other samples, as one number for each of them.

        Args:
            place: number of the returned tensor.
            rows: rows of the call that the samples stand for, whose further arguments are used.
            samples: samples in the form of the first argument.
        """
        own = self.of(rows)
        return _tensors(self.network(samples, *own.shown[1:], **own.named))[place].flatten(1).mean(1)


class Aided:
    """A stage with aids: its turns with noise and with further loss terms.

    Args:
        method: owner of the networks.
        stage: stage of the method.
        aids: aids to apply; those of adversaries have no effect in a stage without any.
    """

    def __init__(self, method: Method, stage: Stage, aids: Aids):
        self.method, self.own = method, stage
        self.adversaries = {player.name: player for player in stage.players if player.adversary}
        self.aids = aids if self.adversaries else Aids()
        self.history = History(method, stage.players) if self.aids.historical_averaging else None
        self.calls: list[Call] = []
        self.real: dict[nn.Module, Call] = {}
        """Network of an adversary to its latest call with real samples, for feature matching."""
        self.matched = False
        """Whether a player has been taught by feature matching so far."""
        self.busy = False
        self.versions: list[int] = []

    @property
    def stage(self) -> Stage:
        """The stage whose turns are those of the method with aids; the stage itself where there are none."""
        return replace(self.own, turns=self.turns) if self.aids.chosen else self.own

    @property
    def noise_level(self) -> float:
        """Present standard deviation of the instance noise."""
        return self.aids.instance_noise * max(0.0, 1 - self.method.progress.fraction / self.aids.noise_until)

    def turns(self, batches: Iterator[Batch]) -> Iterator[tuple[Turn, ...]]:
        """Yield the moves of one round."""
        with self._watched():
            for move in moves(self.own.turns(batches)):
                if self.aids.feature_matching:
                    self._note_real(move)
                yield tuple(self._aided(turn) for turn in move)
                self._forget(move)

    def check_move(self, move: Sequence[Turn]) -> None:
        """Check a move of a round in which no player is stepped; called for every one of them.

        Raises:
            UserError: an aid computes all turns before any player moves, but the method changes weights in between, or
                the slopes of a turn have no slope.
        """
        joint = next((f"--aids.{name}" for name in JOINT if getattr(self.aids, name)), None)
        players = {player.name: player.parameters() for player in self.own.players}
        before, self.versions = self.versions, [one._version for own in players.values() for one in own]
        if joint and before and before != self.versions:
            raise UserError(
                f"{joint}: computes all turns of a round before any player moves, but this system changes weights "
                "itself after a turn, such as by clipping them"
            )
        for turn in move if self.aids.consensus else ():
            own = players[turn.player]
            slopes = torch.autograd.grad(turn.total, own, create_graph=True, allow_unused=True)
            square = torch.stack([slope.square().sum() for slope in slopes if slope is not None]).sum()
            if square.requires_grad:
                torch.autograd.grad(square, own, retain_graph=True, allow_unused=True)

    def _aided(self, turn: Turn) -> Turn:
        """Return a turn with the loss terms of the aids."""
        terms: dict[str, Tensor] = {}
        if turn.player in self.adversaries and (wanted := [name for name in PENALTIES if getattr(self.aids, name)]):
            terms |= {name: self._penalty(name, turn) for name in wanted}
        if self.aids.feature_matching and turn.player not in self.adversaries:
            terms |= self._matching(turn)
        if self.history:
            terms["history"] = self.aids.historical_averaging * self.history.distance(turn.player)
        return Turn(turn.player, {**turn.losses, **terms}, scores=turn.scores) if terms else turn

    def _forget(self, move: Sequence[Turn]) -> None:
        """Drop the calls that a move was computed from, which hold its graph."""
        own = {
            one for turn in move if turn.player in self.adversaries for one in networks(self.adversaries[turn.player])
        }
        taught = any(turn.player not in self.adversaries for turn in move)
        self.calls = [call for call in self.calls if call.network not in own and not (taught and call.made)]

    def _note_real(self, move: Sequence[Turn]) -> None:
        """Keep what adversaries were shown of real samples; their turns give the scores of these first."""
        for turn in move:
            if turn.player in self.adversaries:
                scores = self._scores("feature_matching", turn)[0]
                call, _ = self._call_of("--aids.feature-matching", turn.player, scores)
                if len(scores) > len(call.shown[0]):
                    raise UserError(f"--aids.feature-matching: the scores of {turn.player} come from several calls")
                self.real[call.network] = call.of(slice(0, len(scores)))

    def _matching(self, turn: Turn) -> dict[str, Tensor]:
        """Return the weighted loss of feature matching of a player, at all of its samples that adversaries judged.

        It is 0 for samples of a network that has seen no real ones yet, and absent where the player is taught by none.
        """
        reached = _ancestors(turn.total)
        found = [
            call for call in self.calls if call.made and any(one.grad_fn in reached for one in call.returned)
        ]  # fmt: skip
        losses = [turn.total.detach() * 0]
        for call in found:
            if real := self.real.get(call.network):
                with self._unwatched(), averages_kept(call.network):
                    with torch.no_grad():
                        wanted = real.features()
                    given = call.features()
                if wanted.shape[1:] != given.shape[1:]:
                    raise UserError(
                        f"--aids.feature-matching: features of real samples and those of {turn.player} differ in size"
                    )
                losses.append(feature_matching(wanted, given))
        self.matched |= bool(found)
        return {"feature_matching": self.aids.feature_matching * torch.stack(losses).sum()} if found else {}

    def _scores(self, name: str, turn: Turn) -> list[Tensor]:
        """Return the scores of an adversary's turn, those of real samples first and those of generated ones second."""
        if len(turn.scores) < 2:
            option = f"--aids.{name.replace('_', '-')}"
            raise UserError(f"{option}: {turn.player} gives no scores of real and of generated samples")
        return list(turn.scores.values())

    def _penalty(self, name: str, turn: Turn) -> Tensor:
        """Return the weighted penalty of an adversary's turn."""
        option, scores = f"--aids.{name.replace('_', '-')}", self._scores(name, turn)
        call, place = self._seen(option, turn.player, scores[0])
        real = slice(0, len(scores[0]))
        critic, at = partial(call.scores, place, real), call.shown[0][real]
        with self._unwatched():
            if name == "r1":
                return self.aids.r1 / 2 * r1_penalty(critic, at)
            if name == "dragan":
                return self.aids.dragan * dragan_penalty(critic, at, self.method.noise.normal(*at.shape))
            other, _ = self._seen(option, turn.player, scores[1])
            fake = other.shown[0][len(at) :] if other is call else other.shown[0]
            rows = min(len(at), len(fake))
            mix = self.method.noise.uniform(rows)
            critic = partial(call.scores, place, slice(0, rows))
            return self.aids.gradient_penalty * gradient_penalty(critic, at[:rows], fake[:rows], mix)

    def _seen(self, option: str, player: str, scores: Tensor) -> tuple[Call, int]:
        """Return the call that scores come from, and the place of the tensor with as many values for each sample."""
        call, place = self._call_of(option, player, scores)
        if call.returned[place].shape[1:].numel() != scores.shape[1:].numel():
            with self._unwatched(), torch.no_grad():
                made = _tensors(call.network(*call.shown, **call.named))
            place = next((n for n, one in enumerate(made) if one.shape[1:].numel() == scores.shape[1:].numel()), -1)
            if place < 0:
                raise UserError(f"{option}: the method computes the scores of {player} from what its networks return")
        return call, place

    def _call_of(self, option: str, player: str, scores: Tensor) -> tuple[Call, int]:
        """Return the nearest call in the graph of some scores, and the number of the tensor that it returned."""
        nodes = {
            one.grad_fn: (call, place)
            for call in self.calls
            for place, one in enumerate(call.returned)
            if one.grad_fn is not None
        }
        found = next((nodes[node] for node in _ancestors(scores) if node in nodes), None)
        if found is None:
            raise UserError(f"{option}: the scores of {player} are not those of one of its networks")
        return found

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note all calls of the adversaries' networks, and add noise to what they are shown."""
        watched = [
            (network, name, getattr(network, name))
            for network in dict.fromkeys(one for player in self.adversaries.values() for one in networks(player))
            for name in ENTRANCES
            if inspect.ismethod(getattr(network, name, None))
        ]
        for network, name, function in watched:
            setattr(network, name, partial(self._call, network, function))
        try:
            yield
        finally:
            for network, name, _ in watched:
                delattr(network, name)
            self.calls.clear()

    def _call(self, network: nn.Module, function: Callable[..., Any], *shown: Any, **named: Any) -> Any:
        """Call a function of a network; calls within calls are those of the network itself and go unnoted."""
        if self.busy or not shown or not isinstance(shown[0], Tensor):
            return function(*shown, **named)
        samples, *others = shown
        if level := self.noise_level:
            samples = samples + level * self.method.noise.normal(*samples.shape).to(samples.dtype)
        with self._unwatched():
            made = function(samples, *others, **named)
        if any(getattr(self.aids, name) for name in TRACED):
            self.calls.append(Call(network, (samples, *others), named, _tensors(made), function))
        return made

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before


class History:
    """The mean of all weights that the players of a stage have had, one set for each round.

    Salimans et al., arXiv 1606.03498.

    Args:
        method: owner of the networks.
        players: players of the stage.
    """

    def __init__(self, method: Method, players: Any):
        names = {id(parameter): name for name, parameter in method.named_parameters()}
        self.own = {player.name: {names[id(one)]: one for one in player.parameters()} for player in players}
        self.rounds = 0
        self.means: dict[str, Tensor] = {}

    def distance(self, player: str) -> Tensor:
        """Return the squared distance of a player's weights from the mean of its past ones, a scalar."""
        own = self.own[player]
        past = [self.means.get(name, one.detach()) for name, one in own.items()]
        return torch.stack([(one - mean).square().sum() for one, mean in zip(own.values(), past, strict=True)]).sum()

    def state(self) -> dict[str, Any]:
        """State from which training is resumed."""
        return {"rounds": self.rounds, "means": self.means}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a saved `state`."""
        own = {name: one for parameters in self.own.values() for name, one in parameters.items()}
        self.rounds = state["rounds"]
        self.means = {name: value.to(own[name].device) for name, value in state["means"].items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the mean, at the end of a round."""
        self.rounds += 1
        for own in self.own.values():
            for name, one in own.items():
                self.means.setdefault(name, one.detach().clone()).lerp_(one, 1 / self.rounds)


def networks(player: Player) -> list[nn.Module]:
    """Return the networks of a player that are called as such; those in a list or by name are called one by one."""
    found: list[nn.Module] = []
    for module in player.modules:
        found += module.children() if isinstance(module, nn.ModuleList | nn.ModuleDict) else [module]
    return found


def prepare(method: Method, aids: Aids) -> None:
    """Refuse aids that cannot reach a method, and change its networks for those that change them; before training.

    Raises:
        UserError: an aid cannot be applied; the message names it and the reason.
    """
    if not aids.chosen:
        return
    adversaries = [player for stage in method.stages() for player in stage.players if player.adversary]
    first = f"--aids.{aids.chosen[0].replace('_', '-')}"
    if not adversaries:
        raise UserError(f"{first}: nothing to aid, since this system is trained without an adversary; leave it away")
    for name in aids.joins if set(method.task.predictors) != {"sample"} else ():
        raise UserError(
            f"--aids.{name.replace('_', '-')}: judges samples together, which is of use where all are made from noise "
            "alone; this system does something else"
        )
    for player in adversaries:
        for name in PENALTIES:
            if getattr(aids, name) and any(
                isinstance(one, _BatchNorm) for net in player.modules for one in net.modules()
            ):
                raise UserError(
                    f"--aids.{name.replace('_', '-')}: needs the slope of each sample's score, but batch norm in "
                    f"{player.name} mixes samples{_other_norm(method)}"
                )
        if aids.spectral_norm and not all(reachable(network) for network in player.modules):
            raise UserError(
                f"--aids.spectral-norm: {player.name} has weights that are scaled at run time, or others than those of "
                "convolutions and dense layers"
            )
    for network in dict.fromkeys(network for player in adversaries for network in networks(player)):
        if aids.pack > 1 and not pack(network, aids.pack):
            raise UserError("--aids.pack: the adversary has a first layer with weights that are scaled at run time")
        if aids.minibatch_discrimination and not compare(network, aids.minibatch_discrimination):
            raise UserError(
                "--aids.minibatch-discrimination: the adversary has no dense layer that gives the score, or one with "
                "weights that are scaled at run time"
            )
    if aids.spectral_norm:
        for player in adversaries:
            for network in player.modules:
                normalise_weights(network)


def _other_norm(method: Method) -> str:
    """Return which option of a method chooses another norm of its adversary, as the end of a sentence."""
    names = [name for name in type(method.config).model_fields if re.fullmatch(r"(discriminator|critic)_norm", name)]
    return f"; add --{names[0].replace('_', '-')} layer" if names else ", and no option of this system changes it"


def _ancestors(value: Tensor) -> dict[Any, None]:
    """Return all nodes of the graph that a value was computed by, the nearest first."""
    level = [value.grad_fn] if value.grad_fn else []
    reached = dict.fromkeys(level)
    while level:
        above = (up for node in level for up, _ in node.next_functions if up and up not in reached)
        level = list(dict.fromkeys(above))
        reached.update(dict.fromkeys(level))
    return reached


def _tensors(made: Any) -> tuple[Tensor, ...]:
    """Return all tensors of what a network returns, in order."""
    if isinstance(made, Tensor):
        return (made,)
    parts = made.values() if isinstance(made, Mapping) else made if isinstance(made, list | tuple) else ()
    return tuple(tensor for part in parts for tensor in _tensors(part))
