"""Digests of code, by which runs and results that are older than what they rest on are recognised."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

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


Item = tuple[str, str | None]
"""A module, and the name of one of its definitions; None stands for all of them."""


class Statement(NamedTuple):
    """A statement of a module outside of all functions and classes.

    Attributes:
        names: names that it defines; none for a statement that only has an effect.
        uses: names that occur in it.
        imports: what is imported within it.
        bare: its source without comments, docstrings and blanks.
    """

    names: frozenset[str]
    uses: frozenset[str]
    imports: frozenset[Item]
    bare: str


class Source(NamedTuple):
    """A module: its statements in their order, and the names that it imports with where they come from."""

    statements: tuple[Statement, ...]
    imported: Mapping[str, Item]


def code_digest(methods: Sequence[Method], *settings: str) -> str:
    """Return the digest of the source of methods, judge and phantom, as hexadecimal digits.

    The source is that of the modules of the methods, of their phantoms, of the package of their kind of task, and of
    all definitions in `ROOMS` that these use, directly or not. Comments, docstrings, layout and other definitions in
    the same modules do not count.

    Args:
        methods: compared methods.
        settings: texts that count, too.
    """
    begun: set[Item] = {(type(method).__module__, None) for method in methods}
    for method in methods:
        package = type(method.task).__module__.rpartition(".")[0]
        begun |= {(module, None) for module in _modules_of(package)} | _phantom(method)
    return _digest(begun, ROOMS, settings)


def training_digest(method: Method, *, on_phantom: bool) -> str:
    """Return the digest of the source that a method is trained by, as hexadecimal digits.

    The source is that of the method, of its task, of its phantom where that is trained on, and of all definitions in
    `LEARNING` that these use; of a method from outside it is the whole file. What only judges a trained method is left
    out.

    Args:
        method: the method.
        on_phantom: whether it is trained on its phantom.
    """
    begun: set[Item] = {(type(method).__module__, None), (type(method.task).__module__, None)}
    return _digest(begun | (_phantom(method) if on_phantom else set()), LEARNING, [source_of(type(method)) or ""])


def _digest(begun: set[Item], rooms: Sequence[str], settings: Sequence[str]) -> str:
    parts = [*settings, *(f"{module}\n{text}" for module, text in sorted(_used(begun, rooms).items()))]
    return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:DIGITS]


def _phantom(method: Method) -> set[Item]:
    """Return the class of the phantom of a method."""
    name = str(getattr(method.config, "phantom", None) or getattr(method.task, "phantom", ""))
    if name not in PHANTOMS:
        return set()
    module, _, kind = PHANTOMS[name].partition(":")
    return {(module, kind)}


def _used(begun: set[Item], rooms: Sequence[str]) -> dict[str, str]:
    """Return the bare source of definitions, and of all that they use in some rooms, by the module."""
    done, left = set[Item](), list(begun)
    places: dict[str, set[int]] = {}
    while left:
        module, name = item = left.pop()
        if item in done or _room(module) not in rooms or not _is_source(module):
            continue
        done.add(item)
        source, own = _source(_path(module)), places.setdefault(module, set())
        wanted = {
            place
            for place, one in enumerate(source.statements)
            if name is None or not one.names or name in one.names
        } - own  # fmt: skip
        if name is not None and name in source.imported:
            left.append(source.imported[name])
        own |= wanted
        for statement in (source.statements[place] for place in wanted):
            left += [_target(one) for one in statement.imports]
            left += [source.imported[one] for one in statement.uses if one in source.imported]
            left += [(module, one) for one in statement.uses]
    return {
        module: "".join(_source(_path(module)).statements[place].bare for place in sorted(own))
        for module, own in places.items()
    }


def _target(item: Item) -> Item:
    """Return what an import names: a definition, or a whole module where the name is that of one."""
    module, name = item
    inner = f"{module}.{name}"
    return (inner, None) if name is not None and _is_source(inner) else item


def _room(module: str) -> str:
    return module.removeprefix("ganatomy.").partition(".")[0]


def _is_source(module: str) -> bool:
    return module.startswith("ganatomy.") and _room(module) in ROOMS and _path(module).is_file()


@cache
def _source(path: Path) -> Source:
    """Read a module."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    statements: list[Statement] = []
    imported: dict[str, Item] = {}
    for node in ast.parse(text).body:
        inside = {local: _target(item) for local, item in _imported_by(node)}
        if isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Try):
            # Names that are imported for type checking alone are found like others.
            imported |= inside
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        bare = _bare("".join(lines[first - 1 : node.end_lineno]))
        if bare:
            words = frozenset(one.id for one in ast.walk(node) if isinstance(one, ast.Name))
            statements.append(Statement(frozenset(_defined(node)), words, frozenset(inside.values()), bare))
    return Source(tuple(statements), imported)


def _imported_by(node: ast.AST) -> Iterator[tuple[str, Item]]:
    """Yield the names that a statement imports, within functions, too, with where they come from."""
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            yield from ((alias.asname or alias.name, (alias.name, None)) for alias in one.names)
        elif isinstance(one, ast.ImportFrom) and one.module:
            yield from ((alias.asname or alias.name, (one.module, alias.name)) for alias in one.names)


def _defined(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def _modules_of(package: str) -> set[str]:
    """Return the names of all modules of a package."""
    place = ROOT.joinpath(*package.split(".")[1:])
    return {f"{package}.{path.stem}" for path in place.glob("*.py")}


def _path(module: str) -> Path:
    place = ROOT.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _bare(text: str) -> str:
    """Return source without comments, docstrings and blanks, which is the same for every Python."""
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
