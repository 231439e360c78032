"""The run file, ``run.yaml`` in format 2, which describes a run, and the digest of its weights.

The file documents a run and allows to repeat it. It never decides which code is imported: systems are looked up by slug
or by a name that an installed package has registered, and others must be named again by the user. Nor does it decide
where prepared cases are kept. It holds keyed pseudonyms instead of names of subjects. The path of the data is written
as the user gave it if it is absolute, and else relative to the run, so that both may be moved together and a run may be
used from any folder.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from ganatomy.case import Split
from ganatomy.catalogue import System, known, source_of
from ganatomy.data.cases import DataConfig
from ganatomy.data.memory import is_memory
from ganatomy.data.pseudonyms import DIGITS, DIGITS_OF_CONTENT
from ganatomy.data.splits import Fold
from ganatomy.errors import Notice, UserError
from ganatomy.game import Aids
from ganatomy.images.atomic import write_text
from ganatomy.images.augmentation import Augmentation

RUN_FILE = "run.yaml"
FORMAT: Literal[2] = 2
FIRST_FORMAT = "0.1.0"
"""Version of ganatomy whose run files have no format number."""

Which = Literal["best", "last"]
Augment = Literal["auto", "none", "always"]
"""Whether random changes of training images are added to those of the system itself."""


class InitialSource(NamedTuple):
    """The player of another run whose weights a player begins with, as ``RUN:PLAYER`` or ``RUN:PLAYER=OWN``."""

    run: Path
    """Folder of the other run."""
    player: str
    """Name of its player."""
    own: str
    """Name of the player that begins with these weights."""

    @classmethod
    def parse(cls, word: str) -> InitialSource:
        """Return the source that a word of the option names.

        Raises:
            UserError: the word has another form.
        """
        run, _, players = word.rpartition(":")
        player, mark, own = players.partition("=")
        if not (run and player) or (mark and not own):
            raise UserError(f"--init-from {word}: give RUN:PLAYER, such as runs/a:generator, or RUN:PLAYER=OWN")
        return cls(Path(run), player, own or player)

    @property
    def word(self) -> str:
        """The source as it is typed."""
        return f"{self.run.as_posix()}:{self.player}{'' if self.own == self.player else f'={self.own}'}"

    @property
    def option(self) -> str:
        """Option with this source, for messages."""
        return f"--init-from {self.word}"


class TrainConfig(BaseModel):
    """Options of the training that every system has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int | None = Field(None, ge=1)  # training rounds, divided among stages; none means the system's own
    seed: int = Field(0, ge=0, lt=2**63)  # seed of initial weights, samples, noise and splits
    device: str = "auto"  # device on which to train: cpu, cuda, or auto
    processes: int = Field(1, ge=1, le=1024)  # number of processes or GPUs; each computes a part of every batch
    precision: Literal["32-true", "bf16-mixed"] = "32-true"  # number format; gradient penalties stay in 32 bits
    threads: int | None = Field(None, ge=1, le=1024)  # CPU threads per process; none means torch's default
    workers: int = Field(0, ge=0, le=1024)  # background processes that load batches; 0 loads them in between rounds
    log_every: int = Field(10, ge=1)  # rounds between two rows of metrics.csv
    validate_every: int | None = Field(None, ge=1)  # rounds between validations; none: a 20th of the run, at least 25
    validation_slices: int = Field(12, ge=1)  # number of slices that are scored at each validation
    monitor: str | None = None  # validation score by which the best weights are selected; none means the task's own
    augment: Augment = "auto"  # random changes: auto where data are few and the source says nothing; none; or always
    diagnose: bool = True  # compute the vector field of the game at validations, to see whether it converges
    false_positive_rate: float = Field(0.05, gt=0, lt=1)  # share of healthy pixels, images above a detector's threshold
    aids: Aids = Aids()  # aids that stabilise adversarial training
    init_from: tuple[str, ...] = ()  # RUN:PLAYER: players that begin with the best weights of another run's player

    @field_validator("init_from", mode="before")
    @classmethod
    def _plain_words(cls, words: Any) -> Any:
        """Check the form of every source; a single one may be given without a sequence."""
        if not isinstance(words, str | list | tuple):
            return words
        return tuple(InitialSource.parse(str(word)).word for word in ([words] if isinstance(words, str) else words))

    @property
    def sources(self) -> tuple[InitialSource, ...]:
        """Sources of initial weights."""
        return tuple(map(InitialSource.parse, self.init_from))

    def beginning(self, place: Callable[[Path], Path]) -> TrainConfig:
        """Return the options with another place for every run that initial weights come from."""
        words = tuple(source._replace(run=place(source.run)).word for source in self.sources)
        return self.model_copy(update={"init_from": words})


class _Part(BaseModel):
    """Base class of the parts of a run file, which are immutable and refuse unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Pseudonym = Annotated[str, Field(pattern=f"^[0-9a-f]{{{DIGITS}}}$")]
Content = Annotated[str, Field(pattern=f"^[0-9a-f]{{{DIGITS_OF_CONTENT}}}$")]


class Sides(_Part):
    """The split of the subjects, by pseudonyms of 32 hexadecimal digits."""

    train: tuple[Pseudonym, ...]  # learned from
    val: tuple[Pseudonym, ...]  # chose the best weights
    test: tuple[Pseudonym, ...]  # kept for testing
    secret: str  # fingerprint of the secret behind the pseudonyms
    fold: Fold | None = None  # of a cross-validation
    label_fraction: float | None = None  # share of the annotated training subjects whose annotations were learned from
    annotated: tuple[Pseudonym, ...] = ()  # those subjects, where it was not all of them
    sites: dict[Split, tuple[Pseudonym, ...]] = {}  # side to the sites of its subjects, where the data name them

    @model_validator(mode="after")
    def _one_side_each(self) -> Self:
        everybody = [*self.train, *self.val, *self.test]
        if len(set(everybody)) < len(everybody):
            raise ValueError("a subject is named twice")
        return self

    @property
    def by_side(self) -> Mapping[Split, tuple[str, ...]]:
        """Side of the split to pseudonyms of its subjects."""
        return {"train": self.train, "val": self.val, "test": self.test}


class Initial(_Part):
    """The initial weights of a player, which another run has learned."""

    player: str  # that began with them
    system: str  # of the other run
    of: str  # player of the other run
    weights: str  # digest of all weights of the other run
    subjects: tuple[Pseudonym, ...]  # that the other run was trained or validated on
    secret: str  # fingerprint of the secret behind these pseudonyms
    earlier: tuple[Initial, ...] = ()  # initial weights of the other run

    @property
    def all(self) -> Iterator[Initial]:
        """These initial weights, and those of the runs that they come from."""
        yield self
        for one in self.earlier:
            yield from one.all


class Selection(_Part):
    """The criterion by which the best weights were selected."""

    score: str  # of validation
    better: Literal["higher", "lower"]  # values of the score


class RunFile(_Part):
    """The contents of a run file: what is needed to repeat a run, to use its weights, and to know its subjects."""

    format: Literal[2] = FORMAT  # of this file
    system: str  # slug; of a method from outside, FILE.py:CLASS without folders, or MODULE:CLASS
    revision: int  # of the method
    source: str | None = None  # digest of the method's source file; none where it is part of ganatomy
    code: str | None = None  # digest of the code that it was trained by; none where there were several, or not known
    config: dict[str, Any]  # of the method, with the names of its roles
    roles: dict[str, dict[str, Any]]  # name to description, in order
    data: DataConfig  # how images were found and read; named subjects are pseudonyms
    training: TrainConfig  # how it was trained
    rounds: dict[str, int]  # of each stage
    initial: tuple[Initial, ...] = ()  # weights that players began with; random ones are not named
    split: Sides  # of the subjects
    cases: dict[Pseudonym, dict[Pseudonym, Content]]  # subject to its cases, and these to keyed digests of content
    validation: str  # where the validation slices come from, in words
    augmentation: str = ""  # added random changes of training images, or why there are none, in words
    augmented: Augmentation | None = None  # these changes; none where nothing was added
    resolution: str = ""  # at which networks see images, in words; empty where it is that of the data
    selection: Selection  # of the best weights
    provenance: dict[str, str]  # facts that every result must carry
    left_out: tuple[str, ...] = ()  # cases that could not be used or changed before a resumption, by label, and how
    versions: dict[str, str]  # of ganatomy, torch and python
    weights: dict[Which, str] = {}  # digests of their tensors
    writing: dict[Which, str] = {}  # digests of weights that are about to be written, or have been when killed

    @field_validator("config")
    @classmethod
    def _without_download(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Replace the wish of a training to download weights, which nothing that uses the run shares."""
        return {**config, "features": "vgg19"} if config.get("features") == "download" else config

    @field_validator("training", mode="before")
    @classmethod
    def _without_changes(cls, training: Any) -> Any:
        """Complete the options of a run that was made before changes of training images could be added."""
        return {"augment": "none", **training} if isinstance(training, Mapping) else training

    @field_validator("data", mode="before")
    @classmethod
    def _without_cache(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "cache" in data:
            raise ValueError("a run does not say where prepared cases are kept")
        return data

    @field_validator("roles")
    @classmethod
    def _with_kinds(cls, roles: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if nameless := [name for name, role in roles.items() if not isinstance(role.get("kind"), str)]:
            raise ValueError(f"{nameless[0]} has no kind")
        return roles

    @field_serializer("data")
    def _plain_data(self, data: DataConfig) -> dict[str, Any]:
        return data.model_dump(mode="json", exclude={"cache"})

    def with_weights(self, digests: Mapping[Which, str]) -> RunFile:
        """Return the run file after weights with some digests have been written."""
        return self.model_copy(update={"weights": {**self.weights, **digests}, "writing": {}})

    def about_to_write(self, digests: Mapping[Which, str]) -> RunFile:
        """Return the run file while weights with some digests are being written."""
        return self.model_copy(update={"writing": dict(digests)})


class _PlainLoader(yaml.SafeLoader):
    """Loader of YAML without references, by which a file of a few lines can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references are not read")
        return super().compose_node(parent, index)


def plain_yaml(text: str) -> Any:
    """Parse YAML that holds values only: no Python objects, and no references between its parts.

    Raises:
        yaml.YAMLError: the text is something else.
    """
    return yaml.load(text, _PlainLoader)


def write_run(folder: Path, facts: RunFile) -> None:
    """Write the run file atomically.

    Raises:
        UserError: the folder cannot be written.
    """
    plain = facts.model_dump(mode="json")
    data = facts.data.data
    if data is not None and not (data.is_absolute() or is_memory(data)):
        plain["data"]["data"] = _from(folder, data).as_posix()
    training = facts.training.beginning(lambda run: run if run.is_absolute() else _from(folder, run))
    plain["training"]["init_from"] = list(training.init_from)
    write_text(folder / RUN_FILE, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def _from(folder: Path, path: Path) -> Path:
    """Return a path as it is reached from a folder."""
    return Path(os.path.relpath(path.absolute(), folder.absolute()))


def read_run(folder: Path) -> RunFile:
    """Read the run file of a run folder.

    Raises:
        UserError: the folder holds no run, or its file is damaged or has a format that this version does not read.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: no run here (run.yaml is missing); give the folder that `ganatomy train --out` made"
        )
    return parse_run(path)


def _data_of(folder: Path, data: Path | None) -> Path | None:
    """Return the path of the data of a run; in older run files relative ones start from the current folder."""
    if data is None or data.is_absolute() or is_memory(data):
        return data
    beside = Path(os.path.normpath(folder / data))
    return data if data.exists() and not beside.exists() else beside


def parse_run(path: Path) -> RunFile:
    """Read a run file of any name; relative paths of its data start from its folder.

    Raises:
        UserError: the file does not exist, is damaged, or has a format that this version does not read.
    """
    try:
        plain = plain_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise _damaged(path, type(error).__name__) from None
    if not isinstance(plain, dict):
        raise _damaged(path, "it holds no names and values")
    if "format" not in plain and {"system", "config", "training", "subjects"} <= plain.keys():
        raise UserError(
            f"{path}: a run of ganatomy {FIRST_FORMAT}, whose format this version does not read; "
            f"use it with ganatomy {FIRST_FORMAT}, or train again"
        )
    if "format" not in plain:
        raise _damaged(path, "format: missing")
    found = plain["format"]
    if found != FORMAT and isinstance(found, int | str):
        raise UserError(
            f"{path}: format {found!r}, but ganatomy {version('ganatomy')} reads format {FORMAT}; "
            "use the version that made it"
        )
    try:
        facts = RunFile.model_validate(plain)
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = [".".join(map(str, one["loc"])) for one in found if one["type"] == "extra_forbidden"]
        if unknown and isinstance(versions := plain.get("versions"), dict):
            raise of_another_version(path, versions, unknown) from None
        first = found[0]
        raise _damaged(path, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'].lower()}") from None
    data = facts.data.model_copy(update={"data": _data_of(path.parent, facts.data.data)})
    training = facts.training.beginning(lambda run: Path(os.path.normpath(path.parent / run)))
    return facts.model_copy(update={"data": data, "training": training})


def of_another_version(path: Path, versions: Mapping[str, Any], options: Sequence[str]) -> UserError:
    """Return the error for a run with options that this version does not have.

    Args:
        path: path of the run file.
        versions: versions with which it was made.
        options: names of these options.
    """
    made, now = str(versions.get("ganatomy", "of another version")), version("ganatomy")
    by = f"an earlier state of ganatomy {made}" if made == now else f"ganatomy {made}"
    which = "an option" if len(options) == 1 else "options"
    return UserError(
        f"{path}: made by {by}, with {which} that this version ({now}) does not have: {', '.join(options)}; train "
        "again, or use the version that made it"
    )


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: damaged or not a run ({reason}); restore it, or train again")


def system_of(path: Path, facts: RunFile, named: System | None = None) -> System:
    """Find the system of a run without importing code that only the run file names.

    Args:
        path: path of the run file.
        facts: its contents.
        named: system named by the user; None where none is named.

    Raises:
        UserError: the run is of another system than the named one, or of one that must be named.
    """
    if named is not None and not is_run_of(facts, named):
        raise UserError(f"{path}: a run of {facts.system}, not of {named.slug}")
    if named is None and ":" in facts.system:
        raise UserError(
            f"{path}: a run of {facts.system}, a method from outside of ganatomy, which no run file makes it import; "
            f"where you trust it, name it again: --system {'PATH/TO/' if '.py:' in facts.system else ''}{facts.system}"
        )
    try:
        return named or known(facts.system)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def is_run_of(facts: RunFile, system: System) -> bool:
    """Whether a run belongs to a system, or to a class of the same name and source file."""
    if facts.system == system.slug or facts.source is None:
        return facts.system == system.slug
    same = facts.system.rpartition(":")[2] == system.cls.__name__ or ":" not in facts.system
    return same and facts.source == source_of(system.cls)


def check_method(path: Path, facts: RunFile, cls: type[Any]) -> None:
    """Refuse a run of another revision of the method, and warn where the source file has changed.

    Args:
        path: path of the run file.
        facts: its contents.
        cls: present class of the method.

    Raises:
        UserError: the revision differs; the message names the version of ganatomy to use.
    """
    made = facts.versions.get("ganatomy", "that made it")
    if facts.revision != cls.revision:
        raise UserError(
            f"{path}: trained with revision {facts.revision} of {facts.system}, but this version has revision "
            f"{cls.revision}, which means something else; use ganatomy {made}, or train again"
        )
    if facts.source != source_of(cls):
        changed = f"{path}: {inspect.getsourcefile(cls)} has changed since {facts.system} was trained with it"
        warnings.warn(changed, Notice, stacklevel=2)


def digest_of(tensors: Mapping[str, Any]) -> str:
    """Compute a digest of weights from names, types, shapes and values, independent of their order in a file.

    Args:
        tensors: name to tensor of any type.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
