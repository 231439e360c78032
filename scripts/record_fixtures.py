"""Record two rounds of every system in tests/fixtures/rounds.json, or compare with what is recorded.

    python scripts/record_fixtures.py                        record all systems anew
    python scripts/record_fixtures.py dcgan pix2pix          record these only
    python scripts/record_fixtures.py --check [dcgan ...]    compare, print differences, exit with 1 where there are any
    python scripts/record_fixtures.py --check --exact        count rounding as a difference, too

A system is trained with its preset ``small`` on four patients of its phantom, on one thread, through
``ganatomy.training.run.train``. The loss terms of all turns, the trained weights, and the output of the trained system
are recorded: for an image of a fifth patient or, where the system generates from noise, for seed 0.

Equal versions on equal processors give bit-identical results. Otherwise rounding differs, and training amplifies it:
most systems stay close for two rounds. For those in DRIFTING only the first turn is then compared by value, and the
rest by names and shapes.
"""

import argparse
import hashlib
import json
import math
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy import catalogue, phantoms
from ganatomy.data.cases import DataConfig
from ganatomy.game import Turn
from ganatomy.images.image import Image
from ganatomy.inference.model import Model, load
from ganatomy.training.run import TrainConfig, train

FILE = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "rounds.json"
MODELS = (*(system.slug for system in catalogue.ready()), "brain-manifold-dcgan:small-denoiser")
"""Slugs of ready systems, and further presets as ``system:preset`` where they make another kind of model."""

SMALLER = {
    "batch_size": 2,
    "refinement_batch_size": 2,
    "patch": 32,
    "patch_shape": (12, 16, 16),
    "search_steps": 10,
    "steps": 10,
    "features": "substitute",
}
"""Options that make training faster and independent of downloaded weights, for systems that have them."""
SECTIONS: Mapping[str, Mapping[str, Any]] = {"denoising": {"scan": {"views": 60}}}
"""Section of the catalogue to further options that make its systems faster."""

BRAIN = {"size": 96, "slices": 5, "distance_mm": 6.0}
CUBE = {"size": 32, "slices": 12, "distance_mm": 5.0}
GIVEN: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "wolterink-ldct": ("thorax-ct", "image", {"size": 48, "slices": 12}),
    "wgan-vgg": ("thorax-ct", "image", {"size": 96}),
    "sagan-ct": ("thorax-ct", "image", {"size": 96}),
    "thin-slice-3dsrgan": ("brain-mr", "flair", CUBE),
    "srgan3d-brain": ("brain-mr", "t1", CUBE),
    "mdcsrn": ("brain-mr", "t1", CUBE),
    "pcle-cycle-sr": ("endomicroscopy", "image", {"size": 96}),
    "saliency-srgan": ("fundus", "image", {"size": 48}),
    "v-gan": ("fundus", "image", {"size": 64}),
    "vessel-dcgan-ssl": ("fundus", "image", {"size": 48}),
    "vess2ret": ("fundus", "mask:vessels", {"size": 64, "around_disc": 6.4}),
    "resunet-cgan-odoc": ("fundus", "image", {"size": 64, "around_disc": 4.5}),
    "pix2pix": ("brain-mr", "t1", BRAIN),
    "mgan": ("brain-mr", "t1", BRAIN),
    "cyclegan": ("brain-mr", "t1", BRAIN),
    "unpaired-mr2ct": ("head-mr-ct", "t1", CUBE),
    "staingan": ("two-laboratory-nuclei", "scanner_a", {"size": 64}),
    "virtual-he": ("unstained-tissue", "hyperspectral", {"size": 96}),
    "twod-microscopy": ("live-cells", "dic", {"size": 96}),
    "sst": ("two-laboratory-tumours", "scanner_b", {"size": 64}),
    "context-aware-gan": ("head-mr-ct", "t1", {"size": 24, "slices": 8, "distance_mm": 5.0}),
    "srgan": ("brain-mr", "t1", {**BRAIN, "size": 48}),
    "brain-manifold-dcgan:small-denoiser": ("brain-mr", "t1", BRAIN),
    "brain-adv-dilated": ("brain-structures-mr", "t1", {**BRAIN, "skull": True}),
    "anogan": ("retinal-oct", "oct", {"size": 96, "slices": 3}),
    "caae": ("brain-mr", "t2", BRAIN),
    "anovaegan": ("brain-mr", "flair", BRAIN),
    "spheroid-msan": ("spheroids", "image", {"size": 64}),
    "rib-cage-gan": ("fluorescent-cells", "image", {"size": 64}),
    "dan": ("stained-glands", "image", {"size": 64}),
    "va-gan": ("squares", "image", {"size": 96, "slices": 2}),
    "btrfly-net": ("spine-ct", "ct", {"size": 40}),
    "scgan-lv-coverage": ("short-axis-mr", "mr", {"size": 64}),
    "cnn-classifier": ("lung-nodule", "image", {"size": 64}),
    "dacal-landmarks": ("prostate-us", "us", {"size": 64}),
    "voxel-atlas-gan": ("beating-ventricle", "echo", {"size": 48}),
    "virtual-pet": ("liver-pet-ct", "ct", {"size": 64, "slices": 3}),
    "di2in-an": ("abdomen-ct", "ct", {"size": 48, "slices": 30, "distance_mm": 8.0}),
}
"""System to the phantom, image and size of its input, for systems with one input image."""
SEVERAL: Mapping[str, tuple[str, Sequence[str], Mapping[str, Any]]] = {
    "segan": ("brain-tumour-mr", ("flair", "t1", "t1c", "t2"), BRAIN),
    "unet": ("brain-tumour-mr", ("flair", "t1", "t1c", "t2"), BRAIN),
    "scan-cxr": ("chest-radiograph", ("radiograph",), {"size": 48}),
    "kohl-advseg": ("prostate-mr", ("t2w", "adc", "dwi"), {"size": 64, "slices": 3}),
    "udrea-lesion-cgan": ("skin-photograph", ("image",), {"size": 64}),
    "ssnet": ("splenomegaly-mr", ("t1",), CUBE),
    "polyphase-cyclegan": ("abdomen-ct", ("ct",), {"size": 48, "slices": 12, "distance_mm": 8.0}),
    "uda-lesion": ("two-scanners-mr", ("flair", "t2", "t1", "ge"), {"size": 48, "slices": 12}),
    "brats-cgan": ("brain-tumour-mr", ("flair", "t1", "t1c", "t2"), BRAIN),
    "brats-adv-patch": ("brain-tumour-mr", ("flair", "t1", "t1c", "t2"), BRAIN),
}
"""System to the phantom, images and size of its inputs, for systems with several input images."""
TRANSLATED: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, Any]]] = {
    "fila-sgan": ("fundus", {"vessels": "mask:vessels", "field": "mask:field"}, {"size": 64, "around_disc": 6.4}),
    "m-gan": ("chest-pet-ct", {"ct": "ct", "lesions": "labels:lesions"}, {"size": 64, "slices": 3}),
    "cardiac-cyclegan": (
        "chest-mr-ct",
        {"ct": "ct", "ct_myocardium": "mask:ct_myocardium"},
        {"size": 96, "slices": 3, "enhancement": 300.0},
    ),
    "sgan-mra": ("brain-mra", {"t1": "t1", "t2": "t2"}, {"size": 64, "slices": 3}),
    "sketcher-refiner": (
        "myelin-mr-pet",
        {name: name for name in ("mtr", "fa", "rd", "ad")},
        {"size": 24, "slices": 12},
    ),
}
"""System to the phantom, the part of each role and the size of its inputs, for translation with several inputs."""
POSED: Mapping[str, str] = {"scgan-us": "fetus-us"}
"""System to the phantom whose poses it makes frames for."""
SCANNED: Mapping[str, str] = {
    "deep-dealiasing": "brain-mr",
    "dagan": "brain-mr",
    "csmri-refinement": "brain-mr",
    "refinegan": "brain-mr",
    "gancs": "abdomen-mr",
    "kspace-gan": "brain-mr",
}
"""System to the phantom whose undersampled k-space is its input, for reconstruction."""
SIDE = 64
"""Rows and columns of that k-space."""
PATIENT = 101
"""Seed of a phantom patient that no system is trained on; its brain and its retina have lesions."""

PLACES = 8
"""Number of values of an array that are recorded one by one."""
GOLDEN = 0.6180339887498949
TOLERANCE = 2e-5
"""Tolerance of loss terms relative to their value, and of weights and outputs relative to their greatest value."""
ELSEWHERE = 2e-4
"""Tolerance with other versions of packages or on another processor."""
DRIFTING = frozenset(
    {
        "anogan",
        "caae",
        "cardiac-cyclegan",
        "cyclegan",
        "gancs",
        "mgan",
        "pgan",
        "pgan-skin",
        "refinegan",
        "sagan-ct",
        "srgan3d-brain",
        "staingan",
        "thin-slice-3dsrgan",
        "unpaired-mr2ct",
        "va-gan",
        "vae-gan",
        "wgan-vgg",
        "wolterink-ldct",
    }
)
"""Systems in which rounding changes numbers by about `ELSEWHERE` or more; all others stay below 3e-5.

Measured between AVX-512, AVX2 and no vector unit: ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA.
"""
SMALLEST = 0.05
"""Least scale of the relative error of a loss term, since small terms are mostly differences of larger numbers."""

Array = NDArray[Any]
Entry = dict[str, Any]


def record(model: str, folder: Path, cache: Path) -> Entry:
    """Train a system for two rounds and describe its losses, weights and outputs.

    Args:
        model: ``system`` or ``system:preset``.
        folder: folder for the run and for input files; must not hold a run.
        cache: folder of prepared cases.

    Returns:
        Plain values under ``made_with``, ``turns``, ``weights`` and ``outputs``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with turns() as heard:
            trained(model, folder / "run", cache)
        last = load(folder / "run", which="last", device="cpu")
        weights = {name: value for name, value in last.method.state_dict().items() if isinstance(value, torch.Tensor)}
        outputs = predicted(model, last, folder)
    finally:
        torch.set_num_threads(threads)
    return {
        "made_with": surroundings(),
        "turns": heard,
        "weights": described_weights({name: value.numpy() for name, value in weights.items()}),
        "outputs": {name: described(values) for name, values in outputs.items()},
    }


def trained(model: str, out: Path, cache: Path) -> None:
    """Train a system for two rounds, or for one round per stage where it has more than two stages."""
    slug, _, preset = model.partition(":")
    kind = catalogue.load(slug).Config
    smaller = {**SMALLER, **SECTIONS.get(catalogue.resolve(slug).section, {})}
    fitting = {name: value for name, value in smaller.items() if name in kind.model_fields}
    config = kind.preset(preset or ("small" if "small" in kind.presets else "paper"), **fitting)
    data = DataConfig(phantom_subjects=4, phantom_size=96, cache=cache)
    options = TrainConfig(
        rounds=2, seed=0, device="cpu", threads=1, log_every=1, validate_every=1000, validation_slices=1, diagnose=False
    )
    train(slug, out, config, data, options)


@contextmanager
def turns() -> Iterator[list[dict[str, float]]]:
    """Collect the loss terms of all turns taken meanwhile, named ``player/term``, with all digits of a float32.

    The files of a run are not used for this, since they hold six digits of the mean over the turns of a round.
    """
    heard: list[dict[str, float]] = []
    begin = Turn.__init__

    def listening(self: Turn, *given: Any, **terms: Any) -> None:
        begin(self, *given, **terms)
        heard.append({f"{self.player}/{name}": short(value.item()) for name, value in self.losses.items()})

    Turn.__init__ = listening  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        Turn.__init__ = begin  # type: ignore[method-assign]


def predicted(model: str, trained: Model, folder: Path) -> dict[str, Array]:
    """Return the outputs of a trained system by name.

    These are the middle slice of a restored image, or of label map and probabilities; map, score and healthy image of
    an anomaly detector; the probabilities of classes; or the sample of seed 0.
    """
    if model in SCANNED:
        return {"restored": middle(trained(kspace_file(SCANNED[model], folder)).main)}
    if model in SEVERAL:
        phantom, parts, size = SEVERAL[model]
        images = {part: given_image(phantom, part, size) for part in parts}
        return {name: middle(image) for name, image in trained(**images, probabilities=True).outputs.items()}
    if model in TRANSLATED:
        phantom, named, size = TRANSLATED[model]
        given = {role: given_image(phantom, part, size) for role, part in named.items()}
        return {name: middle(image) for name, image in trained(**given).outputs.items()}
    if model in POSED:
        poses = phantoms.part(phantoms.make(POSED[model], PATIENT, size=48, frames=1), "poses:pose")
        return {name: middle(image) for name, image in trained(pose=poses).outputs.items()}
    if model not in GIVEN:
        return {role: np.asarray(values)[None, :, 0] for role, values in trained(seed=0).arrays.items()}
    found = trained(given_image(*GIVEN[model]))
    if "locate" in trained.method.task.predictors:
        return {role: np.asarray(values)[None, :, 0] for role, values in found.arrays.items()}
    if "classify" in trained.method.task.predictors:
        return {"probabilities": np.array([[*found.main.probabilities.values()]], np.float32)}
    if catalogue.resolve(model.partition(":")[0]).section == "detection":
        score = np.array(found.facts["scores"], np.float32)
        return {"map": found["map"].numpy(), "score": score, "healthy": found["healthy"].numpy()}
    return {"restored": middle(found.main)}


def middle(image: Image) -> Array:
    """Return the middle slice of an image, (channels, 1, rows, columns)."""
    at = image.shape[0] // 2
    return image.slab(at, at + 1)


def given_image(phantom: str, part: str, size: Mapping[str, Any]) -> Image:
    """Return an image of patient `PATIENT`, with fewer columns than rows so that the axes differ."""
    drawn = phantoms.make(phantom, PATIENT, **size)
    image = phantoms.part(drawn, part)
    columns = image.shape[2]
    return Image.from_array(image.numpy()[..., columns // 16 : columns - columns // 48], image.spacing, image.unit)


def kspace_file(phantom: str, folder: Path) -> Path:
    """Write raw data of patient `PATIENT` with every third line and the centre of k-space, and return the file."""
    drawn = phantoms.make(phantom, PATIENT, size=SIDE, slices=3, distance_mm=8.0)
    values = phantoms.part(drawn, "t1").numpy()[0]
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(values, axes), norm="ortho"), axes)
    lines = np.arange(SIDE)
    measured = (lines % 3 == 1) | (abs(lines - SIDE // 2) < 6)
    path = folder / "kspace.npy"
    np.save(path, (kspace * measured).astype(np.complex64))
    return path


def surroundings() -> str:
    """Return versions and processor, which decide how numbers are rounded."""
    versions = [f"{name} {version(name).partition('+')[0]}" for name in ("torch", "numpy", "scipy", "scikit-image")]
    return ", ".join([*versions, f"{processor()} with {torch.backends.cpu.get_cpu_capability()}"])


def processor() -> str:
    """Return name, family and model of the processor, as far as the system reports them."""
    facts = Path("/proc/cpuinfo")
    if not facts.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in facts.read_text(encoding="utf-8").splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    return " ".join(found.get(name, "?") for name in ("model name", "cpu family", "model"))


def short(value: float) -> float:
    """Return a float32 rounded to the fewest digits that identify it."""
    return float(str(np.float32(value)))


def described(values: Array) -> Entry:
    """Describe an array as float32 by its shape, its digest, and numbers that show the size of a difference."""
    numbers = np.ascontiguousarray(values, np.float32)
    return {"shape": list(numbers.shape), "digest": digest(numbers), **summary(numbers)}


def summary(numbers: NDArray[np.float32]) -> Entry:
    """Return mean, SD, minimum, maximum, and the values at `PLACES` places spread over an array."""
    flat = numbers.ravel()
    places = [int(flat.size * ((place + 1) * GOLDEN % 1)) for place in range(PLACES)]
    exact = flat.astype(np.float64)
    found = {"mean": exact.mean(), "sd": exact.std(), "min": exact.min(), "max": exact.max()}
    return {name: short(value) for name, value in found.items()} | {"values": [short(flat[at]) for at in places]}


def described_weights(weights: Mapping[str, Array]) -> Entry:
    """Describe weights by digests with and without names, numbers of tensors and values, and a summary of all values.

    Tensors named ``fitted.…`` are left out, since they were fitted to cases and not trained.
    """
    names = sorted(name for name in weights if not name.startswith("fitted."))
    parts = {name: digest(weights[name]) for name in names}
    together = np.concatenate([weights[name].astype(np.float32).ravel() for name in names])
    return {
        "tensors": len(names),
        "count": int(together.size),
        "digest": hashlib.sha256("\n".join(f"{name} {parts[name]}" for name in names).encode()).hexdigest(),
        "nameless": hashlib.sha256("\n".join(sorted(parts.values())).encode()).hexdigest(),
        **summary(together),
    }


def digest(values: Array) -> str:
    """Return the SHA-256 of an array's type, shape and bytes."""
    facts = f"{values.dtype.str} {values.shape}".encode()
    return hashlib.sha256(facts + np.ascontiguousarray(values).tobytes()).hexdigest()


def differences(model: str, wanted: Entry, found: Entry) -> list[str]:
    """Return a line for everything that differs by more than rounding can explain."""
    first = later = TOLERANCE
    if wanted["made_with"] != found["made_with"]:
        first, later = ELSEWHERE, math.inf if model in DRIFTING else ELSEWHERE
    return [
        *_turns_that_differ(wanted["turns"], found["turns"], first, later),
        *_weights_that_differ(wanted["weights"], found["weights"], later),
        *_outputs_that_differ(wanted["outputs"], found["outputs"], later),
    ]


def _turns_that_differ(
    wanted: Sequence[Mapping[str, float]], found: Sequence[Mapping[str, float]], first: float, later: float
) -> list[str]:
    ours, theirs = ([list(turn) for turn in turns] for turns in (found, wanted))
    if ours != theirs:
        at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        where = "" if at is None else f"; turn {at} is {ours[at]}, was {theirs[at]}"
        return [f"{len(ours)} turns, were {len(theirs)}{where}"]
    return [
        f"turn {at}: {name} is {turn[name]}, was {value}"
        for at, (before, turn) in enumerate(zip(wanted, found, strict=True))
        for name, value in before.items()
        if not abs(turn[name] - value) <= (later if at else first) * max(abs(value), SMALLEST)
    ]


def _weights_that_differ(wanted: Entry, found: Entry, allowed: float) -> list[str]:
    if wanted["digest"] == found["digest"]:
        return []
    if wanted["nameless"] == found["nameless"]:
        return ["weights: other names; the values are the same"]
    counts = [f"weights: {found[name]} {name}, were {wanted[name]}" for name in ("tensors", "count")]
    if any(wanted[name] != found[name] for name in ("tensors", "count")):
        return counts
    return _numbers_that_differ("weights", wanted, found, allowed)


def _outputs_that_differ(wanted: Mapping[str, Entry], found: Mapping[str, Entry], allowed: float) -> list[str]:
    if list(wanted) != list(found):
        return [f"outputs: {', '.join(found)}, were {', '.join(wanted)}"]
    return [line for name in wanted for line in _output_differs(name, wanted[name], found[name], allowed)]


def _output_differs(name: str, wanted: Entry, found: Entry, allowed: float) -> list[str]:
    if wanted["digest"] == found["digest"]:
        return []
    if wanted["shape"] != found["shape"]:
        return [f"output {name}: shape {found['shape']}, was {wanted['shape']}"]
    return _numbers_that_differ(f"output {name}", wanted, found, allowed)


def _numbers_that_differ(name: str, wanted: Entry, found: Entry, allowed: float) -> list[str]:
    greatest = max(abs(wanted["min"]), abs(wanted["max"]), sys.float_info.min)
    pairs = [(what, wanted[what], found[what]) for what in ("mean", "sd", "min", "max")]
    pairs += [(f"value {at}", *both) for at, both in enumerate(zip(wanted["values"], found["values"], strict=True))]
    return [
        f"{name}: {what} is {ours}, was {theirs}"
        for what, theirs, ours in pairs
        if not abs(ours - theirs) <= allowed * greatest
    ]


def text(entries: Mapping[str, Entry]) -> str:
    """Return the fixtures as JSON, one line per turn and per array, with systems in alphabetical order."""
    systems = []
    for model, entry in sorted(entries.items()):
        lines = ",\n".join(f"   {json.dumps(turn)}" for turn in entry["turns"])
        arrays = ",\n".join(f'   "{name}": {json.dumps(one)}' for name, one in entry["outputs"].items())
        systems.append(
            f' "{model}": {{\n  "made_with": {json.dumps(entry["made_with"])},\n  "turns": [\n{lines}\n  ],\n'
            f'  "weights": {json.dumps(entry["weights"])},\n'
            f'  "outputs": {{\n{arrays}\n  }}\n }}'
        )
    return "{\n" + ",\n".join(systems) + "\n}\n"


def main() -> int:
    """Record or compare the fixtures, and return the exit code: 1 where something differs."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument(
        "models", nargs="*", metavar="SYSTEM[:PRESET]", help="systems to record or compare; none means all"
    )
    words.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    words.add_argument("--exact", action="store_true", help="with --check: count rounding as a difference, too")
    words.add_argument("--file", type=Path, default=FILE, help="file of the fixtures")
    asked = words.parse_args()
    if unknown := set(asked.models) - set(MODELS):
        words.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(MODELS)}")
    recorded = json.loads(asked.file.read_text(encoding="utf-8")) if asked.file.is_file() else {}
    kept = recorded if asked.models or asked.check else {}
    wrong = False
    with tempfile.TemporaryDirectory() as work:
        for model in asked.models or MODELS:
            began = time.perf_counter()
            folder = Path(work, model.replace(":", "-"))
            folder.mkdir()
            entry = record(model, folder, Path(work, "cases"))
            news = "recorded"
            if asked.check:
                lines = differences(model, recorded[model], entry) if model in recorded else ["not recorded"]
                same = model in recorded and recorded[model] == entry
                news = "equal" if same else "differs" if lines else "equal but for rounding"
                news = "\n  ".join([news, *lines])
                wrong |= bool(lines) or (asked.exact and not same)
            else:
                kept[model] = entry
            print(f"{model} ({time.perf_counter() - began:.1f} s): {news}", flush=True)
    if not asked.check:
        asked.file.parent.mkdir(parents=True, exist_ok=True)
        asked.file.write_text(text(kept), encoding="utf-8")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
