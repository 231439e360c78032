"""The training loop, which takes the turns of any method without knowing what its networks are for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from types import FrameType
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Aids, Batch, Method, Player, Progress, Stage, Turn, moves
from ganatomy.training.aids import Aided, History


class Diverged(UserError):
    """Raised when a loss or a weight is no longer finite; the checkpoint on disk is older than that."""


class Stopped(Exception):
    """Raised after a signal asked training to stop and its state has been saved."""

    def __init__(self, signal_number: int, round: int):
        super().__init__(f"stopped at round {round}")
        self.signal_number, self.round = signal_number, round


class Stream(Iterator[Batch], Protocol):
    """An iterator of batches that can be continued after ``drawn`` of them."""

    drawn: int


class PlayerState:
    """The state of a player in training: its parameters, its optimiser, and its initial learning rates.

    Args:
        player: part of a stage of the method.
        rate: factor of the learning rates of its optimiser.
    """

    def __init__(self, player: Player, rate: float = 1.0):
        self.player, self.rate = player, rate
        self.parameters = player.parameters()
        self.optimizer = self._new_optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def _new_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.player.optimizer(self.parameters)
        for group in optimizer.param_groups:
            group["lr"] *= self.rate
        return optimizer

    def begin_round(self, progress: Progress) -> None:
        """Replace the optimiser by a new one in rounds in which the player restarts."""
        if self.player.restart and self.player.restart(progress):
            self.optimizer = self._new_optimizer()

    def step(self, progress: Progress) -> None:
        """Apply the schedules, clip the gradients, step the optimiser, and clear the gradients."""
        if self.player.schedule:
            factor = self.player.schedule(progress)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
        if self.player.momentum:
            for group in self.optimizer.param_groups:
                group["momentum"] = self.player.momentum(progress)
        if self.player.max_gradient_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.player.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Averages:
    """Exponential moving averages of parameters, with a half-life counted in images.

    Averages are kept across stages: a player that is not trained in a later stage keeps its own.

    Args:
        method: owner of the parameters.
    """

    def __init__(self, method: nn.Module):
        self.names = {id(parameter): name for name, parameter in method.named_parameters()}
        self.live = dict(method.named_parameters())
        self.values: dict[str, Tensor] = {}

    def follow(self, state: PlayerState) -> None:
        """Begin to average the parameters of a player with a half-life, unless they are averaged already."""
        if state.player.ema_halflife:
            for parameter in state.parameters:
                self.values.setdefault(self.names[id(parameter)], parameter.detach().clone())

    @torch.no_grad()
    def update(self, state: PlayerState, images: int) -> None:
        """Update the averages of a player towards its present parameters, after a round of ``images`` images."""
        if state.player.ema_halflife:
            averages = [self.values[self.names[id(parameter)]] for parameter in state.parameters]
            torch._foreach_lerp_(averages, list(state.parameters), 1 - 0.5 ** (images / state.player.ema_halflife))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Exchange the live weights for their averages within the context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self.values.items():
            live = self.live[name].data
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)


class Weights:
    """A second set of weights for some parameters.

    Args:
        parameters: parameters whose present values are copied.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.values = {parameter: parameter.detach().clone() for parameter in parameters}

    @torch.no_grad()
    def exchange(self, parameters: Sequence[nn.Parameter]) -> None:
        """Exchange the values of parameters with those of this set."""
        for parameter in dict.fromkeys(parameters):
            kept = parameter.clone()
            parameter.copy_(self.values[parameter])
            self.values[parameter] = kept


class Observer(Protocol):
    """Receiver of the losses, gradient norms and timings of the loop."""

    def turn(self, progress: Progress, turn: Turn) -> None:
        """Receive a turn that is about to be taken; its losses are tensors still on the device."""

    def gradients(self, turn: Turn, norm: Tensor) -> None:
        """Receive the gradient norm of a turn, in rounds for which `watches` is true."""

    def spent(self, part: str, player: str | None, seconds: float) -> None:
        """Receive the seconds that a part of the round took.

        Args:
            part: such as ``data``, ``forward`` or ``backward``.
            player: whose turn the part belongs to; None where it belongs to no turn.
            seconds: wall-clock time.
        """

    def watches(self, progress: Progress) -> bool:
        """Whether gradient norms and timings of this round are to be measured."""

    def round(self, progress: Progress) -> None:
        """Receive the end of a round."""


class Stopwatch:
    """Measures how long the parts of one round take and reports it to an observer.

    The device finishes its work before each reading, which slows a GPU down; so not every round is timed.

    Args:
        device: device of the networks.
        observer: receives the timings.
    """

    def __init__(self, device: torch.device, observer: Observer):
        self.device, self.observer = device, observer
        self.begun = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()

    def stop(self, part: str, *players: str) -> None:
        """Report the time since the last reading as that of a part of the round.

        Args:
            part: name of the part.
            players: whose turns the part belongs to.
        """
        now = self._now()
        self.observer.spent(part, " and ".join(players) or None, now - self.begun)
        self.begun = now

    def draws(self, stream: Stream) -> Iterator[Batch]:
        """Yield the batches of a stream; the time to draw them is reported as ``data`` and left out of other parts."""
        while True:
            asked = self._now()
            batch = next(stream)
            waited = self._now() - asked
            self.observer.spent("data", None, waited)
            self.begun += waited
            yield batch


class Trainer:
    """Trains a method stage by stage, and can stop and resume between any two rounds.

    One iteration, here called a round, is::

        for move in method.turns(batches):          # the method draws batches and computes losses under autocast
            for turn in move:                       # several turns in one move are simultaneous
                loss = sum(turn.losses.values())
                loss.backward(inputs=turn.player.parameters)
            for turn in move:
                average the gradients of all processes
                set the learning rate of the schedule, clip the gradient norm
                turn.player.optimizer.step()
        for player in stage.players:
            move the exponential moving averages of its parameters
        after_round()                               # validate, save, or stop where it is time

    Args:
        method: networks and stages to train.
        fabric: device, precision, processes.
        rounds: number of rounds of each stage.
        open_stream: opens the batches of a stage, given its index and how many batches have been drawn before.
        observer: receives turns, gradient norms, timings and the ends of rounds.
        after_round: called between rounds with the trainer and whether the stage ends here; validates when due, and
            saves then and when the trainer is ``stopping``.
        aids: aids for the stages with an adversary; `ganatomy.training.aids.prepare` has accepted them.
    """

    def __init__(
        self,
        method: Method,
        fabric: Fabric,
        rounds: Sequence[int],
        open_stream: Callable[[Stage, int, int], Stream],
        observer: Observer,
        after_round: Callable[[Trainer, bool], None],
        aids: Aids | None = None,
    ):
        self.method = method.to(fabric.device)
        self.fabric = fabric
        self.aided = [Aided(method, stage, aids or Aids()) for stage in method.stages()]
        self.stages = [aided.stage for aided in self.aided]
        self.rounds = list(rounds)
        self.open_stream = open_stream
        self.observer = observer
        self.after_round = after_round
        self.progress = method.progress
        self.averages = Averages(method)
        self.index = 0
        self.players: dict[str, PlayerState] = {}
        self.stream: Stream | None = None
        self.signal_number = 0
        self.stopping = False
        self._resumed: dict[str, Any] | None = None

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[self.index]

    @property
    def _history(self) -> History | None:
        """Past weights of the current stage, where an aid needs them."""
        return self.aided[self.index].history

    def fit(self) -> None:
        """Train all remaining stages to their end.

        Raises:
            Stopped: SIGINT or SIGTERM arrived; the round was finished and ``after_round`` has saved.
            Diverged: a loss is not finite.
        """
        with self._signals():
            while self.index < len(self.stages):
                self._enter(self.stage)
                while self.progress.stage_round < self.rounds[self.index]:
                    self._play_round()
                    last = self.progress.stage_round >= self.rounds[self.index]
                    self.stopping = self._asked_to_stop()
                    self.after_round(self, last)
                    if self.stopping and not (last and self.index == len(self.stages) - 1):
                        raise Stopped(self.signal_number, self.progress.round)
                self.index += 1
                self.progress.stage_round = 0

    def _enter(self, stage: Stage) -> None:
        resumed, self._resumed = self._resumed, None
        self.progress.stage = stage.name
        self.progress.stage_rounds = self.rounds[self.index]
        if not resumed:
            if stage.begin:
                stage.begin()
            self.players = self._new_players()
        for player in self.players.values():
            self.averages.follow(player)
        drawn = resumed["drawn"] if resumed else 0
        self.stream = self.open_stream(stage, self.index, drawn)
        self.method.train()

    def _new_players(self) -> dict[str, PlayerState]:
        rate = self.aided[self.index].aids.adversary_rate
        return {player.name: PlayerState(player, rate if player.adversary else 1.0) for player in self.stage.players}

    def _play_round(self) -> None:
        assert self.stream is not None
        for player in self.players.values():
            player.begin_round(self.progress)
        drawn = self.stream.drawn
        watch = Stopwatch(self.fabric.device, self.observer) if self.observer.watches(self.progress) else None
        aided = self.aided[self.index]
        if aided.aids.extragradient:
            self._look_ahead(watch)
        elif aided.aids.consensus:
            self._agree(aided.aids.consensus, watch)
        else:
            for move in self._moves(watch):
                self._take(move, watch)
        images = (self.stream.drawn - drawn) * self.stage.stream.batch_size
        for player in self.players.values():
            self.averages.update(player, images)
        if self._history:
            self._history.update()
        self.progress.images += images
        self.progress.round += 1
        self.progress.stage_round += 1
        self.observer.round(self.progress)

    def _moves(self, watch: Stopwatch | None) -> Iterator[tuple[Turn, ...]]:
        """Yield the moves of a round; the method goes on after a move when the next one is asked for."""
        assert self.stream is not None
        turns = moves(self.stage.turns(watch.draws(self.stream) if watch else self.stream))
        while True:
            # The method's own lines run under autocast, backward passes outside of it.
            with self.fabric.autocast():
                move = next(turns, None)
            if move is None:
                break
            if watch:
                watch.stop("forward", *(turn.player for turn in move))
            yield move

    def _take(self, move: tuple[Turn, ...], watch: Stopwatch | None = None, aside: Weights | None = None) -> None:
        """Compute the gradients of all turns of a move, then step their players.

        Args:
            move: turns that are taken together.
            watch: measures how long that takes.
            aside: weights that are stepped instead of the present ones.
        """
        for turn in move:
            self.observer.turn(self.progress, turn)
            player = self.players[turn.player]
            turn.total.backward(inputs=player.parameters, retain_graph=turn is not move[-1])  # type: ignore[no-untyped-call]
            if watch:
                watch.stop("backward", turn.player)
        for turn in move:
            self._step(turn, watch, aside)

    def _step(self, turn: Turn, watch: Stopwatch | None, aside: Weights | None = None) -> None:
        """Step the player of a turn along its gradients, averaged over all processes."""
        player = self.players[turn.player]
        gradients = [p.grad for p in player.parameters if p.grad is not None]
        if self.fabric.world_size > 1:
            average_gradients(gradients, self.fabric)
        if watch:
            self.observer.gradients(turn, nn.utils.get_total_norm(gradients))
        if aside:
            aside.exchange(player.parameters)
        player.step(self.progress)
        if aside:
            aside.exchange(player.parameters)
        if watch:
            watch.stop("step", turn.player)

    def _look_ahead(self, watch: Stopwatch | None) -> None:
        """Play a round twice: from the present weights to those ahead, whose gradients then move the present ones.

        While a round is played, the networks keep their weights, and steps are taken aside. Gidel et al., A Variational
        Inequality Perspective on Generative Adversarial Networks, arXiv 1802.10551.
        """
        parameters = [parameter for player in self.players.values() for parameter in player.parameters]
        aside = Weights(parameters)
        for _ in range(2):
            for move in self._moves(watch):
                self._take(move, watch, aside)
            aside.exchange(parameters)

    def _agree(self, weight: float, watch: Stopwatch | None) -> None:
        """Move every player once, by the mean gradient of its turns and that of half the squared gradient of all.

        Mescheder et al., The Numerics of GANs, arXiv 1705.10461.

        Args:
            weight: weight of the second gradient.
            watch: measures how long the parts take.
        """
        taken: dict[str, list[Turn]] = {}
        for move in self._moves(watch):
            for turn in move:
                self.observer.turn(self.progress, turn)
                taken.setdefault(turn.player, []).append(turn)
        slopes = {}
        for name, turns in taken.items():
            mean = torch.stack([turn.total for turn in turns]).mean()
            parameters = self.players[name].parameters
            found = torch.autograd.grad(mean, parameters, create_graph=True, allow_unused=True)
            slopes[name] = {p: slope for p, slope in zip(parameters, found, strict=True) if slope is not None}
        half = 0.5 * torch.stack([slope.square().sum() for own in slopes.values() for slope in own.values()]).sum()
        moving = list(dict.fromkeys(p for own in slopes.values() for p in own))
        pulls = dict(zip(moving, torch.autograd.grad(half, moving, allow_unused=True), strict=True))
        if watch:
            watch.stop("backward", *taken)
        for name, turns in taken.items():
            for parameter, slope in slopes[name].items():
                pull = pulls[parameter]
                parameter.grad = (slope if pull is None else slope + weight * pull).detach()
            self._step(turns[-1], watch)

    def _asked_to_stop(self) -> bool:
        if self.fabric.world_size == 1:
            return self.signal_number > 0
        number = torch.tensor(self.signal_number, device=self.fabric.device)
        self.signal_number = int(self.fabric.all_reduce(number, reduce_op="max"))  # type: ignore[arg-type]
        return self.signal_number > 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Make SIGINT and SIGTERM ask for a stop after the round, and a second SIGINT interrupt at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.signal_number and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal_number = number

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: the embedding program handles its signals itself
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def state(self) -> dict[str, Any]:
        """State from which training can be resumed exactly, as tensors and plain values."""
        assert self.stream is not None
        return {
            "method": self.method.state_dict(),
            "optimizers": {name: player.optimizer.state_dict() for name, player in self.players.items()},
            "averages": self.averages.values,
            "history": self._history.state() if self._history else None,
            "progress": asdict(self.progress),
            "stage": self.index,
            "drawn": self.stream.drawn,
            "noise": self.method.noise.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from a saved `state`; call this before `fit`.

        Raises:
            RuntimeError, ValueError, KeyError, IndexError, TypeError: the state does not fit the method and its stages.
        """
        self.method.load_state_dict(state["method"])
        self.averages.values = {name: value.to(self.fabric.device) for name, value in state["averages"].items()}
        if odd := [name for name, one in self.averages.values.items() if one.shape != self.averages.live[name].shape]:
            raise ValueError(f"the average of {odd[0]} has another shape than the parameter")
        for name, value in state["progress"].items():
            setattr(self.progress, name, value)
        self.index = state["stage"]
        if self._history:
            self._history.load_state(state["history"])
        self.players = self._new_players()
        if self.players.keys() != state["optimizers"].keys():
            raise ValueError("the players of the stage are others")
        for name, player in self.players.items():
            check_fitting(state["optimizers"][name], player)
            player.optimizer.load_state_dict(state["optimizers"][name])
        self.method.noise.generator.set_state(state["noise"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self._resumed = state


def check_fitting(saved: Mapping[str, Any], player: PlayerState) -> None:
    """Refuse the state of an optimiser that was not saved by one of the player's kind; PyTorch would fail steps later.

    Raises:
        ValueError: settings are missing or of another type, or moments are missing or of another shape.
    """
    groups = player.optimizer.state_dict()["param_groups"]
    if not _alike(saved["param_groups"], groups) or [one["params"] for one in saved["param_groups"]] != [
        one["params"] for one in groups
    ]:
        raise ValueError("the settings of an optimiser are others")
    shapes = {index: parameter.shape for index, parameter in enumerate(player.parameters)}
    moments = {tuple(own) for own in saved["state"].values()}
    if len(moments) > 1 or not all(
        index in shapes and (not isinstance(value, Tensor) or value.shape in ((), shapes[index]))
        for index, own in saved["state"].items()
        for value in own.values()
    ):
        raise ValueError("the moments of an optimiser are others")


def _alike(saved: Any, own: Any) -> bool:
    """Whether two values have the same structure and types."""
    if isinstance(own, dict):
        return (
            isinstance(saved, dict) and saved.keys() == own.keys() and all(_alike(saved[key], own[key]) for key in own)
        )
    if isinstance(own, list | tuple):
        return isinstance(saved, list | tuple) and len(saved) == len(own) and all(map(_alike, saved, own))
    return type(saved) is type(own) or (isinstance(own, int | float) and type(saved) in (int, float))


@torch.no_grad()
def average_gradients(gradients: Sequence[Tensor], fabric: Fabric) -> None:
    """Average gradients over all processes, in place and with a single message."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(list(gradients), [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])


def plan_rounds(stages: Sequence[Stage], total: int | None) -> list[int]:
    """Return the number of rounds of each stage.

    Args:
        stages: stages of the method.
        total: rounds of the whole run, shared by the stages in proportion to their own rounds, at least one each; None
            means the stages' own.
    """
    if total is None:
        return [stage.rounds for stage in stages]
    own = sum(stage.rounds for stage in stages)
    planned = [max(1, stage.rounds * total // own) for stage in stages]
    planned[-1] = max(1, total - sum(planned[:-1]))
    return planned


@dataclass
class Best:
    """The best validation score so far.

    Attributes:
        score: its value; None before the first validation.
        round: round in which it was reached.
        name: name of the score.
        better: which values are better, ``lower`` or ``higher``.
    """

    score: float | None = None
    round: int = 0
    name: str = ""
    better: str = "lower"

    def improved_by(self, score: float) -> bool:
        """Whether a score is better than the best so far; NaN never is."""
        if self.score is None:
            return score == score
        return score < self.score if self.better == "lower" else score > self.score
