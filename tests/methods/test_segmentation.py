"""Segmentation systems: dependences of their loss terms, and published numbers."""

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from small import count, round_of
from torch import nn

from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.game import Progress
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.inference.apply import Applier, Output
from ganatomy.losses.segmentation import dice_loss
from ganatomy.methods.segmentation.segan import SegAN, brats_learning_rate, brats_temperature, isic_learning_rate
from ganatomy.nets.segan import BratsCritic, gumbel_softmax, masked_images
from ganatomy.phantoms import make
from ganatomy.training.run import TrainConfig, train

TINY = {"width": 4, "critic_width": 3, "patch": 32, "batch_size": 2}


def segan(preset="small", **values):
    torch.manual_seed(0)
    return SegAN(SegAN.Config.preset(preset, **{**TINY, **values}))


def batch_of(method, size=(32, 40), seed=1):
    """Return images with a border of background 0, and nested regions."""
    draw = torch.Generator().manual_seed(seed)
    task, shape = method.task, (3, 1, *size)
    body = torch.zeros(shape)
    body[..., 4:-3, 5:-6] = 1
    batch = {name: torch.rand(shape, generator=draw) * body for name in task.inputs}
    count = len(task.target.names)
    inside = [torch.zeros(3, *size) for _ in range(count)]
    for place, region in enumerate(inside):
        region[:, 8 + 2 * place : 24 - 2 * place, 10 + place : 26 - 3 * place] = 1
    batch[task.labels] = torch.stack(inside, 1) * body
    return batch


def test_augmentation_of_training_patches_is_an_option_of_every_system():
    assert not segan().stages()[0].stream.augmentation.moves
    augmentation = {"rotation": (15, 0, 0), "elastic": 2.0, "gamma": 1.3}
    stream = segan(augmentation=augmentation).stages()[0].stream
    assert stream.augmentation.moves and stream.augmentation.varies
    assert stream.roles == ("flair", "t1", "t1c", "t2", "tumour")


@pytest.mark.parametrize(
    ("preset", "values", "segmentors", "critics"),
    [
        ("paper", {}, [4_307_136] * 3, [659_200] * 3),
        ("paper", {"variant": "S3-1C"}, [4_308_288], [659_200 + 6 * 1024]),
        ("paper", {"variant": "S3-3C"}, [4_308_288], [659_200] * 3),
        ("paper", {"inputs": ("flair", "t1", "t1c", "t2"), "regions": {"lesion": (1,)}}, [4_308_160], [660_224]),
        ("isic", {}, [156_235_264], [9_393_088]),
        ("brats", {}, [170_129_216], [16_871_680]),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(preset, values, segmentors, critics):
    with torch.device("meta"):
        method = SegAN(SegAN.Config.preset(preset, **values))
    assert [count(one) for one in method.segmentors] == segmentors
    assert [count(one) for one in method.critics] == critics


def test_presets_carry_the_numbers_of_paper_and_releases():
    paper, isic, brats = (SegAN.Config.preset(name) for name in ("paper", "isic", "brats"))
    assert (paper.batch_size, paper.patch, paper.size, paper.learning_rate) == (64, 160, (180, 180), 2e-5)
    assert (paper.optimiser, paper.scale_mode, paper.dice_weight, paper.clip) == ("rmsprop", "per_stage_mean", 0, 0.05)
    assert (isic.batch_size, isic.patch, isic.learning_rate, isic.dice_weight) == (36, 128, 2e-4, 1)
    assert (brats.batch_size, brats.patch, brats.inputs) == (15, 192, ("t1c", "t1", "flair", "t2"))
    assert brats.class_weights == (1, 3, 1, 2, 1.5) and brats.regions["enhancing"] == (4,)
    (stage,) = SegAN(SegAN.Config.preset("small")).stages()
    rmsprop = SegAN(SegAN.Config.preset(**TINY)).stages()[0].players[0].optimizer([nn.Parameter(torch.ones(1))])
    assert rmsprop.defaults["alpha"] == 0.99 and rmsprop.defaults["lr"] == 2e-5
    adam = stage.players[1].optimizer([nn.Parameter(torch.ones(1))])
    assert [player.name for player in stage.players] == ["segmentor", "critic"] and adam.defaults["betas"] == (
        0.5,
        0.999,
    )
    assert stage.stream.roles == ("flair", "t1", "t1c", "t2", "tumour")


@pytest.mark.parametrize("variant", ["S1-1C", "S3-1C", "S3-3C"])
def test_the_critic_ascends_what_the_segmentor_descends(variant):
    method = segan(variant=variant)
    batch = batch_of(method)
    image, truth = method.image(batch), method.truth(batch)
    want = method.distance(image, method.logits(image).sigmoid(), truth).item()
    critic, segmentor = round_of(method, batch)
    assert (critic.player, list(critic.losses)) == ("critic", ["multi_scale"])
    assert (segmentor.player, list(segmentor.losses)) == ("segmentor", ["multi_scale"])
    assert critic.total.item() == pytest.approx(-want, rel=1e-5) and want > 0
    reached = torch.autograd.grad(critic.total, list(method.segmentors.parameters()), allow_unused=True)
    assert all(slope is None for slope in reached), "the segmentor's maps are detached for the critic"


def test_the_distance_is_that_of_the_feature_maps_of_masked_images_and_of_the_images():
    method = segan(variant="S3-1C")
    batch = batch_of(method)
    image, truth = method.image(batch), method.truth(batch)
    maps = torch.rand(truth.shape, generator=torch.Generator().manual_seed(4))
    (critic,) = method.critics
    stages = zip(critic(masked_images(image, maps)), critic(masked_images(image, truth)), strict=True)
    means = [(a - b).abs().mean() for a, b in stages]
    assert len(means) == 4
    torch.testing.assert_close(method.distance(image, maps, truth), torch.stack(means).mean())
    assert method.distance(image, truth, truth) == 0


def test_regions_have_critics_of_their_own_whose_distances_are_summed_or_averaged():
    method, shared = segan(variant="S1-1C"), segan(variant="S3-3C")
    shared.critics.load_state_dict(method.critics.state_dict())
    batch = batch_of(method)
    image, truth = method.image(batch), method.truth(batch)
    maps = torch.rand(truth.shape, generator=torch.Generator().manual_seed(4))
    alone = []
    for place in range(3):
        others = truth.clone()
        others[:, place] = maps[:, place]
        alone.append(method.distance(image, others, truth))
    torch.testing.assert_close(method.distance(image, maps, truth), torch.stack(alone).sum())
    torch.testing.assert_close(shared.distance(image, maps, truth), torch.stack(alone).mean())
    part = method.distance(image, torch.cat([method.logits(image)[:, :1].sigmoid(), truth[:, 1:]], 1), truth)
    reached = [
        torch.autograd.grad(part, list(one.parameters()), allow_unused=True, retain_graph=True)[0]
        for one in method.segmentors
    ]
    assert (
        reached[0] is not None
        and reached[0].any()
        and not any(slope is not None and slope.any() for slope in reached[1:])
    )


def test_what_nobody_knows_and_where_the_image_is_empty_makes_no_difference():
    method = segan(variant="S3-3C")
    batch = batch_of(method)
    image, truth = method.image(batch), method.truth(batch)
    maps = torch.rand(truth.shape, generator=torch.Generator().manual_seed(4))
    empty = (image == 0).all(1, keepdim=True).expand_as(maps)
    assert empty.any()
    torch.testing.assert_close(
        method.distance(image, maps.masked_fill(empty, 0.9), truth), method.distance(image, maps, truth)
    )
    unknown = truth.clone()
    unknown[:, :, 10:14] = -1
    changed = maps.clone()
    changed[:, :, 10:14] = 0.5
    torch.testing.assert_close(method.distance(image, maps, unknown), method.distance(image, changed, unknown))
    assert method.distance(image, maps, unknown) != method.distance(image, maps, truth)


def test_every_parameter_of_the_critics_is_clipped_after_their_turn_batch_norm_too():
    method = segan()
    assert max(parameter.abs().max() for parameter in method.critics.parameters()) > 0.5
    turns = round_of(method, batch_of(method))
    next(turns)
    next(turns)
    limits = [parameter.abs().max().item() for parameter in method.critics.parameters()]
    assert max(limits) == pytest.approx(0.05)
    gains = [layer.weight for layer in method.critics.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert gains and all(torch.equal(gain, torch.full_like(gain, 0.05)) for gain in gains)
    assert max(parameter.abs().max() for parameter in method.segmentors.parameters()) > 0.5


def test_the_baseline_is_the_same_segmentor_with_soft_dice():
    method, base = segan(), segan(**SegAN.Config.baseline)
    assert base.critics is None and not base.adversarial and method.adversarial
    assert count(base.segmentors) == count(method.segmentors)
    batch = batch_of(base)
    maps = base.logits(base.image(batch)).sigmoid()
    (turn,) = round_of(base, batch)
    assert list(turn.losses) == ["dice"]
    torch.testing.assert_close(turn.total, dice_loss(maps, base.truth(batch)))


def test_weights_multiply_their_terms_and_zero_leaves_them_out():
    batch = batch_of(segan())
    turns = [
        list(round_of(segan(dice_weight=weight, pixel_weight=2 * weight), batch))[-1].losses
        for weight in (0.0, 1.0, 3.0)
    ]
    assert [list(terms) for terms in turns] == [["multi_scale"], *[["multi_scale", "dice", "pixel"]] * 2]
    for name in ("dice", "pixel"):
        torch.testing.assert_close(turns[2][name], 3 * turns[1][name])
    torch.testing.assert_close(turns[2]["multi_scale"], turns[0]["multi_scale"])


def test_a_game_without_any_loss_and_separate_classes_are_refused():
    with pytest.raises(UserError, match="--no-critics: no loss has a weight; add --dice-weight or --pixel-weight"):
        segan(critics=False)
    with pytest.raises(UserError, match="--variant S1-1C: classes that exclude each other share a segmentor"):
        segan("brats", variant="S1-1C")


def test_the_released_loss_for_brats_sees_classes_through_gumbel_noise():
    method = segan("brats", architecture="brats", patch=64, epoch_rounds=5)
    assert method.task.exclusive and isinstance(method.critics[0], BratsCritic)
    batch = batch_of(method, (64, 72))
    logits = method.logits(method.image(batch))
    method.progress = Progress(stage_round=5 * 31)
    noise = method.noise.generator.get_state()
    maps = method.maps(logits)
    method.noise.generator.set_state(noise)
    uniform = method.noise.uniform(*logits.shape)
    torch.testing.assert_close(maps, gumbel_softmax(logits, uniform, brats_temperature(31)))
    assert brats_temperature(31) == pytest.approx(0.729)
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))
    assert not torch.equal(maps, method.maps(logits)), "fresh noise every time"


def test_the_output_is_background_where_all_images_are_empty():
    for preset, values in (("small", {}), ("brats", {"patch": 64})):
        method = segan(preset, **values).inference_mode()
        image = method.image(batch_of(method, (64, 80)))
        with torch.no_grad():
            found = method.segment(image)
            logits = method.logits(image)
        empty = (image == 0).all(1)
        want = logits.softmax(1) if method.exclusive else logits.sigmoid()
        torch.testing.assert_close(found.movedim(1, -1)[~empty], want.movedim(1, -1)[~empty])
        nothing = torch.tensor([float(method.exclusive), *[0.0] * (found.shape[1] - 1)])
        assert (found.movedim(1, -1)[empty] == nothing).all()


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 2e-4), (1, 1e-4), (25, 1e-4), (26, 5e-5), (100, 1.25e-5), (2000, 1e-8)]
)
def test_isic_learning_rate(epoch, rate):
    assert isic_learning_rate(epoch) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("epoch", "rate", "temperature"),
    [(0, 2e-5, 1), (10, 2e-5, 1), (11, 1e-5, 0.9), (31, 2.5e-6, 0.729), (41, 1e-7, 0.6561), (91, 1e-7, 0.4)],
)
def test_brats_schedules(epoch, rate, temperature):
    assert brats_learning_rate(epoch) == pytest.approx(rate)
    assert brats_temperature(epoch) == pytest.approx(temperature)


def test_brats_schedules_follow_the_released_loop():
    rate, temperature = 2e-5, 1.0
    for epoch in range(500):
        assert brats_learning_rate(epoch) == pytest.approx(rate, rel=1e-12), epoch
        assert brats_temperature(epoch) == pytest.approx(temperature)
        if rate <= 2e-6:
            rate = max(2e-6 - epoch * 1e-7, 1e-7)
        if epoch % 10 == 0 and epoch > 0:
            rate, temperature = rate * 0.5, max(temperature * 0.9, 0.4)
            if rate <= 2e-6:
                rate = max(2e-6 - epoch * 1e-7, 1e-7)


@pytest.mark.parametrize(
    ("schedule", "factors", "fresh"),
    [
        ("constant", None, None),
        ("isic", {0: 1.0, 3: 1.0, 4: 0.5, 103: 0.5, 104: 0.25}, [4, 104]),
        ("brats", {0: 1.0, 43: 1.0, 44: 0.5, 84: 0.25}, [*range(4, 201, 4)]),
    ],
)
def test_rates_and_fresh_optimisers_follow_the_epochs_of_the_releases(schedule, factors, fresh):
    rate = {"isic": 2e-4, "brats": 2e-5}.get(schedule, 1e-3)
    method = segan(schedule=schedule, epoch_rounds=4, learning_rate=rate)
    for player in method.stages()[0].players:
        if factors is None:
            assert player.schedule is None and player.restart is None
            continue
        assert {at: player.schedule(Progress(stage_round=at)) for at in factors} == pytest.approx(factors)
        assert [at for at in range(201) if player.restart(Progress(stage_round=at))] == fresh


def test_a_linear_schedule_falls_in_the_second_half():
    player = segan(schedule="linear").stages()[0].players[0]
    factors = [player.schedule(Progress(stage_round=at, stage_rounds=8)) for at in (0, 4, 6, 8)]
    assert factors == [1, 1, 0.5, 0] and player.restart is None


def test_phantoms_play_the_roles_of_their_names_and_skin_those_of_pictures():
    task = segan().task
    assert task.phantom == "brain-tumour-mr" and task.phantom_parts(None) == {
        **{name: name for name in ("flair", "t1", "t1c", "t2")}, "tumour": "labels:tumour",
    }  # fmt: skip
    skin = segan("isic").task
    assert skin.phantom == "skin-lesion" and skin.phantom_parts(None) == {"image": "image", "lesion": "mask:lesion"}
    assert skin.roles["image"].channels == 3 and skin.preparation.size == (135, 180)


def test_an_image_with_a_skull_is_told():
    inputs = {
        name: make("brain-tumour-mr", 1, size=64, slices=3, skull=True, noise=0.05).images[name]
        for name in ("flair", "t1", "t1c", "t2")
    }
    noisy = {name: image.with_array(image.numpy() + 1) for name, image in inputs.items()}
    assert any("should be brain-extracted" in note for note in segan().task.frame(noisy).notes)


def trained(out, data, preset="small", **values):
    """Train a tiny SegAN for four rounds."""
    config = SegAN.Config.preset(preset, **{**TINY, **values})
    options = TrainConfig(rounds=4, device="cpu", threads=1, validate_every=4, validation_slices=2, diagnose=False)
    return train("segan", out, config, data, options)


@pytest.fixture(scope="module")
def run(cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("segan") / "run"
    trained(out, DataConfig(phantom_subjects=4, phantom_size=72, cache=cases))
    return out


def test_a_run_is_judged_beside_thresholds(run):
    found = evaluate(run)
    rows = {row.method: row.scores for row in found.scores.rows}
    assert set(rows) == {"threshold", "output"} and found.leading[0] == "dice"
    assert rows["threshold"]["dice enhancing"] > 0.2, "gadolinium is bright"
    assert {"hd95 core", "volume error whole", "true size whole"} <= set(rows["output"])
    page = (run / "evaluation" / "report.html").read_text()
    assert "the one with the most wrong voxels" in page and "Thresholds" in page


def files_of(folder, patient):
    for name in ("flair", "t1", "t1c", "t2"):
        write(folder / f"{name}.nii.gz", patient.images[name])
    return {name: find(folder / f"{name}.nii.gz")[0] for name in ("flair", "t1", "t1c", "t2")}


def test_four_files_become_a_label_map_on_their_grid(run, tmp_path):
    patient = make("brain-tumour-mr", 7, shape=(72, 60), slices=5, distance_mm=4.0)
    out = tmp_path / "tumour.nii.gz"
    Applier(run, options={"probabilities": True})(files_of(tmp_path, patient), Output(out, "nifti"))
    written, source = nibabel.load(out), nibabel.load(tmp_path / "t1.nii.gz")
    labels = np.asarray(written.dataobj)
    assert written.get_data_dtype() == np.uint8 and written.shape == source.shape == (60, 72, 5)
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert set(np.unique(labels)) <= {0, 1, 2, 4}
    core = nibabel.load(tmp_path / "tumour-probability_core.nii.gz").get_fdata()
    inside = np.isin(labels, (1, 4))
    assert (inside[core >= 0.5]).all() and core.min() >= 0 and core.max() <= 1


def test_a_picture_becomes_a_palette_picture_and_probabilities_beside_it(cases, tmp_path):
    data = DataConfig(phantom_subjects=4, phantom_size=48, cache=cases)
    trained(tmp_path / "run", data, "isic", architecture="paper")
    values = make("skin-lesion", 9, size=60).image.numpy()[..., :50]
    write(tmp_path / "skin.png", Image.from_array(np.rint(values).astype(np.uint8)))
    (source,), out = find(tmp_path / "skin.png"), tmp_path / "lesion.png"
    Applier(tmp_path / "run", options={"probabilities": True})({"image": source}, Output(out, "png"))
    picture = Pillow.open(out)
    assert picture.mode == "P" and picture.size == (50, 60) and set(np.unique(np.asarray(picture))) <= {0, 1}
    probability = Pillow.open(tmp_path / "lesion-probability_lesion.tif")
    inside = np.asarray(picture) == 1
    assert probability.mode == "F" and ((np.asarray(probability) >= 0.5) == inside).all()


def test_lesions_of_real_patients_are_learned_from_a_manifest_and_written(shared, cases, tmp_path):
    folder = shared / "translate-mr-openms"
    names = ("flair", "t1", "t1c", "t2", "lesions")
    lines = ["subject,split," + ",".join(names)]
    for patient, split in (("patient07", "train"), ("patient26", "test")):
        lines.append(
            ",".join([patient, split, *(str(folder / patient / f"{patient}_{name}.nii.gz") for name in names)])
        )
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    data = DataConfig(data=tmp_path / "manifest.csv", cache=cases)
    model = trained(tmp_path / "run", data, labels="lesions", regions={"lesion": (1,)}, centred=0.5)
    found = model(**{name: folder / "patient26" / f"patient26_{name}.nii.gz" for name in names[:4]})
    source = nibabel.load(folder / "patient26" / "patient26_t1.nii.gz")
    np.testing.assert_allclose(found["lesions"].affine[:, [2, 1, 0, 3]], source.affine, atol=1e-4)
    assert found["lesions"].shape == source.shape[::-1] and found.tables["volumes"][0]["region"] == "lesion"


@pytest.mark.parametrize(
    "values", [{"patch": 7}, {"batch_size": 1, "patch": 16}, {"architecture": "isic"}, {"critic_width": 2, "patch": 12}]
)
def test_patches_that_the_networks_cannot_take_are_refused(values):
    segan(patch=32).check_sizes()
    segan(architecture="isic", patch=64, critics=False, dice_weight=1.0).check_sizes()
    with pytest.raises(UserError, match=f"--patch {values.get('patch', 32)}: \\w+ takes no input"):
        segan(**values).check_sizes()


def test_there_is_a_weight_for_each_region():
    with pytest.raises(UserError, match="--class-weights: 2 numbers, but there are 3 regions"):
        segan(dice_weight=1.0, class_weights=(1.0, 2.0))
