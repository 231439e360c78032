"""The systems that are written on paper in the architecture's page fit the vocabularies as these are."""

import re
from pathlib import Path

import pytest
from mypy import api

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SYSTEMS = re.findall(r"^class (\w+)\(Method\)", "\n".join(BLOCKS), re.MULTILINE)
LONGEST = 60


def test_there_are_ten_systems_of_at_most_sixty_lines():
    assert len(SYSTEMS) == len(BLOCKS) == 10
    assert max(len(block.splitlines()) for block in BLOCKS) <= LONGEST


def test_every_system_is_named_in_the_catalogue():
    from ganatomy import catalogue

    text = PAGE.read_text(encoding="utf-8")
    for slug in ("dan", "uda-lesion", "voxel-atlas-gan", "btrfly-net", "scgan-lv-coverage", "retina-aae", "scgan-us",
                 "nodule-cgan3d", "ssnet", "context-aware-gan"):  # fmt: skip
        assert catalogue.resolve(slug).slug == slug and f"`{slug}`" in text


def test_every_kind_of_task_is_on_the_page():
    table = PAGE.read_text(encoding="utf-8").split("| folder |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ", table, re.MULTILINE)
    named = {name.strip("`") for cell in listed for name in cell.split(", ")}
    rooms = Path(__file__).parents[1] / "src" / "ganatomy" / "tasks"
    assert named == {one.name for one in rooms.iterdir() if (one / "__init__.py").is_file()}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Mypy's messages on all blocks, by the number of the block."""
    folder = tmp_path_factory.mktemp("blocks")
    files = [folder / f"block{number}.py" for number in range(len(BLOCKS))]
    for file, block in zip(files, BLOCKS, strict=True):
        file.write_text(block)
    config = Path(__file__).parents[1] / "pyproject.toml"
    out, problems, _ = api.run(["--config-file", str(config), "--no-error-summary", *map(str, files)])
    assert not problems
    return out


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_system_uses_no_name_that_the_vocabularies_lack(told, number):
    lines = [line for line in told.splitlines() if f"block{number}.py" in line and ": error:" in line]
    assert not lines, "\n".join(lines)
