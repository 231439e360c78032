import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from ganatomy import catalogue
from ganatomy.catalogue import COMPARED, SYSTEMS, System, load, match, ready, resolve
from ganatomy.errors import UserError

ROOT = Path(__file__).parents[1]
METHODS = Path(catalogue.__file__).parent / "methods"
REVIEWED = [system for system in SYSTEMS if system.section != "frameworks" and system.slug not in COMPARED]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_every_reviewed_system_is_listed_in_the_surveys_order() -> None:
    cited_only = {17, 21, 27, 28, 29, 30, 32, 35, 36, 37, 38, 41, 55, 57, 59, 60, 64, 87}
    assert [system.reference for system in REVIEWED] == [n for n in range(14, 97) if n not in cited_only]
    assert len(REVIEWED) == 65


def test_sections_hold_as_many_systems_as_the_survey_reviews() -> None:
    assert Counter(system.section for system in SYSTEMS if system.slug not in COMPARED) == {
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
    assert resolve("acgan") is resolve("ac-gan") is resolve("AC-GAN")
    assert resolve("wgan-vgg").reference == 15


def test_url_leads_to_the_paper() -> None:
    assert resolve("wgan-vgg").url == "https://doi.org/10.1109/TMI.2018.2827462"
    assert resolve("sagan-ct").url == "https://arxiv.org/abs/1708.06453"
    assert resolve("kspace-gan").url is None


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError) as error:
        resolve("wgn-vgg")
    assert str(error.value) == "unknown system 'wgn-vgg'; did you mean wgan-vgg? 'ganatomy list' shows all"


def test_a_title_is_answered_with_its_slug() -> None:
    with pytest.raises(UserError, match=r"did you mean sagan-ct\b"):
        resolve("SAGAN")


def test_a_misspelt_alias_suggests_its_system_once() -> None:
    with pytest.raises(UserError, match=r"did you mean ac-gan or cgan\?"):
        resolve("acgn")


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UserError) as error:
        resolve("zzzzzz")
    assert str(error.value) == "unknown system 'zzzzzz'; 'ganatomy list' shows all"


def test_match_looks_at_slug_alias_section_and_modality() -> None:
    assert match("wgan-*") == [resolve("wgan-vgg"), resolve("wgan-gp")]
    assert match("ACGAN") == [resolve("ac-gan")]
    assert [system.reference for system in match("denoising")] == [14, 15, 16]
    assert match("*ultrasound") == [resolve("dacal-landmarks"), resolve("scgan-us"), resolve("ivus-stacksim")]
    assert match("*") == list(SYSTEMS)
    assert match("denois") == match("denoising") and match("vgg") == [resolve("wgan-vgg")]
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


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.slug)
def test_every_name_of_every_system_resolves(system: System) -> None:
    assert all(resolve(name) is system for name in (system.slug, *system.aliases, system.slug.upper()))
    assert resolve(system) is system and system.citation.startswith(system.authors)


def test_a_citation_ends_with_the_identifier() -> None:
    assert resolve("wgan-vgg").citation == "Yang et al., 2018, doi:10.1109/TMI.2018.2827462"
    assert resolve("sagan-ct").citation == "Yi & Babyn, 2018, arXiv:1708.06453"
    assert resolve("kspace-gan").citation == "Shitrit & Riklin-Raviv, 2017"


METHOD = '''from ganatomy.methods.frameworks.dcgan import DCGAN
from ganatomy.game import Method


class Mine(DCGAN):
    """Makes pictures of nothing.

    A. Nobody and B. Noone, Journal of Nothing 3:4,
    2026. doi:10.1234/nothing.5.

    Further words: doi:10.9999/other.
    """


class Terse(DCGAN):
    pass


class Half(Method):
    """MR images become nothing."""

    dims = 3


class Nothing:
    pass
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for files with methods; what is imported from it is forgotten afterwards."""
    monkeypatch.setattr("sys.path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def register(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Install a package, as far as its entry points are concerned."""
    about = folder / "gadgets-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gadgets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("place", ["file", "module", "installed"])
def test_a_method_from_outside_is_described_by_its_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (folder / "gadgets.py").write_text(METHOD)
    register(folder, monkeypatch, "[ganatomy.methods]\nmy-gan = gadgets:Mine\n")
    name = {"file": f"{folder / 'gadgets.py'}:Mine", "module": "gadgets:Mine", "installed": "my-gan"}[place]
    system = resolve(name)
    assert system.slug == {"file": "gadgets.py:Mine", "module": "gadgets:Mine", "installed": "my-gan"}[place]
    assert (system.title, system.what, system.dims) == ("Mine", "makes pictures of nothing", "2D")
    citation = "A. Nobody and B. Noone, Journal of Nothing 3:4, 2026. doi:10.1234/nothing.5"
    assert (system.citation, system.url) == (citation, "https://doi.org/10.1234/nothing.5")
    assert system.cls is sys.modules["gadgets"].Mine and load(name) is system.cls
    assert catalogue.source_of(system.cls) == f"sha256:{hashlib.sha256(METHOD.encode()).hexdigest()}"


def test_the_place_of_a_method_of_the_survey_names_its_row() -> None:
    assert resolve("ganatomy.methods.denoising.wgan_vgg:WGANVGG") is resolve("wgan-vgg")


def test_a_method_without_words_is_described_all_the_same(folder: Path) -> None:
    (folder / "gadgets.py").write_text(METHOD)
    system = resolve(f"{folder / 'gadgets.py'}:Terse")
    assert (system.what, system.citation, system.url) == ("what gadgets.py:Terse does", "unpublished", None)


def test_a_relative_path_and_files_beside_it_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "beside").mkdir()
    (folder / "beside" / "gadgets.py").write_text(METHOD.replace("from ganatomy.game", "from helpers"))
    (folder / "beside" / "helpers.py").write_text("from ganatomy.game import Method")
    monkeypatch.chdir(folder)
    assert resolve("beside/gadgets.py:Mine").cls.__name__ == "Mine"
    monkeypatch.chdir(folder / "beside")
    assert resolve("gadgets.py:Mine") == resolve("../beside/gadgets.py:Mine")


def test_known_names_import_what_is_registered_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "gadgets.py").write_text(METHOD)
    register(folder, monkeypatch, "[ganatomy.methods]\nmy-gan = gadgets:Mine\nwgan-vgg = gadgets:Mine\n")
    for place in (f"{folder / 'gadgets.py'}:Mine", "gadgets:Mine", "gadgets.py:Mine", "gadgets"):
        with pytest.raises(UserError, match="unknown system"):
            catalogue.known(place)
    assert catalogue.known("wgan-vgg").section == "denoising", "no package takes a name of the survey"
    assert "gadgets" not in sys.modules
    assert catalogue.known("my-gan").module == "gadgets:Mine"
    with pytest.raises(UserError, match=r"did you mean my-gan\?"):
        resolve("my-gna")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("FOLDER/none.py:Mine", r"none\.py: no such file"),
        ("FOLDER/gadgets.py", r"name the class of the method, too, as .*gadgets\.py:Class"),
        ("FOLDER/gadgets.py:Mime", r"there is no Mime in .*gadgets\.py; did you mean Mine\?"),
        ("FOLDER/gadgets.py:", r"there is no  ?in .*gadgets\.py"),
        (
            "FOLDER/gadgets.py:Nothing",
            r"gadgets\.py:Nothing: not a method; name a class that extends ganatomy\.game\.Method",
        ),
        ("FOLDER/gadgets.py:Half", r"gadgets\.py:Half: not a complete method; it lacks build_task, stages, Config"),
        ("FOLDER/broken.py:Mine", r"broken\.py: cannot be imported: NameError: .*nothing.* \(broken\.py, line 3\)"),
        ("FOLDER/unread.py:Mine", r"unread\.py: cannot be imported: SyntaxError: .*\(unread\.py, line 1\)"),
        ("FOLDER/leaves.py:Mine", r"leaves\.py: cannot be imported: SystemExit: 3"),
        ("FOLDER/lacks.py:Mine", r"lacks\.py: cannot be imported: ModuleNotFoundError: .*no_such_package"),
        ("FOLDER/json.py:Mine", r"json\.py: Python has another module called json, .*__init__\.py; rename the file"),
        ("no_such_module:Mine", "no_such_module:Mine: no module called no_such_module is installed"),
        ("ganatomy.methods.none:Mine", r"no module called ganatomy\.methods\.none is installed"),
        ("ganatomy.game:Stage", r"ganatomy\.game:Stage: not a method"),
        ("bad-gan", r"gadgets:Gone: there is no Gone in gadgets"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    (folder / "gadgets.py").write_text(METHOD)
    (folder / "broken.py").write_text("import sys\n\nnothing.at.all\n")
    (folder / "unread.py").write_text("def (:\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    (folder / "lacks.py").write_text("import no_such_package\n")
    (folder / "json.py").write_text(METHOD)
    register(folder, monkeypatch, "[ganatomy.methods]\nbad-gan = gadgets:Gone\n")
    with pytest.raises(UserError, match=told) as error:
        resolve(name.replace("FOLDER", str(folder)))
    assert "\n" not in str(error.value)


def test_the_first_paragraph_of_the_readme_counts_the_ready_systems() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Start")[0]
    counted = sum(system.slug not in COMPARED for system in ready())
    assert f"**{counted} of these {len(SYSTEMS) - len(COMPARED)} are ready" in text
