"""A detector that remembers one healthy image, and cases with and without lesions for it."""

from dataclasses import replace

import numpy as np
import torch
from runs import make_run

from ganatomy import catalogue
from ganatomy.case import Case, Sample
from ganatomy.game import Player, Stage, Turn, sgd
from ganatomy.images.image import axial_affine
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector

SIZE = 16
FLESH, BONE, LESION = 400.0, 800.0, 600.0


def anatomy():
    """Soft tissue with a bright bone in air, (rows, columns)."""
    image = np.zeros((SIZE, SIZE), np.float32)
    image[2:14, 2:14] = FLESH
    image[4:6, 4:12] = BONE
    return image


class Template(Detector):
    """The published healthy image, doi:none."""

    class Config(AnomalyConfig):
        size: tuple[int, ...] = (SIZE, SIZE)  # rows and columns seen
        window: tuple[float, float] = (0.0, 1000.0)  # values mapped to the range of the networks
        gain: float = 1.0  # of maps; 0 makes all of them flat

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        healthy = torch.from_numpy(anatomy() / 500 - 1)
        self.template = torch.nn.Parameter(healthy)
        self.looked_at = 0

    def stages(self):
        def turns(batches):
            yield Turn("template", error=(next(batches)["image"] - self.template).square().mean())

        return [Stage("game", turns, [Player("template", (self,), sgd(0.0))], 2, self.streams(2))]

    def detect(self, image):
        self.looked_at += len(image)
        inside = self.template > -1
        healthy = torch.where(inside, self.template, image)
        map = self.config.gain * self.residual(image, healthy)
        return Detection(map, map.flatten(1).mean(1), healthy)


def patient(name, sick=False, slices=3, masked=True, seed=0, subject=None, split="test"):
    """Make a prepared case; its lesion, if any, fills 4 x 3 pixels of the middle slice and is darker than bone."""
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, 15, (slices, SIZE, SIZE)).astype(np.float32)
    healthy = np.where(anatomy() > 0, np.maximum(anatomy() + noise, 1), 0)[None].astype(np.float32)
    mask = np.zeros(healthy.shape, np.uint8)
    if sick:
        mask[:, slices // 2, 8:12, 5:8] = 1
    arrays = {"image": np.where(mask > 0, LESION, healthy).astype(np.float32), "healthy": healthy}
    if masked:
        arrays["mask"] = mask
    case = Case(name, subject or name, split, {}, "sick" if sick else "healthy")
    return Sample(case, arrays, dict.fromkeys(arrays, axial_affine((3.0, 1.0, 1.0))), Template().task.roles)


def stand_in(monkeypatch):
    """Replace the real system under whose name the toy's runs are saved by the toy."""
    system = replace(catalogue.resolve("caae"), module=f"{__name__}:{Template.__name__}")
    monkeypatch.setitem(catalogue._BY_NAME, "caae", system)


def save_run(folder, **config):
    """A run folder of the toy under the name of a real system, which `stand_in` makes load it."""
    config = Template.Config(**config).model_dump(mode="json")
    return make_run(folder, "caae", config, which=("best", "last"))
