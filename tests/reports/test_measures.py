import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.reports.measures import GAIN_ALONE, GRADIENT_NORM, ROTATION, Measure

words = st.text("abc xyz01+-_", min_size=1).filter(lambda text: text.strip() == text and "/" not in text)


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (Measure("loss", "cycle a", "generators"), "generators/cycle a"),
        (Measure("score", "real", "critic"), "critic/score of real"),
        (Measure("gradient norm", GRADIENT_NORM, "critic"), "critic/gradient norm"),
        (Measure("game", GRADIENT_NORM, "critic"), "game/gradient norm of critic"),
        (Measure("game", GAIN_ALONE, "critic"), "game/gain alone of critic"),
        (ROTATION, "game/rotation"),
        (Measure("validation", "share of vessels found"), "validation/share of vessels found"),
        (Measure("seconds", "data"), "seconds/data"),
        (Measure("seconds", "forward", "critic and generator"), "seconds/forward of critic and generator"),
    ],
)
def test_measures_are_written_and_read(measure, text):
    assert str(measure) == text and Measure.parse(text) == measure


@given(player=words, term=words)
def test_every_loss_comes_back(player, term):
    measure = Measure("loss", term, player)
    if player not in ("validation", "game", "seconds") and term != GRADIENT_NORM:
        assert Measure.parse(str(measure)) == measure


@pytest.mark.parametrize("text", ["", "loss", "/loss", "generator/"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="player/term"):
        Measure.parse(text)
