"""Commands for systems with several input sequences, on a folder laid out like BRATS."""

import csv
import json

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

import ganatomy
from ganatomy import phantoms
from ganatomy.cli import main
from ganatomy.images.files import find, write
from ganatomy.images.image import Header, Image
from ganatomy.images.labelmaps import placed

SEQUENCES = ("flair", "t1", "t1c", "t2")
PATIENTS = 5
SMALL = ["--rounds", "4", "--patch", "32", "--batch-size", "2", "--width", "8", "--critic-width", "8", "--threads", "1"]


def patient(number):
    """Images of a tumour patient by name, 48 x 48 pixels and 6 slices, and the label map."""
    drawn = phantoms.make("brain-tumour-mr", number, size=48, slices=6)
    images = {name: phantoms.part(drawn, name) for name in SEQUENCES}
    return images, phantoms.part(drawn, "labels:tumour")


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    """Patients in folders of their own, and the manifest that names their flair, T1 and label map."""
    root = tmp_path_factory.mktemp("brats")
    lines = ["subject,flair,t1,tumour,split"]
    for number in range(PATIENTS):
        name = f"Brats17_{number}"
        images, labels = patient(number)
        for role, image in images.items():
            write(root / "BRATS" / name / f"{name}_{role}.nii.gz", image)
        write(root / "BRATS" / name / f"{name}_seg.nii.gz", labels)
        files = [f"BRATS/{name}/{name}_{part}.nii.gz" for part in ("flair", "t1", "seg")]
        lines.append(",".join([name, *files, "test" if number == PATIENTS - 1 else "train"]))
    (root / "brats.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(brats):
    """A run on the manifest, which has two of the four sequences."""
    arguments = ["train", "segan", "--data", str(brats / "brats.csv"), "--regions", "whole=1,2,4", "core=1,4"]
    assert main([*arguments, "--preset", "small", *SMALL, "--out", str(brats / "runs" / "s")]) == 0
    return brats / "runs" / "s"


def files(brats, number=PATIENTS - 1):
    name = f"Brats17_{number}"
    return {part: brats / "BRATS" / name / f"{name}_{part}.nii.gz" for part in (*SEQUENCES, "seg")}


def test_inputs_that_nobody_named_are_those_of_the_data(run):
    facts = ganatomy.load(run).facts
    assert facts.config["inputs"] == ["flair", "t1"] and list(facts.roles) == ["flair", "t1", "tumour"]
    assert facts.config["regions"] == {"whole": [1, 2, 4], "core": [1, 4]}


def test_inputs_by_name_become_a_label_map_on_their_grid(run, brats, tmp_path):
    own = files(brats)
    out = tmp_path / "OUT"
    assert main(["apply", str(run), f"flair={own['flair']}", f"t1={own['t1']}", "--out", str(out)]) == 0
    (made,) = out.glob("*.nii.gz")
    labels, flair = find(made)[0].open(), find(own["flair"])[0].open()
    assert labels.shape == flair.shape and np.allclose(labels.affine, flair.affine)
    assert labels.dtype == np.uint8 and set(np.unique(labels.numpy())) <= {0, 1, 2, 4}
    note = json.loads(next(out.glob("*.json")).read_text())
    assert {row["region"] for row in note["tables"]["volumes"]} == {"whole", "core"}
    table = out / note["outputs"]["volumes"]
    assert table.name == made.name.replace(".nii.gz", "-volumes.csv")
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == ["region", "whole", "core"]
    again = ["apply", str(run), f"flair={own['flair']}", f"t1={own['t1']}", "--out", str(out)]
    assert main(again) == 2 and main([*again, "--overwrite"]) == 0
    table.write_text("mine")
    next(out.glob("*.json")).unlink()
    made.unlink()
    assert main([*again, "--overwrite"]) == 2 and table.read_text() == "mine"
    assert set(note["sources"]) == {"flair", "t1"}


def test_a_study_is_taken_apart_by_its_series(run, tmp_path):
    images, _ = patient(PATIENTS - 1)
    shared, described = generate_uid(), {"flair": "AX FLAIR", "t1": "AX T1", "t1c": "AX T1 POST", "t2": "AX T2"}
    for number, (role, text) in enumerate(described.items()):
        values = np.rint(images[role].numpy()).astype(np.int16)
        image = Image(values, images[role].affine, "a.u.", Header(modality="MR", subject="anna"))
        write(tmp_path / "STUDY" / role, image)
        for path in (tmp_path / "STUDY" / role).iterdir():
            file = pydicom.dcmread(path)
            file.SeriesDescription, file.StudyInstanceUID, file.PatientID = text, shared, "anna"
            file.SeriesNumber = number
            file.save_as(path)
    arguments = ["apply", str(run), str(tmp_path / "STUDY"), "--series", "flair=*FLAIR*", "t1=AX T1"]
    out = tmp_path / "OUT"
    assert main([*arguments, "--resample-to", "t1", "--out", str(out)]) == 0
    assert placed(find(out)[0].labelled().open(), images["t1"]).shape == images["t1"].shape


def test_a_pattern_that_fits_two_series_or_files_is_refused(run, brats, tmp_path, capsys):
    arguments = ["apply", str(run), str(brats / "BRATS"), "--roles", "flair=*flair*", "t1=*_t1*"]
    assert main([*arguments, "--out", str(tmp_path / "OUT")]) == 2
    said = capsys.readouterr().err
    assert "_t1.nii.gz" in said and "_t1c.nii.gz" in said and said.count("\n") == 1


def test_a_folder_is_taken_apart_by_file_names(run, brats, tmp_path):
    arguments = ["apply", str(run), str(brats / "BRATS"), "--roles", "flair=*_flair.nii.gz", "t1=*_t1.nii.gz"]
    assert main([*arguments, "--out", str(tmp_path / "OUT")]) == 0
    assert len(list((tmp_path / "OUT").glob("*.nii.gz"))) == PATIENTS


def test_images_on_different_grids_are_refused_with_the_remedy(run, brats, tmp_path, capsys):
    own = files(brats)
    t1 = find(own["t1"])[0].open()
    affine = t1.affine.copy()
    affine[:3, 3] += [4, 0, 0]
    write(tmp_path / "moved.nii.gz", Image(t1.numpy(), affine, t1.unit))
    arguments = ["apply", str(run), f"flair={own['flair']}", f"t1={tmp_path / 'moved.nii.gz'}"]
    assert main([*arguments, "--out", str(tmp_path / "a.nii.gz")]) == 2
    said = capsys.readouterr().err
    assert "moved.nii.gz" in said and "4 mm apart" in said and "--resample-to flair" in said
    assert main([*arguments, "--out", str(tmp_path / "a.nii.gz"), "--resample-to", "flair"]) == 0


def test_the_python_lines(brats, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = files(brats)
    small = {"rounds": 2, "patch": 32, "batch_size": 2, "width": 8, "critic_width": 8, "threads": 1}
    regions = {"whole": [1, 2, 4], "core": [1, 4]}
    model = ganatomy.train("segan", brats / "brats.csv", out="runs/s", preset="small", regions=regions, **small)
    array = find(own["t1"])[0].open().numpy()[0]
    found = model(flair=own["flair"], t1=array)
    found["tumour"].save("tumour.nii.gz")
    saved = find(tmp_path / "tumour.nii.gz")[0].open()
    assert np.array_equal(saved.numpy(), found["tumour"].numpy()) and saved.shape == (6, 48, 48)
    assert [row["region"] for row in found.tables["volumes"]] == ["whole", "core"]


def test_a_stored_orientation_makes_no_difference(run, brats, tmp_path):
    """Volumes that are stored as coronal slices from the feet up give the same labels, in their own grid."""
    own, turned = files(brats), {}
    for role in ("flair", "t1"):
        image = find(own[role])[0].open()
        order = np.eye(4)[:, [1, 0, 2, 3]]
        values = np.ascontiguousarray(image.numpy().transpose(0, 2, 1, 3)[:, ::-1])
        flip = np.eye(4)
        flip[0, 0], flip[0, 3] = -1, values.shape[1] - 1
        turned[role] = tmp_path / f"{role}.nii.gz"
        write(turned[role], Image(values, image.affine @ order @ flip, image.unit))
    model = ganatomy.load(run)
    plain = model(flair=own["flair"], t1=own["t1"])["tumour"].numpy()
    other = model(**turned)["tumour"]
    assert other.shape == find(turned["t1"])[0].open().shape
    assert np.array_equal(other.numpy()[:, ::-1].transpose(0, 2, 1, 3), plain)


def test_the_run_is_judged_by_region(run):
    assert main(["evaluate", str(run)]) == 0
    with (run / "evaluation" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["method"] for row in rows} >= {"output"} and any("dice" in name for name in rows[0])


def test_a_ct_without_a_unit_takes_a_window_that_is_looked_at(tmp_path):
    random = np.random.default_rng(0)
    for number in range(4):
        ct = random.normal(40, 60, (2, 24, 24)).astype(np.float32)
        ct[:, :8] = -1000
        for role, values in {"ct": ct, "mr": np.abs(ct)}.items():
            write(tmp_path / "PAIRS" / role / f"{number}.nii.gz", Image.from_array(values, (3.0, 1.0, 2.0)))
    arguments = ["train", "pix2pix", "--source", "mr", "--target", "ct", "--ct.window", "-160", "240"]
    small = ["--preset", "small", "--rounds", "1", "--size", "32", "32", "--levels", "3", "--batch-size", "2"]
    out = ["--data", str(tmp_path / "PAIRS"), "--out", str(tmp_path / "runs" / "p"), "--threads", "1"]
    assert main([*arguments, *small, *out]) == 0
    assert ganatomy.load(tmp_path / "runs" / "p").facts.config["roles"]["ct"]["unit"] == "HU"


def test_images_of_two_patients_and_one_for_two_roles_are_told(run, brats, tmp_path, capsys):
    images, paths = patient(0)[0], {}
    for role, name in {"flair": "anna", "t1": "ben"}.items():
        values = np.rint(images[role].numpy()).astype(np.int16)
        paths[role] = tmp_path / role
        write(paths[role], Image(values, images[role].affine, "a.u.", Header(modality="MR")))
        for path in paths[role].iterdir():
            file = pydicom.dcmread(path)
            file.PatientID = name
            file.save_as(path)
    arguments = ["apply", str(run), f"flair={paths['flair']}", f"t1={paths['t1']}", "--out", str(tmp_path / "OUT")]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "OUT") and find(tmp_path / "OUT")[0].modality == "SEG"
    assert "different patients" in said.err
    twice = files(brats)["t1"]
    assert main(["apply", str(run), f"flair={twice}", f"t1={twice}", "--out", str(tmp_path / "b.nii.gz")]) == 0
    assert "given for more than one role" in capsys.readouterr().err
