import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.errors import UserError
from ganatomy.physics.fibre import OUTSIDE, FibreBundle, Fibres, cell_means, whole_cells

SHAPE = (48, 60)


@pytest.fixture(scope="module")
def fibres() -> Fibres:
    return FibreBundle().fibres(SHAPE, seed=0)


@pytest.fixture(scope="module")
def square() -> Fibres:
    return FibreBundle(circular=False).fibres(SHAPE, seed=1)


def plane(shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    """Return an image that rises linearly, (1, 1, rows, columns)."""
    y, x = np.indices(shape, dtype=np.float32)
    return torch.from_numpy(2 + 0.5 * y - 0.25 * x)[None, None]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_as_many_fibres_as_the_pitch_says_and_reproducible(square: Fibres) -> None:
    area = SHAPE[0] * SHAPE[1] / square.count
    assert area == pytest.approx(3**2 * np.sqrt(3) / 2, rel=0.08)
    again, other = (FibreBundle(circular=False).fibres(SHAPE, seed=seed) for seed in (1, 2))
    assert torch.equal(square.cells, again.cells) and not torch.equal(square.cells, other.cells)


def test_cells_are_voronoi_cells_in_a_round_field_of_view() -> None:
    positions = np.array([[5.0, 5.0], [5.0, 14.0], [14.0, 9.0]])
    fibres = Fibres(positions, (20, 20), core=1.0, circular=True)
    pixels = np.stack(np.indices((20, 20)), -1)
    nearest = np.linalg.norm(pixels[:, :, None] - positions, axis=-1).argmin(-1)
    inside = np.hypot(*(np.indices((20, 20)) - 9.5)) <= 10
    np.testing.assert_array_equal(fibres.cells, np.where(inside, nearest, OUTSIDE))


def test_flat_images_pass_unchanged(square: Fibres) -> None:
    flat = torch.full((2, 3, *SHAPE), 4.0)
    for signals in (square.collect(flat), square.average(flat)):
        assert signals.shape == (2, 3, square.count)
        torch.testing.assert_close(square.voronoi(signals), flat)
        torch.testing.assert_close(square.delaunay(signals), flat)


def test_delaunay_is_exact_on_planes_within_the_hull() -> None:
    rng = np.random.default_rng(0)
    positions = np.concatenate([rng.uniform(0, 29, (60, 2)), [[0, 0], [0, 29], [29, 0], [29, 29]]])
    fibres = Fibres(positions, (30, 30), core=1.0)
    signals = torch.tensor(2 + 0.5 * positions[:, 0] - 0.25 * positions[:, 1], dtype=torch.float32)[None, None]
    torch.testing.assert_close(fibres.delaunay(signals), plane((30, 30)), atol=1e-4, rtol=1e-4)


def test_delaunay_keeps_to_the_range_and_goes_on_beyond_the_hull(fibres: Fibres) -> None:
    signals = random(1, 2, fibres.count)
    image = fibres.delaunay(signals)
    inside = fibres.cells != OUTSIDE
    assert (image[..., inside].amax(-1) <= signals.amax(-1) + 1e-5).all()
    assert (image[..., ~inside] == 0).all()
    assert (image[..., inside] != 0).all()


def test_averages_are_means_over_cells_and_undo_voronoi(fibres: Fibres) -> None:
    image = random(2, 1, *SHAPE)
    means = fibres.average(image)
    number = int(fibres.cells[24, 30])
    torch.testing.assert_close(means[1, 0, number], image[1, 0][fibres.cells == number].mean())
    present = torch.bincount(fibres.cells[fibres.cells >= 0], minlength=fibres.count) > 0
    torch.testing.assert_close(fibres.average(fibres.voronoi(means))[..., present], means[..., present])


@pytest.mark.parametrize("name", ["collect", "average", "voronoi", "delaunay"])
@settings(max_examples=6, deadline=None)
@given(st.integers(0, 99))
def test_every_map_is_linear_with_its_adjoint_as_gradient(fibres: Fibres, name: str, seed: int) -> None:
    operator = getattr(fibres, name)
    shape = (1, 1, *SHAPE) if name in ("collect", "average") else (1, 1, fibres.count)
    x, z = random(*shape, seed=seed).double().requires_grad_(), random(*shape, seed=seed + 2).double()
    out = operator(x)
    torch.testing.assert_close(operator(x + 2 * z), out + 2 * operator(z), atol=1e-6, rtol=1e-5)
    y = random(*out.shape, seed=seed + 1).double()
    (adjoint,) = torch.autograd.grad(out, x, y)
    torch.testing.assert_close((out * y).sum(), (x * adjoint).sum())


def test_collection_is_a_local_mean(square: Fibres) -> None:
    rows, columns = np.moveaxis(np.indices(SHAPE), 0, 0)
    middle = torch.from_numpy(np.stack([rows, columns]).astype(np.float32))[:, None]
    seen = square.collect(middle)[:, 0].T.numpy()
    centres = square.average(middle)[:, 0].T.numpy()
    inner = ((seen > 6) & (seen < np.array(SHAPE) - 7)).all(1)
    assert np.abs(seen - centres)[inner].max() < 1.5


def test_fibres_differ_in_gain_and_offset() -> None:
    bundle = FibreBundle(gain=0.05, offset=0.01, circular=False)
    fibres = bundle.fibres((90, 90), 0)
    dark, bright = (bundle.acquire(torch.full((1, 1, 90, 90), value), fibres, 3, span=255.0) for value in (0.0, 1000.0))
    assert dark.std() == pytest.approx(2.55, rel=0.1)
    assert (bright - dark).std() == pytest.approx(50, rel=0.1)
    assert bright.mean() == pytest.approx(1000, rel=0.01)
    again, other = (bundle.acquire(torch.ones(1, 1, 90, 90), fibres, seed) for seed in (3, 4))
    torch.testing.assert_close(bundle.acquire(torch.ones(1, 1, 90, 90), fibres, 3), again)
    assert not torch.equal(again, other)
    pair = torch.ones(2, 1, 90, 90)
    torch.testing.assert_close(bundle.acquire(pair, fibres, 3)[1:], bundle.acquire(pair[1:], fibres, 3, first=1))
    silent = FibreBundle(gain=0, offset=0)
    torch.testing.assert_close(silent.acquire(plane((90, 90)), fibres, 0), fibres.collect(plane((90, 90))))


def test_each_image_has_its_own_cells() -> None:
    image = torch.tensor([[[[1.0, 2], [3, 5]]], [[[1.0, 2], [3, 5]]]])
    cells = torch.tensor([[[[0.0, 0], [2, -1]]], [[[1.0, 1], [1, 1]]]])
    means, pixels = cell_means(image, cells, 3)
    torch.testing.assert_close(means[:, 0], torch.tensor([[1.5, 0, 3], [0, 2.75, 0]]))
    torch.testing.assert_close(pixels[:, 0], torch.tensor([[2.0, 0, 1], [0, 4, 0]]))


def test_cells_that_a_patch_cuts_are_known(square: Fibres) -> None:
    patch = square.cells[10:34, 12:40][None, None]
    whole = whole_cells(patch, square.count)[0, 0]
    everywhere = torch.bincount(square.cells.flatten(), minlength=square.count)
    here = torch.bincount(patch.flatten(), minlength=square.count)
    assert (here[whole] == everywhere[whole]).all()
    assert not whole[here == 0].any()
    assert not whole[patch[0, 0, 0]].any()
    assert whole.sum() > 0.6 * (here == everywhere)[here > 0].sum()


def test_reconstruction_through_fibres_blurs_but_resembles(square: Fibres) -> None:
    image = torch.sin(0.25 * plane())
    for reconstruct in (square.voronoi, square.delaunay):
        result = reconstruct(square.collect(image))
        assert torch.corrcoef(torch.stack([result.flatten(), image.flatten()]))[0, 1] > 0.97


def test_buffers_are_not_saved(fibres: Fibres) -> None:
    assert not fibres.state_dict() and not list(fibres.parameters())


def test_an_image_too_small_for_fibres_is_refused() -> None:
    with pytest.raises(UserError, match="pitch=30"):
        FibreBundle(pitch=30).fibres((16, 16), 0)
    with pytest.raises(ValueError, match="pitch"):
        FibreBundle(pitch=0.5)
