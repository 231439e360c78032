import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.game import moves
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Image
from ganatomy.inference.apply import Applier, Output
from ganatomy.inference.model import Model
from ganatomy.losses.saliency import local_contrast, saliency_filters
from ganatomy.methods.frameworks.srgan import SRGAN
from ganatomy.methods.reconstruction.pcle_cycle_sr import PCLECycleSR, vector_distance
from ganatomy.methods.reconstruction.saliency_srgan import SaliencySRGAN
from ganatomy.phantoms.fundus import Fundus
from ganatomy.physics.fibre import FibreBundle
from ganatomy.tasks.endomicroscopy.task import MOST_FIBRES
from ganatomy.training.run import DataConfig, TrainConfig, train


def small(cls, **values):
    torch.manual_seed(0)
    narrow = {"patch": 32, "batch_size": 2, "blocks": 1, "width": 8}
    return cls(cls.Config.preset("small", **{**narrow, **values}))


def play(method, stage=-1, **roles):
    return [turn for move in moves(method.stages()[stage].turns(iter([roles]))) for turn in move]


def fundus(size=32):
    return torch.from_numpy(Fundus(1, size=size).image.numpy()[:, 0])[None] / 127.5 - 1


def silent(discriminator):
    for parameter in discriminator.parameters():
        nn.init.zeros_(parameter)


def test_content_is_the_error_of_images_weighted_by_their_own_saliency():
    method = small(SaliencySRGAN, pixel_weight=0.0, adversarial_weight=1e-3)
    silent(method.discriminator)
    fine = fundus().repeat(2, 1, 1, 1)
    _, generator = play(method, image=fine)
    assert set(generator.losses) == {"content", "adversarial"}
    assert generator.losses["adversarial"].item() == pytest.approx(0.6931e-3, rel=1e-3)
    ours, theirs = ((image + 1) / 2 for image in (method.restore(method.coarse(fine)), fine))
    want = (saliency_filters(ours, 250) * ours - saliency_filters(theirs, 250) * theirs).square().mean()
    assert generator.losses["content"].item() == pytest.approx(want.item(), rel=1e-2)


@pytest.mark.parametrize(("saliency", "domain"), [("contrast", "pixel"), ("none", "pixel"), ("contrast", "vgg")])
def test_map_and_domain_are_options(saliency, domain):
    method = small(SaliencySRGAN, saliency=saliency, domain=domain)
    ours, theirs = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    weighted = [local_contrast(image) * image if saliency == "contrast" else image for image in (ours, theirs)]
    if domain == "pixel":
        want = (weighted[0] - weighted[1]).square().mean()
        assert method.features is None and not method.provenance()
    else:
        want = method.features.distance(*weighted) / 12.75**2
        assert "substitute" in method.provenance()["features"]
    assert method.content(ours, theirs).item() == pytest.approx(want.item(), rel=1e-4)


def test_what_is_not_salient_does_not_count():
    method = small(SaliencySRGAN, saliency="contrast")
    fine = torch.full((1, 3, 32, 32), 0.5)
    fine[..., :8, :8] = torch.rand(3, 8, 8)
    fake = fine.clone().requires_grad_()
    with torch.no_grad():
        fake += 0.01
    (slope,) = torch.autograd.grad(method.content(fake, fine), fake)
    assert slope[..., 16:, 16:].abs().max() < 1e-6 < slope[..., :8, :8].abs().max()


@pytest.mark.parametrize("factor", [4, 8])
def test_colours_get_finer_by_the_factor(factor):
    method = small(SaliencySRGAN, factor=factor)
    assert method.tiling.scale == (1, factor, factor)
    assert method.restore(torch.rand(1, 3, 4, 5)).shape == (1, 3, 4 * factor, 5 * factor)
    assert {turn.player for turn in play(method, image=fundus())} == {"discriminator", "generator"}


def test_srgan_itself_compares_features():
    method = small(SRGAN)
    ours, theirs = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    want = method.features.distance(ours, theirs) / 12.75**2
    assert method.content(ours, theirs).item() == pytest.approx(want.item())


def test_a_colour_picture_becomes_a_finer_colour_picture(tmp_path):
    config = SaliencySRGAN.Config.preset("small", patch=32, batch_size=2, blocks=1, width=8, saliency="contrast")
    options = TrainConfig(rounds=2, validate_every=2, validation_slices=1, threads=1, diagnose=False)
    data = DataConfig(phantom_subjects=3, phantom_size=32, cache=tmp_path)
    train("saliency-srgan", tmp_path / "run", config, data, options)
    eye = Fundus(5, size=32).image
    write(tmp_path / "eye.png", eye.with_array(eye.numpy().astype(np.uint8)))
    (source,) = find(tmp_path / "eye.png")
    applier = Applier(tmp_path / "run")
    nearest = nn.Upsample(scale_factor=4)
    applier.model.method.restore = lambda input: 2 * nearest(input) - 1
    applier({"low": source}, Output(tmp_path / "fine.png", "png"))
    fine, coarse = read(tmp_path / "fine.png"), read(tmp_path / "eye.png")
    assert coarse.channels == fine.channels == 3 and fine.shape == (1, 128, 128) and fine.dtype == np.uint8
    assert np.array_equal(fine.numpy(), coarse.numpy().repeat(4, 2).repeat(4, 3))


def frames(size=32, seed=0):
    """Return low, signal and cells of two frames in the form of batches."""
    fibres = FibreBundle(circular=False).fibres((size, size), seed)
    signal = torch.randn(2, 1, fibres.count, generator=torch.Generator().manual_seed(seed))
    cells = fibres.cells.expand(2, 1, size, size) / MOST_FIBRES
    return {"low": fibres.delaunay(signal), "signal": fibres.voronoi(signal), "cells": cells}


def test_an_untrained_network_leaves_the_frame_as_it_is():
    method = small(PCLECycleSR)
    low = frames()["low"]
    assert torch.equal(method.restore(low), low)


def test_black_around_the_frame_stays_black():
    method = small(PCLECycleSR).inference_mode()
    nn.init.ones_(method.generator.end.bias)
    black = method.task.codec.to[0]
    low = torch.zeros(1, 1, 16, 16)
    low[..., :4] = black
    found = method.restore(low)
    assert (found[..., :4] == torch.tensor(black)).all() and (found[..., 4:] == 1).all()
    values = np.zeros((1, 1, 16, 16), np.float32)
    values[..., 4:, 4:] = np.random.default_rng(0).uniform(50, 200, (12, 12))
    sharp = Model(method)(Image.from_array(values)).main.numpy()
    np.testing.assert_allclose(sharp, np.where(values > 0, values + 44, 0), atol=1e-3)


def test_the_vectors_of_an_image_that_the_fibres_saw_are_theirs():
    batch = frames()
    assert vector_distance(batch["signal"], batch["signal"], batch["cells"]).item() == 0
    moved = batch["signal"] + 0.25
    assert vector_distance(moved, batch["signal"], batch["cells"]).item() == pytest.approx(0.25, rel=1e-4)
    assert vector_distance(batch["low"], batch["signal"], batch["cells"]).item() > 0.1


def test_cells_that_a_patch_cuts_do_not_count():
    batch = frames()
    disturbed = batch["signal"].clone()
    disturbed[..., 0, :] = 9
    assert vector_distance(disturbed, batch["signal"], batch["cells"]).item() == 0
    outside = torch.full_like(batch["cells"], -1 / MOST_FIBRES)
    assert vector_distance(disturbed, batch["signal"], outside).item() == 0


def test_losses_of_the_fibres_are_weighed_as_told():
    batch, sharp = frames(), {"high": torch.randn(2, 1, 32, 32)}
    method = small(PCLECycleSR, adversarial_weight=1e-3, vector_weight=2.0, variation_weight=0.1)
    silent(method.discriminator)
    discriminator, generator = play(method, frames=batch, sharp=sharp)
    assert discriminator.total.item() == pytest.approx(2 * 0.6931, abs=1e-3)
    low = batch["low"].where(batch["low"] > method.task.codec.to[0], torch.tensor(method.task.codec.to[0]))
    steps = [low.diff(dim=axis).abs().mean() for axis in (2, 3)]
    want = {
        "adversarial": 0.6931e-3,
        "vectors": 2 * vector_distance(low, batch["signal"], batch["cells"]).item(),
        "variation": 0.1 * sum(steps).item(),
    }
    assert {name: term.item() for name, term in generator.losses.items()} == pytest.approx(want, rel=1e-3)
    squared = small(PCLECycleSR, game="least-squares")
    silent(squared.discriminator)
    assert play(squared, frames=batch, sharp=sharp)[0].total.item() == pytest.approx(0.5)


def test_the_discriminator_sees_both_through_one_field_of_view():
    method, seen = small(PCLECycleSR), []
    method.discriminator.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    batch = frames()
    black = method.task.codec.to[0]
    batch["low"][..., :10] = black
    play(method, frames=batch, sharp={"high": torch.randn(2, 1, 32, 32)})
    for images in seen:
        assert (images[..., :10] == torch.tensor(black)).all() and (images[..., 10:] != black).any()


def test_frames_and_good_images_are_drawn_apart_and_patches_mostly_inside():
    (stage,) = small(PCLECycleSR).stages()
    frames, sharp = stage.streams_in_order
    assert (frames.name, frames.roles) == ("frames", ("low", "signal", "cells"))
    assert (sharp.name, sharp.roles) == ("sharp", ("high",))
    assert frames.batch_size == sharp.batch_size and frames.patch == sharp.patch and frames.flips == sharp.flips
    cells = np.full((1, 1, 4, 4), -1.0)
    assert not frames.accepts({"cells": cells}) and sharp.accepts is None
    cells[..., :2] = 3
    assert frames.accepts({"cells": cells})
    assert [player.name for player in stage.players] == ["discriminator", "generator"]
