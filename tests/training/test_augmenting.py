"""Random changes that are added to training images: when, which, and of what."""

import numpy as np
import pytest
import torch
from samples import sample_of

from ganatomy import catalogue
from ganatomy.data.batches import PatchDataset, Range
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.runfile import TrainConfig, parse_run, plain_yaml, read_run
from ganatomy.training.augmenting import FEW, added, check_wish, with_changes
from ganatomy.training.run import train

AU = {"window": (0.0, 100.0)}
PIX2PIX = {"size": (16, 16), "levels": 2, "width": 2, "discriminator_width": 2, "discriminator_strided": 1}


def method_of(system, **options):
    cls = catalogue.load(system)
    return cls.of(cls.Config.preset("small", **options))


def pix2pix(**options):
    return method_of("pix2pix", **{**PIX2PIX, "flips": (), "t1": AU, "t2": AU, **options})


def auto(method, subjects=5, own=True):
    return added(method, "auto", subjects, own)


@pytest.mark.parametrize(
    ("subjects", "own", "told"),
    [
        (FEW - 1, True, f"augmentation is added, since {FEW - 1} training subjects are few"),
        (FEW, True, f"no augmentation is added: {FEW} training subjects, and {FEW} are enough"),
        (5, False, "no augmentation is added: images are phantoms"),
    ],
)
def test_small_data_of_the_user_are_augmented(subjects, own, told):
    found = auto(method_of("anovaegan"), subjects, own)
    assert found.told.startswith(told)
    assert (found.changes is not None) == told.startswith("augmentation is added")


def test_what_the_source_states_is_left_to_the_system():
    silent = auto(pix2pix())
    assert silent.changes is None and "states its own (enlarged from 256 to 286 pixels" in silent.told
    pair = added(pix2pix(), "always", 100, False)
    assert pair.changes.moves and pair.changes.varies and pair.changes.varied_images == ("t1",)
    assert "beside what the source of the system states" in pair.told
    unpaired = added(method_of("cyclegan"), "always", 5, True).changes
    assert unpaired.moves and not unpaired.varies, "networks draw the images of both kinds"


def test_nothing_is_added_where_it_is_not_wanted():
    assert added(pix2pix(), "none", 2, True) == (None, "no augmentation is added, as asked for")


def test_options_of_the_system_come_before_what_is_usual():
    turned = method_of("segan", augmentation={"rotation": (5, 0, 0)})
    assert added(turned, "always", 2, True).changes is None
    assert "that of the options of the system" in added(turned, "always", 2, True).told
    usual = added(method_of("segan"), "always", 2, True).changes
    assert usual.varies and usual.moves and usual.varied_images == method_of("segan").config.inputs


def test_generators_are_shown_moved_images_only_where_asked():
    generator = method_of("dcgan")
    assert auto(generator).changes is None and "would draw moved images, too" in auto(generator).told
    asked = added(generator, "always", 5, True).changes
    assert asked.moves and not asked.varies


@pytest.mark.parametrize(
    ("system", "reason"),
    [
        ("wgan-vgg", "differ in noise, which is smoothed"),
        ("gancs", "its scans are simulated before training"),
        ("pcle-cycle-sr", "its frames are simulated before training"),
        ("mdcsrn", "its coarse images are simulated before training"),
        ("vessel-geometry-wgan", "its signals are no images"),
        ("brain-manifold-dcgan:small-denoiser", "differ in noise, which is smoothed"),
    ],
)
def test_tasks_that_cannot_change_images_say_why(system, reason):
    slug, _, preset = system.partition(":")
    cls = catalogue.load(slug)
    method = cls.of(cls.Config.preset(preset or "small"))
    assert auto(method).changes is None and reason in auto(method).told
    with pytest.raises(UserError, match=f"--augment always: nothing can be changed here, because .*{reason}"):
        check_wish(method, "always")
    check_wish(method, "auto")


@pytest.mark.parametrize("system", ["srgan", "saliency-srgan", "srgan3d-brain", "thin-slice-3dsrgan"])
def test_super_resolution_keeps_its_detail_and_the_scale_of_ct(system):
    grey = added(method_of(system, window=(0, 900), window_unit="a.u."), "always", 5, True).changes
    assert grey.gamma > 1 and grey.bias > 1 and not (grey.moves or grey.blur or grey.noise)
    with pytest.raises(UserError, match="values of its images mean something"):
        check_wish(method_of(system, window=(-100, 300), window_unit="HU"), "always")


def test_ct_keeps_its_scale_wherever_it_is_given():
    changes = added(method_of("pix2pix", source="ct", target="mr"), "always", 5, True).changes
    assert changes.gamma == 1 and changes.bias == 1 and changes.noise and changes.measured_images == ("ct",)
    detector = method_of("anovaegan", window_unit="HU", window=(-100, 300))
    assert auto(detector).changes.moves and not auto(detector).changes.varies
    for slug in ("anogan", "caae", "anovaegan"):
        images = auto(method_of(slug)).changes
        assert images.varies and not images.blur and not images.noise, "a detector would take noise for healthy"


def patches(changes, method=None, other=0.0):
    """Return the patches of pairs of equal images, with another image beside the pair where `other` is added to it."""
    method = method or pix2pix()
    (stage,) = method.stages()
    values = np.random.default_rng(0).uniform(5, 95, (1, 6, 16, 16)).astype(np.float32)
    codec = Window(low=0, high=100, to=(-1, 1), clip=True, unit="a.u.")
    sample = sample_of({"t1": values, "t2": values + other}, codecs={"t1": codec, "t2": codec})
    (stream,) = with_changes(stage, method.task.required, changes)
    return PatchDataset([Range(sample, 0, 6)], stream, ("t1", "t2"), 2, (0,))


def test_targets_keep_their_intensities():
    wish = added(pix2pix(), "always", 5, True).changes.model_copy(update={"move_share": 0.0})
    plain, changed = patches(None), patches(wish)
    pairs = [(plain[number], changed[number]) for number in range(30)]
    assert all(torch.equal(one["t2"], other["t2"]) for one, other in pairs)
    assert 5 < sum(not torch.equal(one["t1"], other["t1"]) for one, other in pairs) < 25


def test_all_roles_are_moved_alike():
    whole = added(pix2pix(), "always", 5, True).changes.model_copy(update={"vary_share": 0.0})
    plain, moved = patches(None), patches(whole)
    pairs = [(plain[number], moved[number]) for number in range(30)]
    assert all(torch.equal(other["t1"], other["t2"]) for _, other in pairs)
    assert 5 < sum(not torch.equal(one["t1"], other["t1"]) for one, other in pairs) < 25


def test_without_changes_streams_are_those_of_the_system():
    method = pix2pix()
    assert with_changes(method.stages()[0], method.task.required, None) == list(method.stages()[0].streams_in_order)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Folder with pairs of three subjects."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(1)
    for subject in ("anna", "ben", "cleo"):
        for role in ("t1", "t2"):
            (folder / role).mkdir(exist_ok=True)
            image = Image.from_array(rng.uniform(5, 95, (3, 16, 16)).astype(np.float32), (3.0, 1.0, 1.0), "a.u.")
            write(folder / role / f"{subject}.nii.gz", image)
    return folder


def trained(pairs, out, augment="always", rounds=4, resume=False):
    config = catalogue.load("pix2pix").Config.preset("small", **{**PIX2PIX, "t1": AU, "t2": AU, "batch_size": 2})
    options = TrainConfig(rounds=rounds, threads=1, validation_slices=1, diagnose=False, augment=augment)
    train("pix2pix", out, config, DataConfig(data=pairs), options, resume=resume)
    return read_run(out)


def test_a_run_says_what_was_added_and_goes_on_with_it(pairs, tmp_path, caplog):
    caplog.set_level("INFO", logger="ganatomy")
    whole = trained(pairs, tmp_path / "whole", rounds=6)
    assert whole.augmented is not None and whole.augmentation.startswith("augmentation is added")
    assert whole.augmentation in caplog.text
    assert f"- Augmentation: {whole.augmentation}." in (tmp_path / "whole" / "card.md").read_text(encoding="utf-8")
    trained(pairs, tmp_path / "parts", rounds=3)
    parts = trained(pairs, tmp_path / "parts", rounds=6, resume=True)
    assert parts.augmented == whole.augmented and parts.weights["last"] == whole.weights["last"]
    plain = trained(pairs, tmp_path / "plain", "none", rounds=6)
    assert plain.augmented is None and plain.weights["last"] != whole.weights["last"]


def test_runs_from_before_augmentation_go_on_without_it(pairs, tmp_path):
    """Their files name neither the option nor the changes."""
    import yaml

    trained(pairs, tmp_path / "run", "none", rounds=2)
    path = tmp_path / "run" / "run.yaml"
    older = plain_yaml(path.read_text(encoding="utf-8"))
    del older["training"]["augment"], older["augmentation"], older["augmented"]
    path.write_text(yaml.safe_dump(older), encoding="utf-8")
    assert parse_run(path).training.augment == "none"
    assert trained(pairs, tmp_path / "run", "none", rounds=3, resume=True).augmented is None
