import json
from dataclasses import asdict

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from toy_detector import LESION, SIZE, Template, anatomy, patient, save_run

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.images.files import find, read
from ganatomy.images.image import Image, RasterMeaning
from ganatomy.inference import apply as applying
from ganatomy.inference.apply import Applier, Output, plan
from ganatomy.inference.detecting import CALIBRATION, Calibration, abnormal_slices, detect_image, scored_images
from ganatomy.inference.model import Model, identity
from ganatomy.tasks.anomaly_detection.task import Found

THRESHOLDS = Calibration(100.0, 0.01, 0.05, 2592, 18, 6, "other subjects")
OBLIQUE = np.array([[-0.7, 0.1, 0.2, 5], [0.1, -0.8, 0.2, 6], [0.05, 0.1, 2.5, 7], [0, 0, 0, 1]])


def scan(slices=3, sick=True):
    """The toy's patient without noise, (slices, rows, columns)."""
    image = np.repeat(anatomy()[None], slices, 0)
    if sick:
        image[slices // 2, 8:12, 5:8] = LESION
    return image


def enlarged(image, factor=3, aside=6):
    """Larger pixels' worth of it, in the middle of a wider field of air."""
    return np.pad(np.kron(image, np.ones((1, factor, factor))), ((0, 0), (0, 0), (aside, aside))).astype(image.dtype)


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.setattr(catalogue, "load", lambda slug: Template)


def applier(folder, calibrated=True, **config):
    run = save_run(folder / "run", **config)
    if calibrated:
        key = identity(run / "weights.safetensors")
        (run / CALIBRATION).write_text(json.dumps({key: asdict(THRESHOLDS)}))
    return Applier(run)


def apply(one, source, out, format=None, overwrite=False, **reading):
    (found,) = find(source, **reading)
    (output,) = plan([found], out, format, real=one.detects)
    warnings = one(found, output, overwrite)
    return warnings, json.loads(output.note.read_text())


def nifti(path, values, affine=OBLIQUE):
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), path)
    return path


def back(path):
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def test_a_nifti_file_keeps_its_place(tmp_path):
    source = nifti(tmp_path / "in.nii.gz", scan().astype(np.int16))
    warnings, note = apply(applier(tmp_path), source, tmp_path / "o" / "out.nii.gz")
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert names == {"out.nii.gz", "out-healthy.nii.gz", "out-mask.nii.gz", "out.nii.gz.json"}
    for name, kind in (("out", np.float32), ("out-healthy", np.int16), ("out-mask", np.uint8)):
        made = nibabel.load(tmp_path / "o" / f"{name}.nii.gz")
        np.testing.assert_allclose(made.affine, OBLIQUE, atol=1e-6)
        assert made.get_data_dtype() == kind
    map = back(tmp_path / "o" / "out.nii.gz")
    np.testing.assert_allclose(map, np.abs(scan() - scan(sick=False)), atol=1e-3)
    np.testing.assert_array_equal(back(tmp_path / "o" / "out-healthy.nii.gz"), scan(sick=False).astype(np.int16))
    np.testing.assert_array_equal(back(tmp_path / "o" / "out-mask.nii.gz"), map >= 100)
    assert warnings == []
    assert note["scores are of"] == "slices" and note["abnormal"] == [False, True, False]
    assert note["scores"][1] == pytest.approx(12 * 0.4 / 256, rel=1e-3)
    assert note["calibration"] == asdict(THRESHOLDS) and note["identity"].startswith("sha256:")
    assert (note["healthy"], note["mask"]) == ("out-healthy.nii.gz", "out-mask.nii.gz")


def test_larger_images_of_another_shape_get_their_own_grid_back(tmp_path):
    image = enlarged(scan())
    apply(applier(tmp_path, fit="cover"), nifti(tmp_path / "in.nii", image), tmp_path / "out.nii")
    map, healthy, mask = (back(tmp_path / f"out{part}.nii") for part in ("", "-healthy", "-mask"))
    assert map.shape == healthy.shape == mask.shape == image.shape
    np.testing.assert_array_equal(mask, (map >= 100) & (image > 0))
    inner = (1, slice(25, 35), slice(22, 29))
    assert (image[inner] == LESION).all() and (map[inner] > 150).all() and mask[inner].all()
    np.testing.assert_allclose(healthy[inner], enlarged(scan(sick=False))[inner], atol=20)
    mask[1, 21:39, 18:33] = 0
    assert not mask.any()


def test_nothing_is_said_of_what_the_detector_does_not_see(tmp_path):
    image = np.pad(enlarged(scan()), ((0, 0), (30, 30), (0, 0)))
    image[:, 3:20, 5] = 37
    apply(applier(tmp_path, fit="cover"), nifti(tmp_path / "in.nii", image), tmp_path / "out.nii")
    map, healthy, mask = (back(tmp_path / f"out{part}.nii")[:, :20] for part in ("", "-healthy", "-mask"))
    assert not map.any() and not mask.any()
    np.testing.assert_array_equal(healthy, image[:, :20])


def test_specks_are_counted_in_the_frame():
    image = Image.from_array(enlarged(scan(), aside=0))
    found = detect_image(Template(Template.Config(smallest=8)), image, calibration=THRESHOLDS)
    assert found.mask.numpy()[0, 1, 25:35, 16:23].all()
    gone = detect_image(Template(Template.Config(smallest=40)), image, calibration=THRESHOLDS)
    assert not gone.mask.numpy().any()


@pytest.mark.parametrize(("scale", "unit"), [("zscore", None), ("percentiles", None), ("window", "a.u.")])
def test_scales_of_single_images_are_undone(scale, unit):
    image = Image.from_array(scan().astype(np.int16), unit="a.u.")
    found = Model(Template(Template.Config(scale=scale))).detect(image)
    assert found.healthy.unit == "a.u." and found.map.unit == unit and found.mask is None
    assert found.map.shape == found.healthy.shape == image.shape
    assert (found.healthy.numpy()[image.numpy() == 0] == 0).all()


def mr_series(folder, values):
    folder.mkdir(parents=True)
    for index, plane in enumerate(values):
        data = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
        data.ImageType, data.Modality, data.PatientID = ["ORIGINAL", "PRIMARY", "OTHER"], "MR", "P-7"
        data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = "flair", 3, index
        data.ImagePositionPatient = [-10.0, -20.0, 100 + 2.5 * index]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.75, 0.5], "2"
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = plane.shape
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.PixelData = plane.astype("<u2").tobytes()
        data.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    return folder


def test_a_dicom_series_becomes_two_and_a_mask(tmp_path):
    source = mr_series(tmp_path / "in", scan())
    _, note = apply(applier(tmp_path), source, tmp_path / "out")
    names = {path.name for path in tmp_path.iterdir()} - {"in", "run"}
    assert names == {"out", "out-healthy", "out-mask.nii.gz", "out.json"}
    before = read(source)
    for name, wanted in (("out", np.abs(scan() - scan(sick=False))), ("out-healthy", scan(sick=False))):
        after = read(tmp_path / name)
        np.testing.assert_allclose(after.numpy()[0], wanted, atol=0.02)
        np.testing.assert_allclose(after.affine, before.affine)
    mask = read(tmp_path / "out-mask.nii.gz")
    np.testing.assert_allclose(mask.affine, before.affine, atol=1e-6)
    np.testing.assert_array_equal(mask.numpy()[0], scan() == LESION)
    titles = [pydicom.dcmread(tmp_path / name / "00001.dcm").SeriesDescription for name in ("out", "out-healthy")]
    assert titles == ["flair [caae map]", "flair [caae healthy]"]
    assert note["mask"] == "out-mask.nii.gz"


def test_pictures_give_maps_in_real_numbers(tmp_path):
    Pillow.fromarray((scan(1)[0] / 4).astype(np.uint8)).save(tmp_path / "in.png")
    one, meaning = applier(tmp_path), RasterMeaning(slope=4.0, intercept=-0.0)
    apply(one, tmp_path / "in.png", tmp_path / "out", meaning=meaning)
    map, healthy, mask = (read(tmp_path / "out" / f"in{part}.tif").numpy()[0, 0] for part in ("", "-healthy", "-mask"))
    np.testing.assert_allclose(map, np.abs(scan(1)[0] - anatomy()), atol=1e-3)
    assert map.dtype == np.float32 and healthy.dtype == mask.dtype == np.uint8
    np.testing.assert_array_equal(healthy, anatomy() / 4)
    np.testing.assert_array_equal(mask, scan(1)[0] == LESION)
    with pytest.raises(UserError, match="a PNG holds no real numbers"):
        apply(one, tmp_path / "in.png", tmp_path / "map.png")


def test_without_thresholds_there_is_no_mask_and_that_is_said(tmp_path):
    source = nifti(tmp_path / "in.nii", scan())
    (tmp_path / "out-mask.nii").write_bytes(b"of an earlier call")
    one = applier(tmp_path, calibrated=False)
    with pytest.raises(UserError, match=r"out-mask\.nii: exists already"):
        apply(one, source, tmp_path / "out.nii")
    warnings, note = apply(one, source, tmp_path / "out.nii", overwrite=True)
    assert len(warnings) == 1 and "no mask" in warnings[0] and "ganatomy train caae" in warnings[0]
    assert note["mask"] is note["abnormal"] is note["calibration"] is None and len(note["scores"]) == 3
    assert not (tmp_path / "out-mask.nii").exists() and (tmp_path / "out-healthy.nii").exists()


def test_companions_never_take_the_place_of_the_input(tmp_path):
    source = nifti(tmp_path / "out-healthy.nii", scan())
    before = source.read_bytes()
    with pytest.raises(UserError, match="where the input lies"):
        apply(applier(tmp_path), source, tmp_path / "out.nii", overwrite=True)
    assert source.read_bytes() == before and not (tmp_path / "out.nii").exists()


def test_a_network_that_gives_no_numbers_is_an_error(tmp_path, monkeypatch):
    source = nifti(tmp_path / "in.nii", scan())
    one = applier(tmp_path)
    original = Template.detect
    monkeypatch.setattr(Template, "detect", lambda self, image: original(self, image * float("nan")))
    with pytest.raises(UserError, match="gives no numbers"):
        apply(one, source, tmp_path / "out.nii")
    assert {path.name for path in tmp_path.iterdir()} == {"in.nii", "run"}


@pytest.mark.parametrize(
    ("path", "format", "mark", "other", "name"),
    [
        ("a/v.nii.gz", "nifti", "mask", None, "v-mask.nii.gz"),
        ("a/v.NII", "nifti", "mask", None, "v-mask.NII"),
        ("series.1", "dicom", "healthy", None, "series.1-healthy"),
        ("series", "dicom", "mask", "nifti", "series-mask.nii.gz"),
        ("v.tiff", "tiff", "mask", None, "v-mask.tiff"),
    ],
)
def test_companions_have_the_name_of_their_output(tmp_path, path, format, mark, other, name):
    made = Output(tmp_path / path, format).beside(mark, other)
    assert made.path == (tmp_path / path).with_name(name) and made.format == (other or format)


def test_slices_are_abnormal_by_mask_or_by_label():
    task = Template().task
    assert abnormal_slices(task, patient("a", sick=True)).tolist() == [False, True, False]
    assert abnormal_slices(task, patient("a", sick=True, masked=False)).all()
    assert not abnormal_slices(task, patient("a", masked=False)).any()


def test_empty_slices_are_no_images_and_volumes_are_one():
    task, case = Template().task, patient("a", sick=True)
    case.arrays["image"][:, 0] = 0
    values = np.zeros((3, SIZE, SIZE), np.float32)
    scores, abnormal = scored_images(task, case, Found(values, np.arange(3, dtype=np.float32), values))
    assert scores.tolist() == [1, 2] and abnormal.tolist() == [True, False]
    scores, abnormal = scored_images(task, case, Found(values, np.ones(1, np.float32), values))
    assert scores.tolist() == [1] and abnormal.tolist() == [True]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("written", [0, 1, 2])
def test_an_interruption_leaves_no_half_file_and_no_note(tmp_path, monkeypatch, written):
    source = nifti(tmp_path / "in.nii", scan())
    one, original, calls = applier(tmp_path), applying.write, []

    def write(path, image, **options):
        if len(calls) == written:
            raise Killed
        calls.append(path.name)
        original(path, image, **options)

    monkeypatch.setattr(applying, "write", write)
    with pytest.raises(Killed):
        apply(one, source, tmp_path / "out.nii")
    assert {path.name for path in tmp_path.iterdir()} == {"in.nii", "run", *calls}
