"""Folders and lists of other tools: BIDS, MONAI datalists, MedMNIST, and pictures with two images side by side."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from ganatomy.data.cases import DataConfig, discover, find_cases
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import build

SMALL = {"size": (32, 32), "levels": 3}


def image(path, value):
    write(path, Image.from_array(np.full((3, 16, 20), value, np.int16), (3.0, 1.0, 0.5)))


def translation(source="t1", target="t2"):
    return build("pix2pix", {"source": source, "target": target, **SMALL}).task


def segmentation(*inputs):
    return build("segan", {"inputs": inputs, "variant": "S3-1C", "regions": {"all": (1,)}}).task


def names(case):
    return {role: "/".join(source.paths[0].parts[-2:]) for role, source in case.sources.items()}


# The Brain Imaging Data Structure


@pytest.fixture
def bids(tmp_path):
    """Three subjects, one with two sessions and one with contrast agent; a label map and a brain mask of each."""
    for subject, sessions in (("01", ("1", "2")), ("02", ("",)), ("A3", ("",))):
        for session in sessions:
            parts = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
            stem, folder = "_".join(parts), tmp_path.joinpath(*parts)
            for number, suffix in enumerate(("T1w", "T2w", "FLAIR")):
                image(folder / "anat" / f"{stem}_{suffix}.nii.gz", number + 1)
            image(folder / "func" / f"{stem}_task-rest_bold.nii.gz", 9)
            derived = tmp_path / "derivatives" / "manual" / "/".join(parts) / "anat"
            image(derived / f"{stem}_dseg.nii.gz", 1)
            image(derived / f"{stem}_desc-brain_mask.nii.gz", 1)
    image(tmp_path / "sub-02" / "anat" / "sub-02_ce-gadolinium_T1w.nii.gz", 5)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tdiagnosis\nsub-01\t30\tpatient\nsub-02\t31\tn/a\nA3\t32\thealthy\nsub-99\t1\tpatient\n"
    )
    return tmp_path


def test_suffixes_are_roles_and_sessions_of_a_subject_stay_together(bids):
    with pytest.warns(Notice) as told:
        found = find_cases(translation("flair", "t2"), DataConfig(data=bids))
    assert {case.name: case.subject for case in found} == {
        "sub-01_ses-1": "sub-01",
        "sub-01_ses-2": "sub-01",
        "sub-02": "sub-02",
        "sub-A3": "sub-A3",
    }
    assert names(found[1]) == {
        "flair": "anat/sub-01_ses-2_FLAIR.nii.gz",
        "t2": "anat/sub-01_ses-2_T2w.nii.gz",
    }
    assert {case.subject: case.label for case in found} == {"sub-01": "patient", "sub-02": None, "sub-A3": "healthy"}
    said = " ".join(str(one.message) for one in told)
    assert "not used: T1w (5), bold (4)" in said and "names subjects without a folder: sub-99" in said


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_participants_may_have_sites(bids):
    task, table = translation("flair", "t2"), bids / "participants.tsv"
    assert {case.site for case in find_cases(task, DataConfig(data=bids))} == {None}
    table.write_text("participant_id\tcenter\nsub-01\tNord\nA3\tn/a\n")
    found = find_cases(task, DataConfig(data=bids))
    assert {case.name: case.site for case in found} == {
        "sub-01_ses-1": "Nord",
        "sub-01_ses-2": "Nord",
        "sub-02": None,
        "sub-A3": None,
    }


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_label_maps_come_from_the_derivatives_and_brain_masks_are_none(bids):
    found = find_cases(segmentation("flair", "t1w"), DataConfig(data=bids))
    assert names(found[0])["tumour"] == "anat/sub-01_ses-1_dseg.nii.gz" and found[0].sources["tumour"].labels
    for path in bids.rglob("*_dseg.nii.gz"):
        path.unlink()
    assert "tumour" not in find_cases(segmentation("flair", "t1w"), DataConfig(data=bids))[0].sources


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_images_with_contrast_agent_are_roles_of_their_own(bids):
    found = find_cases(translation("t1", "t1ce"), DataConfig(data=bids))
    whole = next(case for case in found if len(case.sources) == 2)
    assert names(whole) == {
        "t1": "anat/sub-02_T1w.nii.gz",
        "t1ce": "anat/sub-02_ce-gadolinium_T1w.nii.gz",
    }


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_systems_of_one_image_take_the_only_suffix_and_ask_where_there_are_several(bids):
    task = build("caae", {}).task
    with pytest.raises(UserError, match=r"FLAIR, T1w, T1w with ce-, T2w, bold.* takes image.*--roles image='\*_FLAIR"):
        find_cases(task, DataConfig(data=bids))
    for path in (*bids.glob("**/func/*"), *bids.glob("sub-*/**/*_T?w.nii.gz")):
        path.unlink()
    found = find_cases(task, DataConfig(data=bids))
    assert len(found) == 4 and {case.subject for case in found} == {"sub-01", "sub-02", "sub-A3"}


def test_patterns_fit_images_of_subjects_unless_they_name_the_derivatives(bids):
    for path in [*bids.glob("sub-*/**/*_FLAIR.nii.gz")]:
        image(bids / "derivatives" / "registered" / path.relative_to(bids), 7)
    task = build("caae", {}).task
    with pytest.warns(Notice, match=r"images in derivatives are left out unless a pattern names the folder \(12\)"):
        found = find_cases(task, DataConfig(data=bids, roles=("image=*_FLAIR.nii.gz",)))
    assert len(found) == 4 and {case.subject for case in found} == {"sub-01", "sub-02", "sub-A3"}
    assert {source.open().numpy().max() for case in found for source in case.sources.values()} == {3}
    pattern = "image=derivatives/registered/*/*/*_FLAIR.nii.gz"
    found = find_cases(task, DataConfig(data=bids, roles=(pattern,)))
    assert {case.subject for case in found} == {"sub-02", "sub-A3"}


@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_runs_of_a_session_are_cases_and_other_doubles_are_refused(bids):
    for suffix in ("T1w", "T2w"):
        path = bids / "sub-02" / "anat" / f"sub-02_{suffix}.nii.gz"
        image(path.with_name(f"sub-02_run-2_{suffix}.nii.gz"), 8)
        path.rename(path.with_name(f"sub-02_run-1_{suffix}.nii.gz"))
    found = [case for case in find_cases(translation(), DataConfig(data=bids)) if case.subject == "sub-02"]
    assert [case.name for case in found] == ["sub-02_run-1", "sub-02_run-2"]
    assert names(found[1])["t2"] == "anat/sub-02_run-2_T2w.nii.gz"
    image(bids / "sub-02" / "anat" / "sub-02_acq-fast_run-2_T2w.nii.gz", 8)
    with pytest.raises(UserError, match=r"sub-02_acq-fast_run-2_T2w.* are both t2 of sub-02"):
        find_cases(translation(), DataConfig(data=bids))


def test_participants_without_their_column_are_refused(bids):
    (bids / "participants.tsv").write_text("name\tage\nx\t1\n")
    with pytest.raises(UserError, match=r"participants\.tsv: no column participant_id"):
        find_cases(translation(), DataConfig(data=bids))


# MONAI's lists


@pytest.fixture
def datalist(tmp_path):
    """Return a function that writes a list of five training cases of two images, and the folder."""
    for number in range(7):
        for name in ("flair", "t1", "seg"):
            image(tmp_path / "scans" / f"p{number}" / f"p{number}_{name}.nii.gz", 1 if name == "seg" else number + 2)

    def entry(number, label=True, **more):
        paths = [f"scans/p{number}/p{number}_{name}.nii.gz" for name in ("flair", "t1", "seg")]
        return {"image": paths[:2], **({"label": paths[2]} if label else {}), **more}

    def make(name="datalist.json", **lists):
        (tmp_path / name).write_text(json.dumps(lists))
        return tmp_path

    return entry, make


def test_lists_give_images_labels_and_sides(datalist):
    entry, make = datalist
    folder = make(
        training=[entry(0), entry(1), entry(2)],
        validation=[entry(3)],
        testing=[entry(4), {"image": entry(5)["image"], "seg_path": "x"}],
        name="mine.json",
    )
    task = segmentation("flair", "t1")
    with pytest.warns(Notice) as told:
        found = find_cases(task, DataConfig(data=folder / "mine.json"))
    assert [(case.subject, case.split) for case in found] == [
        *((f"p{number}", "train") for number in range(3)),
        ("p3", "val"),
        ("p4", "test"),
    ]
    assert names(found[4]) == {role: f"p4/p4_{name}.nii.gz" for role, name in
                               (("flair", "flair"), ("t1", "t1"), ("tumour", "seg"))}  # fmt: skip
    assert found[0].sources["tumour"].labels
    said = " ".join(str(one.message) for one in told)
    assert "1 images without label are not used" in said and "not used of its entries: seg_path" in said


def test_folds_of_a_list_are_respected(datalist):
    entry, make = datalist
    folder = make(training=[entry(number, fold=number % 3) for number in range(6)])
    task = segmentation("flair", "t1")
    for fold, held in ((None, {"p0", "p3"}), (2, {"p2", "p5"})):
        with pytest.warns(Notice, match=rf"fold {fold or 0} of \[0, 1, 2\] is for testing \(--held-out-fold\)"):
            found = find_cases(task, DataConfig(data=folder, held_out_fold=fold))
        assert {case.subject for case in found if case.split == "test"} == held
    with pytest.raises(UserError, match=r"--held-out-fold 7: .* have the folds \[0, 1, 2\]"):
        find_cases(task, DataConfig(data=folder, held_out_fold=7))
    make(training=[entry(number, fold=number % 3) for number in range(6)], testing=[entry(6)])
    with pytest.warns(Notice, match="fold 0 of .* is for validation"):
        found = find_cases(task, DataConfig(data=folder))
    assert {case.subject: case.split for case in found if case.split != "train"} == {
        "p0": "val", "p3": "val", "p6": "test"
    }  # fmt: skip


def test_keys_that_are_roles_and_classes_and_subjects_are_read(datalist):
    entry, make = datalist
    one, two = entry(0)["image"], entry(1)["image"]
    lists = [{"image": path, "label": number, "patient_id": "same"} for number, path in enumerate((one[0], two[0]))]
    folder = make(training=lists)
    task = build("caae", {}).task
    assert [(case.label, case.subject) for case in find_cases(task, DataConfig(data=folder))] == [
        ("0", "same"), ("1", "same")
    ]  # fmt: skip
    make(training=[{"t2": one[0], "t1": one[1]}])
    assert names(find_cases(translation(), DataConfig(data=folder))[0])["t1"] == "p0/p0_t1.nii.gz"


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ({"training": [{"image": "none.nii"}]}, r"training\[0\] image: 'none.nii' does not exist"),
        ({"training": [{"image": 3}]}, r"training\[0\] image: give a path or a list of paths"),
        ({"training": [{"image": "/"}]}, r"training\[0\] image: '/' is a folder that holds the list"),
        ({"training": [7]}, r"training\[0\] is no dictionary"),
        ({"training": [{"id": 7}]}, r"training\[0\] has no image; there are id"),
        ({"training": [{"image": ["scans/p0/p0_t1.nii.gz"] * 4}]}, r"training\[0\]: 4 channels"),
        ({"training": [{"image": "scans/p0/p0_t1.nii.gz", "label": [1]}]}, r"label: give a path, a class or a number"),
        ({"training": {"a": 1}}, "no list of cases"),
        ([], "no list of cases"),
    ],
)
def test_entries_that_cannot_be_used_are_named(datalist, lists, told):
    _, make = datalist
    folder = make()
    (folder / "list.json").write_text(json.dumps(lists))
    with pytest.raises(UserError, match=told):
        find_cases(build("caae", {}).task, DataConfig(data=folder / "list.json"))


def test_cases_that_lack_an_image_are_named(datalist):
    entry, make = datalist
    folder = make(training=[entry(0), {"image": entry(1)["image"][:1]}])
    with pytest.warns(Notice, match="1 of 2 cases have no t1 image: scans_p1_p1_flair"):
        find_cases(translation("flair", "t1"), DataConfig(data=folder))


def test_damaged_lists_are_named(datalist):
    _, make = datalist
    (make() / "list.json").write_text('{"training": [')
    with pytest.raises(UserError, match=r"list\.json cannot be read as a list of cases in JSON"):
        find_cases(build("caae", {}).task, DataConfig(data=make() / "list.json"))


# MedMNIST


def medmnist(path, shape=(7, 9), labels=None, counts=(5, 2, 3)):
    arrays = {}
    for side, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{side}_images"] = np.arange(count * int(np.prod(shape)), dtype=np.uint32).reshape(count, *shape) % 251
        arrays[f"{side}_images"] = arrays[f"{side}_images"].astype(np.uint8)
        arrays[f"{side}_labels"] = labels(count) if labels else (np.arange(count, dtype=np.uint8) % 3)[:, None]
    np.savez_compressed(path, **arrays)
    return arrays


def test_archives_give_images_classes_and_the_split(tmp_path):
    arrays = medmnist(tmp_path / "some.npz")
    task = build("aae", {}).task
    for place in (tmp_path, tmp_path / "some.npz"):
        found = discover(task, DataConfig(data=place, pixel_mm=0.7))
        assert [(case.split, case.label) for case in found] == [
            *(("train", str(number % 3)) for number in range(5)),
            *(("val", str(number)) for number in range(2)),
            *(("test", str(number)) for number in range(3)),
        ]
    assert len({case.subject for case in found}) == len({case.name for case in found}) == 10
    assert len({case.fingerprint for case in found}) == 10
    opened = found[6].sources["image"].open()
    np.testing.assert_array_equal(opened.numpy()[0, 0], arrays["val_images"][1])
    assert opened.spacing == pytest.approx((1, 0.7, 0.7)) and found[6].sources["image"].paths == (
        tmp_path / "some.npz",
    )


@pytest.mark.parametrize(
    ("shape", "system", "expected"),
    [((7, 9, 3), "gan", (3, 1, 7, 9)), ((6, 7, 9), "srgan3d-brain", (1, 6, 7, 9))],
)
def test_archives_hold_colours_or_volumes(tmp_path, shape, system, expected):
    arrays = medmnist(tmp_path / "some.npz", shape)
    task = build(system, {}).task
    found = discover(task, DataConfig(data=tmp_path))
    opened = found[2].sources["image"].open()
    assert opened.array.shape == expected and opened.header.colours == (shape[-1] == 3)
    stored = arrays["train_images"][2]
    wanted = np.moveaxis(stored, -1, 0)[:, None] if shape[-1] == 3 else stored[None]
    np.testing.assert_array_equal(opened.numpy(), wanted)


def test_several_labels_of_an_image_are_no_class(tmp_path):
    medmnist(tmp_path / "chest.npz", labels=lambda count: np.zeros((count, 14), np.uint8))
    with pytest.warns(Notice, match=r"several labels: train_labels of shape \(5, 14\)"):
        found = find_cases(build("aae", {}).task, DataConfig(data=tmp_path))
    assert {case.label for case in found} == {None}


def test_archives_that_do_not_fit_are_refused(tmp_path):
    medmnist(tmp_path / "some.npz")
    with pytest.raises(UserError, match=r"some\.npz: one image for each case, but this system needs flair"):
        find_cases(segmentation("flair", "t1"), DataConfig(data=tmp_path))
    medmnist(tmp_path / "other.npz", labels=lambda count: np.zeros((count + 1, 1), np.uint8))
    task = build("aae", {}).task
    with pytest.raises(UserError, match=r"several MedMNIST archives: other\.npz, some\.npz"):
        find_cases(task, DataConfig(data=tmp_path))
    with pytest.raises(UserError, match=r"train_images of shape \(5, 7, 9\) and train_labels of shape \(6, 1\)"):
        find_cases(task, DataConfig(data=tmp_path / "other.npz"))


# Two images side by side


def side_by_side(folder, count=3, rows=12, columns=24):
    folder.mkdir(parents=True)
    for number in range(count):
        values = np.full((rows, columns), 10 + number, np.uint8)
        values[:, columns // 2 :] = 100 + number
        Picture.fromarray(values).save(folder / f"{number}.png")


def test_pictures_twice_as_wide_as_high_are_pairs(tmp_path):
    side_by_side(tmp_path / "train")
    side_by_side(tmp_path / "test", 2)
    with pytest.warns(Notice, match=r"left half is t1, the right half t2 \(--halves t2 t1 exchanges them\)"):
        found = discover(translation(), DataConfig(data=tmp_path))
    assert sorted(case.split for case in found) == ["test"] * 2 + ["train"] * 3
    assert len({case.subject for case in found}) == 5
    values = {role: source.open() for role, source in found[1].sources.items()}
    assert {role: one.shape for role, one in values.items()} == {"t1": (1, 12, 12), "t2": (1, 12, 12)}
    assert [int(one.numpy()[0, 0, 0, 0]) for one in values.values()] == [11, 101]
    np.testing.assert_array_equal(values["t1"].affine, values["t2"].affine)


def test_halves_are_those_that_are_asked_for(tmp_path):
    side_by_side(tmp_path / "pictures", rows=10)
    found = find_cases(translation(), DataConfig(data=tmp_path / "pictures", halves=("t2", "t1")))
    values = {role: int(source.open().numpy().max()) for role, source in found[0].sources.items()}
    assert values == {"t2": 10, "t1": 100}
    for halves, told in ((("t2", "pet"), "there is no image pet"), (("t1", "t1"), "give two roles")):
        with pytest.raises(UserError, match=told):
            find_cases(translation(), DataConfig(data=tmp_path / "pictures", halves=halves))


def test_pictures_of_another_shape_are_no_pairs(tmp_path):
    side_by_side(tmp_path / "train", rows=13, columns=25)
    task = build("cyclegan", {"size": (32, 32)}).task
    with pytest.raises(UserError, match="nothing says which of its images are t1 and which are t2"):
        find_cases(task, DataConfig(data=tmp_path))
    found = find_cases(task, DataConfig(data=tmp_path, halves=("t1", "t2")))
    with pytest.raises(UserError, match="25 columns, which are not two halves"):
        found[0].sources["t1"].open()
