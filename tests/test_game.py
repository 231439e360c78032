from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from pydantic import BaseModel

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig, Range, RolesConfig, gathered
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.options import RoleOptions


class Nested(BaseModel):
    views: int = 3


class Config(RolesConfig):
    role_fields: ClassVar = {"inputs": ImageOptions, "made": RoleOptions, "observer": RoleOptions}
    role_defaults: ClassVar = {"inputs": {"scale": "zscore"}, "ct": {"window": (-5, 5)}}
    presets: ClassVar = {
        "paper": {},
        "pair": {
            "inputs": ("flair", "t1"),
            "roles": {"flair": {"channels": 3}, "inputs": {"unit": None, "channels": 2}},
        },
    }
    inputs: tuple[str, ...] = ("t1", "ct")
    made: str = "tumour"
    observer: str | None = None
    scan: Nested = Nested()


def test_every_role_that_is_named_has_options_of_its_kind():
    config = Config()
    assert list(config.roles) == ["t1", "ct", "tumour"]
    assert [type(options) for options in config.roles.values()] == [ImageOptions, ImageOptions, RoleOptions]
    assert [config.roles[name].scale for name in config.inputs] == ["zscore", "zscore"]
    assert config.roles["ct"].window == (-5, 5) and config.roles["t1"].window == ImageOptions().window


def test_what_is_given_for_a_role_stands_before_what_is_given_for_all_and_before_the_preset():
    config = Config.preset("pair")
    assert [(config.roles[name].channels, config.roles[name].unit) for name in config.inputs] == [(3, None), (2, None)]
    config = Config.preset("pair", flair={"unit": "HU"}, roles={"t1": ImageOptions(channels=4)})
    assert [(config.roles[name].channels, config.roles[name].unit) for name in config.inputs] == [(3, "HU"), (4, None)]


def test_options_of_a_preset_stay_behind_when_its_role_has_another_name():
    config = Config.preset("pair", inputs=("ct", "t2"), observer="second", second={"part": "labels:other"})
    assert [config.roles[name].channels for name in config.inputs] == [2, 2]
    assert list(config.roles) == ["ct", "t2", "tumour", "second"] and config.roles["second"].part == "labels:other"


@pytest.mark.parametrize("values", [{}, {"inputs": ("mr",), "mr": {"window": (-1, 7)}, "observer": "o"}])
def test_names_and_options_survive_the_file(values):
    config = Config.preset("pair", **values)
    stored = config.model_dump(mode="json")
    assert Config.model_validate(stored) == config == Config.preset("paper", **stored)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"inputs": ("t1-c",)}, r"--inputs t1-c: a role cannot be called so .*call it t1_c, say"),
        ({"inputs": ("views",)}, r"--inputs views: .*call it views_image, say"),
        ({"made": "inputs"}, r"--made inputs: .*means something else"),
        ({"inputs": ("a", "a")}, "--inputs: two roles are called a; give each a name of its own"),
        ({"inputs": ("a", "tumour")}, "--inputs and --made: two roles are called tumour"),
        ({"t1": {"windo": (0, 1)}}, r"option t1\.windo: there is no such option"),
        ({"t1": {"channels": 0}}, r"option t1\.channels: input should be greater than or equal to 1, got 0"),
        ({"t1": {"window": (3, 2)}}, "option t1: window goes from a lower to a higher number, not from 3 to 2"),
        ({"t1": 3}, "option t1: its options by name are needed"),
        ({"t2": {"channels": 1}}, "option t2: there is no such option"),
        ({"roles": {"t2": {}}}, "option t2: no role is called so; the roles are t1, ct, tumour"),
        ({"made": float("nan"), "roles": {"t9": {}}}, "option t9: no role is called so; the roles are t1, ct, nan"),
        ({"roles": "t2"}, "option roles: options by the names of roles are needed"),
    ],
)
def test_names_and_options_that_cannot_be_used_are_refused(values, told):
    with pytest.raises(UserError, match=told) as error:
        Config.preset("paper", **values)
    assert "\n" not in str(error.value)


def test_the_type_of_roles_may_be_narrowed():
    class Images(RolesConfig):
        role_fields: ClassVar = {"source": ImageOptions}
        source: str = "mr"
        roles: Mapping[str, ImageOptions] = {}

    assert Images(source="opp").roles["opp"] == ImageOptions()


def test_what_is_called_ct_is_in_hu_unless_told_otherwise():
    config = catalogue.load("pix2pix").Config.preset("paper", source="mr", target="ct", ct={"window": (-160, 240)})
    assert (config.roles["ct"].unit, config.roles["ct"].window) == ("HU", (-160, 240))
    assert config.roles["mr"].unit == "a.u."
    other = catalogue.load("pix2pix").Config.preset("paper", source="ct", ct={"unit": "a.u."})
    assert other.roles["ct"].unit == "a.u."


class Numbers(MethodConfig):
    """Options with limits that follow from their names."""

    width: int = 4
    critic_width: int = 3
    generator_widths: tuple[int, ...] = (5, 4)
    ema_halflife: float | None = None
    learning_rates: tuple[float, float] = (1e-3, 1e-4)
    cycle_weight: float = 10.0
    warm_up_rounds: int = 0
    critic_steps: int = 5
    spacing: tuple[float, float, float] | None = (3.0, 1.0, 2.0)
    size: tuple[int, ...] = (5, 7)
    flips: tuple[int, ...] = (1, 2)
    latent: int = 8
    levels: int = 3
    betas: tuple[float, float] = (0.5, 0.9)
    dropout: float = 0.5
    l1_share: float = 1.0
    decay_every: int = 7
    batch_size: int = 2
    patch: int = 32
    window: tuple[float, float] = (-160.0, 240.0)
    percentiles: tuple[float, float] = (0.5, 99.5)
    features_width: float = 0.5


@pytest.mark.parametrize(
    "values",
    [
        {"width": 10**9},
        {"latent": 0},
        {"levels": 10**9},
        {"betas": (0.5, 1.0)},
        {"dropout": 1.0},
        {"l1_share": 1.5},
        {"decay_every": 0},
        {"batch_size": 0},
        {"patch": 0},
        {"size": (5, 10**9)},
        {"percentiles": (0.5, 100.5)},
        {"features_width": 0.0},
        {"width": 0},
        {"critic_width": -3},
        {"generator_widths": (5, 0)},
        {"ema_halflife": -1.0},
        {"learning_rates": (1e-3, 0.0)},
        {"cycle_weight": -1.0},
        {"warm_up_rounds": -1},
        {"critic_steps": -2},
        {"spacing": (1.0, 0.0, 1.0)},
        {"size": (5, 0)},
        {"flips": (1, 5)},
    ],
)
def test_numbers_that_no_method_can_use_are_refused_by_name(values):
    assert Numbers.preset("paper", spacing=None, ema_halflife=0.5, cycle_weight=0.0).ema_halflife == 0.5
    ((name, value),) = values.items()
    given = " ".join(map(str, value if isinstance(value, tuple) else (value,)))
    with pytest.raises(UserError, match=f"option {name}: .*, got {given}$"):
        Numbers.preset("paper", **values)


@pytest.mark.parametrize("name", ["window", "percentiles"])
@pytest.mark.parametrize("values", [(3.0, 2.0), (2.0, 2.0)])
def test_two_numbers_of_a_range_are_in_order(name, values):
    with pytest.raises(UserError, match=f"option {name}: goes from a lower to a higher number, not from "):
        Numbers.preset("paper", **{name: values})


def test_ranges_are_told_in_words():
    assert Range(ge=0, lt=1).told == "must be at least 0 and less than 1"
    assert Range(gt=0, le=8192).told == "must be greater than 0 and at most 8192"
    assert 1 in Range(le=1) and 1.5 not in Range(le=1) and "x" in Range(le=1) and 0 not in Range(gt=0)


def test_the_rows_of_all_processes_are_gathered_in_their_order(monkeypatch):
    def all_of(parts, own):
        for number, part in enumerate(parts):
            part.copy_(own + 10 * number)

    rows = torch.tensor([[1.0, 2.0]])
    assert gathered(rows) is rows
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", all_of)
    assert gathered(rows).tolist() == [[1, 2], [11, 12]]
