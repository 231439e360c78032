from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from safetensors.torch import load_file
from samples import sample_of

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError
from ganatomy.inference.runfile import TrainConfig, read_run
from ganatomy.training.annotations import choose_annotated, learned_roles, without_annotations
from ganatomy.training.run import train
from ganatomy.training.series import train_once

SMALL = {"width": 2, "critic_width": 2, "patch": 32, "batch_size": 2}
DENOISER = {"variant": "cnn-mse", "width": 2, "batch_size": 2, "patch": 16, "scan": {"views": 20}}
OPTIONS = TrainConfig(rounds=2, threads=1, validation_slices=1, diagnose=False)


def small(slug, **values):
    cls = catalogue.load(slug)
    return cls.of(cls.Config.preset("small", **values))


def samples(annotated=7, bare=2):
    """Cases with a mask, two of them of the last subject, and cases without one."""
    plane = np.zeros((1, 2, 4, 4), np.float32)
    names = [*[f"p{number}" for number in range(annotated)], f"p{annotated - 1}"]
    with_mask = [
        sample_of({"flair": plane, "tumour": plane}, name=f"case{at}", subject=name) for at, name in enumerate(names)
    ]
    return [*with_mask, *[sample_of({"flair": plane}, name=f"bare{at}", subject=f"q{at}") for at in range(bare)]]


def test_what_is_learned_to_be_made_are_the_annotations():
    assert learned_roles(small("segan", **SMALL)) == ("tumour",)
    assert learned_roles(small("pix2pix")) == ("t2",)
    assert learned_roles(small("wgan-vgg", variant="cnn-mse")) == ("target",)


def test_smaller_shares_of_subjects_are_part_of_larger_ones():
    known = samples()
    chosen = [choose_annotated(known, ("tumour",), fraction, seed=3) for fraction in (0.01, 0.3, 0.7, 1.0)]
    assert [len(one) for one in chosen] == [1, 2, 5, 7]
    assert all(set(less) < set(more) for less, more in pairwise(chosen))
    assert chosen[-1] == [f"p{number}" for number in range(7)], "subjects without annotations do not count"
    assert choose_annotated(known[::-1], ("tumour",), 0.3, seed=3) == chosen[1]
    others = {tuple(choose_annotated(known, ("tumour",), 0.3, seed)) for seed in range(8)}
    assert len(others) > 2, "the seed decides"
    with pytest.raises(UserError, match="learns from no annotations"):
        choose_annotated(known, (), 0.5, 0)


def test_subjects_lose_their_annotations_and_keep_their_images():
    task, known = small("segan", inputs=("flair",), **SMALL).task, samples()
    known = [replace(one, case=replace(one.case, sources=one.arrays)) for one in known]
    left = without_annotations(task, known, ("tumour",), ["p2", "p6"])
    assert len(left) == len(known)
    assert [one.case.name for one in left if "tumour" in one.arrays] == ["case2", "case6", "case7"]
    assert all("flair" in one.arrays and set(one.case.sources) == set(one.arrays) for one in left)


def test_cases_of_which_nothing_would_be_left_are_left_out():
    task = small("wgan-vgg", variant="cnn-mse").task
    cases = discover(task, DataConfig(phantom_subjects=4, phantom_size=32))
    known = [sample_of({"target": np.zeros((1, 1, 4, 4))}, name=case.name, subject=case.subject) for case in cases]
    known = [replace(one, case=case) for one, case in zip(known, cases, strict=True)]
    assert [one.case.subject for one in without_annotations(task, known, ("target",), ["phantom002"])] == ["phantom002"]


@pytest.fixture(scope="module")
def data(cases):
    return DataConfig(phantom_subjects=7, phantom_size=32, test_subjects=("phantom005", "phantom006"), cache=cases)


@pytest.mark.parametrize(("slug", "config"), [("segan", SMALL), ("wgan-vgg", DENOISER)])
def test_a_run_says_whose_annotations_it_learned_from_and_goes_on_with_them(slug, config, data, tmp_path):
    chosen = catalogue.load(slug).Config.preset("small", **config)
    whole = train(slug, tmp_path / "whole", chosen, data, OPTIONS, label_fraction=0.5).facts
    assert whole.split.label_fraction == 0.5 and len(whole.split.annotated) == 2
    everybody = {Pseudonyms.of_user().subject(f"phantom{number:03d}") for number in range(5)}
    known = set(whole.split.train)
    assert set(whole.split.annotated) <= known
    if slug == "segan":
        assert len(known) == 4 and known | set(whole.split.val) == everybody, "images of the others stay"
    else:
        assert known == set(whole.split.annotated)
    half = OPTIONS.model_copy(update={"rounds": 1})
    train(slug, tmp_path / "run", chosen, data, half, label_fraction=0.5)
    train(slug, tmp_path / "run", data=data, options=OPTIONS, resume=True)
    assert read_run(tmp_path / "run").split == whole.split
    for name, values in load_file(tmp_path / "whole" / "weights-last.safetensors").items():
        assert np.array_equal(values, load_file(tmp_path / "run" / "weights-last.safetensors")[name]), name
    assert "those of 2 subjects" in (tmp_path / "run" / "card.md").read_text()
    with pytest.raises(UserError, match="holds a run with another label_fraction"):
        train_once(slug, tmp_path / "whole", chosen, data, OPTIONS, label_fraction=0.25)


def test_other_weights_come_of_fewer_annotations(data, tmp_path):
    chosen = catalogue.load("segan").Config.preset("small", **SMALL)
    for name, fraction in (("few", 0.2), ("all", None)):
        train("segan", tmp_path / name, chosen, data, OPTIONS, label_fraction=fraction)
    few, every = (load_file(tmp_path / name / "weights-last.safetensors") for name in ("few", "all"))
    assert any(not np.array_equal(few[name], values) for name, values in every.items())


def test_a_class_is_an_annotation_of_its_case():
    method = small("cnn-classifier")
    plane, label = np.zeros((1, 1, 8, 8), np.float32), np.zeros((1, 1, 1, 1), np.int16)
    known = [sample_of({"image": plane, "label": label}, name=f"p{at}", label="benign") for at in range(3)]
    known = [replace(one, case=replace(one.case, sources={"image": one.arrays["image"]})) for one in known]
    assert learned_roles(method) == ("label",)
    left = without_annotations(method.task, known, ("label",), [known[1].case.subject])
    assert [("label" in one.arrays, one.case.label) for one in left] == [(False, None), (True, "benign"), (False, None)]
