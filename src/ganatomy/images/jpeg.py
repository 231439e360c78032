"""Which of pydicom's decoders are used for JPEG, and one that it lacks: of 12-bit JPEG, by GDCM.

GDCM is the only decoder of lossless and of 12-bit JPEG under a permissive licence; pydicom's own plug-in refuses the
latter. Damaged frames of baseline JPEG and of JPEG 2000 make GDCM end the process, so others decode these: Pillow, and
OpenJPEG through pylibjpeg.
"""

from __future__ import annotations

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
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm>=3.0.10",)}
"""Named by pydicom where a decoder is not available."""


def is_available(uid: str) -> bool:
    """Return whether frames of a transfer syntax are decoded here, as pydicom asks every plug-in."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Return the pixels of a frame, as unsigned or signed numbers of as many bits as the header says.

    Raises:
        ValueError: GDCM cannot decode the frame.
    """
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
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    # As many bits allocated as stored: with 16, GDCM first tries its decoder of 16 bits, which complains on stderr.
    bits = runner.bits_stored
    image.SetPixelFormat(gdcm.PixelFormat(runner.samples_per_pixel, bits, bits, bits - 1, runner.pixel_representation))
    # GDCM returns bytes as a str.
    pixels: bytes = (image.GetBuffer() or "").encode("utf-8", "surrogateescape")
    if len(pixels) != runner.frame_length(unit="bytes"):
        raise ValueError("GDCM cannot decode this frame")
    return pixels


@cache
def register() -> None:
    """Choose among the decoders of pydicom, which tries them one after the other; a second call does nothing."""
    for decoder in (JPEGBaseline8BitDecoder, JPEG2000Decoder, JPEG2000LosslessDecoder):
        decoder.remove_plugin("gdcm")
    for decoder in (JPEGLosslessDecoder, JPEGLosslessSV1Decoder):
        # To the end, after that of the extra libjpeg.
        decoder.remove_plugin("gdcm")
        decoder.add_plugin("gdcm", ("pydicom.pixels.decoders.gdcm", "_decode_frame"))
    JPEGExtended12BitDecoder.add_plugin("gdcm-12-bit", (__name__, decode_frame.__name__))
