"""The test of all claims in a row: what is done already, in which order, and how it stops."""

import os
import signal
import sys
import threading
import time

import pytest

from ganatomy.claims import queue, results
from ganatomy.claims.code import claim_digest
from ganatomy.claims.decide import CLAIMS
from ganatomy.claims.queue import hours_left, plan, run_all
from ganatomy.claims.reproduction import arms_of
from ganatomy.claims.results import pages, read_page
from ganatomy.cli import main
from ganatomy.errors import UserError

PAGE = """# {slug}: is the claim reproduced?

**Claim.** {words}

**In part: 1 of 2 parts of the claim reproduced.**

| how it was run | |
|---|---|
| runs of every arm | {runs}, with the seeds 0 to 2 |
| rounds | {slug}: game 5; other: game 6 |
| hours of training | {hours} |
| code | `{code}`, commit 1234567890 |
"""


def write(path, slug, runs=3, hours=0.5, code=None):
    claim = CLAIMS[slug]
    code = code or claim_digest(claim, arms_of(claim, "small"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE.format(slug=slug, words=claim.words, runs=runs, hours=hours, code=code))


@pytest.fixture
def few(monkeypatch):
    """Only three claims, with costs that need no computation."""
    chosen = {slug: CLAIMS[slug] for slug in ("pix2pix", "gan", "segan")}
    flops = {"Pix2Pix": 9.0, "GAN": 1.0, "SegAN": 2.0, "UNet": 2.0}
    monkeypatch.setattr(queue, "CLAIMS", chosen)
    monkeypatch.setattr(results, "CLAIMS", chosen)
    monkeypatch.setattr(queue, "training_flops", lambda method, _: flops[type(method).__name__])
    return chosen


def test_the_cheapest_comes_first_and_results_count_where_they_are_whole_and_of_this_code(few, tmp_path):
    write(tmp_path / "gan" / "claim.md", "gan", hours=0.5)
    write(tmp_path / "segan" / "claim.md", "segan", runs=2)
    write(tmp_path / "pix2pix" / "claim.md", "pix2pix", code="0" * 16)
    found = plan(tmp_path, 3, "small")
    arms = {slug: len(claim.arms) for slug, claim in few.items()}
    costs = {"gan": 3 * 1.0 * arms["gan"], "segan": 3 * 2.0 * arms["segan"], "pix2pix": 3 * 9.0 * arms["pix2pix"]}
    assert [one.slug for one in found] == sorted(costs, key=costs.__getitem__)
    assert {one.slug: one.flops for one in found} == costs
    assert {one.slug for one in found if one.done} == {"gan"}
    assert hours_left(found) == pytest.approx(0.5 / costs["gan"] * (costs["segan"] + costs["pix2pix"]))
    assert {one.slug for one in plan(tmp_path, 2, "small") if one.done} == {"gan", "segan"}
    assert hours_left([one for one in found if not one.done]) is None


def test_pages_are_read_from_both_places(few, tmp_path, capsys):
    write(tmp_path / "claim-gan.md", "gan")
    write(tmp_path / "segan" / "claim.md", "segan", code="f" * 16)
    (tmp_path / "claim-pix2pix.md").write_text("# pix2pix\n\n**Claim.** Words.\n\n**Reproduced: all.**\n")
    found = {page.slug: page for page in pages(tmp_path)}
    assert found["gan"].runs == 3 and found["gan"].hours == 0.5 and found["gan"].arms == ["gan", "other"]
    assert found["gan"].verdict.startswith("In part") and found["gan"].claim == CLAIMS["gan"].words
    assert {slug: page.stale for slug, page in found.items()} == {"gan": False, "segan": True, "pix2pix": True}
    assert main(["reproduce", "--stale", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "segan/claim.md: the code has changed" in told and "claim-pix2pix.md: it does not name" in told
    assert "2 of 3 results are older" in told and "claim-gan" not in told


def test_what_is_no_page_of_results_is_refused(tmp_path):
    with pytest.raises(UserError, match="no results of claims there"):
        pages(tmp_path)
    (tmp_path / "claim-gan.md").write_text("# Something else\n")
    with pytest.raises(UserError, match="not a page of results"):
        read_page("gan", tmp_path / "claim-gan.md")


def test_several_run_at_a_time_and_the_status_of_each_is_told():
    told = []
    commands = {"a": ["--version"], "b": ["nonsense"], "c": ["--version"]}
    ended, stopped = run_all(commands, 2, lambda name, status: told.append((name, status)))
    assert ended == {"a": 0, "b": 2, "c": 0} == dict(told) and stopped is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals of other processes")
def test_a_signal_stops_the_queue_and_what_is_running(monkeypatch, tmp_path):
    """The child says that it is there, waits, and tells which signal it got."""
    child = tmp_path / "child.py"
    child.write_text(
        "import pathlib, signal, sys, time\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "def stop(number, _):\n    (place / 'got').write_text(str(number)); sys.exit(128 + number)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "(place / 'there').touch()\n"
        "time.sleep(60)\n"
    )
    real = queue.subprocess.Popen
    monkeypatch.setattr(queue.subprocess, "Popen", lambda _: real([sys.executable, str(child)]))

    def stop():
        while not (tmp_path / "there").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    before = signal.getsignal(signal.SIGTERM)
    ended, stopped = run_all({"first": [], "second": []}, 1, lambda *_: None)
    assert ended == {"first": 128 + signal.SIGTERM} and stopped == signal.SIGTERM, "the second one never began"
    assert (tmp_path / "got").read_text() == str(int(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("option", ["--jobs", "--seeds", "--rounds"])
def test_counts_are_at_least_one(option, capsys):
    assert main(["reproduce", "--all", option, "0"]) == 2
    assert f"{option} 0: at least one is needed" in capsys.readouterr().err


def test_all_claims_of_the_queue_are_tested_or_named(few, tmp_path, monkeypatch, capsys):
    write(tmp_path / "gan" / "claim.md", "gan")

    def run_all(commands, jobs, tell):
        assert list(commands) == ["segan", "pix2pix"] or list(commands) == ["pix2pix", "segan"]
        assert jobs == 2 and commands["segan"][:4] == ["reproduce", "segan", "--out", str(tmp_path / "segan")]
        assert commands["segan"][commands["segan"].index("--threads") + 1] == "1"
        assert all("--retrain" in command for command in commands.values()), "out of date runs are of no use"
        write(tmp_path / "segan" / "claim.md", "segan")
        tell("segan", 0)
        tell("pix2pix", 4)
        return {"segan": 0, "pix2pix": 4}, None

    monkeypatch.setattr("ganatomy.cli.reproduce.run_all", run_all)
    assert main(["reproduce", "--all", "--jobs", "2", "--out", str(tmp_path)]) == 3
    told = capsys.readouterr()
    assert "1 of 3 claims are done; about" in told.out and "segan: In part" in told.out
    assert "pix2pix: ended with exit status 4" in told.out and "not tested: pix2pix" in told.err
