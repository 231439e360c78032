"""The digest of the code that results rest on."""

import textwrap
from dataclasses import replace

import pytest

from ganatomy.claims import code
from ganatomy.claims.code import claim_digest
from ganatomy.claims.decide import find_claim
from ganatomy.claims.reproduction import arms_of


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A place for changed copies of modules, which stand in for the real ones."""
    real = code._path

    def path(module):
        changed = tmp_path / f"{module}.py"
        return changed if changed.is_file() else real(module)

    def change(module, was, now):
        text = real(module).read_text(encoding="utf-8")
        assert was in text
        (tmp_path / f"{module}.py").write_text(text.replace(was, now), encoding="utf-8")
        code._imports.cache_clear()

    monkeypatch.setattr(code, "_path", path)
    yield change
    code._imports.cache_clear()


def digest(slug):
    claim = find_claim(slug)
    return claim_digest(claim, arms_of(claim, "small"))


@pytest.mark.parametrize(
    ("module", "was", "now", "changed"),
    [
        ("ganatomy.methods.frameworks.pix2pix", "l1_weight: float = 100.0", "l1_weight: float = 99.0", True),
        ("ganatomy.nets.unet", "return self.head(image)", "return -self.head(image)", True),
        ("ganatomy.metrics.sharpness", "import numpy as np", "import numpy as np\nX = 1", True),
        ("ganatomy.tasks.translation.judge", "return", "pass;return", True),
        ("ganatomy.phantoms.brain", "import numpy as np", "import numpy as np\nX = 1", True),
        ("ganatomy.phantoms.skin", "import numpy as np", "import numpy as np\nX = 1", False),
        ("ganatomy.methods.frameworks.srgan", "return", "pass;return", False),
        ("ganatomy.nets.unet", "import torch", "import torch  # a comment\n\n", False),
        ("ganatomy.nets.unet", '"""Map', '"""Other words. Map', False),
    ],
)
def test_what_a_result_rests_on_changes_the_digest(copied, module, was, now, changed):
    before = digest("pix2pix")
    copied(module, was, now)
    assert (digest("pix2pix") != before) == changed


def test_another_part_or_arm_of_a_claim_changes_the_digest():
    claim = find_claim("pix2pix")
    arms = arms_of(claim, "small")
    fewer = replace(claim, predicates=claim.predicates[:-1])
    other = replace(claim, arms={"pix2pix": {"l1_weight": 7.0}, "l1": claim.arms["l1"]})
    said = replace(claim, words="Other words.")
    digests = [claim_digest(one, arms) for one in (claim, fewer, other, said)]
    assert len(set(digests)) == 3 and digests[0] == digests[3]


def test_only_what_is_computed_counts(tmp_path):
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(
        textwrap.dedent(
            '''
            """Docstring with ü."""
            A = "é # no comment"  # a comment with ß
            """What A is."""
            def f(x):
                """Of f."""
                return f"{x:>3}#"
            '''
        ),
        encoding="utf-8",
    )
    two.write_text('A = "é # no comment"\n\ndef f(x):\n  return f"{x:>3}#"\n', encoding="utf-8")
    assert code._bare(one) == code._bare(two)
    two.write_text('A = "é # a comment"\n\ndef f(x):\n  return f"{x:>3}#"\n', encoding="utf-8")
    code._bare.cache_clear()
    assert code._bare(one) != code._bare(two)
