from pathlib import Path

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.training.arms import Arm, pinned, runs_of, share


def method(slug: str = "wgan-vgg", **values: object) -> Method:
    system = catalogue.load(slug)
    found: Method = system.of(system.Config.preset("small", **values))
    return found


def test_every_arm_is_trained_with_every_seed_and_fold() -> None:
    system = catalogue.resolve("wgan-vgg")
    arms = [Arm(name, system, system.cls.Config()) for name in ("a", "b")]
    assert [str(run.place) for run in runs_of(arms, range(2))] == ["a/seed0", "b/seed0", "a/seed1", "b/seed1"]
    folded = list(runs_of(arms, range(3, 4), 2))
    assert [str(run.place) for run in folded] == ["a/seed3/fold0", "b/seed3/fold0", "a/seed3/fold1", "b/seed3/fold1"]
    assert folded[-1].fold == Fold(number=1, of=2) and folded[-1].label == "b#3"


def test_every_seed_is_tested_on_the_same_subjects(tmp_path: Path) -> None:
    task = method(variant="cnn-mse").task
    mine = Pseudonyms.of_user()
    data = pinned(DataConfig(phantom_subjects=6), task, mine)
    assert data.test_subjects == ("phantom004", "phantom005")
    for seed in range(3):
        cases = discover(task, data, seed)
        assert tuple(case.subject for case in cases if case.split == "test") == data.test_subjects
    named = DataConfig(phantom_subjects=6, test_subjects=("phantom000",))
    assert pinned(named, task, mine) == named
    hidden = named.model_copy(update={"test_subjects": (mine.subject("phantom000")[:8],)})
    assert pinned(hidden, task, mine) == named, "a pseudonym stands for its subject"


def test_every_seed_is_tested_on_the_sites_that_are_held_out(tmp_path: Path) -> None:
    lines = ["subject,target,site"]
    for number, site in enumerate(("Nord", "Ost", "Nord")):
        write(tmp_path / f"{number}.nii.gz", Image.from_array(np.zeros((1, 9, 8), np.float32), unit="HU"))
        lines.append(f"p{number},{number}.nii.gz,{site}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    task, mine = method(variant="cnn-mse").task, Pseudonyms(b"0123456789abcdef")
    hidden = DataConfig(data=tmp_path / "list.csv", hold_out_site=(mine.site("Nord")[:8],))
    data = pinned(hidden, task, mine)
    assert data == hidden.model_copy(update={"hold_out_site": ("Nord",)}), "a pseudonym stands for its site"
    assert [case.split for case in discover(task, data, seed=3)] == ["test", "train", "test"]


def test_a_subject_is_needed_to_test_on(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 32, 32), np.float32))
    with pytest.raises(UserError, match="one subject only"):
        pinned(DataConfig(data=tmp_path, unit="HU"), method(variant="cnn-mse").task, Pseudonyms.of_user())


def test_arms_get_as_many_rounds_of_each_stage() -> None:
    first, other = method("sagan-ct"), method("sagan-ct", sharpness_weight=0, adversarial_weight=0)
    own = {stage.name: stage.rounds for stage in first.stages()}
    assert set(own) > {stage.name for stage in other.stages()}
    expected = sum(own[stage.name] for stage in other.stages())
    assert share(sum(own.values()), other, first) == expected
    assert share(None, other, first) is None
