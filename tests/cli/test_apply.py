import json
import zipfile

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from runs import make_run

from ganatomy.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return make_run(folder / "run", config={"variant": "cnn-mse", "width": 2, "start": "identity"})


def volume(path, shift=0):
    hu = np.random.default_rng(0).normal(0, 300, (20, 24, 3)).astype(np.int16) + np.int16(shift)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([0.5, 0.5, 2, 1])), path)
    return hu


def test_a_file(tmp_path, run, capsys):
    hu = volume(tmp_path / "in.nii.gz")
    out = tmp_path / "out.nii.gz"
    assert main(["apply", str(run), str(tmp_path / "in.nii.gz"), str(out)]) == 0
    np.testing.assert_allclose(np.asarray(nibabel.load(out).dataobj), hu, atol=1)
    assert capsys.readouterr().out == f"{out}\n"
    assert json.loads((tmp_path / "out.nii.gz.json").read_text())["system"] == "wgan-vgg"


@pytest.mark.parametrize("named", [False, True])
def test_the_help_says_where_the_run_stands(run, capsys, named):
    with pytest.raises(SystemExit):
        main(["apply", *([str(run)] if named else []), "--help"])
    assert "apply [-h] [OPTIONS] RUN INPUT" in capsys.readouterr().out


def test_a_batch_finishes_the_good_ones(tmp_path, run, capsys):
    volume(tmp_path / "in" / "a.nii")
    volume(tmp_path / "in" / "c.nii", shift=40)
    (tmp_path / "in" / "b.nii").write_bytes(b"no image at all")
    assert main(["apply", str(run), str(tmp_path / "in"), str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path / "out" / "a.nii"), str(tmp_path / "out" / "c.nii")]
    failures = [line for line in said.err.splitlines() if line.startswith("ganatomy: ")]
    assert len(failures) == 2
    assert "b.nii cannot be read as NIfTI" in failures[0]
    assert failures[1] == "ganatomy: warning: 1 of 3 cases are left out, for the reasons above"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii", "a.nii.json", "c.nii", "c.nii.json"]


def test_an_archive_is_a_batch_and_its_notes_name_places_in_it(tmp_path, run, capsys):
    for name in ("a.nii", "deep/c.nii.gz"):
        volume(tmp_path / "in" / name)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("a.nii", "deep/c.nii.gz"):
            archive.write(tmp_path / "in" / name, name)
        archive.writestr("b.nii", b"no image at all")
        archive.writestr("more.zip", b"")
    assert main(["apply", str(run), str(tmp_path / "in.zip"), str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    made = [tmp_path / "out" / "a.nii", tmp_path / "out" / "deep_c.nii.gz"]
    assert said.out.split() == [str(path) for path in made]
    assert f"{tmp_path / 'in.zip' / 'b.nii'} cannot be read as NIfTI" in said.err
    assert "in.zip/more.zip is an archive inside of an archive" in said.err
    assert "2 of 4 cases are left out" in said.err and "unpacked-" not in said.err
    for path, name in zip(made, ("a.nii", "deep/c.nii.gz"), strict=True):
        sources = json.loads(path.with_name(f"{path.name}.json").read_text())["sources"]
        assert list(sources.values()) == [str(tmp_path / "in.zip" / name)]
        again = nibabel.load(tmp_path / "in" / name)
        np.testing.assert_allclose(np.asarray(nibabel.load(path).dataobj), np.asarray(again.dataobj), atol=1)


def test_a_whole_slide_at_a_level_and_with_pixels_of_a_size(tmp_path, run, capsys):
    values = np.random.default_rng(0).integers(300, 2000, (128, 192)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        for factor in (1, 4):
            options = {"tile": (16, 32), "resolution": (2e4 / factor, 2e4 / factor), "resolutionunit": "CENTIMETER"}
            file.write(values[::factor, ::factor], metadata=None, subfiletype=int(factor > 1), **options)
    for words, level, size in ((["--level", "1"], values[::4, ::4], 2.0), (["--mpp", "0.5"], values, 0.5)):
        out = tmp_path / f"out-{size}.tif"
        options = ["--unit", "HU", "--intercept", "-1024", *words]
        assert main(["apply", str(run), str(tmp_path / "in.tif"), str(out), *options]) == 0
        np.testing.assert_allclose(tifffile.imread(out)[0], level, atol=1)
        with tifffile.TiffFile(out) as file:
            across, per = file.pages[0].tags["XResolution"].value
            np.testing.assert_allclose(1e4 * per / across, size)
    assert main(["apply", str(run), str(tmp_path / "in.tif"), str(tmp_path / "o.tif"), "--mpp", "0.1"]) == 2
    assert "--mpp 0.1 is finer than its finest level (0: 192 x 128 pixels of 0.5 µm; 1: 48" in capsys.readouterr().err


def test_pictures_with_an_offset(tmp_path, run):
    stored = np.random.default_rng(0).integers(0, 3000, (24, 24)).astype(np.uint16)
    Pillow.fromarray(stored).save(tmp_path / "in.png")
    out = tmp_path / "out.png"
    arguments = ["apply", str(run), str(tmp_path / "in.png"), str(out), "--intercept", "-1024", "--unit", "HU"]
    assert main(arguments) == 0
    with Pillow.open(out) as picture:
        np.testing.assert_allclose(np.asarray(picture).astype(int), stored, atol=1)
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}", "{tmp}/missing.nii", "{tmp}/o.nii"], "does not exist"),
        (["{tmp}", "{tmp}/in.nii", "{tmp}/o.nii"], "no run here"),
        (["{run}", "{tmp}/in.nii", "{tmp}/o.nii", "--which", "last"], "no weights yet"),
        (["{run}", "{tmp}/in.nii", "{tmp}/o.nii", "--device", "tpu"], "use cpu, cuda or auto"),
        (["{run}", "{tmp}/in.nii", "{tmp}/o.nii", "--slope", "0"], "must not be 0"),
        (["{run}", "{tmp}/in.nii", "{tmp}/o.nii", "--intercept", "-1024"], "says that itself"),
        (["{run}", "{tmp}/in.nii", "{tmp}/o.png", "--format", "npy"], "suffix says png"),
        (["{run}", "{tmp}/in.nii"], "OUT"),
        (["{run}", "{tmp}/in.nii", "{tmp}/in.nii/o.nii"], "cannot write"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, run, capsys, arguments, words):
    volume(tmp_path / "in.nii")
    assert main(["apply", *(argument.format(run=run, tmp=tmp_path) for argument in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert words in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.nii"]
