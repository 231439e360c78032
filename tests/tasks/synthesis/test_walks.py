"""Endpoints of latent walks, and the paths between them."""

from types import SimpleNamespace

import pytest
import torch

from ganatomy.tasks.synthesis import pictures


@pytest.mark.parametrize(("prior", "along"), [("normal", "slerp"), ("uniform", "lerp")])
@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_every_row_leads_from_a_sample_of_its_own_to_the_next(prior, along, classes, monkeypatch):
    seen, told = [], []

    def way(first, last, share):
        seen.append((first, last, share))
        return first + share * (last - first)

    def made(latents, label):
        told.append(label.tolist())
        return latents

    for name in ("slerp", "lerp"):
        monkeypatch.setattr(pictures, name, way if name == along else None)
    for name in ("sheet_figure", "sheet_of"):
        monkeypatch.setattr(pictures, name, lambda shown: shown)
    monkeypatch.setattr(pictures, "between", lambda images, task: images)
    monkeypatch.setattr(pictures, "_tiles", lambda images, task: images)
    numbers = torch.randn(10, 5)
    method = SimpleNamespace(prior=prior, draw=lambda places: numbers[list(places)])
    rows = pictures.walks(SimpleNamespace(method=method, from_latents=made), SimpleNamespace(classes=classes), rows=4)
    assert len(rows) == 4 and len(seen) == 4 * pictures.SEEN
    for row, images in enumerate(rows):
        assert torch.equal(images[0], numbers[2 * row]) and torch.allclose(images[-1], numbers[2 * row + 1])
        assert told[row] == [row % max(1, len(classes))] * pictures.SEEN
    shares = [share for *_, share in seen[: pictures.SEEN]]
    assert shares == pytest.approx([step / (pictures.SEEN - 1) for step in range(pictures.SEEN)])
