"""Options of a command from classes: names with values, options of roles, and mistakes told in a line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from ganatomy.cli.options import check_prefixes, names_of_roles, parse, parsed, peek_all, settled, with_roles
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig, RolesConfig
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.options import RoleOptions


class Scan(BaseModel):
    """How it is simulated."""

    model_config = ConfigDict(frozen=True)

    views: int = Field(60, ge=1)  # projections


class Config(RolesConfig):
    """A toy."""

    role_fields: ClassVar = {"inputs": ImageOptions, "labels": RoleOptions, "observer": RoleOptions}

    inputs: tuple[str, ...] = ("flair", "t1")  # names of the images
    labels: str = "tumour"  # name of the label map
    observer: str | None = None  # name of another one
    regions: Mapping[str, tuple[int, ...]] = {"whole": (1, 2), "core": (1,)}  # name to labels
    shares: Mapping[str, float] = {}  # name to share
    rate: float = Field(0.5, gt=0)  # of learning
    scan: Scan = Scan()  # how it is simulated
    variant: Literal["a", "b"] = "a"  # which one


def read(*words):
    method = Config.preset("paper", **names_of_roles(Config, words))
    check_prefixes(method, words)
    kind, default = with_roles(method)
    return settled(Config, parse(kind, words, "toy", default))


def test_nothing_given_is_the_default():
    assert read() == Config()


def test_options_of_roles_have_their_names_as_prefixes():
    words = (
        "--inputs t1_c pd --t1-c.window -160 240 --t1_c.unit HU --pd.channels 3 --views 7 --tumour.part labels:tumour"
    )
    want = Config.preset(
        "paper",
        inputs=("t1_c", "pd"),
        t1_c={"window": (-160, 240), "unit": "HU"},
        pd={"channels": 3},
        scan={"views": 7},
        tumour={"part": "labels:tumour"},
    )
    assert read(*words.split()) == want


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--inputs a b --rate 2 --labels=c", {"inputs": ("a", "b"), "labels": "c"}),
        ("--inputs --rate 2", {"inputs": ()}),
        ("--labels --rate 2", {}),
        ("--observer None", {"observer": None}),
        ("--rate 2 a b", {}),
    ],
)
def test_names_of_roles_are_read_first(words, names):
    assert names_of_roles(Config, words.split()) == names
    assert names_of_roles(MethodConfig, words.split()) == {}


def test_values_of_an_option_end_with_the_next():
    assert peek_all(["--a", "1", "-2", "x", "--b", "--c=4", "5", "--d"], "a", "c", "e") == {
        "a": ["1", "-2", "x"],
        "c": ["4", "5"],
    }


def test_names_with_values_are_one_option():
    assert read("--regions", "whole=1,2,4", "core=1,4").regions == {"whole": (1, 2, 4), "core": (1, 4)}
    assert read("--shares", "lesion=0.5", "rest=.25").shares == {"lesion": 0.5, "rest": 0.25}
    assert list(read("--regions", "b=2", "a=1").regions) == ["b", "a"], "their order means something"
    assert read("--regions").regions == {}
    assert parsed(["t1=*_t1.nii.gz", "x="], str, several=False) == {"t1": "*_t1.nii.gz", "x": ""}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--regions whole=1,x", "--regions: 'whole=1,x' is not NAME=INT,..."),
        ("--regions whole=", "--regions: 'whole=' is not NAME=INT,..."),
        ("--regions 1,2", "--regions: '1,2' is not NAME=INT,..."),
        ("--regions =1", "--regions: '=1' is not NAME=INT,..."),
        ("--regions a=1 a=2", "--regions: a is given twice"),
        ("--shares a=1,2", "--shares: 'a=1,2' is not NAME=FLOAT"),
        ("--t2.window 0 1", "--t2.window: no role is called t2; the roles are flair (--inputs), t1 (--inputs), tumour"),
        ("--t1.windo 0 1", "--t1.windo, 0, 1 - perhaps you meant --t1.window {None}|{FLOAT FLOAT}"),
        ("--t1.channels=0", "option --t1.channels: input should be greater than or equal to 1, got 0"),
        ("--t1.window 3 2", "option --t1: window goes from a lower to a higher number, not from 3 to 2"),
        ("--t1.scale none", "'none' for argument '--t1.scale'"),
        ("--rate 0", "option --rate: input should be greater than 0, got 0"),
        ("--views 0", "option --views: input should be greater than or equal to 1, got 0"),
        ("--inputs t1-c", "--inputs t1-c: a role cannot be called so"),
        ("--labels t1", "--inputs and --labels: two roles are called t1"),
        ("--labels", "Missing value for argument '--labels'"),
        ("--nix 3", "--nix"),
    ],
)
def test_mistakes_are_told_in_a_line(words, told):
    with pytest.raises(UserError) as error:
        read(*words.split())
    assert told in str(error.value) and "\n" not in str(error.value)


def test_the_help_has_the_comments_of_every_option(capsys):
    with pytest.raises(SystemExit):
        read("--inputs", "pd", "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "--pd.window {None}|{FLOAT FLOAT}",
        "values mapped to the ends",
        "name of the label map",
        "projections",
    ):
        assert text in said
    assert "--flair" not in said and "NAME=INT,... name to labels (default: whole=1,2 core=1)" in said


def test_a_configuration_without_named_roles_is_its_own_class():
    class Plain(MethodConfig):
        rate: float = 1.0

    kind, default = with_roles(Plain())
    assert kind is Plain and settled(Plain, default) is default


def test_other_commands_read_names_with_values_too():
    @dataclass
    class Options:
        roles: Mapping[str, str] = field(default_factory=dict)

    assert parse(Options, ["--roles", "a=*.png"], "toy").roles == {"a": "*.png"}


def test_mistakes_of_types_are_told_without_the_parsers_frame():
    with pytest.raises(UserError, match=r"^option --regions: 'whole=' is not NAME=INT,... \(see toy --help\)$"):
        read("--regions", "whole=")
    with pytest.raises(UserError, match=r"^option --rate: could not convert string to float: 'x' \(see toy --help\)$"):
        read("--rate", "x")
