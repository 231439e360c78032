import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images import dicom_frames
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Image

FLAT = Image.from_array(np.arange(12, dtype=np.uint8).reshape(3, 4))
VOLUME = Image.from_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (2.0, 1.0, 1.0), "HU")


@pytest.fixture
def study(tmp_path, series):
    root = tmp_path / "study"
    series(root / "anna" / "ct", PatientID="A1")
    series(root / "ben", PatientID="  ")
    write(root / "anna" / "slice.png", FLAT)
    write(root / "carl.nii.gz", VOLUME)
    write(root / "deep" / "er" / "x.npy", VOLUME)
    for name in ("README.md", "index.csv", "meta.json", "notes", ".hidden.png"):
        (root / name).write_text("no image, though perhaps of a length that could be one" * 9)
    return root


def test_find_lists_everything_once_with_subject_and_modality(study):
    found = {source.name: (source.subject, source.kind, source.modality) for source in find(study)}
    assert found == {
        "anna_ct": ("A1", "dicom", "CT"),
        "anna_slice": ("anna", "raster", None),
        "ben": ("ben", "dicom", "CT"),
        "carl": ("carl", "nifti", None),
        "deep_er_x": ("deep", "npy", None),
    }


def test_everything_found_opens(study):
    shapes = {source.name: source.open().shape for source in find(study)}
    assert shapes["anna_ct"] == (6, 5, 7)
    assert shapes["carl"] == (3, 4, 5)
    assert shapes["anna_slice"] == (1, 3, 4)


def test_find_decodes_no_pixel(study, monkeypatch):
    monkeypatch.setattr(dicom_frames.Frame, "decode", lambda frame: pytest.fail("decoded"))
    for source in find(study):
        source.open()


def test_names_are_unique_and_safe(tmp_path):
    for name in ("a.png", "a.tif", "a.npy", "A.PNG"):
        write(tmp_path / name, FLAT)
    names = [source.name for source in find(tmp_path)]
    assert len({name.lower() for name in names}) == 4


def test_a_name_never_passes_from_one_file_to_another_that_comes_later(tmp_path):
    def names():
        return {source.paths[0].name: source.name for source in find(tmp_path)}

    write(tmp_path / "s_1.png", FLAT)
    write(tmp_path / "t(1.png", FLAT)
    before = names()
    assert before == {"s_1.png": "s_1", "t(1.png": "t_1"}
    write(tmp_path / "s 1.png", FLAT)  # in front of the first one
    after = names()
    assert {**after, **before} == after and len(set(after.values())) == 3


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tiff", "a.npy", "a"])
def test_one_file_or_folder_is_found_by_its_path(tmp_path, name):
    write(tmp_path / name, FLAT)
    (source,) = find(tmp_path / name)
    assert (source.name, source.subject) == ("a", "a")
    np.testing.assert_array_equal(read(tmp_path / name).numpy(), FLAT.numpy())


def test_a_single_slice_of_a_series_is_an_image(tmp_path, series):
    series(tmp_path / "ct")
    assert read(tmp_path / "ct" / "003").shape == (1, 5, 7)


def test_damaged_files_are_listed_with_their_problem(tmp_path, series):
    series(tmp_path / "whole")
    series(tmp_path / "spoilt")
    (tmp_path / "spoilt" / "006.dcm").write_bytes(b"")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "x.dcm").write_bytes(b"not dicom")
    sources = {source.name: source for source in find(tmp_path)}
    assert sources["whole"].problem is None
    for name, file in (("spoilt", "006.dcm"), ("alone_x", "x.dcm")):
        assert file in sources[name].problem
        with pytest.raises(UserError, match=file):
            sources[name].open()


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no image"):
        find(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"a\.txt holds no image"):
        read(tmp_path / "a.txt")


def test_several_images_ask_which(study):
    with pytest.raises(UserError, match=r"holds 5 images .*anna_ct"):
        read(study)


@pytest.mark.parametrize("name", ["a.jpg", "a.mhd.gz", "a.nii.zip"])
def test_unwritable_formats_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"choose \.nii\.gz"):
        write(tmp_path / name, FLAT)


def test_unwritable_places_are_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for name in ("x.nii.gz", "x.png", "x.tif", "x.npy", "x"):
        with pytest.raises(UserError, match="cannot write"):
            write(tmp_path / "file" / name, FLAT)
