"""No series and no cohort is shortened or scrambled in silence."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ganatomy.errors import Shortage, UserError
from ganatomy.images import dicom_frames
from ganatomy.images.dicom import MOST_FRAMES
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Image

FLAT = Image.from_array(np.arange(12, dtype=np.uint8).reshape(3, 4))


def problems(folder):
    """Return name of each image that is found to its problem."""
    return {source.name: source.problem for source in find(folder)}


def linked(path):
    path.unlink()
    path.symlink_to("nowhere")


def piped(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "link to nowhere": linked,
    "pipe": piped,
    "preamble alone": lambda path: path.write_bytes(path.read_bytes()[:132]),
    "meta header alone": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "shorter than a preamble": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "without pixels": lambda path: path.write_bytes(path.read_bytes()[:-82]),
    "pixels cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "another mark": lambda path: path.write_bytes(path.read_bytes().replace(b"DICM", b"DICN", 1)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["", ".dcm", ".7"])
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_no_slice_vanishes(tmp_path, series, damage, suffix):
    series(tmp_path / "scan")
    series(tmp_path / "other")
    for path in list((tmp_path / "scan").iterdir()):
        path.rename(path.with_name(f"{path.name}{suffix}"))
    victim = max((tmp_path / "scan").iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    DAMAGES[damage](victim)
    told = problems(tmp_path)
    assert victim.name in told["scan"] and told["other"] is None
    with pytest.raises(UserError, match=victim.name):
        read(tmp_path / "scan")


def test_what_is_clearly_no_slice_damages_no_series(tmp_path, series):
    series(tmp_path / "scan")
    for name in ("notes.txt", "index.csv", "meta.json", "page.html", "DICOMDIR", ".hidden"):
        (tmp_path / "scan" / name).touch()
    (tmp_path / "scan" / "LICENSE").write_text("to do as you please")
    (tmp_path / "scan" / "viewer.exe").write_bytes(b"MZ\0\0" * 99)
    assert problems(tmp_path) == {"scan": None}


def test_a_damaged_slice_concerns_its_own_series_alone(tmp_path, series):
    for number in range(3):
        series(tmp_path / str(number), SeriesInstanceUID=f"1.2.{number}", SeriesDescription=f"s{number}")
        for path in list((tmp_path / str(number)).iterdir()):
            path.rename(tmp_path / f"{number}{path.name}")
    victim = tmp_path / "1002"
    victim.write_bytes(victim.read_bytes()[:-5])
    told = {source.frames[0].description: source.problem for source in find(tmp_path)}
    assert victim.name in told.pop("s1") and told == {"s0": None, "s2": None}


def test_a_series_of_which_every_slice_is_damaged_is_listed(tmp_path, series, slice_file):
    series(tmp_path, SeriesInstanceUID="1.2.1")
    slice_file(tmp_path / "lost.dcm", np.zeros((5, 7), np.uint16), SeriesInstanceUID="1.2.2")
    (tmp_path / "lost.dcm").write_bytes((tmp_path / "lost.dcm").read_bytes()[:-5])
    found = find(tmp_path)
    assert [source.problem is None for source in found] == [True, False]
    assert "lost.dcm" in str(found[1].problem)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"PatientID": "P-8"}, "another patient"),
        ({"PatientID": None}, "another patient"),
        ({"Modality": "MR", "RescaleType": "HU"}, "MR where the others have CT"),
        ({"PixelSpacing": [0.75, 0.6]}, "0.6"),
        ({"RescaleType": "MGML"}, "MGML where the others have HU"),
        ({"RescaleIntercept": None}, "RescaleSlope where the others have RescaleSlope and RescaleIntercept"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "no rescale where the others have RescaleSlope and"),
        ({"ImagePositionPatient": None}, "no position"),
    ],
)
def test_slices_that_do_not_belong_to_a_series_are_refused(tmp_path, series, slice_file, attributes, words):
    series(tmp_path / "scan")
    slice_file(tmp_path / "scan" / "stranger", np.zeros((5, 7), np.uint16), z=112.0, BitsStored=12, **attributes)
    (told,) = problems(tmp_path).values()
    assert "stranger" in told and words in told and "P-" not in told
    assert np.isclose(read(move(tmp_path / "scan" / "stranger")).spacing[1], 0.75)


def move(path):
    """Move a file to a folder of its own, as the message says, and check that its series is whole without it."""
    (path.parent.parent / "own").mkdir()
    moved = path.rename(path.parent.parent / "own" / path.name)
    assert read(path.parent).shape[0] == 6
    return moved


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"ImagePositionPatient": ["0", "0", "nan"]}, "ImagePositionPatient"),
        ({"ImagePositionPatient": ["0", "0", "inf"]}, "ImagePositionPatient"),
        ({"ImagePositionPatient": ["0", "0"]}, "cannot be read as DICOM"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": ["nan", 0, 0, 0, 1, 0]}, "ImageOrientationPatient"),
        ({"PixelSpacing": [0, 0.5]}, "PixelSpacing"),
        ({"PixelSpacing": [-0.5, 0.5]}, "PixelSpacing"),
        ({"PixelSpacing": ["nan", 0.5]}, "PixelSpacing"),
        ({"RescaleSlope": "0"}, "RescaleSlope"),
        ({"RescaleIntercept": "nan"}, "RescaleSlope"),
        ({"Rows": 0}, "impossible sizes"),
        ({"Columns": 60000}, "truncated"),
        ({"BitsStored": 17}, "impossible sizes"),
        ({"NumberOfFrames": str(MOST_FRAMES + 1)}, "impossible sizes"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_impossible_headers_are_refused(tmp_path, slice_file, attributes, words):
    slice_file(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), **attributes)
    with pytest.raises(UserError, match=rf"a\.dcm.*{words}"):
        read(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tif", "a.npy", "a.h5", "a.dcm"])
def test_empty_files_and_links_to_nowhere_are_listed(tmp_path, name):
    write(tmp_path / "sound.png", FLAT)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / name).touch()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / name).symlink_to("nowhere")
    (tmp_path / "three" / name).mkdir(parents=True)
    told = problems(tmp_path)
    assert len(told) == 4 and told.pop("sound") is None
    assert all(name in problem for problem in told.values())


def unlistable(monkeypatch, name, error):
    real = os.scandir

    def scan(path):
        if Path(path).name == name:
            raise error(13, "Permission denied", str(path)) if error is PermissionError else error
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_go_on(tmp_path, series, monkeypatch):
    for name in ("anna", "ben"):
        series(tmp_path / name)
    unlistable(monkeypatch, "ben", PermissionError)
    told = problems(tmp_path)
    assert told.pop("anna") is None
    assert "ben cannot be listed: Permission denied" in told["ben"]
    with pytest.raises(UserError, match="ben cannot be listed"):
        find(tmp_path / "ben")


def test_a_lack_of_files_stops_the_search(tmp_path, series, monkeypatch):
    series(tmp_path / "ben")
    unlistable(monkeypatch, "ben", OSError(24, "Too many open files"))
    with pytest.raises(Shortage):
        find(tmp_path)


def test_linked_folders_are_searched_once(tmp_path, series):
    series(tmp_path / "archive" / "far")
    root = tmp_path / "study"
    write(root / "near" / "a.png", FLAT)
    (root / "far").symlink_to(tmp_path / "archive" / "far")
    (root / "again").symlink_to(root / "near")
    (tmp_path / "archive" / "far" / "back").symlink_to(root)
    (root / "near" / "up").symlink_to(root)
    assert set(problems(root)) == {"far", "near_a"}


def test_names_that_are_not_utf8_can_be_read_and_printed(tmp_path):
    for byte in (b"\xe9", b"\xe8"):
        write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf" + byte)) / "x.npy", FLAT)
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.nii"))).write_bytes(b"no volume")
    found = find(tmp_path)
    assert len({source.name for source in found}) == 3
    assert len({source.subject for source in found}) == 2
    for source in found:
        assert (source.name + source.subject).encode()
    with pytest.raises(UserError, match=r"caf\\udce9\.nii cannot be read") as caught:
        next(source for source in found if source.kind == "nifti").open()
    assert str(caught.value).encode()


def test_a_name_that_is_too_long_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / ("x" * 5000))


def test_many_frames_share_a_header_that_is_read_once(tmp_path, slice_file, monkeypatch):
    data = slice_file(tmp_path / "a.dcm", np.zeros((2, 2), np.uint16), NumberOfFrames="500", ImagePositionPatient=None)
    data.PixelData = np.repeat(np.arange(500, dtype=np.uint16), 4).tobytes()
    data.save_as(tmp_path / "a.dcm")
    read_headers = []
    real = dicom_frames._frame
    monkeypatch.setattr(
        dicom_frames, "_frame", lambda *arguments: (read_headers.append(arguments), real(*arguments))[1]
    )
    image = read(tmp_path / "a.dcm")
    assert len(read_headers) == 1
    assert image.slab(499, 500)[0, 0, 0, 0] == 499 - 1024
