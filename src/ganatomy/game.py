"""The classes for adversarial training: Player, Turn, Stage and Method describe a system as a game.

The networks of a system are grouped into *players*; a generator function yields the *turns* of one round in the order
of the paper's algorithm; a *stage* says how many rounds are trained and on which samples.
The trainer takes each turn, steps that player, and resumes the method on the next line:

    def turns(self, batches):
        for _ in range(self.config.critic_steps):
            batch = next(batches)
            fake = self.generator(batch["input"]).detach()
            yield Turn("critic", wasserstein=...)
        batch = next(batches)
        yield Turn("generator", adversarial=..., perceptual=...)

Unequal step counts are a loop, weight clipping is the line after the ``yield``, a conditional turn is an ``if``, and
turns yielded together as a tuple are a simultaneous move: all gradients are computed before any player steps.
Nothing in this module knows images, data or devices.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from torch import Tensor, nn

from ganatomy.errors import UnknownOption, UserError
from ganatomy.roles.options import RoleOptions, check_role_name

if TYPE_CHECKING:
    from ganatomy.case import Sample, Task
    from ganatomy.images.augmentation import Augmentation

Batch = Mapping[str, Any]
"""Role name to tensor of shape (samples, channels, [[depth,] height,] width), in the range of the role's codec.

The role ``label`` of tasks with classes has the shape (samples,): the index of each sample's label among the classes.
In stages with several streams, a batch maps the name of each stream to such a mapping.
"""
Triple = tuple[int, int, int]
"""Numbers for the three axes (slices, rows, columns)."""

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Geometry(NamedTuple):
    """Extents and spacing of a case on the working grid, from which a method may plan its options."""

    shape: Triple
    """Number of slices, rows and columns."""
    spacing: tuple[float, float, float]
    """Distance between slices, rows and columns in mm."""


@dataclass
class Progress:
    """State of training in rounds and samples; the trainer advances it, methods and schedules read it."""

    round: int = 0
    """Rounds completed since training began."""
    images: int = 0
    """Samples used so far by the whole run, all processes together."""
    stage: str = ""
    stage_round: int = 0
    """Rounds completed in this stage."""
    stage_rounds: int = 1
    """Total number of rounds of this stage."""

    @property
    def fraction(self) -> float:
        """Completed fraction of this stage, 0 to 1."""
        return self.stage_round / max(self.stage_rounds, 1)


@dataclass(frozen=True)
class Player:
    """Networks that are updated together, with their optimiser, schedules and moving average."""

    name: str
    modules: tuple[nn.Module, ...]
    optimizer: OptimizerFactory
    schedule: Callable[[Progress], float] | None = None
    """Factor of the optimiser's learning rate; None means that the rate is constant."""
    momentum: Callable[[Progress], float] | None = None
    """Momentum of the optimiser, where it changes during training."""
    ema_halflife: float | None = None
    """Half-life, in training images, of an exponential moving average of the weights, which is used at inference."""
    max_gradient_norm: float | None = None
    """Largest L2 norm of the gradient; longer gradients are scaled down to it."""
    restart: Callable[[Progress], bool] | None = None
    """Whether the state of the optimiser (its moments) is reset before this round."""
    adversary: bool = False
    """Whether the player judges samples for the others; the trainer applies `Aids` at the turns of such players."""

    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of all modules, each once, in a fixed order."""
        unique = {id(p): p for module in self.modules for p in module.parameters() if p.requires_grad}
        return list(unique.values())


class Aids(BaseModel):
    """Aids that stabilise adversarial training; by default there are none.

    All but the last two leave the shapes of all networks alone.

    The trainer applies them, so that methods need no code for them; see `ganatomy.training.aids`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    instance_noise: float = Field(0.0, ge=0)  # initial SD of noise on all that adversaries are shown (arXiv 1610.04490)
    noise_until: float = Field(1.0, gt=0)  # fraction of the stage at which that noise reaches zero (our choice)
    r1: float = Field(0.0, ge=0)  # γ of R1: half of it weighs the squared slope at real samples; 10 (arXiv 1801.04406)
    dragan: float = Field(0.0, ge=0)  # weight of the penalty around real samples; 10 in its paper (arXiv 1705.07215)
    gradient_penalty: float = Field(0.0, ge=0)  # weight of the penalty of WGAN-GP; 10 in its paper (arXiv 1704.00028)
    spectral_norm: bool = False  # whether weights of adversaries are divided by their spectral norm (arXiv 1802.05957)
    adversary_rate: float = Field(
        1.0, gt=0
    )  # factor of adversaries' learning rates: two time scales (arXiv 1706.08500)
    extragradient: bool = False  # whether players move by the gradients found one round ahead (arXiv 1802.10551)
    consensus: float = Field(0.0, ge=0)  # weight of half the squared gradient of all players; 10 (arXiv 1705.10461)
    historical_averaging: float = Field(0.0, ge=0)  # weight of the squared distance to past weights (arXiv 1606.03498)
    feature_matching: float = Field(0.0, ge=0)  # weight of matching the adversary's mean features (arXiv 1606.03498)
    pack: int = Field(1, ge=1, le=64)  # samples that adversaries judge together, 2 to 4 in PacGAN (arXiv 1712.04086)
    minibatch_discrimination: int = Field(0, ge=0, le=1024)  # values of closeness to the batch (arXiv 1606.03498)

    @model_validator(mode="after")
    def _one_way_to_move(self) -> Self:
        if self.extragradient and self.consensus:
            raise ValueError("extragradient and consensus both decide how players move; choose one")
        if self.joins and (self.r1 or self.dragan or self.gradient_penalty):
            raise ValueError(
                "r1, dragan and gradient-penalty need the slope of each sample's score, but pack and "
                "minibatch-discrimination judge samples together; choose one"
            )
        return self

    @property
    def joins(self) -> tuple[str, ...]:
        """Names of the aids in use by which the score of a sample depends on others."""
        return tuple(name for name in ("pack", "minibatch_discrimination") if name in self.chosen)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the aids that are switched on."""
        usual = type(self).model_fields
        return tuple(name for name, value in self if name != "noise_until" and value != usual[name].default)


class Turn:
    """One optimiser step of one player: named loss terms, already weighted, whose sum is minimised.

    Args:
        player: name of the player that steps.
        losses: loss terms (scalar tensors) by name, for terms whose names depend on the configuration.
        scores: scores that an adversary gives, by name, those of real samples first and those of generated ones second;
            logged as means, never minimised.
        terms: loss terms (scalar tensors) with fixed names.
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
        """Sum of all loss terms, a scalar tensor."""
        return torch.stack(list(self.losses.values())).sum()


@dataclass(frozen=True)
class Place:
    """Base class of sampling schemes for patches that are not uniform over the image."""


@dataclass(frozen=True)
class Corners(Place):
    """Sampling of patches at the four corners and the centre of a slice only."""


@dataclass(frozen=True)
class Balanced(Place):
    """Sampling of patches around voxels with given labels, which an index of each case lists.

    Attributes:
        role: name of the label map.
        shares: label, or labels of one class, to the share of patches that are centred on a voxel with one of them; all
            other patches are drawn uniformly.
    """

    role: str
    shares: Mapping[int, float] | Mapping[int | tuple[int, ...], float]

    def __post_init__(self) -> None:
        if min(self.shares.values(), default=0.0) < 0 or sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"shares of patches must be at least 0 and add up to at most 1, not {dict(self.shares)}")


@dataclass(frozen=True)
class Across(Place):
    """Uniform sampling of slices in another plane than that of the working grid.

    The volume is turned before anything is drawn from it, so that patch, margin, flips and augmentation are given in
    the order of the turned axes, and batches hold the turned patches.

    Attributes:
        axis: axis of the working grid that becomes the first one: 1 for slices of (slices, columns), 2 for slices of
            (slices, rows).
    """

    axis: int

    def turned(self, values: Sequence[Any]) -> list[Any]:
        """Return values of the working grid's axes in the order of the turned ones."""
        return [values[self.axis], *(value for place, value in enumerate(values) if place != self.axis)]


@dataclass(frozen=True)
class Stream:
    """Settings by which a stage draws samples, independently of its other streams.

    Attributes:
        name: key of the samples in the batches of a stage with several streams.
        roles: roles that are drawn together from one case; None means all roles that every case has.
        batch_size: samples per batch, all processes together.
        patch: size in voxels (slices, rows, columns); 1 slice for 2D methods, and 1 row too for 1D methods.
        margin: voxels per side by which the roles of ``wide`` exceed the patch, for networks with valid convolutions.
        wide: roles that are inputs of such networks.
        without: roles that a case must not have, such as the mask in a stream of unannotated images.
        flips: axes of the patch (0 slices, 1 rows, 2 columns) flipped with probability one half.
        quarter_turns: whether square patches are rotated in their plane by 0, 90, 180 or 270 degrees, equally likely.
        place: sampling scheme of the patches; None means uniform.
        accepts: predicate of a drawn patch (role name to array in physical units); where it is false, the patch is
            drawn again a few times.
        balanced: whether every class of the cases' labels is drawn equally often.
        augmentation: random changes of geometry and intensities, after flips and quarter turns.
        transform: function of a drawn patch (role name to array in physical units) and a random generator that returns
            the changed patch, for steps that a task needs in addition.
        fold: (K, N): the subjects are divided into N folds, and those of fold K are left out.
        optional: whether batches lack this stream where no training case has its roles, as one of cases without
            annotations; the first stream of a stage is never missing.
    """

    name: str
    roles: tuple[str, ...] | None
    batch_size: int
    patch: Triple
    margin: Triple = (0, 0, 0)
    wide: frozenset[str] = frozenset({"input"})
    without: tuple[str, ...] = ()
    flips: tuple[int, ...] = ()
    quarter_turns: bool = False
    place: Place | None = None
    accepts: Callable[[Mapping[str, Any]], bool] | None = None
    balanced: bool = False
    augmentation: Augmentation | None = None
    transform: Callable[[Mapping[str, Any], Any], Mapping[str, Any]] | None = None
    fold: tuple[int, int] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Derivation:
    """A role that is computed once over whole cases when a stage begins, such as predictions of an earlier stage.

    Attributes:
        function: function of a batch with all roles of whole slices (in 3D, of slabs or tiles of them) that returns the
            new role, in the range of the networks, without the margin of the stage's first stream.
        scale: voxels of the new role for each voxel of the working grid along (slices, rows, columns).
        folds: number of folds into which the subjects are divided; where it is not 0, the function takes the number of
            the case's fold as a second argument, so that it can predict with a network that was not trained on this
            case; see ``Stream.fold``.
    """

    function: Callable[..., Tensor]
    scale: Triple = (1, 1, 1)
    folds: int = 0


@dataclass(frozen=True)
class Tiling:
    """Settings by which a network is run over a large image, tile by tile.

    Attributes:
        margin: voxels per side (slices, rows, columns) that the network needs around its output and does not return.
        multiple: in-plane sizes of the network's input are multiples of this.
        scale: output voxels for each input voxel along (slices, rows, columns), where the output has a finer grid.
        tile: output of one pass in input voxels (slices, rows, columns); None means a size that fits into memory, or
            the whole image where neither margin nor tile limits the network's input.
        overlap: share of a tile that its neighbour covers, too, from 0 to below 1.
        blend: combination of overlapping tiles: ``exact`` tiles do not overlap; ``mean`` averages; ``gaussian``
            averages with weights that fall towards the edges of a tile; ``hann`` does so with half-sample Hann windows,
            which add up to one where half of a tile is covered by its neighbour.
        ends: slices of the margin beyond the ends of an image: mirrored without the last one, or the last one again.
    """

    margin: Triple = (0, 0, 0)
    multiple: int = 1
    scale: Triple = (1, 1, 1)
    tile: Triple | None = None
    overlap: float = 0.0
    blend: Literal["exact", "mean", "gaussian", "hann"] = "exact"
    ends: Literal["mirrored", "repeated"] = "mirrored"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be a share from 0 to below 1, not {self.overlap}")
        if self.overlap and (self.blend == "exact" or self.tile is None):
            raise ValueError("overlapping tiles need a tile size and the blend mean, gaussian or hann")


@dataclass(frozen=True)
class Stage:
    """A named part of training: its turns, players, number of rounds and streams of samples.

    A stage without players trains nothing: its turns only compute, such as statistics of the samples.
    """

    name: str
    turns: Callable[[Iterator[Batch]], Iterator[Any]]
    players: Sequence[Player]
    rounds: int
    streams: Stream | Sequence[Stream]
    """Source of the samples: one stream gives flat batches, several give a mapping from their names to batches."""
    derive: Mapping[str, Callable[[Batch], Tensor] | Derivation] = field(default_factory=dict)
    """New roles computed once over whole cases when the stage begins; a function alone stands for a `Derivation` on
    the working grid. The method is in its inference mode, with averaged weights."""
    begin: Callable[[], None] | None = None
    """Function that is called once when the stage begins, not when it is resumed."""
    validated: bool = True
    """Whether validation scores and best weights are computed in this stage, which trains the method's ability."""

    @property
    def streams_in_order(self) -> tuple[Stream, ...]:
        """Tuple of all streams, with one element for a stage with a single stream."""
        return (self.streams,) if isinstance(self.streams, Stream) else tuple(self.streams)

    @property
    def stream(self) -> Stream:
        """First stream, whose batch size counts the training images."""
        return self.streams_in_order[0]


class Range(NamedTuple):
    """Numbers that a field may have; bounds as in pydantic, and None where there is none."""

    ge: float | None = None
    """Least number."""
    gt: float | None = None
    """Number that all are greater than."""
    le: float | None = None
    """Greatest number."""
    lt: float | None = None
    """Number that all are less than."""
    counts: tuple[int, int] | None = None
    """Least and greatest number of values, where a field has several."""
    words: str = ""
    """Range in words, where the bounds alone do not say enough."""

    def __contains__(self, value: object) -> bool:
        """Whether a value is no number or lies within the bounds."""
        if not isinstance(value, int | float):
            return True
        above = (self.ge is None or value >= self.ge) and (self.gt is None or value > self.gt)
        return above and (self.le is None or value <= self.le) and (self.lt is None or value < self.lt)

    @property
    def told(self) -> str:
        """Range in words."""
        bounds = {"at least": self.ge, "greater than": self.gt, "at most": self.le, "less than": self.lt}
        return self.words or "must be " + " and ".join(
            f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None
        )


LIMITS: Mapping[str, Range] = {
    r"features_width": Range(gt=0, le=8),
    r"(.+_)?(widths?|units|maxout|dense|latent)|base|growth|maximum|wide|widest|encoder|decoder": Range(
        ge=1, le=8192, counts=(1, 64)
    ),
    r"(.+_)?hidden": Range(ge=1, le=8192, counts=(0, 64)),
    r"(.+_)?(levels|blocks|strided|halvings|depth)": Range(ge=0, le=64),
    r"stages|pieces|copies|chain|restarts|starters|channels": Range(ge=1, le=64),
    r"median": Range(ge=1, le=99),
    r"(.+_)?strides": Range(ge=1, le=2),
    r"(.+_)?learning_rates?(_at_.+)?|(.+_)?rates?": Range(gt=0, le=100, counts=(1, 64)),
    r"(.+_)?(betas|beta1|momentum|dropout|overlap)": Range(ge=0, lt=1),
    r"(.+_)?(weights?|weight_decay|noise|blur|std|erosion|smallest|phase)": Range(ge=0),
    r"game_rounds|(.+_)?batch_size|(.+_)?(critic|discriminator|generator|many)_steps|(.+_)?every": Range(ge=1),
    r"(.+_)?(rounds|steps)|(fade|hold|final)_images": Range(ge=0),
    r"(.+_)?share|(cut|drop)_at|decay_(from|start)|warm_up|label_flips|brightest|max_air": Range(ge=0, le=1),
    r"real_target": Range(gt=0, le=1),
    r"percentile": Range(gt=0, le=100),
    r"percentiles": Range(ge=0, le=100),
    r"epsilon|ema_halflife": Range(gt=0),
    r"jitter|pool": Range(ge=0, le=4096),
    r"coils|factors?": Range(ge=1, le=256),
    r"images|inputs": Range(counts=(1, 64)),
    r"patch|patch_shape|patch_slices|seen|crop": Range(ge=1, le=4096),
    r"size": Range(ge=1, le=65536, counts=(2, 3), words="has two or three extents of at least 1 and at most 65536"),
    r"(.+_)?spacing": Range(gt=0, words="every side must be greater than 0 mm"),
    r"flips": Range(ge=0, le=2, words="axes are 0 (slices), 1 (rows) and 2 (columns)"),
}
"""Pattern of the names of configuration fields that many systems share, to the range of their numbers; the first
pattern that fits holds. Ranges of a single system's fields stand beside these fields."""
ASCENDING = r"(.+_)?window|percentiles"
"""Pattern of the names of fields whose two numbers go from a lower to a higher one."""


class MethodConfig(BaseModel):
    """Options of a method, with the paper's values as defaults; the comment on each field gives its unit or source."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}
    """Named sets of values that differ from the defaults."""
    baseline: ClassVar[Mapping[str, Any]] = {}
    """Values that turn the method into its baseline, the same network trained without an adversary."""
    compared: ClassVar[Mapping[str, Any]] = {}
    """Values with which other systems are compared with this one, on images that are prepared as theirs are."""

    @field_validator("*")
    @classmethod
    def _within_limits(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a value that is out of the range of fields with this name."""
        name = info.field_name or ""
        several = value if isinstance(value, tuple) else (value,)
        limit = next((one for pattern, one in LIMITS.items() if re.fullmatch(pattern, name)), Range())
        if not all(one in limit for one in several):
            raise ValueError(f"{limit.told}, got {' '.join(map(str, several))}")
        if limit.counts and isinstance(value, tuple) and not limit.counts[0] <= len(value) <= limit.counts[1]:
            raise ValueError(f"has {limit.counts[0]} to {limit.counts[1]} values, got {len(value)}")
        if re.fullmatch(ASCENDING, name) and isinstance(value, tuple) and not value[0] < value[-1]:
            raise ValueError(f"goes from a lower to a higher number, not from {value[0]:g} to {value[-1]:g}")
        return value

    @classmethod
    def preset(cls, name: str = "paper", **values: Any) -> Self:
        """Return the configuration of the preset ``name``, where ``values`` replace those of the preset.

        Raises:
            UnknownOption: there is no such option.
            UserError: the preset is unknown or a value is invalid.
        """
        if name not in cls.presets:
            raise UserError(f"--preset {name}: unknown; this system has {', '.join(cls.presets)}")
        try:
            return cls.model_validate({**cls.presets[name], **values})
        except ValidationError as error:
            found = error.errors()
            options = [".".join(str(part) for part in one["loc"]).removeprefix("roles.") for one in found]
            unknown = [name for name, one in zip(options, found, strict=True) if one["type"] == "extra_forbidden"]
            if unknown:
                raise UnknownOption(f"option {unknown[0]}: there is no such option", unknown) from None
            raise refusal(error) from None


def refusal(error: ValidationError, *, typed: bool = False) -> UserError:
    """Return the error for the first invalid value of a configuration, in one line that names the option.

    Args:
        error: what pydantic found.
        typed: whether the option is named as on the command line.
    """
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if not (typed and isinstance(part, int))]
    option = ".".join(place[1:] if place[:1] == ["roles"] else place)
    told = first.get("ctx", {}).get("error") or f"{first['msg'].lower()}, got {first.get('input')!r}"
    return UserError(f"option {'--' + option.replace('_', '-') if typed else option}: {told}")


class RolesConfig(MethodConfig):
    """Configuration of a general system whose roles the user names: ``--source mr --target ct --ct.window -160 240``.

    The values of some fields are names of roles. ``roles`` holds the options of each; in the given values, a key may
    also be a field that names roles, whose options then apply to all roles that it names. A subclass may narrow the
    type of ``roles`` where all are of one kind.
    """

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {}
    """Field that names a role, or a tuple of roles, to the class of the options of such a role."""
    role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Options that differ from the defaults of their kind, by the name of a role or of a field that names roles."""

    roles: Mapping[str, SerializeAsAny[RoleOptions]] = {}  # options of each role, by its name

    @classmethod
    def named(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the roles that a configuration names, in order: role to the field that names it.

        Args:
            values: values of the fields; missing fields have their defaults.

        Raises:
            UserError: a name cannot be used, or is given twice.
        """
        found: dict[str, str] = {}
        for field_name, kind in cls.role_fields.items():
            given = values.get(field_name, cls.model_fields[field_name].get_default(call_default_factory=True))
            names = given if isinstance(given, list | tuple) else () if given is None else (given,)
            for name in map(str, names):
                check_role_name(name, field_name, _option_names(cls), kind.noun)
                if name in found:
                    fields = " and ".join(
                        f"--{one.replace('_', '-')}" for one in dict.fromkeys((found[name], field_name))
                    )
                    raise UserError(f"{fields}: two roles are called {name}; give each a name of its own")
                found[name] = field_name
        return found

    @classmethod
    def preset(cls, name: str = "paper", **values: Any) -> Self:
        """Return the configuration of the preset ``name``, where ``values`` replace those of the preset.

        Args:
            name: name of the preset.
            values: values of fields, and options of roles by their names, which are merged with those of the preset.

        Raises:
            UnknownOption: there is no such option.
            UserError: the preset is unknown, the name of a role cannot be used, or a value is invalid.
        """
        known = cls.presets.get(name, {})
        names = cls.named({**known, **values})
        own = {role: values.pop(role) for role in names if role in values}
        # A preset may have options for roles that were renamed: these are ignored. Such options of the user are errors.
        usable = {key: given for key, given in known.get("roles", {}).items() if key in names or key in cls.role_fields}
        values["roles"] = _merged(usable, values.get("roles", {}), own)
        return super().preset(name, **values)

    @model_validator(mode="before")
    @classmethod
    def _complete_roles(cls, values: Any) -> Any:
        """Put the options of every named role into ``roles``, where those of the user replace the defaults."""
        if not isinstance(values, Mapping):
            return values
        names = cls.named(values)
        given = _merged(values.get("roles", {}))
        if unknown := [key for key in given if key not in names and key not in cls.role_fields]:
            raise UserError(f"option {unknown[0]}: no role is called so; the roles are {', '.join(names)}")
        complete = {}
        for role, field_name in names.items():
            usual = cls.role_fields[field_name].by_name.get(role, {})
            defaults, own = ([layer.get(key, {}) for key in (field_name, role)] for layer in (cls.role_defaults, given))
            layers = [defaults[0], usual, defaults[1], *own]
            complete[role] = _validated(
                cls.role_fields[field_name], role, _merged(*({role: one} for one in layers))[role]
            )
        return {**values, "roles": complete}


def _merged(*layers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Merge options of roles, where later layers replace earlier ones: role to option to value."""
    found: dict[str, dict[str, Any]] = {}
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise UserError("option roles: options by the names of roles are needed, such as {'t1': {'channels': 1}}")
        for role, options in layer.items():
            if isinstance(options, BaseModel):
                options = options.model_dump(exclude_unset=True)
            if not isinstance(options, Mapping):
                raise UserError(f"option {role}: its options by name are needed, such as {{'channels': 1}}")
            found[role] = {**found.get(role, {}), **options}
    return found


def _validated(kind: type[RoleOptions], role: str, options: Mapping[str, Any]) -> RoleOptions:
    """Return the validated options of a role; errors carry the location ``roles`` and the name of the role."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        lines: list[Any] = [{**line, "loc": ("roles", role, *line["loc"])} for line in error.errors(include_url=False)]
        raise ValidationError.from_exception_data(kind.__name__, lines) from None


def _option_names(kind: type[BaseModel]) -> set[str]:
    """Return the names of all fields of a configuration and of the configurations in it."""
    found = set(kind.model_fields)
    for info in kind.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found |= _option_names(info.annotation)
    return found


class Noise:
    """Random tensors that do not depend on the number of processes that share a batch.

    Every process draws the rows of all processes from the same random stream and keeps its own, so that two processes
    with half a batch each get the rows that one process with the whole batch gets.
    """

    def __init__(self, seed: int = 0, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"):
        self.rank, self.world = rank, world
        self.generator = torch.Generator(device).manual_seed(seed)

    def _rows(self, draw: Callable[..., Tensor], rows: int, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        drawn = draw(rows * self.world, *shape, generator=self.generator, device=device)
        return drawn[self.rank * rows : (self.rank + 1) * rows]

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Draw from U(0, 1); shape (rows, *shape)."""
        return self._rows(torch.rand, rows, shape)

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Draw from N(0, 1); shape (rows, *shape)."""
        return self._rows(torch.randn, rows, shape)


class Method(nn.Module, ABC):
    """A published system: its networks, players, turns, and the abilities of the trained networks.

    Abilities are methods with fixed names, such as ``restore(input)``, ``segment(image)``, ``detect(image)``,
    ``classify(image)``, ``locate(image)``, ``sample(latent, label)``; the task names a predictor for each. They take
    and return tensors in codec range, run without gradient, change no state, and give each sample the result that it
    has alone, independent of the rest of its batch.
    """

    Config: ClassVar[type[MethodConfig]]
    dims: int = 2
    """Number of spatial axes of the networks' inputs."""
    stated_augmentation: ClassVar[str | None] = None
    """How training images are changed at random according to its paper or release, as a phrase; None where neither is
    known to say anything, so that changes that suit the task are added to small training sets."""
    revision: ClassVar[int] = 1
    """Number that is raised when the meaning of the weights changes, so that older runs are not continued."""

    @classmethod
    def of(cls, config: MethodConfig) -> Method:
        """Return the method of a configuration; a system with several models of different abilities overrides this."""
        return cls(config)

    def __init__(self, config: MethodConfig):
        super().__init__()
        self.config: Any = config
        self.progress = Progress()
        self.noise = Noise()
        self.fitted = Fitted()
        self._task: Task | None = None

    @abstractmethod
    def build_task(self) -> Task:
        """Return the task of this configuration; called once."""

    @property
    def task(self) -> Any:
        """Task of the method, with roles, framing and scores; one object for all accesses."""
        if self._task is None:
            self._task = self.build_task()
            self._task.fitted = self.fitted.numbers
        return self._task

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """Return the stages of training, in order."""

    @property
    def adversarial(self) -> bool:
        """Whether the networks are trained against an adversary; baselines without one override this."""
        return True

    @property
    def tiling(self) -> Tiling:
        """Settings by which the network is run over images that are larger than its input."""
        return Tiling()

    def planned(self, cases: Callable[[], Sequence[Geometry]]) -> Mapping[str, Any]:
        """Return the options that the method plans from its training cases before any of them is prepared.

        They replace those of the configuration and are recorded in the run. A method that plans nothing, as most do,
        leaves the function of the cases uncalled, since it reads their files.

        Args:
            cases: function that returns the geometries of training cases, framed with the present configuration.
        """
        return {}

    def check_sizes(self) -> None:
        """Check, before anything is read or written, that the networks take patches of the configured size.

        Raises:
            UserError: they do not; the message names the option.
        """

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        """Check, before anything is written, that the training cases hold the data that the method learns from.

        Args:
            samples: samples of the training cases.

        Returns:
            Remarks for the user, one sentence each.

        Raises:
            UserError: the method cannot be trained on these cases.
        """
        return ()

    def fit(self, samples: Iterable[Sample]) -> None:
        """Fit numbers to the training cases before the first stage; they are saved with the weights.

        Args:
            samples: samples of the training cases, each read when the iteration reaches it.
        """
        self.fitted.keep(self.task.fit(samples))

    def inference_mode(self) -> Self:
        """Set every layer to the mode in which the trained method is used, and return the method."""
        return self.eval()

    def provenance(self) -> dict[str, str]:
        """Return facts that are recorded with every result, such as a feature network that replaces the paper's."""
        return {}


class Fitted(nn.Module):
    """Numbers fitted on training cases, by name; saved and loaded like buffers, with shapes that depend on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, Any] = {}

    def keep(self, numbers: Mapping[str, Any]) -> None:
        """Replace all numbers.

        Args:
            numbers: name to NumPy array.
        """
        self.numbers.clear()
        self.numbers.update(numbers)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self.numbers.items():
            destination[prefix + name] = torch.from_numpy(np.array(value))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        found = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        self.keep({name: value.detach().cpu().numpy() for name, value in found.items()})


def adam(
    learning_rate: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> OptimizerFactory:
    """Return a factory of fused Adam optimisers, Kingma & Ba, arXiv 1412.6980.

    Args:
        learning_rate: step size.
        betas: decay of the running means of gradients and of squared gradients.
        eps: number added to the root of the latter.
        weight_decay: multiple of the weights that is added to their gradient.
    """
    return lambda parameters: torch.optim.Adam(
        parameters, learning_rate, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
    )


def sgd(
    learning_rate: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> OptimizerFactory:
    """Return a factory of optimisers for stochastic gradient descent.

    Args:
        learning_rate: step size.
        momentum: decay of the running sum of gradients.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: multiple of the weights that is added to their gradient.
    """
    return lambda parameters: torch.optim.SGD(
        parameters, learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )


def rmsprop(learning_rate: float, alpha: float = 0.99, weight_decay: float = 0.0) -> OptimizerFactory:
    """Return a factory of RMSprop optimisers, Tieleman & Hinton, Coursera lecture 6.5, 2012.

    Args:
        learning_rate: step size.
        alpha: decay of the running mean of squared gradients.
        weight_decay: multiple of the parameters that is added to their gradients.
    """
    return lambda parameters: torch.optim.RMSprop(parameters, learning_rate, alpha, weight_decay=weight_decay)


class NesterovRMSprop(torch.optim.Optimizer):
    """RMSprop with epsilon within the root and Nesterov's momentum, as in the programs Pylearn2 and DeepMedic.

    With the running mean a of squared gradients g², a step is s = (1 - m) r g / √(a + ε), the velocity v becomes
    m v - s, and weights change by m v - s with the new velocity. Without ``normalised``, the factor 1 - m is left out.

    Args:
        parameters: parameters to optimise.
        lr: learning rate r.
        alpha: decay of a.
        momentum: m.
        eps: ε.
        normalised: whether steps are multiplied by 1 - m.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        alpha: float = 0.9,
        momentum: float = 0.6,
        eps: float = 1e-4,
        normalised: bool = True,
    ):
        share = 1 - momentum if normalised else 1.0
        super().__init__(parameters, {"lr": lr, "alpha": alpha, "momentum": momentum, "eps": eps, "share": share})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(square=torch.zeros_like(parameter), velocity=torch.zeros_like(parameter))
                square, velocity, slope = state["square"], state["velocity"], parameter.grad
                square.mul_(group["alpha"]).addcmul_(slope, slope, value=1 - group["alpha"])
                step = slope * torch.rsqrt(square + group["eps"]) * (group["share"] * group["lr"])
                velocity.mul_(group["momentum"]).sub_(step)
                parameter.add_(group["momentum"] * velocity - step)


def nesterov_rmsprop(
    learning_rate: float, alpha: float = 0.9, momentum: float = 0.6, eps: float = 1e-4, normalised: bool = True
) -> OptimizerFactory:
    """Return a factory of `NesterovRMSprop` optimisers, see there for the arguments."""
    return lambda parameters: NesterovRMSprop(parameters, learning_rate, alpha, momentum, eps, normalised)


def linear_decay(start: float) -> Callable[[Progress], float] | None:
    """Return a schedule that is 1 until ``start`` (a fraction of the stage), then falls linearly to 0; None for 1."""
    if start >= 1:
        return None
    return lambda progress: min(1.0, (1.0 - progress.fraction) / (1.0 - start))


def polynomial_decay(power: float) -> Callable[[Progress], float]:
    """Return a schedule that falls from 1 to 0 over the stage as (1 - fraction)^power."""
    return lambda progress: float((1.0 - progress.fraction) ** power)


def exponential_decay(divisor: float, floor: float = 0.0) -> Callable[[Progress], float]:
    """Return a schedule that begins at 1 and is divided by ``divisor`` every round, until it reaches ``floor``."""
    return lambda progress: max(divisor**-progress.stage_round, floor)


def linear_rise(start: float, stop: float, rounds: int) -> Callable[[Progress], float]:
    """Return a schedule that changes linearly from ``start`` to ``stop`` in the first ``rounds``, then stays there."""
    return lambda progress: start + (stop - start) * min(1.0, progress.stage_round / rounds)


def over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, so that decisions that depend on it are the same in all."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes that share a batch, in their order."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def moves(yielded: Iterable[Any]) -> Iterator[tuple[Turn, ...]]:
    """Yield every move of a method as a tuple of one or more simultaneous turns."""
    for move in yielded:
        yield (move,) if isinstance(move, Turn) else tuple(move)
