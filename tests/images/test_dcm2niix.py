"""DICOM series as dcm2niix converts them: another reader of positions, distances, order and values."""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dicom_kinds import SECTIONAL, write_cine, write_enhanced_mr, write_file, write_series
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.files import find, read

PROGRAM = shutil.which("dcm2niix", path=Path(sys.executable).parent) or shutil.which("dcm2niix")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no dcm2niix here")
DENOISED = Derivation("Noise reduced.", "net", "sha256:0", "0.1", "Denoised")
TRANSLATED = Derivation("Translated.", "net", "sha256:0", "0.1", "T2", new_contrast=True, window=(0.0, 900.0))
OBLIQUE = [0.8, 0.6, 0.0, -0.36, 0.48, 0.8]
NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])


def converted(folder):
    """Return what dcm2niix makes of a folder, in order of the numbers of the series."""
    out = folder.with_name(f"{folder.name}-nifti")
    out.mkdir()
    words = [str(PROGRAM), "-o", str(out), "-f", "%s", "-z", "n", "-b", "n", str(folder)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "Error" not in run.stdout + run.stderr, run.stdout + run.stderr
    return sorted(out.glob("*.nii"), key=lambda path: int(path.stem))


def upright(array, affine):
    """Return an array (i, j, k) and its affine with all axes along those of the patient, as nearly as may be."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.asarray(array, np.float64), affine))
    return image.get_fdata(), image.affine


def check(path, image, tolerance=0.0):
    """Compare a converted file with an image of one channel."""
    found = nibabel.load(path)
    values, affine = upright(found.get_fdata(), found.affine)
    ours, place = upright(image.numpy()[0].transpose(2, 1, 0), image.affine[:, [2, 1, 0, 3]])
    assert found.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(affine, place, atol=1e-5)
    np.testing.assert_allclose(values, ours, rtol=1e-6, atol=tolerance)


def oblique_series(folder, modality, gap):
    """Write 4 slices of 11 x 9 pixels, of different brightness, whose names and numbers are in no order."""
    bright = np.array([1, 0.2, 0.05, 0.9])[:, None, None]
    pixels = (np.random.default_rng(0).integers(0, 4000, (4, 11, 9)) * bright).astype(np.uint16)
    for index, plane in enumerate(pixels):
        place = (np.array([-10.5, 20.25, 33]) + index * gap * NORMAL).round(6).tolist()
        own = {"ImageIndex": index + 1} if modality == "PT" else {}
        where = {"ImagePositionPatient": place, "ImageOrientationPatient": OBLIQUE}
        write_file(folder / f"{index * 3 % 4}.dcm", modality, plane, InstanceNumber=index + 1, **where, **own)


@pytest.mark.parametrize("modality", SECTIONAL)
@pytest.mark.parametrize(("gap", "derivation"), [(2.5, DENOISED), (-2.5, TRANSLATED)])
def test_real_numbers_in_oblique_slices_keep_place_order_and_value(tmp_path, modality, gap, derivation):
    oblique_series(tmp_path / "in", modality, gap)
    image = read(tmp_path / "in")
    np.testing.assert_allclose(image.spacing, (2.5, 0.75, 0.5), rtol=1e-5)
    real = image.with_array((image.numpy() * 1.0137 + 0.123).astype(np.float32))
    write_dicom(tmp_path / "out", real, derivation)
    (path,) = converted(tmp_path / "out")
    check(path, read(tmp_path / "out"))
    check(path, real, tolerance=0.51 if modality == "MR" else 0.26 if modality == "PT" else 1 / 32)


@pytest.mark.parametrize("modality", SECTIONAL)
def test_series_are_read_as_dcm2niix_reads_them(tmp_path, modality):
    oblique_series(tmp_path / "in", modality, 3.1)
    (path,) = converted(tmp_path / "in")
    image, again = read(tmp_path / "in"), read(path)
    check(path, image)
    check(path, again)
    assert image.shape == again.shape == (4, 11, 9)


@pytest.mark.parametrize("modality", ["CR", "US", "DX", "MG"])
def test_pictures_without_a_place_keep_rows_columns_and_numbers(tmp_path, modality):
    pixels = write_series(tmp_path / "in", modality)
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    (path,) = converted(tmp_path / "out")
    found = nibabel.load(path)
    # dcm2niix turns the order of the rows round, and does not look at ImagerPixelSpacing.
    np.testing.assert_array_equal(np.asarray(found.dataobj).transpose(2, 1, 0)[:, ::-1], pixels)
    np.testing.assert_allclose(found.header.get_zooms()[:2], [0.1, 0.1] if modality == "CR" else [1, 1])


def test_colours_stay_colours(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (12, 10, 3)).astype(np.uint8)
    write_file(tmp_path / "in" / "a.dcm", "US", pixels)
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    (path,) = converted(tmp_path / "out")
    found = np.asarray(nibabel.load(path).dataobj)
    colours = np.stack([found[name][..., 0] for name in "RGB"], -1)
    np.testing.assert_array_equal(colours.transpose(1, 0, 2)[::-1], pixels)


def test_frames_of_an_enhanced_file_and_of_a_cine_become_a_stack(tmp_path):
    write_enhanced_mr(tmp_path / "mr" / "a.dcm")
    image = read(tmp_path / "mr")
    write_dicom(tmp_path / "mr-out", image, DENOISED)
    check(*converted(tmp_path / "mr-out"), image)
    pixels = write_cine(tmp_path / "us" / "a.dcm")
    write_dicom(tmp_path / "us-out", read(tmp_path / "us"), DENOISED)
    (path,) = converted(tmp_path / "us-out")
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)[:, ::-1], pixels)


def test_volumes_of_one_series_become_series_of_their_own(tmp_path):
    random = np.random.default_rng(0)
    for time in (1, 2):
        for index in range(3):
            at = {"ImagePositionPatient": [0, 0, 2 * index], "TemporalPositionIdentifier": time}
            number = {"InstanceNumber": 3 * (time - 1) + index + 1, "NumberOfTemporalPositions": 2}
            plane = random.integers(0, 900, (11, 9)).astype(np.uint16)
            write_file(tmp_path / "in" / f"{time}{index}.dcm", "MR", plane, **at, **number)
    images = [source.open() for source in find(tmp_path / "in")]
    for number, image in enumerate(images):
        write_dicom(tmp_path / "out" / str(number), image, (DENOISED, TRANSLATED)[number])
    paths = converted(tmp_path / "out")
    assert len(paths) == 2
    for path, image in zip(paths, images, strict=True):
        check(path, image)
