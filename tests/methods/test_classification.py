"""Classifying systems: numbers of the networks, values of the losses, and runs on the phantom."""

import csv
import json

import pytest
import torch
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Balanced, Progress
from ganatomy.inference.applying import apply_run
from ganatomy.methods.classification.cnn_classifier import CNNClassifier, cosine
from ganatomy.methods.classification.scgan_lv_coverage import SCGAN
from ganatomy.nets.semi_coupled import CoupledGenerators, init_coupled
from ganatomy.phantoms.short_axis import ShortAxisMR
from ganatomy.training.run import TrainConfig, train

TINY = {"size": (32, 16), "generator_widths": (6, 4), "discriminator_widths": (3, 4), "latent": 5, "batch_size": 4}
OTHERS = {"per": "case", "end": None, "rest": None}


def scgan(preset="small", **values):
    torch.manual_seed(0)
    return SCGAN(SCGAN.Config.preset(preset, **{**TINY, **values}))


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_networks_have_the_numbers_of_parameters_of_the_catalogue():
    with torch.device("meta"):
        method = SCGAN(SCGAN.Config.preset())
        assert count(method.generators.shared) == 12_650_372
        assert [count(one) for one in method.generators.private] == [2_049, 2_049]
        assert count(method.generators) == 12_654_470
        heads = method.discriminator
        assert (count(heads.trunk), count(heads.realness), count(heads.classes)) == (2_756_288, 8_193, 8_193)
        assert count(heads) == 2_772_674
        assert count(CoupledGenerators(100, 1, (64, 64), (512, 256, 128, 64), 2)) == 3_574_726
        sides = [method.generators.shared[: 3 * number](torch.empty(2, 100, 1, 1)).shape[-1] for number in range(1, 5)]
        assert sides == [4, 8, 16, 32] and method.generators(torch.empty(2, 100)).shape == (4, 1, 64, 64)
        assert heads.trunk(torch.empty(2, 1, 64, 64)).shape == (2, 8_192)


def test_the_first_layers_are_those_of_the_catalogue():
    shared = nn.Sequential(nn.ConvTranspose2d(100, 1024, 4), nn.ConvTranspose2d(1024, 512, 4, 2, 1))
    init_coupled(shared)
    for layer, bound in zip(shared, (0.025831, 0.022097), strict=True):
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3) and (layer.bias == 0.1).all()
    norms = [layer for layer in scgan().generators.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and not any(norm.affine for norm in norms), "affine norms would add 3,840 weights to the paper's"
    slopes = [layer for layer in scgan().generators.modules() if isinstance(layer, nn.PReLU)]
    assert [slope.weight.tolist() for slope in slopes] == [[0.25]] * 2


class _Given(nn.Module):
    """Heads with given logits, for one call after the other."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = iter(answers)

    def forward(self, image):
        real, classes = next(self.answers)
        return torch.tensor(real), torch.tensor(classes).reshape(len(real), -1)


def test_losses_are_those_of_the_catalogue():
    """The classes of the catalogue are basal (1) and others (0); generators of others come first here."""
    method = scgan()
    fakes = ([0.0, 2.0, -1.0, 0.5], [0.1, 0.4, 0.2, -0.3])
    method.discriminator = _Given(([1.0, 0.0], [0.8, -0.5]), fakes, fakes)
    batch = {
        "labelled": {"mr": torch.zeros(1, 1, 32, 16), "slice_labels": torch.tensor([1])},
        "unlabelled": {"mr": torch.zeros(1, 1, 32, 16)},
    }
    method.generators = nn.Identity()
    method.latents = lambda rows: torch.zeros(4, 1)
    discriminator, generators = method.turns(iter([batch]))
    assert discriminator.losses["adversarial"].item() == pytest.approx(1.530058, abs=1e-6)
    assert discriminator.losses["class"].item() == pytest.approx(0.371101, abs=1e-6)
    assert discriminator.losses["generated class"].item() == pytest.approx(0.1 * 0.777477, abs=1e-6)
    assert discriminator.total.item() == pytest.approx(1.978906, abs=1e-6)
    assert generators.total.item() == pytest.approx(1.429330, abs=1e-6)


def test_one_head_of_classes_and_one_of_fakes_has_the_losses_of_the_catalogue():
    method = scgan(head="k+1")
    logits = torch.tensor([[0.5, -0.5], [1.0, 0.0]])
    method.discriminator.trunk = nn.Identity()
    method.discriminator.classes = nn.Identity()
    real, classes = method.discriminator(logits)
    assert nn.functional.softplus(-real).mean().item() == pytest.approx(0.302596, abs=1e-6)
    assert nn.functional.softplus(real).mean().item() == pytest.approx(1.365857, abs=1e-6)
    assert method.class_error(classes, torch.tensor([0, 0])).item() == pytest.approx(0.313262, abs=1e-6)
    assert method.discriminator.realness is None and count(scgan(head="k+1").discriminator.classes) == 4 * 32 * 2 + 2


def test_generators_share_all_but_their_last_layer_and_one_latent_vector():
    method = scgan()
    made = method.generators(torch.randn(3, 5))
    assert made.shape == (6, 1, 32, 16) and made.abs().max() <= 1
    assert not torch.equal(made[:3], made[3:])
    method.generators.private[1].load_state_dict(method.generators.private[0].state_dict())
    again = method.generators(torch.randn(3, 5))
    assert torch.equal(again[:3], again[3:])
    assert method.made(torch.zeros(6, 1)).tolist() == [0, 0, 0, 1, 1, 1]


def test_classes_are_logits_of_two_of_which_the_first_is_zero():
    method = scgan().inference_mode()
    images = torch.randn(3, 1, 32, 16)
    logits = method.classify(images)
    assert logits.shape == (3, 2) and not logits[:, 0].any()
    assert torch.equal(logits[:, 1:], method.discriminator(images)[1])
    three = scgan(classes=("a", "b", "c"), **OTHERS).inference_mode()
    assert three.classify(images).shape == (3, 3) and len(three.generators.private) == 3


def test_every_class_is_drawn_equally_often_and_unlabelled_cases_are_a_stream_that_may_be_missing():
    (stage,) = scgan().stages()
    labelled, bare = stage.streams_in_order
    assert labelled.place == Balanced("slice_labels", {0: 0.5, 1: 0.5}) and labelled.patch == (1, 32, 16)
    assert bare.optional and bare.without == ("slice_labels",) and bare.roles == ("mr",)
    (stage,) = scgan(classes=("a", "b", "c"), **OTHERS).stages()
    assert stage.stream.balanced and stage.stream.place is None and stage.stream.roles == ("mr", "label")


def test_slices_without_labels_enter_the_term_of_real_images_alone():
    draw = torch.Generator().manual_seed(1)
    batch = {
        "labelled": {"mr": torch.randn(4, 1, 32, 16, generator=draw), "slice_labels": torch.tensor([0, 1, 0, 1])},
        "unlabelled": {"mr": torch.randn(4, 1, 32, 16, generator=draw)},
    }
    with_all = next(iter(scgan().turns(iter([batch]))))
    without = next(iter(scgan().turns(iter([{"labelled": batch["labelled"]}]))))
    assert with_all.scores["real"].shape == (8,) and without.scores["real"].shape == (4,)
    assert set(with_all.losses) == set(without.losses) == {"adversarial", "class", "generated class"}


def test_without_generators_the_discriminator_only_classifies():
    base = scgan(**SCGAN.Config.baseline)
    assert not base.adversarial and not base.takes_unlabelled and scgan().takes_unlabelled
    assert base.discriminator.realness is None and count(base.discriminator.trunk) == count(scgan().discriminator.trunk)
    batch = {"mr": torch.randn(4, 1, 32, 16), "slice_labels": torch.tensor([0, 1, 0, 1])}
    (turn,) = base.turns(iter([batch]))
    assert (turn.player, list(turn.losses)) == ("discriminator", ["class"])


def test_optimisers_are_those_of_the_program_of_cogan():
    (stage,) = SCGAN(SCGAN.Config.preset("small", **TINY, learning_rate=2e-4)).stages()
    for player in stage.players:
        settings = player.optimizer([nn.Parameter(torch.ones(1))]).defaults
        assert (settings["lr"], settings["betas"], settings["weight_decay"]) == (2e-4, (0.5, 0.999), 5e-4)


def test_the_plain_network_is_of_the_same_size_and_its_rate_falls():
    with torch.device("meta"):
        plain = CNNClassifier(CNNClassifier.Config.preset())
        assert count(plain.network) == count(SCGAN(SCGAN.Config.preset()).discriminator) == 2_772_674
    assert not plain.adversarial and plain.config.augmentation.moves and plain.config.augmentation.varies
    rates = [cosine(Progress(stage_round=at, stage_rounds=100)) for at in (0, 50, 100)]
    assert rates == pytest.approx([1, 0.5, 0])


def test_what_the_networks_cannot_take_is_refused():
    with pytest.raises(UserError, match="--size 32 18: give rows and columns, multiples of 4"):
        scgan(size=(32, 18))
    with pytest.raises(UserError, match="--classes: give the names of at least two classes"):
        scgan(classes=("basal",)).task  # noqa: B018
    with pytest.raises(UserError, match="--rest rest: none of the classes other, basal"):
        scgan(rest="rest").task  # noqa: B018
    with pytest.raises(UserError, match="--end basal: needs --per slice and two classes"):
        scgan(per="case").task  # noqa: B018
    with pytest.raises(UserError, match="--no-adversary: no loss has a weight"):
        scgan(adversary=False, class_weight=0.0)
    with pytest.raises(UserError, match="--size 32 18: give rows and columns, multiples of 16"):
        CNNClassifier(CNNClassifier.Config.preset("small", size=(32, 18)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few rounds on a phantom, with the labels of half of the stacks."""
    folder = tmp_path_factory.mktemp("scgan")
    config = SCGAN.Config.preset("small", **TINY, game_rounds=4)
    data = DataConfig(phantom_subjects=15, phantom_size=32, cache=folder / "cases")
    options = TrainConfig(device="cpu", threads=1, validate_every=2, diagnose=False)
    model = train("scgan-lv-coverage", folder / "run", config, data, options, label_fraction=0.5)
    return model, folder


def test_a_run_counts_cases_without_labels_and_calibrates(trained):
    model, _ = trained
    assert (len(model.facts.split.annotated), len(model.facts.split.train)) == (6, 11)
    found = model.calibration
    assert 0 < found["threshold"] < 1 and found["temperature"] > 0 and found["cases"] > 10
    shares = model.method.fitted.numbers["shares of classes"]
    assert shares.sum() == pytest.approx(1) and shares[1] < 0.2


def test_an_incomplete_stack_is_told_in_a_table(trained):
    model, folder = trained
    stack = ShortAxisMR(31, size=32)
    stack.image.save(folder / "stack.nii.gz")
    apply_run(folder / "run", (str(folder / "stack.nii.gz"),), folder / "found.nii.gz")
    ((case,), slices) = (list(csv.DictReader((folder / f"found{mark}.csv").open())) for mark in ("", "-slices"))
    assert (
        set(case) == {"class", "p(no basal slice)", "p(complete)", "called complete from"}
        and len(slices) == stack.image.shape[0]
    )
    outermost = slices[int(stack.heights.argmin())]
    assert float(case["p(complete)"]) == pytest.approx(float(outermost["p(basal)"]), abs=1e-4)
    for one in slices:
        assert float(one["p(other)"]) + float(one["p(basal)"]) == pytest.approx(1, abs=1e-5)
    note = json.loads((folder / "found.nii.gz.json").read_text())
    assert note["class"] == case["class"] and note["threshold"]["basal"] == model.calibration["threshold"]
