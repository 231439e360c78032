import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from ganatomy.cli import main
from ganatomy.images.files import write
from ganatomy.images.image import Image


@pytest.fixture
def folder(tmp_path):
    for name in ("ann", "a[red]c"):
        values = np.tile(np.linspace(-1000, 300, 16 * 16).reshape(16, 16), (3, 1, 1)).astype(np.int16)
        write(tmp_path / "data" / name / "scan.nii.gz", Image.from_array(values, unit="HU"))
    return tmp_path / "data"


def test_images_are_listed_as_they_are_found(folder, capsys):
    assert main(["data", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "a[red]c" in told and "2 subjects, 2 images" in told and "-1000 to 300" in told
    assert "nifti: 3 x 16 x 16 voxels; 1 x 1 x 1 mm; -1000 to 300 in middle slices, HU" in told


def test_a_size_of_pixels_that_no_file_states_is_told_as_unknown(tmp_path, capsys):
    Picture.fromarray(np.arange(63, dtype=np.uint8).reshape(7, 9)).save(tmp_path / "a.png")
    assert main(["data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "1 subject, 1 image\n" in told and "7 x 9 voxels; size of pixels unknown; 0 to 62" in told
    assert told.count("unknown") == 2 and "1 x 1" not in told.replace("1 x 7", "")
    Picture.fromarray(np.arange(63, dtype=np.uint8).reshape(7, 9)).save(tmp_path / "b.png", dpi=(254, 508))
    assert main(["data", str(tmp_path)]) == 0
    assert "7 x 9 voxels; 1 x 0.05 x 0.1 mm, unknown for 1 of 2; 0 to 62" in capsys.readouterr().out
    assert main(["data", str(tmp_path / "a.png"), "--pixel-mm", "0.3"]) == 0
    assert "7 x 9 voxels; 1 x 0.3 x 0.3 mm; 0 to 62" in capsys.readouterr().out


def test_time_frames_are_listed_where_they_are_asked_for(tmp_path, capsys):
    write(tmp_path / "cine.nii.gz", Image.from_array(np.arange(4 * 60, dtype=np.int16).reshape(4, 3, 4, 5)))
    assert main(["data", str(tmp_path / "cine.nii.gz"), "--frames", "ed=0", "es=2"]) == 0
    told = capsys.readouterr().out
    assert "1 subject, 2 images" in told and "cine_es" in told and "140 to 159" in told


def test_images_and_label_maps_of_one_subject_are_one_subject(tmp_path, capsys):
    for folder, names in (("imagesTr", ("p1_0000", "p1_0001", "p2_0000")), ("labelsTr", ("p1", "p2"))):
        for name in names:
            write(
                tmp_path / folder / f"{name}.nii.gz", Image.from_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
            )
    assert main(["data", str(tmp_path)]) == 0
    assert "2 subjects, 5 images" in capsys.readouterr().out


def test_lists_whose_images_have_roles_ask_for_the_system(folder, tmp_path, capsys):
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "data/ann/scan.nii.gz"}]}))
    (tmp_path / "list.csv").write_text("subject,target\nann,data/ann/scan.nii.gz\n")
    arrays = {"train_images": np.zeros((5, 28, 28), np.uint8), "train_labels": np.zeros((5, 1), np.uint8)}
    np.savez(tmp_path / "list.npz", **arrays)
    for suffix, what in ((".json", "a list of cases"), (".csv", "a manifest"), (".npz", "a MedMNIST archive")):
        assert main(["data", str(tmp_path / f"list{suffix}")]) == 2
        told = capsys.readouterr().err
        assert f"list{suffix} is {what}, " in told and "--for" in told


def test_a_manifest_may_be_called_tsv(folder, tmp_path, capsys):
    (tmp_path / "list.tsv").write_text("Subject\tTarget\nann\tdata/ann/scan.nii.gz\nben\tdata/a[red]c/scan.nii.gz\n")
    assert main(["data", str(tmp_path / "list.tsv"), "--for", "wgan-vgg"]) == 0
    assert "subjects (cases): 1 for training (1), 1 for testing (1)" in capsys.readouterr().out


def test_cases_are_those_of_a_training_and_the_manifest_can_be_trained_on(folder, tmp_path, capsys):
    manifest = tmp_path / "cases.csv"
    words = ["data", str(folder), "--for", "wgan-vgg", "--test-subjects", "ann", "--write", str(manifest)]
    assert main(words) == 0
    assert "subjects (cases): 1 for training (1), 1 for testing (1)" in capsys.readouterr().out
    assert manifest.read_text().splitlines()[0] == "subject,target,split,label"
    assert main(["data", str(manifest), "--for", "wgan-vgg"]) == 0
    assert "subjects (cases): 1 for training (1), 1 for testing (1)" in capsys.readouterr().out


def test_what_training_would_refuse_is_told_by_the_exit_status(folder, capsys):
    write(folder / "ann" / "scan.nii.gz", Image.from_array(np.full((3, 16, 16), -7, np.int16), unit="HU"))
    assert main(["data", str(folder)]) == 0
    assert main(["data", str(folder), "--for", "wgan-vgg", "--test-subjects", "ann"]) == 3
    assert "cannot be used: ann_scan target: " in (told := capsys.readouterr().out)
    assert "has the same value -7 everywhere: it holds no picture" in told


def test_a_long_list_shows_some_images_of_every_subject(tmp_path, capsys):
    image = Image.from_array(np.ones((1, 8, 8), np.int16))
    for name in ("ann", "ben"):
        for number in range(20):
            write(tmp_path / "data" / name / f"s{number:02}.nii.gz", image)
    assert main(["data", str(tmp_path / "data")]) == 0
    told = capsys.readouterr().out
    assert "ben_s09" in told and "ben_s10" not in told and told.count("ann_") == 10
    assert "and 20 more" in told and "2 subjects, 40 images" in told


def test_what_cannot_be_read_is_told_by_the_exit_status(folder, capsys):
    (folder / "ann" / "scan.nii.gz").write_bytes(b"")
    assert main(["data", str(folder)]) == 3
    assert "cannot be read: ann_scan nifti: " in capsys.readouterr().out


def test_archives_of_images_are_cases_with_a_stable_identity(folder, tmp_path, capsys):
    for name in ("ann", "a[red]c"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.write(folder / name / "scan.nii.gz", "scan.nii.gz")
        shutil.rmtree(folder / name)
    manifest, words = tmp_path / "cases.csv", ["--for", "wgan-vgg", "--test-subjects", "ann"]
    assert main(["data", str(folder), *words, "--write", str(manifest)]) == 0
    assert "1 for training (1), 1 for testing (1)" in capsys.readouterr().out
    assert "ann,data/ann.zip,test," in manifest.read_text()
    assert main(["data", str(manifest), "--for", "wgan-vgg"]) == 0
    assert "1 for training (1), 1 for testing (1)" in capsys.readouterr().out
    script = (
        "import sys; from pathlib import Path; from ganatomy.data.cases import DataConfig, discover\n"
        "from ganatomy.inference.model import build\n"
        "cases = discover(build('wgan-vgg', {}).task, DataConfig(data=Path(sys.argv[1])))\n"
        "print(*sorted(case.fingerprint for case in cases))"
    )
    runs = [subprocess.run([sys.executable, "-c", script, folder], capture_output=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout.split()) == 2


def test_cases_of_whole_slides_have_pixels_of_the_size_that_is_asked_for(tmp_path, capsys):
    (tmp_path / "slides").mkdir()
    for number in range(4):
        with tifffile.TiffWriter(tmp_path / "slides" / f"{number}.tif") as file:
            for factor in (1, 2):
                values = np.full((96 // factor, 128 // factor, 3), 90 + number, np.uint8)
                values[:, : 64 // factor] = 200
                options = {"tile": (16, 16), "resolution": (2e4 / factor, 2e4 / factor), "photometric": "rgb"}
                file.write(values, metadata=None, resolutionunit="CENTIMETER", subfiletype=factor - 1, **options)
    words = ["data", str(tmp_path / "slides"), "--for", "cyclegan", "--source", "he", "--target", "ihc"]
    assert main([*words, "--mpp", "2", "--roles", "he=*.tif", "--he.channels", "3", "--ihc.channels", "3"]) == 0
    assert "he: 1 x 24 x 32 voxels; 1 x 0.002 x 0.002 mm; 90 to 200 in middle slices" in capsys.readouterr().out


def test_an_archive_of_several_images_is_no_place_of_one(folder, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("ann", "a[red]c"):
            archive.write(folder / name / "scan.nii.gz", f"{name}/scan.nii.gz")
    assert main(["data", str(tmp_path / "all.zip"), "--for", "wgan-vgg", "--write", str(tmp_path / "m.csv")]) == 2
    assert "all.zip holds other images, too" in capsys.readouterr().err
    assert not (tmp_path / "m.csv").exists()


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


def test_the_help_of_a_system_is_that_of_this_command(folder, capsys):
    with pytest.raises(SystemExit):
        main(["data", str(folder), "--for", "wgan-vgg", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("usage: ganatomy data FOLDER --for wgan-vgg ")
    assert "Show what WGAN-VGG would learn from in a data set." in told and "--write" in told
    assert main(["data", str(folder), "--for", "wgan-vgg", "--nothing", "1"]) == 2
    assert "(see ganatomy data FOLDER --for wgan-vgg --help)" in capsys.readouterr().err


def test_both_sides_of_a_patient_are_one_subject_unless_a_pattern_says_otherwise(tmp_path, capsys):
    for name in ("7_left", "7_right"):
        write(tmp_path / "eyes" / f"{name}.nii.gz", Image.from_array(np.arange(768, dtype=np.int16).reshape(3, 16, 16)))
    assert main(["data", str(tmp_path / "eyes")]) == 0
    assert "1 subject, 2 images" in capsys.readouterr().out
    assert main(["data", str(tmp_path / "eyes"), "--subject-pattern", "left|right"]) == 0
    assert "2 subjects, 2 images" in capsys.readouterr().out
    assert main(["data", str(tmp_path / "eyes"), "--for", "srgan"]) == 0
    assert "2 cases are of 1 subject by their names: 7_left" in capsys.readouterr().err


def test_data_that_do_not_fit_are_refused_with_a_manifest_that_would_do(folder, capsys):
    for path in folder.rglob("*.nii.gz"):
        write(path, Image.from_array(np.arange(768, dtype=np.int16).reshape(3, 16, 16)))
    assert main(["data", str(folder), "--for", "pix2pix", "--source", "mr", "--target", "ct"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ganatomy: ") and "nothing says which of its images are mr and which are ct" in said
    assert "    subject,mr,ct,split\n    anna,anna/mr.nii.gz,anna/ct.nii.gz,train\n" in said


def test_the_help_of_a_training_names_the_roles_as_they_are_called(capsys):
    with pytest.raises(SystemExit):
        main(["train", "pix2pix", "--source", "mr", "--target", "ct", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "mr: image (needed: yes); ct: image, in HU (needed: yes)" in told and "`subject,mr,ct,split`" in told
