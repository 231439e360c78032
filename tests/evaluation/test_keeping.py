"""Images that an evaluation leaves beside its report."""

from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, TARGET, Entry, Judgement, Scores
from ganatomy.evaluation.keeping import check_keeping, file_names, keep_images
from ganatomy.images.codecs import Window
from ganatomy.images.files import read
from ganatomy.images.image import Header, Image, RasterMeaning
from ganatomy.tasks.restoration.judge import RestorationJudge


class Pictures(RestorationJudge):
    scores, leading = (), ()
    caveats = illustrate = measured = verdict = score = None


def judged(source, true, made, channels=1):
    """Return a judge and a judgement of one case whose entries are arrays, (channels, slices, rows, columns)."""
    task = SimpleNamespace(
        name="restoration",
        out_channels=channels,
        output="target",
        roles={"target": SimpleNamespace(codec=Window(low=0, high=255, unit=source.unit))},
    )
    opened = SimpleNamespace(open=lambda: source)
    case = Sample(Case("a/b c", "a", "test", {"target": opened}), {"target": true}, {"target": source.affine}, {})

    def entry(name, array):
        rows = array.shape[2:]
        return Entry(name, lambda case, start, stop: array[:, start:stop].reshape(-1, *rows))

    entries = [entry(OUTPUT, made), entry("my run", made), entry(TARGET, true)]
    return Pictures(task), Judgement(entries, [case], Scores([]))


def test_pictures_become_pictures_of_whole_numbers(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (3, 1, 9, 14)).astype(np.uint8)
    source = Image.from_array(stored, header=Header("raster", stored=stored.dtype, colours=True))
    true, made = stored.astype(np.float32), stored.astype(np.float32) * 1.5 - 20.2
    keep_images(*judged(source, true, made, 3), tmp_path)
    files = {path.name: read(path) for path in (tmp_path / "a-b-c").iterdir()}
    assert set(files) == {"output.png", "my-run.png", "target.png"}
    assert np.array_equal(files["target.png"].numpy(), stored) and files["target.png"].header.colours
    assert np.array_equal(files["output.png"].numpy(), np.rint(made).clip(0, 255)), "ends of the range stay its ends"


def test_stored_numbers_keep_their_meaning(tmp_path):
    meaning = RasterMeaning(slope=0.5, intercept=-10, unit="HU", pixel_mm=0.3)
    header = Header("raster", stored=np.dtype(np.uint16), meaning=meaning)
    true = (np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6) * 10) - 10
    source = Image.from_array(true, (1, 0.3, 0.3), "HU", header)
    keep_images(*judged(source, true, true + 0.3), tmp_path)
    found = read(tmp_path / "a-b-c" / "output.png", meaning=meaning)
    assert found.numpy() == pytest.approx(true + 0.5) and found.spacing[1:] == pytest.approx((0.3, 0.3), rel=1e-3)


def test_volumes_become_nifti_on_their_grid(tmp_path):
    rng = np.random.default_rng(1)
    true = rng.normal(0, 100, (1, 11, 6, 7)).astype(np.float32)
    source = Image.from_array(true, (3.0, 0.8, 0.7), "HU", Header("nifti"))
    keep_images(*judged(source, true, true + 5), tmp_path)
    found = read(tmp_path / "a-b-c" / "output.nii.gz")
    assert np.array_equal(found.numpy(), true + 5) and np.allclose(found.affine, source.affine)


def test_names_of_files_are_safe_and_differ_on_any_disk():
    found = file_names(["a/b", "a b", "A-B", "../up", "x" * 300, "", "total variation", "π"])
    assert list(found.values())[:4] == ["a-b", "a-b-2", "A-B-3", "up"]
    assert len(found["x" * 300]) == 100 and found[""] == "unnamed" and found["total variation"] == "total-variation"
    assert len({name.casefold() for name in found.values()}) == len(found)


def test_a_kind_of_task_without_images_is_refused():
    judge = SimpleNamespace(keeps_images=False, task=SimpleNamespace(name="synthesis"))
    with pytest.raises(UserError, match=r"--keep-images: the outputs of synthesis .*leave the option away"):
        check_keeping(judge)
