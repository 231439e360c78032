"""Cases found from arguments of the command line."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.inference.gather import gather

SEVERAL = SimpleNamespace(inputs=("flair", "t1"), optional=("mask",))
SINGLE = SimpleNamespace(inputs=("input",), optional=())


def save(path, number=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).normal(size=(2, 5, 7)).astype(np.float32)
    write(path, Image.from_array(values, (3.0, 1.0, 2.0)))
    return path


@pytest.fixture
def files(tmp_path):
    return {name: save(tmp_path / "in" / f"p_{name}.nii.gz") for name in ("flair", "t1", "mask")}


def by_role(job):
    return {role: source.paths[0] for role, source in job.sources.items()}


def test_inputs_by_name_are_one_case_in_the_order_of_the_system(files):
    (job,) = gather([f"t1={files['t1']}", f"flair={files['flair']}"], SEVERAL, find)
    assert list(by_role(job).items()) == [("flair", files["flair"]), ("t1", files["t1"])]
    assert job.main.name == job.name == "p_flair"
    (job,) = gather([f"{name}={path}" for name, path in files.items()], SEVERAL, find)
    assert set(job.sources) == {"flair", "t1", "mask"}


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["flair={flair}"], "t1: missing; this system needs flair=FILE t1=FILE"),
        (["flair={flair}", "t2={t1}"], "there is no role 't2'; this system has flair, t1, mask"),
        (["{flair}", "{t1}"], "give one path, or flair=FILE t1=FILE; got 2 paths"),
        (["{flair}"], "this system takes flair, t1; give flair=FILE t1=FILE, or this folder with --roles"),
    ],
)
def test_what_is_missing_is_told_with_what_would_do(files, texts, told):
    with pytest.raises(UserError) as error:
        gather([text.format(**files) for text in texts], SEVERAL, find)
    assert told in str(error.value)


def test_a_single_input_takes_a_path_or_a_folder(files, tmp_path):
    (job,) = gather([str(files["t1"])], SINGLE, find)
    assert by_role(job) == {"input": files["t1"]}
    assert len(gather([str(tmp_path / "in")], SINGLE, find)) == 3
    (named,) = gather([f"input={files['t1']}"], SINGLE, find)
    assert by_role(named) == by_role(job)


def test_a_path_with_an_equals_sign_is_a_path(tmp_path):
    path = save(tmp_path / "dose=5.nii.gz")
    (job,) = gather([str(path)], SINGLE, find)
    assert by_role(job) == {"input": path}


def test_a_folder_with_patterns(tmp_path):
    for patient in ("anna", "ben"):
        for name in ("flair", "t1"):
            save(tmp_path / patient / f"{name}.nii.gz")
    jobs = gather([str(tmp_path)], SEVERAL, find, roles=["flair=flair*", "t1=t1*"])
    assert [job.name for job in jobs] == ["anna", "ben"]
    assert all(list(job.sources) == ["flair", "t1"] for job in jobs)
    (tmp_path / "ben" / "t1.nii.gz").unlink()
    lacking = gather([str(tmp_path)], SEVERAL, find, roles=["flair=flair*", "t1=t1*"])
    assert [sorted(job.sources) for job in lacking] == [["flair", "t1"], ["flair"]], "the others are not stopped"
    save(tmp_path / "t1.nii.gz")
    (tmp_path / "anna" / "t1.nii.gz").unlink()
    with pytest.raises(UserError, match="no t1 image beside it"):
        gather([str(tmp_path)], SEVERAL, find, roles=["flair=flair*", "t1=t1*"])


def test_a_manifest_has_a_column_of_paths_per_input(files, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("subject,flair,t1\nanna,in/p_flair.nii.gz,in/p_t1.nii.gz\n")
    (job,) = gather([str(manifest)], SEVERAL, find)
    assert job.name == "anna" and by_role(job) == {"flair": files["flair"], "t1": files["t1"]}
    tabs = tmp_path / "list.tsv"
    tabs.write_text("subject\tflair\tt1\nanna\tin/p_flair.nii.gz\tin/p_t1.nii.gz\n")
    assert gather([str(tabs)], SEVERAL, find)[0].name == "anna"
    manifest.write_text("subject,other\nanna,x\n")
    with pytest.raises(UserError, match="has columns flair, t1, mask; it has subject, other"):
        gather([str(manifest)], SEVERAL, find)


def test_rows_of_one_name_are_cases_of_their_own(files, tmp_path):
    manifest = tmp_path / "list.csv"
    row = "p 1;in/p_flair.nii.gz;in/p_t1.nii.gz\n"
    manifest.write_text(f"subject;flair;t1\n{row}{row.replace(' ', '_')}{row}")
    assert [job.name for job in gather([str(manifest)], SEVERAL, find)] == ["p_1", "p_1_2", "p_1_3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flair,t1\n,\n", "the manifest has no rows"),
        ("subject,flair,t1\nanna,,\n", "no row names an image in a column flair or t1 or mask"),
        ("flair,t1,t1\nx,y,z\n", "several columns are called 't1'"),
        ("flair,t1\nx,y,z\n", "line 2: more cells than columns"),
        ("flair,t1\nx,\0\n", r"line 2: t1 '\\x00' holds the character"),
        ("name,flair\na\u00a0b,x\n", r"line 2: name .* holds the character '\\xa0'"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused(tmp_path, text, told):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        gather([str(tmp_path / "list.csv")], SEVERAL, find)


def test_images_are_listed_as_the_caller_lists_them(files):
    seen = []

    def listing(path, uneven):
        seen.append(uneven)
        return find(path, uneven=uneven)

    gather([f"{name}={path}" for name, path in files.items()], SEVERAL, partial(listing, uneven=True))
    assert seen == [True] * 3


def test_a_system_that_makes_images_from_noise_takes_none(files):
    nothing = SimpleNamespace(inputs=(), optional=())
    for texts in ([str(files["flair"])], [f"image={files['flair']}"]):
        with pytest.raises(UserError, match="makes them from noise; use `ganatomy sample RUN`"):
            gather(texts, nothing, find)
