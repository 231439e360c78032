"""Small legal DICOM files of several modalities, without pixels that mean anything."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)


def item(**attributes):
    """Return a dataset with some attributes."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value, scheme, meaning, **attributes):
    """Return an item with a coded term."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning, **attributes)


PLACED = {
    "FrameOfReferenceUID": "1.2.3.5",
    "PositionReferenceIndicator": "",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [0.75, 0.5],
    "SliceThickness": 2,
}
XRAY = {
    "PresentationIntentType": "FOR PRESENTATION",
    "ImageType": ["ORIGINAL", "PRIMARY", ""],
    "PixelIntensityRelationship": "LOG",
    "PixelIntensityRelationshipSign": 1,
    "RescaleIntercept": 0,
    "RescaleSlope": 1,
    "RescaleType": "US",
    "PresentationLUTShape": "IDENTITY",
    "LossyImageCompression": "00",
    "BurnedInAnnotation": "NO",
    "WindowCenter": 100,
    "WindowWidth": 200,
    "DetectorType": "DIRECT",
    "DetectorID": "",
    "DetectorConfiguration": "AREA",
    "FieldOfViewShape": "RECTANGLE",
    "ImagerPixelSpacing": [0.1, 0.1],
    "PatientOrientation": ["A", "F"],
    "AcquisitionContextSequence": [],
}
KINDS = {
    "CT": {
        "SOPClassUID": CTImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": 120,
        "AcquisitionNumber": 1,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PatientPosition": "HFS",
        **PLACED,
    },
    "MR": {
        "SOPClassUID": MRImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "ScanOptions": "FS",
        "MRAcquisitionType": "2D",
        "RepetitionTime": 500,
        "EchoTime": 10,
        "EchoTrainLength": 1,
        "FlipAngle": 90,
        "PatientPosition": "HFS",
        **PLACED,
    },
    "PT": {
        "SOPClassUID": PositronEmissionTomographyImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "Units": "BQML",
        "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"],
        "NumberOfSlices": 3,
        "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START",
        "DecayFactor": 1.05,
        "CollimatorType": "NONE",
        "SeriesDate": "20200101",
        "SeriesTime": "120000",
        "AcquisitionDate": "20200101",
        "AcquisitionTime": "120000",
        "ActualFrameDuration": 1000,
        "FrameReferenceTime": 0,
        "ImageIndex": 1,
        "RescaleSlope": 2.5,
        "RescaleIntercept": 0,
        "RadiopharmaceuticalInformationSequence": [
            item(
                Radiopharmaceutical="FDG",
                RadionuclideHalfLife=6586,
                RadionuclideTotalDose=3e8,
                RadionuclideCodeSequence=[code("C-111A1", "SRT", "^18^Fluorine")],
            )
        ],
        "PatientOrientationCodeSequence": [
            code(
                "F-10450",
                "SRT",
                "recumbent",
                PatientOrientationModifierCodeSequence=[code("F-10340", "SRT", "supine")],
            )
        ],
        "PatientGantryRelationshipCodeSequence": [code("F-10470", "SRT", "headfirst")],
        **PLACED,
    },
    "CR": {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "ViewPosition": "PA",
        "PixelSpacing": [0.1, 0.1],
        "PatientOrientation": "",
    },
    "US": {
        "SOPClassUID": UltrasoundImageStorage,
        "ImageType": ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"],
        "BodyPartExamined": "LIVER",
        "PatientOrientation": "",
    },
    "DX": {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "AnatomicRegionSequence": [code("T-D3000", "SRT", "Chest")],
        "ImageLaterality": "U",
        **XRAY,
    },
    "MG": {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "BodyPartExamined": None,
        "AnatomicRegionSequence": [code("T-04000", "SRT", "Breast")],
        "ImageLaterality": "L",
        "PositionerType": "MAMMOGRAPHIC",
        "OrganExposed": "BREAST",
        "ViewCodeSequence": [code("R-10242", "SRT", "cranio-caudal", ViewModifierCodeSequence=[])],
        "BreastImplantPresent": "NO",
        "PartialView": "NO",
        "CompressionForce": 10,
        "BodyPartThickness": 50,
        **XRAY,
    },
}
"""Modality to the attributes of its single-frame files."""
SECTIONAL = ("CT", "MR", "PT")
"""Modalities with several slices at known places."""


EMPTY = "StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName PatientBirthDate PatientSex StudyID"


def write_file(path, modality, pixels, **attributes):
    """Write one file with pixels (rows, columns), (frames, rows, columns) or (rows, columns, 3); return its dataset."""
    data = Dataset()
    for keyword in EMPTY.split():
        setattr(data, keyword, "")
    data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), "1.2.3", "1.2.3.4"
    data.Modality, data.PatientID, data.Manufacturer, data.SeriesNumber = modality, "P-7", "Maker", 3
    data.InstanceNumber, data.BodyPartExamined = 1, "CHEST"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    for keyword, value in {**KINDS.get(modality, {}), **attributes}.items():
        if value is not None:
            setattr(data, keyword, value)
        elif keyword in data:
            delattr(data, keyword)
    data.PixelData = pixels.tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return data


def write_series(folder: Path, modality, slices=3, rows=12, columns=10, **attributes):
    """Write a series of a modality, one file where it is no sectional one; return stored (slices, rows, columns)."""
    slices = slices if modality in SECTIONAL else 1
    dtype = np.uint8 if modality == "US" else np.uint16
    pixels = np.random.default_rng(slices).integers(0, 200, (slices, rows, columns)).astype(dtype)
    for index, plane in enumerate(pixels):
        own = {"ImagePositionPatient": [-10.0, -20.0, 100.0 + 2 * index]} if modality in SECTIONAL else {}
        own |= {"ImageIndex": index + 1} if modality == "PT" else {}
        write_file(folder / f"{index:03d}.dcm", modality, plane, InstanceNumber=index + 1, **own, **attributes)
    return pixels


def write_enhanced_mr(path, slices=3, rows=12, columns=10):
    """Write an enhanced MR file whose frames run from the head to the feet; return (slices, rows, columns)."""
    pixels = np.random.default_rng(3).integers(0, 2000, (slices, rows, columns)).astype(np.uint16)
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=2)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        MRTimingAndRelatedParametersSequence=[item(RepetitionTime=500.0, FlipAngle=90.0, RFEchoTrainLength=4)],
        MREchoSequence=[item(EffectiveEchoTime=12.5)],
    )
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10.0, -20.0, 100.0 - 2 * index])],
            FrameContentSequence=[item(TemporalPositionIndex=1, FrameAcquisitionNumber=7)],
            FrameVOILUTSequence=[item(WindowCenter=100 + index, WindowWidth=300)],
        )
        for index in range(slices)
    ]
    write_file(
        path,
        "MR",
        pixels,
        **{
            **dict.fromkeys(KINDS["MR"]),
            "SOPClassUID": EnhancedMRImageStorage,
            "FrameOfReferenceUID": "1.2.3.5",
            "PositionReferenceIndicator": "",
            "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            "NumberOfFrames": slices,
            "EchoPulseSequence": "GRADIENT",
            "InversionRecovery": "NO",
            "MagneticFieldStrength": 3.0,
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": frames,
        },
    )
    return pixels


def write_cine(path, frames=4, rows=12, columns=10):
    """Write an ultrasound file of several frames without places; return (frames, rows, columns)."""
    pixels = np.random.default_rng(3).integers(0, 200, (frames, rows, columns)).astype(np.uint8)
    cine = {"FrameTime": 40, "CineRate": 25, "FrameIncrementPointer": 0x00181063}
    write_file(path, "US", pixels, SOPClassUID=UltrasoundMultiFrameImageStorage, NumberOfFrames=frames, **cine)
    return pixels


def errors(path):
    """Return the errors that dciodvfy reports for a file, which may not know Synthetic Data (0008,001C) yet."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy here")
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).lower().splitlines()
    return {line for line in lines if line.startswith("error") and "(0x0008,0x001c)" not in line}
