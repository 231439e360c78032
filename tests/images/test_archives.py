import gzip
import os
import stat
import struct
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from ganatomy.errors import Notice, Shortage, UserError
from ganatomy.images import archives, leftovers, parsing
from ganatomy.images.files import find, read, survey, write
from ganatomy.images.image import Image
from ganatomy.images.parsing import CEILING

VOLUME = Image.from_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (2.0, 0.8, 0.7), "HU")
FLAT = Image.from_array(np.arange(12, dtype=np.uint8).reshape(3, 4))


def zipped(path, folder, method=zipfile.ZIP_DEFLATED):
    """Zip a folder's content with the names of its files below it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def packed(path, members):
    """Write an archive with members given as name to bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def compressed(folder, into):
    into.mkdir(parents=True)
    for file in sorted(folder.iterdir()):
        (into / f"{file.name}.dcm.gz").write_bytes(gzip.compress(file.read_bytes()))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_series_in_an_archive_is_the_series_in_its_folder(tmp_path, series, method):
    values = series(tmp_path / "in")
    whole = read(tmp_path / "in")
    image = read(zipped(tmp_path / "scan.zip", tmp_path / "in", method))
    np.testing.assert_array_equal(image.numpy()[0], values)
    np.testing.assert_array_equal(image.affine, whole.affine)
    (source,) = find(tmp_path / "scan.zip")
    assert (source.name, source.subject, source.folder) == ("scan", "P-7", tmp_path / "scan.zip")
    assert {place.parent for place in source.places} == {tmp_path / "scan.zip"}


def test_an_archive_counts_as_a_folder_with_all_its_images(tmp_path, series):
    inner = tmp_path / "in"
    series(inner / "thin", PatientID="A1", SeriesInstanceUID="1.2.1")
    series(inner / "thick", slices=3, PatientID="", SeriesInstanceUID="1.2.2")
    for name in ("deep/v.nii.gz", "p.png", "v.mha"):
        (inner / name).parent.mkdir(exist_ok=True)
        write(inner / name, FLAT if name.endswith("png") else VOLUME)
    (inner / "README.txt").write_text("no image")
    zipped(tmp_path / "all" / "ben.zip", inner)
    write(tmp_path / "all" / "carl.nii", VOLUME)
    found = {one.name: (one.subject, one.open().shape) for one in find(tmp_path / "all")}
    assert found == {
        "ben_thin": ("A1", (6, 5, 7)),
        "ben_thick": ("ben", (3, 5, 7)),
        "ben_deep_v": ("ben", (3, 4, 5)),
        "ben_p": ("ben", (1, 3, 4)),
        "ben_v": ("ben", (3, 4, 5)),
        "carl": ("carl", (3, 4, 5)),
    }
    assert set(found) == {f"ben_{one.name}" for one in find(tmp_path / "all" / "ben.zip")} | {"carl"}


def test_series_of_one_folder_of_an_archive_are_several_images(tmp_path, slice_file):
    for number in (1, 2):
        for index in range(number + 2):
            at = {"SeriesInstanceUID": f"1.2.{number}", "SeriesDescription": f"phase {number}", "SeriesNumber": number}
            slice_file(tmp_path / "in" / f"{number}{index}", np.full((4, 6), number, np.uint16), z=2.0 * index, **at)
    sources = find(zipped(tmp_path / "scan.zip", tmp_path / "in"))
    assert [(one.name, one.open().shape) for one in sources] == [
        ("scan_phase_1", (3, 4, 6)),
        ("scan_phase_2", (4, 4, 6)),
    ]
    with pytest.raises(UserError, match=r"scan\.zip holds 2 images \(scan_phase_1, scan_phase_2\)"):
        read(tmp_path / "scan.zip")


def test_a_series_split_over_two_archives_and_a_folder_is_one(tmp_path, series):
    values = series(tmp_path / "in")
    files = sorted((tmp_path / "in").iterdir())
    (tmp_path / "all").mkdir()
    packed(tmp_path / "all" / "a.zip", {one.name: one.read_bytes() for one in files[:2]})
    packed(tmp_path / "all" / "b.zip", {one.name: one.read_bytes() for one in files[2:4]})
    for one in files[4:]:
        one.rename(tmp_path / "all" / one.name)
    np.testing.assert_array_equal(read(tmp_path / "all").numpy()[0], values)


def test_an_archive_beside_what_was_unpacked_from_it_gives_copies_that_are_told(tmp_path, series):
    values = series(tmp_path / "all" / "scan")
    zipped(tmp_path / "all" / "scan.zip", tmp_path / "all" / "scan")
    with pytest.warns(Notice, match=r"copies of other DICOM files \(6\)"):
        np.testing.assert_array_equal(read(tmp_path / "all").numpy()[0], values)


def test_compressed_dicom_files_are_a_series(tmp_path, series):
    values = series(tmp_path / "in")
    compressed(tmp_path / "in", tmp_path / "out" / "ct")
    (source,) = find(tmp_path / "out")
    assert (source.name, source.subject) == ("ct", "P-7")
    np.testing.assert_array_equal(source.open().numpy()[0], values)
    (one,) = find(tmp_path / "out" / "ct" / "003.dcm.gz")
    assert one.name == "003" and one.places == (tmp_path / "out" / "ct" / "003.dcm.gz",)
    assert one.open().shape == (1, 5, 7)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: b"no gzip" * 20])
def test_a_damaged_compressed_slice_is_a_problem_of_its_series(tmp_path, series, damage):
    series(tmp_path / "in")
    compressed(tmp_path / "in", tmp_path / "ct")
    victim = tmp_path / "ct" / "002.dcm.gz"
    victim.write_bytes(damage(victim.read_bytes()))
    problems = [one.problem for one in find(tmp_path / "ct") if one.problem]
    assert problems and all("002.dcm.gz" in problem and "unpacked" not in problem for problem in problems)


def test_a_time_of_a_file_is_that_of_its_archive_and_a_changed_archive_is_read_again(tmp_path):
    write(tmp_path / "v.nii", VOLUME)
    path = packed(tmp_path / "a.zip", {"v.nii": (tmp_path / "v.nii").read_bytes()})
    (source,) = find(path)
    assert source.paths[0].stat().st_mtime_ns == path.stat().st_mtime_ns
    write(tmp_path / "v.nii", VOLUME.with_array(VOLUME.numpy() + np.int16(7)))
    packed(path, {"v.nii": (tmp_path / "v.nii").read_bytes()})
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(read(path).numpy(), VOLUME.numpy() + 7)


@pytest.mark.parametrize(
    "name", ["../v.nii", "a/../../v.nii", "/tmp/v.nii", "C:/v.nii", "..\\v.nii", "\\\\host\\v.nii", "a/v\0.nii"]
)
def test_a_member_that_would_lie_elsewhere_refuses_the_archive(tmp_path, name):
    path = tmp_path / "a" / "evil.zip"
    path.parent.mkdir()
    info = zipfile.ZipInfo("placeholder")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.npy", b"")
        info.filename = info.orig_filename = name
        archive.writestr(info, b"x")
    (source,) = find(path)
    assert "evil.zip: its member" in source.problem and "outside" in source.problem
    assert "would lie outside" in find(path.parent)[0].problem
    assert [one.name for one in tmp_path.rglob("*")] == ["a", "evil.zip"]


def test_folders_of_windows_are_folders(tmp_path):
    write(tmp_path / "v.nii", VOLUME)
    info = zipfile.ZipInfo("x")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info.filename = info.orig_filename = "deep\\v.nii"
        archive.writestr(info, (tmp_path / "v.nii").read_bytes())
    (source,) = find(tmp_path / "a.zip")
    assert source.name == "deep_v" and source.open().shape == VOLUME.shape


def changed_entry(path, offset, form, value):
    """Change a field of the only entry of an archive, both in its own header and in the list of members."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(b"PK\x01\x02") + offset, value)
    struct.pack_into(form, data, data.index(b"PK\x03\x04") + offset - 2, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "form", "value", "words"),
    [
        (8, "<H", 1, "'v.nii' is encrypted"),
        (10, "<H", 14, "not compressed by deflate"),
        (10, "<H", 99, "not compressed by deflate"),
        (24, "<I", CEILING + 1, "declares"),
        (16, "<I", 77, "CRC"),
    ],
    ids=["encrypted", "lzma", "aes", "too large", "checksum"],
)
def test_archives_that_cannot_be_read_are_refused_by_name(tmp_path, offset, form, value, words):
    write(tmp_path / "v.nii", VOLUME)
    path = packed(tmp_path / "a.zip", {"v.nii": (tmp_path / "v.nii").read_bytes()})
    assert read(path).shape == VOLUME.shape
    changed_entry(path, offset, form, value)
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert "a.zip" in str(caught.value) and "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = packed(tmp_path / "bomb.zip", {"0.npy": bytes(20 << 20)})
    data = path.read_bytes()
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries = b"".join(data[begin:end].replace(b"0.npy", b"%d.npy" % number) for number in range(5))
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 5, 5, len(entries))
    path.write_bytes(data[:begin] + entries + tail)  # five members that are stored in one place
    monkeypatch.setattr(archives, "_copy", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(UserError, match=r"bomb\.zip declares 104857600 bytes, more than"):
        read(path)


def test_a_compressed_file_that_inflates_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parsing, "FLOOR", 3 << 20)
    monkeypatch.setattr(parsing, "FOLD", 500)
    (tmp_path / "x.dcm.gz").write_bytes(gzip.compress(bytes(5 << 20)))
    with pytest.raises(UserError, match=r"x\.dcm\.gz declares 4194304 bytes, more than"):
        read(tmp_path / "x.dcm.gz")
    assert not any(archives._home().rglob("x.dcm"))


def test_a_list_of_members_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "DIRECTORY", 1000)
    packed(tmp_path / "few.zip", {"a.txt": b"x"})
    path = packed(tmp_path / "many.zip", {f"{number:04d}": b"" for number in range(40)})
    assert "list of members" in find(path)[0].problem
    assert survey(tmp_path / "few.zip").empty == [tmp_path / "few.zip"]


def test_two_members_of_one_name_refuse_the_archive(tmp_path):
    path = packed(tmp_path / "a.zip", {"ct/V.nii": b"1", "CT/v.nii": b"2"})
    with pytest.raises(UserError, match=r"'ct/V\.nii' and 'CT/v\.nii' have one name"):
        read(path)


@pytest.mark.parametrize("inner", ["b.zip", "deep/b.tar.gz", "b.dcm.gz", "b.7z"])
def test_an_archive_in_an_archive_is_refused_by_name_and_the_rest_read(tmp_path, inner):
    write(tmp_path / "v.nii", VOLUME)
    path = packed(tmp_path / "a.zip", {"v.nii": (tmp_path / "v.nii").read_bytes(), inner: b"anything"})
    read_, refused = sorted(find(path), key=lambda one: bool(one.problem))
    assert read_.open().shape == VOLUME.shape
    assert f"a.zip/{inner} is an archive inside of an archive" in refused.problem


def test_a_link_in_an_archive_is_refused_by_name(tmp_path):
    info = zipfile.ZipInfo("link.nii")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"a\.zip/link\.nii is a link"):
        read(tmp_path / "a.zip")


def test_what_is_not_read_in_archives_is_told(tmp_path):
    write(tmp_path / "v.nii", VOLUME)
    folder = tmp_path / "all"
    folder.mkdir()
    members = {"v.nii": (tmp_path / "v.nii").read_bytes(), "slide.czi": b"x", "__MACOSX/._v.nii": b"x"}
    packed(folder / "a.zip", members)
    packed(folder / "notes.zip", {"notes.txt": b"text"})
    found = survey(folder)
    assert [one.name for one in found.sources] == ["a_v"]
    assert found.left_out == [
        "files of a kind that is not read (1): slide.czi",
        "archives without an image (1): notes.zip",
    ]


def test_problems_name_the_place_in_the_archive(tmp_path, series):
    series(tmp_path / "in" / "ct")
    cut = tmp_path / "in" / "ct" / "003"
    cut.write_bytes(cut.read_bytes()[:-30])
    (source,) = find(zipped(tmp_path / "scan.zip", tmp_path / "in"))
    assert str(tmp_path / "scan.zip" / "ct" / "003") in source.problem
    assert "ganatomy-unpacked" not in source.problem


def test_errors_of_pixels_that_are_read_later_name_the_place_in_the_archive(tmp_path, series):
    series(tmp_path / "in")
    image = read(zipped(tmp_path / "scan.zip", tmp_path / "in"))
    assert image.header.label == str(tmp_path / "scan.zip")
    for path in image.header.paths:
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"truncated|cannot be read") as caught:
        image.numpy()
    assert str(tmp_path / "scan.zip") in str(caught.value) and "ganatomy-unpacked" not in str(caught.value)


def test_a_full_disk_is_a_shortage(tmp_path, monkeypatch):
    write(tmp_path / "v.nii", VOLUME)
    path = packed(tmp_path / "a.zip", {"v.nii": (tmp_path / "v.nii").read_bytes()})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: namedtuple("usage", "free")(10))
    with pytest.raises(Shortage, match="set TMPDIR"):
        find(path)


def test_nothing_unpacked_stays_and_nobody_else_may_read_it(tmp_path):
    write(tmp_path / "v.nii", VOLUME)
    path = packed(tmp_path / "a.zip", {"v.nii": (tmp_path / "v.nii").read_bytes()})
    killed, elsewhere = (
        tmp_path / "t" / f"ganatomy-unpacked-{where}-999999999-12345678" for where in (leftovers.machine(), "0" * 8)
    )
    for left in (killed, elsewhere):
        (left / "x").mkdir(parents=True)
    script = (
        "import os, sys; from pathlib import Path; from ganatomy.images.files import find\n"
        "paths = find(sys.argv[1])[0].paths; home = paths[0].parents[2]\n"
        "assert home.parent == Path(os.environ['TMPDIR']); print(oct(home.stat().st_mode & 0o777))\n"
        "os.fork() or sys.exit(); os.wait(); assert paths[0].exists()"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "TMPDIR": str(tmp_path / "t")},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (0, "0o700\n"), run.stderr
    assert list((tmp_path / "t").iterdir()) == [elsewhere]


def test_the_archive_of_a_file_is_told(tmp_path, series):
    series(tmp_path / "in" / "ct")
    compressed(tmp_path / "in" / "ct", tmp_path / "gz")
    (whole,) = find(zipped(tmp_path / "scan.zip", tmp_path / "in"))
    (parts,) = find(tmp_path / "gz")
    assert {archives.archive_of(path) for path in whole.paths} == {tmp_path / "scan.zip"}
    assert {archives.archive_of(path) for path in parts.paths} == set((tmp_path / "gz").iterdir())
    assert archives.archive_of(tmp_path / "scan.zip") == tmp_path / "scan.zip"


def test_warnings_name_the_place_in_the_archive(tmp_path, slice_file):
    slice_file(tmp_path / "a.dcm", np.zeros((4, 6), np.uint16), PixelSpacing=None)
    packed(tmp_path / "scan.zip", {"a.dcm": (tmp_path / "a.dcm").read_bytes()})
    with pytest.warns(Notice, match=r"scan\.zip/a\.dcm states no distance") as heard:
        read(tmp_path / "scan.zip")
    assert "unpacked" not in str(heard[0].message)


def test_what_was_not_unpacked_is_shown_as_it_is():
    assert archives.shown(Path("a/b.dcm")) == Path("a/b.dcm")
    assert archives.in_words("a/b.dcm is empty") == "a/b.dcm is empty"
