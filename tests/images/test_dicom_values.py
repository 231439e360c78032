"""The numbers of a DICOM image mean what its header states, or the image is refused."""

import struct
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ParametricMapStorage,
    RTDoseStorage,
)

from ganatomy.errors import Notice, UserError
from ganatomy.images.files import read

STORED = np.arange(16, dtype=np.uint16).reshape(4, 4)
NO_RESCALE = {"RescaleSlope": None, "RescaleIntercept": None}


def item(**attributes):
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def modality_table(kind, bits=16):
    entries = struct.pack("<16H", *(1000 + 3 * value**2 for value in range(16)))
    return item(LUTDescriptor=[16, 0, bits], LUTData=entries, ModalityLUTType=kind)


def mapping(slope, intercept, code):
    units = item(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning=code)
    return item(
        RealWorldValueSlope=float(slope),
        RealWorldValueIntercept=float(intercept),
        RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=4095,
        MeasurementUnitsCodeSequence=[units],
        LUTLabel="map",
    )


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize(("kind", "modality", "unit"), [("HU", "CT", "HU"), ("OD", "DX", "OD"), ("US", "DX", None)])
def test_a_modality_table_gives_the_values(tmp_path, slice_file, bits, kind, modality, unit):
    table = [modality_table(kind, bits)]
    slice_file(tmp_path / "a", STORED, Modality=modality, ModalityLUTSequence=table, **NO_RESCALE)
    image = read(tmp_path / "a")
    np.testing.assert_array_equal(image.numpy()[0, 0], 1000 + 3 * STORED.astype(int) ** 2)
    assert image.unit == unit


@pytest.mark.parametrize(("dtype", "keyword"), [(np.float32, "FloatPixelData"), (np.float64, "DoubleFloatPixelData")])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("deflated", [False, True])
def test_real_pixels_stay_real(tmp_path, slice_file, dtype, keyword, frames, deflated):
    values = np.random.default_rng(0).normal(0, 1e-3, (frames, 4, 4)).astype(dtype)
    data = slice_file(
        tmp_path / "a",
        STORED,
        SOPClassUID=ParametricMapStorage,
        Modality="MR",
        NumberOfFrames=frames,
        RealWorldValueMappingSequence=[mapping(1, 0, "mm2/s")],
        **NO_RESCALE,
    )
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(data, name)
    data.BitsAllocated = values.itemsize * 8
    setattr(data, keyword, values.tobytes())
    if deflated:
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if frames > 1:
        del data.ImagePositionPatient
    data.save_as(tmp_path / "a")
    image = read(tmp_path / "a")
    np.testing.assert_array_equal(image.numpy()[0], values)
    assert (image.dtype, image.unit) == (dtype, "mm2/s")


def test_a_dose_grid_is_scaled_and_its_planes_lie_at_their_offsets(tmp_path, slice_file):
    stored = np.arange(48, dtype=np.uint32).reshape(3, 4, 4)
    for name, offsets in (("relative", [0, 3, 6]), ("absolute", [-50, -47, -44])):
        data = slice_file(
            tmp_path / name,
            stored[0],
            SOPClassUID=RTDoseStorage,
            Modality="RTDOSE",
            NumberOfFrames=3,
            DoseGridScaling="0.001",
            DoseUnits="GY",
            ImagePositionPatient=[0, 0, -50],
            GridFrameOffsetVector=offsets,
            **NO_RESCALE,
        )
        data.PixelData = stored.tobytes()
        data.save_as(tmp_path / name)
        image = read(tmp_path / name)
        np.testing.assert_allclose(image.numpy()[0], stored * 0.001, rtol=1e-6)
        assert image.unit == "Gy" and image.spacing[0] == 3
        np.testing.assert_allclose(image.slice_positions[:, 2], [-50, -47, -44])
    data.GridFrameOffsetVector = [0, 3]
    data.save_as(tmp_path / name)
    with pytest.raises(UserError, match=r"absolute: its GridFrameOffsetVector does not place its 3 frames"):
        read(tmp_path / name)


def test_a_dose_grid_of_a_planning_system():
    path = get_testdata_file("rtdose.dcm", download=False)
    file = pydicom.dcmread(path)
    image = read(path)
    np.testing.assert_allclose(image.numpy()[0], file.pixel_array * float(file.DoseGridScaling), rtol=1e-6)
    assert image.shape[0] == 15 and image.spacing[0] == 5


def test_a_real_world_value_mapping_is_used_where_it_alone_states_a_unit(tmp_path, slice_file):
    def values(**attributes):
        slice_file(tmp_path / "a", STORED, **attributes)
        image = read(tmp_path / "a")
        return image.unit, float(image.numpy()[0, 0, 0, 2])

    adc = {"RealWorldValueMappingSequence": [mapping(0.5, 1, "um2/s")]}
    assert values(Modality="MR", **adc, **NO_RESCALE) == ("um2/s", 2.0)
    assert values(Modality="MR", RescaleSlope="3", RescaleIntercept="0", **adc) == ("um2/s", 2.0)
    assert values(Modality="CT", RealWorldValueMappingSequence=[mapping(2, -5, "[hnsf'U]")], **NO_RESCALE) == ("HU", -1)
    unitless = {"RealWorldValueMappingSequence": [mapping(0.5, 1, "1")]}
    assert values(Modality="MR", RescaleSlope="3", RescaleIntercept="0", **unitless) == ("a.u.", 6.0)
    with pytest.warns(Notice, match=r"is read in Bq/mL and not in SUV, which a Real World Value Mapping"):
        suv = [mapping(0.1, 0, "{SUVbw}g/ml")]
        assert values(Modality="PT", Units="BQML", RealWorldValueMappingSequence=suv) == ("Bq/mL", -1022)


def enhanced(path, slice_file, per_frame, shared=None, **attributes):
    """Write an enhanced MR file; its frames hold 0, 1, ... and have these functional groups."""
    stored = np.repeat(np.arange(len(per_frame), dtype=np.uint16), 16)
    defaults = {"Modality": "MR", "ImagePositionPatient": None, "ImageOrientationPatient": None, **NO_RESCALE}
    data = slice_file(
        path,
        STORED,
        SOPClassUID=EnhancedMRImageStorage,
        NumberOfFrames=len(per_frame),
        PerFrameFunctionalGroupsSequence=per_frame,
        SharedFunctionalGroupsSequence=[shared or item()],
        **{**defaults, **attributes},
    )
    data.PixelData = stored.tobytes()
    data.save_as(path)


def test_functional_groups_win_over_leftovers_at_the_top(tmp_path, slice_file):
    enhanced(
        tmp_path / "a",
        slice_file,
        [
            item(
                PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 5 * index])],
                PixelValueTransformationSequence=[item(RescaleSlope=index + 1, RescaleIntercept=7, RescaleType="US")],
            )
            for index in range(2)
        ],
        item(PixelMeasuresSequence=[item(PixelSpacing=[2, 2], SliceThickness=5)]),
        ImagePositionPatient=[9, 9, 9],
        RescaleSlope=100,
        RescaleIntercept=100,
        PixelSpacing=[1, 1],
    )
    image = read(tmp_path / "a")
    assert image.numpy()[0, :, 0, 0].tolist() == [7, 9]
    assert image.spacing == (5, 2, 2)


@pytest.mark.parametrize("value", [[0, 0], None])
def test_no_distance_of_pixels_is_unknown_and_told(tmp_path, slice_file, value):
    slice_file(tmp_path / "ct", STORED, PixelSpacing=value)
    with pytest.warns(Notice, match="ct states no distance of its pixels"):
        assert read(tmp_path / "ct").spacing[1:] == (1, 1)
    slice_file(tmp_path / "us", STORED, PixelSpacing=value, Modality="US", NominalScannedPixelSpacing=[3, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / "us").spacing[1:] == (3, 2)


@pytest.mark.parametrize("high", [1, 256])
def test_palettes_of_16_bits_become_colours_of_8(tmp_path, slice_file, high):
    tables = {}
    for colour, entries in (("Red", [0, 255]), ("Green", [7, 0]), ("Blue", [0, 9])):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = struct.pack("<2H", *(high * entry for entry in entries))
    pixels = np.array([[0, 1], [1, 5]], np.uint16)  # what lies past the table has its last colour
    colours = {"Modality": "US", "PhotometricInterpretation": "PALETTE COLOR", "BitsStored": 8, "HighBit": 7}
    slice_file(tmp_path / "a", pixels, **colours, **tables, **NO_RESCALE)
    image = read(tmp_path / "a")
    assert image.dtype == np.uint8
    assert image.numpy()[:, 0].reshape(3, 4).T.tolist() == [[0, 7, 0], [255, 0, 9], [255, 0, 9], [255, 0, 9]]
