"""``ganatomy info SYSTEM``."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, get_origin

import torch
from pydantic import BaseModel

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.data.wanted import layouts_for, manifest_for, wanted
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig, RolesConfig
from ganatomy.inference.model import build
from ganatomy.roles.options import RoleOptions
from ganatomy.training.augmenting import FEW, has_own, usual_changes


def run(arguments: Sequence[str]) -> int:
    """Print the description of a system, its options and its presets."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(
            "usage: ganatomy info SYSTEM\n\n"
            "Describes a system: the method, its paper, and its options with their values in every preset.\n"
            "SYSTEM is a name that `ganatomy list` shows, or a method of your own as FILE.py:CLASS or MODULE:CLASS."
        )
        return 0
    if len(arguments) != 1:
        raise UserError(f"info takes one system, not {len(arguments)}; `ganatomy list` shows them")
    print(page(catalogue.resolve(arguments[0])))
    return 0


def page(system: System) -> str:
    """Return a system's page in Markdown, built from its catalogue row and its class."""
    number = f" [{system.reference}]" if system.reference else ""
    place = "outside of the survey" if system.section == "outside" else f"survey section {system.section}{number}"
    lines = [
        f"# {system.title} (`{system.slug}`)",
        "",
        f"{system.what[0].upper()}{system.what[1:]}. {system.authors}, {place}. "
        f"{system.modality}, {system.dims}, {system.state}." + (f" <{system.url}>" if system.url else ""),
    ]
    if system.state == "ready":
        # A page needs no weights, of which some systems have half a billion; methods from outside may look at theirs.
        with nullcontext() if system.section == "outside" else torch.device("meta"):
            method = build(system, {})
        lines += _numbers(system.cls)
        lines += _augmentation(method)
        lines += _data(method)
    return "\n".join(lines)


def _numbers(cls: Any) -> Iterator[str]:
    yield from ("", inspect.getdoc(cls) or "", "", "## Options", "", inspect.getdoc(cls.Config) or "", "")
    if issubclass(cls.Config, RolesConfig):
        fields = " ".join(f"`--{name.replace('_', '-')}`" for name in cls.Config.role_fields)
        yield from (
            f"You name the roles ({fields}); options of a role begin with its name. The table uses the usual names.",
            "",
        )
    yield from ("| option | paper | meaning |", "|---|---|---|")
    yield from _rows(cls.Config.preset())
    yield from ("", "## Presets", "")
    for preset, values in cls.Config.presets.items():
        yield f"- `{preset}`: {_changes(cls.Config, values) or 'as above'}"
        if preset == "small" and (told := _weights(cls.Config)):
            yield f"  - loss weights that `small` changes: {told}"
    if baseline := _changes(cls.Config, cls.Config.baseline):
        yield f"- `--baseline`, the same network without the adversary: {baseline}"
    else:
        yield "- `--baseline`: none, since nothing is left of it without its adversary"


def _augmentation(method: Method) -> Iterator[str]:
    """Yield what the source of a system says of random changes, and what is added with its usual options."""
    changes = method.task.changes()
    yield from ("", "## Augmentation", "")
    yield f"- in its paper or release: {method.stated_augmentation or 'nothing known'}"
    if has_own(method):
        yield "- `--augment` adds nothing, since options of the system move or vary images"
        return
    usual, most = usual_changes(method).told, changes.allowed.told
    reason = "the source states its own" if most and changes.usual else changes.because
    yield f"- `--augment auto`, the default, adds for fewer than {FEW} training subjects of yours: " + (
        usual or f"nothing, since {reason}"
    )
    added = "adds the same to data of any size" if most == usual else f"adds: {most}"
    yield f"- `--augment always` {added if most else 'is refused'}"


def _data(method: Method) -> Iterator[str]:
    """Yield the roles of a system with its usual names, and a manifest that it could be trained on."""
    task = method.task
    yield from ("", "## Data", "", "A case has these roles, which are columns of a manifest:", "")
    yield from ("| role | kind | needed |", "|---|---|---|")
    yield from (f"| `{row.name}` | {row.what} | {row.needed} |" for row in wanted(task))
    yield from ("", "A manifest that would do:", "", "```", *manifest_for(task), "```", "", "Also accepted:", "")
    yield from (f"- {line}" for line in layouts_for(task)[:-1])


def _changes(kind: type[BaseModel], values: Mapping[str, Any]) -> str:
    """Return the option values that a preset changes, on one line."""
    told = []
    for name, value in values.items():
        if name == "roles" and issubclass(kind, RolesConfig):
            fields = kind.named(values)
            for key, own in value.items():
                roles = [role for role, field in fields.items() if key in (role, field)]
                told += [
                    f"{' '.join(f'{role}.{option}' for role in roles)} {_plain(one)}" for option, one in own.items()
                ]
        elif get_origin(kind.model_fields[name].annotation) is Mapping:
            told.append(f"{name} {' '.join(named(value))}")
        else:
            told.append(f"{name} {_plain(value)}")
    return ", ".join(told)


def _weights(kind: type[MethodConfig]) -> str:
    """Return the weights of loss terms that ``small`` changes, on one line; nothing where it changes none."""
    small, paper = kind.preset("small"), kind.preset("paper")
    return ", ".join(
        f"`{name}` from {_plain(was)} to {_plain(now)}"
        for name, now in small
        if "weight" in name and (was := getattr(paper, name)) != now
    )


def _rows(config: BaseModel) -> Iterator[str]:
    comments = field_comments(type(config))
    for name, value in config:
        if isinstance(value, BaseModel):
            yield from _rows(value)
        elif get_origin(type(config).model_fields[name].annotation) is not Mapping:
            yield _row([name], _plain(value), comments.get(name, ""))
        elif name != "roles":
            yield _row([name], " ".join(named(value)) or "none", comments.get(name, ""))
    if isinstance(config, RolesConfig):
        yield from _role_rows(config.roles)


def _role_rows(roles: Mapping[str, RoleOptions]) -> Iterator[str]:
    """Yield a table row for each option of the roles, one row per default value where roles have different ones."""
    options = {name: type(one) for one in roles.values() for name in type(one).model_fields}
    for name, kind in options.items():
        by_value: dict[str, list[str]] = {}
        for role, one in roles.items():
            if name in type(one).model_fields:
                by_value.setdefault(_plain(getattr(one, name)), []).append(f"{role}.{name}")
        for value, prefixed in by_value.items():
            yield _row(prefixed, value, field_comments(kind).get(name, ""))


def _row(names: Sequence[str], value: str, comment: str) -> str:
    options = " ".join(f"`--{name.replace('_', '-')}`" for name in names)
    return f"| {options} | {value} | {comment} |"


def named(values: Mapping[str, Any]) -> list[str]:
    """Return a mapping as it is typed on the command line: words ``NAME=VALUE`` or ``NAME=VALUE,VALUE``."""
    return [
        f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in values.items()
    ]


def _plain(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value).lower() if value is None else str(value)


def field_comments(config: type) -> dict[str, str]:
    """Return the comment behind each field in the source of a configuration and of its base classes, by field name."""
    found: dict[str, str] = {}
    for kind in config.__mro__:
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        current = ""
        for line in inspect.getsource(kind).splitlines():
            code, mark, comment = line.partition("  # ")
            name, colon, _ = code.strip().partition(":")
            if colon and name.isidentifier():
                current = name
            if mark and code.strip():
                found.setdefault(current, comment.strip())
    return found
