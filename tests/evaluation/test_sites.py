import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.case import Case
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.evaluation.judging import INPUT, OUTPUT, Judgement, Row, Score, Scores
from ganatomy.evaluation.sites import (
    add_sites,
    as_facts,
    differing,
    judged_sites,
    learned_sites,
    notes,
    with_sites,
)
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.runfile import TrainConfig
from ganatomy.reports.report import Report
from ganatomy.training.run import train

ERROR = Score("error", "lower")
JUDGE = SimpleNamespace(
    decisive=None,
    leading=("error",),
    scores=(ERROR,),
    resampled="subjects",
    named=lambda name: ERROR,
    called=lambda name: f"the {name}",
)
GAINS = {"nord": (3.0, 3.1, 2.9, 3.2), "ost": (-2.0, -2.1, -1.9), "west": (1.0,)}
"""Decrease of the error by the output, for the subjects of three sites."""


def judgement(gains=GAINS, without=()):
    """Return a judgement with a subject for each gain, of two slices each, and a score of all cases together."""
    rows, cases = [], []
    for site, values in gains.items():
        for number, gain in enumerate(values):
            name = f"{site}{number}"
            cases.append(SimpleNamespace(case=Case(name, name, "test", {}, site=None if site in without else site)))
            for slice_, noise in enumerate((0.01, -0.01)):
                rows.append(Row(name, name, (slice_, slice_ + 1), INPUT, {"error": 10.0}))
                rows.append(Row(name, name, (slice_, slice_ + 1), OUTPUT, {"error": 10.0 - gain + noise}))
            rows.append(Row(name, name, (0, 0), OUTPUT, {"error": 1000.0}))
    return Judgement((), cases, Scores(rows), INPUT)


def test_scores_are_means_over_the_subjects_of_each_site_without_those_of_all_cases_together():
    nord, ost, west = judged_sites(judgement(), {"nord"})
    assert [(site.name, site.subjects, site.trained) for site in (nord, ost, west)] == [
        ("nord", 4, True),
        ("ost", 3, False),
        ("west", 1, False),
    ]
    assert nord.scores.mean(OUTPUT, "error") == pytest.approx(10 - 3.05)
    assert ost.scores.interval(OUTPUT, "error").n == 3
    assert [site.outcome(INPUT, ERROR) for site in (nord, ost, west)] == ["better", "worse", "undecided"]


def test_cases_of_no_known_site_are_a_group_beside_others_and_nothing_alone():
    found = judged_sites(judgement(without=("west",)), None)
    assert [(site.name, site.trained) for site in found] == [("nord", None), ("ost", None), ("not known", None)]
    assert judged_sites(judgement(without=GAINS), set()) == []
    assert notes(JUDGE, INPUT, []) == []


def test_a_mean_over_all_does_not_hide_a_site_that_does_worse():
    sites = judged_sites(judgement(), {"nord"})
    words = "Sites differ: by error, the output against the input is better at nord; worse at ost; undecided at west."
    assert differing(JUDGE, INPUT, sites) == words
    assert with_sites(JUDGE, INPUT, sites, "It is better.", "better") == (f"It is better. {words}", "undecided")
    assert with_sites(JUDGE, INPUT, sites, "It is worse.", "worse") == (f"It is worse. {words}", "worse")
    agreeing = judged_sites(judgement({"nord": GAINS["nord"], "ost": (2.0, 2.1, 2.2)}), {"nord"})
    assert differing(JUDGE, INPUT, agreeing) == ""
    assert with_sites(JUDGE, INPUT, agreeing, "It is better.", "better") == ("It is better.", "better")
    half = judged_sites(judgement({"nord": GAINS["nord"], "ost": (2.0, -2.1, 0.1)}), {"nord"})
    assert with_sites(JUDGE, INPUT, half, "It is better.", "better") == ("It is better.", "better")


@pytest.mark.parametrize(
    ("learned", "told"),
    [
        (set(GAINS), "all sites that are judged had subjects in training: this says nothing about other scanners"),
        ({"bern"}, "no subject of 3 judged sites (nord, ost, west) was in training"),
        ({"ost"}, "sites with subjects in training: ost; without: nord, west"),
        (None, "whether the run was trained on the sites that are judged is not known"),
    ],
)
def test_what_sites_say_about_other_scanners_is_told(learned, told):
    first, second = notes(JUDGE, INPUT, judged_sites(judgement(), learned))
    assert first.startswith("Sites differ: ") and second.startswith(told)


def test_a_single_site_has_a_sentence_and_no_table():
    sites = judged_sites(judgement({"nord": GAINS["nord"]}), set())
    (told,) = notes(JUDGE, INPUT, sites)
    assert told.endswith("a single other site says little about further ones")
    page = Report("t")
    add_sites(page, JUDGE, INPUT, sites)
    assert "<table" not in page.html()


def test_the_table_has_the_output_and_the_reference_for_each_site():
    sites, page = judged_sites(judgement(), {"nord"}), Report("t")
    add_sites(page, JUDGE, INPUT, sites)
    text = page.html()
    assert text.count("<tr") == 1 + 2 * 3 and "Output: better" in text and "Output: worse" in text
    facts = as_facts(JUDGE, INPUT, sites)
    assert [fact["outcome"] for fact in facts] == ["better", "worse", "undecided"]
    assert facts[2]["cases"] == ["west0"] and facts[1]["scores"]["error"][INPUT]["mean"] == 10


def test_sites_of_training_are_recognised_with_the_secret_of_the_run_only():
    mine, other = Pseudonyms(b"0123456789abcdef"), Pseudonyms(b"another secret!!")
    labels = Labels([Case(site, site, "test", {}, site=site) for site in GAINS], mine)
    assert labels.sites["nord"] == mine.site("nord")[:4] and len(set(labels.sites.values())) == 3
    sides = {"train": (mine.site("nord"),), "val": (mine.site("west"),), "test": (mine.site("ost"),)}
    facts = SimpleNamespace(split=SimpleNamespace(secret=mine.fingerprint, sites=sides))
    assert learned_sites(facts, mine, labels) == {labels.sites["nord"], labels.sites["west"]}
    assert learned_sites(facts, other, labels) is learned_sites(facts, None, labels) is None
    facts.split.sites = {"test": sides["test"]}
    assert learned_sites(facts, mine, labels) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory, cases):
    """A run that was trained on two sites of three, and keeps the third and a subject of the first for testing."""
    folder = tmp_path_factory.mktemp("sites")
    lines = ["subject,target,split,center"]
    for number, site in enumerate(("Nordklinik", "Nordklinik", "Ostklinik", "Westklinik", "Westklinik")):
        values = np.random.default_rng(number).normal(40, 200, (2, 24, 20)).astype(np.float32)
        write(folder / f"{number}.nii.gz", Image.from_array(values, (3.0, 1.25, 1.25), unit="HU"))
        lines.append(f"subject{number},{number}.nii.gz,{'train' if number in (0, 2) else 'test'},{site}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    small = {"variant": "cnn-mse", "width": 2, "batch_size": 2, "patch": 16, "scan": {"views": 20}}
    config = catalogue.load("wgan-vgg").Config.preset("small", **small)
    options = TrainConfig(rounds=1, threads=1, validation_slices=1, diagnose=False)
    train("wgan-vgg", folder / "run", config, DataConfig(data=folder / "list.csv", cache=cases), options)
    return folder / "run"


def test_an_evaluation_has_scores_by_site_and_names_of_sites_on_the_terminal_only(run, cases, capsys):
    data = DataConfig(data=run.parent / "list.csv", cache=cases)
    result = evaluate(run, data, show=True)
    mine = Pseudonyms.of_user()
    nord, west = (mine.site(name)[:4] for name in ("Nordklinik", "Westklinik"))
    facts = json.loads((result.out / "metrics.json").read_text())
    assert {site["site"]: (site["subjects"], site["trained"]) for site in facts["sites"]} == {
        nord: (1, True),
        west: (2, False),
    }
    assert any(note == f"sites with subjects in training: {nord}; without: {west}" for note in facts["notes"])
    with (result.out / "cases.csv").open() as stream:
        assert sorted({(line["subject"], line["site"]) for line in csv.DictReader(stream)}) == sorted(
            [(mine.subject(f"subject{number}")[:8], site) for number, site in ((1, nord), (3, west), (4, west))]
        )
    assert "By site: means" in (result.out / "report.html").read_text()
    for path in result.out.iterdir():
        assert not any(name in path.read_text() for name in ("Nordklinik", "Ostklinik", "Westklinik")), path.name
    told = capsys.readouterr()
    assert f"{west} is Westklinik" in told.out + told.err


def test_real_names_of_sites_are_written_when_asked_for():
    labels = Labels([Case("a", "a", "test", {}, site="nord")], Pseudonyms(b"0123456789abcdef"), names=True)
    assert labels.sites == {"nord": "nord"}
