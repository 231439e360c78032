from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from ganatomy.case import Case, Held
from ganatomy.data.cases import DataConfig, discover, find_cases, names_of_images
from ganatomy.data.overview import items_of, prepared_items, sentences, write_manifest
from ganatomy.data.store import Store
from ganatomy.errors import Shortage, UserError
from ganatomy.images.files import Source, find, write
from ganatomy.images.image import Header, Image, RasterMeaning
from ganatomy.inference.gather import gather
from ganatomy.inference.model import build


@pytest.fixture
def task():
    return build("pix2pix", {"size": (32, 32), "levels": 3}).task


@pytest.fixture
def folder(tmp_path):
    """T1 and T2 of five patients, of different sizes; the T2 of one is damaged."""
    for number in range(5):
        for name, scale in (("t1", 900.0), ("t2", 1000.0)):
            values = np.linspace(0, scale, (2 + number) * 20 * 24).reshape(2 + number, 20, 24)
            image = Image.from_array(values.astype(np.float32), (3.0, 1.0, 0.5 + number))
            write(tmp_path / "data" / f"p{number}" / f"p{number}_{name}.nii.gz", image)
    broken = tmp_path / "data" / "p3" / "p3_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:600])
    return tmp_path / "data"


CONFIG = {"roles": ("t1=*_t1.nii.gz", "t2=*_t2.nii.gz"), "test_subjects": ("p1",)}


def test_every_image_is_described(task, folder):
    items = list(items_of(discover(task, DataConfig(data=folder, **CONFIG))))
    one = next(item for item in items if (item.case, item.role) == ("p1", "t2"))
    assert (one.subject, one.split, one.shape, one.spacing) == ("p1", "test", (3, 20, 24), (3.0, 1.0, 1.5))
    assert one.span == pytest.approx((1000 / 3, 2000 / 3), rel=0.01) and one.unit is None and one.problem is None
    (bad,) = [item for item in items if item.problem]
    assert (bad.case, bad.role, bad.shape) == ("p3", "t2", None) and "p3_t2.nii.gz" in bad.problem


def test_sentences_count_subjects_and_give_ranges(task, folder):
    told = sentences(list(items_of(discover(task, DataConfig(data=folder, **CONFIG)))))
    assert told[0] == "subjects (cases): 4 for training (4), 1 for testing (1)"
    assert told[1].startswith("t1: 2-6 x 20 x 24 voxels; 3 x 1 x 0.5-4.5 mm; ") and told[1].endswith(", no unit")
    assert told[2].startswith("t2: 2-6 x 20 x 24 voxels") and told[3].startswith("cannot be read: p3 t2: ")


def test_a_shortage_stops_the_overview(task, folder, monkeypatch):
    def short(self):
        raise Shortage("too many open files")

    monkeypatch.setattr(Source, "open", short)
    with pytest.raises(Shortage):
        list(items_of(discover(task, DataConfig(data=folder, **CONFIG))))


def test_a_written_manifest_reads_as_the_same_cases(task, folder):
    before = discover(task, DataConfig(data=folder, pixel_mm=0.7, **CONFIG))
    write_manifest(folder / "manifest.csv", before)
    text = (folder / "manifest.csv").read_text()
    assert text.splitlines()[:2] == ["subject,t1,t2,split,pixel_mm", "p0,p0/p0_t1.nii.gz,p0/p0_t2.nii.gz,train,0.7"]
    after = discover(task, DataConfig(data=folder / "manifest.csv"))
    assert [(case.subject, case.split) for case in before] == [(case.subject, case.split) for case in after]
    for one, other in zip(before, after, strict=True):
        assert {name: source.paths for name, source in one.sources.items()} == {
            name: source.paths for name, source in other.sources.items()
        }


def test_sites_are_told_with_their_sides_and_written_to_the_manifest(task, folder):
    rows = [("p0", "train", "Ost"), ("p1", "val", "Ost"), ("p2", "test", "West"), ("p4", "train", "")]
    lines = [f"{name},{name}/{name}_t1.nii.gz,{name}/{name}_t2.nii.gz,{side},{site}" for name, side, site in rows]
    (folder / "list.csv").write_text("\n".join(["subject,t1,t2,split,scanner", *lines]) + "\n")
    cases = find_cases(task, DataConfig(data=folder / "list.csv"))
    told = sentences(list(items_of(cases)))[-1]
    assert told == "sites (subjects for): Ost (training 1, validation 1), West (testing 1), not known (training 1)"
    assert sentences(list(items_of(cases)), divided=False)[-1] == "sites (subjects): Ost (2), West (1), not known (1)"
    write_manifest(folder / "again.csv", cases)
    again = find_cases(task, DataConfig(data=folder / "again.csv"))
    assert [case.site for case in again] == ["Ost", "Ost", "West", None]


def test_a_manifest_is_never_overwritten_and_phantoms_have_none(task, folder):
    cases = discover(task, DataConfig(data=folder, **CONFIG))
    (folder / "manifest.csv").write_text("mine")
    with pytest.raises(UserError, match=r"--write .*manifest.csv: exists already"):
        write_manifest(folder / "manifest.csv", cases)
    assert (folder / "manifest.csv").read_text() == "mine"
    with pytest.raises(UserError, match="phantoms have no files"):
        write_manifest(folder / "new.csv", discover(task, DataConfig(phantom_subjects=3)))


@pytest.fixture
def echoes(tmp_path):
    """A folder with a series of two echoes, and another series; their values are 100, 200 and 300."""
    folder = tmp_path / "both"
    folder.mkdir()
    for number in range(3):
        values = np.full((3, 8, 12), 100 * (number + 1), np.int16)
        values[0, 0, 0] = 0
        write(tmp_path / str(number), Image.from_array(values, (4.0, 1.0, 2.0), "a.u.", Header(modality="MR")))
        for path in (tmp_path / str(number)).iterdir():
            file = pydicom.dcmread(path)
            file.PatientID, file.StudyInstanceUID = "ann", "1.2.3"
            if number < 2:
                file.SeriesInstanceUID, file.EchoNumbers, file.SeriesDescription = "1.2.3.4", number + 1, "two echoes"
            file.save_as(folder / f"{number}-{path.name}")
            path.unlink()
        (tmp_path / str(number)).rmdir()
    return folder


def test_volumes_and_series_that_share_a_folder_are_named_behind_a_mark(echoes, tmp_path):
    task = build("caae", {}).task
    before = find_cases(task, DataConfig(data=echoes))
    write_manifest(tmp_path / "manifest.csv", before)
    cells = [line.split(",")[1] for line in (tmp_path / "manifest.csv").read_text().splitlines()[1:]]
    assert cells[:2] == ["both#echo 1", "both#echo 2"] and cells[2] == "both#Written by Ganatomy"
    after = find_cases(task, DataConfig(data=tmp_path / "manifest.csv"))
    assert [one.sources["image"].paths for one in after] == [one.sources["image"].paths for one in before]
    values = [int(case.sources["image"].open().numpy().max()) for case in after]
    assert values == [100, 200, 300] and {case.subject for case in after} == {"ann"}
    assert len({case.name for case in after}) == 3
    (tmp_path / "manifest.csv").write_text("subject,image\nann,both#echo 3\n")
    with pytest.raises(
        UserError, match=r"both#echo 3: there is no 'echo 3'; it holds .Written by Ganatomy., .echo 1., .echo 2."
    ):
        find_cases(task, DataConfig(data=tmp_path / "manifest.csv"))
    (tmp_path / "manifest.csv").write_text("subject,image\nann,both\n")
    with pytest.raises(UserError, match="both holds 3 images; name one of them, such as both#echo 1"):
        find_cases(task, DataConfig(data=tmp_path / "manifest.csv"))


def test_a_trained_method_is_applied_to_the_volume_that_a_manifest_names(echoes, tmp_path):
    (tmp_path / "list.csv").write_text("name,image\nsecond,both#echo 2\n")
    (job,) = gather([str(tmp_path / "list.csv")], SimpleNamespace(inputs=("image",), optional=()), find)
    assert job.name == "second" and int(job.main.open().numpy().max()) == 200


def test_series_that_nothing_tells_apart_are_refused(echoes, tmp_path, monkeypatch):
    cases = find_cases(build("caae", {}).task, DataConfig(data=echoes))
    monkeypatch.setattr("ganatomy.data.parts.names_of", lambda source: ["a series"])
    with pytest.raises(UserError, match="both holds other images, too, and no name tells this one from them"):
        write_manifest(tmp_path / "manifest.csv", cases)
    assert not (tmp_path / "manifest.csv").exists()


def test_parts_of_files_read_back_as_the_same_parts(tmp_path):
    pixels = np.arange(12 * 24, dtype=np.uint8).reshape(12, 24) % 251
    for number in range(3):
        (tmp_path / "train").mkdir(exist_ok=True)
        Picture.fromarray(pixels + number).save(tmp_path / "train" / f"{number}.png")
    task = build("pix2pix", {"size": (32, 32), "levels": 3}).task
    before = find_cases(task, DataConfig(data=tmp_path, halves=("t2", "t1")))
    write_manifest(tmp_path / "pairs.csv", before)
    assert (tmp_path / "pairs.csv").read_text().splitlines()[
        1
    ] == "0,train/0.png#left half,train/0.png#right half,train"
    write(tmp_path / "cine.npy", Image.from_array(np.arange(4 * 60, dtype=np.int16).reshape(4, 3, 4, 5)))
    one = build("caae", {}).task
    beats = find_cases(one, DataConfig(data=tmp_path / "cine.npy", frames=("ed=0", "es=2")))
    write_manifest(tmp_path / "cine.csv", beats)
    arrays = {f"{side}_{part}": np.arange(3 * size, dtype=np.uint8).reshape(3, *shape) for side in ("train", "test")
              for part, size, shape in (("images", 56, (7, 8)), ("labels", 1, (1,)))}  # fmt: skip
    np.savez(tmp_path / "mnist.npz", **arrays)
    pictures = find_cases(one, DataConfig(data=tmp_path / "mnist.npz"))
    write_manifest(tmp_path / "mnist.csv", pictures)
    for name, system, known in (("pairs", task, before), ("cine", one, beats), ("mnist", one, pictures)):
        again = find_cases(system, DataConfig(data=tmp_path / f"{name}.csv"))
        assert [(case.subject, case.split, case.label) for case in again] == [
            (case.subject, case.split, case.label) for case in known
        ]
        for one_case, other in zip(again, known, strict=True):
            for role, source in one_case.sources.items():
                np.testing.assert_array_equal(source.open().numpy(), other.sources[role].open().numpy())


def test_images_of_one_case_may_have_units_of_their_own(tmp_path):
    for name in ("mr", "ct"):
        write(tmp_path / f"{name}.nii.gz", Image.from_array(np.arange(3 * 16 * 20, dtype=np.int16).reshape(3, 16, 20)))
    task = build("pix2pix", {"source": "mr", "target": "ct", "size": (32, 32), "levels": 3}).task
    manifest = tmp_path / "list.csv"
    manifest.write_text("subject,mr,ct,CT.Unit,mr.unit,unit\nann,mr.nii.gz,ct.nii.gz,HU,,T\n")
    (case,) = find_cases(task, DataConfig(data=manifest))
    assert {role: source.open().unit for role, source in case.sources.items()} == {"mr": "T", "ct": "HU"}
    assert names_of_images(DataConfig(data=manifest)) == ["mr", "ct"]
    manifest.write_text("subject,mr,ct,ct.unit\nann,mr.nii.gz,ct.nii.gz,HU\n")
    (case,) = find_cases(task, DataConfig(data=manifest))
    assert {role: source.open().unit for role, source in case.sources.items()} == {"mr": None, "ct": "HU"}
    write_manifest(tmp_path / "again.csv", [case])
    assert (tmp_path / "again.csv").read_text() == "subject,mr,ct,split,ct.unit\nann,mr.nii.gz,ct.nii.gz,train,HU\n"
    manifest.write_text("subject,mr,ct,pet.unit\nann,mr.nii.gz,ct.nii.gz,HU\n")
    with pytest.raises(UserError, match=r"column pet\.unit: there is no role pet; the manifest has mr, ct"):
        find_cases(task, DataConfig(data=manifest))


def test_prepared_cases_are_described_as_networks_see_them(task, folder, tmp_path):
    cases = discover(task, DataConfig(data=folder, **CONFIG))
    samples, problems = Store(task, tmp_path / "cache").get_all([case for case in cases if case.split == "train"])
    told = sentences(list(prepared_items(cases, samples)))
    assert [case.name for case, _ in problems] == ["p3"] and told[
        0
    ] == "subjects (cases): 4 for training (4), 1 for testing (1)"
    assert told[1].startswith("t1: 2-6 x 32 x 32 voxels; 3 x ") and told[1].endswith("in middle slices, a.u.")


def test_what_is_not_known_of_pictures_is_not_told(tmp_path):
    for name, size in (("a", None), ("b", None), ("c", 0.5)):
        values = np.linspace(0, 250, 20 * 24).reshape(1, 20, 24).astype(np.uint8)
        write(tmp_path / f"{name}.png", Image.from_array(values))
        (source,) = find(tmp_path / f"{name}.png", meaning=RasterMeaning(pixel_mm=size))
        mask = find(tmp_path / f"{name}.png")[0].labelled()
        case = Case(name, name, "train", {"image": source, "mask": mask})
        items = list(items_of([case]))
        assert items[0].cells[1] == ("1 x 0.5 x 0.5" if size else "unknown") and items[0].spacing != (1, 1, 1)
        told = sentences(items)
        assert told[1].startswith(f"image: 1 x 20 x 24 voxels; {'1 x 0.5' if size else 'size of pixels unknown; 0'}")
        assert told[1].endswith("0 to 250 in middle slices, no unit")
        assert told[2].endswith("0 to 250 in middle slices")
    both = [item for item in (*items, replace(items[0], spacing=None)) if item.role == "image"]
    assert "1 x 0.5 x 0.5 mm, unknown for 1 of 2" in sentences(both)[1]


def test_pictures_of_unknown_pixel_size_have_none_when_they_are_prepared(tmp_path):
    values = np.linspace(0, 250, 40 * 48).reshape(1, 40, 48).astype(np.uint8)
    write(tmp_path / "a.png", Image.from_array(values))
    task = build("dcgan", {"size": (32, 32), "stages": 2, "width": 4, "roles": {"image": {"channels": 1}}}).task
    for size, told in ((None, "size of pixels unknown"), (0.5, "1 x 0.625 x 0.6316 mm")):
        case = Case("a", "a", "train", {"image": find(tmp_path / "a.png", meaning=RasterMeaning(pixel_mm=size))[0]})
        sample = Store(task, tmp_path / "cache").get(case)
        lines = sentences(list(prepared_items([case], [sample])))
        assert told in lines[1] and "32 x 32 voxels" in lines[1], lines


def problems(task, cases):
    return {(one.case, one.role): one.problem for one in items_of(cases, task) if one.problem}


def test_a_data_set_is_checked_as_training_checks_it(tmp_path):
    """Whatever the store refuses when it prepares a case, the overview tells of the same case in the same words."""
    rng = np.random.default_rng(0)
    given = {
        "good": (rng.uniform(0, 900, (3, 20, 24)), rng.integers(0, 2, (3, 20, 24)), {}),
        "hounsfield": (rng.uniform(-900, 900, (3, 20, 24)), rng.integers(0, 2, (3, 20, 24)), {"unit": "HU"}),
        "constant": (np.full((3, 20, 24), 7.0), rng.integers(0, 2, (3, 20, 24)), {}),
        "channels": (rng.uniform(0, 900, (2, 3, 20, 24)), rng.integers(0, 2, (3, 20, 24)), {}),
        "label": (rng.uniform(0, 900, (3, 20, 24)), rng.integers(0, 5, (3, 20, 24)), {}),
        "grid": (rng.uniform(0, 900, (3, 20, 24)), rng.integers(0, 2, (3, 20, 18)), {}),
    }
    config = {"inputs": ("t1",), "regions": {"whole": (1, 2)}, "labels": "mask"}
    task = build("segan", config).task
    cases = []
    for name, (values, mask, options) in given.items():
        source = Held(Image.from_array(values.astype(np.float32), (3.0, 1.0, 1.5), **options))
        labels = Held(Image.from_array(mask.astype(np.uint8), (3.0, 1.0, 1.5)))
        cases.append(Case(name, name, "train", {"t1": source, "mask": labels}))
    told = problems(task, cases)
    assert [case for case, _ in told] == ["hounsfield", "constant", "channels", "label", "grid"]
    assert told["label", "mask"] and "unit" in told["hounsfield", "t1"]
    _, refused = Store(task, tmp_path).get_all(cases)
    assert [told[name, role] for name, role in told] == [reason for _, reason in refused]
    assert not problems(None, cases)
    words = sentences(list(items_of(cases, task)))
    assert sum(line.startswith("cannot be used: ") for line in words) == len(told)


def test_of_many_that_share_a_reason_a_few_are_named():
    source = Held(Image.from_array(np.full((2, 16, 16), 5.0, np.float32)))
    cases = [Case(f"p{number}", f"p{number}", "train", {"t1": source}) for number in range(9)]
    task = build("segan", {"inputs": ("t1",), "regions": {"whole": (1,)}, "labels": "mask"}).task
    told = [line for line in sentences(list(items_of(cases, task))) if line.startswith("cannot")]
    assert len(told) == 4 and told[-1] == "cannot be used or read: 6 more, so that no case is left"
    good = replace(cases[0], name="q", sources={"t1": Held(Image.from_array(np.arange(512.0).reshape(2, 16, 16)))})
    told = [line for line in sentences(list(items_of([*cases, good], task))) if line.startswith("cannot")]
    assert len(told) == 9
