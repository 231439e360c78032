"""Docstrings can be read alone: none begins like the answer to a question that is not on the page."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "ganatomy"
ROOMS = sorted(
    path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")
)
"""Modules and folders of the package."""
REFUSED = re.compile(r"(What|The same|Of)\b")


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        documented = [*((None, first) for first in node.body[:1]), *pairwise(node.body)]
        for before, statement in documented:
            if before is not None and not isinstance(before, ast.Assign | ast.AnnAssign):
                continue
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                text = statement.value.value
                if isinstance(text, str):
                    yield statement.lineno, text.strip()


def refused(source: str) -> list[tuple[int, str]]:
    """Return line and first line of the docstrings in a module that begin with a refused word."""
    return [(line, text.split("\n")[0]) for line, text in docstrings(ast.parse(source)) if REFUSED.match(text)]


@pytest.mark.parametrize("room", ROOMS)
def test_no_docstring_begins_like_an_answer(room):
    place = PACKAGE / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files, f"{place} holds no module"
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {text}"
        for file in files
        for line, text in refused(file.read_text(encoding="utf-8"))
    ]
    assert not found, "begin with what the thing is or does:\n" + "\n".join(found)


def test_docstrings_of_all_kinds_are_found():
    source = '''
"""What a module holds."""

LIMIT = 3
"""Of a batch."""


class Sampler:
    """The same for samples."""

    width: int = 4
    """What a layer has."""
    depth = 2
    """Offset of the first layer."""

    def draw(self):
        """Of this round."""
        if self.depth:
            """What is no docstring."""
        self.depth = 3
        return "What is returned."

    async def wait(self):
        """Whatever follows, return it."""

    @property
    def size(self):
        """
        The same size.
        """
'''
    assert refused(source) == [
        (2, "What a module holds."),
        (5, "Of a batch."),
        (9, "The same for samples."),
        (12, "What a layer has."),
        (17, "Of this round."),
        (28, "The same size."),
    ]
