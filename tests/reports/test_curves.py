from pathlib import Path

import pytest

from ganatomy.errors import UserError
from ganatomy.reports.curves import read_metrics, training_curves


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_table_gives_its_curves(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "round,name,value\n0,g/l1,3\n0,d/real,1\n1,g/l1,2\n1,d/real,nan\n1,noise,4\n")
    curves = {str(measure): (list(s), list(v)) for measure, (s, v) in read_metrics(path).items()}
    assert curves == {"g/l1": ([0, 1], [3, 2]), "d/real": ([0], [1])}


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
        "seconds/data",
        "seconds/validation",
        "seconds/backward of critic",
    ]
    rows = [f"{i},{name},1.5" for i in range(30) for name in names]
    path = write(tmp_path / "metrics.csv", "\n".join(["round,name,value", *rows]))
    shown = [axes for axes in training_curves(path).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "Critic: loss terms",
        "Generator: loss terms",
        "Critic: scores",
        "Gradient norms",
        "Gradient norms of the game",
        "Game: rotation",
        "Validation: psnr",
        "Seconds per round",
        "Seconds: validation",
    ]
    legends = [[text.get_text() for text in shown[i].get_legend().get_texts()] for i in (0, 4)]
    assert legends == [["real", "gradient_penalty"], ["critic", "generator"]]
    assert shown[3].get_yscale() == shown[4].get_yscale() == "log"


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "round,name,value\n1,seconds,2\n", "round,name,value\n1,g/l1,x,3,4\n1\n"]
)
def test_files_without_curves_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"m\.csv: "):
        training_curves(write(tmp_path / "m.csv", text))
    with pytest.raises(UserError, match="cannot be read"):
        training_curves(tmp_path / "absent.csv")
