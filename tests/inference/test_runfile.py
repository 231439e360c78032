import inspect
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from runs import make_run
from safetensors.torch import load_file, save_file

import ganatomy
from ganatomy import catalogue
from ganatomy.catalogue import source_of
from ganatomy.data.cases import DataConfig
from ganatomy.data.splits import Fold
from ganatomy.errors import Notice, UserError
from ganatomy.inference.model import build, described, load
from ganatomy.inference.runfile import (
    RunFile,
    Selection,
    Sides,
    TrainConfig,
    digest_of,
    parse_run,
    read_run,
    write_run,
)

SMALL = {"variant": "cnn-mse", "width": 2}


def facts_of(method, **changed):
    """Make the run file of an untrained method, with some fields changed."""
    usual = {
        "system": "wgan-vgg",
        "revision": 1,
        "config": method.config.model_dump(mode="json"),
        "roles": described(method),
        "data": DataConfig(phantom_subjects=3),
        "training": TrainConfig(),
        "rounds": {"denoise": 3},
        "split": Sides(train=("a" * 32,), val=(), test=("b" * 32, "c" * 32), secret="d" * 16),
        "cases": {"a" * 32: {"e" * 32: "f" * 16}},
        "validation": "slices held out of the training subjects",
        "selection": Selection(score="rmse", better="lower"),
        "provenance": {"features": "none"},
        "versions": {"ganatomy": "0.2.0", "torch": "2", "python": "3"},
    }
    return RunFile.model_validate({**usual, **changed})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", config=SMALL)


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, and a function that changes its run.yaml as a mapping."""
    folder = shutil.copytree(run, tmp_path / "copy")

    def change(**values):
        plain = yaml.safe_load((folder / "run.yaml").read_text())
        for name, value in values.items():
            plain.pop(name, None)
            if value is not None:
                plain[name] = value
        (folder / "run.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))

    return folder, change


def refused(folder, match):
    with pytest.raises(UserError, match=match) as told:
        load(folder)
    assert "\n" not in str(told.value) and str(folder) in str(told.value)


def test_what_is_written_is_read_again(tmp_path):
    method = build("wgan-vgg", SMALL)
    facts = facts_of(method, weights={"best": "sha256:1"}, left_out=("ab-cd: broken",))
    split = facts.split.model_copy(update={"fold": Fold(number=2, of=5)})
    facts = facts.model_copy(update={"split": split})
    write_run(tmp_path, facts)
    assert read_run(tmp_path) == facts
    plain = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert next(iter(plain)) == "format" and plain["format"] == 2
    assert list(plain["roles"]) == ["input", "target", "clean"] and plain["roles"]["input"]["kind"] == "image"


def test_a_run_file_cannot_be_changed(run):
    with pytest.raises(ValidationError):
        read_run(run).system = "dcgan"


def test_the_cache_is_neither_written_nor_read(copy, tmp_path):
    folder, change = copy
    facts = facts_of(build("wgan-vgg", SMALL), data=DataConfig(cache=tmp_path / "mine"))
    write_run(folder, facts)
    assert str(tmp_path / "mine") not in (folder / "run.yaml").read_text() and read_run(folder).data.cache is None
    change(data={"cache": "/theirs"})
    refused(folder, "data: .*does not say where prepared cases are kept")


def test_no_run_asks_for_a_download(copy):
    folder, change = copy
    change(config={**SMALL, "features": "download"})
    assert read_run(folder).config == {**SMALL, "features": "vgg19"}


def test_runs_of_the_first_version_are_refused_by_its_name(copy):
    folder, _ = copy
    (folder / "run.yaml").write_text(
        "system: wgan-vgg\nconfig: {}\ndata: {}\ntraining: {seed: 0}\nsubjects: {train: [anna], val: [], test: []}\n"
    )
    refused(folder, r"a run of ganatomy 0\.1\.0, .* use it with ganatomy 0\.1\.0")


@pytest.mark.parametrize("format", [1, 3, "two"])
def test_other_formats_are_refused(copy, format):
    folder, change = copy
    change(format=format)
    refused(folder, rf"format {format!r}, but ganatomy \d.* reads format 2")


def test_a_few_lines_that_stand_for_gigabytes_are_refused(copy):
    folder, _ = copy
    path = folder / "run.yaml"
    text = path.read_text()
    bomb = ["  a0: &a0 [x]", *[f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]]
    path.write_text(text.replace("    kind:", "\n".join([*(f"  {line}" for line in bomb), "    kind:"]), 1))
    refused(folder, "damaged or not a run")


def test_a_file_without_format_is_refused(copy):
    folder, _ = copy
    path = folder / "run.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("format")]
    path.write_text("\n".join(kept))
    refused(folder, "damaged or not a run .format: missing.")


def test_another_revision_names_the_version_to_use(copy):
    folder, change = copy
    change(revision=7, versions={"ganatomy": "0.9.3"})
    refused(folder, r"revision 7 of wgan-vgg, .* has revision 2, .* use ganatomy 0\.9\.3")


def test_other_roles_name_the_version_to_use(copy):
    folder, change = copy
    roles = yaml.safe_load((folder / "run.yaml").read_text())["roles"]
    change(roles={name: roles[name] for name in ("target", "input", "clean")})
    refused(folder, r"with the roles target \(image\), input \(image\), .* now wgan-vgg has input \(image\), target")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("split", None, "split: field required"),
        ("rounds", {"denoise": "many"}, r"rounds\.denoise: input should be a valid integer"),
        ("training", {"processes": 0}, r"training\.processes: input should be greater than or equal to 1"),
        ("config", [1], "config: input should be a valid dict"),
        ("data", 3, "data: "),
        ("selection", {"score": "rmse", "better": "nicer"}, r"selection\.better"),
    ],
)
def test_damage_is_told_by_field(copy, name, value, told):
    folder, change = copy
    change(**{name: value})
    refused(folder, rf"run\.yaml: damaged or not a run \({told}")


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ((), r"options .* have: surprise, other"),
        (("training",), r"options .* have: training\.surprise, training\.other"),
        (("training", "aids"), r"options .* have: training\.aids\.surprise, training\.aids\.other"),
        (("data",), r"options .* have: data\.surprise, data\.other"),
        (("config",), r"options .* have: surprise, other"),
    ],
)
def test_a_run_with_options_that_are_no_more_says_which_version_made_it(copy, part, told):
    folder, _ = copy
    path = folder / "run.yaml"
    plain = yaml.safe_load(path.read_text())
    place = plain
    for name in part:
        place = place[name]
    place |= {"surprise": 1, "other": {"strength": 0.5}}
    plain["versions"]["ganatomy"] = ganatomy.__version__
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    refused(
        folder, rf"made by an earlier state of ganatomy \d.*, with {told}; train again, or use the version that made"
    )
    plain["versions"]["ganatomy"] = "0.1.7"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    refused(folder, rf"made by ganatomy 0\.1\.7, with {told}; train again")


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"- 1\n- 2", b"\xff\xfe\x00", b"a: b", b"3", b"? {a: b}\n: c"])
def test_what_is_no_run_file_is_told(tmp_path, content):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.yaml: damaged or not a run"):
        parse_run(tmp_path / "run.yaml")


@given(
    st.dictionaries(
        st.sampled_from([*RunFile.model_fields, "subjects"]), st.none() | st.integers() | st.text(), min_size=1
    )
)
@settings(max_examples=40, deadline=None)
def test_no_content_of_fields_gives_a_traceback(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("fuzz") / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError):
        parse_run(path)


@pytest.mark.parametrize("place", ["FOLDER/evil.py:Evil", "evil.py:Evil", "evil:Evil", "FOLDER/evil.py", "evil"])
def test_no_run_file_imports_anything(copy, tmp_path, monkeypatch, place):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    folder, change = copy
    change(system=place.replace("FOLDER", str(tmp_path)))
    refused(folder, r"a run of .*evil.*, which no run file makes it import; .* --system" if ":" in place else "unknown")
    assert not (tmp_path / "imported").exists()


OUTSIDE = """from ganatomy.methods.denoising.wgan_vgg import WGANVGG


class {name}(WGANVGG):
    \"\"\"A method from outside. Nobody, 2026.\"\"\"
"""


@pytest.fixture
def outside(run, tmp_path, monkeypatch, request):
    """A run of a method from a file of this test, and its system."""
    name = f"outside_{request.node.originalname}"
    (tmp_path / f"{name}.py").write_text(OUTSIDE.format(name="Mine") + OUTSIDE.format(name="Other"))
    monkeypatch.setattr("sys.path", [*sys.path])
    system = catalogue.resolve(f"{tmp_path / name}.py:Mine")
    folder = shutil.copytree(run, tmp_path / "run")
    write_run(folder, read_run(run).model_copy(update={"system": system.slug, "source": source_of(system.cls)}))
    return folder, system


def test_a_method_from_outside_is_loaded_where_it_is_named(outside, tmp_path):
    folder, system = outside
    name = system.slug.partition(".")[0]
    assert "/" not in system.slug and read_run(folder).system == f"{name}.py:Mine"
    refused(folder, rf"--system PATH/TO/{name}\.py:Mine")
    model = load(folder, system=f"{tmp_path / name}.py:Mine")
    assert type(model.method) is system.cls and model.system == system
    # The same source under another name is the same method.
    assert type(load(folder, system=f"{name}:Mine").method) is system.cls
    for other in (f"{name}:Other", "wgan-vgg"):
        with pytest.raises(UserError, match=rf"run\.yaml: a run of {name}\.py:Mine, not of {other}"):
            load(folder, system=other)


def test_a_changed_source_is_told_and_the_run_is_used(outside, tmp_path):
    folder, system = outside
    path = Path(inspect.getsourcefile(system.cls))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folder, system=system)
    path.write_text(path.read_text() + "# changed\n")
    with pytest.warns(
        Notice, match=rf"run\.yaml: .*{path.name} has changed since {path.name}:Mine was trained"
    ) as told:
        load(folder, system=system)
    assert "\n" not in str(told[0].message)


def test_methods_of_the_package_have_no_source_of_their_own():
    assert source_of(catalogue.load("wgan-vgg")) is None and source_of(Fold) is None


def test_weights_are_known_by_their_tensors_and_not_by_their_files(copy):
    folder, _ = copy
    path = folder / "weights.safetensors"
    identity, tensors = load(folder).identity, load_file(path)
    save_file(dict(reversed(tensors.items())), path, metadata={"other": "words"})
    assert load(folder).identity == identity == read_run(folder).weights["best"]
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] + 1e-6}, path)
    refused(folder, r"not the weights that run\.yaml describes, so the file was changed")


def test_weights_that_a_killed_run_was_writing_are_its_own(copy):
    folder, _ = copy
    facts, path = read_run(folder), folder / "weights.safetensors"
    tensors = {name: value + 1 for name, value in load_file(path).items()}
    writing = facts.about_to_write({"best": digest_of(tensors)})
    write_run(folder, writing)
    load(folder)
    save_file(tensors, path)
    assert load(folder).identity == writing.writing["best"]
    done = writing.with_weights(writing.writing)
    assert done.weights == {**facts.weights, **writing.writing} and not done.writing


def test_a_digest_depends_on_names_types_shapes_and_values():
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    digest = digest_of(base)
    assert digest == digest_of(dict(reversed(base.items())))
    assert digest == digest_of({**base, "a": base["a"].t().contiguous().t()}), "the layout in memory does not matter"
    others = [
        {"c": base["a"], "b": base["b"]},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"].reshape(3, 2)},
        {**base, "a": base["a"] + 1e-6},
        {"a": base["a"]},
    ]
    assert len({digest, *map(digest_of, others)}) == 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.uint8])
def test_tensors_of_all_types_have_digests(dtype):
    ones, zeros = torch.ones(3, 2).to(dtype), torch.zeros(3, 2).to(dtype)
    assert digest_of({"a": ones}) != digest_of({"a": zeros}) and digest_of({"a": ones[:0]}) == digest_of(
        {"a": zeros[:0]}
    )


def test_relative_paths_of_data_start_from_the_run(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "pairs").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    method = build("wgan-vgg", SMALL)
    folder = Path("runs/a")
    folder.mkdir(parents=True)
    write_run(folder, facts_of(method, data=DataConfig(data=Path("../pairs"))))
    assert yaml.safe_load((folder / "run.yaml").read_text())["data"]["data"] == "../../../pairs"
    assert read_run(folder).data.data == Path("../pairs")
    monkeypatch.chdir(tmp_path)
    assert read_run(Path("work/runs/a")).data.data == Path("pairs")
    assert read_run(tmp_path / "work" / "runs" / "a").data.data == tmp_path / "pairs"


def test_relative_paths_of_older_runs_start_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pairs").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    write_run(folder, facts_of(build("wgan-vgg", SMALL), data=DataConfig(data=Path("pairs"))))
    plain = yaml.safe_load((folder / "run.yaml").read_text())
    plain["data"]["data"] = "pairs"
    (folder / "run.yaml").write_text(yaml.safe_dump(plain))
    assert read_run(folder).data.data == Path("pairs")


def test_absolute_paths_of_data_stay(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    write_run(folder, facts_of(build("wgan-vgg", SMALL), data=DataConfig(data=tmp_path / "pairs")))
    assert read_run(folder).data.data == tmp_path / "pairs"
