"""``ganatomy info SYSTEM``."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.errors import UserError


def run(arguments: Sequence[str]) -> int:
    """Print what a system is, and the numbers of its presets."""
    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: ganatomy info SYSTEM\n\n`ganatomy list` shows the systems.")
        return 0
    if len(arguments) != 1:
        raise UserError(f"info takes one system, not {len(arguments)}; `ganatomy list` shows them")
    print(page(catalogue.find(arguments[0])))
    return 0


def page(system: System) -> str:
    """A system's page, in Markdown, built from its catalogue row and its class."""
    number = f" [{system.reference}]" if system.reference else ""
    lines = [
        f"# {system.title} (`{system.slug}`)",
        "",
        f"{system.what[0].upper()}{system.what[1:]}. {system.authors}, survey section {system.section}{number}. "
        f"{system.modality}, {system.dims}, {system.state}." + (f" <{system.url}>" if system.url else ""),
    ]
    if system.state == "ready":
        lines += _numbers(catalogue.load(system.slug))
    return "\n".join(lines)


def _numbers(cls: Any) -> Iterator[str]:
    yield from ("", inspect.getdoc(cls) or "", "", "## Options", "", inspect.getdoc(cls.Config) or "", "")
    yield from ("| option | paper | meaning |", "|---|---|---|")
    yield from _rows(cls.Config())
    yield from ("", "## Presets", "")
    for preset, values in cls.Config.presets.items():
        yield f"- `{preset}`: " + (", ".join(f"{name} {_plain(value)}" for name, value in values.items()) or "as above")
    changes = ", ".join(f"{name} {_plain(value)}" for name, value in cls.Config.baseline.items())
    yield f"- `--baseline`, the same network without the adversary: {changes}"


def _rows(config: BaseModel) -> Iterator[str]:
    comments = field_comments(type(config))
    for name, value in config:
        if isinstance(value, BaseModel):
            yield from _rows(value)
        else:
            yield f"| `--{name.replace('_', '-')}` | {_plain(value)} | {comments.get(name, '')} |"


def _plain(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if value is None else str(value)


def field_comments(config: type) -> dict[str, str]:
    """The comment behind each field in the source of a configuration and of those it extends."""
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
