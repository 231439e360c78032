import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
import torch
from PIL import Image as Pillow
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from runs import make_run

from ganatomy.errors import UserError
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Image, RasterMeaning
from ganatomy.inference.apply import Applier, Grid, Output, check_meaning, plan, select
from ganatomy.inference.checks import Comparison
from ganatomy.physics.coils import simulated_sensitivities
from ganatomy.physics.fourier import fft
from ganatomy.physics.sampling import Undersampling
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.mr_reconstruction.task import Scan

IDENTITY = {"variant": "cnn-mse", "width": 2, "start": "identity"}
GAIN = 1.1


def brighter(method):
    method.generator[0].weight[0] *= GAIN


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "identity", config=IDENTITY)


@pytest.fixture(scope="module")
def applier(run):
    return Applier(run)


@pytest.fixture(scope="module")
def gain(tmp_path_factory):
    return Applier(make_run(tmp_path_factory.mktemp("runs") / "gain", config=IDENTITY, change=brighter))


def ct_series(folder, hu, gap=2.5, **attributes):
    """Write a CT series of some HU, (slices, rows, columns), with file names that are not in slice order."""
    folder.mkdir(parents=True)
    names = np.random.default_rng(0).permutation(len(hu))
    for index, plane in enumerate(hu):
        data = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
        data.ImageType, data.Modality, data.PatientID = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "P-7"
        data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = "thin", 3, 90 - index
        data.ImagePositionPatient = [-10.0, -20.0, 100 + gap * index]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.75, 0.5], "2"
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = plane.shape
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.RescaleIntercept, data.RescaleSlope = -1024, 1
        for keyword, value in attributes.items():
            setattr(data, keyword, value)
        data.PixelData = (plane + 1024).astype("<u2").tobytes()
        data.save_as(folder / f"{names[index]:03d}.dcm", enforce_file_format=True)
    return folder


def body(slices=4, rows=40, columns=36):
    """Draw integers of a plausible CT, (slices, rows, columns) in HU."""
    hu = np.random.default_rng(1).normal(40, 20, (slices, rows, columns))
    hu[:, :8], hu[:, 8:12] = -1000, 500
    hu += np.arange(slices)[:, None, None]
    return np.rint(hu).astype(np.int16)


def given(applier, source):
    """Return a source as the only input of a run."""
    return {applier.predictor.inputs[0]: source}


def apply(applier, source, out, format=None, overwrite=False, **reading):
    (source,) = find(source, **reading)
    (output,) = plan([source], out, format)
    warnings = applier(given(applier, source), output, overwrite)
    return warnings, json.loads(output.note.read_text())


OUTSIDE = """from ganatomy.methods.denoising.wgan_vgg import WGANVGG


class Sharper(WGANVGG):
    \"\"\"Makes CT sharper.

    Åsa Nobody and others, Journal of Nothing 3:4,
    2026. arXiv:2601.01234.
    \"\"\"
"""


def test_a_method_from_outside_is_cited_in_dicom_and_in_notes(tmp_path, monkeypatch):
    (tmp_path / "sharper_from_outside.py").write_text(OUTSIDE)
    monkeypatch.setattr("sys.path", [*sys.path])
    system = f"{tmp_path / 'sharper_from_outside.py'}:Sharper"
    run = make_run(tmp_path / "run", system, IDENTITY)
    ct_series(tmp_path / "in", np.random.default_rng(0).normal(0, 80, (2, 20, 24)).round())
    _, note = apply(Applier(run, system=system), tmp_path / "in", tmp_path / "out")
    citation = "Åsa Nobody and others, Journal of Nothing 3:4, 2026. arXiv:2601.01234"
    assert (note["system"], note["title"], note["citation"]) == ("sharper_from_outside.py:Sharper", "Sharper", citation)
    described = pydicom.dcmread(tmp_path / "out" / "00001.dcm").DerivationDescription
    assert (
        described.startswith("makes CT sharper, computed from")
        and f"Sharper ({note['system']}; {citation})" in described
    )
    assert str(tmp_path) not in described


def test_dicom_keeps_place_unit_and_order(tmp_path, applier):
    source = ct_series(tmp_path / "in", body())
    warnings, note = apply(applier, source, tmp_path / "out")
    before, after = read(source), read(tmp_path / "out")
    np.testing.assert_allclose(after.numpy(), before.numpy(), atol=1 / 16)
    np.testing.assert_allclose(after.affine, before.affine)
    assert (after.unit, after.header.modality, warnings) == ("HU", "CT", [])
    first = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert first.SeriesDescription == "thin [wgan-vgg]"
    assert "not for diagnosis" in first.DerivationDescription
    assert "WGAN-VGG (wgan-vgg; Yang et al., 2018, doi:10.1109/TMI.2018.2827462)" in first.DerivationDescription
    assert applier.identity in first.ContributingEquipmentSequence[0].ContributionDescription
    assert "SyntheticData" not in first
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "out.json"}
    assert note["identity"] == applier.identity == f"sha256:{applier.identity[7:]}"
    assert note["sources"]["input"].startswith(str(source))
    assert (note["source files"], note["unit"]) == (4, "HU")
    assert note["features"] == "none"


def test_a_change_of_the_network_arrives_in_hu(tmp_path, gain):
    source = ct_series(tmp_path / "in", body())
    warnings, note = apply(gain, source, tmp_path / "out")
    expected = (body().astype(float) + 1024) * GAIN - 1024
    np.testing.assert_allclose(read(tmp_path / "out").numpy()[0], expected, atol=1 / 16)
    assert note["checks"]["correlation with input"] == 1.0
    assert note["checks"]["mean shift in HU"]["soft tissue"] == pytest.approx(0.1 * (1024 + 41.5), abs=2)
    assert any("soft tissue moved by +107 HU" in warning for warning in warnings)


def test_uneven_series_keep_their_places(tmp_path, applier):
    source = ct_series(tmp_path / "in", body(7))
    order = [frame.path for frame in find(source)[0].frames]
    order[2].unlink()
    with pytest.raises(UserError, match="not evenly spaced"):
        apply(applier, source, tmp_path / "out")
    apply(applier, source, tmp_path / "out", uneven=True)
    before, after = read(source, uneven=True), read(tmp_path / "out", uneven=True)
    np.testing.assert_allclose(after.slice_positions, before.slice_positions)


def test_long_descriptions_keep_the_mark(tmp_path, applier):
    source = ct_series(tmp_path / "in", body(1), SeriesDescription="x" * 64)
    apply(applier, source, tmp_path / "out")
    description = pydicom.dcmread(tmp_path / "out" / "00001.dcm").SeriesDescription
    assert len(description) == 64
    assert description.endswith("x [wgan-vgg]")


@pytest.mark.parametrize("name", ["totalseg", "lidc0314", "gehead"])
def test_real_series_gain_no_error(shared, tmp_path, applier, name):
    folder = tmp_path / "in"
    folder.mkdir()
    original = read(shared / "dicom-ct-series" / name, uneven=True)
    for path in original.header.paths[:4]:
        shutil.copy(path, folder)
    apply(applier, folder, tmp_path / "out", uneven=True)
    before, after = read(folder, uneven=True), read(tmp_path / "out", uneven=True)
    inside = before.numpy() >= -1024
    np.testing.assert_allclose(after.numpy()[inside], before.numpy()[inside], atol=0.2)
    np.testing.assert_allclose(after.slice_positions, before.slice_positions)
    assert errors(tmp_path / "out" / "00002.dcm") <= errors(before.header.paths[1])


def errors(path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy here")
    ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return {line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("Error")}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_integers_stay_integers_on_their_grid(tmp_path, applier, suffix):
    affine = np.array([[-0.7, 0.1, 0, 5], [0, -0.8, 0.2, 6], [0.05, 0, 2.5, 7], [0, 0, 0, 1]])
    path = tmp_path / f"in{suffix}"
    nibabel.save(nibabel.Nifti1Image(body().transpose(2, 1, 0), affine), path)
    _, note = apply(applier, path, tmp_path / "new" / f"out{suffix}")
    after = nibabel.load(tmp_path / "new" / f"out{suffix}")
    assert after.get_data_dtype() == np.int16
    np.testing.assert_allclose(after.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(after.dataobj).transpose(2, 1, 0), body())
    assert note["type"] == "int16"


def test_real_numbers_stay_real(tmp_path, gain):
    values = body().astype(np.float32) + 0.25
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / "in.nii")
    apply(gain, tmp_path / "in.nii", tmp_path / "out.nii")
    after = nibabel.load(tmp_path / "out.nii")
    assert after.get_data_dtype() == np.float32
    np.testing.assert_allclose(np.asarray(after.dataobj).transpose(2, 1, 0), (values + 1024) * GAIN - 1024, atol=1e-2)


def test_a_deep_png_keeps_its_offset_and_is_clipped_to_its_range(tmp_path, gain):
    stored = (body(1)[0] + 1024).astype(np.uint16)
    stored[20, 20] = 65000
    Pillow.fromarray(stored).save(tmp_path / "in.png")
    meaning = RasterMeaning(intercept=-1024, unit="HU")
    _, note = apply(gain, tmp_path / "in.png", tmp_path / "out.png", meaning=meaning)
    with Pillow.open(tmp_path / "out.png") as picture:
        after = np.asarray(picture)
    assert after.dtype == np.uint16
    wanted = np.rint(np.minimum(stored, 4096) * GAIN + np.maximum(stored.astype(float) - 4096, 0))
    # The window ends at 4096: what is brighter keeps its excess.
    np.testing.assert_allclose(after.astype(float), np.minimum(wanted, 65535), atol=1)
    assert note["checks"]["values clipped"] == int(wanted.max() > 65535)


def test_values_are_rounded_to_the_step_of_the_file():
    held, clipped = Grid(0, 255, slope=16, intercept=-1024).nearest(np.array([-2000.0, -1015, 10, 9000], np.float32))
    np.testing.assert_array_equal(held, [-1024, -1008, 16, -1024 + 255 * 16])
    assert clipped == 2


def test_a_coarse_picture_stays_on_its_steps(tmp_path, applier):
    stored = np.clip((body(1)[0] + 1024) // 16, 0, 255).astype(np.uint8)
    Pillow.fromarray(stored).save(tmp_path / "in.png")
    apply(applier, tmp_path / "in.png", tmp_path / "out.png", meaning=RasterMeaning(16, -1024, "HU"))
    with Pillow.open(tmp_path / "out.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), stored)


@pytest.mark.parametrize(
    ("name", "format", "made"),
    [("out.nii.gz", None, "out.nii.gz"), ("out.npy", None, "out.npy"), ("out", "tiff", "out/in.tif")],
)
def test_other_formats_on_request(tmp_path, applier, name, format, made):
    source = ct_series(tmp_path / "in", body())
    apply(applier, source, tmp_path / name, format)
    np.testing.assert_array_equal(read(tmp_path / made).numpy()[0], body())


def test_nifti_becomes_a_series(tmp_path, applier):
    nibabel.save(nibabel.Nifti1Image(body().transpose(2, 1, 0), np.diag([-0.5, -0.75, 2.5, 1])), tmp_path / "in.nii")
    apply(applier, tmp_path / "in.nii", tmp_path / "out", "dicom")
    after = read(tmp_path / "out")
    np.testing.assert_allclose(after.numpy()[0], body(), atol=1 / 16)
    np.testing.assert_allclose(after.spacing, (2.5, 0.75, 0.5))


def test_nifti_fits_into_a_picture_that_is_told_its_offset(tmp_path, applier):
    hu = body(1)
    hu[0, 30, 30] = -3000
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.eye(4)), tmp_path / "in.nii")
    meaning = RasterMeaning(intercept=-1024)
    _, note = apply(applier, tmp_path / "in.nii", tmp_path / "out.png", meaning=meaning)
    with Pillow.open(tmp_path / "out.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.maximum(hu[0] + 1024, 0))
    assert note["checks"]["values clipped"] == 1


def test_whole_volumes_equal_one_pass_in_3d(tmp_path):
    config = {"variant": "g-voxel", "widths": (2, 2, 2, 3, 3, 3)}
    noisy = lambda method: torch.nn.init.normal_(method.generator.noise[-1].weight, std=2.0)  # noqa: E731
    run = make_run(tmp_path / "run", "wolterink-ldct", config, noisy)
    hu = body(35, 24, 70)
    nibabel.save(
        nibabel.Nifti1Image(hu.astype(np.float32).transpose(2, 1, 0), np.diag([-1, -1, 1, 1])), tmp_path / "in.nii.gz"
    )
    applier = Applier(run)
    apply(applier, tmp_path / "in.nii.gz", tmp_path / "out.nii.gz")
    wide = np.pad(hu.astype(np.float32), 7, mode="reflect")
    with torch.no_grad():
        wanted = applier.model.method.generator(torch.from_numpy(wide / 1000)[None, None])[0, 0].numpy() * 1000
    assert np.abs(wanted - hu).max() > 1
    np.testing.assert_allclose(read(tmp_path / "out.nii.gz").numpy()[0], wanted, atol=1e-2)


def test_every_slice_is_read_once(tmp_path, applier, monkeypatch):
    from ganatomy.images import nifti

    asked = []
    original = nifti.NiftiArray.slab

    def slab(self, start, stop):
        asked.extend(range(start, stop))
        return original(self, start, stop)

    nibabel.save(nibabel.Nifti1Image(body(9).transpose(2, 1, 0), np.eye(4)), tmp_path / "in.nii.gz")
    (source,) = find(tmp_path / "in.nii.gz")
    image = source.open()
    monkeypatch.setattr(nifti.NiftiArray, "slab", slab)
    applier.model(image).main.numpy()
    # Once more for the range check, which stops at the first slices.
    assert sorted(asked)[-8:] == list(range(1, 9))


def test_plan_names_one_output_per_source(tmp_path):
    for name in ("a.nii.gz", "a.png", "deep/b.JPG", "c.tiff"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    ct_series(tmp_path / "in" / "s", body(1))
    sources = find(tmp_path / "in")
    names = sorted(output.path.relative_to(tmp_path).as_posix() for output in plan(sources, tmp_path / "o"))
    assert names == ["o/a-d306f0.png", "o/a-fddcff.nii.gz", "o/c.tiff", "o/deep_b.png", "o/s"]
    with pytest.raises(UserError, match="do not fit into one file"):
        plan(sources, tmp_path / "o.nii")
    with pytest.raises(UserError, match=r"suffix says png, but --format says nifti"):
        plan(sources[:1], tmp_path / "o.png", "nifti")
    with pytest.raises(UserError, match="folder with one file per slice"):
        plan(sources[:1], tmp_path / "o.dcm")


def test_outputs_of_two_sources_never_take_one_path(tmp_path):
    own = Applier.__new__(Applier)
    own.predictor = SimpleNamespace(outputs={"map": ImageRole("map"), "healthy": ImageRole("healthy")}, tables=())

    def check(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / name, np.zeros((4, 4), np.uint8))
        sources = [replace(find(tmp_path / name)[0], name=Path(name).stem) for name in names]
        own.check_apart(sources, plan(sources, tmp_path / "o"))

    check("x.npy", "y.npy", "x_healthy.npy")
    with pytest.raises(UserError, match=r"x.npy and .*x-healthy.npy: both would be written to .*x-healthy.npy; rename"):
        check("x.npy", "x-healthy.npy")
    with pytest.raises(UserError, match="both would be written to"):
        check("a/n.npy", "b/N.npy")


def test_names_from_headers_cannot_leave_the_folder(tmp_path, applier):
    first = ct_series(tmp_path / "in" / "s", body(1), SeriesDescription="../../../escape")
    second = ct_series(
        tmp_path / "x", body(1), SeriesDescription="..\\..\\escape", SeriesInstanceUID="1.9", SeriesNumber=4
    )
    shutil.move(next(second.iterdir()), first / "other.dcm")
    sources = find(tmp_path / "in")
    assert len(sources) == 2
    for source, output in zip(sources, plan(sources, tmp_path / "out"), strict=True):
        assert output.path.parent == tmp_path / "out"
        applier(given(applier, source), output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "x"]


def test_results_are_not_overwritten_unasked(tmp_path, applier, gain):
    source = ct_series(tmp_path / "in", body())
    apply(applier, source, tmp_path / "out")
    before = read(tmp_path / "out").numpy()
    with pytest.raises(UserError, match="--overwrite"):
        apply(gain, source, tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out").numpy(), before)
    apply(gain, source, tmp_path / "out", overwrite=True)
    assert read(tmp_path / "out").numpy()[0, 0, 20, 20] > before[0, 0, 20, 20] + 50
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "out.json"}


def test_a_strangers_file_in_the_place_of_the_note_stays(tmp_path, applier):
    source = ct_series(tmp_path / "in", body(1))
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(UserError, match=r"out\.json: exists already"):
        apply(applier, source, tmp_path / "out")
    assert (tmp_path / "out.json").read_text() == "mine"


def test_only_what_apply_has_written_is_replaced(tmp_path, applier):
    source = ct_series(tmp_path / "in", body(1))
    other = ct_series(tmp_path / "other", body(2))
    before = {path: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(UserError, match="never replaced"):
        apply(applier, source, other, overwrite=True)
    assert {path: path.read_bytes() for path in other.iterdir()} == before
    (tmp_path / "scan.nii").write_text("mine")
    with pytest.raises(UserError, match=r"scan\.nii: ganatomy apply did not write it"):
        apply(applier, source, tmp_path / "scan.nii", overwrite=True)
    (tmp_path / "scan.nii.json").write_text('{"output": "another.nii"}')
    with pytest.raises(UserError, match="did not write it"):
        apply(applier, source, tmp_path / "scan.nii", overwrite=True)
    assert (tmp_path / "scan.nii").read_text() == "mine"


def test_overwriting_harms_neither_input_nor_strangers(tmp_path, applier):
    source = ct_series(tmp_path / "in", body(2))
    with pytest.raises(UserError, match="where the input lies"):
        apply(applier, source, source, overwrite=True)
    nibabel.save(nibabel.Nifti1Image(body().transpose(2, 1, 0), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(UserError, match="where the input lies"):
        apply(applier, tmp_path / "v.nii", tmp_path / "v.nii", overwrite=True)
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="other things"):
        apply(applier, source, home, overwrite=True)
    with pytest.raises(UserError, match="a folder is in the way"):
        applier(given(applier, find(tmp_path / "v.nii")[0]), Output(home, "nifti"), True)
    assert (home / "thesis.tex").read_text() == "x"
    assert len(list(source.iterdir())) == 2


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["out.nii.gz", "out.tif", "out.npy", "out"])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interruption_leaves_what_was_there(tmp_path, applier, monkeypatch, name, existing):
    source = ct_series(tmp_path / "in", body())
    if existing:
        apply(applier, source, tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    calls = []

    def restore(block):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return block[..., 8:-8, 8:-8]

    monkeypatch.setattr(applier.model.method, "restore", restore)
    with pytest.raises(Killed):
        apply(applier, source, tmp_path / name, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_network_that_gives_no_numbers_is_an_error(tmp_path, applier, monkeypatch):
    source = ct_series(tmp_path / "in", body())
    monkeypatch.setattr(applier.model.method, "restore", lambda block: block[..., 8:-8, 8:-8] * float("nan"))
    with pytest.raises(UserError, match="gives no numbers in slices 0 to 0"):
        apply(applier, source, tmp_path / "out.nii")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_inverted_contrast_is_told(tmp_path, applier, monkeypatch):
    source = ct_series(tmp_path / "in", body())
    monkeypatch.setattr(applier.model.method, "restore", lambda block: 0.5 - block[..., 8:-8, 8:-8])
    warnings, note = apply(applier, source, tmp_path / "out")
    assert "contrast may be inverted" in warnings[0]
    assert note["checks"]["correlation with input"] == -1.0
    assert note["warnings"] == warnings


def test_the_comparison_equals_numpy():
    random = np.random.default_rng(0)
    before = random.normal(-300, 600, (1, 7, 16, 16))
    after = 0.3 * before + random.normal(2000, 100, before.shape)
    comparison = Comparison("HU")
    for start in range(0, 7, 3):
        comparison.add(before[:, start : start + 3], after[:, start : start + 3])
    assert comparison.correlation == pytest.approx(np.corrcoef(before.ravel(), after.ravel())[0, 1])
    lung = (before >= -900) & (before < -500)
    assert comparison.shifts["lung"] == pytest.approx((after - before)[lung].mean())
    assert Comparison("a.u.").shifts == {}


def test_a_constant_output_is_told_without_a_correlation():
    comparison = Comparison("a.u.")
    comparison.add(np.arange(60.0).reshape(1, 3, 4, 5), np.full((1, 3, 4, 5), 7.0))
    assert comparison.warnings == ["the output or the input has one value everywhere, so they cannot be compared"]
    assert comparison.summary()["correlation with input"] is None


def test_earlier_results_inside_the_input_are_not_taken_for_input(tmp_path, applier):
    nibabel.save(nibabel.Nifti1Image(body().transpose(2, 1, 0), np.eye(4)), tmp_path / "v.nii")
    out = tmp_path / "out"
    apply(applier, tmp_path, out)
    assert len(find(tmp_path)) == 2
    assert [source.name for source in select(find(tmp_path), out, tmp_path)] == ["v"]


def test_a_slope_nobody_would_use_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(body().transpose(2, 1, 0), np.eye(4)), tmp_path / "v.nii")
    sources = find(tmp_path / "v.nii", meaning=RasterMeaning(intercept=-1024))
    with pytest.raises(UserError, match="this file says that itself"):
        check_meaning(sources, plan(sources, tmp_path / "o.nii"))
    check_meaning(sources, plan(sources, tmp_path / "o.png"))


@pytest.mark.parametrize(
    ("name", "made"),
    [("v.mha", "v.mha"), ("v.mhd", "v.mha"), ("v.nrrd", "v.nrrd"), ("v.nhdr", "v.nrrd"), ("v.mgz",) * 2],
)
def test_volumes_of_other_programs_come_back_in_their_format(tmp_path, applier, name, made):
    affine = np.array([[-0.5, 0, 0.3, 12], [0, 0.7, 0.4, -30], [0.05, 0.1, 2.5, 7], [0, 0, 0, 1.0]])
    affine[:3, :3] = np.linalg.qr(affine[:3, :3])[0] * [0.5, 0.7, 2.5]
    (tmp_path / "in").mkdir()
    whole = Image(body()[None], affine[:, [2, 1, 0, 3]])
    if name in ("v.mhd", "v.nhdr"):
        write(tmp_path / "v.nrrd", whole)
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "v.nrrd")), str(tmp_path / "in" / name))
    else:
        write(tmp_path / "in" / name, whole)
    (source,) = find(tmp_path / "in")
    (output,) = plan([source], tmp_path / "out")
    assert output.path == tmp_path / "out" / made
    applier(given(applier, source), output)
    result = read(output.path)
    assert result.dtype == np.int16 and result.unit == (None if made == "v.mgz" else "HU")
    np.testing.assert_allclose(result.numpy()[0], body(), atol=1)
    np.testing.assert_allclose(result.affine, whole.affine, atol=1e-5)


def test_the_resolution_of_a_tiff_is_told_and_kept(tmp_path, applier):
    mm = {"resolution": (10 / 0.5, 10 / 0.7), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "v.tif", (body() + 1024).astype(np.uint16), photometric="minisblack", **mm)
    hu = RasterMeaning(intercept=-1024, unit="HU")
    warnings, _ = apply(applier, tmp_path / "v.tif", tmp_path / "o.tif", meaning=hu)
    assert any("v.tif: the resolution of the TIFF says pixels of 0.7 x 0.5 mm; --pixel-mm" in told for told in warnings)
    np.testing.assert_allclose(read(tmp_path / "o.tif").spacing[1:], (0.7, 0.5))
    warnings, _ = apply(applier, tmp_path / "v.tif", tmp_path / "p.tif", meaning=replace(hu, pixel_mm=0.6))
    assert not any("--pixel-mm" in told for told in warnings)


def test_a_unit_alone_does_not_clip_the_pictures_of_a_volume(tmp_path, applier):
    nibabel.save(nibabel.Nifti1Image(body().transpose(2, 1, 0), np.eye(4)), tmp_path / "v.nii")
    apply(applier, tmp_path / "v.nii", tmp_path / "o.tif", meaning=RasterMeaning(unit="HU"))
    np.testing.assert_allclose(read(tmp_path / "o.tif").numpy()[0], body(), atol=1)


def test_colour_and_other_units_are_refused(tmp_path, applier):
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(UserError, match="channels"):
        apply(applier, tmp_path / "c.png", tmp_path / "out.png")
    np.save(tmp_path / "v.npy", body())
    with pytest.raises(UserError, match="is in SUV"):
        apply(applier, tmp_path / "v.npy", tmp_path / "out.npy", meaning=RasterMeaning(unit="SUV"))


def test_images_smaller_than_the_margin_work(applier):
    small = Image.from_array(body(1, 20, 5)[0, 6:13, :5], unit="HU")
    np.testing.assert_allclose(applier.model(small).main.numpy(), small.numpy(), atol=1e-2)


def test_sigterm_unwinds(tmp_path, applier, monkeypatch):
    from ganatomy.inference.applying import _terminable

    source = ct_series(tmp_path / "in", body())

    def restore(block):
        os.kill(os.getpid(), signal.SIGTERM)
        return block[..., 8:-8, 8:-8]

    monkeypatch.setattr(applier.model.method, "restore", restore)
    with pytest.raises(SystemExit) as stop, _terminable():
        apply(applier, source, tmp_path / "out.nii.gz")
    assert stop.value.code == 143
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("coils", [1, 4])
def test_raw_data_become_images_that_keep_to_them(tmp_path, coils):
    make_run(tmp_path / "run", "gancs", {"size": (32, 24), "width": 4, "discriminator_width": 4})
    kspace, true = raw_data(coils)
    np.save(tmp_path / "scan.npy", kspace)
    (source,) = find(tmp_path / "scan.npy")
    (output,) = plan([source], tmp_path / "out")
    assert output.path == tmp_path / "out" / "scan.nii.gz"
    applier = Applier(tmp_path / "run")
    assert all("contrast" not in warning for warning in applier(given(applier, source), output))
    made = read(output.path)
    assert made.shape == (2, 32, 24) and made.unit in (None, "a.u.")
    sample = applier.predictor.sample_of({"input": source.open()})
    scan = Scan.of(torch.from_numpy(np.asarray(sample.arrays["input"])).transpose(0, 1))
    restored = torch.from_numpy(made.numpy()).transpose(0, 1) * torch.polar(torch.ones_like(true.abs()), true.angle())
    seen = (scan.encoding.normal(restored) - scan.image).abs().mean() / scan.image.abs().mean()
    assert seen < 0.5, "an untrained network adds noise, but what was measured is there"
    assert json.loads(output.note.read_text())["checks"]["correlation with input"] > 0.5


def test_raw_data_are_refused_where_nothing_is_reconstructed(tmp_path, applier):
    np.save(tmp_path / "scan.npy", raw_data(2)[0])
    (source,) = find(tmp_path / "scan.npy")
    with pytest.raises(UserError, match="only systems that reconstruct MR take"):
        applier(given(applier, source), Output(tmp_path / "out.nii.gz", "nifti"))
    assert not (tmp_path / "out.nii.gz").exists()


def raw_data(coils):
    """Make undersampled raw data of two slices, (slices, coils, 32, 24), and their complex images."""
    y, x = np.linspace(-1, 1, 32)[:, None], np.linspace(-1, 1, 24)
    images = (y**2 + x**2 < 0.7) * (2 + np.cos(9 * y) * np.sin(7 * x))
    true = torch.from_numpy(np.stack([images, 0.5 * images])[:, None].astype(np.complex64))
    maps = simulated_sensitivities(coils, (32, 24), 1) if coils > 1 else torch.ones(1, 1, 1, 1)
    mask = Undersampling(fraction=0.4).mask((32, 24))
    return (fft(true * maps) * mask).numpy(), true


def test_a_measured_scan_of_eight_coils(tmp_path, shared):
    make_run(tmp_path / "run", "gancs", {"size": (230, 180), "width": 4, "blocks": 1, "discriminator_width": 4})
    (source,) = find(shared / "recon-mr-volumes/kspace/sigpy_cartesian_ksp.npy")
    (output,) = plan([source], tmp_path / "out")
    applier = Applier(tmp_path / "run")
    applier(given(applier, source), output)
    note = json.loads(output.note.read_text())
    assert read(output.path).shape == (1, 230, 180) and note["checks"]["correlation with input"] > 0.5
