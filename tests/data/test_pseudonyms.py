import hmac
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.case import Case, Held, Sample
from ganatomy.data import folders
from ganatomy.data.pseudonyms import Labels, Pseudonyms, shortened
from ganatomy.errors import UserError

MINE = Pseudonyms(b"a secret of nobody else")


@pytest.fixture
def config(monkeypatch, tmp_path):
    """Folder of the user's secret, which does not exist yet."""
    monkeypatch.setenv("GANATOMY_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_a_pseudonym_is_a_keyed_digest():
    expected = hmac.new(MINE.secret, b"subject\0DOE^JANE", sha256).hexdigest()
    assert MINE.subject("DOE^JANE") == expected[:32]
    assert MINE.subject("DOE^JANE") != Pseudonyms(b"another secret, longer").subject("DOE^JANE")
    assert MINE.subject("x") != MINE.case("x") and MINE.fingerprint not in (MINE.subject(""), MINE.case(""))


@given(st.text())
def test_any_name_has_a_pseudonym_that_does_not_show_it(name):
    found = MINE.subject(name)
    assert len(found) == 32 and set(found) <= set("0123456789abcdef")
    assert found == MINE.subject(name)


def test_names_that_are_no_text_have_pseudonyms():
    assert MINE.subject(os.fsdecode(b"j\xf6rg")) != MINE.subject("jorg")


def test_the_secret_is_not_shown():
    assert "secret" not in repr(MINE)


def test_a_secret_is_made_once_and_belongs_to_the_user_alone(config):
    first = Pseudonyms.of_user()
    (made,) = config.iterdir()
    assert len(first.secret) == 64 and made.name == "secret"
    if os.name == "posix":
        assert stat.S_IMODE(made.stat().st_mode) == 0o600 and stat.S_IMODE(config.stat().st_mode) == 0o700
    assert Pseudonyms.of_user() == first and Pseudonyms.of_user().fingerprint == first.fingerprint
    made.unlink()
    assert Pseudonyms.of_user().fingerprint != first.fingerprint


def test_several_processes_at_once_agree_on_one_secret(config):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: Pseudonyms.of_user().secret, range(32)))
    assert len(found) == 1 and [path.name for path in config.iterdir()] == ["secret"]


def test_a_secret_may_be_shared_as_a_file(config, tmp_path):
    Pseudonyms.of_user()
    shared = tmp_path / "shared"
    shared.write_bytes((config / "secret").read_bytes() + b"\n")
    assert Pseudonyms.of_user(shared) == Pseudonyms.of_user()


@pytest.mark.parametrize("content", [None, b"", b"short\n"])
def test_a_secret_that_cannot_be_used_is_named(config, tmp_path, content):
    path = tmp_path / "given"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"given: (No such file|a secret has at least 16 bytes)") as told:
        Pseudonyms.of_user(path)
    assert "\n" not in str(told.value) and not config.exists()


def test_without_a_home_the_option_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("GANATOMY_CONFIG", raising=False)
    monkeypatch.delenv("GANATOMY_CACHE", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UserError, match="no home folder; give --secret FILE"):
        Pseudonyms.of_user()
    with pytest.raises(UserError, match="no home folder; give --cache FOLDER"):
        folders.cache_folder()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANATOMY_CONFIG", str(tmp_path / "file"))
    with pytest.raises(UserError, match="give another with --secret FILE"):
        Pseudonyms.of_user()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.config/ganatomy"),
        ("linux", {"XDG_CONFIG_HOME": "xdg"}, "xdg/ganatomy"),
        ("darwin", {"XDG_CONFIG_HOME": "xdg"}, "home/Library/Application Support/ganatomy"),
        ("win32", {"APPDATA": "roaming"}, "roaming/ganatomy"),
        ("win32", {}, "home/AppData/Roaming/ganatomy"),
        ("win32", {"GANATOMY_CONFIG": "mine"}, "mine"),
    ],
)
def test_every_system_has_a_place_for_configuration(monkeypatch, platform, variables, expected):
    for name in ("GANATOMY_CONFIG", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert folders.config_folder() == Path(expected)


def test_subjects_may_be_called_by_pseudonym():
    subjects = ["anna", "ben", "carl"]
    calls = ["ben", MINE.subject("anna"), MINE.subject("carl")[:8], "dora"]
    assert MINE.named(calls, subjects) == ("ben", "anna", "carl", "dora")
    assert MINE.named([MINE.subject("anna")[:7]], subjects) == (MINE.subject("anna")[:7],), "too short to be one"


def test_short_forms_stay_apart():
    full = ["aaaaaaaa11", "aaaaaaaa12", "bbbbbbbb00"]
    assert shortened(full) == {one: one for one in full}
    assert list(shortened(["0" * 32, "1" * 32]).values()) == ["0" * 8, "1" * 8]


FOLDER = Path("/data/anna kim/CT")


def cases():
    def held(name):
        return {"image": Held(None, (FOLDER / name,))}

    return [
        Case("anna kim_CT_1", "anna kim", "test", held("DOE-77.nii.gz")),
        Case("anna kim_CT_2", "anna kim", "test", held("DOE-78.nii.gz")),
        Case("ben", "ben", "train", held("ben.nii.gz")),
    ]


def test_labels_hold_no_name_and_agree_between_reports():
    labels = Labels(cases(), MINE)
    assert labels.subjects["anna kim"] == MINE.subject("anna kim")[:8]
    first, second = labels.cases["anna kim_CT_1"], labels.cases["anna kim_CT_2"]
    assert first != second and first.startswith(labels.subjects["anna kim"] + "-") and len(first) == 13
    alone = Labels(cases()[1:], MINE)
    assert alone.cases["anna kim_CT_2"] == second and alone.subjects["ben"] == labels.subjects["ben"]


def test_a_sample_is_renamed_and_nothing_else():
    case = cases()[0]
    sample = Sample(case, {"image": np.zeros((1, 2, 3, 4), np.float32)}, {"image": np.eye(4)}, {})
    labels = Labels(cases(), MINE)
    shown = labels.sample(sample)
    assert (shown.case.name, shown.case.subject) == (labels.cases[case.name], labels.subjects["anna kim"])
    assert shown.arrays is sample.arrays and replace(shown.case, name=case.name, subject=case.subject) == case


@pytest.mark.parametrize(
    "message",
    [
        "/data/anna kim/CT/DOE-77.nii.gz: slice 1 holds NaN",
        "DOE-77.nii.gz: slice 1 holds NaN",
        "/data/anna kim/CT is not evenly spaced, slice 1 holds NaN",
        "case anna kim_CT_1 of anna kim: slice 1 holds NaN",
        "'/somewhere/else/DOE/1.dcm' differs: slice 1 holds NaN",
        r"C:\\patients\\DOE: slice 1 holds NaN",
    ],
)
def test_messages_lose_names_and_paths_and_keep_the_reason(message):
    labels = Labels(cases(), MINE)
    told = labels.told(message, cases()[0])
    assert told.startswith(labels.cases["anna kim_CT_1"] + ": ") and told.endswith("slice 1 holds NaN")
    assert not any(part in told for part in ("anna", "DOE", "/", "\\"))


def test_places_lose_names():
    labels = Labels(cases(), MINE)
    assert labels.place("/data/ben/scan.nii") == f"/data/{labels.subjects['ben']}/scan.nii"
    assert labels.place("/data/bendix/scan.nii") == "/data/bendix/scan.nii"


def test_real_names_are_written_when_asked_for():
    labels = Labels(cases(), MINE, names=True)
    assert labels.cases["ben"] == labels.subjects["ben"] == "ben"
    assert labels.told("/data/ben: broken", cases()[2]) == "ben: /data/ben: broken"
    assert labels.place("/data/ben") == "/data/ben"
