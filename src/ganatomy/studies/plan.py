"""Plan of a study: its arms, and its settings in ``study.yaml``, which keep another study out of the folder."""

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
from ganatomy.game import Method, MethodConfig
from ganatomy.images.atomic import make_folder, write_text
from ganatomy.images.paths import check_free, safe_name
from ganatomy.inference.model import build_run
from ganatomy.inference.runfile import RUN_FILE, TrainConfig, plain_yaml, read_run, system_of
from ganatomy.training.annotations import learned_roles
from ganatomy.training.arms import Arm, share, values_beside
from ganatomy.training.series import deciding

STUDY_FILE = "study.yaml"
RESULTS = ("results.json", "table.csv", "report.html")
BASELINE = "baseline"
"""Name of the arm that is the system without the adversary."""


class StudyFile(BaseModel):
    """Settings of a study, as stored in ``study.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1  # format of this file
    kind: Literal["arms", "downstream"] = "arms"  # trainings compared, or the use of generated images
    system: str  # slug, or FILE.py:CLASS or MODULE:CLASS of a method from outside
    config: dict[str, Any]  # configuration of its method
    preset: str  # preset of the other systems
    data: DataConfig  # place of the images; subjects are named by pseudonym
    training: TrainConfig  # training of every arm; its seed is the first one
    label_fraction: tuple[float, ...] = ()  # shares of the annotated training subjects
    against: tuple[str, ...] = ()  # other systems, and the baseline
    folds: int | None = None  # number of folds; none means that all runs have the same test subjects
    seeds: int  # number of seeds of every arm
    steps: int | None = None  # updates of the classifiers of a downstream study
    secret: str  # fingerprint of the secret behind the pseudonyms

    @field_serializer("data")
    def _plain_data(self, data: DataConfig) -> dict[str, Any]:
        return data.model_dump(mode="json", exclude={"cache"})


class Asked(NamedTuple):
    """System, configuration, data and training of a run that is to be studied."""

    system: System
    config: MethodConfig
    data: DataConfig
    training: TrainConfig


def of_run(folder: Path, named: System | None = None, *, folds: bool = False, secret: Path | None = None) -> Asked:
    """Return the system of a run with its configuration, data and training.

    Args:
        folder: run folder.
        named: system that the user names, for a method from outside.
        folds: whether the subjects will be divided into folds; else the test subjects are those of the run.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.

    Raises:
        UserError: there is no run, or its system cannot be used.
    """
    facts = read_run(folder)
    system = system_of(folder / RUN_FILE, facts, named)
    method = build_run(folder, facts, named)
    data, split = facts.data, facts.split
    own = split.test and not split.fold and split.secret == Pseudonyms.of_user(secret).fingerprint
    drawn = own and not folds and not data.test_subjects and not data.hold_out_site
    if drawn and {case.split for case in find_cases(method.task, data)} == {"train"}:
        data = data.model_copy(update={"test_subjects": split.test})
    return Asked(system, method.config, data, facts.training)


def open_folder(out: Path, wanted: StudyFile) -> None:
    """Create the folder of a study, or check that it holds a study with the same settings.

    Args:
        out: folder of the study.
        wanted: settings of the study.

    Raises:
        UserError: the folder holds other files or another study, or cannot be written.
    """
    path = out / STUDY_FILE
    if path.is_file():
        if different := differing(_read(path), wanted):
            raise UserError(
                f"--out {out}: holds a study with another {', '.join(different)}; choose another folder, or ask for "
                f"what {path} says"
            )
        return
    check_free(out)
    make_folder(out)
    plain = wanted.model_dump(mode="json")
    write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def _read(path: Path) -> StudyFile:
    try:
        return StudyFile.model_validate(plain_yaml(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = [".".join(map(str, one["loc"])) for one in found if one["type"] == "extra_forbidden"]
        if unknown:
            raise UserError(
                f"{path}: holds settings that this version of ganatomy does not have: {', '.join(unknown)}; choose "
                "another --out, or use the version that made it"
            ) from None
        reason = f"{'.'.join(map(str, found[0]['loc']))}: {found[0]['msg'].lower()}"
        raise UserError(f"{path}: damaged or no study ({reason}); choose another --out") from None
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged or no study ({type(error).__name__}); choose another --out") from None


def differing(there: StudyFile, wanted: StudyFile) -> list[str]:
    """Return the names of the options in which two studies differ, as on the command line."""
    if there.system != wanted.system:
        return ["system"]
    pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (_simple(there), _simple(wanted)),
        (there.config, wanted.config),
        (there.data.model_dump(mode="json", exclude={"cache"}), wanted.data.model_dump(mode="json", exclude={"cache"})),
        (deciding(there.training), deciding(wanted.training)),
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
    """Return the arms of a study: first the system itself, with the largest share of annotations.

    Args:
        system: system that is studied.
        config: configuration of its method.
        rounds: rounds of the system; other arms get as many per stage. None means those of each arm's configuration.
        against: names of other systems, or ``baseline``.
        fractions: shares of the annotated training subjects whose annotations are used; empty means all.
        preset: name of the preset of the other systems.

    Raises:
        UserError: another system is unknown, has another kind of task or other roles, there is no baseline, or a
            fraction is out of range.
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
    """Check the shares of annotations.

    Raises:
        UserError: a share is out of range or given twice, or the system learns from no annotations.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise UserError(f"--label-fraction {fraction:g}: a share is above 0 and at most 1")
    if twice := [one for place, one in enumerate(fractions) if one in fractions[:place]]:
        raise UserError(f"--label-fraction {twice[0]:g}: given twice")
    if not learned_roles(method):
        raise UserError("--label-fraction: this system learns from no annotations; leave it out")


def _other(name: str, first: Arm, method: Method, preset: str) -> Arm:
    """Return the arm of another system, or of the baseline, with which the first arm is compared."""
    kind = type(first.config)
    try:
        if name == BASELINE:
            if not kind.baseline:
                raise UserError(
                    f"{first.system.slug} has no baseline, since nothing is left of it without the adversary"
                )
            own = first.config.model_dump(mode="json")
            return replace(first, name=BASELINE, config=kind.preset("paper", **{**own, **kind.baseline}))
        system = catalogue.resolve(name)
        other = system.cls.Config
        arm = Arm(
            safe_name(system.slug),
            system,
            other.preset(preset, **values_beside(method, other)),
        )
        check_alike(arm.method, method, system.slug, first.system.slug)
    except (UserError, RuntimeError, ValueError) as error:
        raise UserError(f"--against {name}: {str(error) or type(error).__name__}") from None
    return arm


def check_alike(method: Method, first: Method, slug: str, other: str) -> None:
    """Check that two methods can be compared on the same test cases.

    Args:
        method: method to be compared.
        first: method that it is compared with.
        slug: slug of the system of ``method``.
        other: slug of the system of ``first``.

    Raises:
        UserError: they have different kinds of task, roles or preparations of images.
    """
    task, theirs = method.task, first.task
    if task.name != theirs.name:
        raise UserError(f"{slug} does {task.name}, but {other} does {theirs.name}")
    ours, known = ([f"{name} ({role.kind})" for name, role in one.roles.items()] for one in (task, theirs))
    if sorted(ours) != sorted(known):
        raise UserError(f"{slug} works with the roles {', '.join(ours)}, but {other} with {', '.join(known)}")
    if task.preparation != theirs.preparation:
        raise UserError(
            f"{slug} needs images that are prepared differently from those of {other}; give both the same "
            "plane, spacing and size"
        )
