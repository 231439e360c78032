import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy import catalogue
from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.images.image import ComputedArray, axial_affine
from ganatomy.tasks.anomaly_detection import detecting
from ganatomy.tasks.anomaly_detection.detecting import CachedSlices, Findings, starts
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector

SPACING = (3.0, 2.0, 2.5)


class Dimmer(Detector):
    """A detector whose healthy image has half the values of the input, pixel by pixel."""

    Config = AnomalyConfig
    network_range = (0.0, 1.0)

    def __init__(self, config):
        super().__init__(config)
        self.dims = len(config.size)
        self.seen = []

    def stages(self):
        return []

    def detect(self, image):
        self.seen.append(tuple(image.shape))
        map = self.residual(image, image / 2)
        return Detection(map, map.flatten(1).amax(1), image / 2)


def dimmer(**values):
    return Dimmer(AnomalyConfig(**{"window": (0.0, 10.0), "size": (8, 7), **values}))


def noise(*shape):
    return np.random.default_rng(0).uniform(1, 9, shape).astype(np.float32)


def findings(method, image):
    """Return the findings of the method in a volume, (slices, rows, columns) or lazy."""
    array = image[None] if image.ndim == 3 else image
    case = Case("case", "subject", "test", {})
    return Findings(method, Sample(case, {"image": array}, {"image": axial_affine(SPACING)}, method.task.roles))


def everything(found):
    return np.asarray(found.map)[0], found.scores, np.asarray(found.healthy)[0]


@given(st.integers(1, 60), st.integers(1, 30), st.floats(0, 0.9))
def test_patches_cover_an_axis_and_overlap_as_asked(extent, length, overlap):
    places = starts(extent, length, overlap)
    if extent <= length:
        assert len(places) == 1 and places[0] <= 0 and places[0] + length >= extent
        return
    assert places[0] == 0 and places[-1] == extent - length
    steps = np.diff(places)
    assert (steps > 0).all() and steps.max() <= max(1, length * (1 - overlap)) + 1


@pytest.mark.parametrize("shape", [(3, 8, 7), (2, 19, 13), (1, 5, 20)])
def test_patches_give_what_the_whole_image_gives(shape):
    image = noise(*shape)
    whole = everything(findings(dimmer(size=shape[1:]), image))
    parts = everything(findings(dimmer(fit="patches"), image))
    for a, b in zip(whole, parts, strict=True):
        assert a.shape == b.shape and np.allclose(a, b, rtol=1e-5)
    assert np.allclose(whole[0], image / 2) and np.allclose(whole[2], image / 2)
    assert np.allclose(whole[1], image.max((1, 2)) / 20)


@pytest.mark.parametrize("slices", [3, 6, 9])
def test_volumes_are_cut_along_all_axes(slices):
    image = noise(slices, 10, 9)
    method = dimmer(fit="patches", size=(4, 8, 7))
    found = findings(method, image)
    parts = [found.map.slab(at, min(at + 2, slices)) for at in range(0, slices, 2)]
    assert np.allclose(np.concatenate(parts, axis=1)[0], image / 2)
    assert np.allclose(np.asarray(found.healthy)[0], image / 2)
    layers = len(starts(slices, 4, 0.5))
    assert len(method.seen) == 4 * layers and set(method.seen) == {(1, 1, 4, 8, 7)}, "every layer is seen once"
    assert found.scores.shape == (1,) and found.scores[0] == pytest.approx(image.max() / 20)
    assert np.allclose(np.asarray(found.score), found.scores[0])
    assert len(found._layers) <= 3, "layers are forgotten when slices behind them are read"


def test_the_score_of_a_volume_is_that_of_all_its_patches():
    image = noise(9, 8, 7)
    image[8, 2, 3] = 9.8
    found = findings(dimmer(fit="patches", size=(4, 8, 7)), image)
    assert found.score.slab(0, 1).ravel() == pytest.approx(0.49)


def test_whole_volumes_are_seen_once():
    image = noise(6, 8, 7)
    method = dimmer(size=(6, 8, 7))
    found = findings(method, image)
    assert np.allclose(found.map.slab(2, 4)[0], image[2:4] / 2) and np.allclose(found.map.slab(0, 6)[0], image / 2)
    assert method.seen == [(1, 1, 6, 8, 7)] and np.allclose(found.scores, image.max() / 20)


def test_slices_are_seen_once_and_only_those_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(detecting, "TOGETHER", 4)
    image = noise(11, 8, 7)
    method = dimmer()
    found = findings(method, image)
    assert np.allclose(found.score.slab(5, 7).ravel(), image[5:7].max((1, 2)) / 20)
    assert [shape[0] for shape in method.seen] == [2]
    assert np.allclose(everything(found)[0], image / 2)
    assert np.allclose(everything(found)[2], image / 2)
    assert [shape[0] for shape in method.seen] == [2, 4, 1, 4], "runs between them, no longer than a batch"


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(1, 6)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.sampled_from([1, 12]),
    st.sampled_from([1, 2**20]),
)
@settings(deadline=None, max_examples=60)
def test_what_is_kept_is_what_was_computed_once(requests, thickness, together, memory):
    values = noise(2, 12, 3, 5)
    computed = np.zeros(12, int)

    def slab(start, stop):
        computed[start:stop] += 1
        return values[:, start:stop]

    kept = CachedSlices(ComputedArray(values.shape, np.float32, slab, max(thickness, together)), together, memory)
    for start, length in requests:
        stop = min(start + length, 12)
        assert np.array_equal(kept.slab(start, stop), values[:, start:stop])
    assert computed.max() == 1


def test_a_full_disk_is_told(monkeypatch):
    kept = CachedSlices(ComputedArray((1, 4, 3, 2), np.float32, lambda start, stop: np.zeros((1, stop - start, 3, 2))))

    class Full:
        def seek(self, place): ...

        def write(self, values):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_file", Full())
    with pytest.raises(UserError, match=r"No space left on device; make space, or name another folder in TMPDIR"):
        kept.slab(0, 2)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("slug", ["anogan", "caae", "anovaegan", "va-gan"])
@pytest.mark.parametrize("fit", ["contain", "patches"])
def test_scores_do_not_depend_on_what_else_is_in_a_batch(slug, fit):
    cls = catalogue.load(slug)
    values = {"size": (32, 32), "fit": fit, "scale": "window", "window": (0.0, 255.0), "residual": "absolute"}
    small = {"search_steps": 4, "width": 4} if slug == "anogan" else {}
    method = cls(cls.Config.preset("small", **values, **small)).eval()
    image = np.random.default_rng(0).uniform(0, 255, (5, 40, 48) if fit == "patches" else (5, 32, 32))
    image = image.astype(np.float32)
    image[2] *= 0.1
    together = findings(method, image).scores
    assert together.shape == (5,) and np.ptp(together) > 0
    alone = [findings(method, image[index : index + 1]).scores[0] for index in range(5)]
    np.testing.assert_allclose(alone, together, rtol=1e-4)
    turned = findings(method, image[::-1].copy()).scores[::-1]
    np.testing.assert_allclose(turned, together, rtol=1e-4)
