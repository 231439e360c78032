import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.image import Header, Image
from ganatomy.tasks.mr_denoising.task import PSNR, RMSE, SSIM, MRDenoising

CODEC = Window(low=0, high=1000, to=(0.0, 1.0), unit="a.u.")


def task(snr=10.0):
    return MRDenoising(CODEC, snr, (64, 64), "brain-mr", "t1")


def heads(slices=3, size=64):
    """Rings of 400 around a dark ventricle, the last slice empty."""
    row, column = np.indices((size, size)) - size // 2
    radius = np.hypot(row, column)
    plane = np.where((radius < 24) & (radius > 5), 400.0, 0.0)
    return np.stack([plane] * (slices - 1) + [0 * plane]).astype(np.float32)


def image(values=None, **header):
    return Image.from_array(heads() if values is None else values, unit="a.u.", header=Header(**header))


@pytest.mark.parametrize("snr", [1.0, 10.0, 100.0])
def test_noise_has_the_strength_asked_for_inside_of_the_head_and_none_outside(snr):
    prepared = task(snr).prepare({"target": image()}, seed=3)
    clean, noise = heads(), prepared["input"].numpy()[0] - heads()
    inside = task().head(clean)
    assert inside[0, 32, 32] and not inside[0, 0, 0] and not inside[-1].any(), "what the head encloses is part of it"
    wanted = clean[0][inside[0]].mean() / snr
    assert noise[:2][inside[:2]].std() == pytest.approx(wanted, rel=0.05)
    assert abs(noise[:2][inside[:2]].mean()) < 0.1 * wanted
    assert not noise[~inside].any()
    assert np.array_equal(prepared["target"].numpy()[0], clean)


def test_noise_belongs_to_the_slice_and_the_seed():
    noisy, again, other = (task().prepare({"target": image()}, seed)["input"] for seed in (3, 3, 4))
    assert np.array_equal(noisy.slab(1, 2), again.numpy()[:, 1:2])
    assert not np.array_equal(noisy.numpy()[:, 0], noisy.numpy()[:, 1])
    assert not np.array_equal(noisy.numpy(), other.numpy())


def test_only_the_head_is_scored():
    target = heads()
    inside = task().head(target)
    wrong = np.where(inside, target + 10, target + 500)
    scores = task().scores(wrong, {"target": target}, (1, 1, 1))
    assert scores[RMSE] == pytest.approx(10, rel=1e-5)
    assert scores[PSNR] == pytest.approx(40, abs=1e-4)
    assert task().scores(target, {"target": target}, (1, 1, 1))[SSIM] == pytest.approx(1)


def test_empty_slices_are_not_trained_on():
    assert task().trainable(None, {"target": heads()[None]}).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": image(modality="CT")}, "CT"),
        ({"target": image(np.zeros((3, 2, 64, 64), np.float32) + heads()[:2])}, "3 channels"),
        ({"target": image(heads() * 100)}, "--window"),
        ({"target": image(), "input": image()}, "input is simulated"),
    ],
)
def test_other_images_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        task().prepare(given, 0)
