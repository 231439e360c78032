"""Train systems from Python, with options named as on the command line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, names_of_images
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig, RolesConfig
from ganatomy.inference.model import Model
from ganatomy.inference.runfile import TrainConfig
from ganatomy.roles.options import check_role_name
from ganatomy.training import run

B = TypeVar("B", bound=BaseModel)

TAKEN = frozenset({*DataConfig.model_fields, *TrainConfig.model_fields, "fold", "folds", "secret"})
"""Names of the options that every system has; they cannot be names of roles."""


def train(
    system: str | System,
    data: str | Path | DataConfig | None = None,
    *,
    out: str | Path,
    preset: str = "paper",
    baseline: bool = False,
    resume: bool = False,
    show: bool = False,
    secret: str | Path | None = None,
    **options: Any,
) -> Model:
    """Train a system into a run folder and return it with its best weights.

    ``ganatomy.train("pix2pix", "PAIRS", out="runs/p", source="mr", target="ct", ct={"window": (-160, 240)})``

    Args:
        system: slug of a system; ``file.py:Class`` or ``package.module:Class`` of a method from outside the package;
            or a name that an installed package has registered.
        data: folder, file or manifest of images, or the options by which they are read; None means the built-in
            phantom.
        out: run folder, created if necessary; must not hold a run unless ``resume``.
        preset: named configuration of the system; ``small`` suits a workstation without a GPU.
        baseline: train the same network without the adversary.
        resume: continue from the last checkpoint in ``out``; of the options only ``rounds`` and ``cache`` have an
            effect then.
        show: print a progress bar and messages on the terminal.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        options: options of the method, the data and the training, named as on the command line, with underscores; for
            a role that the user names, a mapping from the options of the role to their values.

    Raises:
        UserError: an argument cannot be used; the run folder is then not created, or left unchanged.
    """
    system = catalogue.resolve(system)
    kind = system.cls.Config
    if not isinstance(data, DataConfig):
        data = DataConfig(data=None if data is None else Path(data))
    data = with_options(data, {name: value for name, value in options.items() if name in DataConfig.model_fields})
    options = {**named_by_data(kind, preset, options, data), **options}
    method, _, training = sorted_options(kind, preset, options)
    return run.train(
        system,
        Path(out),
        None if resume else configured(kind, preset, baseline, {}, method),
        data,
        with_options(TrainConfig(), training),
        resume=resume,
        show=show,
        secret=None if secret is None else Path(secret),
    )


def configured(
    kind: type[MethodConfig],
    preset: str,
    baseline: bool,
    base: Mapping[str, Any],
    given: Mapping[str, Any],
) -> MethodConfig:
    """Return the configuration of a method: a preset, overridden by another run and by given values.

    Args:
        kind: class of the configuration.
        preset: name of the preset.
        baseline: whether the adversary is left out.
        base: values of another run, which override the preset; options of roles that are no longer named are dropped.
        given: values that override all others; for a named role, a mapping of its options.

    Raises:
        UserError: the preset is unknown, a role has the name of an option, or a value is invalid.
    """
    values = {**base, **(kind.baseline if baseline else {}), **given}
    if issubclass(kind, RolesConfig):
        names = kind.named({**kind.presets.get(preset, {}), **values})
        for name, field in names.items():
            check_role_name(name, field, TAKEN, kind.role_fields[field].noun)
        if "roles" in base and "roles" not in given:
            values["roles"] = {name: options for name, options in base["roles"].items() if name in names}
    return kind.preset(preset, **values)


def named_by_data(
    kind: type[MethodConfig], preset: str, given: Mapping[str, Any], data: DataConfig
) -> dict[str, tuple[str, ...]]:
    """Return names of input roles that the data give, where the user gives none and the preset's are not all there.

    So ``--inputs`` need not repeat the columns of a manifest, or the names in ``--roles`` and ``--series``.

    Args:
        kind: class of the configuration.
        preset: name of the preset.
        given: values of the user or of another run.
        data: place of the images and names of their roles.

    Returns:
        Field of the configuration to the names of its roles, for a field that changes; empty where none does.

    Raises:
        UserError: a manifest cannot be read.
    """
    if not issubclass(kind, RolesConfig):
        return {}
    several = [name for name in kind.role_fields if get_origin(kind.model_fields[name].annotation) is tuple]
    unnamed = [name for name in several if name not in given]
    # Images are opened to tell them from label maps, which takes a moment.
    there = names_of_images(data) if unnamed else []
    names = kind.named({**kind.presets.get(preset, {}), **given})
    for field in unnamed:
        usual = [name for name, one in names.items() if one == field]
        own = tuple(name for name in there if names.get(name, field) == field)
        if own and not set(usual) <= set(own):
            return {field: own}
    return {}


def sorted_options(
    kind: type[MethodConfig], preset: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort options into those of the method and its roles, of the data, and of the training.

    Raises:
        UserError: an option is unknown; the message names the nearest one.
    """
    roles: Collection[str] = ()
    if issubclass(kind, RolesConfig):
        roles = kind.named({**kind.presets.get(preset, {}), **options})
    # Options of a role are given by its name; the option called ``roles`` belongs to the data and names files.
    groups = ({*kind.model_fields, *roles} - {"roles"}, DataConfig.model_fields, TrainConfig.model_fields)
    known = [name for group in groups for name in group]
    for name in options:
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            guess = f"; did you mean {nearest[0]}?" if nearest else ""
            there = f"; the roles are {', '.join(roles)}" if roles and isinstance(options[name], Mapping) else ""
            raise UserError(f"option {name}: there is none{guess or there}")
    method, reading, training = ({name: options[name] for name in options if name in group} for group in groups)
    return method, reading, training


def with_options(base: B, options: Mapping[str, Any]) -> B:
    """Return a copy of a configuration with other values for some fields.

    Raises:
        UserError: a value is invalid.
    """
    try:
        return type(base).model_validate({**dict(base), **options})
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise UserError(f"option {option}: {first['msg'].lower()}, got {first.get('input')!r}") from None
