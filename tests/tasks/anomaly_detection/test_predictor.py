import json
import tracemalloc
from dataclasses import asdict, replace

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from toy_detector import LESION, SIZE, Template, anatomy, patient, save_run, stand_in

from ganatomy.data.batches import Range
from ganatomy.errors import NotCalibrated, UserError
from ganatomy.images.files import find, read
from ganatomy.images.image import ComputedArray, Image, RasterMeaning
from ganatomy.images.labelmaps import placed
from ganatomy.inference import apply as applying
from ganatomy.inference.apply import Applier, Output, plan
from ganatomy.inference.model import CALIBRATION, Model, load
from ganatomy.inference.tiling import rolling
from ganatomy.tasks.anomaly_detection import detecting, predictor, refinement
from ganatomy.tasks.anomaly_detection.predictor import Calibration, DetectionPredictor, reached, scored_images
from ganatomy.tasks.anomaly_detection.task import Detection, FeatureAttribution
from ganatomy.tasks.anomaly_detection.thresholds import share_on_unseen, threshold_of

THRESHOLDS = Calibration(100.0, 0.01, 0.05, 2592, 18, 6, "other subjects")
OBLIQUE = np.array([[-0.7, 0.1, 0.2, 5], [0.1, -0.8, 0.2, 6], [0.05, 0.1, 2.5, 7], [0, 0, 0, 1]])


def scan(slices=3, sick=True):
    """Return the toy's patient without noise, (slices, rows, columns)."""
    image = np.repeat(anatomy()[None], slices, 0)
    if sick:
        image[slices // 2, 8:12, 5:8] = LESION
    return image


def enlarged(image, factor=3, aside=6):
    """Enlarge the image with larger pixels, in the middle of a wider field of air."""
    return np.pad(np.kron(image, np.ones((1, factor, factor))), ((0, 0), (0, 0), (aside, aside))).astype(image.dtype)


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    stand_in(monkeypatch)


def detector(calibrated=True, **config):
    return DetectionPredictor(
        Template(Template.Config(**config)), calibration=asdict(THRESHOLDS) if calibrated else None
    )  # fmt: skip


def predicted(one, image):
    return one.predict(one.sample_of({"image": image}))


def applier(folder, calibrated=True, **config):
    run = save_run(folder / "run", **config)
    if calibrated:
        (run / CALIBRATION).write_text(json.dumps({load(run).identity: asdict(THRESHOLDS)}))
    return Applier(run)


def apply(one, source, out, format=None, overwrite=False, **reading):
    (found,) = find(source, **reading)
    (output,) = plan([found], out, format, real=one.real)
    warnings = one({"image": found}, output, overwrite)
    return warnings, json.loads(output.note.read_text())


def nifti(path, values, affine=OBLIQUE):
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), path)
    return path


def back(path):
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def test_a_nifti_file_keeps_its_place(tmp_path):
    source = nifti(tmp_path / "in.nii.gz", scan().astype(np.int16))
    warnings, note = apply(applier(tmp_path, square=False), source, tmp_path / "o" / "out.nii.gz")
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
    assert (note["outputs"]["healthy"], note["outputs"]["mask"]) == ("out-healthy.nii.gz", "out-mask.nii.gz")


def test_larger_images_of_another_shape_get_their_own_grid_back(tmp_path):
    image = enlarged(scan())
    square = np.diag([-0.7, -0.7, 2.5, 1])
    apply(applier(tmp_path, fit="cover"), nifti(tmp_path / "in.nii", image, square), tmp_path / "out.nii")
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
    square = np.diag([-0.7, -0.7, 2.5, 1])
    apply(applier(tmp_path, fit="cover"), nifti(tmp_path / "in.nii", image, square), tmp_path / "out.nii")
    map, healthy, mask = (back(tmp_path / f"out{part}.nii")[:, :20] for part in ("", "-healthy", "-mask"))
    assert not map.any() and not mask.any()
    np.testing.assert_array_equal(healthy, image[:, :20])


def test_specks_are_counted_in_the_working_grid():
    image = Image.from_array(enlarged(scan(), aside=0))
    found = predicted(detector(smallest=8), image)
    assert found["mask"].numpy()[0, 1, 25:35, 16:23].all()
    gone = predicted(detector(smallest=40), image)
    assert not gone["mask"].numpy().any()


@pytest.mark.parametrize(("scale", "unit"), [("zscore", None), ("percentiles", None), ("window", "a.u.")])
def test_scales_of_single_images_are_undone(scale, unit):
    image = Image.from_array(scan().astype(np.int16), unit="a.u.")
    found = Model(Template(Template.Config(scale=scale)))(image)
    assert found["healthy"].unit == "a.u." and found["map"].unit == unit and "mask" not in found.outputs
    assert found["map"].shape == found["healthy"].shape == image.shape and found.main is found["map"]
    assert (found["healthy"].numpy()[image.numpy() == 0] == 0).all()


class Dim(Template):
    """A detector whose healthy image has half the values of the input in the range of the networks, from 0."""

    network_range = (0.0, 1.0)

    def detect(self, image):
        map = self.residual(image, image / 2)
        return Detection(map, map.flatten(1).amax(1), image / 2)


@pytest.mark.parametrize("scale", ["window", "zscore", "percentiles"])
def test_the_healthy_image_comes_back_in_the_unit_of_the_image(scale):
    values = np.random.default_rng(0).uniform(1, 9, (2, 16, 12)).astype(np.float32)
    values[:, :3] = 0
    image = Image.from_array(values, (3.0, 2.0, 2.0), "a.u.")
    config = {"scale": scale, "percentiles": (0.0, 100.0), "window": (0.0, 10.0), "size": (8, 8)}
    found = Model(Dim(Template.Config(**config)).eval())(image)
    healthy, map = found["healthy"].numpy()[0], found["map"].numpy()[0]
    tissue = values > 0
    assert (map >= 0).all() and (scale == "window" or (healthy[~tissue] == 0).all())
    # Averaged into 8 x 8 pixels, only means can be compared, away from the edge.
    towards = {"window": 0, "percentiles": 0, "zscore": values[tissue].mean()}[scale]
    assert healthy[:, 5:].mean() == pytest.approx((values[:, 5:].mean() + towards) / 2, rel=0.02)
    if scale != "zscore":
        step = {"window": 1, "percentiles": values.max()}[scale]
        assert map[:, 5:].mean() * step == pytest.approx(values[:, 5:].mean() / 2, rel=0.02)


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
    _, note = apply(applier(tmp_path, square=False), source, tmp_path / "out")
    names = {path.name for path in tmp_path.iterdir()} - {"in", "run"}
    assert names == {"out", "out-healthy", "out-mask", "out.json"}
    before = read(source)
    for name, wanted in (("out", np.abs(scan() - scan(sick=False))), ("out-healthy", scan(sick=False))):
        after = read(tmp_path / name)
        np.testing.assert_allclose(after.numpy()[0], wanted, atol=0.02)
        np.testing.assert_allclose(after.affine, before.affine)
    mask = placed(find(tmp_path / "out-mask")[0].labelled().open(), before)
    np.testing.assert_allclose(mask.affine, before.affine, atol=1e-6)
    np.testing.assert_array_equal(mask.numpy()[0], scan() == LESION)
    titles = [pydicom.dcmread(tmp_path / name / "00001.dcm").SeriesDescription for name in ("out", "out-healthy")]
    assert titles == ["flair [caae map]", "flair [caae healthy]"]
    assert note["outputs"]["mask"] == "out-mask"


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
    apply(applier(tmp_path / "calibrated"), source, tmp_path / "out.nii")
    assert (tmp_path / "out-mask.nii").exists()
    one = applier(tmp_path, calibrated=False)
    with pytest.raises(UserError, match="exists already"):
        apply(one, source, tmp_path / "out.nii")
    warnings, note = apply(one, source, tmp_path / "out.nii", overwrite=True)
    assert len(warnings) == 1 and "no mask" in warnings[0] and "ganatomy train with --resume" in warnings[0]
    assert note["abnormal"] is note["calibration"] is None and len(note["scores"]) == 3
    assert set(note["outputs"]) == {"map", "healthy"}
    assert not (tmp_path / "out-mask.nii").exists() and (tmp_path / "out-healthy.nii").exists()


def test_a_mask_of_somebody_else_is_not_removed(tmp_path):
    source = nifti(tmp_path / "in.nii", scan())
    (tmp_path / "out-mask.nii").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"out-mask\.nii: ganatomy apply did not write it"):
        apply(applier(tmp_path, calibrated=False), source, tmp_path / "out.nii", overwrite=True)
    assert (tmp_path / "out-mask.nii").read_bytes() == b"mine"


def test_companions_never_take_the_place_of_the_input(tmp_path):
    source = nifti(tmp_path / "out-healthy.nii", scan())
    before = source.read_bytes()
    with pytest.raises(UserError, match="where the input lies"):
        apply(applier(tmp_path), source, tmp_path / "out.nii", overwrite=True)
    assert source.read_bytes() == before and not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_network_that_gives_no_numbers_is_an_error(tmp_path, monkeypatch, calibrated):
    source = nifti(tmp_path / "in.nii", scan())
    one = applier(tmp_path, calibrated)
    original = Template.detect
    monkeypatch.setattr(Template, "detect", lambda self, image: original(self, image * float("nan")))
    with pytest.raises(UserError, match=r"in\.nii: the network gives no numbers"):
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


def test_empty_slices_are_no_images_and_volumes_are_one():
    task, case = Template().task, patient("a", sick=True)
    case.arrays["image"][:, 0] = 0
    scores, abnormal = scored_images(task, case, np.arange(3, dtype=np.float32))
    assert scores.tolist() == [1, 2] and abnormal.tolist() == [True, False]
    scores, abnormal = scored_images(task, case, np.arange(3, dtype=np.float32), np.array([True, True, False]))
    assert scores.tolist() == [1]
    scores, abnormal = scored_images(task, case, np.ones(1, np.float32))
    assert scores.tolist() == [1] and abnormal.tolist() == [True]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("written", [0, 1, 2])
def test_an_interruption_leaves_no_half_file_and_no_note(tmp_path, monkeypatch, written):
    source = nifti(tmp_path / "in.nii", scan())
    one, original, calls = applier(tmp_path), applying._write, []

    def write(output, image, *rest):
        if len(calls) == written:
            raise Killed
        calls.append(output.path.name)
        original(output, image, *rest)

    def write_map(role, path, value, derivation=None):
        write(Output(path, "nifti"), value, derivation)

    monkeypatch.setattr(applying, "_write", write)
    monkeypatch.setattr(type(one.predictor.outputs["mask"]), "write", write_map)
    with pytest.raises(Killed):
        apply(one, source, tmp_path / "out.nii")
    assert {path.name for path in tmp_path.iterdir()} == {"in.nii", "run", *calls}


def test_scores_are_in_the_order_of_the_slices_of_the_source():
    values = scan(5)
    values[0, 3:5, 9] = LESION
    up = Image.from_array(values, (3.0, 1.0, 1.0), "a.u.")
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = 4
    down = Image(up.array[:, ::-1], up.affine @ turn, "a.u.")
    sideways = Image(up.array.transpose(0, 3, 1, 2), up.affine[:, [2, 0, 1, 3]], "a.u.")
    one = detector()
    expected = predicted(one, up)
    assert expected.facts["scores"][0] > 0 and expected.facts["abnormal"] == [False, False, True, False, False]
    reversed_ = predicted(one, down)
    assert reversed_.facts["scores are of"] == "slices"
    assert reversed_.facts["scores"] == pytest.approx(expected.facts["scores"][::-1])
    assert np.array_equal(reversed_["map"].numpy(), expected["map"].numpy()[:, ::-1])
    turned = predicted(one, sideways)
    assert turned.facts["scores are of"] == "axial slices, from the feet to the head"
    assert turned.facts["scores"] == pytest.approx(expected.facts["scores"])
    for name in ("map", "mask", "healthy"):
        assert turned[name].shape == sideways.shape
        assert np.array_equal(turned[name].numpy(), expected[name].numpy().transpose(0, 3, 1, 2)), name


class Volumes(Template):
    dims = 3

    def detect(self, image):
        found = super().detect(image[:, :, 0])
        return found._replace(map=(image - found.healthy[:, :, None]).abs(), healthy=image, score=found.score + 1)


def test_a_volume_has_one_score():
    one = DetectionPredictor(Volumes(Template.Config(size=(4, SIZE, SIZE))), calibration=asdict(THRESHOLDS))
    found = predicted(one, Image.from_array(scan(4), unit="a.u."))
    assert found.facts["scores are of"] == "the volume"
    assert len(found.facts["scores"]) == 1 and found.facts["abnormal"] == [True]


def test_facts_are_found_when_they_are_asked_for():
    one = detector()
    found = predicted(one, Image.from_array(scan(40), unit="a.u."))
    assert one.method.looked_at == 0
    found["map"].slab(3, 5)
    assert one.method.looked_at == 2
    assert set(found.facts) == {"scores are of", "scores", "abnormal", "calibration"} and len(found.facts) == 4
    assert one.method.looked_at == 40


def volume(slices):
    """A lazy volume with pixels three times as small and a lesion in every seventh slice."""

    def slab(start, stop):
        image = enlarged(scan(1, sick=False).repeat(stop - start, 0))[None]
        image[:, [at % 7 == 3 for at in range(start, stop)], 24:36, 21:30] = LESION
        return image

    return Image.from_array(np.zeros((slices, 48, 60), np.float32), (3.0, 1.0, 1.0), "a.u.").with_array(
        ComputedArray((1, slices, 48, 60), np.float32, slab)
    )


def peak(one, slices):
    """Return the peak memory in bytes while all outputs are read one after another, slab by slab."""
    image = rolling(volume(slices))
    tracemalloc.start()
    found = predicted(one, image)
    for name in reversed(found.outputs):
        for part in found[name].slabs():
            assert part.shape[2:] == (48, 60)
    assert len(found.facts["scores"]) == slices
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used


@pytest.mark.parametrize("config", [{}, {"median": 3, "brightest": 0.5, "erosion": 1.0, "smallest": 2}])
def test_three_times_the_slices_take_the_same_memory(monkeypatch, config):
    monkeypatch.setattr(detecting.CachedSlices.__init__, "__defaults__", (1, 1))
    monkeypatch.setattr(refinement, "MOST", 4000)
    one = detector(scale="percentiles", fit="cover", **config)
    monkeypatch.setattr("ganatomy.images.codecs._MOST_VALUES", 4000)
    peak(one, 24)
    few, many = peak(one, 64), peak(one, 192)
    assert many < 1.15 * few, "nothing of the size of a volume is held"


def test_slices_are_looked_at_once_whatever_is_made_of_them():
    one = detector(fit="cover", median=3, smallest=4, brightest=0.5)
    peak(one, 48)
    assert one.method.looked_at == 48


def test_what_is_read_slab_by_slab_is_what_the_whole_volume_gives():
    config = {"fit": "cover", "median": 3, "brightest": 0.3, "erosion": 1.0, "smallest": 12}
    found = predicted(detector(**config), volume(30))
    again = predicted(detector(**config), volume(30))
    for name, value in found.outputs.items():
        slabs = np.concatenate(list(value.slabs(7)), axis=1)
        assert np.array_equal(slabs, again[name].numpy()), name
    mask = found["mask"].numpy()[0]
    assert not mask.any(), "a lesion of one slice is nothing to a median of three"
    plain = predicted(detector(fit="cover", erosion=1.0), volume(30))["mask"].numpy()[0].any(axis=(1, 2))
    assert np.array_equal(np.flatnonzero(plain), [3, 10, 17, 24])


def ranges(count=10, **options):
    return [Range(patient(f"v{number}", split="val", **options), 0, 3) for number in range(count)]


def test_validation_looks_at_the_slices_that_are_scored():
    one = detector(median=3)
    scores = one.validate(ranges(6, sick=True), 6)
    assert one.method.looked_at == 6
    assert set(scores) == {"residual", "score", "pixel auc", "ncc"} and scores["pixel auc"] == pytest.approx(1)


def test_every_case_of_two_groups_is_looked_at():
    class Attributed(Template):
        task_class = FeatureAttribution

    one = DetectionPredictor(Attributed(Template.Config(normal=("healthy",))))
    pieces = []
    for role, piece in zip(("baseline", "effect"), ranges(2, sick=True), strict=True):
        sample = piece.sample
        arrays = {role: sample.arrays["image"], "mask": sample.arrays["mask"]}
        pieces.append(Range(replace(sample, arrays=arrays, roles=one.task.roles), 0, 3))
    assert one.validate(pieces, 6)["pixel auc"] == pytest.approx(1) and one.method.looked_at == 6


def test_the_share_of_healthy_pixels_and_images_is_kept():
    one, healthy = detector(calibrated=False), ranges(40)
    predictions = [one.predict(item.sample) for item in healthy]
    tissue = [item.sample.arrays["image"][0] > 0 for item in healthy]
    maps = np.concatenate(
        [np.asarray(p.arrays["map"])[0][inside] for p, inside in zip(predictions, tissue, strict=True)]
    )
    scores = np.concatenate([prediction.facts["scores"] for prediction in predictions]).astype(np.float32)
    for rate in (0.02, 0.05, 0.25):
        found = Calibration(**one.calibrate(healthy, rate, "other subjects"))
        assert found.pixels == maps.size == 40 * 3 * 144 and found.images == scores.size == 120
        assert reached(maps, found.pixel).mean() == pytest.approx(rate, abs=1e-3)
        assert reached(scores, found.image).mean() == pytest.approx(rate, abs=1 / 120)
        assert reached(maps, found.pixel).mean() <= rate and reached(scores, found.image).mean() <= rate
        assert (found.rate, found.subjects, found.source) == (rate, 40, "other subjects")


def test_abnormal_slices_do_not_raise_the_thresholds():
    one = detector(calibrated=False)
    mixed = [Range(patient(f"v{number}", sick=True), 0, 3) for number in range(6)]
    found = one.calibrate(mixed, 0.05, "")
    assert (found["images"], found["pixels"]) == (12, 12 * 144)
    assert found["pixel"] < 100
    unmasked = [Range(patient("v", sick=True, masked=False), 0, 3)]
    assert one.calibrate(unmasked, 0.05, "") is None
    assert one.calibrate([], 0.05, "") is None


def test_only_the_slices_of_the_ranges_count():
    case = patient("v")
    found = detector(calibrated=False).calibrate([Range(case, 0, 1), Range(case, 2, 3)], 0.05, "")
    assert found["images"] == 2 and found["pixels"] == 2 * 144


def test_flat_maps_have_no_threshold_and_that_is_said():
    with pytest.raises(NotCalibrated, match=r"100% of 1296 healthy pixels have the same value 0.* less --erosion"):
        detector(calibrated=False, gain=0.0).calibrate(ranges(3), 0.05, "")


@pytest.mark.parametrize("value", [0.0, 1e-42, 0.7])
def test_values_that_tie_or_are_rounding_have_no_threshold(value):
    rng = np.random.default_rng(0)
    spread = rng.uniform(1, 2, 1000).astype(np.float32)
    tied = np.where(np.arange(1000) < 970, np.float32(value), spread)
    with pytest.raises(NotCalibrated, match="97% of 1000 healthy pixels have the same value"):
        threshold_of(tied, 0.05, "pixels", "train longer")
    few = np.where(np.arange(1000) < 900, np.float32(value), spread)
    assert reached(few, threshold_of(few, 0.05, "pixels", "")).mean() == 0.05, "ties far below the threshold do no harm"
    with pytest.raises(NotCalibrated, match="which is rounding"):
        threshold_of(np.geomspace(1e-44, 1e-39, 30).astype(np.float32), 0.5, "pixels", "")
    with pytest.raises(NotCalibrated, match="67% of 3 healthy images"):
        threshold_of(np.float32([1, 2, 2]), 0.05, "images", "")
    assert threshold_of(np.float32([1, 2]), 0.05, "images", "") > 2


def test_the_share_on_unseen_data_is_that_of_other_subjects():
    rng = np.random.default_rng(0)
    same = [rng.normal(0, 1, 4000) for _ in range(7)]
    assert share_on_unseen(same, 0.05) == pytest.approx(0.05, abs=0.01)
    shifted = [rng.normal(shift, 0.1, 500) for shift in range(4)]
    assert share_on_unseen(shifted, 0.05) == pytest.approx(0.25, abs=0.02), "the last one is called abnormal as a whole"
    assert share_on_unseen([same[0], same[0][:0]], 0.05) is None


def test_calibration_reports_the_share_reached_on_unseen_subjects_or_blocks():
    one = detector(calibrated=False)
    found = one.calibrate(ranges(12), 0.05, "")
    assert found["parts"] == "12 subjects" and found["unseen_pixels"] == pytest.approx(0.05, abs=0.02)
    assert 0 <= found["unseen_images"] <= 0.25
    case = patient("v", slices=12)
    found = one.calibrate([Range(case, 0, 3), Range(case, 6, 9), Range(case, 10, 12)], 0.05, "")
    assert found["parts"] == "3 blocks of slices" and found["images"] == 8
    assert found["unseen_pixels"] == pytest.approx(0.05, abs=0.03)
    alone = one.calibrate([Range(case, 0, 3)], 0.05, "")
    assert alone["parts"] == "" and alone["unseen_pixels"] is alone["unseen_images"] is None


def test_a_latent_search_is_spared_the_rest_of_many_cases(monkeypatch):
    monkeypatch.setattr(predictor, "SLICES", 9)
    found = detector(calibrated=False).calibrate(ranges(20), 0.05, "")
    assert found["subjects"] == 3 and found["images"] == 9


def test_of_very_many_pixels_some_stand_for_all(monkeypatch):
    one, healthy = detector(calibrated=False), ranges(10)
    everything = one.calibrate(healthy, 0.05, "")
    monkeypatch.setattr(predictor, "MOST", 900)
    some = one.calibrate(healthy, 0.05, "")
    assert some["pixels"] < 900 < everything["pixels"] == 10 * 3 * 144
    assert some["pixel"] == pytest.approx(everything["pixel"], rel=0.1)


def test_other_thresholds_are_refused():
    with pytest.raises(UserError, match=r"calibration\.json: damaged .* delete it"):
        DetectionPredictor(Template(), calibration={"pixel": 1})
