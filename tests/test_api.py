"""Training from Python, with options by name."""

from importlib.metadata import version

import numpy as np
import pytest

import ganatomy
from ganatomy import DataConfig, Image, UserError, catalogue
from ganatomy.api import TAKEN, configured, sorted_options, train, with_options
from ganatomy.cli.train import Choice
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
