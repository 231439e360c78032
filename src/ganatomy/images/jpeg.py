"""Which of pydicom's decoders are used for JPEG, and one that it lacks: of 12-bit JPEG, by GDCM.

GDCM is the only decoder of lossless and of 12-bit JPEG under a permissive licence; pydicom's own plug-in refuses the
latter. GDCM ends the process where it does not understand a frame. So it is given only frames of these two kinds, whose
headers are checked before; Pillow, and OpenJPEG through pylibjpeg, decode baseline JPEG and JPEG 2000.
"""

from __future__ import annotations

import struct
from functools import cache

import gdcm
from pydicom.pixels.decoders.base import (
    DecodeRunner,
    JPEG2000Decoder,
    JPEG2000LosslessDecoder,
    JPEGBaseline8BitDecoder,
    JPEGExtended12BitDecoder,
    JPEGLosslessDecoder,
    JPEGLosslessSV1Decoder,
)
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

DECODER_DEPENDENCIES = dict.fromkeys((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), ("gdcm>=3.0.10",))
"""Named by pydicom where a decoder is not available."""

_START = b"\xff\xd8"
_FRAMES = (0xC0, 0xC1, 0xC3)
"""Markers of the size of a frame in baseline, extended and lossless JPEG."""
_HUFFMAN, _SAMPLES, _COLOURS = 0xC4, 0xDA, 0xEE
"""Markers of code tables, of the samples, and of how colours are stored."""


def is_available(uid: str) -> bool:
    """Return whether frames of a transfer syntax are decoded here, as pydicom asks every plug-in."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of a frame, as unsigned or signed numbers of as many bits as the header says.

    Raises:
        ValueError: the frame is damaged, or does not have the size that the header says.
    """
    _check(source, runner)
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(source)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())

    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(runner.transfer_syntax))))
    stored = runner.bits_stored
    # With 16 bits allocated, GDCM first tries its decoder of 16 bits, which complains of 12 on stderr.
    allocated = stored if runner.transfer_syntax == JPEGExtended12Bit else runner.bits_allocated
    image.SetPixelFormat(
        gdcm.PixelFormat(runner.samples_per_pixel, allocated, stored, stored - 1, runner.pixel_representation)
    )
    # GDCM returns bytes as a str.
    pixels: bytes = (image.GetBuffer() or "").encode("utf-8", "surrogateescape")
    if len(pixels) != runner.frame_length(unit="bytes"):
        raise ValueError("GDCM cannot decode this frame")
    return pixels


def _check(source: bytes, runner: DecodeRunner) -> None:
    """Refuse a frame whose segments do not lead to its samples, or whose size is not that of the DICOM header."""
    if source[:2] != _START:
        raise ValueError("the frame does not begin as JPEG")
    place, sized, tables = 2, False, False
    while place + 4 <= len(source):
        prefix, marker, length = struct.unpack_from(">BBH", source, place)
        if prefix == marker == 0xFF:  # markers may be filled up from the left
            place += 1
            continue
        body = source[place + 4 : place + 2 + length]
        if prefix != 0xFF or length < 2 or len(body) != length - 2:
            break
        if marker in _FRAMES:
            if len(body) != 6 + 3 * runner.samples_per_pixel:
                break
            precision, rows, columns, samples = struct.unpack_from(">BHHB", body)
            if (rows, columns, samples) != (runner.rows, runner.columns, runner.samples_per_pixel):
                raise ValueError(f"the JPEG frame has {rows} x {columns} pixels of {samples} samples")
            if not 2 <= precision <= runner.bits_allocated:
                break
            sized = True
        if marker == _COLOURS and body.startswith(b"Adobe") and (len(body) < 12 or body[11] > 2):
            break
        tables = tables or marker == _HUFFMAN
        if marker == _SAMPLES:
            if sized and tables and body and 1 <= body[0] <= runner.samples_per_pixel:
                return
            break
        place += 2 + length
    raise ValueError("the header of the JPEG frame is damaged")


@cache
def register() -> None:
    """Choose among the decoders of pydicom, which tries them one after the other; a second call does nothing."""
    ours = (JPEGExtended12BitDecoder, JPEGLosslessDecoder, JPEGLosslessSV1Decoder)
    for decoder in (JPEGBaseline8BitDecoder, JPEG2000Decoder, JPEG2000LosslessDecoder, *ours):
        decoder.remove_plugin("gdcm")
    for decoder in ours:
        decoder.add_plugin("gdcm-checked", (__name__, decode_frame.__name__))
