"""A series is its SeriesInstanceUID wherever its files lie, and what is left out is named."""

import shutil
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

from ganatomy.data.cases import _places
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import find, read, survey


def grey(value=0, shape=(5, 7)):
    return np.full(shape, value, np.uint16)


@pytest.fixture(autouse=True)
def no_unexpected_notices():
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        yield


@pytest.mark.parametrize("folders", [2, 6])
def test_a_series_in_several_folders_is_one(tmp_path, series, folders):
    hu = series(tmp_path / "all")
    for number, path in enumerate(sorted((tmp_path / "all").iterdir())):
        folder = tmp_path / "archive" / f"disc{number % folders}" / "IMG"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / "0001" if folders == 6 else folder / path.name)
    (source,) = find(tmp_path / "archive")
    np.testing.assert_array_equal(source.open().numpy()[0], hu)
    assert (source.name, source.problem) == ("archive", None)


def test_a_damaged_slice_in_another_folder_is_a_problem_of_its_series(tmp_path, series):
    series(tmp_path / "a")
    for path in sorted((tmp_path / "a").iterdir())[3:]:
        (tmp_path / "b").mkdir(exist_ok=True)
        path.rename(tmp_path / "b" / path.name)
    victim = tmp_path / "b" / "005"
    victim.write_bytes(victim.read_bytes()[:-9])
    (source,) = find(tmp_path)
    assert "005" in source.problem


def test_a_slice_without_slope_in_a_folder_of_its_own_is_refused(tmp_path, slice_file):
    for index in range(4):
        own = {"RescaleSlope": None, "RescaleIntercept": None} if index == 2 else {}
        slice_file(tmp_path / f"{index}" / "x", grey(), z=2.0 * index, **own)
    (source,) = find(tmp_path)
    assert "2/x has no rescale where the others have RescaleSlope and RescaleIntercept" in source.problem


def test_folders_that_repeat_one_uid_are_series_of_their_own(tmp_path, series):
    series(tmp_path / "anna", PatientID="A")
    series(tmp_path / "ben", PatientID="B")
    series(tmp_path / "ben again", PatientID="B")
    assert [(source.subject, source.problem, len(source.paths)) for source in find(tmp_path)] == [
        ("A", None, 6),
        ("B", None, 6),
        ("B", None, 6),
    ]


def test_copies_are_left_out_and_named(tmp_path, series):
    hu = series(tmp_path / "study" / "disc")
    shutil.copytree(tmp_path / "study" / "disc", tmp_path / "study" / "backup")
    changed = tmp_path / "study" / "backup" / "000"
    data = pydicom.dcmread(changed)
    data.OperatorsName = "another header"
    data.save_as(changed)
    with pytest.warns(Notice, match=r"left out: copies of other DICOM files \(6\): 000"):
        (source,) = find(tmp_path / "study")
    np.testing.assert_array_equal(source.open().numpy()[0], hu)


def test_one_identity_with_two_contents_is_no_copy(tmp_path, slice_file):
    for value in (1, 2):
        slice_file(tmp_path / "scan" / f"{value}", grey(value), SOPInstanceUID="1.2.9")
    with pytest.raises(UserError, match="but differ"):
        read(tmp_path / "scan")


def test_roles_of_series_in_several_folders_come_together(tmp_path, series):
    for role, split in (("ct", 2), ("mr", 3)):
        series(tmp_path / role / "anna", SeriesInstanceUID=f"1.2.{split}")
        for number, path in enumerate(sorted((tmp_path / role / "anna").iterdir())):
            (folder := path.parent / f"{number % split}").mkdir(exist_ok=True)
            path.rename(folder / path.name)
    assert [_places(tmp_path / role, find(tmp_path / role)) for role in ("ct", "mr")] == [["anna"], ["anna"]]


@pytest.mark.parametrize("located", [True, False])
def test_slices_without_any_position_are_stacked_and_told(tmp_path, slice_file, located):
    for index in range(4):
        own = {"SliceLocation": f"{3 * index}", "InstanceNumber": 4 - index} if located else {"InstanceNumber": index}
        slice_file(tmp_path / "scan" / f"{(index + 2) % 4}", grey(index), ImagePositionPatient=None, **own)
    told = "SliceLocation" if located else "InstanceNumber"
    with pytest.warns(Notice, match=f"scan: its slices state no position; they are stacked by {told}"):
        image = read(tmp_path / "scan")
    assert image.numpy()[0, :, 0, 0].tolist() == [-1024, -1023, -1022, -1021]
    assert image.spacing[0] == (3 if located else 2) and image.header.positions is None


def test_radiographs_without_a_position_are_not_stacked(tmp_path, slice_file):
    for index in range(2):
        slice_file(tmp_path / f"{index}", grey(index), ImagePositionPatient=None, Modality="DX", InstanceNumber=index)
    assert [len(source.paths) for source in find(tmp_path)] == [1, 1]


CAPTURES = {
    "localiser": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
    "screen capture or dose page": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "ImagePositionPatient": None},
    "secondary capture": {"SOPClassUID": SecondaryCaptureImageStorage, "ImagePositionPatient": None},
}


@pytest.mark.parametrize("kind", list(CAPTURES))
def test_what_is_no_image_of_a_scan_is_left_out_and_named(tmp_path, series, slice_file, kind):
    hu = series(tmp_path / "study")
    page = tmp_path / "study" / "page"
    slice_file(page, grey(0, (9, 9)), SeriesDescription="Page", **CAPTURES[kind])
    with pytest.warns(Notice, match=rf"left out: {kind}.*, no image of a scan \(1\): study_Page"):
        image = read(tmp_path / "study")
    np.testing.assert_array_equal(image.numpy()[0], hu)
    assert read(page).shape == (1, 9, 9)
    (tmp_path / "alone").mkdir()
    page.rename(tmp_path / "alone" / "page")
    with pytest.raises(UserError, match=rf"alone holds no image.*left out: {kind}.* \(1\): alone"):
        find(tmp_path / "alone")
    (found,) = survey(tmp_path / "alone").aside
    assert kind in found.aside


def test_what_was_written_here_without_a_unit_is_an_image_again(tmp_path, slice_file):
    slice_file(tmp_path / "in" / "a", grey(9), ImagePositionPatient=None)
    image = read(tmp_path / "in")
    image.with_array(image.numpy(), unit=None).save(tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out").numpy(), image.numpy())


def test_files_of_kinds_that_are_not_read_are_named(tmp_path, series, slice_file):
    series(tmp_path / "scan")
    (tmp_path / "slide.mrxs").write_bytes(b"II*\0" * 99)
    for number in range(8):
        (tmp_path / "scan" / f"{number}.czi").write_bytes(b"ZISRAW" * 99)
    (tmp_path / "notes.txt").write_text("no image")
    slice_file(tmp_path / "report.dcm", grey(), SOPClassUID=BasicTextSRStorage, Rows=None)
    told = r"an image \(1\): report\.dcm; files of a kind that is not read \(9\): slide\.mrxs, 0\.czi, .*, \.\.\."
    with pytest.warns(Notice, match=told):
        (source,) = find(tmp_path)
    assert source.problem is None


def test_a_file_with_another_ending_is_read_where_it_is_dicom(tmp_path, slice_file):
    slice_file(tmp_path / "a.img", grey(3))
    assert read(tmp_path).numpy().max() == 3 - 1024
