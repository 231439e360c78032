import csv
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.images.files import read
from ganatomy.inference.model import Model, load
from ganatomy.metrics.classification import TuringTest
from ganatomy.metrics.detection import Proportion
from ganatomy.reader_studies.turing import COLUMNS, build_test, read_answers, running_order, score_answers, verdict
from ganatomy.training.run import TrainConfig, train

COUNT = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("turing")
    config = catalogue.load("dcgan").Config.preset("small", width=4, batch_size=4)
    data = DataConfig(phantom_subjects=4, cache=folder / "cache")
    train("dcgan", folder / "run", config, data, TrainConfig(rounds=2, device="cpu", threads=1, diagnose=False))
    return load(folder / "run")


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "plain"
    build_test(model, out, COUNT, seed=3, raters=2)
    return out


def pictures(folder):
    return {path.stem: read(path).numpy() for path in (folder / "images").iterdir()}


def key_of(folder):
    return json.loads((folder / "key.json").read_text())


def page_data(folder, rater):
    text = (folder / "raters" / f"{rater}.html").read_text()
    return text, json.loads(re.search(r"const data = (.*);\n", text)[1])


def a_set(folder, images=20, raters=("rater-1", "rater-2", "rater-3")):
    """Write a key without image files, in which the first half of the images is real."""
    names = [f"i{number:02}" for number in range(images)]
    orders = {rater: [*names, names[0], names[-1]] for rater in raters}
    facts = {name: {"real": place < images // 2} for place, name in enumerate(names)}
    folder.mkdir(exist_ok=True)
    (folder / "key.json").write_text(json.dumps({"set": "s0", "images": facts, "raters": orders}))
    return names


def answered(folder, rater, says, sure=3, suffix="csv", asked=None):
    """Write the file of a rater who answers ``says(name, time)`` to the images."""
    order = asked or key_of(folder)["raters"][rater]
    rows, seen = [], set()
    for trial, name in enumerate(order, start=1):
        rows.append(("s0", rater, trial, name, "real" if says(name, name in seen) else "synthetic", sure, 1500))
        seen.add(name)
    path = folder / f"{rater}.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows]))
        return path
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return path


def generated(folder):
    """Map the seed of each generated image to its picture."""
    shown = pictures(folder)
    return {facts["source"]: shown[name] for name, facts in key_of(folder)["images"].items() if not facts["real"]}


def test_names_and_times_do_not_follow_from_the_seed(model, built, tmp_path):
    build_test(model, tmp_path / "again", COUNT, seed=3)
    one, other = (key_of(folder)["images"] for folder in (built, tmp_path / "again"))
    chosen = [sorted((facts["real"], facts["source"]) for facts in images.values()) for images in (one, other)]
    assert chosen[0] == chosen[1], "the same seed chooses the same images"
    assert not set(one) & set(other)
    assert len({path.stat().st_mtime for path in (built / "images").iterdir()}) == 1


def test_half_of_the_images_are_real_and_nothing_but_the_key_tells_which(built):
    key, shown = key_of(built), pictures(built)
    assert shown.keys() == key["images"].keys() and len(shown) == COUNT
    assert sum(facts["real"] for facts in key["images"].values()) == COUNT / 2
    assert len({(image.shape, image.dtype) for image in shown.values()}) == 1
    for rater, order in key["raters"].items():
        text, data = page_data(built, rater)
        assert data["order"] == order and set(data["images"]) == set(shown) and list(data["images"]) == sorted(shown)
        assert not any(facts["source"] in text for facts in key["images"].values()) and "http" not in text
    assert key["raters"]["rater-1"] != key["raters"]["rater-2"]


def test_real_images_are_those_of_test_subjects_and_generated_ones_those_of_their_seeds(model, built):
    key, shown = key_of(built), pictures(built)
    sources = {facts["source"] for facts in key["images"].values() if facts["real"]}
    assert len(sources) > 0 and all(
        any(subject.startswith(source) for subject in model.facts.split.test) for source in sources
    ), "subjects are called by shortened pseudonyms"
    name, seed = next((n, int(f["source"][5:])) for n, f in key["images"].items() if not f["real"])
    made = model(seed=seed).main.numpy()
    codec = model.method.task.codecs["image"]
    wanted = 255 * (made[:, 0].clip(codec.low, codec.high) - codec.low) / (codec.high - codec.low)
    np.testing.assert_allclose(shown[name][:, 0], wanted, atol=0.51)


def test_test_subjects_are_recognised_by_the_secret_of_who_trained(model, tmp_path):
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    with pytest.raises(UserError, match="made with another secret; give it with --secret FILE"):
        build_test(model, tmp_path / "t", COUNT, secret=tmp_path / "secret")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_system_that_makes_no_images_from_noise_is_refused(tmp_path):
    kind = catalogue.load("wgan-vgg")
    denoiser = Model(kind(kind.Config.preset("small", variant="cnn-mse")))
    with pytest.raises(UserError, match="ct-denoising makes nothing from noise: it needs input"):
        build_test(denoiser, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("filter", ["gaussian", "perona-malik"])
def test_a_filter_smooths_both_kinds_and_is_written_down(model, built, tmp_path, filter):
    build_test(model, tmp_path / "smooth", COUNT, filter, seed=3)
    key = key_of(tmp_path / "smooth")
    assert key["filter"]["name"] == filter and len(key["filter"]) > 1
    smooth, plain = generated(tmp_path / "smooth"), generated(built)

    def roughness(image):
        return np.abs(np.diff(image.astype(float))).sum()

    assert smooth.keys() == plain.keys()
    assert all(roughness(smooth[name]) < roughness(plain[name]) for name in plain)


@given(st.integers(2, 60), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_tenth_comes_back_much_later(count, seed):
    names = [f"i{number}" for number in range(count)]
    order = running_order(names, seed)
    assert order == running_order(names, seed) and set(order) == set(names)
    again = [name for name in names if order.count(name) == 2]
    assert len(order) == count + len(again) and len(again) == min(round(count / 10), count // 3)
    for name in again:
        first = order.index(name)
        assert order.index(name, first + 1) - first >= count // 3


def test_nothing_is_written_where_there_are_too_few_images_or_something_is_in_the_way(model, built, tmp_path):
    for arguments, words in [
        ({"images": 100_000}, r"--images 100000: half .* has \d+ for testing; give at most \d+"),
        ({"images": 7}, "even number"),
        ({"raters": 0}, "--raters 0"),
    ]:
        with pytest.raises(UserError, match=words):
            build_test(model, tmp_path / "t", **arguments)
    before = key_of(built)
    with pytest.raises(UserError, match="not an empty folder"):
        build_test(model, built, COUNT)
    assert list(tmp_path.iterdir()) == [] and key_of(built) == before


def test_known_answers_have_known_scores(tmp_path):
    names = a_set(tmp_path)
    real = set(names[:10])
    perfect = answered(tmp_path, "rater-1", lambda name, again: (name in real) != again, sure=5)
    credulous = answered(tmp_path, "rater-2", lambda name, again: True, suffix="json")
    fooled = answered(tmp_path, "rater-3", lambda name, again: name in {*names[:8], *names[10:14]})
    scoring = score_answers(tmp_path, [perfect, credulous, fooled])
    first, second, third = scoring.raters
    assert (first.test.accuracy.value, first.area, first.steady.count, first.steady.total) == (1, 1, 0, 2)
    assert (second.test.accuracy.value, second.test.d_prime, second.area, second.steady.count) == (0.5, 0, 0.5, 2)
    assert (third.test.recognised.value, third.test.fooled.value) == (0.8, 0.4) and third.seconds == 1.5
    assert -1 < scoring.kappa < 1
    assert score_answers(tmp_path, [perfect]).kappa is None
    assert score_answers(tmp_path, [perfect, credulous]).kappa == 0


def rated(right, of):
    """Return the test of a rater with equal accuracy on real and generated images."""
    return TuringTest(Proportion(right, of), Proportion(of - right, of))


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (rated(45, 50), "^Tells real from generated images: 90 %"),
        (rated(5, 50), "^Tells the images apart, but takes real ones for generated"),
        (rated(15, 30), r"^Undecided: .* no evidence of realism; .* takes about 215 images"),
        (rated(500, 1000), r"^Shown to be within 10 points of guessing"),
        (rated(540, 1000), r"^Tells real .*, though shown to be within 10 points"),
        (TuringTest(Proportion(48, 50), Proportion(47, 50)), "94 % .* of the generated images, .* compared with 96 %"),
    ],
)
def test_the_verdict_in_words(test, words):
    assert re.search(words, verdict(test))


def test_files_that_are_not_complete_answers_of_the_set_are_refused(tmp_path):
    names = a_set(tmp_path)
    good = answered(tmp_path, "rater-1", lambda name, again: True)
    other = a_set(tmp_path / "other") and answered(tmp_path / "other", "rater-1", lambda name, again: True)
    other.write_text(other.read_text().replace("s0", "s1"))
    cases = [
        (other, "no answers to this set"),
        (answered(tmp_path, "rater-9", lambda name, again: True, asked=names), "'rater-9', who has no form"),
        (answered(tmp_path, "rater-2", lambda name, again: True, asked=names[:5]), "5 answers, not the 22"),
        (answered(tmp_path, "rater-3", lambda name, again: True, sure=9), "answer 1 is not"),
        (tmp_path / "none.csv", "none.csv: cannot be read"),
        (tmp_path / "key.json", "holds no answers"),
    ]
    for path, words in cases:
        with pytest.raises(UserError, match=words):
            read_answers(path, key_of(tmp_path))
    with pytest.raises(UserError, match="given twice"):
        score_answers(tmp_path, [good, good])
    with pytest.raises(UserError, match=r"no key\.json here"):
        score_answers(tmp_path / "nowhere", [good])
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        score_answers(tmp_path, [good])
