"""Endpoints of latent walks."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made import Rods

from ganatomy.inference.predictor import predictor_of
from ganatomy.tasks.geometry import pictures


def test_every_row_leads_from_a_sample_of_its_own_to_the_next(monkeypatch):
    predictor = predictor_of(Rods(Rods.Config(condition="length", step_mm=4.0)).eval())
    seen = []

    def slerp(first, last, share):
        seen.append((first, last, share))
        return first + share * (last - first)

    monkeypatch.setattr(pictures, "slerp", slerp)
    pictures.walks(predictor, rows=2)
    drawn = predictor.method.draw(range(4))
    assert len(seen) == 2 * pictures.STEPS
    for place, (first, last, share) in enumerate(seen):
        row, step = divmod(place, pictures.STEPS)
        assert torch.equal(first, drawn[2 * row]) and torch.equal(last, drawn[2 * row + 1])
        assert share == pytest.approx(step / (pictures.STEPS - 1))
