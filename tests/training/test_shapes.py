"""Whether a method can be trained on batches of its size, which is found out before any case is prepared."""

import re

import pytest
import torch

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.training.run import TrainConfig, train
from ganatomy.training.shapes import check_turns

FITTING = ("segan", "dcgan", "cyclegan", "vae-gan", "saliency-srgan", "vessel-geometry-wgan")
"""Systems whose turns depend on shapes alone, and others whose turns depend on values."""


def built(slug, **values):
    kind = catalogue.load(slug).Config
    given = {"features": "substitute", "features_width": 0.0625} if "features" in kind.model_fields else {}
    return catalogue.load(slug).of(kind.preset("small", **{**given, **values}))


@pytest.mark.parametrize("slug", FITTING)
def test_a_method_that_fits_is_left_as_it_was(slug):
    method = built(slug)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    drawn, noise, random = vars(method).keys(), method.noise.generator.get_state(), torch.get_rng_state()
    check_turns(method)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert vars(method).keys() == drawn
    assert torch.equal(method.noise.generator.get_state(), noise) and torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("slug", "values", "told"),
    [
        ("srgan", {"patch": 34}, "--patch 34: the networks cannot be trained on such images (images of 34x34 pixels"),
        ("cgan", {"size": (4, 4, 4)}, "--size 4 4 4: the networks cannot be trained on such images (Calculated padded"),
    ],
)
def test_sizes_that_networks_cannot_take_are_refused_by_option(slug, values, told, capfd):
    with pytest.raises(UserError, match=f"^{re.escape(told)}"):
        check_turns(built(slug, **values))
    assert not capfd.readouterr().err


def test_no_memory_is_taken():
    check_turns(built("gan", hidden=(4,), units=(4,), size=(2000, 2000), batch_size=1_000_000))


def test_nothing_is_prepared_or_written_before(tmp_path):
    config = catalogue.load("srgan").Config.preset("small", patch=34)
    with pytest.raises(UserError, match="--patch 34: "):
        train("srgan", tmp_path / "run", config, DataConfig(cache=tmp_path / "cache"), TrainConfig(rounds=2))
    assert not any(tmp_path.iterdir())
