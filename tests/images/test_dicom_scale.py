"""Slices of which no file states how far apart the pixels are, or where they lie, do not come back with a distance or a
place that nobody measured.
"""

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage, UltrasoundImageStorage

from dicom_kinds import errors, write_file, write_series
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.dicom_seg import can_refer
from ganatomy.images.files import read, write
from ganatomy.images.image import Image, RasterMeaning

OBLIQUE = [1, 0, 0, 0, 0.6, 0.8]
TOLD = pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")


@TOLD
@pytest.mark.parametrize("value", [[0, 0], None])
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_an_unknown_distance_of_pixels_stays_unknown(tmp_path, modality, value):
    write_series(tmp_path / "in", modality, PixelSpacing=value, ImageOrientationPatient=OBLIQUE)
    image = read(tmp_path / "in")
    assert not image.header.scaled and not can_refer(image)
    write_dicom(tmp_path / "out", image)
    for path in sorted((tmp_path / "out").iterdir()):
        out = pydicom.dcmread(path)
        assert (out.SOPClassUID, out.Modality) == (SecondaryCaptureImageStorage, modality)
        assert not any("Spacing" in element.keyword for element in out)
        assert out.ImageOrientationPatient == OBLIQUE and out.FrameOfReferenceUID == "1.2.3.5"
    back = read(tmp_path / "out")
    assert (back.unit, back.header.scaled) == (image.unit, False)
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_allclose(back.slice_positions, image.slice_positions)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


@TOLD
def test_real_values_and_another_contrast_are_stored_as_in_their_own_class(tmp_path):
    write_series(tmp_path / "in", "CT", PixelSpacing=None)
    image = read(tmp_path / "in")
    real = image.with_array(image.numpy().astype(np.float32) + np.float32(0.0625))
    write_dicom(tmp_path / "real", real)
    np.testing.assert_array_equal(read(tmp_path / "real").numpy(), real.numpy())
    assert pydicom.dcmread(tmp_path / "real" / "00001.dcm").RescaleType == "HU"
    other = real.with_array(real.numpy() * np.float32(2), unit="a.u.")
    write_dicom(tmp_path / "other", other, Derivation("Made.", "m", "", "", "", new_contrast=True))
    made = pydicom.dcmread(tmp_path / "other" / "00001.dcm")
    assert (made.Modality, "PixelSpacing" in made, read(tmp_path / "other").unit) == ("MR", False, "a.u.")


def test_a_stated_distance_stays_stated(tmp_path):
    write_series(tmp_path / "in", "CT", PixelSpacing=[0.75, 0.5])
    write_dicom(tmp_path / "out", read(tmp_path / "in"))
    out = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert (out.SOPClassUID, out.PixelSpacing) == (CTImageStorage, [0.75, 0.5])


def test_an_ultrasound_image_keeps_its_class_and_gains_no_distance(tmp_path):
    place = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": OBLIQUE, "FrameOfReferenceUID": "1.2.3.5"}
    write_file(tmp_path / "in", "US", np.zeros((5, 4), np.uint8), **place)
    write_dicom(tmp_path / "out", read(tmp_path / "in"))
    out = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert out.SOPClassUID == UltrasoundImageStorage and "PixelSpacing" not in out


@pytest.mark.parametrize(("size", "kind"), [(None, SecondaryCaptureImageStorage), (0.5, CTImageStorage)])
def test_pictures_of_ct_become_ct_where_their_size_is_known(tmp_path, size, kind):
    Pillow.fromarray(np.arange(20, dtype=np.uint16).reshape(5, 4)).save(tmp_path / "in.png")
    image = read(tmp_path / "in.png", meaning=RasterMeaning(intercept=-1024, unit="HU", pixel_mm=size))
    write_dicom(tmp_path / "out", image)
    out = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert (out.SOPClassUID, out.Modality, out.get("PixelSpacing")) == (kind, "CT", size and [size, size])
    back = read(tmp_path / "out")
    assert back.unit == "HU" and back.numpy().min() == -1024


@TOLD
def test_slices_without_place_and_distance_come_back_as_one_volume(tmp_path):
    write_series(tmp_path / "in", "CT", PixelSpacing=None, SliceThickness=None)
    for path in (tmp_path / "in").iterdir():
        file = pydicom.dcmread(path)
        del file.ImagePositionPatient, file.ImageOrientationPatient
        file.save_as(path)
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image)
    assert image.shape[0] == 3
    np.testing.assert_array_equal(read(tmp_path / "out").numpy(), image.numpy())
    assert "ImagePositionPatient" not in pydicom.dcmread(tmp_path / "out" / "00001.dcm")


def without_places(folder, modality, located, slices=4):
    """Write a series whose files state no position, in the order of their numbers, perhaps with a SliceLocation."""
    write_series(folder, modality, slices, ImageOrientationPatient=OBLIQUE)
    for index, path in enumerate(sorted(folder.iterdir())):
        file = pydicom.dcmread(path)
        del file.ImagePositionPatient
        if located:
            file.SliceLocation = 30 + 5 * index
        file.save_as(path)


@TOLD
@pytest.mark.parametrize("located", [False, True])
@pytest.mark.parametrize("new_contrast", [False, True])
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_an_unknown_place_stays_unknown(tmp_path, modality, new_contrast, located):
    without_places(tmp_path / "in", modality, located)
    image = read(tmp_path / "in")
    made = image.with_array(image.numpy(), unit="HU" if modality == "MR" and new_contrast else ...)
    write_dicom(tmp_path / "out", made, Derivation("Made.", "m", "", "", "", new_contrast=new_contrast))
    for path in sorted((tmp_path / "out").iterdir()):
        out = pydicom.dcmread(path)
        assert "ImagePositionPatient" not in out
        if out.SOPClassUID != SecondaryCaptureImageStorage:  # as PET of another contrast is
            assert out.PixelSpacing == [0.75, 0.5] and out.ImageOrientationPatient == OBLIQUE
            assert errors(path) <= errors(tmp_path / "in" / "000.dcm")
    back = read(tmp_path / "out")
    np.testing.assert_array_equal(back.numpy(), made.numpy())
    if out.SOPClassUID != SecondaryCaptureImageStorage:
        assert back.spacing == pytest.approx(((5 if located else 2), 0.75, 0.5))


@TOLD
def test_nifti_says_whether_its_places_are_those_of_the_scanner(tmp_path):
    without_places(tmp_path / "in" / "lost", "CT", True)
    write_series(tmp_path / "in" / "placed", "CT")
    Pillow.fromarray(np.arange(20, dtype=np.uint8).reshape(5, 4)).save(tmp_path / "in" / "picture.png")
    told = {}
    for name in ("lost", "placed", "picture.png"):
        write(tmp_path / "a.nii.gz", read(tmp_path / "in" / name))
        header = nibabel.load(tmp_path / "a.nii.gz").header
        told[name] = int(header["qform_code"]), int(header["sform_code"]), header.get_xyzt_units()[0]
    assert told == {"lost": (2, 2, "mm"), "placed": (1, 1, "mm"), "picture.png": (2, 2, "unknown")}
    write(tmp_path / "b.nii.gz", Image.from_array(np.arange(20.0).reshape(4, 5), (3.0, 0.7, 0.5)))
    assert int(nibabel.load(tmp_path / "b.nii.gz").header["sform_code"]) == 1
