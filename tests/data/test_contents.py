import os
from dataclasses import replace

import pytest

from ganatomy.case import Case
from ganatomy.data import contents as contents_module
from ganatomy.data.contents import changes_of, content_of, contents_of
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import Shortage
from ganatomy.images.files import Source
from ganatomy.images.image import RasterMeaning

MINE = Pseudonyms(b"0123456789abcdef")


def case(folder, name, text="content", **more):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.png"
    path.write_text(text)
    return Case(name, f"subject of {name}", "train", {"image": Source(name, name, "raster", (path,), **more)})


def test_content_depends_on_files_and_how_they_are_read_and_not_on_where_they_lie(tmp_path):
    one = case(tmp_path / "a", "x")
    digest = content_of(one, MINE, tmp_path / "cache")
    assert len(digest) == 16
    assert content_of(case(tmp_path / "b", "x"), MINE, tmp_path / "cache") == digest
    others = [
        case(tmp_path / "c", "x", "contend"),
        case(tmp_path / "d", "x", meaning=RasterMeaning(slope=2.0)),
        replace(one, label="sick"),
        replace(one, resample_to="image"),
    ]
    found = {content_of(other, MINE, tmp_path / "cache") for other in others}
    assert len(found) == len(others) and digest not in found
    labelled = replace(one, label="data")
    assert content_of(labelled, MINE, tmp_path / "cache", tmp_path / "data") == digest
    assert content_of(labelled, MINE, tmp_path / "cache", tmp_path / "other") != digest


def test_content_cannot_be_looked_up_without_the_secret(tmp_path):
    one = case(tmp_path / "a", "x")
    other = Pseudonyms(b"fedcba9876543210")
    assert content_of(one, MINE, tmp_path / "cache") != content_of(one, other, tmp_path / "cache")


def test_files_are_read_once_and_again_where_they_or_the_cache_have_changed(tmp_path, monkeypatch):
    read, true = [], contents_module._digest

    def digest(path, size, time):
        read.append(path.name)
        return true(path, size, time)

    monkeypatch.setattr(contents_module, "_digest", digest)
    one, cache = case(tmp_path / "a", "x"), tmp_path / "cache"
    first = content_of(one, MINE, cache)
    assert content_of(one, MINE, cache) == first and read == ["x.png"]
    (kept,) = (cache / "contents").iterdir()
    kept.write_bytes(b"\xff\xfe")
    assert content_of(one, MINE, cache) == first and read == ["x.png"] * 2
    os.utime(tmp_path / "a" / "x.png", (5, 5))
    assert content_of(one, MINE, cache) == first and len(read) == 3


def test_a_cache_that_cannot_be_written_and_a_file_that_is_gone_stop_nothing(tmp_path):
    one = case(tmp_path / "a", "x")
    (tmp_path / "cache").write_text("a file is in the way")
    assert content_of(one, MINE, tmp_path / "cache") == content_of(one, MINE, tmp_path / "other")
    (tmp_path / "a" / "x.png").unlink()
    assert content_of(one, MINE, tmp_path / "other") == MINE.content("cannot be read")


def test_a_shortage_is_no_property_of_a_case(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(contents_module, "_kept", fail)
    with pytest.raises(Shortage, match="too many open files"):
        content_of(case(tmp_path / "a", "x"), MINE, tmp_path)


def test_changes_are_told_by_name_and_lost_cases_by_label(tmp_path):
    cases = [case(tmp_path / "a", name) for name in ("kept", "lost", "changed")]

    def content(one):
        return content_of(one, MINE, tmp_path / "cache")

    recorded = contents_of(cases, MINE, content)
    assert list(recorded) == sorted(MINE.subject(one.subject) for one in cases)
    (tmp_path / "a" / "changed.png").write_text("other")
    now = [cases[0], cases[2], case(tmp_path / "a", "new")]
    found = changes_of(now, recorded, MINE, content)
    label = f"{MINE.subject('subject of lost')[:8]}-{MINE.case('lost')[:4]}"
    assert str(found) == f"added: new; missing: {label}; changed: changed"
    assert not any(changes_of(cases[:1], {one: own for one, own in recorded.items()
                                          if one == MINE.subject(cases[0].subject)}, MINE, content))  # fmt: skip
