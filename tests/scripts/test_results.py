"""Pages of results on real images: from a manifest to a page, and whether they are older than their code."""

import csv
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.api import configured, sorted_options
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import judge_of
from ganatomy.images.image import Image

SCRIPTS = Path(__file__).parents[2] / "scripts" / "results"
TINY = {
    "source": "t1",
    "target": "t2",
    "width": 2,
    "discriminator_width": 2,
    "levels": 3,
    "size": (16, 24),
    "rounds": 2,
}

WORDS = ("subject", "split", "label", "pixel_mm", "slice_labels")
"""Columns of manifests that hold no paths."""


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("making"), importlib.import_module("definitions")
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in ("making", "definitions", "landmarks", "segmentation"):
            sys.modules.pop(name, None)


@pytest.fixture
def made_up(modules, tmp_path, monkeypatch):
    """A page on images that are made here, which is written into a folder of its own."""
    page, pages = modules
    monkeypatch.setattr(page, "DOCS", tmp_path)

    def manifest(data, work):
        rng, rows = np.random.default_rng(1), []
        for number, side in enumerate(["train", "train", "train", "test", "test"]):
            first = rng.gamma(2, 40, (3, 20, 28)).astype(np.float32)
            places = [data / f"{number}_{name}.nii.gz" for name in ("t1", "t2")]
            for place, values in zip(places, (first, 500 - 2 * first), strict=True):
                Image(values[None], np.diag([2.0, 1.0, 1.5, 1.0])).save(place)
            rows.append([f"s{number}", side, *places])
        return pages.write_manifest(work, ["subject", "split", "t1", "t2"], rows)

    row = page.Row("made up", "pix2pix", TINY)
    return page.Page("made-up", "Made-up images", ["Five patients."], manifest, (row,), ("psnr[window]", "contrast"))


def test_a_page_is_made_from_images_to_verdict_and_keeps_remarks(modules, made_up, tmp_path):
    page, data = modules[0], tmp_path / "data"
    data.mkdir()
    page.make(made_up, data, tmp_path / "runs", seeds=1, threads=1)
    text = made_up.path.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| pix2pix, made up |")]
    methods = [line.split("|")[2].strip().removesuffix(" (strongest simple)") for line in rows]
    assert {"pix2pix", "baseline", "linear map"} <= set(methods) and "(strongest simple)" in text
    assert "psnr[window] ↑, dB" in text and "`--size 16 24`" in text and "Five patients." in text
    assert f"`{made_up.code}`" in text and not made_up.stale
    made_up.path.write_text(text + "\n## Remarks\n\nWell done.\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    page.make(made_up, data, tmp_path / "runs", seeds=1, threads=1)
    again = made_up.path.read_text(encoding="utf-8")
    assert again == text + "\n## Remarks\n\nWell done.\n"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")} == before

    other = replace(made_up, rows=(page.Row("made up", "pix2pix", {**TINY, "rounds": 3}),))
    assert other.stale and page.OLDER in page.marked(other) and page.OLDER not in page.marked(made_up)


def test_options_are_told_as_they_are_typed(modules):
    page = modules[0]
    row = page.Row("x", "segan", {"regions": {"whole": (1, 2), "core": (1,)}, "size": (16, 24), "image.channels": 1})
    words = "preset `small` `--regions whole=1,2 core=1` `--size 16 24` `--image.channels 1`"
    assert page._options(row) == words


def test_a_trial_has_a_page_of_its_own(modules, made_up, tmp_path, monkeypatch):
    page, data = modules[0], tmp_path / "data"
    monkeypatch.setitem(page.TRIED, "train", 2)
    data.mkdir()
    found = page.make(made_up, data, tmp_path / "runs", seeds=1, threads=1, trial=1)
    assert found == tmp_path / "runs" / "made-up-trial" / "page.md" and found.is_file()
    assert "A trial of 1 rounds and a few subjects: the figures mean nothing." in found.read_text(encoding="utf-8")
    with (found.parent / "manifest.csv").open(encoding="utf-8") as stream:
        assert [row["subject"] for row in csv.DictReader(stream)] == ["s0", "s1", "s3", "s4"]
    assert not made_up.path.exists() and not (tmp_path / "runs" / "made-up").exists()


def test_missing_images_are_told_in_one_line(modules, tmp_path):
    pages = modules[1]
    for one in pages.PAGES.values():
        with pytest.raises(UserError, match="no such folder; DATA"):
            one.manifest(tmp_path, tmp_path)
    (tmp_path / "segment-cells-dsb2018").mkdir()
    with pytest.raises(UserError, match=r"segment-cells-dsb2018/index\.csv: missing"):
        pages.PAGES["segmentation-cells"].manifest(tmp_path, tmp_path)


def test_manifests_of_segmentation_keep_subjects_apart_and_leave_out_what_is_not_annotated(modules, tmp_path):
    pages = modules[1].PAGES
    data = tmp_path / "data"
    index = {
        "segment3d-hippocampus-msd": "case,split\nhippocampus_037,train\nhippocampus_038,test\nhippocampus_001,train\n",
        "segment-cardiac-sunnybrook": "name,patient,contours,split\na,p,endo,train\nb,p,endo+epi,test\nc,q,endo,test\n",
    }
    for name, text in index.items():
        (data / name).mkdir(parents=True)
        (data / name / "index.csv").write_text(text)
    with pages["segmentation-hippocampus"].manifest(data, tmp_path).open() as stream:
        found = [(row["subject"], row["split"], Path(row["t1"]).name) for row in csv.DictReader(stream)]
    assert found == [
        ("hippocampus_037", "test", "hippocampus_037.nii.gz"),
        ("hippocampus_037", "test", "hippocampus_038.nii.gz"),
        ("hippocampus_001", "train", "hippocampus_001.nii.gz"),
    ]
    with pages["segmentation-heart"].manifest(data, tmp_path).open() as stream:
        assert [Path(row["heart"]).name for row in csv.DictReader(stream)] == ["b.png"]


def test_pages_speak_of_systems_and_scores_that_exist(modules):
    for one in modules[1].PAGES.values():
        for row in one.rows:
            kind = catalogue.load(row.system)
            known = {score.name for score in judge_of(kind.of(kind.Config.preset("small")).task).scores}
            assert known & set(one.scores), f"{one.slug}: {row.system} has none of the scores"
            method, *_ = sorted_options(kind.Config, "small", row.arguments)
            configured(kind.Config, "small", False, {}, method)


def test_manifests_name_files_of_the_data_set(modules, tmp_path):
    data = Path(__file__).parents[3] / "shared" / "data"
    if not (data / "translate-mr-openms").is_dir():
        pytest.skip("needs the real images")
    for one in modules[1].PAGES.values():
        work = tmp_path / one.slug
        work.mkdir()
        place = one.manifest(data, work)
        if place.suffix == ".npz":  # an archive that has its own split
            assert place.is_file()
            continue
        with place.open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        sides = {side: {row["subject"] for row in rows if row["split"] == side} for side in ("train", "test")}
        assert all(sides.values()) and not sides["train"] & sides["test"]
        paths = [value for row in rows for name, value in row.items() if name not in WORDS]
        assert all(Path(path).is_file() for path in paths)


def test_eight_points_lie_on_the_ellipse_of_a_mask_from_its_right_end_clockwise(modules):
    pages = sys.modules["landmarks"]
    rows, columns = np.mgrid[:120, :160]
    turn = np.radians(20)  # clockwise in the image
    u, v = columns - 85.0, rows - 52.0
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    points = pages.on_ellipse((along / 50) ** 2 + (across / 30) ** 2 <= 1, 8)
    right, lower = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    want = [(52.0, 85.0) + 50 * right, (52.0, 85.0) + 30 * lower, (52.0, 85.0) - 50 * right]
    np.testing.assert_allclose(points[[0, 2, 4]], want, atol=0.3)
    assert len(pages.EIGHT) == 8 and pages.EIGHT[0] == "right" and pages.EIGHT[2] == "lower"
