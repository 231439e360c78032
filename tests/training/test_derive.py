"""Stages that learn from roles derived with the networks of earlier stages."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import sample_of
from torch import nn

from ganatomy import catalogue
from ganatomy.data.batches import PatchDataset, Range
from ganatomy.errors import Shortage, UserError
from ganatomy.game import Derivation, MethodConfig, Player, Stage, Stream, Tiling, Turn
from ganatomy.images.codecs import Window
from ganatomy.inference.runfile import read_run
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising
from ganatomy.training import derive as deriving
from ganatomy.training.loop import Stopped

TASK = CTDenoising(LowDoseScan(views=60), Window(low=-1000, high=1000, to=(0, 1)), "rmse", 2)


class Cascade(catalogue.load("wgan-vgg").__mro__[2]):
    """Two convolutions in a row: the second sees the first one's output of the whole slice."""

    class Config(MethodConfig):
        pass

    played: list = []  # noqa: RUF012

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        self.first, self.second = nn.Conv2d(1, 1, 3), nn.Conv2d(2, 1, 1)

    def build_task(self):
        return TASK

    @property
    def tiling(self):
        return Tiling(margin=(0, 1, 1))

    def stages(self):
        sgd = lambda parameters: torch.optim.SGD(parameters, 0.05)  # noqa: E731
        one, two = Player("one", (self.first,), sgd, ema_halflife=4.0), Player("two", (self.second,), sgd)
        sampling = Stream("samples", None, 2, (1, 16, 16), self.tiling.margin)
        later = Stream("samples", None, 2, (1, 16, 16), self.tiling.margin, flips=(1, 2))
        guess = {"guess": lambda batch: self.first(batch["input"]) - 0 * batch["target"]}
        return [
            Stage("begin", self.begin, [one], 3, sampling),
            Stage("refine", self.refine, [one, two], 5, later, derive=guess),
        ]

    def begin(self, batches):
        batch = next(batches)
        yield Turn("one", error=(self.first(batch["input"]) - batch["target"]).square().mean())

    def refine(self, batches):
        batch = next(batches)
        self.played.append(batch["guess"])
        centre = batch["input"][..., 1:-1, 1:-1]
        yield Turn("two", error=(self.second(torch.cat([centre, batch["guess"]], 1)) - batch["target"]).abs().mean())
        yield Turn("one", error=(self.first(batch["input"]) - batch["target"]).abs().mean())

    def restore(self, input):
        return self.first(input)


@pytest.fixture
def cascade(monkeypatch, tiny):
    """Trains the toy as if it were in the catalogue."""
    system = catalogue.System("cascade", None, "", "denoising", "", "CT", "2D", "", None, f"{__name__}:Cascade")
    monkeypatch.setitem(catalogue._BY_NAME, "cascade", system)
    Cascade.played = []
    return lambda out, **more: tiny("cascade", out, preset="paper", **more)


def arrays(out):
    return {path.relative_to(out).as_posix(): np.load(path) for path in sorted(out.rglob("*.npy"))}


def played():
    """Return the derived patches that were learned from, without those of the rounds that are begun on shapes alone."""
    return [guess for guess in Cascade.played if type(guess) is torch.Tensor]


def test_what_a_stage_derives_becomes_part_of_its_samples(cascade, tmp_path):
    cascade(tmp_path / "run", rounds=8)
    found = arrays(tmp_path / "run" / "derived")
    subjects = {name[:8] for name in read_run(tmp_path / "run").split.train}
    assert {name.removeprefix("refine/")[:8] for name in found} == subjects and len(found) == 3, "folders are labels"
    assert all(name.endswith("/guess.npy") and value.shape == (1, 8, 96, 96) for name, value in found.items())
    every = np.concatenate([value.ravel() for value in found.values()])
    assert played()
    assert all(np.isin(guess.numpy(), every).all() and guess.shape == (2, 1, 16, 16) for guess in played())
    assert not list((tmp_path / "run" / "derived").rglob(".*"))


def test_what_was_derived_is_what_the_average_of_the_first_stage_predicts(cascade, tmp_path, monkeypatch):
    seen = []
    true = deriving.with_derived_roles

    def spy(method, stage, case, folder, subjects):
        made = true(method, stage, case, folder, subjects)
        values = torch.from_numpy(
            np.pad(TASK.codecs["input"].encode(case.arrays["input"][:, 2:3]), [(0, 0)] * 2 + [(1, 1)] * 2, "reflect")
        )
        with torch.no_grad():
            seen.append(float((method.first(values).numpy() - made.arrays["guess"][:, 2:3]).__abs__().max()))
        return made

    monkeypatch.setattr("ganatomy.training.run.with_derived_roles", spy)
    cascade(tmp_path / "run", rounds=8)
    assert len(seen) == 3 and max(seen) < 1e-6


@pytest.mark.parametrize("number", [3, 5])
def test_a_resumed_stage_finds_what_it_began_with(cascade, tmp_path, monkeypatch, number):
    cascade(tmp_path / "whole", rounds=8)
    from ganatomy.training.monitor import Monitor

    heard = Monitor.turn

    def turn(self, progress, turn):
        heard(self, progress, turn)
        if progress.round + 1 == number:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Monitor, "turn", turn)
        cascade(tmp_path / "run", rounds=8)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npy")}
    cascade(tmp_path / "run", rounds=None, resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before and bool(before) == (number > 3)
    one, other = (torch.load(tmp_path / n / "checkpoints" / "last.ckpt", weights_only=True) for n in ("whole", "run"))
    assert all(torch.equal(value, other["method"][name]) for name, value in one["method"].items())
    assert all(
        np.array_equal(value, arrays(tmp_path / "run")[name]) for name, value in arrays(tmp_path / "whole").items()
    )


@pytest.fixture
def volumes():
    """Three cases of 3 slices; every voxel holds the number of its case."""
    arrays = {n: np.full((1, 3, 5, 7), n, np.float32) for n in range(3)}
    return [sample_of({"input": values}, name=f"case{n}", subject=f"s{n}") for n, values in arrays.items()]


def stage(derive):
    return Stage("later", None, [], 1, Stream("samples", ("input",), 1, (1, 5, 7)), derive=derive)


def test_a_case_is_derived_by_the_network_of_its_own_fold(volumes, tmp_path):
    asked = []

    def predict(batch, fold):
        asked.append((float(batch["input"].max()), fold))
        return batch["input"] + 10 * fold

    made = [
        deriving.with_derived_roles(
            Cascade(), stage({"guess": Derivation(predict, folds=2)}), case, tmp_path, ["s0", "s1", "s2"]
        )
        for case in volumes
    ]
    assert [float(case.arrays["guess"].max()) for case in made] == [0, 11, 2]
    assert set(asked) == {(0, 0), (1, 1), (2, 0)}


def test_a_stream_leaves_out_the_fold_that_its_network_will_be_asked_about(volumes):
    ranges = [Range(case, 0, 3) for case in volumes]
    for fold, wanted in ((0, {1}), (1, {0, 2})):
        data = PatchDataset(ranges, Stream("s", ("input",), 1, (1, 5, 7), fold=(fold, 2)), (), 2, [0])
        assert {int(data[number]["input"].max()) for number in range(30)} == wanted
    with pytest.raises(UserError, match="4 folds need 4 training subjects; there are 3"):
        PatchDataset(ranges, Stream("s", ("input",), 1, (1, 5, 7), fold=(0, 4)), (), 2, [0])


def test_a_derived_role_may_lie_on_a_finer_grid(volumes, tmp_path):
    def enlarge(batch):
        return batch["input"].repeat_interleave(2, 2).repeat_interleave(3, 3)

    case = deriving.with_derived_roles(
        Cascade(), stage({"fine": Derivation(enlarge, scale=(1, 2, 3))}), volumes[1], tmp_path
    )
    assert case.arrays["fine"].shape == (1, 3, 10, 21) and (case.arrays["fine"] == 1).all()
    assert case.spacing_of("fine") == pytest.approx((1, 0.5, 1 / 3))


def halved(batch):
    return batch["input"] / 2


@pytest.mark.parametrize("damage", ["shortened", "empty", "another shape", "another type"])
def test_a_damaged_derived_array_is_named(volumes, tmp_path, damage):
    derived = stage({"half": Derivation(halved)})
    deriving.with_derived_roles(Cascade(), derived, volumes[1], tmp_path)
    (path,) = tmp_path.rglob("half.npy")
    if damage in ("shortened", "empty"):
        path.write_bytes(path.read_bytes()[: -9 if damage == "shortened" else 0])
    else:
        shape, dtype = ((1, 3, 5, 6), np.float32) if damage == "another shape" else ((1, 3, 5, 7), np.int16)
        np.save(path, np.zeros(shape, dtype))
    with pytest.raises(UserError, match=r"case1/half\.npy: .*training cannot go on in this --out"):
        deriving.with_derived_roles(Cascade(), derived, volumes[1], tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_while_deriving_is_told_in_one_line(volumes, tmp_path, monkeypatch):
    true = Path.open

    def on_a_full_disk(self, mode="r", *more, **options):
        return true(Path("/dev/full") if mode == "wb" else self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(Shortage, match=r"half\.npy: the disk is full; free some space"):
        deriving.with_derived_roles(Cascade(), stage({"half": Derivation(halved)}), volumes[1], tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_derived_arrays_are_opened_when_they_are_read(volumes, tmp_path, monkeypatch):
    monkeypatch.setattr("ganatomy.data.arrays.SMALL", 0)
    case = deriving.with_derived_roles(Cascade(), stage({"half": Derivation(halved)}), volumes[1], tmp_path)
    assert list(case.arrays) == ["input", "half"] and len(case.arrays) == 2
    next(tmp_path.rglob("half.npy")).unlink()
    with pytest.raises(UserError, match=r"half\.npy: cannot be read any more .*No such file"):
        case.arrays["half"]
    rest = case.without(["half"])
    assert list(rest.arrays) == ["input"] and "half" not in rest.arrays and rest.arrays["input"].max() == 1
