"""Objects: how they are made from probabilities, numbered, written and judged."""

import nibabel
import numpy as np
import pytest
from levels import Levels, affine, case, volume
from PIL import Image as Pillow
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.evaluation.references import tune
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.metrics.objects import Overlaps
from ganatomy.reports.report import Report
from ganatomy.tasks.segmentation.instances import find_objects, object_table
from ganatomy.tasks.segmentation.objects import F1, GLAS_F1, HAUSDORFF, OBJECT_DICE, WATERSHED, pooled_scores
from ganatomy.tasks.segmentation.rules import ObjectRules

FLAT = (1, 30, 44)


def numbers_of_cells():
    """Return three discs, of which two overlap in the plane and are numbered apart, and a square with a hole."""
    rows, columns = np.mgrid[:30, :44]
    found = np.zeros((30, 44), np.uint16)
    for number, (row, column, radius) in ((40, (9, 10, 6)), (7, (9, 20, 5)), (3, (22, 12, 4))):
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        found[inside & ((found == 0) | (columns > 15))] = number
    found[18:27, 28:40] = 300
    return found[None]


CELLS = numbers_of_cells()


def cells(**values):
    options = {"inputs": ("t1",), "labels": "cells", "regions": {"inside": (1,)}, "instances": True}
    return Levels(**{**options, **values})


def same_partition(first, second):
    pairs = {(int(a), int(b)) for a, b in zip(first.reshape(-1), second.reshape(-1), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_components_join_touching_objects_and_the_watershed_divides_them():
    inside = CELLS > 0
    joined = find_objects(inside, ObjectRules())
    assert joined.max() == 3 and joined.dtype == np.uint32
    apart = find_objects(inside, ObjectRules(separate="watershed", apart=4))
    assert apart.max() == 4
    matched = Overlaps(apart, CELLS).matched_by_iou(0.8)
    assert matched.matched == 4
    assert find_objects(inside, ObjectRules(separate="watershed", apart=15)).max() == 3, "middles are 10 pixels apart"


def test_rules_remove_fill_and_enlarge():
    inside = CELLS > 0
    inside[0, 21:23, 32:34] = False
    inside[0, 0, 43] = True
    plain = find_objects(inside, ObjectRules(holes=False))
    assert plain[0, 21, 32] == 0 and plain.max() == 4
    assert find_objects(inside, ObjectRules())[0, 21, 32] > 0
    large = find_objects(inside, ObjectRules(smallest=2))
    assert large.max() == 3 and sorted(np.unique(large)) == [0, 1, 2, 3]
    assert find_objects(inside, ObjectRules(border=False)).max() == 3
    grown = find_objects(CELLS == 40, ObjectRules(grow=1))
    np.testing.assert_array_equal(grown[0] > 0, ndimage.binary_dilation(CELLS[0] == 40, np.ones((3, 3))))
    touching = find_objects(np.isin(CELLS, (40, 7)), ObjectRules(separate="watershed", grow=2))
    assert touching.max() == 2, "objects grow where there is room, and not into each other"


def test_objects_reach_across_slices():
    inside = np.zeros((3, 6, 9), bool)
    inside[0:2, 1:4, 1:4], inside[2, 1:4, 6:8] = True, True
    assert find_objects(inside, ObjectRules()).max() == 2
    assert find_objects(inside, ObjectRules(separate="watershed")).max() == 2


def test_a_prediction_numbers_objects_on_the_grid_of_its_source(tmp_path):
    write(tmp_path / "t1.nii.gz", volume(900.0 * (CELLS > 0)))
    found = Model(cells())(t1=tmp_path / "t1.nii.gz")
    numbers = found["cells"].numpy()[0]
    np.testing.assert_array_equal(numbers, find_objects(CELLS > 0, ObjectRules()))
    found["cells"].save(tmp_path / "out.nii.gz")
    written, source = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("out", "t1"))
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    rows = found.tables["objects"]
    assert [row["object"] for row in rows] == [1, 2, 3]
    assert rows[0]["voxels"] == int((numbers == 1).sum()) and rows[0]["mm2"] == pytest.approx(1.5 * rows[0]["voxels"])
    assert rows[2]["row"] == 22 and rows[2]["column"] == pytest.approx(33.5)


def test_options_replace_the_rules_of_training():
    model, image = Model(cells(objects=ObjectRules(smallest=100))), volume(900.0 * (CELLS > 0))
    few, many = model(image), model(image, smallest=1, separate="watershed", apart=4, probabilities=True)
    assert few["cells"].numpy().max() == 2 and many["cells"].numpy().max() == 4
    assert few.facts["smallest"] == 100 and many.facts["separate"] == "watershed"
    assert many["probability_inside"].numpy().max() == pytest.approx(0.9)
    with pytest.raises(UserError, match="largest: not an input of this system"):
        model(image, largest=("inside",))


def test_only_the_inside_of_objects_makes_objects_where_edges_are_a_class():
    method = cells(
        inputs=("t1", "t2", "flair"), classes=True, judged={"cell": (1, 2)},
        regions={"background": (0,), "interior": (1,), "edge": (2,)}, objects=ObjectRules(grow=1),
    )  # fmt: skip
    inside = method.task.target.indicators(CELLS[None])
    images = {name: volume(1000.0 * one) for name, one in zip(("t1", "t2", "flair"), inside, strict=True)}
    numbers = Model(method)(**images)["cells"].numpy()[0]
    assert numbers.max() == 4 and Overlaps(numbers, CELLS).matched_by_iou(0.9).matched == 4


def test_networks_learn_regions_and_validation_counts_objects():
    method = cells()
    sample = case(method.task, t1=900.0 * (CELLS > 0), cells=CELLS)
    assert np.asarray(sample.arrays["cells"]).max() == 300
    joined = find_objects(CELLS > 0, ObjectRules())
    scores = method.task.scores({"cells": joined}, {"cells": CELLS}, sample.spacing)
    assert scores == {"object f1": pytest.approx(6 / 7), "dice": 1.0}
    assert method.task.selection == "object f1" and set(method.task.directions) == {"object f1", "dice"}
    assert not method.check_samples([sample])
    empty = case(method.task, t1=900.0 * (CELLS > 0), cells=np.zeros(FLAT, np.uint16))
    with pytest.raises(UserError, match="no training case has a voxel of inside in cells"):
        method.check_samples([empty])


def test_what_objects_cannot_be_is_refused():
    with pytest.raises(
        UserError, match="--instances: objects are judged as one region, not as a, b; add --judged cells=1,2"
    ):
        cells(regions={"a": (1,), "b": (2,)}).build_task()
    with pytest.raises(UserError, match="--regions: objects have label 1 inside and 2 at their edge, not 3"):
        cells(regions={"a": (3,)}).build_task()
    with pytest.raises(UserError, match="--centred: patches are centred on labels, which --instances has not"):
        cells().annotated(2, (1, 8, 8), centred=0.5)


@pytest.fixture(scope="module")
def judged():
    """Judge two cases: touching cells that the output joins, and cells that it finds all."""
    method = cells()
    apart = np.where(CELLS == 7, 0, CELLS)
    cases = [
        case(method.task, "a", t1=900.0 * (CELLS > 0), cells=CELLS),
        case(method.task, "b", t1=700.0 * (apart > 0) + 100, cells=apart),
    ]
    judge = judge_of(method.task)
    judge.learn(cases)
    tuned = tune(judge, judge.classical(), judge.references()[0], cases)
    entries = judge.with_references(judge.entry(Model(method), OUTPUT), *tuned.entries)
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores(rows), WATERSHED)


def test_objects_are_scored_beside_their_pixels_and_against_otsu_and_watershed(judged):
    judge, judgement = judged
    output, basins, threshold = (
        {row.case: row.scores for row in judgement.scores.rows if row.method == name}
        for name in (OUTPUT, WATERSHED, "threshold")
    )
    assert output["a"]["dice"] == 1 and output["a"][F1] == pytest.approx(6 / 7) and output["b"][F1] == 1
    assert threshold["a"][F1] == output["a"][F1], "thresholds have the components of their mask as objects"
    assert basins["a"][F1] == 1 and basins["b"][F1] == 1
    want = Overlaps(find_objects(CELLS > 0, ObjectRules()), CELLS)
    assert output["a"][OBJECT_DICE] == want.dice().mean and output["a"][HAUSDORFF] == want.hausdorff().mean
    assert judge.leading[0] == F1 and "settings on validation cases" in judgement.entries[-1].about
    words, outcome = judge.verdict(judgement)
    assert (
        outcome in ("worse", "undecided")
        and "F1 of objects with the annotation is 0.929 for the output and 1.000 for otsu" in words
    )


@pytest.mark.parametrize("dark", [False, True])
def test_the_side_of_otsus_threshold_is_learned_from_the_training_cases(dark):
    method = cells()
    image = 900.0 * (CELLS > 0) + 50
    one = case(method.task, t1=1000 - image if dark else image, cells=CELLS)
    judge = judge_of(method.task)
    judge.learn([one])
    (otsu,) = judge.classical()
    assert ("dark" if dark else "bright") in otsu.about and len(otsu.settings) == 4
    assert Overlaps(otsu.settings[0][1].numbers(one), CELLS).matched_by_iou().matched == 4


def test_scores_of_all_objects_together_are_those_of_one_large_image(judged):
    _, judgement = judged
    rows = [row.scores for row in judgement.scores.rows if row.method == OUTPUT]
    apart = np.where(CELLS == 7, 0, CELLS)
    found = [find_objects(one > 0, ObjectRules()) for one in (CELLS, apart)]
    found[1] = np.where(found[1] > 0, found[1] + 10, 0)
    gap = np.zeros((1, 30, 100), np.uint16)
    whole = Overlaps(
        np.concatenate([found[0], gap, found[1]], 2), np.concatenate([CELLS, gap, 1000 * (apart > 0) + apart], 2)
    )
    pooled = pooled_scores(rows)
    assert pooled[F1] == whole.matched_by_iou().f1 and pooled[GLAS_F1] == whole.matched_by_cover().f1
    assert pooled[OBJECT_DICE] == pytest.approx(whole.dice().mean)
    assert pooled[HAUSDORFF] == pytest.approx(whole.hausdorff().mean)


def test_the_report_shows_objects_apart_and_pools_them(judged):
    judge, judgement = judged
    report = Report("cells")
    judge.illustrate(report, judgement)
    assert "All objects together" in report.html() and "holes filled" in judge.measured()["Objects"]
    basins, joined = (next(one for one in judgement.entries if one.name == name) for name in (WATERSHED, OUTPUT))
    drawn = [ndimage.label(judge.drawn(one, judgement.cases[0], 0, 1)[0, 0])[1] for one in (basins, joined)]
    assert drawn == [4, 3], "outlines of touching objects do not merge"
    kept = judge.images(judgement.entries, judgement.cases[0])
    assert kept["truth"].numpy().max() == 300 and kept[OUTPUT].numpy().max() == 3


def test_objects_outside_of_the_field_of_view_count_neither_as_found_nor_as_true():
    method = cells(field_of_view="field")
    field = np.zeros(FLAT, np.uint8)
    field[:, :, :26] = 1
    one = case(method.task, t1=900.0 * (CELLS == 300), cells=CELLS, field=field)
    judge = judge_of(method.task)
    row = judge.score_case([judge.entry(Model(method), OUTPUT)], one)[0]
    assert row.scores["found objects"] == 0 and row.scores["true objects"] == 3


def test_many_objects_of_a_picture_are_written_as_a_picture(tmp_path):
    picture = np.zeros((70, 90), np.uint8)
    picture[1::4, 1::4] = 250
    write(tmp_path / "t1.png", Image.from_array(picture))
    method = cells(roles={"t1": {"window": (0.0, 255.0), "unit": None}})
    found = Model(method)(t1=tmp_path / "t1.png")
    method.task.target.write(tmp_path / "cells.png", found["cells"])
    written = np.asarray(Pillow.open(tmp_path / "cells.png"))
    assert written.max() == 18 * 23 and same_partition(written, ndimage.label(picture)[0])


def test_the_table_of_a_volume_has_sizes_in_cubic_millimetres():
    numbers = np.zeros((2, 3, 4), np.uint32)
    numbers[:, 1, 1:3], numbers[0, 2, 3] = 2, 5
    rows = object_table(Image(numbers[None], affine()))
    assert [(row["object"], row["voxels"], row["mm3"]) for row in rows] == [(2, 4, 18.0), (5, 1, 4.5)]
    assert (rows[0]["slice"], rows[0]["row"], rows[0]["column"]) == (0.5, 1.0, 1.5)


def test_an_instance_map_is_written_with_a_table_of_its_objects(tmp_path):
    method = cells().inference_mode()
    write(tmp_path / "scan.nii.gz", volume(1000.0 * (CELLS > 0)))
    predictor = Model(method).predictor()
    prediction = predictor.predict(predictor.sample_of({"t1": find(tmp_path / "scan.nii.gz")[0].open()}))
    assert set(prediction.tables) == set(predictor.tables) == {"objects"}
    assert len(prediction.tables["objects"]) == find_objects(CELLS > 0, method.config.objects).max()
