"""The vocabulary of the house: Player, Turn, Stage, Method.

An adversarial system is a game. Its networks are grouped into *players*; a generator function yields the *turns* of
one round in the order of the paper's algorithm; a *stage* says how long a round is repeated and on which samples.
The trainer takes each turn, steps that player, and resumes the method on the next line:

    def turns(self, batches):
        for _ in range(self.config.critic_steps):
            batch = next(batches)
            fake = self.generator(batch["input"]).detach()
            yield Turn("critic", wasserstein=...)
        batch = next(batches)
        yield Turn("generator", adversarial=..., perceptual=...)

Unequal step counts are a loop, weight clipping is the line after the ``yield``, a conditional turn is an ``if``, and
turns yielded together as a tuple are a simultaneous move: all gradients are taken before anybody steps.
Nothing in this module knows images, data or devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ganatomy.errors import UserError

if TYPE_CHECKING:
    from ganatomy.tasks.base import Task

Batch = Mapping[str, Tensor]
"""Role name to tensor of shape (samples, channels, [depth,] height, width), in the range of the role's codec.

Of tasks with classes, also ``label`` of shape (samples,): the place of each sample's label among the classes.
"""

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass
class Progress:
    """Where training stands; the trainer advances it, methods and schedules read it."""

    round: int = 0
    """Rounds completed since training began."""
    images: int = 0
    """Samples seen by the whole run, all processes together."""
    stage: str = ""
    stage_round: int = 0
    """Rounds completed in this stage."""
    stage_rounds: int = 1
    """Rounds this stage lasts."""

    @property
    def fraction(self) -> float:
        """Completed part of this stage, 0 to 1."""
        return self.stage_round / max(self.stage_rounds, 1)


@dataclass(frozen=True)
class Player:
    """Parameters that move together, and how they move."""

    name: str
    modules: tuple[nn.Module, ...]
    optimizer: OptimizerFactory
    schedule: Callable[[Progress], float] | None = None
    """Multiplies the optimiser's learning rate."""
    momentum: Callable[[Progress], float] | None = None
    """Takes the place of the optimiser's momentum, where that changes during training."""
    ema_halflife: float | None = None
    """Half-life, in images seen, of an exponential moving average used at inference."""
    max_gradient_norm: float | None = None

    def parameters(self) -> list[nn.Parameter]:
        """Trainable parameters of all modules, each once, in a fixed order."""
        unique = {id(p): p for module in self.modules for p in module.parameters() if p.requires_grad}
        return list(unique.values())


class Turn:
    """One player's move: named loss terms, already weighted, whose sum the player descends.

    Args:
        player: name of the player that moves.
        losses: scalar tensors by name, where the terms depend on the configuration.
        scores: discriminator outputs worth watching, by name; logged as means, never minimised.
        terms: scalar tensors, where they do not.
    """

    __slots__ = ("losses", "player", "scores")

    def __init__(
        self,
        player: str,
        losses: Mapping[str, Tensor] | None = None,
        /,
        *,
        scores: Mapping[str, Tensor] | None = None,
        **terms: Tensor,
    ):
        losses = {**(losses or {}), **terms}
        if not losses:
            raise ValueError(f"the turn of {player!r} has no loss")
        self.player = player
        self.losses = losses
        self.scores = dict(scores or {})

    @property
    def total(self) -> Tensor:
        """Sum of the loss terms, a scalar tensor."""
        return torch.stack(list(self.losses.values())).sum()


@dataclass(frozen=True)
class Sampling:
    """How a stage draws samples from the cases."""

    batch_size: int
    """Samples per batch, all processes together."""
    patch: tuple[int, int, int]
    """Target size in voxels (slices, rows, columns); for 2D methods 1 slice, and tensors without a depth axis."""
    margin: tuple[int, int, int] = (0, 0, 0)
    """Voxels per side by which the roles of ``wide`` exceed the patch, for networks with valid convolutions."""
    wide: frozenset[str] = frozenset({"input"})
    streams: tuple[tuple[str, ...], ...] = ()
    """Groups of roles drawn independently of each other (unpaired data); empty means all roles come from one case."""
    flips: tuple[int, ...] = ()
    """Axes of the patch (0 slices, 1 rows, 2 columns) flipped with probability one half."""
    quarter_turns: bool = False
    """Whether square patches are turned in their plane by a multiple of 90 degrees, each equally likely."""
    positions: Literal["random", "corners"] = "random"
    """``corners`` cuts at the four corners and the centre of a slice only."""
    accepts: Callable[[Mapping[str, Any]], bool] | None = None
    """Judge of a drawn patch (role name to array in physical units); a refused one is drawn again, a few times."""


@dataclass(frozen=True)
class Stage:
    """A named part of training: whose turns, for how many rounds, on which samples."""

    name: str
    turns: Callable[[Iterator[Batch]], Iterator[Any]]
    players: Sequence[Player]
    rounds: int
    sampling: Sampling
    derive: Mapping[str, Callable[[Batch], Tensor]] = field(default_factory=dict)
    """New roles computed once over whole cases when the stage begins: what an earlier stage predicts becomes data.

    A function is given every role of whole slices (3D: of slabs of them), with the margins of ``sampling``, and returns
    the new role without margin, in the range of the networks. The method is in its inference mode, with its averages.
    """
    begin: Callable[[], None] | None = None
    """Runs once when the stage begins, not when it is resumed."""
    validated: bool = True
    """Whether this stage trains the method's ability, so that validation scores and best weights mean something."""


class MethodConfig(BaseModel):
    """Every number of a method. Defaults are the paper's; a comment on each field gives its unit or source."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}
    """Named sets of values that differ from the defaults."""
    baseline: ClassVar[Mapping[str, Any]] = {}
    """What turns the method into its comparison, the same network without the adversary."""

    @classmethod
    def preset(cls, name: str = "paper", **values: Any) -> Self:
        """The configuration called ``name``, with ``values`` on top.

        Raises:
            UserError: unknown preset or invalid value.
        """
        if name not in cls.presets:
            raise UserError(f"--preset {name}: unknown; this system has {', '.join(cls.presets)}")
        try:
            return cls.model_validate({**cls.presets[name], **values})
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(str(part) for part in first["loc"])
            raise UserError(f"option {option}: {first['msg'].lower()}, got {first.get('input')!r}") from None


class Noise:
    """Random tensors that do not depend on how many processes share a batch.

    Every process draws the rows of all of them from the same stream and keeps its own, so that two processes with
    half a batch each see what one process with the whole batch sees.
    """

    def __init__(self, seed: int = 0, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"):
        self.rank, self.world = rank, world
        self.generator = torch.Generator(device).manual_seed(seed)

    def _rows(self, draw: Callable[..., Tensor], rows: int, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        drawn = draw(rows * self.world, *shape, generator=self.generator, device=device)
        return drawn[self.rank * rows : (self.rank + 1) * rows]

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """U(0, 1), shape (rows, *shape)."""
        return self._rows(torch.rand, rows, shape)

    def normal(self, rows: int, *shape: int) -> Tensor:
        """N(0, 1), shape (rows, *shape)."""
        return self._rows(torch.randn, rows, shape)


class Method(nn.Module, ABC):
    """A published system: networks, players, turns, and what the trained result can do.

    Abilities are methods with agreed names, looked up by ``apply``, ``evaluate`` and ``sample``:
    ``restore(input)``, ``segment(image)``, ``detect(image)``, ``classify(image)``, ``locate(image)``,
    ``sample(latent, label)``. They take and return tensors in codec range, run without gradient, change no state, and
    give each sample the result it would have alone.
    """

    Config: ClassVar[type[MethodConfig]]
    dims: int = 2

    @classmethod
    def of(cls, config: MethodConfig) -> Method:
        """The method of a configuration; a system with several models of different abilities chooses here."""
        return cls(config)

    def __init__(self, config: MethodConfig):
        super().__init__()
        self.config: Any = config
        self.progress = Progress()
        self.noise = Noise()

    @property
    @abstractmethod
    def task(self) -> Task:
        """What a sample, a score and a picture are."""

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """The parts of training, in order."""

    @property
    def margin(self) -> tuple[int, int, int]:
        """Voxels per side (slices, rows, columns) lost between input and output at inference."""
        return (0, 0, 0)

    @property
    def scale(self) -> tuple[int, int, int]:
        """Output voxels for each input voxel along (slices, rows, columns), where the output has a finer grid."""
        return (1, 1, 1)

    @property
    def multiple(self) -> int:
        """In-plane sizes the networks accept are multiples of this."""
        return 1

    def inference_mode(self) -> Self:
        """Put every layer into the state the method is used in after training."""
        return self.eval()

    def provenance(self) -> dict[str, str]:
        """Facts every result must carry, such as which feature network stood in for which."""
        return {}


def adam(learning_rate: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> OptimizerFactory:
    """Fused Adam, Kingma & Ba, arXiv 1412.6980."""
    return lambda parameters: torch.optim.Adam(parameters, learning_rate, betas=betas, eps=eps, fused=True)


def sgd(learning_rate: float, momentum: float = 0.0) -> OptimizerFactory:
    """Stochastic gradient descent."""
    return lambda parameters: torch.optim.SGD(parameters, learning_rate, momentum=momentum)


def rmsprop(learning_rate: float, alpha: float = 0.99) -> OptimizerFactory:
    """RMSprop, Tieleman & Hinton, Coursera lecture 6.5, 2012; ``alpha`` is the decay of the mean square."""
    return lambda parameters: torch.optim.RMSprop(parameters, learning_rate, alpha)


def linear_decay(start: float) -> Callable[[Progress], float] | None:
    """Constant until ``start`` (a fraction of the stage), then linear to zero; None where there is nothing to fall."""
    if start >= 1:
        return None
    return lambda progress: min(1.0, (1.0 - progress.fraction) / (1.0 - start))


def exponential_decay(divisor: float, floor: float = 0.0) -> Callable[[Progress], float]:
    """Divided by ``divisor`` every round of the stage, until it has reached ``floor``."""
    return lambda progress: max(divisor**-progress.stage_round, floor)


def linear_rise(start: float, stop: float, rounds: int) -> Callable[[Progress], float]:
    """From ``start`` to ``stop`` during the first ``rounds`` of the stage, then ``stop``."""
    return lambda progress: start + (stop - start) * min(1.0, progress.stage_round / rounds)


def over_processes(value: Tensor) -> Tensor:
    """The mean over all processes, so that a turn that depends on it is taken by all of them or by none."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def ability(method: Method, name: str) -> Callable[..., Any]:
    """What a trained method can do, by its agreed name.

    Raises:
        UserError: this method cannot do that.
    """
    found: Any = getattr(method, name, None)
    if not callable(found):
        raise UserError(f"{type(method).__name__} cannot {name}")
    return found  # type: ignore[no-any-return]


def moves(yielded: Iterable[Any]) -> Iterator[tuple[Turn, ...]]:
    """What a method yields, as simultaneous moves of one or more turns."""
    for move in yielded:
        yield (move,) if isinstance(move, Turn) else tuple(move)
