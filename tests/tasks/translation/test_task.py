import numpy as np
import pytest
import torch

from ganatomy.data.batches import PatchDataset, usable
from ganatomy.data.cases import DataConfig, discover, find_cases
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.tasks.translation.task import BEST, CONTRAST, EDGES, INFORMATION, MAE, PSNR, Translation, likeness

CODECS = {"a": Window(low=0, high=1200, unit="a.u.", clip=True), "b": Window(low=0, high=600, unit="a.u.", clip=True)}


def task(direction="a2b", paired=True, fit="contain", size=(32, 32), channels=(1, 1)):
    return Translation(CODECS, direction, size, fit, channels, paired, "brain-mr", ("t1", "t2"), MAE)


def picture(seed=0, rows=40, columns=30, slices=2, high=1000.0, unit="a.u.", channels=1):
    values = high * np.random.default_rng(seed).random((channels, slices, rows, columns))
    return Image.from_array(values.astype(np.float32), (3.0, 1.0, 1.5), unit)


def test_the_direction_says_what_is_given_and_what_is_made():
    there, back = task(), task("b2a")
    assert (there.source, there.product, there.given) == ("a", "b", "a")
    assert (back.source, back.product, back.given) == ("b", "a", "b")
    assert [codec.high for codec in back.contrasts] == [600, 1200]


def test_pairs_are_framed_alike_and_keep_their_place_in_the_patient():
    prepared = task().prepare({"a": picture(0), "b": picture(1, high=500)}, 0)
    assert all(image.shape == (2, 32, 32) for image in prepared.values())
    assert np.array_equal(prepared["a"].affine, prepared["b"].affine)
    filled = prepared["a"].numpy()[0, 0, :, :4]
    assert (filled == 0).all(), "a contained image is filled up with the window's lower end"
    whole = task(fit="patches").prepare({"a": picture(0), "b": picture(1, high=500)}, 0)
    assert np.array_equal(whole["a"].numpy(), picture(0).numpy())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": picture()}, "no b image beside it"),
        ({"a": picture(), "b": picture(1, rows=41)}, "give pairs on one grid"),
        ({"a": picture(unit="HU"), "b": picture()}, "is in HU, but the model works in a.u."),
        ({"a": picture(channels=3), "b": picture()}, "3 channels, but the system works with 1 for a"),
        ({"a": picture(), "b": picture(high=9000.0, unit=None)}, "--window-b is 0 600"),
    ],
)
def test_images_that_do_not_fit_are_refused(given, told):
    with pytest.raises(UserError, match=told) as error:
        task().prepare(given, 0)
    assert "\n" not in str(error.value)


def test_without_pairs_either_image_is_enough():
    assert set(task(paired=False).prepare({"b": picture(high=500)}, 0)) == {"b"}


def test_slices_without_content_are_not_learned_from():
    a = np.zeros((1, 3, 32, 32), np.float32)
    a[:, 1] = 500
    assert task().trainable(None, {"a": a, "b": a + 1}).tolist() == [False, True, False]


def test_the_true_image_scores_perfectly_and_an_inverted_one_is_seen():
    rng = np.random.default_rng(0)
    a = rng.uniform(200, 1200, (2, 32, 32)).astype(np.float32)
    b = (600 - a / 2).astype(np.float32)
    sample, spacing = {"a": a, "b": b}, (1.0, 1.0, 1.0)
    perfect = task().scores(b, sample, spacing)
    assert perfect[MAE] == 0 and perfect[CONTRAST] == pytest.approx(1) and perfect[EDGES] == pytest.approx(1)
    assert perfect[BEST] == pytest.approx(0)
    inverted = task().scores(600 - b, sample, spacing)
    assert inverted[CONTRAST] == pytest.approx(-1) and inverted[PSNR] < 12
    assert inverted[INFORMATION] == pytest.approx(perfect[INFORMATION], rel=0.05), "blind to which tissue is bright"
    noise = task().scores(rng.uniform(0, 600, b.shape).astype(np.float32), sample, spacing)
    assert noise[INFORMATION] < 0.2 < perfect[INFORMATION]


def test_without_a_true_image_only_the_information_is_scored():
    a = np.random.default_rng(0).uniform(200, 1200, (1, 32, 32)).astype(np.float32)
    assert set(task().scores(a / 2, {"a": a}, (1.0, 1.0, 1.0))) == {INFORMATION}


def test_neither_a_mean_image_nor_sharp_inventions_win():
    rng = np.random.default_rng(0)
    true = np.kron(rng.random((1, 8, 8)), np.ones((4, 4)))
    near = true + 0.02 * rng.standard_normal(true.shape)
    flat, other = np.full_like(true, true.mean()), np.kron(rng.random((1, 8, 8)), np.ones((4, 4)))
    found = [likeness(image, true, (0.0, 1.0), (1.0, 1.0, 1.0))[BEST] for image in (near, flat, other)]
    assert found[0] < min(found[1:]) / 4


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
    own = task(paired=False)
    store = Store(own, tmp_path / "cache")
    cases = [store.get(case) for case in find_cases(own, DataConfig(data=tmp_path / "m.csv"))]
    method = CycleGAN(CycleGAN.Config.preset("small", size=(32, 32)))
    patches = PatchDataset(usable(own, cases), method.stream(1), own.codecs, own.roles, 2, [0])
    assert {role: values.shape for role, values in patches[0].items()} == {"a": (1, 32, 32), "b": (1, 32, 32)}


def test_the_phantom_plays_both_parts(tmp_path):
    own = Pix2Pix(Pix2Pix.Config.preset("small", size=(32, 32), levels=4)).task
    case = Store(own, tmp_path).get(discover(own, DataConfig(phantom_subjects=3))[0])
    assert {role: values.shape[2:] for role, values in case.arrays.items()} == {"a": (32, 32), "b": (32, 32)}
    brain = case.arrays["a"] > 100
    assert np.corrcoef(case.arrays["a"][brain], case.arrays["b"][brain])[0, 1] < -0.2, "CSF is dark in T1, bright in T2"


def test_pairs_jitter_together_and_other_images_do_not():
    image = torch.randn(4, 1, 32, 32)
    for kind, together in ((Pix2Pix, True), (CycleGAN, False)):
        method = kind(kind.Config.preset("small", size=(32, 32)))
        moved = method.jittered({"a": image, "b": image})
        assert moved["a"].shape == image.shape and not torch.equal(moved["a"], image)
        assert torch.equal(moved["a"], moved["b"]) == together
    still = Pix2Pix(Pix2Pix.Config.preset("small", jitter=0))
    assert torch.equal(still.jittered({"a": image})["a"], image)
