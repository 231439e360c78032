from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGBaseline8Bit

from ganatomy.images import jpeg
from ganatomy.images.files import find

jpeg.register()

DECODERS = {
    "SC_rgb_jpeg_gdcm.dcm": ("gdcm-checked", 0),
    "JPEGLSNearLossless_08.dcm": ("gdcm", 0),
    "JPEGLSNearLossless_16.dcm": ("gdcm", 0),
    "MR_small_jpeg_ls_lossless.dcm": ("gdcm", 0),
    "SC_rgb_jls_lossy_line.dcm": ("gdcm", 0),
    "SC_rgb_jls_lossy_sample.dcm": ("gdcm", 0),
    "JPGExtended.dcm": ("gdcm-checked", 1),
    "SC_rgb_jpeg_dcmtk.dcm": ("pillow", 1),
    "SC_rgb_dcmtk_+eb+cr.dcm": ("pillow", 1),
    "SC_rgb_dcmtk_+eb+cy+np.dcm": ("pillow", 1),
    "SC_rgb_small_odd_jpeg.dcm": ("pillow", 1),
    "examples_ybr_color.dcm": ("pillow", 1),
}
"""Test files of pydicom to the decoder without the extra, and how far it may round differently from libjpeg."""


def dataset(name: str) -> pydicom.Dataset:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's test file {name} is not here")
    return pydicom.dcmread(path)


def decoded(file: pydicom.Dataset, plugin: str = "") -> np.ndarray:
    decoder = get_decoder(file.file_meta.TransferSyntaxUID)
    return np.asarray(decoder.as_array(file, decoding_plugin=plugin, raw=True)[0], int)


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_with_and_without_the_extra_agree(name: str) -> None:
    pytest.importorskip("libjpeg", reason="the extra libjpeg is not installed")
    plugin, apart = DECODERS[name]
    assert np.abs(decoded(dataset(name), plugin) - decoded(dataset(name), "pylibjpeg")).max() <= apart


@pytest.mark.parametrize("name", DECODERS)
def test_no_decoder_under_the_gpl_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dataset(name)
    decoder = get_decoder(file.file_meta.TransferSyntaxUID)
    monkeypatch.delitem(decoder._available, "pylibjpeg", raising=False)
    (source,) = find(Path(str(file.filename)))
    pixels = source.open().slab(0, 1)
    assert pixels.shape[-2:] == (file.Rows, file.Columns)
    assert pixels.max() > pixels.min()


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_12_bit_jpeg_is_decoded(name: str) -> None:
    pixels = decoded(dataset(name), "gdcm-checked")
    assert pixels.shape == (1024, 256)
    assert (pixels.min(), pixels.max()) == (0, 264)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [(0, 0, "begin as JPEG"), (15, 18, "damaged"), (8, 7, "1031 x 256"), (6, 61, "damaged"), (11, 3, "3 samples")],
)
def test_a_damaged_header_is_refused_before_gdcm_ends_the_process(place: int, value: int, words: str) -> None:
    file = dataset("JPGExtended.dcm")
    frame = bytearray(next(generate_frames(file.PixelData, number_of_frames=1)))
    frame[place] = value
    file.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(RuntimeError, match=words):
        decoded(file, "gdcm-checked")


def test_a_frame_that_ends_early_is_refused() -> None:
    file = dataset("JPGExtended.dcm")
    file.PixelData = encapsulate([next(generate_frames(file.PixelData, number_of_frames=1))[:60]])
    with pytest.raises(RuntimeError, match="damaged"):
        decoded(file, "gdcm-checked")


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000, JPEG2000Lossless])
def test_gdcm_is_kept_from_frames_whose_damage_would_end_the_process(syntax: UID) -> None:
    assert "gdcm" not in get_decoder(syntax).available_plugins
