"""The page on Python: its code runs in order as it stands, with fewer rounds."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ganatomy
from ganatomy.images.image import axial_affine

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SMALL = {"preset": "small", "rounds": 2, "batch_size": 2, "threads": 1, "diagnose": False, "validation_slices": 1}
SMALL |= {"size": (32, 32), "levels": 3, "width": 4, "discriminator_width": 4, "discriminator_strided": 1, "jitter": 2}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Names that the blocks of the page have made, beside a folder with pairs of five patients."""
    folder = tmp_path_factory.mktemp("page")
    affine = axial_affine((3.0, 1.0, 1.2))
    affine[:3, 3] = (-4.0, 9.0, 2.0)
    for number in range(5):
        values = np.random.default_rng(number).uniform(200, 900, (1, 2, 32, 30)).astype(np.float32)
        values[..., :6, :] = 0
        for role, image in (("t1", values), ("t2", 1000 - values)):
            (folder / "PAIRS" / role).mkdir(parents=True, exist_ok=True)
            ganatomy.write(folder / "PAIRS" / role / f"p{number}.nii.gz", ganatomy.Image(image, affine))
    module = ModuleType("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"block {number} of docs/python.md", "exec"), module.__dict__)
            if number == 0:
                module.__dict__["options"] = SMALL
        yield module


def test_the_blocks_do_what_they_say(page):
    assert len(page.pairs) == 5 and page.model.facts.rounds == {"game": 2}
    assert Path("t2.nii.gz").is_file() and Path("runs/p/evaluation/report.html").is_file()
    assert page.made.shape == (2, 32, 30) and np.allclose(page.made.affine, page.one.affine)
    assert page.two.spacing == pytest.approx((3.0, 1.0, 1.2))


def test_every_public_name_is_on_the_page():
    assert all(name in PAGE for name in ganatomy.__all__ if name not in ("__version__", "DataConfig", "TrainConfig"))


@pytest.mark.parametrize("name", ["README.md", "docs/extending.md"])
def test_the_page_is_found(name):
    assert "python.md" in (ROOT / name).read_text(encoding="utf-8")
