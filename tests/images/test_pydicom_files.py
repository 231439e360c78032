"""Every test file of pydicom is read, or refused in one line."""

import warnings
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from ganatomy.errors import UserError
from ganatomy.images.files import find

FOLDER = Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".py")


def outcome(path):
    """Return the images of a file, or the reason why it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [source.open().numpy() for source in find(path)]
        except UserError as error:
            return str(error)


def test_every_file_gives_an_image_or_a_reason():
    images = 0
    for path in FILES:
        found = outcome(FOLDER / path)
        if isinstance(found, str):
            assert path.name in found and "\n" not in found, path
        else:
            images += 1
            assert found and all(array.size and np.isfinite(array).all() for array in found), path
    assert images > 70


def test_big_endian_files_need_no_meta_header(tmp_path):
    whole, bare = FOLDER / "MR_small_bigendian.dcm", tmp_path / "bare"
    file = pydicom.dcmread(whole)
    start = 132 + 12 + file.file_meta.FileMetaInformationGroupLength
    bare.write_bytes(whole.read_bytes()[start:])
    np.testing.assert_array_equal(outcome(bare)[0], outcome(whole)[0])


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "JPEG2000.dcm"])
def test_values_are_those_of_pydicom(name):
    file = pydicom.dcmread(FOLDER / name)
    expected = pydicom.pixels.apply_rescale(file.pixel_array, file)
    np.testing.assert_array_equal(outcome(FOLDER / name)[0][0, 0], expected)
