import numpy as np
import pytest

from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.overview import items_of, prepared_items, sentences, write_manifest
from ganatomy.data.store import Store
from ganatomy.errors import Shortage, UserError
from ganatomy.images.files import Source, write
from ganatomy.images.image import Image
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
    before = discover(task, DataConfig(data=folder, **CONFIG))
    write_manifest(folder / "manifest.csv", before, DataConfig(pixel_mm=0.7))
    text = (folder / "manifest.csv").read_text()
    assert text.splitlines()[:2] == ["subject,t1,t2,split,pixel_mm", "p0,p0/p0_t1.nii.gz,p0/p0_t2.nii.gz,train,0.7"]
    after = discover(task, DataConfig(data=folder / "manifest.csv"))
    assert [(case.subject, case.split) for case in before] == [(case.subject, case.split) for case in after]
    for one, other in zip(before, after, strict=True):
        assert {name: source.paths for name, source in one.sources.items()} == {
            name: source.paths for name, source in other.sources.items()
        }


def test_a_manifest_is_never_overwritten_and_phantoms_have_none(task, folder):
    cases = discover(task, DataConfig(data=folder, **CONFIG))
    (folder / "manifest.csv").write_text("mine")
    with pytest.raises(UserError, match=r"--write .*manifest.csv: exists already"):
        write_manifest(folder / "manifest.csv", cases, DataConfig())
    assert (folder / "manifest.csv").read_text() == "mine"
    with pytest.raises(UserError, match="phantoms have no files"):
        write_manifest(folder / "new.csv", discover(task, DataConfig(phantom_subjects=3)), DataConfig())


def test_images_that_no_path_names_alone_are_refused(tmp_path):
    task = build("wgan-vgg", {}).task
    for number in range(2):
        write(tmp_path / "in" / f"series{number}", Image.from_array(np.zeros((3, 8, 8), np.int16) - number, unit="HU"))
    both = tmp_path / "both"
    both.mkdir()
    for file in (tmp_path / "in").rglob("*.dcm"):
        file.rename(both / f"{file.parent.name}-{file.name}")
    cases = discover(task, DataConfig(data=both))
    assert len(cases) == 2
    with pytest.raises(UserError, match="both holds other images, too"):
        write_manifest(tmp_path / "manifest.csv", cases, DataConfig())
    assert not (tmp_path / "manifest.csv").exists()


def test_prepared_cases_are_described_as_networks_see_them(task, folder, tmp_path):
    cases = discover(task, DataConfig(data=folder, **CONFIG))
    samples, problems = Store(task, tmp_path / "cache").get_all([case for case in cases if case.split == "train"])
    told = sentences(list(prepared_items(cases, samples)))
    assert [case.name for case, _ in problems] == ["p3"] and told[
        0
    ] == "subjects (cases): 4 for training (4), 1 for testing (1)"
    assert told[1].startswith("t1: 2-6 x 32 x 32 voxels; 3 x ") and told[1].endswith("in middle slices, a.u.")
