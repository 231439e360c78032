import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.case import Sample
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.store import Store
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.evaluation.references import tune
from ganatomy.metrics.detection import auc, normalised_cross_correlation
from ganatomy.tasks.anomaly_detection import attribution
from ganatomy.tasks.anomaly_detection.attribution import AttributionJudge
from ganatomy.tasks.anomaly_detection.judge import NCC, PIXEL_AUC
from ganatomy.tasks.anomaly_detection.task import MASK

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["class activation", "gradients", "integrated gradients"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[AttributionJudge, list[Sample]]:
    """A judge that has learned from cases of squares, and two more of them."""
    system = catalogue.load("va-gan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ganatomy.tasks.anomaly_detection.task.SQUARES", 40)
        return learned(system(system.Config.preset("small", size=(32, 32))).task, tmp_path_factory.mktemp("c"), patch)


def learned(task, cache, patch) -> tuple[AttributionJudge, list[Sample]]:
    patch.setattr(attribution, "STEPS", 250)
    data = DataConfig(phantom_subjects=9, cache=cache, test_subjects=("phantom007", "phantom008"))
    cases = discover(task, data)
    store = Store(task, data.cache_folder)
    samples = {
        side: store.get_all([one for one in cases if (one.split == "test") == side])[0] for side in (True, False)
    }
    judge = judge_of(task)
    assert isinstance(judge, AttributionJudge) and judge.classical() == ()
    judge.learn(samples[False])
    return judge, list(samples[True])


def test_maps_of_a_classifier_are_judged_beside_every_run(prepared):
    judge, cases = prepared
    tuned = tune(judge, judge.classical(), [], cases)
    assert [entry.name for entry in tuned.entries] == NAMES
    assert "the best of 2 settings" in tuned.entries[1].about
    entries = judge.with_references(*tuned.entries)
    rows = [row for case in cases for row in judge.score_case(entries, case)] + judge.score_all(entries, cases, [])
    scores = Scores(rows)
    for name in NAMES:
        assert scores.mean(name, PIXEL_AUC) > 0.55, name
        assert 0.1 < scores.mean(name, NCC) < 1, name
    assert np.isfinite(scores.mean("class activation", "image auc"))
    assert "output" not in Judgement(entries, cases, scores).baselines and OUTPUT not in scores.methods


def test_the_classifier_learned_which_group_an_image_belongs_to(prepared):
    judge, cases = prepared
    entry = tune(judge, judge.classical()[:1], [], []).entries[0]
    found_scores = []
    for case in cases:
        found = entry.run(case)
        found_scores.append((found.score, np.full(len(found.score), MASK in case.arrays)))
        assert found.map.shape == found.healthy.shape == case.shape and found.map.min() >= 0
        if MASK in case.arrays:
            truth = np.asarray(case.arrays[MASK])[0] > 0
            assert np.mean([normalised_cross_correlation(a, b) for a, b in zip(found.map, truth, strict=True)]) > 0.2
    scores, truth = (np.concatenate(part) for part in zip(*found_scores, strict=True))
    assert auc(scores, truth) > 0.9 and 0 < truth.mean() < 1


def test_without_images_of_both_groups_there_is_no_classifier(prepared):
    judge, cases = prepared
    other = judge_of(judge.task)
    other.learn([case for case in cases if MASK in case.arrays])
    assert other.classical() == ()
