"""Time a training round of segmentation, and the segmentation of whole volumes against MONAI's sliding windows.

*Training* is a round of ganatomy's trainer against the bare loop of `training_round.py`: the same turns, networks and
batch, the backward pass restricted to the player's parameters, nothing logged.

*Volumes* are from int16 in memory to the label map in memory, so both sides include the scale of the input and the
threshold at one half. MONAI runs the same network: 3D through ``sliding_window_inference`` with the same windows,
overlap and Gaussian blend, 2D through ``SliceInferer`` with whole slices. That both find about the same probabilities
is checked.

Peak memory is that of ``ganatomy apply`` in a process of its own, on files of 50 and 150 slices of 128 x 128.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apply_volume import peak
from monai.inferers import SliceInferer, sliding_window_inference
from numpy.typing import NDArray
from side_by_side import HEAD, compare, interleaved, machine
from torch import Tensor
from training_round import bare, ours
from untrained import make_run

from ganatomy import catalogue
from ganatomy.game import Batch, Method
from ganatomy.images.image import Image
from ganatomy.inference.model import load

WINDOW = {"t1": {"window": (-1000.0, 1000.0)}}
COMMON = {"inputs": ("t1",), "labels": "organ", "regions": {"organ": (1,)}, "roles": WINDOW, "spacing": None}
PATCH = (16, 64, 64)
DEEP = {**COMMON, "width": 8, "patch_shape": PATCH, "network_spacing": (1.0, 1.0, 1.0), "plan": "none"}
FLAT = {**COMMON, "size": None, "width": 16, "critic_width": 16, "patch": 96}
SAME = 0.03
"""Largest mean difference of the probabilities of both sides: MONAI bounds the weights of corners from below."""


def scan(slices: int, side: int) -> NDArray[np.int16]:
    """Return noise, (slices, side, side)."""
    return np.random.default_rng(0).normal(0, 300, (slices, side, side)).astype(np.int16)


def method_of(slug: str, preset: str, **values: Any) -> Method:
    """Return an untrained method, always with the same weights."""
    torch.manual_seed(0)
    cls = catalogue.load(slug)
    return cls.of(cls.Config.preset(preset, **values))


def batch_of(method: Method) -> Batch:
    """Return a batch of noise and random regions for the last stage of a method with a single stream."""
    draw = torch.Generator().manual_seed(1)
    (stream,) = method.stages()[-1].streams_in_order
    size = stream.patch[3 - method.dims :]
    found = {}
    for name in stream.roles or ():
        made = [method.task.roles[name].example(size, draw) for _ in range(stream.batch_size)]
        found[name] = torch.stack(made)
    return found


def training(repeats: int) -> None:
    """Print ratios of times of a round of ganatomy and of a bare loop."""
    plans = {
        "segan small 64², batch 4": ("segan", {"patch": 64, "batch_size": 4}),
        "di2in-an small 16 x 32 x 32, batch 2": ("di2in-an", {"size": (16, 32, 32), "patch_shape": (16, 32, 32)}),
    }
    for what, (slug, values) in plans.items():
        batch = batch_of(method_of(slug, "small", **values))
        cases = {
            name: loop(method_of(slug, "small", **values), batch) for name, loop in (("ours", ours), ("bare", bare))
        }
        print(compare(f"{what}, against the bare loop", interleaved(cases, repeats), "ours", "bare", 1.0), flush=True)


def through_monai(
    run: Path, values: NDArray[np.int16], infer: Callable[..., Tensor]
) -> Callable[[], NDArray[np.float32]]:
    """Return a function that finds probabilities with the network of a run and an inferer of MONAI."""
    method = load(run).method
    codec = method.task.codecs["t1"]

    @torch.no_grad()
    def whole() -> NDArray[np.float32]:
        encoded = codec.encode(torch.from_numpy(values).float())[None, None]
        return infer(encoded, method.segment)[0, 0].numpy()

    return whole


def volumes(folder: Path, repeats: int) -> None:
    """Print ratios of times of ganatomy and MONAI for whole volumes."""

    def windows(image: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        return sliding_window_inference(image, PATCH, 1, network, overlap=0.5, mode="gaussian")  # type: ignore[return-value]

    slices = SliceInferer(roi_size=(128, 128), sw_batch_size=1, spatial_dim=0)
    plans = [
        ("unet 24 x 96 x 96, width 8, windows 16 x 64 x 64", "unet", DEEP, scan(24, 96), windows, "sliding windows"),
        ("segan 12 slices of 128², width 16", "segan", FLAT, scan(12, 128), slices, "SliceInferer"),
    ]
    for what, slug, config, values, infer, name in plans:
        run = make_run(folder / f"{slug}-fast", slug, config)
        model, image = load(run), Image.from_array(values, unit="a.u.")
        theirs = through_monai(run, values, infer)
        cases: dict[str, Callable[[], Any]] = {
            "ours": lambda m=model, i=image: m(i)["organ"].numpy()[0],
            "theirs": lambda found=theirs: (found() >= 0.5).astype(np.uint8),
        }
        probabilities = model(image, probabilities=True)["probability_organ"].numpy()[0]
        differ = float(np.abs(probabilities - theirs()).mean())
        if differ > SAME:
            raise RuntimeError(f"{what}: the probabilities of ganatomy and MONAI differ by {differ:.3f}")
        times = interleaved(cases, repeats, warm=1)
        print(compare(f"{what}, against MONAI's {name}", times, "ours", "theirs", 1.0), flush=True)


def memory(folder: Path) -> None:
    """Print a table of peak memory."""
    print("\n| `ganatomy apply`, 128 x 128 | 50 slices | 150 slices | goal |\n|---|---|---|---|")
    for slug, config in (("unet", DEEP), ("segan", FLAT)):
        run = make_run(folder / slug, slug, config)
        peaks = [peak(run, folder / f"{slug}-{slices}.nii.gz", slices, 128) for slices in (50, 150)]
        met = "met" if max(peaks) < 2048 and peaks[1] < 1.1 * peaks[0] else "missed"
        print(f"| {slug} | {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB | under 2 GiB, equal: {met} |", flush=True)


def main(repeats: int = 20) -> None:
    """Print the tables of times and of memory."""
    torch.set_num_threads(1)
    print(f"Segmentation, {machine()}, median of {repeats} repeats taken in turns\n\n{HEAD}")
    training(repeats)
    with tempfile.TemporaryDirectory() as folder:
        volumes(Path(folder), repeats)
        memory(Path(folder))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
