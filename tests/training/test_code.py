"""Digests of the code that runs are trained by."""

import textwrap

import pytest

from ganatomy import catalogue
from ganatomy.training import code
from ganatomy.training.code import training_digest


def digest(on_phantom=True):
    kind = catalogue.load("pix2pix")
    return training_digest(kind(kind.Config.preset("small")), on_phantom=on_phantom)


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("ganatomy.methods.frameworks.pix2pix", True),
        ("ganatomy.nets.unet", True),
        ("ganatomy.losses.adversarial", True),
        ("ganatomy.tasks.translation.task", True),
        ("ganatomy.phantoms.brain", True),
        ("ganatomy.tasks.translation.judge", False),
        ("ganatomy.metrics.sharpness", False),
        ("ganatomy.methods.frameworks.srgan", False),
    ],
)
def test_what_a_run_learns_by_changes_its_digest_and_what_judges_it_does_not(edited, module, changed):
    before = digest()
    edited(module, "return", "pass;return")
    assert (digest() != before) == changed


def test_a_phantom_counts_only_where_it_is_trained_on(edited):
    before = digest(on_phantom=False)
    assert before != digest()
    edited("ganatomy.phantoms.brain", "return", "pass;return")
    assert digest(on_phantom=False) == before


def test_the_file_of_a_method_from_outside_counts(tmp_path):
    path, found = tmp_path / "mine.py", []
    for weight in ("1.0", "2.0"):
        path.write_text(
            "from ganatomy.methods.frameworks.pix2pix import Pix2Pix\n\n"
            f'class Mine(Pix2Pix):\n    """Mine."""\n\n    factor = {weight}\n'
        )
        kind = catalogue.resolve(f"{path}:Mine").cls
        found.append(training_digest(kind(kind.Config.preset("small")), on_phantom=True))
    assert found[0] != found[1]


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
    assert code._source(one).statements == code._source(two).statements
    two.write_text('A = "é # a comment"\n\ndef f(x):\n  return f"{x:>3}#"\n', encoding="utf-8")
    code._source.cache_clear()
    assert code._source(one).statements != code._source(two).statements


def test_definitions_that_a_method_does_not_use_do_not_count(edited):
    before = digest()
    edited("ganatomy.nets.unet", "class ConvUNet(UNet):", "def more():\n    return 1\n\n\nclass ConvUNet(UNet):")
    assert digest() == before
    edited("ganatomy.nets.unet", "class Pix2PixUNet(nn.Module):", "class Pix2PixUNet(nn.Module):\n    more = 1\n")
    assert digest() != before


def test_what_a_used_definition_uses_counts(edited):
    before = digest()
    edited("ganatomy.nets.layers", "MAX_POOL", "MAX_POOLS")
    assert digest() == before, "the U-Net of pix2pix pools nothing"
    edited("ganatomy.nets.layers", "nn.ConvTranspose2d,", "nn.ConvTranspose2d, ")
    assert digest() == before, "layout"
    edited("ganatomy.nets.layers", "2: nn.Conv2d", "2: nn.LazyConv2d")
    assert digest() != before
