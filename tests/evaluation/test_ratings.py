import pytest

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import Row, Scores
from ganatomy.evaluation.ratings import OPINION, read_ratings

CASES = {"a": "patient1", "b": "patient1", "c": "patient2"}
METHODS = ["input", "output"]


def test_opinions_are_means_over_readers_and_compared_by_subject(tmp_path):
    lines = [f"{case},{method},{reader},{rating}" for case, method, reader, rating in (
        *[(case, "input", reader, 2) for case in CASES for reader in "xy"],
        *[("a", "output", "x", 3), ("a", "output", "y", 5), ("b", "output", "x", 4), ("c", "output", "y", 3)],
    )]  # fmt: skip
    (tmp_path / "ratings.csv").write_text("\n".join(["case,method,reader,rating", *lines]))
    rows = read_ratings(tmp_path / "ratings.csv", CASES, METHODS)
    assert Row("a", "patient1", (0, 0), "output", {"mean opinion": 4.0}) in rows and len(rows) == 6
    scores = Scores(rows)
    assert scores.by_subject("output", OPINION.name) == {"patient1": 4.0, "patient2": 3.0}
    compared = scores.compare("output", "input", OPINION)
    assert compared.difference.mean == pytest.approx(1.5) and compared.improved == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,method\na,input\n", "rating is missing"),
        ("case,method,rating\nz,input,3\n", "line 2: case 'z' is not judged; there are a, b, c"),
        ("case,method,rating\na,input,3\na,else,3\n", "line 3: method 'else' is not judged"),
        ("case,method,rating\na,input,good\n", "line 2: rating 'good' is not a number"),
        ("case,method,rating\na,input\n", "line 2: rating None is not a number"),
        ("case,method,rating\n", "no rating in it"),
    ],
)
def test_mistakes_are_named(tmp_path, text, told):
    (tmp_path / "ratings.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        read_ratings(tmp_path / "ratings.csv", CASES, METHODS)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv"):
        read_ratings(tmp_path / "none.csv", CASES, METHODS)
