"""The table of docs/formats.md, row by row: suffixes, what is read, what is written, and what results become."""

import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Pillow

from ganatomy.images import archives, dicom, itk, kspace, mgh, nifti, npy, raster, slides
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Header, Image
from ganatomy.inference.apply import plan

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
ROWS = [line.split("|")[1:-1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
READERS = (archives, dicom, itk, kspace, mgh, nifti, npy, raster, slides)
WHOLE = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def noise(dtype, shape=(7, 9)):
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 500, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def test_the_table_names_every_suffix_that_is_read():
    named = {suffix for row in ROWS for suffix in re.findall(r"`(\.[\w.]+)`", row[1])}
    known = {suffix for reader in READERS for suffix in reader.SUFFIXES}
    # DICOM is known by its content, whatever its suffix.
    assert named - {".npy"} == known - set(dicom.SUFFIXES) - {".npy"}


@pytest.mark.parametrize("dtype", [*WHOLE, "float16", "float32", "float64"])
def test_tiff_of_any_number_of_bits_is_read_as_tifffile_reads_it(tmp_path, dtype):
    pixels = noise(dtype, (3, 7, 9))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    image = read(tmp_path / "a.tif")
    assert image.shape == (3, 7, 9) and image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.numpy()[0], tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiff_is_written_as_simpleitk_reads_it(tmp_path, dtype):
    pixels = noise(dtype)
    write(
        tmp_path / "a.tif", Image.from_array(pixels, (1.0, 0.4, 0.3), header=Header("raster", stored=np.dtype(dtype)))
    )
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.tif"))).squeeze(), pixels
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits_is_read_as_pillow_reads_it(tmp_path, bits):
    pixels = noise("uint8") % 2**bits
    picture = Pillow.fromarray(pixels)
    if bits == 1:
        picture = Pillow.fromarray((pixels * 255).astype(np.uint8)).convert("1")
        picture.save(tmp_path / "a.png")
    else:
        picture.putpalette([n for value in range(2**bits) for n in [value * 255 // (2**bits - 1)] * 3])
        picture.save(tmp_path / "a.png", bits=bits)
    shown = pixels * (255 // (2**bits - 1))
    np.testing.assert_array_equal(read(tmp_path / "a.png").numpy()[0, 0], shown)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a.png").convert("L")), shown)
    (source,) = find(tmp_path / "a.png")
    np.testing.assert_array_equal(source.labelled().open().numpy()[0, 0], pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.bmp", "a.gif", "a.webp"])
def test_pictures_of_8_bits_are_read_as_pillow_reads_them_and_become_png(tmp_path, name):
    for number, pixels in enumerate((noise("uint8"), noise("uint8", (7, 9, 3)))):
        path = tmp_path / f"{number}{name}"
        Pillow.fromarray(pixels).save(path)
        shown = np.asarray(Pillow.open(path).convert("RGB"))
        found = read(path).numpy()[:, 0]
        np.testing.assert_array_equal(np.broadcast_to(found, (3, 7, 9)), np.moveaxis(shown, -1, 0))
        assert [(output.path.suffix, output.format) for output in plan(find(path), tmp_path / "out")] == [
            (".png", "png")
        ]


@pytest.mark.parametrize("dtype", [*WHOLE, "float32", "float64"])
def test_nifti_of_any_number_of_bits_is_read_as_nibabel_reads_it(tmp_path, dtype):
    voxels = noise(dtype, (9, 7, 3, 2))
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        nibabel.save(kind(voxels, np.diag([0.5, 0.7, 3, 1]), dtype=np.dtype(dtype)), tmp_path / "a.nii.gz")
        image = read(tmp_path / "a.nii.gz")
        assert (image.channels, image.shape, image.dtype) == (2, (3, 7, 9), np.dtype(dtype))
        theirs = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
        np.testing.assert_array_equal(image.numpy(), theirs.transpose(3, 2, 1, 0))


@pytest.mark.parametrize(("suffix", "mark"), [(".mha", b"CompressedData = True"), (".nrrd", b"encoding: gzip")])
def test_metaimage_and_nrrd_are_written_compressed(tmp_path, suffix, mark):
    write(tmp_path / f"a{suffix}", Image.from_array(np.zeros((5, 40, 30), np.int16), (2.0, 0.8, 0.7)))
    data = (tmp_path / f"a{suffix}").read_bytes()
    assert mark in data and len(data) < 2000


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *[(f"a{end}", end) for end in (".nii", ".nii.gz", ".mha", ".nrrd", ".mgz", ".mgh", ".npy", ".tif", ".png")],
        ("a.mhd", ".mha"),
        ("a.nhdr", ".nrrd"),
        ("k.npz", ".nii.gz"),
        ("a.svs", ".tif"),
        ("series", ""),
    ],
)
def test_results_have_the_format_of_their_source(tmp_path, name, suffix):
    image = Image.from_array(np.arange(63, dtype=np.uint8).reshape(7, 9), (1.0, 0.8, 0.7))
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if suffix == ".nii.gz" and name == "k.npz":
        np.savez(path, kspace=np.ones((2, 3, 8, 10), np.complex64))
    elif name in ("a.mhd", "a.nhdr"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.numpy()[0]), str(path))
    elif name == "a.svs":
        tifffile.imwrite(path, image.numpy()[0, 0])
    else:
        write(path, replace(image, unit=None))
    (output,) = plan(find(path.parent), tmp_path / "out")
    assert output.path.name.endswith(suffix) and (suffix or output.format == "dicom")
