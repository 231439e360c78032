"""What a study is asked for: its arms, and ``study.yaml``, which says so and lets no other study into the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig, RolesConfig
from ganatomy.images.atomic import write_text
from ganatomy.images.paths import safe_name
from ganatomy.inference.model import build_run
from ganatomy.inference.runfile import RUN_FILE, TrainConfig, read_run, system_of
from ganatomy.training.annotations import learned_roles
from ganatomy.training.arms import Arm, share
from ganatomy.training.series import DECIDING

STUDY_FILE = "study.yaml"
BASELINE = "baseline"
"""Name of the arm that is the system without its adversary."""


class StudyFile(BaseModel):
    """Everything that a study was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1  # of this file
    kind: Literal["arms", "downstream"] = "arms"  # trainings compared with each other, or in what use their images are
    system: str  # slug, or place of a method from outside
    config: dict[str, Any]  # of its method
    preset: str  # of the other systems' configurations
    data: DataConfig  # images; named subjects are pseudonyms
    training: TrainConfig  # how every arm is trained; the seed is the first one
    label_fraction: tuple[float, ...] = ()  # shares of the annotated training subjects
    against: tuple[str, ...] = ()  # other systems, and the baseline
    folds: int | None = None  # of the subjects; none tests on the same subjects always
    seeds: int  # of every arm
    steps: int | None = None  # updates of the classifiers of a downstream study
    secret: str  # fingerprint of the secret behind the pseudonyms

    @field_serializer("data")
    def _plain_data(self, data: DataConfig) -> dict[str, Any]:
        return data.model_dump(mode="json", exclude={"cache"})


class Asked(NamedTuple):
    """What a run says about the system that is to be studied."""

    system: System
    config: MethodConfig
    data: DataConfig
    training: TrainConfig


def of_run(folder: Path, named: System | None = None, *, folds: bool = False, secret: Path | None = None) -> Asked:
    """The system of a run, with the options and on the data of the run.

    Args:
        folder: of the run.
        named: system that the user names, where it is a method from outside.
        folds: whether the subjects are to be dealt into folds; else those that the run kept for testing are tested on.
        secret: file with the secret that makes pseudonyms of subjects; none means the user's own.

    Raises:
        UserError: no run there, or one of a system that cannot be used.
    """
    facts = read_run(folder)
    system = system_of(folder / RUN_FILE, facts, named)
    method = build_run(folder, facts, named)
    data, split = facts.data, facts.split
    own = split.test and not split.fold and split.secret == Pseudonyms.of_user(secret).fingerprint
    drawn = own and not folds and not data.test_subjects
    if drawn and {case.split for case in find_cases(method.task, data)} == {"train"}:
        data = data.model_copy(update={"test_subjects": split.test})
    return Asked(system, method.config, data, facts.training)


def open_folder(out: Path, wanted: StudyFile) -> None:
    """Make the folder of a study, or find it as it was left.

    Args:
        out: folder.
        wanted: what is asked for.

    Raises:
        UserError: other things or another study are there, or it cannot be written.
    """
    path = out / STUDY_FILE
    if path.is_file():
        if different := differing(_read(path), wanted):
            raise UserError(
                f"--out {out}: holds a study with another {', '.join(different)}; choose another folder, or ask for "
                f"what {path} says"
            )
        return
    try:
        if out.exists() and any(out.iterdir()):
            raise UserError(f"--out {out}: not empty, and no study (there is no {STUDY_FILE}); choose another folder")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose a folder you may write to") from None
    plain = wanted.model_dump(mode="json")
    write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def _read(path: Path) -> StudyFile:
    try:
        return StudyFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
        raise UserError(f"{path}: damaged or no study ({reason.lower()}); choose another --out") from None


def differing(there: StudyFile, wanted: StudyFile) -> list[str]:
    """Names of the options in which two studies differ, as they stand on the command line."""
    if there.system != wanted.system:
        return ["system"]
    pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (_simple(there), _simple(wanted)),
        (there.config, wanted.config),
        (there.data.model_dump(mode="json", exclude={"cache"}), wanted.data.model_dump(mode="json", exclude={"cache"})),
        (there.training.model_dump(include=DECIDING), wanted.training.model_dump(include=DECIDING)),
    ]
    names = [name for old, new in pairs for name in {**old, **new} if old.get(name) != new.get(name)]
    return [name.replace("_", "-") for name in names]


def _simple(study: StudyFile) -> dict[str, Any]:
    return study.model_dump(exclude={"config", "data", "training"})


def arms_of(
    system: System,
    config: MethodConfig,
    rounds: int | None,
    against: Sequence[str] = (),
    fractions: Sequence[float] = (),
    preset: str = "paper",
) -> list[Arm]:
    """The arms of a study: the system first, with all annotations that are asked for.

    Args:
        system: that is studied.
        config: of its method.
        rounds: of it; other arms get as many per stage. None means their own.
        against: names of other systems, or ``baseline``.
        fractions: shares of the annotated training subjects; none means that all annotations are learned from.
        preset: of the configurations of the other systems.

    Raises:
        UserError: an unknown system, one of another kind of task or with other roles, no baseline, or a fraction that
            there cannot be.
    """
    first = Arm(safe_name(system.slug), system, config, rounds)
    method = first.method
    arms = [first, *[_other(name, first, method, preset) for name in against]]
    names = [arm.name.casefold() for arm in arms]
    if twice := [arm.name for place, arm in enumerate(arms) if arm.name.casefold() in names[:place]]:
        raise UserError(f"--against {twice[0]}: an arm already; name others")
    arms = [replace(arm, rounds=share(rounds, arm.method, method)) for arm in arms]
    if not fractions:
        return arms
    check_fractions(fractions, method)
    return [
        replace(arm, name=f"{arm.name}-{fraction:g}", label_fraction=fraction)
        for fraction in sorted(fractions, reverse=True)
        for arm in arms
    ]


def check_fractions(fractions: Sequence[float], method: Method) -> None:
    """Refuse shares of annotations that there cannot be.

    Raises:
        UserError: naming the share, or the system that learns from no annotations.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise UserError(f"--label-fraction {fraction:g}: a share is above 0 and at most 1")
    if twice := [one for place, one in enumerate(fractions) if one in fractions[:place]]:
        raise UserError(f"--label-fraction {twice[0]:g}: given twice")
    if not learned_roles(method):
        raise UserError("--label-fraction: this system learns from no annotations; leave it out")


def _other(name: str, first: Arm, method: Method, preset: str) -> Arm:
    """An arm that the system is compared with."""
    kind = type(first.config)
    try:
        if name == BASELINE:
            if not kind.baseline:
                raise UserError(f"{first.system.slug} has none: nothing is left of it without its adversary")
            own = first.config.model_dump(mode="json")
            return replace(first, name=BASELINE, config=kind.preset("paper", **{**own, **kind.baseline}))
        system = catalogue.resolve(name)
        other = system.cls.Config
        arm = Arm(safe_name(system.slug), system, other.preset(preset, **shared_values(first.config, other)))
        check_alike(arm.method, method, system.slug, first.system.slug)
    except (UserError, RuntimeError, ValueError) as error:
        raise UserError(f"--against {name}: {str(error) or type(error).__name__}") from None
    return arm


def shared_values(config: MethodConfig, kind: type[MethodConfig]) -> dict[str, Any]:
    """Values of a configuration that say what its kind of task is about, for another system of that kind.

    These are the fields of the most general configuration that both extend, such as roles, regions and sizes, and what
    is simulated; networks and optimisers are each system's own.

    Args:
        config: of a system.
        kind: of the other system's configuration.
    """
    general = (BaseModel, MethodConfig, RolesConfig)
    common = [cls for cls in kind.__mro__ if cls not in general and issubclass(cls, MethodConfig)]
    shared = [cls for cls in common if isinstance(config, cls)]
    names = set(shared[-1].model_fields) if shared else set()
    fields = type(config).model_fields
    for name, info in kind.model_fields.items():
        simulated = isinstance(getattr(config, name, None), BaseModel)
        if simulated and name in fields and fields[name].annotation == info.annotation:
            names.add(name)
    values = {name: getattr(config, name) for name in fields if name in names}
    if "roles" in values:
        values["roles"] = {name: options.model_dump() for name, options in values["roles"].items()}
    return values


def check_alike(method: Method, first: Method, slug: str, other: str) -> None:
    """Refuse a method that cannot be judged beside another one.

    Args:
        method: to be compared.
        first: with this one.
        slug: of the system of the method.
        other: of the system of the first one.

    Raises:
        UserError: another kind of task, other roles, or images that are prepared in another way.
    """
    task, theirs = method.task, first.task
    if task.name != theirs.name:
        raise UserError(f"{slug} does {task.name}, but {other} does {theirs.name}")
    ours, known = ([f"{name} ({role.kind})" for name, role in one.roles.items()] for one in (task, theirs))
    if sorted(ours) != sorted(known):
        raise UserError(f"{slug} works with the roles {', '.join(ours)}, but {other} with {', '.join(known)}")
    if task.preparation != theirs.preparation:
        raise UserError(f"{slug} sees images that are prepared in another way than those of {other}")
