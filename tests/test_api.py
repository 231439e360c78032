"""The functions of the package: what the commands do, from Python, with options by name."""

import inspect
import json
import pickle
from dataclasses import fields
from importlib import import_module
from importlib.metadata import version

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

import ganatomy
from ganatomy import DataConfig, Image, UserError, catalogue
from ganatomy.api import TAKEN, configured, data_config, sorted_options, train, with_options
from ganatomy.cli import main
from ganatomy.cli.train import Choice
from ganatomy.data import memory
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import LeftOut, Notice
from ganatomy.evaluation.choosing import choose_cases, users_pseudonyms
from ganatomy.images.image import RasterMeaning
from ganatomy.inference.runfile import TrainConfig, read_run
from ganatomy.methods.denoising.wgan_vgg import WGANVGG
from ganatomy.methods.frameworks.pix2pix import Pix2Pix

SMALL = {
    "levels": 3,
    "size": (32, 32),
    "width": 4,
    "discriminator_width": 4,
    "discriminator_strided": 1,
    "jitter": 2,
    "batch_size": 2,
}


@pytest.fixture
def pairs(tmp_path):
    """A folder with three patients, whose CT is the MR turned upside down, in HU."""
    for number in range(3):
        values = np.zeros((2, 40, 30), np.float32)
        values[:, 5:33, 4:21] = np.random.default_rng(number).uniform(200, 900, (2, 28, 17))
        for role, image in (("mr", values), ("ct", np.where(values > 0, 500 - values, -1000))):
            (tmp_path / "pairs" / role).mkdir(parents=True, exist_ok=True)
            unit = "HU" if role == "ct" else None
            ganatomy.write(
                tmp_path / "pairs" / role / f"p{number}.nii.gz", Image.from_array(image, (3.0, 1.0, 1.2), unit)
            )
    return tmp_path / "pairs"


def test_a_run_is_one_call(pairs, cases, tmp_path):
    model = train(
        "pix2pix",
        pairs,
        out=tmp_path / "run",
        preset="small",
        source="mr",
        target="ct",
        ct={"window": (-1000, 600), "unit": "HU"},
        **SMALL,
        rounds=2,
        threads=1,
        cache=cases,
        diagnose=False,
        validation_slices=1,
    )
    facts = read_run(tmp_path / "run")
    assert (facts.config["source"], facts.config["target"]) == ("mr", "ct")
    assert facts.config["roles"]["ct"]["window"] == [-1000, 600] and list(facts.config["roles"]) == ["mr", "ct"]
    assert facts.training.rounds == 2
    image = ganatomy.read(pairs / "mr" / "p0.nii.gz")
    made = model(image)["ct"]
    assert made.unit == "HU" and made.shape == image.shape and np.allclose(made.affine, image.affine)
    assert list(model(mr=image)) == ["ct"]
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        train("pix2pix", pairs, out=tmp_path / "run", preset="small", **SMALL)
    train("pix2pix", out=tmp_path / "run", resume=True, rounds=3)
    assert read_run(tmp_path / "run").training.rounds == 3


def test_the_package_offers_it():
    assert ganatomy.train is train


def test_options_find_their_place():
    given = {"mr": {"channels": 3}, "source": "mr", "levels": 3, "roles": ("mr=*.png",), "slope": 2.0, "seed": 4}
    method, reading, training = sorted_options(Pix2Pix.Config, "paper", given)
    assert method == {"mr": {"channels": 3}, "source": "mr", "levels": 3}
    assert reading == {"roles": ("mr=*.png",), "slope": 2.0} and training == {"seed": 4}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"levls": 3}, "option levls: there is none; did you mean levels?"),
        ({"zzz": 3}, "option zzz: there is none"),
        ({"presets": "small"}, "option presets: there is none; did you mean preset?"),
        ({"pet": {"window": (0, 1)}, "source": "mr"}, "option pet: there is none; .*mr"),
        ({"levels": "x"}, "option levels: input should be a valid integer"),
        ({"t1": {"window": (3, 1)}}, "option t1: window goes from a lower to a higher number"),
        ({"rounds": 0}, "option rounds: input should be greater than or equal to 1, got 0"),
        ({"phantom_size": 3}, "option phantom_size: input should be greater than or equal to 16"),
        ({"source": "t1-c"}, "--source t1-c: a role cannot be called so .*; call it t1_c, say"),
        ({"source": "rounds"}, "--source rounds: a role cannot be called so .*; call it rounds_image, say"),
        ({"preset": "huge"}, "--preset huge: unknown; this system has paper, small"),
    ],
)
def test_wrong_options_are_told_in_a_line_before_anything_is_made(options, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        train("pix2pix", out=tmp_path / "run", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_the_comparison_and_the_preset_are_the_ground_for_what_is_given():
    config = configured(WGANVGG.Config, "small", True, {"width": 5, "patch": 32}, {"patch": 40})
    assert config == WGANVGG.Config.preset("small", variant="cnn-mse", width=5, patch=40)


def test_options_of_data_are_put_on_top_of_those_that_are_given_with_them():
    data = DataConfig(slope=2.0, unit="SUV")
    assert with_options(data, {"slope": 3.0}) == DataConfig(slope=3.0, unit="SUV")
    assert with_options(TrainConfig(), {}) == TrainConfig()


def test_no_role_is_called_like_an_option_of_every_command():
    from ganatomy.roles.options import RESERVED

    assert set(Choice.__dataclass_fields__) <= TAKEN | RESERVED
    assert set(train.__kwdefaults__) | {"out", "system", "data"} <= TAKEN | RESERVED


def test_a_method_that_is_not_where_it_is_named_is_told_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match=r"none\.py: no such file"):
        train(f"{tmp_path / 'none.py'}:Mine", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_version_is_that_of_the_package():
    assert ganatomy.__version__ == version("ganatomy")


def test_no_method_has_an_option_of_a_name_that_every_training_has():
    for system in catalogue.ready():
        # Options of roles are told apart by their prefix, and --roles is the user's word for patterns.
        assert not TAKEN & set(system.cls.Config.model_fields) - {"roles"}, system.slug


TINY = {**SMALL, "preset": "small", "source": "mr", "target": "ct", "rounds": 2, "threads": 1, "diagnose": False}
CT = {"window": (-1000, 600), "unit": "HU"}
MEANINGS = {"backdrop" if one.name == "background" else one.name: "options" for one in fields(RasterMeaning)}
"""Statements on files that say less than DICOM, which `apply` takes among its further options."""


class Pairs(Dataset):
    """A map-style data set, whose MR is an array and whose CT an image of nibabel."""

    def __init__(self, folder, count=3, shift=0.0):
        self.folder, self.count, self.shift = folder, count, shift

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        mr = ganatomy.read(self.folder / "mr" / f"p{index}.nii.gz")
        ct = nib.load(self.folder / "ct" / f"p{index}.nii.gz")
        return {"mr": mr.numpy()[0] + self.shift, "ct": ct, "subject": f"p{index}", "spacing": mr.spacing}


def test_cases_in_memory_train_the_weights_that_their_files_train(pairs, cases, tmp_path):
    from_files = train("pix2pix", pairs, out=tmp_path / "files", ct=CT, cache=cases, **TINY)
    from_memory = train("pix2pix", Pairs(pairs), out=tmp_path / "memory", ct=CT, cache=cases, **TINY)
    assert from_memory.identity == from_files.identity
    facts = read_run(tmp_path / "memory")
    assert facts.split.train == read_run(tmp_path / "files").split.train
    assert str(facts.data.data).startswith("memory-") and str(pairs) not in (tmp_path / "memory/run.yaml").read_text()


@pytest.fixture
def run(pairs, cases, tmp_path):
    """A run on cases in memory."""
    return train("pix2pix", Pairs(pairs), out=tmp_path / "run", ct=CT, cache=cases, **TINY)


def test_a_run_on_cases_in_memory_goes_on_and_is_judged_with_the_same_values_alone(run, pairs, tmp_path, capsys):
    train("pix2pix", Pairs(pairs), out=tmp_path / "run", resume=True, rounds=3, threads=1)
    assert read_run(tmp_path / "run").training.rounds == 3
    found = ganatomy.evaluate(run, keep_images=True)
    assert (found.out / "report.html").is_file() and found.headline
    kept = {path.name for path in found.out.glob("images/*/*")}
    assert {"input.nii.gz", "output.nii.gz", "target.nii.gz"} <= kept
    memory._held.clear()
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "give them again, as in ganatomy.evaluate(RUN, data)" in capsys.readouterr().err
    again = choose_cases(run.method.task, run.facts, data_config(Pairs(pairs)), users_pseudonyms(None))
    assert again.checked and [case.split for case in again.cases] == ["test"]
    with pytest.raises(UserError, match="not the data that the run began with; give the same"):
        train("pix2pix", Pairs(pairs, shift=1.0), out=tmp_path / "run", resume=True, rounds=4, threads=1)


def test_a_run_is_applied_to_files_and_to_values_alike(run, pairs, tmp_path):
    path = pairs / "mr" / "p0.nii.gz"
    applied = ganatomy.apply(run, path, tmp_path / "ct.nii.gz", device="cpu")
    assert applied.outputs == [tmp_path / "ct.nii.gz"] and not applied.left_out
    written = Image.of(tmp_path / "ct.nii.gz")
    image = Image.of(path)
    values = [path, str(path), image, nib.load(path), image.to_sitk(), image.to_torch()]
    for value in values:
        made = run(value, spacing=image.spacing if isinstance(value, torch.Tensor) else None)["ct"]
        assert np.allclose(made.numpy(), written.numpy(), atol=1e-3), type(value)
        assert isinstance(value, torch.Tensor) or np.allclose(made.affine, image.affine, atol=1e-4)
    with pytest.warns(Notice, match="2 axial slices of 40 x 30 pixels, 1 mm apart"):
        assert run(image.numpy())["ct"].spacing == (1, 1, 1)
    named = ganatomy.apply(tmp_path / "run", {"mr": path}, tmp_path / "OUT", which="last")
    assert named.outputs[0].parent == tmp_path / "OUT"
    with pytest.raises(UserError, match="exists already"):
        ganatomy.apply(run, path, tmp_path / "ct.nii.gz")
    with pytest.raises(UserError, match="no option of this system here"):
        ganatomy.apply(run, path, tmp_path / "b.nii.gz", trehsold=3)


def test_a_model_moves_to_a_device(run):
    assert run.to("cpu") is run and run.device == "cpu"
    with pytest.raises(UserError, match="use cpu, cuda or auto"):
        run.to("gpu")


def test_a_data_set_is_shown_before_anything_is_trained(pairs, tmp_path):
    data = ganatomy.dataset(pairs, "pix2pix", source="mr", target="ct")
    assert len(data) == 3 and "ct: 2 x 40 x 30 voxels; 3 x 1 x 1.2 mm" in str(data) and not data.problems
    assert "<td>mr</td>" in data._repr_html_() and "<script" not in data._repr_html_()
    assert data.write(tmp_path / "pairs.csv").read_text().startswith("subject,mr,ct,split")
    plain = ganatomy.dataset(pairs)
    assert len(plain) == 6 and "3 subjects, 6 images" not in repr(plain)
    with pytest.raises(UserError, match="name it, as in dataset"):
        plain.write(tmp_path / "b.csv")
    patterns = ganatomy.dataset(pairs, roles={"mr": "mr/*.nii.gz", "ct": "ct/*.nii.gz"})
    assert patterns.config.roles == ("mr=mr/*.nii.gz", "ct=ct/*.nii.gz")
    memory = ganatomy.dataset(Pairs(pairs), "pix2pix", source="mr", target="ct")
    assert len(memory) == 3
    with pytest.raises(UserError, match="no files that a manifest could name"):
        memory.write(tmp_path / "b.csv")
    assert {one.role for one in ganatomy.dataset(Pairs(pairs)).items} == {"mr", "ct"}
    with pytest.raises(UserError, match="name the system whose option it is"):
        ganatomy.dataset(pairs, levels=3)


def volume(number=0):
    return np.random.default_rng(number).uniform(1, 9, (2, 40, 30)).astype(np.float32)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (volume(), "a ndarray is neither a path nor a sequence of cases; give a list"),
        ([], "no items"),
        ([{}], "item 0 of the data set has no values"),
        ([(volume(), 1)], "item 0 of the data set is a tuple; an item is a mapping"),
        ([{"mr": volume(), "CT": volume()}], "'CT' is no role .* roles are mr, ct; is it meant to be 'ct'"),
        ([{"pet": volume()}], "no case has the images .* roles are mr, ct; case0000 has pet"),
        ([{"mr": volume(), "ct": volume(), "split": "dev"}], "item 0 .* split 'dev'; use train, val or test"),
        ({"mr": [volume()], "ct": [volume(), volume()]}, "a list for every role, all of one length"),
        ([{1: volume()}], "its keys are names of roles"),
        (7, "a int is neither a path"),
        ([{"mr": volume(), "ct": lambda: 0}], "a value that is a function cannot be used"),
        (type("Table", (), {"iloc": 0})(), r"rows of a table as mappings, as in table.to_dict"),
    ],
)
@pytest.mark.filterwarnings("ignore::ganatomy.errors.Notice")
def test_cases_in_memory_that_cannot_be_used_are_told_before_anything_is_made(data, told, tmp_path):
    with pytest.raises(UserError, match=told) as error:
        train("pix2pix", data, out=tmp_path / "run", **TINY)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_lists_of_roles_and_single_values_are_cases(pairs):
    images = [Image.from_array(volume(number), (3.0, 1.0, 1.2)) for number in range(3)]
    paths = [pairs / "ct" / f"p{number}.nii.gz" for number in range(3)]
    data = ganatomy.dataset({"mr": images, "ct": paths}, "pix2pix", source="mr", target="ct")
    assert [case.subject for case in data.cases] == ["case0000", "case0001", "case0002"]
    assert {one.unit for one in data.items if one.role == "ct"} == {"HU"}
    single = ganatomy.dataset(images, "wgan-gp")
    assert [list(case.sources) for case in single.cases] == [["image"]] * 3


def test_a_case_without_a_role_is_named_and_left_out(pairs):
    items = [*[Pairs(pairs)[index] for index in range(3)], {"ct": pairs / "ct" / "p0.nii.gz", "subject": "alone"}]
    with pytest.warns(LeftOut, match="1 of 4 cases lack images that .* needs: alone"):
        assert len(ganatomy.dataset(items, "pix2pix", source="mr", target="ct")) == 3


def test_sites_of_cases_in_memory_can_be_folds(pairs, cases, tmp_path):
    items = [{**Pairs(pairs)[number], "site": site} for number, site in enumerate(("Nord", "Ost", "Nord"))]
    data = ganatomy.dataset(items, "pix2pix", source="mr", target="ct", hold_out_site=("Ost",))
    assert [(case.site, case.split) for case in data.cases] == [("Nord", "train"), ("Ost", "test"), ("Nord", "train")]
    run = train("pix2pix", items, out=tmp_path / "run", ct=CT, cache=cases, fold=1, folds="sites", **TINY)
    split = run.facts.split
    assert split.fold.folds == "sites" and split.fold.number == 1
    assert len(split.test) == (1 if split.sites["test"] == (Pseudonyms.of_user().site("Ost"),) else 2)


def test_a_file_is_an_image_of_one_subject(pairs):
    items = [{"mr": pairs / "mr" / "p0.nii.gz", "ct": pairs / "ct" / "p0.nii.gz"}] * 3
    with pytest.raises(UserError, match=r"case0001: .*p0\.nii\.gz is an image of subject 'case0000', too"):
        ganatomy.dataset(items, "pix2pix", source="mr", target="ct")
    assert len(ganatomy.dataset([{**one, "subject": "p0"} for one in items], "pix2pix", source="mr", target="ct")) == 3


def test_a_data_set_that_changes_its_values_is_refused(tmp_path):
    class Random(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"image": Image.from_array(np.random.default_rng().uniform(size=(1, 32, 32)))}

    data = ganatomy.dataset(Random(), "wgan-gp")
    next(iter(data.cases)).sources["image"].dataset._last = None
    with pytest.raises(UserError, match="other values than when it was first asked for"):
        data.cases[0].sources["image"].open()


def test_processes_that_cut_patches_are_sent_no_values(pairs):
    data = ganatomy.dataset(Pairs(pairs), "pix2pix", source="mr", target="ct")
    sent = pickle.dumps(data.cases)
    assert len(sent) < volume().nbytes
    image = pickle.loads(sent)[0].sources["mr"].open()
    assert np.array_equal(image.numpy(), data.cases[0].sources["mr"].open().numpy())


def test_another_run_is_repeated_wherever_its_data_lie(pairs, cases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = train("pix2pix", "pairs", out="runs/a", ct=CT, cache=cases, **TINY)
    monkeypatch.chdir(tmp_path / "runs")
    again = train("pix2pix", out="b", config="a/run.yaml", cache=cases)
    assert again.identity == first.identity
    assert read_run(tmp_path / "runs" / "b").data.data == tmp_path / "pairs"
    other = train("pix2pix", out="c", config="a/run.yaml", cache=cases, rounds=1, levels=2)
    assert (other.facts.config["levels"], other.facts.config["source"]) == (2, "mr")
    assert other.facts.rounds == {"game": 1}


@pytest.mark.parametrize(
    ("function", "options", "renamed"),
    [
        (train, Choice, {}),
        (ganatomy.evaluate, import_module("ganatomy.cli.evaluate").Choice, {}),
        (ganatomy.apply, import_module("ganatomy.cli.apply").Options, MEANINGS),
        (ganatomy.sample, import_module("ganatomy.cli.sample").Choice, {}),
        (ganatomy.study, import_module("ganatomy.cli.study").Choice, {"system": "run_system"}),
    ],
)
def test_a_function_takes_every_option_of_its_command(function, options, renamed):
    there = set(inspect.signature(function).parameters)
    wanted = {renamed.get(name, name) for name in options.__dataclass_fields__}
    assert wanted <= there, sorted(wanted - there)


def test_a_class_is_a_system_by_whatever_it_is_called():
    assert catalogue.resolve(Pix2Pix) is catalogue.resolve("pix2pix")
    with pytest.raises(UserError, match="not a method"):
        catalogue.resolve(dict)

    class Mine(Pix2Pix):
        pass

    with pytest.raises(UserError, match="Mine: defined in a function"):
        catalogue.resolve(Mine)
    with pytest.raises(UserError, match="not by a int"):
        catalogue.resolve(3)


def test_systems_are_listed_by_pattern_and_state():
    assert {one.slug for one in ganatomy.list_systems("denois")} >= {"wgan-vgg"}
    assert len(ganatomy.list_systems()) == len(catalogue.SYSTEMS)
    assert ganatomy.list_systems(state="ready") == catalogue.ready()


def test_samples_are_written(cases, tmp_path):
    small = {"width": 4, "size": (16, 16), "batch_size": 2, "rounds": 1, "threads": 1, "diagnose": False}
    images = [
        Image.from_array(np.random.default_rng(n).uniform(0, 255, (1, 16, 16)).astype(np.uint8)) for n in range(6)
    ]
    model = train(
        "dcgan",
        images,
        out=tmp_path / "run",
        preset="small",
        image={"window": (0, 255), "unit": None, "channels": 1},
        cache=cases,
        **small,
    )
    paths = ganatomy.sample(model, tmp_path / "S", 2, seed=5, device="cpu")
    assert [path.parent for path in paths] == [tmp_path / "S"] * 2 and all(path.is_file() for path in paths)
    assert json.loads((tmp_path / "S" / "synthetic.json").read_text())["seeds"] == [5, 6]


def test_a_study_has_the_arguments_of_the_command(tmp_path):
    with pytest.raises(UserError, match="--seeds 0"):
        ganatomy.study("pix2pix", out=tmp_path / "S", seeds=0, **{**TINY, "source": "t1", "target": "t2"})
    with pytest.raises(UserError, match="it cannot be combined with label_fraction"):
        ganatomy.study("ac-gan", out=tmp_path / "S", downstream=True, against=["baseline"])
    assert not (tmp_path / "S").exists()


def test_every_public_name_is_there():
    assert set(ganatomy.__all__) == {*ganatomy._HOMES, "__version__"} <= set(dir(ganatomy))
    assert all(getattr(ganatomy, name).__doc__ for name in ganatomy.__all__)


@pytest.mark.parametrize(("kernel", "quiet"), [(True, False), (False, True)])
def test_notebooks_show_progress_unless_told_otherwise(kernel, quiet, monkeypatch):
    import io
    import sys
    from types import SimpleNamespace

    from ganatomy.reports import terminal
    from ganatomy.training.monitor import Bar

    shell = type("ZMQInteractiveShell" if kernel else "TerminalInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert terminal.chosen(None) is kernel and terminal.chosen(False) is False
    bar = Bar(3, 1, terminal.console(terminal.chosen(None)), True)
    bar.close()
    assert ("1/3" in sys.stderr.getvalue()) is not quiet
