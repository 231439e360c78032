import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.evaluation.illustrations import caption, examples
from ganatomy.evaluation.judging import Judgement, Scores


def judgement(names):
    cases = [
        Sample(Case(name, name, "test", {}), {"input": np.zeros((1, 7, 2, 3))}, {"input": np.eye(4)}, {})
        for name in names
    ]
    return Judgement([], cases, Scores([]))


@pytest.mark.parametrize(
    ("ranked", "order", "expected"),
    [
        ({"p": 3, "q": 1, "r": 2, "s": 9}, ("Median", "Worst", "Best"), {"Median": "r", "Worst": "q", "Best": "s"}),
        ({"p": 3, "q": 1, "r": 2, "s": 9}, ("Best", "Worst"), {"Best": "s", "Worst": "q"}),
        ({"p": 3, "q": 1}, ("Worst", "Median", "Best"), {"Worst": "q", "Best": "p"}),
        ({"p": 3, "q": 1}, ("Median", "Worst", "Best"), {"Median": "q", "Best": "p"}),
        ({"p": 3}, ("Median", "Worst", "Best"), {"Only": "p"}),
        ({}, ("Median", "Worst", "Best"), {}),
    ],
)
def test_every_case_is_shown_once_under_its_first_label(ranked, order, expected):
    found = examples(judgement("pqrs"), ranked, order)
    assert [(label, one.case.name) for label, one in found.items()] == list(expected.items())


def test_a_caption_says_which_case_and_slice():
    whole = judgement(["p", "q"])
    assert caption("Worst", whole.cases[0], whole, "PSNR") == "Worst of 2 cases by PSNR: p, slice 4 of 7."
    assert caption("Only", whole.cases[1], whole, "PSNR", plane=0) == "The only case: q, slice 1 of 7."
