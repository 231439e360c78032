"""A detector that knows one healthy image by heart, and patients with and without lesions for it."""

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from ganatomy.case import Case, Sample
from ganatomy.game import Player, Stage, Turn, sgd
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector

SIZE = 16
FLESH, BONE, LESION = 400.0, 800.0, 600.0


def anatomy():
    """Flesh with a bright bone in air, (rows, columns)."""
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

    def stages(self):
        def turns(batches):
            yield Turn("template", error=(next(batches)["image"] - self.template).square().mean())

        return [Stage("game", turns, [Player("template", (self,), sgd(0.0))], 2, self.sampling(2))]

    def detect(self, image):
        inside = self.template > -1
        healthy = torch.where(inside, self.template, image)
        map = self.config.gain * self.residual(image, healthy)
        return Detection(map, map.flatten(1).mean(1), healthy)


def patient(name, sick=False, slices=3, masked=True, seed=0, subject=None, split="test"):
    """A prepared case, whose lesion, if any, fills 4 x 3 pixels of the middle slice and is darker than bone."""
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, 15, (slices, SIZE, SIZE)).astype(np.float32)
    healthy = np.where(anatomy() > 0, np.maximum(anatomy() + noise, 1), 0)[None].astype(np.float32)
    mask = np.zeros_like(healthy)
    if sick:
        mask[:, slices // 2, 8:12, 5:8] = 1
    arrays = {"image": np.where(mask > 0, LESION, healthy).astype(np.float32), "healthy": healthy}
    if masked:
        arrays["mask"] = mask
    case = Case(name, subject or name, split, {}, "sick" if sick else "healthy")
    return Sample(case, arrays, (3.0, 1.0, 1.0))


def save_run(folder, **config):
    """A run folder of the toy under the name of a real system, which must be patched to load it."""
    method = Template(Template.Config(**config))
    folder.mkdir(parents=True)
    facts = {"system": "caae", "config": method.config.model_dump(mode="json"), "provenance": {}}
    (folder / "run.yaml").write_text(yaml.safe_dump(facts))
    tensors = {name: value.detach().contiguous() for name, value in method.state_dict().items()}
    for number, name in enumerate(("weights.safetensors", "weights-last.safetensors")):
        save_file(tensors, folder / name, metadata={"system": "caae", "round": str(number)})
    return folder
