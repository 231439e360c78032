import numpy as np
import pytest

from ganatomy.cli import main
from ganatomy.images.files import write
from ganatomy.images.image import Image


@pytest.fixture
def folder(tmp_path):
    for name in ("ann", "a[red]c"):
        write(tmp_path / "data" / name / "scan.nii.gz", Image.from_array(np.full((3, 16, 16), -7, np.int16), unit="HU"))
    return tmp_path / "data"


def test_images_are_listed_as_they_are_found(folder, capsys):
    assert main(["data", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "a[red]c" in told and "2 subjects, 2 images" in told and "-7 to -7" in told
    assert "nifti: 3 x 16 x 16 voxels; 1 x 1 x 1 mm; -7 to -7 in middle slices, HU" in told


def test_cases_are_those_of_a_training_and_the_manifest_can_be_trained_on(folder, tmp_path, capsys):
    manifest = tmp_path / "cases.csv"
    words = ["data", str(folder), "--for", "wgan-vgg", "--test-subjects", "ann", "--write", str(manifest)]
    assert main(words) == 0
    assert "subjects (cases): 1 for training (1), 1 for testing (1)" in capsys.readouterr().out
    assert manifest.read_text().splitlines()[0] == "subject,target,split,label"
    assert main(["data", str(manifest), "--for", "wgan-vgg"]) == 0
    assert "subjects (cases): 1 for training (1), 1 for testing (1)" in capsys.readouterr().out


def test_what_cannot_be_read_is_told_by_the_exit_status(folder, capsys):
    (folder / "ann" / "scan.nii.gz").write_bytes(b"")
    assert main(["data", str(folder)]) == 3
    assert "cannot be read: ann_scan nifti: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{0}", "--write", "m.csv"], "--write m.csv: a manifest has the roles of a system; add --for SYSTEM"),
        (["{0}", "--for", "nothing"], "nothing"),
        (["{0}/none"], "none does not exist"),
        ([], "data needs a folder: ganatomy data FOLDER (see ganatomy data --help)"),
        (["--for", "wgan-vgg"], "data needs a folder before --for"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, capsys, words, told):
    assert main(["data", *[word.format(folder) for word in words]]) in (0, 2)
    said = capsys.readouterr()
    assert told in said.err + said.out and "Traceback" not in said.err


def test_the_help_explains_the_command(capsys):
    assert main(["data", "--help"]) == 0
    assert "ganatomy data FOLDER [--for SYSTEM]" in capsys.readouterr().out
