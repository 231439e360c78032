"""Methods from outside of the package on the command line: named again each time, never imported by a run."""

import json
import sys

import numpy as np
import pytest
from runs import make_run

from ganatomy import phantoms
from ganatomy.cli import main
from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.runfile import read_run, write_run

CONFIG = {"variant": "cnn-mse", "width": 2, "start": "identity"}
METHOD = '''from ganatomy.methods.denoising.wgan_vgg import WGANVGG


class Mine(WGANVGG):
    """Denoises CT.

    A. Nobody, 2026. doi:10.1234/mine
    """


class Other(WGANVGG):
    pass
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with an image in it; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    values = np.random.default_rng(0).normal(-300, 250, (2, 20, 24)).round()
    write(tmp_path / "in.nii.gz", Image.from_array(values, (2.5, 0.8, 0.7), "HU"))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def evil(here, monkeypatch):
    """Return a function that makes a run whose file names code that leaves a trace when it is imported."""
    (here / "evil.py").write_text(f"open({str(here / 'imported')!r}, 'w')\n")
    monkeypatch.syspath_prepend(here)

    def make(place):
        run = make_run(here / "evil", config=CONFIG, which=("best", "last"))
        write_run(run, read_run(run).model_copy(update={"system": place}))

    return make


@pytest.mark.parametrize("place", ["evil.py:Evil", "evil:Evil"])
@pytest.mark.parametrize(
    "words",
    [
        "apply evil in.nii.gz out.nii.gz",
        "apply evil --help",
        "apply good in.nii.gz out.nii.gz --ensemble evil",
        "evaluate evil",
        "evaluate good --against evil",
        "sample evil --out out",
        "turing build evil --out out",
    ],
)
def test_no_command_imports_what_a_run_names(evil, here, place, words, capsys):
    evil(place)
    make_run(here / "good", config=CONFIG)
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"evil/run.yaml: a run of {place}, a method from outside" in said
    assert f"name it again: --system {'PATH/TO/' if '.py' in place else ''}{place}" in said
    assert not (here / "imported").exists() and not (here / "out.nii.gz").exists()


@pytest.mark.parametrize(
    "words",
    [
        "train wgan-vgg --out evil --resume",
        "train wgan-vgg --config evil/run.yaml --out new",
        "apply evil in.nii.gz out.nii.gz --system wgan-vgg",
        "evaluate evil --system wgan-vgg",
    ],
)
def test_a_run_is_not_taken_for_one_of_another_system(evil, here, words, capsys):
    evil("evil.py:Evil")
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a run of evil.py:Evil, " in said
    assert not (here / "imported").exists() and not (here / "new").exists()


def test_no_name_of_a_phantom_imports_anything(here, monkeypatch):
    (here / "evil.py").write_text(f"open({str(here / 'imported')!r}, 'w')\n")
    monkeypatch.syspath_prepend(here)
    for name in ("evil.py:Evil", "evil:Evil", str(here / "evil.py:Evil")):
        with pytest.raises(UserError, match="there is no phantom"):
            phantoms.make(name, 0)
    assert not (here / "imported").exists()


def test_a_named_method_is_applied_and_a_changed_source_is_said_once(here, capsys):
    (here / "from_outside.py").write_text(METHOD)
    name = "from_outside.py:Mine"
    run = make_run(here / "run", name, CONFIG)
    words = ["apply", str(run), "in.nii.gz", "out.nii.gz", "--system", name]
    assert main(words) == 0
    note = json.loads((here / "out.nii.gz.json").read_text())
    assert (note["system"], note["title"], note["citation"]) == (name, "Mine", "A. Nobody, 2026. doi:10.1234/mine")
    assert "warning" not in capsys.readouterr().err
    (here / "from_outside.py").write_text(METHOD + "# changed\n")
    assert main([*words, "--overwrite"]) == 0
    said = capsys.readouterr().err
    assert said.count("ganatomy: warning: ") == 1
    assert f"from_outside.py has changed since {name} was trained with it" in said
    assert main([*words[:-1], "from_outside.py:Other"]) == 2
    assert f"a run of {name}, not of from_outside.py:Other" in capsys.readouterr().err


def test_a_named_method_is_sampled_and_cited(here, capsys):
    (here / "from_outside.py").write_text(
        METHOD.replace("denoising.wgan_vgg", "frameworks.dcgan").replace("WGANVGG", "DCGAN")
    )
    make_run(here / "run", "from_outside.py:Mine", {"width": 4, "image": {"window": (0, 255), "unit": None}})
    assert main(["sample", "run", "--out", "out", "-n", "1", "--system", "from_outside.py:Mine"]) == 0
    note = json.loads((here / "out" / "synthetic.json").read_text())
    assert (note["system"], note["citation"]) == ("from_outside.py:Mine", "A. Nobody, 2026. doi:10.1234/mine")
    assert main(["sample", "run", "--help"]) == 2 and "--system PATH/TO/from_outside.py:Mine" in capsys.readouterr().err


def test_a_system_that_no_judged_run_is_of_is_refused(here, capsys):
    (here / "from_outside.py").write_text(METHOD)
    make_run(here / "run", config=CONFIG)
    assert main(["evaluate", "run", "--system", "from_outside.py:Mine"]) == 2
    assert "--system from_outside.py:Mine: no run of it is judged, but of wgan-vgg" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train {} --out new", "info {}", "reproduce {}"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.py:Mine", "none.py: no such file"),
        ("from_outside.py:Mime", "did you mean Mine?"),
        ("from_outside.py:WGANVGGG", "there is no WGANVGGG"),
        ("failing.py:Mine", "failing.py: cannot be imported: ZeroDivisionError: division by zero (failing.py, line 1)"),
    ],
)
def test_mistakes_in_names_are_told_in_a_line_by_every_command(here, command, name, told, capsys):
    (here / "from_outside.py").write_text(METHOD)
    (here / "failing.py").write_text("1 / 0\n")
    assert main(command.format(name).split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("ganatomy: ") and said.count("\n") == 1 and told in said


def test_a_method_from_outside_has_a_page(here, capsys):
    (here / "from_outside.py").write_text(METHOD)
    assert main(["info", "from_outside.py:Mine"]) == 0
    page = capsys.readouterr().out
    assert "# Mine (`from_outside.py:Mine`)" in page and "A. Nobody, 2026. doi:10.1234/mine" in page
    assert "outside of the survey" in page and "| `--critic-steps` | 4 |" in page


def test_what_packages_register_is_listed(here, monkeypatch, capsys):
    about = here / "gadgets-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gadgets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[ganatomy.methods]\nmy-gan = nowhere:Mine\n")
    monkeypatch.syspath_prepend(here)
    assert main(["list"]) == 0
    assert "registered by installed packages\n  my-gan                 nowhere:Mine\n" in capsys.readouterr().out
