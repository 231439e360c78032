"""Mistakes of the user: one line that names the mistake, exit code 2, and no half-written output."""

import os
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from ganatomy.cli import COMMANDS, main
from ganatomy.images.files import write
from ganatomy.images.image import Image

TINY = ["--preset", "small", "--rounds", "1", "--batch-size", "2", "--patch", "32", "--views", "60"]


@pytest.fixture
def refused(capfd, tmp_path):
    """Return a function that runs a command that must fail, and returns its error message."""

    def run(*words):
        before = set(tmp_path.rglob("*"))
        code = main(["--quiet", *[str(word) for word in words]])
        said = capfd.readouterr()
        assert code == 2, said.err
        told, advice, _ = said.err.partition("What can be given to --data:")
        assert told.startswith("ganatomy: ") and told.count("\n") == 1, said.err
        assert not advice or "\n    subject," in said.err, "advice ends with a manifest"
        assert said.out == ""
        assert set(tmp_path.rglob("*")) - before <= {tmp_path / "cache"}
        return told.removeprefix("ganatomy: ").rstrip("\n")

    return run


@pytest.fixture
def trains(refused, tmp_path):
    """Return a function that trains on unusable data and returns the error message."""

    def run(data, *options):
        return refused(
            "train",
            "wgan-vgg",
            "--data",
            data,
            "--out",
            tmp_path / "run",
            "--cache",
            tmp_path / "cache",
            *TINY,
            *options,
        )

    return run


def slices(folder, count=4, modality="CT", positions=None, sizes=None, drop=None):
    """A DICOM series of random numbers; returns its files."""
    folder.mkdir()
    uid, paths = generate_uid(), []
    for index in range(count):
        data = Dataset()
        data.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID = generate_uid(), uid, uid
        data.Modality, data.PatientID, data.SeriesNumber, data.InstanceNumber = modality, "P", 1, index
        data.ImagePositionPatient = [0.0, 0.0, float(positions[index] if positions else 2 * index)]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [1.0, 1.0], "2"
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows = data.Columns = sizes[index] if sizes else 16
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        if modality == "CT":
            data.RescaleIntercept, data.RescaleSlope = -1024, 1
        pixels = np.random.default_rng(index).integers(0, 2000, (data.Rows, data.Columns)).astype(np.uint16)
        data.PixelData = pixels.tobytes()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        paths.append(folder / f"{index}.dcm")
        pydicom.dcmwrite(paths[-1], data, enforce_file_format=True)
    return paths


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trane"], "unknown command 'trane'; did you mean train? there are data, train, evaluate"),
        (["xyzzy"], "unknown command 'xyzzy'; there are data, train"),
        (["train", "wgn-vgg", "--out", "r"], "unknown system 'wgn-vgg'; did you mean wgan-vgg?"),
        (["train", "--out", "r"], "train needs a system before --out"),
        (["train", "wgan-vgg"], "missing option --out PATH"),
        (["train", "wgan-vgg", "--out"], "Missing value for argument '--out'"),
        (["train", "wgan-vgg", "--out", "r", "--roundz", "3"], "--roundz, 3 - perhaps you meant --rounds"),
        (["train", "wgan-vgg", "--out", "r", "--rounds", "x"], "--rounds"),
        (["train", "wgan-vgg", "--out", "r", "--rounds", "0"], "option --rounds: input should be greater than"),
        (["train", "wgan-vgg", "--out", "r", "--learning-rate", "nan"], "option --learning-rate: input should be"),
        (["train", "wgan-vgg", "--out", "r", "--views", "0"], "option --views"),
        (["train", "wgan-vgg", "--out", "r", "--variant", "gan"], "'gan' for argument '--variant'"),
        (["train", "wgan-vgg", "--out", "r", "--preset", "huge"], "--preset huge: unknown; this system has paper"),
        (["train", "wgan-vgg", "--out", "r", "--preset"], "--preset"),
        (["train", "wgan-vgg", "--out", "r", "--config", "none.yaml"], "--config none.yaml: no such file"),
        (["train", "wgan-vgg", "--out", "r", "--monitor", "beauty"], "--monitor beauty: choose from psnr"),
        (["train", "wgan-vgg", "--out", "r", "--device", "tpu"], "--device tpu: use cpu, cuda or auto"),
        (["train", "wgan-vgg", "--out", "r", "--data", "none"], "none does not exist"),
        (["train", "wgan-vgg", "--out", "r", "--test-subjects", "bob"], "subject 'bob' is not in the data"),
        (["train", "wgan-vgg", "--out", "r", "--resume"], "r: no run here (run.yaml is missing)"),
        (
            ["train", "wgan-vgg", "--out", "r", "--features", "vgg19", "--features-file", "no.pth"],
            "no.pth: no such file",
        ),
        (["info", "wgn"], "unknown system 'wgn'"),
        (["info", "a", "b"], "info takes one system, not 2"),
        (["list", "zzz"], "no system matches 'zzz'"),
        (["list", "a", "b"], "list takes one pattern, not 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_make_no_sense(refused, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    assert told in refused(*words)


def test_a_planned_system(refused):
    from ganatomy import catalogue

    planned = next(system.slug for system in catalogue.SYSTEMS if system.state == "planned")
    assert "is planned and cannot be used yet; ready are" in refused("train", planned, "--out", "r")


def test_a_gpu_that_is_not_there(refused, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda: this machine has no usable GPU" in refused(
        "train", "wgan-vgg", "--out", tmp_path / "r", "--device", "cuda"
    )


def test_an_empty_folder(trains, tmp_path):
    (tmp_path / "data").mkdir()
    assert f"{tmp_path / 'data'} holds no image" in trains(tmp_path / "data")


def test_a_damaged_series(trains, tmp_path):
    path = slices(tmp_path / "data")[2]
    path.write_bytes(path.read_bytes()[:300])
    assert "2.dcm" in trains(tmp_path / "data")


def test_a_series_whose_pixels_are_cut_off(trains, tmp_path):
    path = slices(tmp_path / "data")[2]
    path.write_bytes(path.read_bytes()[:-200])
    assert "2.dcm" in trains(tmp_path / "data")


def test_something_that_only_claims_to_be_dicom(trains, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.dcm").write_bytes(os.urandom(400))
    assert "a.dcm is not DICOM" in trains(tmp_path / "data")


def test_uneven_slices(trains, tmp_path):
    slices(tmp_path / "data", positions=[0, 2, 4, 9])
    assert "is not evenly spaced" in trains(tmp_path / "data")


def test_sizes_that_differ_within_a_series(trains, tmp_path):
    slices(tmp_path / "data", sizes=[16, 16, 20, 16])
    assert "2.dcm has 20x20 pixels" in trains(tmp_path / "data")


def test_another_modality(trains, tmp_path):
    slices(tmp_path / "data", modality="MR")
    assert "modality MR, but this system takes CT as target" in trains(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("flat.nii.gz", np.full((2, 16, 16), 7, np.float32), "same value 7 everywhere"),
        ("nan.nii.gz", np.where(np.eye(16) > 0, np.nan, -100).astype(np.float32)[None], "NaN or infinite"),
        ("grey.png", np.arange(256, dtype=np.uint8).reshape(1, 16, 16), "is no CT"),
        (
            "red.png",
            np.arange(768, dtype=np.uint8).reshape(3, 1, 16, 16),
            "3 channels, but the system works with 1 for target; give other images",
        ),
    ],
)
def test_images_that_hold_something_else(trains, tmp_path, name, values, told):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / name, Image.from_array(values, unit="HU" if "nii" in name else None))
    said = trains(tmp_path / "data")
    assert told in said and name in said


def test_a_manifest_with_a_mistake(trains, tmp_path):
    (tmp_path / "list.csv").write_text("subject,target\nA,none.nii.gz\n")
    assert "list.csv line 2" in trains(tmp_path / "list.csv")


def test_images_of_one_kind_where_two_are_needed(refused, tmp_path, tmp_path_factory):
    (tmp_path / "images").mkdir()
    for number in range(6):
        image = Image.from_array(np.random.default_rng(number).uniform(0, 900, (2, 64, 64)).astype(np.float32))
        write(tmp_path / "images" / f"{number}.nii.gz", image)
    words = ("--data", tmp_path / "images", "--out", tmp_path / "run", "--cache", tmp_path_factory.mktemp("cache"))
    told = refused("train", "cyclegan", "--preset", "small", *words)
    assert "images: nothing says which of its images are t1 and which are t2; assign them with --roles, such as" in told
    (tmp_path / "images").rename(tmp_path / "t1")
    (tmp_path / "list.csv").write_text("subject,t1\n" + "".join(f"{n},t1/{n}.nii.gz\n" for n in range(6)))
    words = ("--data", tmp_path / "list.csv", *words[2:])
    assert refused("train", "cyclegan", "--preset", "small", *words) == (
        "no training case has the roles t2: none has t2; call roles what the data call them"
    )


def test_places_that_cannot_be_written(refused, cases, tmp_path):
    (tmp_path / "file").write_text("mine")
    phantom = ["--phantom-subjects", "4", "--phantom-size", "96", *TINY]
    blocked = refused("train", "wgan-vgg", "--out", tmp_path / "file" / "run", "--cache", cases, *phantom)
    assert blocked == f"--out {tmp_path}/file/run: Not a directory; choose a folder you may write to"
    cache = tmp_path / "file" / "cache"
    assert f"cache folder {cache} (--cache chooses another): Not a directory" in refused(
        "train", "wgan-vgg", "--out", tmp_path / "run", "--cache", cache, *phantom
    )


def test_a_run_that_exists(refused, trained):
    assert "already holds a run; add --resume" in refused("train", "wgan-vgg", "--out", trained)


@pytest.mark.parametrize("text", ["", "[", "system: sagan-ct", "system: wgan-vgg\ndata: 3\nconfig: {}", "3"])
def test_a_config_that_is_no_run(refused, tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    said = refused("train", "wgan-vgg", "--config", tmp_path / "run.yaml", "--out", tmp_path / "run")
    assert said.startswith(f"{tmp_path / 'run.yaml'}: ")


def process(*words, code=None):
    program = ["-c", code] if code else ["-m", "ganatomy", *words]
    return subprocess.run([sys.executable, *program], capture_output=True, text=True, check=False, timeout=200)


def test_a_process_of_its_own_says_no_more(tmp_path):
    done = process("train", "wgan-vgg", "--data", str(tmp_path), "--out", str(tmp_path / "run"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ganatomy: {tmp_path} holds no image: it takes DICOM, NIfTI (.nii, .nii.gz), ")
    assert done.stderr.endswith(", or a folder of these\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], ["list"], ["--version"], ["nonsense"]])
def test_the_overview_imports_nothing_heavy(words):
    code = f"import sys; from ganatomy.cli import main; main({words}); print('modules', *sys.modules)"
    modules = set(process(code=code).stdout.splitlines()[-1].split())
    assert "modules" in modules and not modules & {"torch", "numpy", "pydantic", "tyro"}


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0 and main([]) == 2
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


def test_a_reader_that_goes_away_is_no_error():
    listing = subprocess.Popen(
        [sys.executable, "-m", "ganatomy", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    listing.stdout.close()
    assert listing.stderr.read() == b"" and listing.wait() == 141
