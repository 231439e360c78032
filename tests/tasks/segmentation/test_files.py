"""Label maps and instance maps that `apply` writes, read back by the libraries that others use."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.seg import segread
from levels import SHAPE, random_images, volume
from PIL import Image as Pillow
from runs import make_run

from dicom_kinds import write_file
from ganatomy.errors import UserError
from ganatomy.images.files import find, read
from ganatomy.images.labelmaps import palette, placed
from ganatomy.inference.applying import apply_run
from ganatomy.tasks.segmentation.instances import find_objects
from ganatomy.tasks.segmentation.rules import ObjectRules

SYSTEM = f"{Path(__file__).parent / 'levels.py'}:Levels"
LEVEL = 500
"""Value from which a voxel of an input is inside of its region."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return runs of tumours from two contrasts, of a ventricle from one, and of cells in pictures and in volumes."""
    folder = tmp_path_factory.mktemp("runs")
    picture = {"inputs": ("image",), "roles": {"image": {"window": (0.0, 250.0), "unit": None}}}
    configs = {
        "tumour": {},
        "disc": {**picture, "regions": {"disc": (3,)}},
        "heart": {"inputs": ("echo",), "regions": {"ventricle": (1,)}, "measures": ("ejection-fraction",)},
        "cells": {**picture, "labels": "cells", "regions": {"inside": (1,)}, "instances": True},
        "nuclei": {"inputs": ("t1",), "labels": "cells", "regions": {"inside": (1,)}, "instances": True},
    }
    return {name: make_run(folder / name, SYSTEM, config) for name, config in configs.items()}


def apply(run, inputs, out, **options):
    return apply_run(run, [str(one) for one in inputs], out, system=SYSTEM, **options)


def write_mr(folder, values, **attributes):
    """Write an MR series of values (slices, rows, columns) from the feet up."""
    for at, plane in enumerate(values):
        place = {
            "ImagePositionPatient": [-10.0, -20.0, 100.0 + 2 * at],
            "SeriesInstanceUID": f"1.2.3.{folder.name[1:]}",
        }
        write_file(folder / f"{at}.dcm", "MR", plane.astype(np.uint16), InstanceNumber=at + 1, **place, **attributes)


def labels_of(images):
    """Return the label map of both contrasts: 2 in the whole tumour, 1 in its core."""
    return np.where(images["t2"] >= LEVEL, 1, np.where(images["t1"] >= LEVEL, 2, 0))


def place_of(positions):
    """Return the slice, counted from the feet, of a position in a series that `write_mr` wrote."""
    return round((float(positions[0].ImagePositionPatient[2]) - 100) / 2)


def by_highdicom(path, shape):
    """Return the labels of a DICOM segmentation as highdicom reads it, from the feet up; slices may be left out."""
    file = segread(path)
    volumes = file.get_volume(combine_segments=False)
    found = np.zeros(shape, int)
    for plane, positions in zip(volumes.array, volumes.get_plane_positions(), strict=True):
        for number, segment in enumerate(file.SegmentSequence):
            found[place_of(positions)][plane[..., number] > 0] = int(segment.SegmentDescription.split()[-1])
    return found


def by_simpleitk(path, shape):
    """Return the labels of a DICOM segmentation from its frames as SimpleITK reads them, and the file's own places."""
    frames, file = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), pydicom.dcmread(path)
    found = np.zeros(shape, int)
    for frame, group in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
        segment = file.SegmentSequence[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        found[place_of(group.PlanePositionSequence)][frame > 0] = int(segment.SegmentDescription.split()[-1])
    return found


def test_several_dicom_series_become_a_segmentation_that_other_libraries_read(tmp_path, runs):
    images = random_images("t1", "t2")
    for number, (role, values) in enumerate(images.items()):
        write_mr(tmp_path / f"s{number}", values, SeriesDescription=role)
    series = [f"{role}={tmp_path / f's{number}'}" for number, role in enumerate(images)]
    apply(runs["tumour"], series, tmp_path / "out")
    path = tmp_path / "out" / "00001.dcm"
    np.testing.assert_array_equal(by_highdicom(path, SHAPE), labels_of(images))
    np.testing.assert_array_equal(by_simpleitk(path, SHAPE), labels_of(images))
    assert [one.SegmentLabel for one in segread(path).SegmentSequence] == ["core", "whole"]
    first, second = (read(tmp_path / f"s{number}") for number in (0, 1))
    back = placed(find(tmp_path / "out")[0].labelled().open(), first)
    np.testing.assert_array_equal(back.numpy(), labels_of({"t1": first.numpy(), "t2": second.numpy()}))


def test_several_nifti_files_become_a_label_map_on_their_grid(tmp_path, runs):
    images = random_images("t1", "t2", seed=1)
    for role, values in images.items():
        volume(values).save(tmp_path / f"{role}.nii.gz")
    apply(runs["tumour"], [f"{role}={tmp_path / role}.nii.gz" for role in images], tmp_path / "out.nii.gz")
    found, source = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("out", "t1"))
    np.testing.assert_allclose(found.affine, source.affine, atol=1e-5)
    np.testing.assert_array_equal(found.get_fdata(), np.where(
        nibabel.load(tmp_path / "t2.nii.gz").get_fdata() >= LEVEL, 1, 2 * (source.get_fdata() >= LEVEL)
    ))  # fmt: skip
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "out.nii.gz")))
    assert sorted(np.unique(itk)) == [0, 1, 2] and (itk == 1).sum() == (images["t2"] >= LEVEL).sum()


def test_a_picture_becomes_a_png_with_labels_as_indices_of_a_palette(tmp_path, runs):
    values = np.random.default_rng(2).integers(0, 250, (9, 14)).astype(np.uint8)
    Pillow.fromarray(values).save(tmp_path / "image.png")
    apply(runs["disc"], [tmp_path / "image.png"], tmp_path / "out.png")
    with Pillow.open(tmp_path / "out.png") as found:
        assert found.mode == "P"
        np.testing.assert_array_equal(np.asarray(found), 3 * (values >= 125))
        colour = np.asarray(found.convert("RGB"))[values >= 125][0]
    np.testing.assert_array_equal(colour, palette()[3])
    with (tmp_path / "out-labels.csv").open() as stream:
        assert [(row["label"], row["region"], row["red"]) for row in csv.DictReader(stream)] == [
            ("3", "disc", str(palette()[3][0]))
        ]


def discs(shape, places, radius):
    """Return values of discs (slices, rows, columns): bright inside, in all slices but the last."""
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    found = np.zeros(shape, np.float32)
    for row, column in places:
        found[:-1, (rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = 1
    return found


PLACES = [(5, 6), (5, 20), (15, 9), (14, 26)]


def test_objects_of_a_dicom_series_are_segments_with_their_numbers(tmp_path, runs):
    values = 900 * discs((3, 20, 32), PLACES, 3)
    write_mr(tmp_path / "s0", values)
    apply(runs["nuclei"], [tmp_path / "s0"], tmp_path / "out")
    path = tmp_path / "out" / "00001.dcm"
    want = find_objects(values[::-1] > 0, ObjectRules())[::-1]
    for found in (by_highdicom(path, values.shape), by_simpleitk(path, values.shape)):
        assert found.max() == 4 and len({*zip(found.ravel(), want.ravel(), strict=True)}) == 5
    assert [one.SegmentLabel for one in segread(path).SegmentSequence] == [f"label {n}" for n in (1, 2, 3, 4)]
    with (tmp_path / "out-objects.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4


def test_more_objects_than_a_byte_can_number_are_kept_in_dicom_and_in_pictures(tmp_path, runs):
    values = np.zeros((1, 34, 80), np.float32)
    values[:, 1::2, 1::4] = 1  # 17 x 20 single pixels
    write_mr(tmp_path / "s0", 900 * values)
    apply(runs["nuclei"], [tmp_path / "s0"], tmp_path / "out")
    found = by_highdicom(tmp_path / "out" / "00001.dcm", values.shape)
    assert found.max() == 340 and len(np.unique(found[values > 0])) == 340
    Pillow.fromarray((240 * values[0]).astype(np.uint8)).save(tmp_path / "image.png")
    apply(runs["cells"], [tmp_path / "image.png"], tmp_path / "numbers.png")
    with Pillow.open(tmp_path / "numbers.png") as picture:
        numbers = np.asarray(picture)
    np.testing.assert_array_equal(numbers, found[0])


def heart(share):
    """Return an echo of 6 x 8 x 9 voxels of 4.5 mm³, a share of which is the ventricle, without being empty."""
    values = np.full(6 * 8 * 9, 100.0)
    values[: round(share * values.size)] = 800
    return values.reshape(6, 8, 9)


def test_the_ejection_fraction_is_that_of_the_frames_of_each_subject(tmp_path, runs):
    shares = {"p01_ed": 0.5, "p01_es": 0.25, "p01_mid": 0.375, "p02_ed": 0.75, "p02_es": 0.15, "p03_ed": 0.5}
    for name, share in shares.items():
        volume(heart(share)).save(tmp_path / "in" / f"{name}.nii.gz")
    found = apply(runs["heart"], [tmp_path / "in"], tmp_path / "out")
    assert found.subjects == tmp_path / "out" / "subjects.csv"
    with found.subjects.open() as stream:
        rows = {(row["subject"], row["measure"]): row for row in csv.DictReader(stream)}
    assert {subject for subject, _ in rows} == {"p01", "p02"}, "one frame has no ejection fraction"
    assert [rows[one, "ejection fraction"]["value"] for one in ("p01", "p02")] == ["50.0", "79.9"]
    large = float(rows["p02", "end-diastolic volume"]["value"])
    assert large == pytest.approx(0.75 * 432 * 4.5 / 1000, abs=0.05)
    assert rows["p01", "end-systolic volume"]["cases"] == "3" and rows["p01", "ejection fraction"]["unit"] == "%"
    note = json.loads((tmp_path / "out" / "subjects.csv.json").read_text())
    assert note["cases"]["p02"] == ["p02_ed.nii.gz.json", "p02_es.nii.gz.json"] and note["identity"]
    with (tmp_path / "out" / "p02_es-measures.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["measure"], row["unit"]) == ("ventricular volume", "ml")
    assert float(row["value"]) == pytest.approx(round(0.15 * 432) * 4.5 / 1000, abs=1e-6)


def test_a_table_of_subjects_is_replaced_only_on_request_and_names_nobody_if_told_so(tmp_path, runs):
    for name, share in {"ed": 0.5, "es": 0.25}.items():
        volume(heart(share)).save(tmp_path / "in" / f"meier7_{name}.nii.gz")
    for options in ({}, {"overwrite": True, "deidentify": False}):
        apply(runs["heart"], [tmp_path / "in"], tmp_path / "out", **options)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "subjects.csv").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"subjects\.csv"):
            apply(runs["heart"], [tmp_path / "in"], tmp_path / "other", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["subjects.csv"]
    hidden = apply(runs["heart"], [tmp_path / "in"], tmp_path / "hidden", deidentify=True)
    told = hidden.subjects.read_text() + hidden.subjects.with_name("subjects.csv.json").read_text()
    assert "ejection fraction,50.0" in told and "meier" not in told


def test_frames_of_one_recording_have_an_ejection_fraction_and_a_manifest_names_subjects(tmp_path, runs):
    frames = np.stack([heart(share) for share in (0.5, 0.3, 0.2)])
    volume(frames).save(tmp_path / "beat.nii.gz")
    found = apply(runs["heart"], [tmp_path / "beat.nii.gz"], tmp_path / "out", frames=["all"])
    assert "beat,ejection fraction,60" in found.subjects.read_text()
    rows = [("a", "x", 0.4), ("a", "y", 0.3), ("b", "z", 0.2)]
    for _, name, share in rows:
        volume(heart(share)).save(tmp_path / f"{name}.nii.gz")
    table = "".join(f"{subject},{name},{name}.nii.gz\n" for subject, name, _ in rows)
    (tmp_path / "cases.csv").write_text(f"subject,name,echo\n{table}")
    found = apply(runs["heart"], [tmp_path / "cases.csv"], tmp_path / "listed")
    assert [line.split(",")[0] for line in found.subjects.read_text().splitlines()[1:]] == ["a", "a", "a"]
    alone = apply(runs["heart"], [tmp_path / "x.nii.gz"], tmp_path / "alone.nii.gz")
    assert alone.subjects is None
