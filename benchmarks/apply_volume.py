"""Time the application of a network to a volume against MONAI's sliding windows, and measure peak memory.

Times are from int16 HU in memory to float32 HU in memory, so both sides include the codec and neither reads a file.
MONAI runs the same network with the same border (mirrored, as wide as the network's margin): 2D networks through
``SliceInferer`` with whole slices, 3D networks through ``sliding_window_inference`` with the window size of ganatomy,
once without overlap, which leaves seams, and once with its default overlap of a quarter. Ganatomy leaves no seams.

Peak memory is that of ``ganatomy apply`` in a process of its own, on files of 50 and 150 slices of 512 x 512.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.inferers import SliceInferer, sliding_window_inference
from numpy.typing import NDArray
from side_by_side import HEAD, compare, interleaved, machine
from torch import Tensor
from untrained import make_run

from ganatomy.images.image import Image
from ganatomy.inference.model import load
from ganatomy.inference.tiling import TILES

PEAK = """
import resource, sys
from ganatomy.cli import main
code = main(["apply", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def scan(slices: int, side: int) -> NDArray[np.int16]:
    """Return noise in HU, (slices, side, side)."""
    return np.random.default_rng(0).normal(0, 300, (slices, side, side)).astype(np.int16)


def through_monai(run: Path, hu: NDArray[np.int16], infer: Callable[..., Any]) -> Callable[[], NDArray[np.float32]]:
    """Return a function that applies the network of a run with an inferer of MONAI, codec included."""
    method = load(run).method
    codec = method.task.codecs["input"]
    deep, high, wide = method.margin
    border = (wide, wide, high, high, deep, deep)[: 2 * method.dims]

    def network(block: Tensor) -> Tensor:
        return method.restore(torch.nn.functional.pad(block, border, mode="reflect"))

    @torch.no_grad()
    def whole() -> NDArray[np.float32]:
        encoded = codec.encode(torch.from_numpy(hu).float())[None, None]
        return codec.decode(infer(encoded, network))[0, 0].numpy()

    return whole


def speed(folder: Path, repeats: int) -> None:
    """Print ratios of times of ganatomy and MONAI."""
    flat = make_run(folder / "flat", "wgan-vgg", {"variant": "cnn-mse"})
    deep = make_run(folder / "deep", "wolterink-ldct", {"variant": "g-voxel", "widths": (8, 8, 8, 16, 16, 16)})

    def windows(overlap: float) -> Callable[..., Any]:
        return lambda x, network: sliding_window_inference(x, TILES[3], 1, network, overlap=overlap)

    slices = SliceInferer(roi_size=(512, 512), sw_batch_size=1, spatial_dim=0)
    plans = [
        ("wgan-vgg 512², width 32, 2 slices", flat, scan(2, 512), {"SliceInferer": slices}),
        (
            "wolterink-ldct 16 x 128 x 128, width 8 to 16",
            deep,
            scan(16, 128),
            {"windows without overlap": windows(0.0), "windows, overlap 0.25": windows(0.25)},
        ),
    ]
    for what, run, hu, peers in plans:
        model, image = load(run), Image.from_array(hu, unit="HU")
        cases: dict[str, Callable[[], object]] = {"ours": lambda m=model, i=image: m.restore(i).numpy()}
        cases |= {name: through_monai(run, hu, infer) for name, infer in peers.items()}
        if "SliceInferer" in peers:
            np.testing.assert_allclose(np.squeeze(cases["ours"]()), cases["SliceInferer"](), atol=1e-2)
        times = interleaved(cases, repeats, warm=1)
        for name in peers:
            print(compare(f"{what}, against MONAI's {name}", times, "ours", name, 1.0), flush=True)


def memory(folder: Path) -> None:
    """Print a table of peak memory."""
    print("\n| `ganatomy apply`, 512 x 512 | 50 slices | 150 slices | goal |\n|---|---|---|---|")
    for system, config, suffixes in (
        ("wgan-vgg", {"variant": "cnn-mse"}, (".nii", ".nii.gz")),
        ("wolterink-ldct", {"variant": "g-voxel", "widths": (2, 2, 2, 4, 4, 4)}, (".nii",)),
    ):
        run = make_run(folder / system, system, config)
        for suffix in suffixes:
            peaks = [peak(run, folder / f"{system}-{slices}{suffix}", slices) for slices in (50, 150)]
            met = "met" if max(peaks) < 2048 and peaks[1] < 1.1 * peaks[0] else "missed"
            print(
                f"| {system}, int16 {suffix} | {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB | under 2 GiB, equal: {met} |",
                flush=True,
            )


def peak(run: Path, path: Path, slices: int, side: int = 512) -> float:
    """Return the peak resident memory of ``ganatomy apply`` on a file of noise, in MiB."""
    nibabel.save(nibabel.Nifti1Image(scan(slices, side).transpose(2, 1, 0), np.eye(4)), path)
    out = path.with_name(f"out-{path.name}")
    command = [sys.executable, "-c", PEAK, str(run), str(path), str(out)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path.unlink()
    out.unlink()
    return int(printed.split()[-1]) / 1024


def main(repeats: int = 20) -> None:
    """Print the tables of times and of memory."""
    torch.set_num_threads(1)
    print(f"Applying to volumes, {machine()}, median of {repeats} repeats taken in turns\n\n{HEAD}")
    with tempfile.TemporaryDirectory() as folder:
        speed(Path(folder), repeats)
        memory(Path(folder))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
