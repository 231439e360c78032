import json
from dataclasses import asdict

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.uid import MRImageStorage, ParametricMapStorage, SecondaryCaptureImageStorage, SegmentationStorage
from runs import make_run
from toy_detector import LESION, anatomy, save_run, stand_in

from dicom_kinds import errors, write_file, write_series
from ganatomy.cli import main
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.images.files import find, read
from ganatomy.images.labelmaps import placed
from ganatomy.inference.apply import Applier, plan
from ganatomy.inference.model import CALIBRATION, load
from ganatomy.tasks.anomaly_detection.predictor import Calibration

SMALL = {"size": (32, 32), "width": 2, "levels": 3, "discriminator_width": 2, "dropout": 0.0}


def apply(applier, path, out, format=None, overwrite=False):
    (source,) = find(path)
    (output,) = plan([source], out, format, real=applier.real)
    applier({applier.predictor.inputs[0]: source}, output, overwrite)
    return applier.place(source, output)


def first(folder):
    return pydicom.dcmread(folder / "00001.dcm")


@pytest.fixture
def detector(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    run = save_run(tmp_path / "run")
    found = Calibration(100.0, 0.01, 0.05, 2592, 18, 6, "other subjects")
    (run / CALIBRATION).write_text(json.dumps({load(run).identity: asdict(found)}))
    return run


def lesions(folder, **identity):
    values = anatomy()
    values[8:12, 5:8] = LESION
    place = {"ImagePositionPatient": [-10.0, -20.0, 100.0], "PixelSpacing": [0.5, 0.5], **identity}
    write_file(folder / "a.dcm", "MR", np.rint(values).astype(np.uint16), **place)


def test_a_map_a_healthy_image_and_a_mask_have_their_own_classes_and_numbers(tmp_path, detector):
    lesions(tmp_path / "in")
    apply(Applier(detector), tmp_path / "in", tmp_path / "out")
    map, healthy, mask = (first(tmp_path / f"out{end}") for end in ("", "-healthy", "-mask"))
    assert (map.SOPClassUID, mask.SOPClassUID) == (ParametricMapStorage, SegmentationStorage)
    assert (healthy.Modality, healthy.SyntheticData) == ("MR", "YES")
    assert "RescaleSlope" not in healthy
    assert sorted(one.SeriesNumber for one in (map, mask, healthy)) == [1003, 2003, 3003]
    assert {one.StudyInstanceUID for one in (map, mask, healthy)} == {"1.2.3"}
    image = read(tmp_path / "in")
    assert placed(find(tmp_path / "out-mask")[0].labelled().open(), image).numpy().sum() == 12
    for folder in ("out", "out-healthy", "out-mask"):
        assert errors(tmp_path / folder / "00001.dcm") == set()


def test_an_earlier_mask_is_replaced_and_removed_where_there_is_none_any_more(tmp_path, detector):
    lesions(tmp_path / "in")
    for _ in range(2):
        apply(Applier(detector), tmp_path / "in", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out-mask").is_dir()
    (detector / CALIBRATION).unlink()
    apply(Applier(detector), tmp_path / "in", tmp_path / "out", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out-healthy", "out.json", "run"]


def test_a_mask_of_an_image_from_elsewhere_is_nifti(tmp_path, detector):
    lesions(tmp_path / "in")
    read(tmp_path / "in").save(tmp_path / "in.nii.gz")
    apply(Applier(detector), tmp_path / "in.nii.gz", tmp_path / "out", "dicom")
    assert (tmp_path / "out-mask.nii.gz").is_file()
    assert first(tmp_path / "out").SOPClassUID != ParametricMapStorage


@pytest.mark.parametrize(("weight", "words"), [(1.0, "trained against an adversary"), (0.0, "trained without an")])
def test_a_translated_image_says_so_and_does_not_have_its_sources_acquisition(tmp_path, weight, words):
    windows = {"t1": {"window": (0.0, 200.0)}, "t2": {"window": (0.0, 200.0)}}
    run = make_run(tmp_path / "run", "pix2pix", {**SMALL, "adversarial_weight": weight, "roles": windows})
    write_series(tmp_path / "in", "MR", rows=32, columns=32)
    apply(Applier(run), tmp_path / "in", tmp_path / "out")
    out = first(tmp_path / "out")
    assert (out.Modality, out.SyntheticData, out.EchoTime) == ("MR", "YES", None)
    assert "FlipAngle" not in out
    assert (out.WindowCenter, out.WindowWidth) == (100, 200)
    assert words in out.DerivationDescription
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_a_denoised_radiograph_and_a_denoised_mr_keep_integers_without_a_rescale(tmp_path):
    run = make_run(tmp_path / "run", "brain-manifold-dcgan", {"variant": "denoiser", "size": (32, 32)})
    write_series(tmp_path / "in", "MR", rows=32, columns=32)
    apply(Applier(run), tmp_path / "in", tmp_path / "out")
    out = first(tmp_path / "out")
    assert "RescaleSlope" not in out and "SyntheticData" not in out
    assert (out.EchoTime, out.FlipAngle) == (10, 90)
    assert "trained without an adversary" in out.DerivationDescription


@pytest.mark.parametrize("kind", ["png", "dicom"])
def test_colours_become_secondary_captures_of_8_bits(tmp_path, kind):
    colour = {"channels": 3, "unit": None, "window": (0.0, 255.0)}
    run = make_run(tmp_path / "run", "pix2pix", {**SMALL, "roles": {"t1": colour, "t2": colour}})
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    if kind == "png":
        Pillow.fromarray(pixels).save(tmp_path / "in.png")
    else:
        write_file(tmp_path / "in.dcm", "OT", pixels, SOPClassUID=SecondaryCaptureImageStorage, ConversionType="WSD")
    apply(Applier(run), tmp_path / f"in.{kind if kind == 'png' else 'dcm'}", tmp_path / "out", "dicom")
    out = first(tmp_path / "out")
    assert (out.SOPClassUID, out.PhotometricInterpretation) == (SecondaryCaptureImageStorage, "RGB")
    assert (out.BitsAllocated, out.pixel_array.shape) == (8, (32, 32, 3))


def identity(number):
    """Return an identity of a patient; two of one patient share a study."""
    return {
        "PatientName": "Doe^Jane",
        "PatientID": f"MRN-{number}",
        "PatientBirthDate": "19610203",
        "StudyDate": "20190405",
        "StudyInstanceUID": f"1.2.840.99999.{number}",
        "SeriesInstanceUID": f"1.2.840.99999.{number}.1",
        "SeriesDescription": "Jane head",
        "InstitutionName": "Klinikum Nord",
    }


def everything(folder):
    """Return the bytes of all files under a folder and beside it, and their names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)


def test_deidentified_outputs_and_notes_tell_nobody_and_refer_to_each_other(tmp_path, detector, capsys):
    for number in (1, 2):
        lesions(tmp_path / "doe" / f"Doe Jane {number}", **identity(number))
    (tmp_path / "secret").write_text("a secret of more than 16 letters")
    options = ["--deidentify", "--secret", str(tmp_path / "secret")]
    for out in ("out", "again"):
        assert main(["apply", str(detector), str(tmp_path / "doe"), str(tmp_path / "results" / out), *options]) == 0
    said = capsys.readouterr()
    assert "Doe" in said.err and "Doe" not in said.out.replace(str(tmp_path), "")
    told = everything(tmp_path / "results")
    uids = [pydicom.dcmread(path).SOPInstanceUID.encode() for path in (tmp_path / "doe").rglob("*.dcm")]
    secrets = [b"Doe", b"doe", b"Jane", b"MRN", b"19610203", b"20190405", b"99999", b"Klinikum", str(tmp_path).encode()]
    assert [text for text in [*secrets, *uids] if text in told] == []
    pseudonyms = Pseudonyms.of_user(tmp_path / "secret")
    notes = {path.name: json.loads(path.read_text()) for path in (tmp_path / "results" / "out").glob("*.json")}
    names = {pseudonyms.subject(f"MRN-{number}")[:8] for number in (1, 2)}
    assert {name[:8] for name in notes} == names
    for name, note in notes.items():
        assert note["sources"] == {"image": name.removesuffix(".json")} and note["run"] == "run"
        folder = name.removesuffix(".json")
        places = [tmp_path / "results" / out / f"{folder}{end}" for out in ("out", "again") for end in ("", "-mask")]
        files = [first(place) for place in places]
        assert len({file.StudyInstanceUID for file in files}) == 1
        series = [file.ReferencedSeriesSequence[0] for file in files]
        assert len({one.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID for one in series}) == 1
        assert len({file.SOPInstanceUID for file in files}) == 4


def test_warnings_name_files_on_the_screen_and_not_in_notes(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "brain-manifold-dcgan", {"variant": "denoiser", "size": (32, 32)})
    write_series(tmp_path / "Doe", "MR", rows=32, columns=32, **identity(1))
    read(tmp_path / "Doe").save(tmp_path / "doe_jane.nii.gz")
    monkeypatch.setattr(Applier, "_spacing", lambda self, image: [f"{image.header.label} is odd, as doe_jane is"])
    applier = Applier(run, pseudonyms=Pseudonyms(bytes(range(16))))
    (source,) = find(tmp_path / "doe_jane.nii.gz")
    warnings = applier({"input": source}, plan([source], tmp_path / "out" / "a.nii.gz")[0])
    assert warnings[-1] == f"{tmp_path}/doe_jane.nii.gz is odd, as doe_jane is"
    assert (
        json.loads((tmp_path / "out" / "a.nii.gz.json").read_text())["warnings"][-1]
        == "its file is odd, as its file is"
    )
    assert b"jane" not in everything(tmp_path / "out")


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_an_unknown_distance_of_pixels_is_in_the_note_of_every_format(tmp_path, kind):
    run = make_run(tmp_path / "run", "brain-manifold-dcgan", {"variant": "denoiser", "size": (32, 32)})
    write_series(tmp_path / "in", "MR", rows=32, columns=32, PixelSpacing=[0, 0])
    name = "out" if kind == "dicom" else "out.nii.gz"
    apply(Applier(run), tmp_path / "in", tmp_path / name, kind)
    assert "each of which counts as 1 mm" in json.loads((tmp_path / f"{name}.json").read_text())["warnings"][0]
    if kind == "dicom":
        out = first(tmp_path / "out")
        assert (out.SOPClassUID, out.Modality) == (SecondaryCaptureImageStorage, "MR") and "PixelSpacing" not in out


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_an_unknown_place_is_in_the_note(tmp_path):
    run = make_run(tmp_path / "run", "brain-manifold-dcgan", {"variant": "denoiser", "size": (32, 32)})
    write_series(tmp_path / "in", "MR", rows=32, columns=32)
    for path in (tmp_path / "in").iterdir():
        file = pydicom.dcmread(path)
        del file.ImagePositionPatient
        file.save_as(path)
    apply(Applier(run), tmp_path / "in", tmp_path / "out")
    (told,) = (word for word in json.loads((tmp_path / "out.json").read_text())["warnings"] if "position" in word)
    assert told.endswith("its files state no positions of the slices; where these lie in the patient is not known")
    assert first(tmp_path / "out").SOPClassUID == MRImageStorage


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_a_mask_of_an_unknown_distance_of_pixels_is_no_segmentation(tmp_path, detector):
    lesions(tmp_path / "in", PixelSpacing=[0, 0])
    apply(Applier(detector), tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out-mask.nii.gz").is_file()
    assert first(tmp_path / "out").SOPClassUID == SecondaryCaptureImageStorage


def test_text_in_the_pixels_is_refused_before_anything_is_written(tmp_path, detector, capsys):
    lesions(tmp_path / "in", BurnedInAnnotation="YES", **identity(1))
    assert main(["apply", str(detector), str(tmp_path / "in"), str(tmp_path / "out"), "--deidentify"]) == 2
    assert "burned into its pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["apply", str(detector), str(tmp_path / "in"), str(tmp_path / "out")]) == 0


def test_a_secret_without_deidentification_is_refused(tmp_path, detector, capsys):
    lesions(tmp_path / "in")
    arguments = ["apply", str(detector), str(tmp_path / "in"), str(tmp_path / "out"), "--secret", "s"]
    assert main(arguments) == 2
    assert "--secret: only --deidentify" in capsys.readouterr().err
