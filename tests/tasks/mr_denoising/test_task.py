import numpy as np
import pytest

from ganatomy.case import Case
from ganatomy.errors import UserError
from ganatomy.images.codecs import PercentileWindow, Window
from ganatomy.images.image import Header, Image
from ganatomy.tasks.mr_denoising.task import PSNR, RMSE, SSIM, MRDenoising, head

CODEC = Window(low=0, high=1000, to=(0.0, 1.0), unit="a.u.")
CASE = Case("p", "p", "train", {})


def task(snr=10.0, codec=CODEC):
    return MRDenoising(codec, snr, (64, 64), "brain-mr", "t1")


def prepared(own, seed, **given):
    return own.simulate(own.frame(given, CASE), seed)


def heads(slices=3, rows=64, columns=56):
    """Draw rings of 400 around a dark ventricle, with an empty last slice."""
    row, column = np.indices((rows, columns)) - 32
    radius = np.hypot(row, column)
    plane = np.where((radius < 24) & (radius > 5), 400.0, 0.0)
    return np.stack([plane] * (slices - 1) + [0 * plane]).astype(np.float32)


def image(values=None, **header):
    return Image.from_array(heads() if values is None else values, unit="a.u.", header=Header(**header))


@pytest.mark.parametrize("snr", [1.0, 10.0, 100.0])
def test_noise_has_the_strength_asked_for_inside_of_the_head_and_none_outside(snr):
    sample = prepared(task(snr), 3, target=image())
    clean, noise = heads(), sample.image("input").numpy()[0] - heads()
    inside = task().head(clean)
    assert inside[0, 32, 32] and not inside[0, 0, 0] and not inside[-1].any(), "what the head encloses is part of it"
    wanted = clean[0][inside[0]].mean() / snr
    assert noise[:2][inside[:2]].std() == pytest.approx(wanted, rel=0.05)
    assert abs(noise[:2][inside[:2]].mean()) < 0.1 * wanted
    assert not noise[~inside].any()
    assert np.array_equal(sample.image("target").numpy()[0], clean)
    assert np.array_equal(sample.affines["input"], sample.affines["target"])


def test_noise_belongs_to_the_slice_and_the_seed():
    noisy, again, other = (prepared(task(), seed, target=image()).image("input") for seed in (3, 3, 4))
    assert np.array_equal(noisy.slab(1, 2), again.numpy()[:, 1:2])
    assert not np.array_equal(noisy.numpy()[:, 0], noisy.numpy()[:, 1])
    assert not np.array_equal(noisy.numpy(), other.numpy())


def test_only_the_head_is_scored():
    target = heads()
    inside = task().head(target)
    wrong = np.where(inside, target + 10, target + 500)
    scores = task().scores({"target": wrong}, {"target": target}, (1, 1, 1))
    assert scores[RMSE] == pytest.approx(10, rel=1e-5)
    assert scores[PSNR] == pytest.approx(40, abs=1e-4)
    assert task().scores({"target": target}, {"target": target}, (1, 1, 1))[SSIM] == pytest.approx(1)


def test_empty_slices_are_not_trained_on():
    assert task().trainable(None, {"target": heads()[None]}).tolist() == [True, True, False]


def test_noise_is_prepared_anew_where_its_strength_or_the_head_is_another():
    assert task(10).preparation.digest != task(11).preparation.digest
    higher = CODEC.model_copy(update={"high": 2000.0})
    assert task(codec=higher).preparation.digest != task().preparation.digest
    unit = CODEC.model_copy(update={"to": (0.0, 2.0)})
    assert task(codec=unit).preparation.digest == task().preparation.digest, "the range of the network is applied later"


def test_every_volume_may_have_a_scale_of_its_own():
    own = task(codec=PercentileWindow(p_low=0, p_high=100, to=(0, 1), unit="a.u."))
    samples = [prepared(own, 3, target=image(factor * heads())) for factor in (1, 50, 3)]
    weak, strong = (sample.image("input").numpy() - sample.image("target").numpy() for sample in samples[:2])
    np.testing.assert_allclose(strong, 50 * weak, atol=1e-2)
    own.fitted = own.fit(samples)
    assert own.window("target") == pytest.approx((0, 1200), abs=1)
    again = prepared(own, 3, target=image(heads()))
    assert np.array_equal(again.image("input").numpy(), samples[0].image("input").numpy()), (
        "learned numbers play no part"
    )
    assert own.trainable(None, {"target": heads()[None]}).tolist() == [True, True, False]


def test_the_head_is_what_it_encloses():
    assert head(heads(), 200)[0].sum() == (np.hypot(*(np.indices((64, 56)) - 32)) < 24).sum()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": image(modality="CT")}, "CT"),
        ({"target": image(np.zeros((3, 2, 64, 56), np.float32) + heads()[:2])}, "3 channels"),
        ({"target": image(heads() * 100)}, "--window"),
        ({"target": image(), "input": image()}, "input is simulated"),
    ],
)
def test_other_images_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        prepared(task(), 0, **given)
