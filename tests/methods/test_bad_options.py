"""Single bad options of all systems: refused in one line that names the option, before anything is prepared.

A seeded draw of the options of every system is built; those that once ended in a traceback, or were accepted although
they make no sense, are tried every time. No configuration of the sweep over all numbers is built.
"""

import random
from collections.abc import Mapping

import pytest
from pydantic import BaseModel
from small import READY, SMALLER

from ganatomy import catalogue
from ganatomy.api import configured
from ganatomy.errors import UserError
from ganatomy.game import RolesConfig
from ganatomy.inference.model import build
from ganatomy.training.loop import plan_rounds
from ganatomy.training.run import check_stages
from ganatomy.training.shapes import check_turns

DRAWN = 3
"""Options that are built for every system."""
HUGE = 10**9
SIGNED = {"a", "b", "c", "background", "mean", "tissue_above", "fake_labels", "real_labels", "window"}
"""Numbers that may be negative: targets of losses, intensities, z-scores."""
PATIENT = ("rounds", "steps", "every", "images", "batch", "batch_size", "seed", "epochs", "often", "smallest", "burst")
"""Endings of the names of whole numbers without an upper limit, which cost nothing before training."""
UNLIMITED = {"accumulated", "border", "centre", "components", "dropped", "enlarge", "generator_factor", "group"} | {
    *("kernel", "sharpness_window", "texture_patch", "trim", "views", "unknown", "superpixels")
}
"""Further whole numbers without an upper limit."""
ONCE = (
    ("dcgan", {"size": (32,)}, "size"),
    ("dcgan", {"size": ()}, "size"),
    ("dcgan", {"size": (32, 32, 32, 32)}, "size"),
    ("dcgan", {"images": ()}, "images"),
    ("dcgan", {"stages": 0}, "stages"),
    ("dcgan", {"stages": HUGE}, "stages"),
    ("dcgan", {"minibatch_discrimination": HUGE}, "minibatch_discrimination"),
    ("dcgan", {"latent": 0}, "latent"),
    ("dcgan", {"betas": (0.5, 1.0)}, "betas"),
    ("dcgan", {"learning_rate": 1e9}, "learning_rate"),
    ("ac-gan", {"generator_widths": ()}, "generator_widths"),
    ("vae-gan", {"epochs": 0}, "epochs"),
    ("vae-gan", {"mean_square_decay": 1.0}, "mean_square_decay"),
    ("dagan", {"levels": 0}, "levels"),
    ("dagan", {"perceptual_size": -1}, "perceptual_size"),
    ("refinegan", {"learning_rates": ()}, "learning_rates"),
    ("mdcsrn", {"patch_shape": (HUGE, HUGE, HUGE)}, "patch_shape"),
    ("melanogans", {"scale_weights": ()}, "scale_weights"),
    ("pcle-cycle-sr", {"sd": 0.0}, "sd"),
    ("wgan-vgg", {"window": (240.0, -160.0)}, "window"),
    ("lsgan", {"generator_widths": (8, 8)}, "generator-strides"),
    ("kspace-gan", {"decoder": (8,)}, "decoder"),
    ("pgan", {"size": (48, 48)}, "size"),
    ("lapgan", {"size": (8, 8)}, "size"),
    ("liver-dcgan-aug", {"size": (32, 32, 32)}, "size"),
    ("anovaegan", {"size": (64, 64, 64)}, "size"),
    ("cgan", {"size": (4, 4, 4)}, "size"),
    ("srgan", {"patch": 34}, "patch"),
)
"""System, bad option, and the name that its message must hold."""


def bad_values(value):
    """Return bad values for an option with a value."""
    if isinstance(value, bool | BaseModel | Mapping):
        return []
    if isinstance(value, int):
        return [0, -1, HUGE, -HUGE]
    if isinstance(value, float):
        return [0.0, -1.0, 1.5, 1e9, -1e9, float("nan"), float("inf")]
    if isinstance(value, str):
        return ["", "x", "[/b]", "\0"]
    if isinstance(value, tuple):
        several = [(*value[:at], one, *value[at + 1 :]) for at in range(len(value)) for one in bad_values(value[at])]
        return [(), value[1:], (*value, *value[:1]), *several]
    return ["x"]


def all_bad(slug):
    """Yield the options of a system and its roles, each with one bad value."""
    config = catalogue.load(slug).Config.preset("small")
    groups = [((), config), *(((name,), one) for name, one in config if isinstance(one, BaseModel))]
    if isinstance(config, RolesConfig):
        groups += [((role,), options) for role, options in config.roles.items()]
    for path, model in groups:
        for name, value in model:
            for bad in bad_values(value):
                own = {**dict(model), name: bad} if path and path[0] in type(config).model_fields else {name: bad}
                yield name, {path[0]: own} if path else own


def attempt(slug, values):
    """Build a system with options as training does, and return the one line by which it is refused, or None."""
    system = catalogue.resolve(slug)
    fit = {name: value for name, value in SMALLER.items() if name in system.cls.Config.model_fields}
    if "features" in system.cls.Config.model_fields:
        fit["features"] = "substitute"
    try:
        config = configured(system.cls.Config, "small", False, {}, {**fit, **values})
        method = build(system, config.model_dump(mode="json"))
        plan_rounds(method.stages(), 5)
        check_stages(method.stages())
        method.check_sizes()
        if slug in {one for one, _, _ in ONCE}:
            check_turns(method)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("slug", READY)
def test_a_bad_option_is_used_or_refused_in_a_line(slug):
    draw = random.Random(slug)
    for name, values in draw.sample(list(all_bad(slug)), DRAWN):
        told = attempt(slug, values)
        assert told is None or (told and "\n" not in told), (name, values)


@pytest.mark.parametrize(("slug", "values", "named"), ONCE, ids=lambda value: str(value)[:40])
def test_an_option_that_once_was_a_traceback_or_accepted_is_refused_by_name(slug, values, named):
    told = attempt(slug, values)
    assert told and named in told and "\n" not in told, told


@pytest.mark.parametrize("slug", READY)
def test_no_number_is_without_limits(slug):
    kind = catalogue.load(slug).Config
    accepted = []
    for name, value in kind.preset("small"):
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, bool) or not isinstance(first, int | float):
            continue
        endings = [] if name in SIGNED else [-HUGE]
        if isinstance(first, int) and not (name.endswith(PATIENT) or name in UNLIMITED):
            endings.append(HUGE)
        for one in map(type(first), endings):
            try:
                kind.preset("small", **{name: (one,) * len(value) if isinstance(value, tuple) else one})
            except UserError as error:
                assert name in str(error) and "\n" not in str(error)
            else:
                accepted.append((name, one))
    assert not accepted, "say in `game.LIMITS` or in the field which numbers make sense"
