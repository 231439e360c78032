"""The benchmark that compares rounds with the machine's rate of matrix multiplication."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import share_of_machine as benchmark


def test_operations_are_those_of_products_and_convolutions_in_both_directions():
    layer, image = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.zeros(2, 3, 8, 8, requires_grad=True)
    forward = 2 * (2 * 8 * 8) * 5 * 3 * 9
    assert benchmark.operations(lambda: layer(image)) == forward
    assert benchmark.operations(lambda: layer(image).sum().backward()) == 3 * forward
    assert benchmark.operations(benchmark.product(torch.float32)) == 2 * benchmark.SIDE**3


def test_parts_are_scaled_from_the_rounds_that_were_timed(tmp_path):
    rows = ["round,images,stage,measure,value"]
    for number in (10, 20):
        rows += [
            f"{number},0,game,seconds/data,0.01",
            f"{number},0,game,seconds/forward of generator,0.03",
            f"{number},0,game,seconds/backward of generator and critic,0.04",
            f"{number},0,game,seconds/step of generator,0.02",
            f"{number},0,game,critic/penalty,7",
        ]
    rows.append("20,0,game,seconds/validation,0.5")
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join(rows) + "\n")
    found = benchmark.parts_of(path, wall=4.0)
    wanted = {"data": 0.05, "forward": 0.15, "backward": 0.2, "step": 0.1, "validation": 0.125, "rest": 0.375}
    assert found == pytest.approx({**wanted, "kernels": 0.45})


def test_both_tables_are_printed(capsys):
    benchmark.main(
        ["--systems", "pix2pix", "--presets", "small", "--precisions", "32", "--repeats", "2", "--rounds", "10"]
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| pix2pix")]
    assert len(lines) == 2
    work, rate, share = (float(cell) for cell in lines[0].split("|")[4:7])
    assert work == pytest.approx(1.2, abs=0.1) and rate > 0 and share > 0
    assert sum(float(cell.strip("% ")) for cell in lines[1].split("|")[3:9]) == pytest.approx(100, abs=4)
