import pytest

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Row, Scores, blocks, judge_of
from ganatomy.images.codecs import Window
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising


def test_long_cases_are_scored_in_blocks_of_bounded_size() -> None:
    assert blocks(19) == [(0, 8), (8, 16), (16, 19)]


def test_one_subject_counts_once_however_many_cases_it_has() -> None:
    rows = [Row(f"a{i}", "a", (0, 1), OUTPUT, {"x": 1.0}) for i in range(9)]
    rows.append(Row("b", "b", (0, 1), OUTPUT, {"x": 3.0}))
    interval = Scores(rows).interval(OUTPUT, "x")
    assert interval is not None and interval.mean == 2 and interval.n == 2


def test_options_that_the_judge_does_not_have_are_named() -> None:
    task = CTDenoising(LowDoseScan(views=60), Window(low=-1000, high=1000), "rmse", 2)
    with pytest.raises(UserError, match="--some-features"):
        judge_of(task, {"some_features": "vgg"})
