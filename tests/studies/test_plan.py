"""Arms of studies, and what they share."""

import pytest
import yaml

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.inference.runfile import TrainConfig
from ganatomy.studies.plan import STUDY_FILE, StudyFile, arms_of, check_alike, differing, open_folder
from ganatomy.training.arms import shared_values


def arms(slug, against=(), fractions=(), rounds=None, **values):
    system = catalogue.resolve(slug)
    return arms_of(system, system.cls.Config.preset("small", **values), rounds, against, fractions, "small")


def test_other_systems_take_over_what_their_kind_of_task_shares():
    first, other, baseline = arms("pix2pix", ("cyclegan", "baseline"), target="flair", size=(32, 64), jitter=0)
    assert [arm.name for arm in (first, other, baseline)] == ["pix2pix", "cyclegan", "baseline"]
    assert (other.config.target, other.config.size, other.config.roles) == ("flair", (32, 64), first.config.roles)
    own = catalogue.load("cyclegan").Config.preset("small")
    assert other.config.learning_rate == own.learning_rate and other.config.batch_size == own.batch_size
    assert baseline.config.size == (32, 64) and baseline.system is first.system
    changed = {name for name, value in baseline.config if getattr(first.config, name) != value}
    assert changed == set(type(first.config).baseline)


def test_what_is_simulated_is_shared_where_configurations_have_nothing_else_in_common():
    scan = {"views": 40, "dose_fraction": 0.1}
    first, other = arms("wgan-vgg", ("wolterink-ldct",), scan=scan)
    assert other.config.scan == first.config.scan and other.config.scan.views == 40
    kind = type(other.config)
    assert set(shared_values(first.config, kind)) == {"scan"}
    assert first.method.task.preparation == other.method.task.preparation


def test_arms_are_trained_as_long_in_every_stage():
    first, other = arms("pix2pix", ("cyclegan",), rounds=10)
    stages = [sum(stage.rounds for stage in arm.method.stages()) for arm in (first, other)]
    assert first.rounds == 10 and other.rounds == max(1, round(10 * stages[1] / stages[0]))


def test_every_system_is_trained_with_every_share_most_annotations_first():
    found = arms("segan", ("baseline",), (0.25, 1.0, 0.5))
    names = ["segan-1", "baseline-1", "segan-0.5", "baseline-0.5", "segan-0.25", "baseline-0.25"]
    assert [arm.name for arm in found] == names
    assert [arm.label_fraction for arm in found] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def method(slug, **values):
    system = catalogue.load(slug)
    return system.of(system.Config.preset("small", **values))


def test_systems_that_cannot_be_judged_together_are_told_apart():
    with pytest.raises(UserError, match="--against gan: gan does synthesis, but pix2pix does translation"):
        arms("pix2pix", ("gan",))
    with pytest.raises(
        UserError, match=r"one works with the roles t1 \(image\), t2 \(image\), but two with t1 .*flair"
    ):
        check_alike(method("pix2pix"), method("pix2pix", target="flair"), "one", "two")
    with pytest.raises(UserError, match="one needs images that are prepared differently from those of two"):
        check_alike(method("pix2pix"), method("pix2pix", size=(32, 32)), "one", "two")
    check_alike(method("pix2pix"), method("cyclegan"), "one", "two")
    with pytest.raises(UserError, match="--against cyclegan: --preset no-such: unknown") as error:
        system = catalogue.resolve("pix2pix")
        arms_of(system, system.cls.Config(), None, ("cyclegan",), preset="no-such")
    assert "\n" not in str(error.value)


def asked(**changed):
    config = {"width": 3, "roles": {"t1": {"window": [0.0, 1.0]}}}
    usual = {"system": "segan", "config": config, "preset": "small", "data": DataConfig(), "training": TrainConfig()}
    return StudyFile(**{**usual, "seeds": 3, "secret": "s", **changed})


def test_a_study_file_is_read_as_it_was_written(tmp_path):
    wanted = asked(against=("baseline",), label_fraction=(0.1, 1.0))
    open_folder(tmp_path / "out", wanted)
    plain = yaml.safe_load((tmp_path / "out" / STUDY_FILE).read_text())
    assert plain["format"] == 1 and plain["against"] == ["baseline"] and "cache" not in plain["data"]
    before = (tmp_path / "out" / STUDY_FILE).stat().st_mtime_ns
    open_folder(tmp_path / "out", wanted)
    assert (tmp_path / "out" / STUDY_FILE).stat().st_mtime_ns == before
    (tmp_path / "empty").mkdir()
    open_folder(tmp_path / "empty", wanted)
    assert (tmp_path / "empty" / STUDY_FILE).is_file()


def test_what_differs_is_named_as_on_the_command_line():
    assert differing(asked(), asked()) == []
    assert differing(asked(), asked(label_fraction=(1.0,), seeds=2)) == ["label-fraction", "seeds"]
    assert differing(asked(), asked(config={"width": 4})) == ["width", "roles"]
    assert differing(asked(), asked(training=TrainConfig(rounds=3, threads=2))) == ["rounds"]
    assert differing(asked(), asked(data=DataConfig(phantom_subjects=4))) == ["phantom-subjects"]
    assert differing(asked(), asked(secret="other")) == ["secret"]
    assert differing(asked(), asked(kind="downstream")) == ["kind"]
    assert differing(asked(), asked(system="dan", seeds=9)) == ["system"]
