import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid


@pytest.fixture
def slice_file():
    """Return a function that writes one legal CT slice; keyword arguments override or (None) remove attributes."""

    def write(path, pixels, z=0.0, syntax=ExplicitVRLittleEndian, **attributes):
        data = Dataset()
        data.SOPClassUID = CTImageStorage
        data.SOPInstanceUID = generate_uid()
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.Modality = "CT"
        for empty in "StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName".split():  # noqa: SIM905
            setattr(data, empty, "")
        data.PatientBirthDate = data.PatientSex = data.StudyID = data.PositionReferenceIndicator = ""
        data.PatientID = "P-7"
        data.Manufacturer = "Maker"
        data.BodyPartExamined = "CHEST"
        data.PatientPosition = "HFS"
        data.SeriesDescription = "thin"
        data.SeriesNumber, data.AcquisitionNumber, data.InstanceNumber = 3, 1, 1
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (
            "1.2.3",
            "1.2.3.4",
            "1.2.3.5",
        )
        data.ImagePositionPatient = [-10.0, -20.0, z]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing = [0.75, 0.5]
        data.SliceThickness = "2"
        data.KVP = "120"
        data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        data.Rows, data.Columns = pixels.shape[:2]
        data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.RescaleIntercept, data.RescaleSlope = -1024, 1
        data.WindowCenter, data.WindowWidth = 40, 400
        for keyword, value in attributes.items():
            setattr(data, keyword, value)
            if value is None:
                delattr(data, keyword)
        data.PixelData = pixels.tobytes()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = syntax
        path.parent.mkdir(parents=True, exist_ok=True)
        if syntax == ImplicitVRLittleEndian and path.suffix == ".bare":
            del data.file_meta
            pydicom.dcmwrite(path, data, implicit_vr=True, little_endian=True)
        else:
            pydicom.dcmwrite(path, data, enforce_file_format=True)
        return data

    return write


@pytest.fixture
def series(slice_file):
    """Return a function that writes a CT series, with file names out of slice order, and returns its HU."""

    def write(folder, slices=6, gap=2.0, rows=5, columns=7, skip=(), **attributes):
        random = np.random.default_rng(slices)
        stored = random.integers(0, 4096, (slices, rows, columns)).astype(np.uint16)
        names = random.permutation(slices)
        for index in range(slices):
            if index not in skip:
                slice_file(
                    folder / f"{names[index]:03d}",
                    stored[index],
                    z=100.0 + gap * index,
                    **{"BitsStored": 12, "HighBit": 11, "InstanceNumber": 50 - index, **attributes},
                )
        return stored.astype(np.int16) - 1024

    return write
