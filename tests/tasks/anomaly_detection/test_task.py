from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_detector import Template

from ganatomy import phantoms
from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.images.codecs import PercentileWindow, Window, ZScore
from ganatomy.images.image import Image, axial_affine
from ganatomy.tasks.anomaly_detection.task import AnomalyDetection, FeatureAttribution

PARTS = {"image": "t2", "mask": "mask:lesion", "healthy": "healthy:t2"}
SPACING = (3.0, 2.0, 2.0)
WINDOW = Window(low=0.0, high=1000.0, unit="a.u.")


def task(scale=WINDOW, kind=AnomalyDetection, size=(16, 16), fit="contain", **values):
    return kind(scale, size, fit, ("healthy",), False, "brain-mr", PARTS, **values)


def standardised(above=0.0, **values):
    return task(ZScore(unit="a.u.", over="body", above=above, background=-3.5), **values)


def brain(seed=0, slices=3, columns=16):
    values = np.random.default_rng(seed).uniform(400, 800, (slices, 16, columns)).astype(np.float32)
    values[:, :4] = 0
    return Image.from_array(values, SPACING, "a.u.")


def framed(one, label=None, **values):
    """Make the sample of a case with a class label."""
    return one.frame(values, Case("case", "subject", "train", {}, label))


def scaled(one, sample):
    return one.scaled(sample, 0, sample.shape[0])


def found(map, image):
    return {"map": map, "score": np.ones((len(map), 1, 1), np.float32), "healthy": image}


def test_prepared_values_are_physical_whatever_the_scale():
    image = brain()
    percentiles = PercentileWindow(p_low=0, p_high=50, clip=True, unit="a.u.")
    for one in (task(), standardised(), task(percentiles)):
        sample = framed(one, image=image)
        assert np.array_equal(np.asarray(sample.arrays["image"]), image.numpy())
        assert sample.image("image").unit == "a.u."


def test_a_window_leaves_values_as_they_are():
    one, image = task(), brain()
    sample = framed(one, image=image)
    scale = one.scale_of(sample)
    assert np.array_equal(scaled(one, sample)["image"], image.numpy()[0])
    assert not scale.own and scale.step == 500 and one.shown == (0, 1000)
    assert np.array_equal(scale.of_output(image.numpy()), image.numpy())


def test_z_scores_are_those_of_the_tissue_of_the_whole_case():
    one, image = standardised(), brain()
    sample = framed(one, image=image)
    values, tissue = scaled(one, sample)["image"], image.numpy()[0] > 0
    assert abs(values[tissue].mean()) < 1e-4 and abs(values[tissue].std() - 1) < 1e-4
    assert (values[~tissue] == -3.5).all()
    assert np.array_equal(one.tissue_in(sample, 0, 3), tissue)
    assert np.array_equal(sample.role("image").encoded(image.numpy())[0], values), "networks see the scale itself"
    brighter = framed(one, image=image.with_array(3 * image.numpy()))
    assert np.allclose(scaled(one, brighter)["image"], values, atol=1e-4)


def test_tissue_lies_above_a_stated_value():
    one, image = standardised(above=600.0), brain()
    sample = framed(one, image=image)
    assert np.array_equal(scaled(one, sample)["tissue"], image.numpy()[0] > 600)
    assert sample.role("image").codec.mean == pytest.approx(image.numpy()[image.numpy() > 600].mean(), rel=1e-5)


def test_the_healthy_image_is_on_the_scale_of_the_one_that_was_seen():
    image, shifted = brain(), brain().with_array(np.where(brain().numpy() > 0, brain().numpy() + 100, 0))
    one = standardised()
    sample = framed(one, image=image, healthy=shifted)
    scale, roles = one.scale_of(sample), scaled(one, sample)
    tissue = image.numpy()[0] > 0
    assert np.allclose((roles["healthy"] - roles["image"])[tissue], 100 / scale.codec.std, atol=1e-4)
    assert np.allclose(scale.of_output(image.numpy())[0][tissue], roles["image"][tissue], atol=1e-4)
    assert np.allclose(scale.codec.decode(roles["image"])[tissue], image.numpy()[0][tissue], atol=1e-2)
    assert scale.own and scale.step == 1


def test_percentiles_of_the_case_become_zero_and_one():
    one = task(PercentileWindow(p_low=0, p_high=50, to=(-1.0, 1.0), clip=True, unit="a.u."))
    sample = framed(one, image=brain())
    values, scale = scaled(one, sample)["image"], one.scale_of(sample)
    assert values.min() == 0 and values.max() == pytest.approx(1)
    assert (values > 0.9999).mean() == pytest.approx(0.5, abs=0.01)
    assert scale.step == 0.5 and one.shown == (0, 1), "the networks' range is twice as wide"
    encoded = sample.role("image").encoded(np.asarray(sample.arrays["image"]))
    assert encoded.min() == -1 and np.allclose(encoded[0], 2 * values - 1, atol=1e-6)
    assert np.allclose(scale.of_output(scale.codec.decode(encoded))[0], values, atol=1e-5)


def test_a_case_without_tissue_is_refused():
    black = brain().with_array(np.where(brain().numpy() > 700, -1.0, -2.0).astype(np.float32))
    one = standardised()
    with pytest.raises(UserError, match=r"nothing above 0|same value"):
        one.scale_of(framed(one, image=black))


@pytest.mark.parametrize(
    ("one", "air"),
    [
        (task(WINDOW.model_copy(update={"low": -40.0}), size=(16, 24)), -40.0),
        (standardised(above=5.0, size=(16, 24)), 5.0),
        (task(PercentileWindow(p_low=10, p_high=90), size=(16, 24)), -7.0),
    ],
)
def test_what_is_padded_is_no_tissue(one, air):
    image = brain(columns=16)
    image.numpy()[:, 0] = -7
    sample = framed(one, image=image, healthy=image, mask=image.with_array((image.numpy() > 600).astype(np.uint8)))
    for role in ("image", "healthy"):
        array = np.asarray(sample.arrays[role])
        assert array.shape == (1, 3, 16, 24) and (array[..., :4] == air).all() and (array[..., 20:] == air).all()
    assert not np.asarray(sample.arrays["mask"])[..., :4].any()
    tissue = scaled(one, sample)["tissue"]
    assert not tissue[..., :4].any() and not tissue[..., 20:].any() and tissue.any()


SCALES = (
    Window(low=-1000, high=400, unit="HU"),
    PercentileWindow(p_low=0, p_high=99),
    ZScore(over="body", above=-1000.0, background=-3.5),
)


def head(dust=0.0):
    """Make slices of tissue in air of -1000, the first of which is air alone; dust is what interpolation leaves."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-100, 100, (3, 90, 74)).astype(np.float32)
    values[0], values[:, :, :38] = -1000, -1000
    ripple = dust * np.sin(np.arange(74)) * np.cos(np.arange(90))[:, None]
    return Image.from_array((values + ripple).astype(np.float32), (3.0, 1.1, 1.0), "HU")


@pytest.mark.parametrize("dust", [0.0, 0.01])
@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.kind)
@pytest.mark.parametrize("size", [(64, 64), (32, 24), (128, 100)])
def test_interpolation_makes_no_tissue_of_air(scale, size, dust):
    one = task(scale, size=size)
    sample = framed(one, image=head(dust))
    tissue = one.tissue_in(sample, 0, 3)
    assert not tissue[0].any() and one.tissue_shares(sample)[0] == 0
    ones = head().with_array((head().numpy() > -900).astype(np.float32))
    share = np.asarray(sample.frames["tissue"].into(ones).array)[0]
    sure = (share < 0.25) | (share > 0.75)
    assert np.array_equal(tissue[sure], share[sure] > 0.5) and sure.mean() > 0.95, "no more and no less than there is"
    outside = sample.role("image").encoded(np.asarray(sample.arrays["image"]))[0, 0]
    assert np.ptp(outside) < 1e-3 * np.ptp(sample.role("image").encoded(head().numpy())), "networks see even air"


def test_a_given_mask_is_the_tissue():
    brain_mask = np.zeros((3, 24, 16), np.uint8)
    brain_mask[1:, 4:20, 4:12] = 1
    image = Image.from_array(brain_mask * np.float32(500) + np.arange(24, dtype=np.float32)[:, None], SPACING, "a.u.")
    one = task(size=(24, 16))
    sample = framed(one, image=image, tissue=image.with_array(brain_mask[None], unit=None))
    assert np.array_equal(scaled(one, sample)["tissue"], brain_mask)
    assert np.array_equal(one.tissue_reader(sample)(1, 3), brain_mask[1:])


def test_scales_stay_out_of_the_preparation():
    percentiles = [task(PercentileWindow(p_low=low, p_high=99)) for low in (0, 5)]
    assert percentiles[0].preparation == percentiles[1].preparation
    highs = [task(WINDOW.model_copy(update={"high": high})) for high in (500.0, 1000.0)]
    assert highs[0].preparation.digest == highs[1].preparation.digest
    backgrounds = [task(ZScore(over="body", above=0.0, background=value)) for value in (-3.5, -2.0)]
    assert backgrounds[0].preparation == backgrounds[1].preparation
    others = (
        task(),
        percentiles[0],
        task(size=(24, 16)),
        task(fit="cover"),
        standardised(above=5.0),
        task(square=False),
    )
    assert len({one.preparation.digest for one in others}) == len(others)
    patches = [task(fit="patches", size=size).preparation for size in ((16, 16), (24, 16))]
    assert patches[0] == patches[1], "patches are cut from images of one preparation"


def test_images_keep_their_proportions_in_mm_or_in_pixels():
    values = np.random.default_rng(0).uniform(400, 800, (1, 2, 20, 10)).astype(np.float32)
    flat = Image(values, axial_affine((3.0, 0.5, 1.0)), "a.u.")
    pixels = np.asarray(framed(task(size=(20, 20), square=False), image=flat).arrays["image"])
    square = np.asarray(framed(task(size=(20, 20)), image=flat).arrays["image"])
    assert (pixels[0, 0] > 0).sum() == 20 * 10 and (square[0, 0] > 0).sum() == 20 * 20


def sample_of(one, label, **arrays):
    case = Case("case", "subject", "train", {}, label)
    return Sample(case, arrays, dict.fromkeys(arrays, axial_affine(SPACING)), one.roles)


def test_only_healthy_slices_are_learned_from():
    image = brain().numpy().copy()
    image[:, 2] = 0
    mask = np.zeros(image.shape, np.uint8)
    mask[:, 0, 8, 8] = 1
    one = task()

    def learned(label, **arrays):
        return one.trainable_slices(sample_of(one, label, **arrays)).tolist()

    assert learned("healthy", image=image) == [True, True, False]
    assert learned(None, image=image, mask=mask) == [False, True, False]
    assert one.only_tested("sick") and not any(learned("sick", image=image, mask=mask))
    one.lesion_free = True
    assert not one.only_tested("sick")
    assert learned("sick", image=image, mask=mask) == [False, True, False]
    assert not any(learned("sick", image=image))


def test_slices_without_tissue_are_told_by_the_scale_of_the_case():
    image = np.full((1, 3, 16, 16), 40, np.float32)
    image[:, 1, 4:12, 4:12] = np.random.default_rng(0).uniform(50, 60, (8, 8))
    for scale in (PercentileWindow(p_low=0, p_high=99), PercentileWindow(p_low=50, p_high=99)):
        one = task(scale)
        assert one.trainable_slices(sample_of(one, "healthy", image=image)).tolist() == [False, True, False]
        np.testing.assert_allclose(one.tissue_shares(sample_of(one, "healthy", image=image)), [0, 0.25, 0])


def test_slices_are_abnormal_by_mask_or_by_label():
    one, image = task(), brain().numpy()
    mask = np.zeros(image.shape, np.uint8)
    mask[:, 1, 8, 8] = 1
    assert one.abnormal_slices(sample_of(one, "sick", image=image, mask=mask)).tolist() == [False, True, False]
    assert one.abnormal_slices(sample_of(one, "sick", image=image)).all()
    assert not one.abnormal_slices(sample_of(one, "healthy", image=image)).any()
    assert not one.abnormal_slices(sample_of(one, None, image=image)).any()


def test_scores_of_perfect_and_of_inverted_maps():
    image = brain().numpy()[0]
    mask = np.zeros(image.shape, np.uint8)
    mask[1, 8:12, 8:12] = 1
    truth = mask.astype(np.float32)
    one = task()
    perfect = one.scores(found(truth, image), {"image": image, "tissue": image > 0, "mask": mask}, SPACING)
    assert perfect == {"residual": 0.0, "score": 1.0, "pixel auc": 1.0, "ncc": pytest.approx(1.0)}
    inverted = one.scores(found(1 - truth, image - 50), {"image": image, "tissue": image > 0, "mask": mask}, SPACING)
    assert inverted["pixel auc"] == 0.0 and inverted["ncc"] == pytest.approx(-1.0)
    assert inverted["residual"] == pytest.approx(50, rel=1e-4)
    assert set(one.scores(found(truth, image), {"image": image, "tissue": image > 0}, SPACING)) == {"residual", "score"}
    assert set(perfect) <= set(one.directions)


def test_the_background_does_not_make_a_map_better():
    image = brain().numpy()[0]
    mask = np.zeros(image.shape, np.uint8)
    mask[:, 8:12, 8:12] = 1
    inside = (image > 0).astype(np.float32)
    assert (
        task().scores(found(inside, image), {"image": image, "tissue": image > 0, "mask": mask}, SPACING)["pixel auc"]
        == 0.5
    )


def test_a_mask_may_hold_any_two_values():
    values = np.where(brain(2).numpy() > 600, 255, 0).astype(np.uint8)
    sample = framed(task(), image=brain(), mask=brain().with_array(values, unit=None))
    assert np.array_equal(np.asarray(sample.arrays["mask"]), values // 255)
    with pytest.raises(UserError, match="a mask holds two values"):
        np.asarray(framed(task(), image=brain(), mask=brain(2)).arrays["mask"])


def test_whichever_group_a_case_is_of_it_is_looked_at():
    one = task(kind=FeatureAttribution)
    mask = brain().with_array((brain().numpy() > 600).astype(np.uint8), unit=None)
    baseline, effect = framed(one, baseline=brain()), framed(one, effect=brain(1), mask=mask)
    assert set(baseline.arrays) == {"baseline", "tissue"} and set(effect.arrays) == {"effect", "mask", "tissue"}
    assert np.array_equal(scaled(one, baseline)["image"], brain().numpy()[0])
    assert np.array_equal(scaled(one, effect)["image"], brain(1).numpy()[0])
    unknown = framed(one, image=brain(2))
    assert np.array_equal(scaled(one, unknown)["image"], brain(2).numpy()[0])
    assert one.usable(["baseline"]) and one.usable(["effect", "mask"]) and not one.usable(["image"])
    assert one.phantom_parts("healthy") == {"baseline": "t2"}
    assert one.phantom_parts("sick") == {"effect": "t2", "mask": "mask:lesion"}
    assert not one.only_tested("sick")
    assert one.trainable_slices(replace(effect, case=Case("c", "s", "train", {}, "sick"))).all(), "effects are learned"
    assert not one.abnormal_slices(baseline).any()
    assert one.abnormal_slices(framed(one, effect=brain(1))).all(), "without label the role says it"


def test_images_of_both_groups_have_scales_of_their_own():
    one = task(PercentileWindow(p_low=0, p_high=50, to=(-1.0, 1.0), clip=True), FeatureAttribution)
    image = brain()
    for role in ("baseline", "effect", "image"):
        sample = framed(one, **{role: image})
        assert sample.role(role).codec.high == pytest.approx(np.percentile(image.numpy(), 50))
        assert one.scale_of(sample).codec == sample.role(role).codec


@pytest.mark.parametrize("label", ["healthy", "sick"])
def test_the_phantom_has_every_part(label):
    patient = phantoms.make("brain-mr", 1, size=16, slices=2, label=label)
    parts = {role: phantoms.part(patient, name) for role, name in task().phantom_parts(label).items()}
    assert parts["image"] is patient.images["t2"] and parts["healthy"] is patient.healthy["t2"]
    assert np.array_equal(parts["mask"].numpy()[0] > 0.5, patient.masks["lesion"])
    assert phantoms.part(patient, "image") is patient.image
    assert [phantoms.label("brain-mr", seed) for seed in (0, 1)] == ["healthy", "sick"]
    sample = framed(task(), label, **parts)
    assert np.array_equal(np.asarray(sample.arrays["mask"])[0] > 0, patient.masks["lesion"])


def test_which_differences_count():
    image, healthy = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    methods = {sign: Template(Template.Config(residual=sign)) for sign in ("absolute", "bright", "dark")}
    got = {sign: method.residual(image, healthy).tolist() for sign, method in methods.items()}
    assert got == {"absolute": [[0.5, 0.5]], "bright": [[0.0, 0.5]], "dark": [[0.5, 0.0]]}
