"""The U-Net that is planned from the data: its plan, network, losses, and the runs that record the plan."""

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import DynUNet

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Geometry, Progress
from ganatomy.inference.runfile import read_run
from ganatomy.losses.segmentation import binary_cross_entropy, cross_entropy, dice_loss
from ganatomy.methods.segmentation.unet import SMALLEST, UNet, median_of, patch_of, spacing_of, strides_of
from ganatomy.nets.dynunet import DynamicUNet
from ganatomy.training.arms import values_beside
from ganatomy.training.run import TrainConfig, train

TINY = {"patch_shape": (1, 32, 48), "width": 4, "batch_size": 2}


def unet(**values):
    torch.manual_seed(0)
    return UNet(UNet.Config.preset("small", **{**TINY, **values}))


# Patches and spacings of plans that nnU-Net's paper publishes, with the numbers of halvings along each axis.
@pytest.mark.parametrize(
    ("patch", "spacing", "halvings"),
    [
        ((128, 128, 128), (1.0, 1.0, 1.0), (5, 5, 5)),
        ((20, 320, 256), (3.6, 0.62, 0.62), (2, 6, 6)),
        ((40, 56, 40), (1.0, 1.0, 1.0), (3, 3, 3)),
        ((512, 512), (0.7, 0.7), (7, 7)),
    ],
)
def test_axes_are_halved_until_four_voxels_remain_and_spacings_are_alike(patch, spacing, halvings):
    strides, kernels = strides_of(patch, spacing)
    assert len(strides) == len(kernels) == max(halvings) + 1 and set(strides[0]) == {1}
    assert tuple(np.log2(np.prod(strides, axis=0)).astype(int)) == halvings


def test_kernels_are_flat_until_thick_slices_are_as_far_apart_as_pixels():
    _, kernels = strides_of((20, 320, 256), (3.6, 0.62, 0.62))
    assert kernels[:3] == [(1, 3, 3), (1, 3, 3), (3, 3, 3)] and set(kernels[3:]) == {(3, 3, 3)}


def test_the_spacing_is_the_median_but_finer_where_slices_are_thick():
    thin = [Geometry((60, 80, 70), (1.0 + place / 10, 1.0, 0.8)) for place in range(5)]
    assert spacing_of(thin) == (1.2, 1.0, 0.8)
    thick = [Geometry((16, 200, 180), (step, 0.5, 0.6)) for step in (3.0, 4.0, 5.0, 5.0, 6.0)]
    assert spacing_of(thick) == (pytest.approx(np.percentile([3, 4, 5, 5, 6], 10)), 0.5, 0.6)


def test_the_median_case_is_measured_after_resampling():
    cases = [Geometry((20, 100, 80), (2.0, 1.0, 1.0)), Geometry((30, 90, 60), (4.0, 1.0, 2.0))]
    assert median_of(cases[:1] * 2 + cases[1:], (1.0, 1.0, 1.0)) == Geometry((40, 100, 80), (1.0, 1.0, 1.0))
    assert median_of(cases, None) == Geometry((25, 95, 70), (3.0, 1.0, 1.5))


extents, spacings = st.integers(1, 400), st.floats(0.2, 8.0)


@given(st.tuples(extents, extents, extents), st.tuples(spacings, spacings, spacings), st.sampled_from([4096, 40_000]))
def test_every_planned_patch_is_small_enough_and_divisible(shape, spacing, voxels):
    for deep in (True, False):
        patch = patch_of(Geometry(shape, spacing), voxels, deep)
        inner = patch if deep else patch[1:]
        assert deep or patch[0] == 1
        strides, _ = strides_of(inner, spacing[-len(inner) :])
        assert all(extent % divisor == 0 for extent, divisor in zip(inner, np.prod(strides, axis=0), strict=True))
        assert np.prod(patch) <= voxels and min(inner) >= 2 * SMALLEST and len(strides) >= 3


def test_a_case_that_fits_is_the_patch_itself_and_a_large_one_is_cut_where_it_is_longest():
    assert patch_of(Geometry((34, 50, 35), (1.0, 1.0, 1.0)), 128**3, deep=True) == (40, 56, 40)
    cut = patch_of(Geometry((60, 300, 200), (1.0, 1.0, 1.0)), 32**3, deep=True)
    assert 0.3 * 32**3 < np.prod(cut) <= 32**3 and cut[0] <= 60
    assert patch_of(Geometry((1, 584, 565), (1.0, 1.0, 1.0)), 128 * 128) == (1, 128, 128)


@pytest.mark.parametrize(
    ("strides", "kernels", "size"),
    [
        ([(1, 1), (2, 2), (2, 1)], [(3, 3)] * 3, (24, 20)),
        ([(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)], [(1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)], (8, 24, 16)),
    ],
)
def test_the_network_is_monais_for_the_same_weights(strides, kernels, size):
    torch.manual_seed(1)
    widths = [4, 6, 8, 10][: len(strides)]
    ours = DynamicUNet(2, 3, strides, kernels, widths)
    theirs = DynUNet(
        len(size), 2, 3, kernels, strides, strides[1:], widths, deep_supervision=True, deep_supr_num=len(strides) - 2
    )
    found = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not found.unexpected_keys and all(name.startswith("skip_layers") for name in found.missing_keys)
    image = torch.randn(2, 2, *size)
    expected = theirs.train()(image).unbind(1)
    levels = ours.levels(image)
    assert len(levels) == len(expected) == len(strides) - 1 and levels[1].shape[2:] != levels[0].shape[2:]
    for level, logits in zip(levels, expected, strict=True):
        resized = torch.nn.functional.interpolate(level, logits.shape[2:])
        torch.testing.assert_close(resized, logits)
    torch.testing.assert_close(ours.eval()(image), theirs.eval()(image))


def batch_of(method, seed=3):
    draw = torch.Generator().manual_seed(seed)
    count, size = method.batch_size, method.patch[3 - method.dims :]
    names = method.task.inputs
    truth = (torch.rand(count, len(method.config.regions), *size, generator=draw) > 0.7).float()
    truth[:, :, 0] = -1
    return {**{name: torch.rand(count, 1, *size, generator=draw) for name in names}, method.config.labels: truth}


def test_losses_of_coarser_outputs_count_half_as_much_each_and_weights_add_up_to_one():
    method = unet()
    batch = batch_of(method)
    (turn,) = method.stages()[0].turns(iter([batch]))
    truth, levels = batch["tumour"], method.network.levels(method.image(batch))
    shares = np.array([0.5**level for level in range(len(levels))])
    shares /= shares.sum()
    resized = [torch.nn.functional.interpolate(level, truth.shape[2:]) for level in levels]
    entropy = sum(share * binary_cross_entropy(one, truth) for share, one in zip(shares, resized, strict=True))
    dice = sum(
        share * dice_loss(one.sigmoid(), truth, squared=False) for share, one in zip(shares, resized, strict=True)
    )
    torch.testing.assert_close(turn.losses["entropy"], entropy)
    torch.testing.assert_close(turn.losses["dice"], dice)


def test_exclusive_classes_share_a_softmax_and_their_background_has_no_dice_loss():
    method = unet(regions={"background": (0,), "core": (1,), "rest": (2, 4)})
    assert method.exclusive and method.task.exclusive
    logits = torch.randn(2, 3, 8, 12, requires_grad=True)
    classes = torch.randint(0, 3, (2, 8, 12))
    truth = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    losses = method.losses(logits, truth)
    torch.testing.assert_close(losses["entropy"], cross_entropy(logits, truth))
    torch.testing.assert_close(losses["dice"], dice_loss(logits.softmax(1)[:, 1:], truth[:, 1:], squared=False))
    maps = method.inference_mode().segment(torch.rand(1, 4, 32, 48))
    torch.testing.assert_close(maps.sum(1), torch.ones(1, 32, 48))


def test_the_learning_rate_falls_as_a_power_and_the_momentum_is_nesterovs():
    player = unet().stages()[0].players[0]
    rates = [player.schedule(Progress(stage_round=done, stage_rounds=1000)) for done in (0, 500, 999)]
    assert rates == [1.0, pytest.approx(0.5**0.9), pytest.approx(0.001**0.9)]
    settings = player.optimizer(player.parameters()).defaults
    assert (settings["lr"], settings["momentum"], settings["nesterov"]) == (0.01, 0.99, True)
    assert settings["weight_decay"] == 3e-5


def test_the_paper_network_has_the_widths_of_nnunet():
    method = UNet(UNet.Config.preset("paper", patch_shape=(128, 128, 128), network_spacing=(1.0, 1.0, 1.0)))
    assert method.dims == 3 and method.batch_size == 2 and method.network.filters == [32, 64, 128, 256, 320, 320]
    flat = UNet(UNet.Config.preset("paper"))
    assert flat.dims == 2 and flat.batch_size == 12 and max(flat.network.filters) == 512
    assert flat.patch == (1, 512, 512) and flat.stages()[0].stream.flips == (1, 2)


@pytest.mark.parametrize("patch", [(1, 32, 48), (8, 16, 32)])
def test_images_of_any_size_are_segmented(patch):
    method = unet(patch_shape=patch).inference_mode()
    image = torch.rand(2, 4, *(5, 19, 27)[3 - method.dims :])
    maps = method.segment(image)
    assert maps.shape == (2, 3, *image.shape[2:]) and 0 < maps.min() < maps.max() < 1
    fitting = torch.rand(2, 4, *patch[3 - method.dims :])
    torch.testing.assert_close(method.segment(fitting), method.network(fitting).sigmoid())


def test_the_command_takes_its_options_and_refuses_others(capsys, tmp_path):
    assert main(["train", "unet", "--plan", "some", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "--plan" in told and "network" in told and "Traceback" not in told
    assert main(["train", "unet", "--patch-shape", "1", "8", "8", "--out", str(tmp_path / "run")]) == 2
    assert "--patch-shape: no side has 16 voxels" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(UserError, match="--patch-shape: no side has 16 voxels"):
        unet(patch_shape=(1, 8, 12))
    with pytest.raises(UserError, match="--patch-shape"):
        unet(patch_shape=(1, 34, 50)).check_sizes()


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Volumes of several spacings with a bright ball, whose label map names its halves."""
    folder, rng = tmp_path_factory.mktemp("volumes"), np.random.default_rng(5)
    steps = [(1.0, 1.0, 2.0), (1.0, 1.2, 2.0), (0.9, 1.0, 2.4), (1.0, 1.0, 2.0)]
    rows = ["subject,image,mask,split"]
    for place, step in enumerate(steps):
        shape = (26, 30, 18)
        ball = (
            np.sqrt(sum((axis - centre) ** 2 for axis, centre in zip(np.indices(shape), (13, 15, 9), strict=True))) < 6
        )
        image = 100 * ball + rng.normal(20, 5, shape)
        for name, array in (("image", image.astype(np.float32)), ("mask", ball.astype(np.uint8))):
            file = nibabel.Nifti1Image(array, np.diag([*step, 1.0]))
            nibabel.save(file, folder / f"{name}{place}.nii.gz")
        rows.append(f"s{place},image{place}.nii.gz,mask{place}.nii.gz,{('train', 'train', 'val', 'test')[place]}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_run_plans_from_its_training_cases_and_records_the_plan(volumes, tmp_path, caplog):
    values = {"inputs": ("image",), "labels": "mask", "regions": {"inside": (1,)}, "width": 4, "patch_voxels": 16**3}
    config = UNet.Config.preset("small", **values, batch_size=2)
    caplog.set_level("INFO")
    data = DataConfig(data=volumes, cache=tmp_path / "cache")
    model = train("unet", tmp_path / "run", config, data, TrainConfig(rounds=2, validate_every=2))
    # Only the two training subjects count: spacings (2, 1, 1) and (2, 1.2, 1), in the order of slices, rows, columns.
    planned = read_run(tmp_path / "run").config
    assert tuple(planned["spacing"]) == (2.0, 1.1, 1.0) == tuple(planned["network_spacing"])
    assert planned["patch_shape"][0] > 1 and np.prod(planned["patch_shape"]) <= 16**3 and model.method.dims == 3
    assert "planned from the training cases: spacing (2.0, 1.1, 1.0)" in caplog.text
    resumed = train("unet", tmp_path / "run", data=data, options=TrainConfig(rounds=3), resume=True)
    assert resumed.method.config.patch_shape == tuple(planned["patch_shape"])


def test_what_the_user_states_is_not_planned(volumes, tmp_path):
    values = {"inputs": ("image",), "labels": "mask", "regions": {"inside": (1,)}, "width": 4, "batch_size": 2}
    data = DataConfig(data=volumes, cache=tmp_path / "cache")
    config = UNet.Config.preset("small", **values, spacing=(2.0, 2.0, 2.0), patch_shape=(1, 16, 24))
    model = train("unet", tmp_path / "a", config, data, TrainConfig(rounds=1))
    assert model.method.config.spacing == (2.0, 2.0, 2.0) and model.method.config.patch_shape == (1, 16, 24)
    config = UNet.Config.preset("small", **values, plan="network", patch_voxels=16**3)
    model = train("unet", tmp_path / "b", config, data, TrainConfig(rounds=1))
    assert model.method.config.spacing is None and model.method.config.network_spacing == (2.0, 1.1, 1.0)


def test_it_learns_from_maps_of_instances_without_centring_on_labels():
    regions = {"background": (0,), "inside": (1,), "edge": (2,)}
    judged = {"cells": (1, 2)}
    method = unet(instances=True, regions=regions, judged=judged, labels="cells", inputs=("image",))
    assert method.stages()[0].streams_in_order[0].place is None
    assert unet().stages()[0].streams_in_order[0].place is not None


def test_it_is_compared_on_the_phantom_and_with_the_images_of_the_system_under_study():
    first = catalogue.load("di2in-an").of(catalogue.load("di2in-an").Config.preset("small"))
    beside = UNet(UNet.Config.preset("small", **values_beside(first, UNet.Config)))
    assert beside.task.phantom == first.task.phantom and beside.task.preparation == first.task.preparation
    assert beside.task.phantom_parts(None) == first.task.phantom_parts(None)
    assert beside.task.phantom_grid(None) == first.task.phantom_grid(None)
    assert beside.config.plan == "network" and list(beside.task.roles) == list(first.task.roles)
