from pathlib import Path

import pytest

from ganatomy.errors import UserError
from ganatomy.reports.curves import read_metrics, training_curves


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_long_and_wide_tables_give_the_same_curves(tmp_path: Path) -> None:
    long = write(tmp_path / "l.csv", "round,name,value\n0,g/l1,3\n0,d/real,1\n1,g/l1,2\n1,validation/psnr,30\n")
    wide = write(tmp_path / "w.csv", "step,g/l1,d/real,validation/psnr\n0,3,1,\n1,2,nan,30\n")
    for curves in (read_metrics(long), read_metrics(wide)):
        assert {name: (list(s), list(v)) for name, (s, v) in curves.items()} == {
            "g/l1": ([0, 1], [3, 2]),
            "d/real": ([0], [1]),
            "validation/psnr": ([1], [30]),
        }


def test_training_curves_have_a_panel_per_player_and_score(tmp_path: Path) -> None:
    names = [
        "critic/real",
        "critic/gradient_penalty",
        "generator/l1",
        "critic/gradient norm",
        "critic/score of fake",
        "game/gradient norm of critic",
        "game/gradient norm of generator",
        "game/rotation",
        "validation/psnr",
        "seconds",
    ]
    rows = [",".join([str(i), *["1.5"] * len(names)]) for i in range(30)]
    path = write(tmp_path / "metrics.csv", "\n".join([",".join(["round", *names]), *rows]))
    shown = [axes for axes in training_curves(path).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "Critic: loss terms",
        "Generator: loss terms",
        "Critic: scores",
        "Gradient norms",
        "Gradient norms of the game",
        "Game: rotation",
        "Validation: psnr",
    ]
    legends = [[text.get_text() for text in shown[i].get_legend().get_texts()] for i in (0, 4)]
    assert legends == [["real", "gradient_penalty"], ["critic", "generator"]]
    assert shown[3].get_yscale() == shown[4].get_yscale() == "log"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "round,seconds\n1,2\n", "round,g/l1\n1,x,3,4\n1\n"])
def test_files_without_curves_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"m\.csv: "):
        training_curves(write(tmp_path / "m.csv", text))
    with pytest.raises(UserError, match="cannot be read"):
        training_curves(tmp_path / "absent.csv")
