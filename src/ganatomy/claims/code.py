"""Digest of the code that the result of a claim rests on, by which results older than their code are recognised."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from ganatomy.claims.claim import Claim
from ganatomy.phantoms import PHANTOMS
from ganatomy.training.arms import Arm

ROOT = Path(__file__).parents[1]
ROOMS = ("methods", "nets", "losses", "physics", "phantoms", "metrics", "tasks")
"""Packages whose modules decide what is learned and how it is judged.

The engine (training, data, evaluation, inference) is left out: its tests hold what it computes, and with it every
result would be out of date after each of its changes.
"""
DIGITS = 16


def claim_digest(claim: Claim, arms: Sequence[Arm]) -> str:
    """Return the digest of a claim's parts and of the code that its result rests on, as hexadecimal digits.

    Args:
        claim: the claim.
        arms: its arms.
    """
    return code_digest(
        arms, repr((dict(claim.arms), dict(claim.systems), dict(claim.phantom), tuple(claim.predicates)))
    )


def code_digest(arms: Sequence[Arm], *settings: str) -> str:
    """Return the digest of the source of methods, judge and phantom, as hexadecimal digits.

    The source is that of the modules of the arms' methods and phantoms, of the package of their kind of task, and of
    everything that these import from `ROOMS`. Comments, docstrings and layout do not count.

    Args:
        arms: compared methods.
        settings: texts that count, too.
    """
    begun = {arm.system.cls.__module__ for arm in arms}
    for arm in arms:
        task = arm.method.task
        begun |= _modules_of(type(task).__module__.rpartition(".")[0])
        begun |= {PHANTOMS[name].partition(":")[0] for name in [_phantom(arm)] if name in PHANTOMS}
    parts = [*settings, *(f"{module}\n{_bare(_path(module))}" for module in sorted(_closure(begun)))]
    return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:DIGITS]


def _phantom(arm: Arm) -> str:
    return str(getattr(arm.config, "phantom", None) or getattr(arm.method.task, "phantom", ""))


def _closure(modules: set[str]) -> set[str]:
    """Return modules with all that they import, directly or not, from `ROOMS`."""
    found, left = set[str](), {module for module in modules if _is_source(module)}
    while left:
        found |= left
        left = {name for module in left for name in _imports(module)} - found
    return found


def _is_source(module: str) -> bool:
    room = module.removeprefix("ganatomy.").partition(".")[0]
    return module.startswith("ganatomy.") and room in ROOMS and _path(module).is_file()


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
