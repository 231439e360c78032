import numpy as np
import pytest
import torch

from ganatomy.case import Case, Sample
from ganatomy.data.batches import datasets, usable
from ganatomy.data.cases import DataConfig, discover, find_cases
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.tasks.restoration.likeness import BEST, EDGES, INFORMATION, MAE, PSNR, likeness
from ganatomy.tasks.translation.task import CONTRAST, Translation, TranslationConfig

CASE = Case("p", "p", "train", {})
SCALES = ("percentile", "zscore")


def task(paired=True, **values):
    own = {
        "source": "a",
        "target": "b",
        "size": (32, 28),
        **({} if "target" in values else {"a": {"window": (0, 1200)}, "b": {"window": (0, 600)}}),
    }
    return Translation(TranslationConfig.preset("paper", **{**own, **values}), paired, MAE)


def picture(seed=0, rows=40, columns=30, slices=2, high=1000.0, unit="a.u.", channels=1):
    values = high * np.random.default_rng(seed).random((channels, slices, rows, columns))
    return Image.from_array(values.astype(np.float32), (3.0, 1.0, 1.5), unit)


def test_the_user_says_what_is_given_and_what_is_made():
    there, back = task(), task(source="b", target="a", a={"window": (0, 1200)}, b={"window": (0, 600)})
    assert (there.input, there.output, there.given) == ("a", "b", "a")
    assert (back.input, back.output, back.given) == ("b", "a", "b")
    assert list(there.roles) == ["a", "b"] and list(back.roles) == ["b", "a"]
    assert [codec.high for codec in there.codecs.values()] == [1200, 600]
    sample = back.frame({"b": picture(high=500)})
    assert [window.high for window in back.contrasts(sample)] == [600, 1200]
    assert back.same_contrast("a") is None, "the scale of the given image says nothing of the made one's"


def test_channels_are_those_of_the_role():
    own = task(a={"channels": 3})
    assert (own.in_channels, own.out_channels) == (3, 1)


def test_pairs_are_framed_alike_and_keep_their_place_in_the_patient():
    a, b = picture(0), picture(1, high=500)
    sample = task().frame({"a": a, "b": b}, CASE)
    assert all(array.shape == (1, 2, 32, 28) for array in sample.arrays.values())
    assert np.array_equal(sample.affines["a"], sample.affines["b"])
    # 40 x 1.0 mm by 30 x 1.5 mm lie inside 32 x 28 whole: 25 rows, with the window's lower end around them.
    rows = sample.image("a").numpy().max(axis=(0, 1, 3)) > 0
    assert rows.tolist() == [3 <= row < 28 for row in range(32)]
    whole = task(fit="patches").frame({"a": a, "b": b}, CASE)
    assert np.array_equal(whole.image("a").numpy(), a.numpy()) and np.array_equal(whole.affines["a"], a.affine)


def test_images_are_filled_up_with_the_lower_end_of_their_window():
    own = task(a={"window": (-300, 900)}, b={"scale": "percentile", "unit": "HU"})
    assert dict(own.preparation.fill) == {"a": -300, "b": -1000}
    assert task(fit="patches").preparation == task(fit="patches", size=(7, 9)).preparation, "patches are cut later"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": picture()}, "no b image beside it"),
        ({"b": picture(high=500)}, "no a image beside it"),
        ({"a": picture(), "b": picture(1, rows=41, high=500)}, "do not lie on one grid"),
        ({"a": picture(unit="HU"), "b": picture(high=500)}, r"is in HU, but a in a\.u\.: .* --a\.unit HU"),
        ({"a": picture(channels=3), "b": picture(high=500)}, r"3 channels, but .* 1 for a; .* --a\.channels"),
        ({"a": picture(), "b": picture(high=9000.0, unit=None)}, r"--b\.window is 0 600"),
    ],
)
def test_images_that_do_not_fit_are_refused(given, told):
    with pytest.raises(UserError, match=told) as error:
        task().frame(given, CASE)
    assert "\n" not in str(error.value)


def test_without_pairs_either_image_is_enough():
    assert set(task(paired=False).frame({"b": picture(high=500)}, CASE).arrays) == {"b"}
    assert set(task().frame({"a": picture()}).arrays) == {"a"}, "applied to a patient who has no other image"


def test_slices_without_content_are_not_learned_from():
    a = np.zeros((1, 3, 32, 28), np.float32)
    a[:, 1] = 500
    assert task().trainable(None, {"a": a, "b": a + 1}).tolist() == [False, True, False]
    own = task(a={"scale": "percentile"}, b={"scale": "zscore"})
    a[:, 1, 8:20, 5:17] = np.random.default_rng(0).uniform(300, 900, (12, 12))
    sample = Sample(CASE, {"a": a, "b": 2 * a - 7}, dict.fromkeys("ab", picture().affine), own.roles)
    assert own.trainable_slices(sample).tolist() == [False, True, False]


def test_the_true_image_scores_perfectly_and_an_inverted_one_is_seen():
    rng = np.random.default_rng(0)
    a = rng.uniform(200, 1200, (2, 32, 32)).astype(np.float32)
    b = (600 - a / 2).astype(np.float32)
    sample, spacing = {"a": a, "b": b}, (1.0, 1.0, 1.0)
    perfect = task().scores({"b": b}, sample, spacing)
    assert perfect[MAE] == 0 and perfect[CONTRAST] == pytest.approx(1) and perfect[EDGES] == pytest.approx(1)
    assert perfect[BEST] == pytest.approx(0)
    inverted = task().scores({"b": 600 - b}, sample, spacing)
    assert inverted[CONTRAST] == pytest.approx(-1) and inverted[PSNR] < 12
    assert inverted[INFORMATION] == pytest.approx(perfect[INFORMATION], rel=0.05), "blind to which tissue is bright"
    noise = task().scores({"b": rng.uniform(0, 600, b.shape).astype(np.float32)}, sample, spacing)
    assert noise[INFORMATION] < 0.2 < perfect[INFORMATION]


def test_a_constant_has_neither_contrast_nor_information():
    a = np.random.default_rng(0).uniform(200, 1200, (1, 32, 32)).astype(np.float32)
    found = task().scores({"b": np.full_like(a, 300.0)}, {"a": a, "b": a / 2}, (1.0, 1.0, 1.0))
    assert np.isnan(found[INFORMATION]) and np.isnan(found[CONTRAST]) and found[MAE] > 0


def test_without_a_true_image_only_the_information_is_scored():
    a = np.random.default_rng(0).uniform(200, 1200, (1, 32, 32)).astype(np.float32)
    assert set(task().scores({"b": a / 2}, {"a": a}, (1.0, 1.0, 1.0))) == {INFORMATION}


def test_neither_a_mean_image_nor_sharp_inventions_win():
    rng = np.random.default_rng(0)
    true = np.kron(rng.random((1, 8, 8)), np.ones((4, 4)))
    near = true + 0.02 * rng.standard_normal(true.shape)
    flat, other = np.full_like(true, true.mean()), np.kron(rng.random((1, 8, 8)), np.ones((4, 4)))
    found = [likeness(image, true, (0.0, 1.0), (1.0, 1.0, 1.0))[BEST] for image in (near, flat, other)]
    assert found[0] < min(found[1:]) / 4


def heads(seed, factor):
    """Make a head of 300 to 900 in air of 0, and its inverse; ``factor`` is the scale of the scanner."""
    rng = np.random.default_rng(seed)
    head = np.zeros((1, 3, 20, 16), np.float32)
    head[:, :, 3:17, 2:12] = rng.uniform(300, 900, (1, 3, 14, 10))
    other = np.where(head > 0, 1200 - head, 0)
    return {
        name: Image.from_array(factor * image, (3.0, 1.0, 1.5), "a.u.") for name, image in (("a", head), ("b", other))
    }


def learned(scale, factors=(1.0, 5.0, 2.0)):
    """A trained task with codecs bound per case, and its training samples."""
    own = task(size=(20, 16), fit="patches", **{name: {"scale": scale, "percentiles": (0, 100)} for name in "ab"})
    samples = [own.frame(heads(seed, factor), CASE) for seed, factor in enumerate(factors)]
    own.fitted = own.fit(iter(samples))
    return own, samples


@pytest.mark.parametrize("scale", SCALES)
def test_every_image_may_have_a_scale_of_its_own(scale):
    _, samples = learned(scale)
    shown = [sample.role("a").encoded(sample.image("a").numpy()) for sample in samples[:2]]
    spread = [values[sample.image("a").numpy() > 0].std() for values, sample in zip(shown, samples, strict=False)]
    assert spread[0] == pytest.approx(spread[1], rel=0.1) and 0.2 < spread[0] < 0.7, "five times as strong, yet alike"
    codec = samples[1].role("a").codec
    values = samples[1].image("a").numpy()
    inside = values[values > 0]
    ends = (
        [values.min(), values.max()]
        if scale == "percentile"
        else [inside.mean() + 3 * n * inside.std() for n in (-1, 1)]
    )
    np.testing.assert_allclose([codec.low, codec.high], ends, rtol=1e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_made_has_the_scale_of_the_median_training_case(scale):
    own, samples = learned(scale)
    median = samples[2].role("b").codec
    assert own.window("b") == pytest.approx((median.low, median.high), rel=0.05)
    source, product = own.contrasts(samples[1])
    assert (source.low, source.high) == pytest.approx((samples[1].role("a").codec.low, samples[1].role("a").codec.high))
    assert (product.low, product.high) == own.window("b")


def test_the_data_range_of_scores_is_that_of_the_true_image():
    own, samples = learned("percentile", factors=(1.0, 50.0, 2.0))
    found = []
    for sample in samples[:2]:
        bound, volumes = own.bound_to(sample), sample.slices(0, 3)
        assert bound.tissue(volumes).mean() == pytest.approx(14 * 10 / (20 * 16)), "air is no tissue"
        scores = bound.scores({"b": volumes["b"]}, volumes, (3.0, 1.0, 1.5))
        assert scores[MAE] == 0 and scores[CONTRAST] == pytest.approx(1)
        found.append(bound.scores({"b": 0.9 * volumes["b"]}, volumes, (3.0, 1.0, 1.5))[PSNR])
    assert found[0] == pytest.approx(found[1], abs=1), "fifty times the values, and the same relative error"


def test_before_training_there_is_no_scale_to_score_in():
    own = task(a={"scale": "percentile"}, b={"scale": "percentile"})
    with pytest.raises(UserError, match="b: its scale was not learned in training; train again"):
        own.window("b")
    assert isinstance(task().roles["b"].codec, Window) and task().window("b") == (0, 600)


def folder(path, names, seed=0):
    for number, name in enumerate(names):
        write(path / f"{name}.nii.gz", picture(seed + number, 32, 32, high=500.0, unit=None))


def test_subfolders_named_like_the_roles_are_pairs_by_name(tmp_path):
    for role, names in (("a", ("p1", "p2", "p3")), ("b", ("p2", "p3", "p4"))):
        (tmp_path / role).mkdir()
        folder(tmp_path / role, names)
    data = DataConfig(data=tmp_path)
    pairs = {case.name: set(case.sources) for case in find_cases(task(), data)}
    assert pairs == {"p1": {"a"}, "p2": {"a", "b"}, "p3": {"a", "b"}}
    either = {case.name: set(case.sources) for case in find_cases(task(paired=False), data)}
    assert either == {**pairs, "p4": {"b"}}


def test_a_manifest_may_name_one_of_the_two_only_without_pairs(tmp_path):
    folder(tmp_path, ("x", "y"))
    (tmp_path / "m.csv").write_text("subject,a,b\n1,x.nii.gz,\n2,,y.nii.gz\n")
    found = find_cases(task(paired=False), DataConfig(data=tmp_path / "m.csv"))
    assert [set(case.sources) for case in found] == [{"a"}, {"b"}]
    with pytest.raises(UserError, match="line 3: no a image"):
        find_cases(task(), DataConfig(data=tmp_path / "m.csv"))


def test_unpaired_batches_draw_either_kind_from_any_case(tmp_path):
    folder(tmp_path, ("x", "y"))
    (tmp_path / "m.csv").write_text("subject,a,b\n1,x.nii.gz,\n2,,y.nii.gz\n")
    method = CycleGAN(CycleGAN.Config.preset("small", size=(32, 28), source="a", target="b"))
    own = method.task
    store = Store(own, tmp_path / "cache")
    cases = [store.get(case) for case in find_cases(own, DataConfig(data=tmp_path / "m.csv"))]
    streams = method.stages()[0].streams_in_order
    patches = datasets(usable(own, cases), streams, own.required, 2, [0])
    drawn = {name: patches[name][0] for name in ("source", "target")}
    assert {name: set(one) for name, one in drawn.items()} == {"source": {"a"}, "target": {"b"}}
    assert drawn["source"]["a"].shape == drawn["target"]["b"].shape == (1, 32, 28)


def test_the_phantom_plays_both_parts(tmp_path):
    own = Pix2Pix(Pix2Pix.Config.preset("small", size=(32, 32), levels=4)).task
    case = Store(own, tmp_path).get(discover(own, DataConfig(phantom_subjects=3))[0])
    assert {role: values.shape[2:] for role, values in case.arrays.items()} == {"t1": (32, 32), "t2": (32, 32)}
    brain = case.arrays["t1"] > 100
    assert np.corrcoef(case.arrays["t1"][brain], case.arrays["t2"][brain])[0, 1] < -0.2, "CSF is dark in T1 only"


def test_a_part_of_the_phantom_may_play_a_role_of_another_name():
    own = task(source="given", target="pd", given={"part": "t1"})
    assert own.phantom_parts(None) == {"given": "t1", "pd": "pd"}


def test_images_of_one_sample_jitter_together_and_others_do_not():
    image = torch.randn(4, 1, 32, 28)
    method = Pix2Pix(Pix2Pix.Config.preset("small", size=(32, 32)))
    first, second = method.jittered(image, image)
    assert first.shape == image.shape and not torch.equal(first, image)
    assert torch.equal(first, second)
    (other,) = method.jittered(image)
    assert not torch.equal(first, other)
    wide, _ = method.jittered(torch.cat([image] * 3, dim=1), image)
    assert wide.shape[1] == 3 and torch.equal(wide[:, :1], wide[:, 2:])
    few = Pix2Pix(Pix2Pix.Config.preset("small", jitter=2))
    (crops,) = few.jittered(torch.randn(1, 1, 16, 12).expand(300, -1, -1, -1))
    assert len(crops.unique(dim=0)) == 9, "three places along either axis, the last one included"
    still = Pix2Pix(Pix2Pix.Config.preset("small", jitter=0))
    assert torch.equal(still.jittered(image)[0], image)
