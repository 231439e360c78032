"""Kinds of mutants of scripts/mutate.py on small sources, and their outcomes."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("mutate", ROOT / "scripts" / "mutate.py")
mutate = importlib.util.module_from_spec(_spec)
sys.modules["mutate"] = mutate
_spec.loader.exec_module(mutate)

HERE = Path("src/ganatomy/training/some.py")


def changed(line, operator=None):
    """Return a line of a function as changed by every mutant, or by those of one operator."""
    source = f"def some(self):\n    {line}\n"
    found = [one for one in mutate.mutants(source, HERE) if operator in (None, one.operator)]
    assert all(one.line == 2 for one in found)
    return [one.applied(source).splitlines()[1].strip() for one in found]


@pytest.mark.parametrize(
    ("line", "operator", "after"),
    [
        ("x = 3", mutate.CONSTANT, ["x = 6"]),
        ("x = 0.5 * y[0]", mutate.CONSTANT, ["x = 1.0 * y[0]", "x = 0.5 * y[1]"]),
        ("x = f(True, None, 'word')", mutate.CONSTANT, ["x = f(False, None, 'word')"]),
        ("x = a + b", mutate.SIGN, ["x = (a) - (b)"]),
        ("x = a - b - c", mutate.SIGN, ["x = (a) + (b) - c", "x = (a - b) + (c)"]),
        ("x = -a", mutate.SIGN, ["x = (a)"]),
        ("x = 'a' + b", mutate.SIGN, []),
        ("x = [*a] + b", mutate.SIGN, []),
        ("x = f(a, b, c)", mutate.SWAPPED, ["x = f(b, a, c)"]),
        ("x = f(a, g(b, c), d=1)", mutate.SWAPPED, ["x = f(g(b, c), a, d=1)", "x = f(a, g(c, b), d=1)"]),
        ("x = l1_loss(a, b) + isinstance(a, b) + f(a, a) + f(*a, b)", mutate.SWAPPED, []),
        ("optimizer.step()", mutate.DROPPED, ["pass"]),
        ("x = (a - b).abs().mean()", mutate.DROPPED, ["x = (a - b).mean()"]),
        ("x = torch.sqrt(a)", mutate.DROPPED, []),
        (
            "with a.averages.in_place(), open(b): pass",
            mutate.LIVE,
            ['with __import__("contextlib").nullcontext(), open(b): pass'],
        ),
        ("x = Player(a, ema_halflife=c.ema_halflife)", mutate.LIVE, ["x = Player(a, ema_halflife=None)"]),
        ("x = c.pixel_weight * error", mutate.UNWEIGHED, ["x = (error)"]),
        ("x = weight * 2 * error", mutate.UNWEIGHED, ["x = (2) * error"]),
        ("x = error * self.weight", mutate.UNWEIGHED, ["x = (error)"]),
    ],
)
def test_an_operator_changes_one_place(line, operator, after):
    assert changed(line, operator) == after


def test_a_call_over_several_lines_stays_one():
    source = "def some():\n    f(\n        a,  # first\n        b,\n    )\n"
    texts = {one.operator: one.applied(source) for one in mutate.mutants(source, HERE)}
    assert texts[mutate.SWAPPED] == "def some():\n    f(\n        b,  # first\n        a,\n    )\n"
    assert texts[mutate.DROPPED] == "def some():\n    pass\n"


def test_letters_of_several_bytes_move_nothing():
    assert changed("x = 'µ²' if a else 4") == ["x = 'µ²' if a else 8"]


def test_only_what_functions_do_is_changed():
    source = '''"""Words: 3 - 2."""
LIMIT = 3
class Config:
    weight: float = 1.0

    @cache(4)
    def run(self, x: int = 2, y: Literal[3] = 5) -> Literal[6]:
        """Add 7 + 8."""
        assert x > 1
        if x:
            raise ValueError(f"{x + 1} is too much")
        return lambda z: x
'''
    assert mutate.mutants(source, HERE) == []


def test_the_layout_of_json_is_not_changed():
    source = "def f(a):\n    return dumps(a, indent=1, ensure_ascii=False, depth=3)\n"
    assert [one.words for one in mutate.mutants(source, HERE)] == ["3 → 6"]


def test_all_sites_of_the_rooms_are_programs():
    sites = mutate.listed(ROOT)
    assert {site.operator for site in sites} == set(mutate.OPERATORS) and len(sites) > 1000
    for site in mutate.drawn(sites, 5, 60):
        compile(site.applied((ROOT / site.path).read_text(encoding="utf-8")), str(site.path), "exec")


def test_a_seed_draws_the_same_sites_the_operators_in_turn():
    source = "def some():\n" + "".join(f"    x{n} = {n + 1} - f(a{n}, b{n})\n" for n in range(9)) + "    g()\n"
    sites = mutate.mutants(source, HERE)
    first, again, other = (mutate.drawn(sites, seed, 8) for seed in (1, 1, 2))
    assert first == again != other and len(set(first)) == 8
    assert [one.operator for one in first[:4]] == [mutate.CONSTANT, mutate.SIGN, mutate.SWAPPED, mutate.DROPPED]
    assert [one.operator for one in first[4:7]] == [mutate.CONSTANT, mutate.SIGN, mutate.SWAPPED]
    assert sorted(mutate.drawn(sites, 1, 1000), key=repr) == sorted(sites, key=repr)


def test_a_mutant_is_tried_by_the_tests_of_its_room():
    loop = mutate.tests_of(Path("src/ganatomy/training/loop.py"), ROOT)
    assert loop[:2] == ["tests/training/test_loop.py", "tests/training/test_wiring.py"]
    assert "tests/training/test_run.py" in loop and all(file.startswith("tests/training/") for file in loop)
    tasks = mutate.tests_of(Path("src/ganatomy/tasks/translation/judge.py"), ROOT)
    assert tasks[0] == "tests/tasks/translation/test_judge.py" and len(tasks) >= 3
    assert all(file.startswith("tests/tasks/translation/") for file in tasks)


def test_a_mutant_of_a_module_that_its_room_does_not_test_is_tried_where_the_module_is_used(copy):
    user = copy / "tests" / "studies" / "test_study.py"
    user.parent.mkdir()
    user.write_text("from ganatomy.training.arms import Arm\nfrom ganatomy.training.sums import total\n")
    arms, sums = (Path("src/ganatomy/training", name) for name in ("arms.py", "sums.py"))
    assert set(mutate.tests_of(arms, copy)) == {"tests/training/test_sums.py", "tests/studies/test_study.py"}
    assert mutate.tests_of(sums, copy) == ["tests/training/test_sums.py"]


def test_a_mutant_of_a_method_is_tried_by_the_contract_tests_of_its_systems():
    *files, k, asked = mutate.tests_of(Path("src/ganatomy/methods/frameworks/pix2pix.py"), ROOT)
    assert files[0] == "tests/methods/test_wiring.py" and files[-1] == "tests/methods/test_contract.py"
    assert "tests/methods/test_translation.py" in files and k == "-k"
    assert "[pix2pix" in asked.split(" or ") and "[cyclegan" not in asked
    *_, asked = mutate.tests_of(Path("src/ganatomy/methods/reconstruction/dagan.py"), ROOT)
    assert {"[dagan", "[deep-dealiasing"} <= set(asked.split(" or "))
    *_, asked = mutate.tests_of(Path("src/ganatomy/methods/frameworks/pair.py"), ROOT)
    assert {"[gan", "[dcgan", "[wgan", "[vae-gan"} <= set(asked.split(" or "))


@pytest.fixture
def copy(tmp_path):
    """A repository of one function and its tests."""
    code, tests = tmp_path / "src" / "ganatomy" / "training", tmp_path / "tests" / "training"
    code.mkdir(parents=True)
    tests.mkdir(parents=True)
    (code / "__init__.py").write_text("")
    (code.parent / "__init__.py").write_text("")
    (code / "sums.py").write_text("def total(a, b):\n    shown(a, b)\n    return a - b\n\n\ndef shown(*_): ...\n")
    (tests / "test_sums.py").write_text(
        "from ganatomy.training.sums import total\n\n\ndef test_total():\n    assert total(5, 2) == 3\n"
    )
    return tmp_path


def outcomes(copy, limit=60.0):
    path = Path("src/ganatomy/training/sums.py")
    before = (copy / path).read_text()
    trial = mutate.Trial(copy, limit)
    found = {one.words: trial.outcome(one) for one in mutate.mutants(before, path)}
    assert (copy / path).read_text() == before
    return found


def test_mutants_are_killed_or_survive_and_the_file_is_put_back(copy):
    found = outcomes(copy)
    assert found == {
        "shown(a, b) → pass": "survived",
        "shown(a, b) → shown(b, a)": "survived",
        "a - b → (a) + (b)": "tests/training/test_sums.py::test_total",
    }


@pytest.mark.slow
def test_a_test_that_fails_anyway_kills_nothing(copy):
    file = copy / "tests" / "training" / "test_sums.py"
    file.write_text(f"def test_never():\n    assert False\n\n\n{file.read_text()}")
    assert list(outcomes(copy).values()).count("survived") == 2
    assert "tests/training/test_sums.py::test_total" in outcomes(copy).values()
    (file.parent / "test_wiring.py").write_text("import nowhere\n")
    assert "tests/training/test_sums.py::test_total" in outcomes(copy).values()


def test_the_copy_has_what_is_in_the_working_tree(tmp_path):
    copy = mutate.copied(tmp_path)
    for name in ("pyproject.toml", "scripts/mutate.py", "src/ganatomy/game.py"):
        assert (copy / name).read_bytes() == (ROOT / name).read_bytes()
    assert not (copy / ".venv").exists() and not (copy / ".git").exists()


@pytest.mark.slow
def test_tests_that_go_on_for_ever_are_stopped(copy):
    (copy / "tests" / "training" / "test_sums.py").write_text("import time\n\ntime.sleep(60)\n")
    mutant = mutate.mutants((copy / "src/ganatomy/training/sums.py").read_text(), HERE.with_name("sums.py"))[0]
    assert mutate.Trial(copy, 1.0).outcome(mutant) == "no verdict: no failure in 1 s"


def test_a_row_tells_place_operator_change_and_outcome():
    (mutant,) = mutate.mutants("def some():\n    return a |\\\n        (b - c)\n", HERE)
    assert (
        mutate.row(3, mutant, "survived")
        == "| 3 | training/some.py:3 | changed sign | `b - c → (b) + (c)` | survived |"
    )
