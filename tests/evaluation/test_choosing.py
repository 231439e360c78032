from pathlib import Path

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import choose_cases, recognising, run_facts, seen_cases, users_pseudonyms
from ganatomy.inference.model import Model, build, described
from ganatomy.inference.runfile import RunFile, Selection, Sides, TrainConfig

SMALL = catalogue.load("wgan-vgg").Config.preset("small", variant="cnn-mse", width=4, scan={"views": 60})
METHOD = build("wgan-vgg", SMALL.model_dump(mode="json"))
MINE = Pseudonyms(b"a secret of nobody else")
THEIRS = Pseudonyms(b"a secret of somebody else")


def run_of(data: DataConfig, train: str, test: str, **options: object) -> RunFile:
    """Make a run file on some data, with the subjects of each side given as letters."""
    sides = {side: tuple(MINE.subject(name) for name in names) for side, names in (("train", train), ("test", test))}
    return RunFile(
        system="wgan-vgg",
        revision=1,
        config=METHOD.config.model_dump(mode="json"),
        roles=described(METHOD),
        data=data.model_copy(update=options),
        training=TrainConfig(),
        rounds={"denoise": 1},
        split=Sides(**sides, val=(), secret=MINE.fingerprint),
        cases={},
        validation="slices held out of the training subjects",
        selection=Selection(score="rmse", better="lower"),
        provenance={},
        versions={"ganatomy": "0.2.0"},
    )


def folder(path: Path, subjects: str, splits: str = "") -> DataConfig:
    """Write two images of every subject and a manifest, with a column ``split`` where sides are given."""
    path.mkdir(exist_ok=True)
    lines = ["target,subject" + (",split" if splits else "")]
    for subject, side in zip(subjects, splits or " " * len(subjects), strict=True):
        for number in (1, 2):
            np.save(path / f"{subject}{number}.npy", np.zeros((1, 4, 5), np.float32))
            told = {"t": ",train", "v": ",val", "x": ",test"}.get(side, "")
            lines.append(f"{subject}{number}.npy,{subject}{told}")
    (path / "manifest.csv").write_text("\n".join(lines))
    return DataConfig(data=path, unit="HU")


def subjects(chosen) -> str:  # type: ignore[no-untyped-def]
    assert len(chosen.cases) == 2 * len({case.subject for case in chosen.cases})
    return "".join(sorted({case.subject for case in chosen.cases}))


def test_on_its_own_data_a_run_is_judged_on_the_subjects_it_recorded(tmp_path: Path) -> None:
    data = folder(tmp_path / "d", "abcde")
    facts = run_of(data, "ab", "cd")
    chosen = choose_cases(METHOD.task, facts, None, MINE)
    assert subjects(chosen) == "cd" and chosen.checked and not chosen.seen
    assert {case.split for case in chosen.cases} == {"test"}
    elsewhere = DataConfig(data=tmp_path / "." / "d", unit="HU")
    assert subjects(choose_cases(METHOD.task, facts, elsewhere, MINE)) == "cd", "the same folder under another name"


def test_subjects_may_be_named_by_name_or_pseudonym(tmp_path: Path) -> None:
    data = folder(tmp_path / "d", "abcde")
    facts = run_of(data, "ab", "cd")
    for name in ("e", MINE.subject("e"), MINE.subject("e")[:8]):
        named = data.model_copy(update={"test_subjects": (name, "a")})
        assert subjects(choose_cases(METHOD.task, facts, named, MINE)) == "e", "a was trained on"
        other = folder(tmp_path / "other", "abcde").model_copy(update={"test_subjects": (name,)})
        assert subjects(choose_cases(METHOD.task, facts, other, MINE)) == "e"
    with pytest.raises(UserError, match="--test-subjects x: not in"):
        choose_cases(METHOD.task, facts, data.model_copy(update={"test_subjects": ("x",)}), MINE)


def test_a_run_without_test_subjects_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="kept no subject for testing"):
        choose_cases(METHOD.task, run_of(folder(tmp_path / "d", "abc"), "abc", ""), None, MINE)


def test_on_other_data_the_rows_marked_test_are_judged_and_else_all(tmp_path: Path) -> None:
    facts = run_of(folder(tmp_path / "d", "abc"), "ab", "c")
    marked = folder(tmp_path / "marked", "klmn", "txvx")
    assert subjects(choose_cases(METHOD.task, facts, marked, MINE)) == "ln"
    assert subjects(choose_cases(METHOD.task, facts, folder(tmp_path / "all", "klm"), MINE)) == "klm"


def test_subjects_seen_in_training_are_left_out(tmp_path: Path) -> None:
    facts = run_of(folder(tmp_path / "d", "abc"), "ab", "c")
    chosen = choose_cases(METHOD.task, facts, folder(tmp_path / "other", "akc"), MINE)
    assert subjects(chosen) == "ck" and {case.subject for case in chosen.seen} == {"a"}
    labels = Labels([*chosen.cases, *chosen.seen], MINE)
    assert chosen.notes(labels) == [f"left out, seen in training: {MINE.subject('a')[:8]}"]
    with pytest.raises(UserError, match="every subject was in the run's training"):
        choose_cases(METHOD.task, facts, folder(tmp_path / "seen", "ab"), MINE)


@pytest.mark.parametrize("pseudonyms", [None, THEIRS])
def test_without_the_runs_secret_nothing_is_recognised(tmp_path: Path, pseudonyms: Pseudonyms | None) -> None:
    facts = run_of(folder(tmp_path / "d", "abc"), "ab", "c")
    chosen = choose_cases(METHOD.task, facts, folder(tmp_path / "other", "ak"), pseudonyms)
    assert subjects(chosen) == "ak" and not chosen.checked
    (note,) = chosen.notes(Labels(chosen.cases, MINE))
    assert "whether cases were seen in training cannot be checked" in note
    with pytest.raises(UserError, match=r"give it with --secret FILE, or a manifest with a column split"):
        choose_cases(METHOD.task, facts, None, pseudonyms)
    assert seen_cases(METHOD.task, facts, pseudonyms) == [] and recognising(pseudonyms, facts) is None


def test_a_manifest_with_sides_is_judged_without_the_runs_secret(tmp_path: Path) -> None:
    facts = run_of(folder(tmp_path / "d", "abc", "ttx"), "ab", "c", test_subjects=(MINE.subject("c"),))
    chosen = choose_cases(METHOD.task, facts, None, THEIRS)
    assert subjects(chosen) == "c" and not chosen.checked


def test_the_cases_of_training_are_found_again_where_they_are(tmp_path: Path) -> None:
    facts = run_of(folder(tmp_path / "d", "abc"), "ab", "c")
    assert sorted(case.name for case in seen_cases(METHOD.task, facts, MINE)) == ["a1", "a2", "b1", "b2"]
    (tmp_path / "d").rename(tmp_path / "gone")
    assert seen_cases(METHOD.task, facts, MINE) == []


def test_a_model_without_a_run_is_refused() -> None:
    with pytest.raises(UserError, match="comes from no run"):
        run_facts(Model(METHOD))


def test_no_place_for_a_secret_is_no_secret_but_a_missing_file_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANATOMY_CONFIG", str(tmp_path / "file"))
    assert users_pseudonyms(None) is None
    with pytest.raises(UserError, match=r"--secret .*missing: No such file"):
        users_pseudonyms(tmp_path / "missing")
