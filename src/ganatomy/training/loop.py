"""The loop: it takes turns. Nothing here knows what the networks are for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from types import FrameType
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, Player, Progress, Stage, Turn, moves


class Diverged(UserError):
    """A loss or weight is no longer a number; the checkpoint on disk is from before that."""


class Stopped(Exception):
    """Training was asked to stop and has saved its state."""

    def __init__(self, signal_number: int, round: int):
        super().__init__(f"stopped at round {round}")
        self.signal_number, self.round = signal_number, round


class Stream(Iterator[Batch], Protocol):
    """Batches that can be continued where they were left."""

    drawn: int


class PlayerState:
    """A player in training: its parameters, its optimiser, and the learning rates that it began with."""

    def __init__(self, player: Player):
        self.player = player
        self.parameters = player.parameters()
        self.optimizer = player.optimizer(self.parameters)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def begin_round(self, progress: Progress) -> None:
        """Take a new optimiser where the player begins afresh."""
        if self.player.restart and self.player.restart(progress):
            self.optimizer = self.player.optimizer(self.parameters)

    def step(self, progress: Progress) -> None:
        """Move along the gradients at hand and forget them."""
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
    """Exponential moving averages of parameters, their decay counted in images seen.

    They outlive the stage that made them: a player that no longer moves keeps its average.
    """

    def __init__(self, method: nn.Module):
        self.names = {id(parameter): name for name, parameter in method.named_parameters()}
        self.live = dict(method.named_parameters())
        self.values: dict[str, Tensor] = {}

    def follow(self, state: PlayerState) -> None:
        """Start averaging the parameters of a player that wants it, where not begun."""
        if state.player.ema_halflife:
            for parameter in state.parameters:
                self.values.setdefault(self.names[id(parameter)], parameter.detach().clone())

    @torch.no_grad()
    def update(self, state: PlayerState, images: int) -> None:
        """Move the averages of a player by what its parameters became while ``images`` were seen."""
        if state.player.ema_halflife:
            averages = [self.values[self.names[id(parameter)]] for parameter in state.parameters]
            torch._foreach_lerp_(averages, list(state.parameters), 1 - 0.5 ** (images / state.player.ema_halflife))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages where the live weights are, and back afterwards."""
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


class Observer(Protocol):
    """What the loop tells about itself."""

    def turn(self, progress: Progress, turn: Turn) -> None:
        """A turn is about to be taken; its losses are tensors still on the device."""

    def gradients(self, turn: Turn, norm: Tensor) -> None:
        """The gradient norm of a turn, in a round that is watched."""

    def spent(self, part: str, player: str | None, seconds: float) -> None:
        """Seconds that a part of the round took, of a player's turn where it belongs to one."""

    def watches(self, progress: Progress) -> bool:
        """Whether gradient norms and seconds of this round are wanted."""

    def round(self, progress: Progress) -> None:
        """A round has ended."""


class Stopwatch:
    """Tells an observer the seconds that the parts of one round take.

    The device finishes its work before each reading, which slows a GPU down; so not every round is watched.
    """

    def __init__(self, device: torch.device, observer: Observer):
        self.device, self.observer = device, observer
        self.begun = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()

    def stop(self, part: str, *players: str) -> None:
        """End a part of the round, of the players that it belongs to, and begin the next one."""
        now = self._now()
        self.observer.spent(part, " and ".join(players) or None, now - self.begun)
        self.begun = now

    def draws(self, stream: Stream) -> Iterator[Batch]:
        """The batches of a stream, whose drawing does not count as a part of what the method computes."""
        while True:
            asked = self._now()
            batch = next(stream)
            waited = self._now() - asked
            self.observer.spent("data", None, waited)
            self.begun += waited
            yield batch


class Trainer:
    """Plays a method's game, stage by stage, and can stop and go on anywhere between two rounds.

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
        method: the game.
        fabric: device, precision, processes.
        rounds: how long each stage lasts.
        open_stream: makes a stage's batches, continuing after ``drawn`` of them.
        observer: hears about turns and rounds.
        after_round: called between rounds, with whether the stage ends here; validates when it is time, and saves then
            and when the trainer is ``stopping``.
    """

    def __init__(
        self,
        method: Method,
        fabric: Fabric,
        rounds: Sequence[int],
        open_stream: Callable[[Stage, int, int], Stream],
        observer: Observer,
        after_round: Callable[[Trainer, bool], None],
    ):
        self.method = method.to(fabric.device)
        self.fabric = fabric
        self.stages = method.stages()
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
        """The stage being played."""
        return self.stages[self.index]

    def fit(self) -> None:
        """Play all stages to their end.

        Raises:
            Stopped: SIGINT or SIGTERM came; the round was finished and ``after_round`` has saved.
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
        if stage.begin and not resumed:
            stage.begin()
        self.players = {player.name: PlayerState(player) for player in stage.players}
        for player in self.players.values():
            self.averages.follow(player)
        drawn = 0
        if resumed:
            for name, state in resumed["optimizers"].items():
                self.players[name].optimizer.load_state_dict(state)
            drawn = resumed["drawn"]
        self.stream = self.open_stream(stage, self.index, drawn)
        self.method.train()

    def _play_round(self) -> None:
        assert self.stream is not None
        for player in self.players.values():
            player.begin_round(self.progress)
        drawn = self.stream.drawn
        watch = Stopwatch(self.fabric.device, self.observer) if self.observer.watches(self.progress) else None
        turns = moves(self.stage.turns(watch.draws(self.stream) if watch else self.stream))
        while True:
            # The method's own lines run under autocast, backward passes outside of it.
            with self.fabric.autocast():
                move = next(turns, None)
            if watch:
                watch.stop("forward", *(turn.player for turn in move or ()))
            if move is None:
                break
            self._take(move, watch)
        images = (self.stream.drawn - drawn) * self.stage.stream.batch_size
        for player in self.players.values():
            self.averages.update(player, images)
        self.progress.images += images
        self.progress.round += 1
        self.progress.stage_round += 1
        self.observer.round(self.progress)

    def _take(self, move: tuple[Turn, ...], watch: Stopwatch | None = None) -> None:
        """All gradients of a move first, then all steps."""
        for turn in move:
            self.observer.turn(self.progress, turn)
            player = self.players[turn.player]
            turn.total.backward(inputs=player.parameters, retain_graph=turn is not move[-1])  # type: ignore[no-untyped-call]
            if watch:
                watch.stop("backward", turn.player)
        for turn in move:
            player = self.players[turn.player]
            gradients = [p.grad for p in player.parameters if p.grad is not None]
            if self.fabric.world_size > 1:
                average_gradients(gradients, self.fabric)
            if watch:
                self.observer.gradients(turn, nn.utils.get_total_norm(gradients))
            player.step(self.progress)
            if watch:
                watch.stop("step", turn.player)

    def _asked_to_stop(self) -> bool:
        if self.fabric.world_size == 1:
            return self.signal_number > 0
        number = torch.tensor(self.signal_number, device=self.fabric.device)
        self.signal_number = int(self.fabric.all_reduce(number, reduce_op="max"))  # type: ignore[arg-type]
        return self.signal_number > 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for a stop after the round; a second SIGINT interrupts at once."""

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
        """Everything that decides how training goes on, made of tensors and plain values."""
        assert self.stream is not None
        return {
            "method": self.method.state_dict(),
            "optimizers": {name: player.optimizer.state_dict() for name, player in self.players.items()},
            "averages": self.averages.values,
            "progress": asdict(self.progress),
            "stage": self.index,
            "drawn": self.stream.drawn,
            "noise": self.method.noise.generator.get_state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; call before ``fit``."""
        self.method.load_state_dict(state["method"])
        self.averages.values = {name: value.to(self.fabric.device) for name, value in state["averages"].items()}
        for name, value in state["progress"].items():
            setattr(self.progress, name, value)
        self.index = state["stage"]
        self.method.noise.generator.set_state(state["noise"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self._resumed = state


@torch.no_grad()
def average_gradients(gradients: Sequence[Tensor], fabric: Fabric) -> None:
    """Mean over all processes, in place, with one message a turn."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat = fabric.all_reduce(flat, reduce_op="mean")  # type: ignore[assignment]
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(list(gradients), [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])


def plan_rounds(stages: Sequence[Stage], total: int | None) -> list[int]:
    """Rounds per stage: the method's own, or the same shares of another total, at least one each."""
    if total is None:
        return [stage.rounds for stage in stages]
    own = sum(stage.rounds for stage in stages)
    planned = [max(1, stage.rounds * total // own) for stage in stages]
    planned[-1] = max(1, total - sum(planned[:-1]))
    return planned


@dataclass
class Best:
    """The best validation score so far."""

    score: float | None = None
    round: int = 0
    name: str = ""
    better: str = "lower"

    def improved_by(self, score: float) -> bool:
        """Whether this score is better; a score that is not a number never is."""
        if self.score is None:
            return score == score
        return score < self.score if self.better == "lower" else score > self.score
