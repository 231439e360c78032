"""Mutation test: change the code in one place at a time, and check whether a test fails.

    python scripts/mutate.py --seed 1 --count 80 --table mutants.md

Places to change are found in the syntax trees of the training, inference, evaluation, task and method packages, and a
number of them is drawn, the kinds of change in turn. Each mutant is tried in a copy of the working tree with the tests
of its package or, for a method, its own and its contract tests, up to the first failure. Tests that also fail without a
mutant are left out. A line is printed for each mutant, and at the end the number of survivors; the exit code is 1 where
any survived. ``--only`` tries the mutants with the given numbers alone.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src/ganatomy")
ROOMS = ("training", "inference", "evaluation", "tasks", "methods")

CONSTANT, SIGN, SWAPPED, DROPPED, LIVE, UNWEIGHED = (
    "changed constant",
    "changed sign",
    "swapped arguments",
    "dropped call",
    "live for averaged weights",
    "dropped weight",
)
OPERATORS = (CONSTANT, SIGN, SWAPPED, DROPPED, LIVE, UNWEIGHED)

SYMMETRIC = {"l1_loss", "mse_loss", "smooth_l1_loss", "max", "min", "equal", "allclose", "array_equal", "gcd", "hypot"}
"""Functions whose first two arguments may be swapped without effect."""
LAYOUT = {"indent", "ensure_ascii"}
"""Arguments that only change the layout of JSON, not what a reader of it gets."""
WORDS = {"isinstance", "issubclass", "getattr", "hasattr", "cast", "print", "partial", "field", "zip", "super"}
"""Functions whose calls with swapped arguments are invalid or pointless."""
SHAPING = {"abs", "square", "sqrt", "exp", "log", "tanh", "sigmoid", "clamp", "clamp_min", "clamp_max", "clip"}
"""Methods that do not change the shape of an array, so that a call can be dropped."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: path of the file, from the root of the repository.
        line: line of the change, counted from 1.
        operator: kind of change, one of `OPERATORS`.
        start: offset of the first replaced character.
        stop: offset behind the last replaced character.
        before: text that is replaced.
        after: text that replaces it.
    """

    path: Path
    line: int
    operator: str
    start: int
    stop: int
    before: str
    after: str

    def applied(self, source: str) -> str:
        """Return the text of the file with the change."""
        assert source[self.start : self.stop] == self.before
        return source[: self.start] + self.after + source[self.stop :]

    @property
    def words(self) -> str:
        """Description of the change on one line."""
        return " ".join(f"{self.before} → {self.after}".split())


class Places:
    """Positions of syntax nodes in a text, in characters; the syntax tree counts columns in bytes."""

    def __init__(self, source: str):
        self.source = source
        self.lines = source.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        """Return the offset of the character at a line, counted from 1, and a column in bytes."""
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the offsets of the first character of a node and of the one behind its last."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.expr | ast.stmt) -> str:
        """Return the source text of a node."""
        start, stop = self.span(node)
        return self.source[start:stop]


def mutants(source: str, path: Path) -> list[Mutant]:
    """Return all mutants of a file in the order of its text; only bodies of functions are changed."""
    places, found = Places(source), []
    for node in executed(ast.parse(source)):
        for operator, changed, after in changes(node, places):
            start, stop = places.span(changed)
            found.append(Mutant(path, changed.lineno, operator, start, stop, source[start:stop], after))
    return sorted(set(found), key=lambda one: (one.start, one.stop, one.operator, one.after))


def executed(tree: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """Yield the nodes in bodies of functions, without annotations, docstrings, raise and assert statements."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
                continue
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            if isinstance(node, ast.keyword) and node.arg in LAYOUT:
                continue
            function = isinstance(tree, ast.FunctionDef | ast.Lambda) and name == "body"
            if inside or function:
                yield node
            yield from executed(node, inside or function)


def changes(node: ast.AST, places: Places) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Yield kind of change, replaced node and new text for every change of a node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        yield CONSTANT, node, str(not value) if isinstance(value, bool) else str(2 * value if value else 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and not _holds_things(node):
        sign = "-" if isinstance(node.op, ast.Add) else "+"
        yield SIGN, node, f"({places.text(node.left)}) {sign} ({places.text(node.right)})"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield SIGN, node, f"({places.text(node.operand)})"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        for weight, weighed in ((node.left, node.right), (node.right, node.left)):
            if isinstance(weight, ast.Name | ast.Attribute) and "weight" in _name(weight):
                yield UNWEIGHED, node, f"({places.text(weighed)})"
                break
    if isinstance(node, ast.Call):
        yield from _changed_calls(node, places)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield DROPPED, node, "pass"
    if isinstance(node, ast.With):
        for item in node.items:
            if isinstance(item.context_expr, ast.Call) and _name(item.context_expr.func) == "in_place":
                yield LIVE, item.context_expr, '__import__("contextlib").nullcontext()'


def _changed_calls(node: ast.Call, places: Places) -> Iterator[tuple[str, ast.expr, str]]:
    name = _name(node.func)
    plain = len(node.args) >= 2 and not any(isinstance(one, ast.Starred) for one in node.args[:2])
    if plain and name not in SYMMETRIC | WORDS:
        (first, second), (start, stop) = (places.text(one) for one in node.args[:2]), places.span(node)
        if ast.dump(node.args[0]) != ast.dump(node.args[1]):
            head = places.source[start : places.span(node.args[0])[0]]
            between = places.source[places.span(node.args[0])[1] : places.span(node.args[1])[0]]
            yield SWAPPED, node, head + second + between + first + places.source[places.span(node.args[1])[1] : stop]
    if (
        isinstance(node.func, ast.Attribute)
        and name in SHAPING
        and _name(node.func.value) not in ("torch", "np", "math")
    ):
        yield DROPPED, node, f"({places.text(node.func.value)})"
    for keyword in node.keywords:
        if keyword.arg == "ema_halflife" and not isinstance(keyword.value, ast.Constant):
            yield LIVE, keyword.value, "None"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _holds_things(node: ast.BinOp) -> bool:
    """Return whether an addition joins lists, tuples or texts."""
    kinds = (ast.List, ast.Tuple, ast.ListComp, ast.JoinedStr)
    return any(
        isinstance(part, kinds) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in ast.walk(node)
        if isinstance(part, ast.expr)
    )


def drawn(sites: Iterable[Mutant], seed: int, count: int) -> list[Mutant]:
    """Draw ``count`` mutants at random, the kinds of change in turn while any are left."""
    dice = random.Random(seed)
    groups = {operator: [site for site in sites if site.operator == operator] for operator in OPERATORS}
    for group in groups.values():
        dice.shuffle(group)
    in_turn = [site for row in zip_longest(*groups.values()) for site in row if site is not None]
    return in_turn[:count]


def tests_of(path: Path, root: Path) -> list[str]:
    """Return pytest's arguments for a mutant of a file: the tests of its package, those named like the file first."""
    inner = path.relative_to(PACKAGE)
    room = inner.parts[0]
    if room == "methods":
        return tests_of_method(inner, root)
    folder = Path("tests", *inner.parts[: 2 if room == "tasks" else 1])
    if not (root / folder).is_dir():
        folder = Path("tests", room)
    files = {file: file.read_text(encoding="utf-8") for file in (root / "tests").rglob("test_*.py")}
    own = [file for file in files if file.is_relative_to(root / folder)]
    users = [file for file, text in files.items() if f"ganatomy.{'.'.join(inner.with_suffix('').parts)} import" in text]
    # A module that no test of its package imports is tested where it is used.
    return in_order(own if set(own) & set(users) else [*own, *users], inner.stem, root)


def in_order(files: Iterable[Path], stem: str, root: Path) -> list[str]:
    """Return paths from the root: first tests named like a module, then those of wiring, then others by size."""

    def rank(file: Path) -> tuple[int, int]:
        near = 0 if file.stem == f"test_{stem}" else 1 if file.stem == "test_wiring" else 2
        return near, file.stat().st_size

    return [file.relative_to(root).as_posix() for file in sorted(files, key=rank)]


def tests_of_method(inner: Path, root: Path) -> list[str]:
    """Return the tests that import a method's module, and the contract tests of the systems that use it."""
    module = ".".join(inner.with_suffix("").parts)
    catalogue = (root / PACKAGE / "catalogue.py").read_text(encoding="utf-8")
    users = [module, *(
        ".".join(file.relative_to(root / PACKAGE).with_suffix("").parts)
        for file in sorted((root / PACKAGE / "methods").rglob("*.py"))
        if f"{module} import" in file.read_text(encoding="utf-8")
    )]  # fmt: skip
    slugs = [slug for user in users for slug in systems_of(user, catalogue)]
    folder = root / "tests" / "methods"
    texts = {file: file.read_text(encoding="utf-8") for file in folder.glob("test_*.py")}
    own = [file for file, text in texts.items() if any(f"{user} import" in text for user in users)]
    files = in_order(own, inner.stem, root)
    asked = " or ".join([*(f"[{slug}" for slug in slugs), *(Path(file).stem for file in files)])
    contracts = [f"tests/methods/test_{name}.py" for name in ("wiring", "contract")]
    return [contracts[0], *files, contracts[1], "-k", asked]


def systems_of(module: str, catalogue: str) -> list[str]:
    """Return the slugs of the systems whose rows in the catalogue name a module."""
    found = []
    for node in ast.walk(ast.parse(catalogue)):
        if isinstance(node, ast.Call) and _name(node.func) == "System":
            words = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            if any(isinstance(word, str) and f"{module}:" in f"{word}:" for word in words):
                found.append(str(words[0]))
    return found


def run_tests(arguments: Sequence[str], copy: Path, limit: float) -> tuple[str, str]:
    """Run pytest, and return the outcome (``passed``, ``failed`` or ``time``) and the name of the failed test."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    with tempfile.TemporaryFile("w+") as heard:
        process = subprocess.Popen(
            command, cwd=copy, env=environment, stdout=heard, stderr=heard, text=True, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            # The tests start processes of their own, which belong to this group.
            os.killpg(process.pid, 9)
            process.wait()
            return "time", ""
        heard.seek(0)
        failed = [line.split(" ", 1)[1] for line in heard.read().splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return ("passed", "") if code in (0, 5) else ("failed", failed[0].split(" - ")[0] if failed else f"exit {code}")


class Trial:
    """Trial of mutants in a copy of the repository."""

    def __init__(self, copy: Path, limit: float):
        self.copy, self.limit = copy, limit
        self.sound: dict[str, bool] = {}

    def outcome(self, mutant: Mutant) -> str:
        """Return ``survived``, ``no verdict`` with a reason, or the test that failed."""
        file = self.copy / mutant.path
        source = file.read_text(encoding="utf-8")
        tests = tests_of(mutant.path, self.copy)
        while True:
            broken = [test for test, sound in self.sound.items() if not sound]
            asked = [test for test in tests if test not in broken] + [f"--deselect={test}" for test in broken]
            try:
                file.write_text(mutant.applied(source), encoding="utf-8")
                found, test = run_tests(asked, self.copy, self.limit)
            finally:
                file.write_text(source, encoding="utf-8")
            if found == "passed":
                return "survived"
            if found == "time":
                return f"no verdict: no failure in {self.limit:.0f} s"
            if self.passes(test):
                return test
            if test in broken:
                return f"no verdict: {test} also fails without it"

    def passes(self, test: str) -> bool:
        """Return whether a test, or all tests of a file that could not be imported, passes without a mutant."""
        if test not in self.sound:
            self.sound[test] = run_tests([test], self.copy, 2 * self.limit)[0] == "passed"
        return self.sound[test]


def copied(folder: Path) -> Path:
    """Copy the files that git tracks or would add into a subfolder of ``folder``, and return it."""
    copy = folder / "repository"
    known = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(known, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def listed(root: Path) -> list[Mutant]:
    """Return all mutants of `ROOMS`, file by file."""
    files = [file for room in ROOMS for file in sorted((root / PACKAGE / room).rglob("*.py"))]
    return [one for file in files for one in mutants(file.read_text(encoding="utf-8"), file.relative_to(root))]


def row(number: int, mutant: Mutant, outcome: str) -> str:
    """Return the table row of a mutant."""
    words = mutant.words.replace("|", "\\|")
    words = words if len(words) <= 110 else f"{words[:107]}..."
    place = f"{mutant.path.relative_to(PACKAGE)}:{mutant.line}"
    return f"| {number} | {place} | {mutant.operator} | `{words}` | {outcome} |"


def main() -> int:
    """Try the drawn mutants, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="seed by which mutants are drawn")
    parser.add_argument("--count", type=int, default=80, help="number of mutants that are drawn")
    parser.add_argument("--limit", type=float, default=300.0, help="longest time for the tests of a mutant, in seconds")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the mutants to try")
    parser.add_argument("--table", type=Path, help="file for the table, rewritten after every mutant")
    parser.add_argument("--list", action="store_true", help="list the drawn mutants without trying them")
    asked = parser.parse_args()
    lines = ["| # | place | operator | change | outcome |", "|---|---|---|---|---|"]
    outcomes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        sites = listed(copy)
        print(f"{len(sites)} sites; seed {asked.seed}, {asked.count} drawn", *lines, sep="\n", flush=True)
        trial = Trial(copy, asked.limit)
        for number, mutant in enumerate(drawn(sites, asked.seed, asked.count), start=1):
            if asked.only and number not in asked.only:
                continue
            began = time.monotonic()
            outcomes.append("" if asked.list else trial.outcome(mutant))
            lines.append(row(number, mutant, outcomes[-1]))
            print(lines[-1], f"{time.monotonic() - began:.0f} s", flush=True)
            if asked.table:
                asked.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    survived = outcomes.count("survived")
    undecided = sum(outcome.startswith("no verdict") for outcome in outcomes)
    if not asked.list:
        print(f"{len(outcomes)} tried, {survived} survived, {undecided} without a verdict")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
