"""Digests of code, by which runs and results that are older than what they rest on are recognised."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from ganatomy.catalogue import source_of
from ganatomy.game import Method
from ganatomy.phantoms import PHANTOMS

ROOT = Path(__file__).parents[1]
LEARNING = ("methods", "nets", "losses", "physics", "phantoms", "tasks")
"""Packages whose modules decide what is learned."""
ROOMS = (*LEARNING, "metrics")
"""Packages whose modules decide what is learned and how it is judged.

The engine (training, data, evaluation, inference) is left out: its tests hold what it computes, and with it every
result would be out of date after each of its changes.
"""
DIGITS = 16


def code_digest(methods: Sequence[Method], *settings: str) -> str:
    """Return the digest of the source of methods, judge and phantom, as hexadecimal digits.

    The source is that of the modules of the methods and their phantoms, of the package of their kind of task, and of
    everything that these import from `ROOMS`. Comments, docstrings and layout do not count.

    Args:
        methods: compared methods.
        settings: texts that count, too.
    """
    begun = {type(method).__module__ for method in methods}
    for method in methods:
        begun |= _modules_of(type(method.task).__module__.rpartition(".")[0]) | _phantom(method)
    return _digest(begun, ROOMS, settings)


def training_digest(method: Method, *, on_phantom: bool) -> str:
    """Return the digest of the source that a method is trained by, as hexadecimal digits.

    The source is that of the method, of its task, of its phantom where that is trained on, and of everything that these
    import from `LEARNING`; of a method from outside it is the whole file. What only judges a trained method is left
    out.

    Args:
        method: the method.
        on_phantom: whether it is trained on its phantom.
    """
    begun = {type(method).__module__, type(method.task).__module__} | (_phantom(method) if on_phantom else set())
    return _digest(begun, LEARNING, [source_of(type(method)) or ""])


def _digest(begun: set[str], rooms: Sequence[str], settings: Sequence[str]) -> str:
    parts = [*settings, *(f"{module}\n{_bare(_path(module))}" for module in sorted(_closure(begun, rooms)))]
    return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:DIGITS]


def _phantom(method: Method) -> set[str]:
    """Return the module of the phantom of a method."""
    name = str(getattr(method.config, "phantom", None) or getattr(method.task, "phantom", ""))
    return {PHANTOMS[name].partition(":")[0]} if name in PHANTOMS else set()


def _closure(modules: set[str], rooms: Sequence[str]) -> set[str]:
    """Return the modules that lie in some rooms, with all that they import from these, directly or not."""
    found, left = set[str](), modules
    while left := {module for module in left if _room(module) in rooms and _is_source(module)} - found:
        found |= left
        left = {name for module in left for name in _imports(module)}
    return found


def _room(module: str) -> str:
    return module.removeprefix("ganatomy.").partition(".")[0]


def _is_source(module: str) -> bool:
    return module.startswith("ganatomy.") and _room(module) in ROOMS and _path(module).is_file()


@cache
def _imports(module: str) -> frozenset[str]:
    """Return the modules of `ROOMS` that a module imports, at its top or within functions."""
    names = set[str]()
    for node in ast.walk(ast.parse(_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if _is_source(name))


def _path(module: str) -> Path:
    place = ROOT.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _modules_of(package: str) -> set[str]:
    """Return the names of all modules of a package."""
    place = ROOT.joinpath(*package.split(".")[1:])
    return {f"{package}.{path.stem}" for path in place.glob("*.py")}


@cache
def _bare(path: Path) -> str:
    """Return the source of a module without comments, docstrings and blanks, which is the same for every Python."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    gone = [(starts[a - 1] + b, starts[c - 1] + d) for a, b, c, d in (*_docstrings(text, lines), *_comments(text))]
    kept, at = [], 0
    for start, stop in sorted(gone):
        kept.append(text[at:start])
        at = stop
    return "".join("".join([*kept, text[at:]]).split())


Span = tuple[int, int, int, int]
"""First line, column in it, last line and column behind it; lines count from 1, columns in characters."""


def _docstrings(text: str, lines: Sequence[str]) -> Iterator[Span]:
    """Yield the spans of all texts that stand for themselves, which are docstrings of modules, classes and values."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            value = node.value
            assert value.end_lineno is not None and value.end_col_offset is not None
            first, last = lines[value.lineno - 1].encode(), lines[value.end_lineno - 1].encode()
            begin, end = first[: value.col_offset].decode(), last[: value.end_col_offset].decode()
            yield value.lineno, len(begin), value.end_lineno, len(end)


def _comments(text: str) -> Iterator[Span]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield (*token.start, *token.end)
