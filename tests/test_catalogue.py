import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from ganatomy import catalogue
from ganatomy.catalogue import SYSTEMS, System, find, load, match, ready
from ganatomy.errors import UserError

ROOT = Path(__file__).parents[1]
METHODS = Path(catalogue.__file__).parent / "methods"
REVIEWED = [system for system in SYSTEMS if system.section != "frameworks"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_every_reviewed_system_is_listed_in_the_surveys_order() -> None:
    cited_only = {17, 21, 27, 28, 29, 30, 32, 35, 36, 37, 38, 41, 55, 57, 59, 60, 64, 87}
    assert [system.reference for system in REVIEWED] == [n for n in range(14, 97) if n not in cited_only]
    assert len(REVIEWED) == 65


def test_sections_hold_as_many_systems_as_the_survey_reviews() -> None:
    assert Counter(system.section for system in SYSTEMS) == {
        "denoising": 3,
        "reconstruction": 11,
        "segmentation": 17,
        "detection": 7,
        "classification": 1,
        "synthesis": 26,
        "frameworks": 15,
    }


def test_no_name_means_two_systems() -> None:
    names = [name for system in SYSTEMS for name in (system.slug, *system.aliases)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    papers = [system.doi_or_arxiv for system in SYSTEMS if system.doi_or_arxiv]
    assert [paper for paper, count in Counter(papers).items() if count > 1] == []


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.slug)
def test_row_is_well_formed(system: System) -> None:
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in (system.slug, *system.aliases))
    assert system.section in get_args(catalogue.Section)
    assert system.dims in get_args(catalogue.Dims)
    assert 0 < len(system.what) <= 70
    assert system.authors[-6:-4] == ", " and system.authors[-4:].isdigit()
    assert system.doi_or_arxiv is None or system.doi_or_arxiv.startswith(("10.", "arXiv:"))
    assert "|" not in "".join((system.title, system.what, system.modality))


def test_an_alias_and_any_case_name_the_same_system() -> None:
    assert find("acgan") is find("ac-gan") is find("AC-GAN")
    assert find("wgan-vgg").reference == 15


def test_url_leads_to_the_paper() -> None:
    assert find("wgan-vgg").url == "https://doi.org/10.1109/TMI.2018.2827462"
    assert find("sagan-ct").url == "https://arxiv.org/abs/1708.06453"
    assert find("kspace-gan").url is None


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        find("wgn-vgg")
    assert str(error.value) == "unknown system 'wgn-vgg'; did you mean wgan-vgg? 'ganatomy list' shows all"


def test_a_title_is_answered_with_its_slug() -> None:
    with pytest.raises(UserError, match=r"did you mean sagan-ct\b"):
        find("SAGAN")


def test_a_misspelt_alias_suggests_its_system_once() -> None:
    with pytest.raises(UserError, match=r"did you mean ac-gan or cgan\?"):
        find("acgn")


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UserError) as error:
        find("zzzzzz")
    assert str(error.value) == "unknown system 'zzzzzz'; 'ganatomy list' shows all"


def test_match_looks_at_slug_alias_section_and_modality() -> None:
    assert match("wgan-*") == [find("wgan-vgg"), find("wgan-gp")]
    assert match("ACGAN") == [find("ac-gan")]
    assert [system.reference for system in match("denoising")] == [14, 15, 16]
    assert match("*ultrasound") == [find("dacal-landmarks"), find("scgan-us"), find("ivus-stacksim")]
    assert match("*") == list(SYSTEMS)
    assert match("nothing") == []


def test_ready_systems_are_those_with_a_module() -> None:
    assert {"wolterink-ldct", "wgan-vgg", "sagan-ct"} <= {system.slug for system in ready()}
    assert all((system.state == "ready") == (system.module is not None) for system in SYSTEMS)


@pytest.mark.parametrize("system", ready(), ids=lambda system: system.slug)
def test_a_ready_system_loads_as_a_method_of_its_section(system: System) -> None:
    from ganatomy.game import Method

    assert issubclass(load(system.slug), Method)
    assert load(system.slug).__module__.startswith(f"ganatomy.methods.{system.section}.")


def test_every_method_file_has_a_row_or_serves_others_that_have() -> None:
    paths = [path for path in METHODS.glob("*/*.py") if not path.stem.startswith("_")]
    files = {f"ganatomy.methods.{path.parent.name}.{path.stem}" for path in paths}
    code = "".join(path.read_text(encoding="utf-8") for path in paths)
    served = {file for file in files if f"from {file} import" in code}
    assert files <= served | {system.module.partition(":")[0] for system in ready() if system.module}


def test_loading_a_planned_system_names_the_ready_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    here = System("here", None, "", "denoising", "", "", "2D", "", None, "collections:OrderedDict")
    later = System("later", None, "", "denoising", "", "", "2D", "", None)
    monkeypatch.setattr(catalogue, "SYSTEMS", (here, later))
    monkeypatch.setattr(catalogue, "_BY_NAME", {"here": here, "later": later})
    assert load("here").__name__ == "OrderedDict"
    with pytest.raises(UserError) as error:
        load("later")
    assert str(error.value) == "system 'later' is planned and cannot be used yet; ready are here"


def test_reading_the_catalogue_imports_nothing_heavy() -> None:
    loaded = run("-c", "import sys, ganatomy.catalogue; print(*sys.modules)")
    assert loaded.returncode == 0, loaded.stderr
    modules = set(loaded.stdout.split())
    assert not modules & {"torch", "numpy", "ganatomy.game"}
    assert not any(name.startswith("ganatomy.methods") for name in modules)


def test_readme_table_is_written_checked_and_found_stale(tmp_path: Path) -> None:
    script, readme = ROOT / "scripts" / "systems_table.py", tmp_path / "README.md"
    readme.write_text("before\n<!-- systems:begin -->\nold\n<!-- systems:end -->\nafter\n")
    stale = readme.read_text()

    checked = run(script, "--check", "--readme", readme)
    assert (checked.returncode, readme.read_text()) == (1, stale)
    assert "out of date" in checked.stderr

    assert run(script, "--readme", readme).returncode == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- systems:begin -->\n65 reviewed systems")
    assert text.endswith("\n<!-- systems:end -->\nafter\n")
    assert all(f" `{system.slug}` |" in text for system in SYSTEMS)
    assert "\nold\n" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert run(script, "--check", "--readme", readme).returncode == 0


@pytest.mark.parametrize("text", ["", "<!-- systems:end -->\n<!-- systems:begin -->\n"])
def test_readme_without_markers_is_refused_untouched(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    refused = run(ROOT / "scripts" / "systems_table.py", "--readme", readme)
    assert refused.returncode == 1 and "systems:begin" in refused.stderr and "Traceback" not in refused.stderr
    assert readme.read_text() == text


def test_the_readme_shows_the_catalogue_as_it_is() -> None:
    readme = ROOT / "README.md"
    if not readme.exists() or "systems:begin" not in readme.read_text(encoding="utf-8"):
        pytest.skip("README.md has no table of systems")
    checked = run(ROOT / "scripts" / "systems_table.py", "--check")
    assert checked.returncode == 0, checked.stderr
