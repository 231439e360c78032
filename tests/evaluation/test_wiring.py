"""Whether nobody is judged whom the run has seen, be it to learn or to choose weights."""

from pathlib import Path

import numpy as np
import pytest

from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import choose_cases
from ganatomy.inference.model import build, described
from ganatomy.inference.runfile import RunFile, Selection, Sides, TrainConfig

METHOD = build("wgan-vgg", {"variant": "cnn-mse", "width": 4, "scan": {"views": 60}})
MINE = Pseudonyms(b"a secret of nobody else")


def run_of(data: DataConfig, train: str, val: str, test: str) -> RunFile:
    """A run with the subjects named by these letters."""
    sides = {side: tuple(map(MINE.subject, names)) for side, names in (("train", train), ("val", val), ("test", test))}
    return RunFile(
        system="wgan-vgg",
        revision=1,
        config=METHOD.config.model_dump(mode="json"),
        roles=described(METHOD),
        data=data,
        training=TrainConfig(),
        rounds={"denoise": 1},
        split=Sides(**sides, secret=MINE.fingerprint),
        cases={},
        validation="other subjects",
        selection=Selection(score="rmse", better="lower"),
        provenance={},
        versions={"ganatomy": "0"},
    )


def folder(path: Path, subjects: str) -> DataConfig:
    path.mkdir()
    for subject in subjects:
        np.save(path / f"{subject}.npy", np.zeros((1, 4, 5), np.float32))
    (path / "manifest.csv").write_text("\n".join(["target,subject", *(f"{one}.npy,{one}" for one in subjects)]))
    return DataConfig(data=path, unit="HU")


def names(cases) -> str:  # type: ignore[no-untyped-def]
    return "".join(sorted(case.subject for case in cases))


def test_subjects_that_chose_the_weights_are_not_judged(tmp_path: Path) -> None:
    data = folder(tmp_path / "own", "abcdef")
    facts = run_of(data, "ab", "cd", "e")
    assert names(choose_cases(METHOD.task, facts, None, MINE).cases) == "e"
    asked = data.model_copy(update={"test_subjects": tuple("acdef")})
    assert names(choose_cases(METHOD.task, facts, asked, MINE).cases) == "ef"
    chosen = choose_cases(METHOD.task, facts, folder(tmp_path / "other", "adx"), MINE)
    assert names(chosen.cases) == "x" and names(chosen.seen) == "ad"
    with pytest.raises(UserError, match="every subject was in the run's training"):
        choose_cases(METHOD.task, facts, folder(tmp_path / "seen", "bc"), MINE)
