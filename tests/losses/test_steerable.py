import pytest
import torch

from ganatomy.losses.steerable import bank, basis, factored, responses, steerable_loss, steered


def columns(height: float = 1.0) -> torch.Tensor:
    """An image of 32 x 32 pixels with one bright column."""
    image = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    image[..., 16] = height
    return image


def test_the_basis_has_the_known_taps():
    shapes = basis()
    row = [0.00936, 0.11478, 0.39635, -0.06010, -0.92130]
    assert shapes[0, 4].tolist() == [pytest.approx(value, abs=1e-5) for value in (*row, *row[-2::-1])]
    assert shapes[0].sum().item() == pytest.approx(-0.001412, abs=1e-6)
    assert shapes[0].square().sum().item() == pytest.approx(2.238706, abs=1e-6)
    assert shapes[1].sum().item() == pytest.approx(0, abs=1e-12)
    # x is to the right and y down: G2b is positive where both have one sign.
    assert shapes[1, 5, 5] > 0 and shapes[1, 3, 5] < 0
    torch.testing.assert_close(shapes[0].T, shapes[2])


@pytest.mark.parametrize(("taps", "share"), [(5, 0.9775), (7, 0.99985)])
def test_small_supports_keep_most_of_the_energy(taps, share):
    whole, part = (basis(size)[0].square().sum() for size in (9, taps))
    assert (part / whole).item() == pytest.approx(share, abs=5e-5)


def test_filters_of_all_directions_are_turned_ones():
    # A basis that is turned about its middle is the sum that the weights tell.
    angle = torch.tensor([0.3], dtype=torch.float64)
    axis = 0.67 * (torch.arange(9, dtype=torch.float64) - 4)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    # In coordinates with y down, steering by an angle turns x to x cos − y sin.
    along = x * angle.cos() - y * angle.sin()
    expected = 0.9213 * (2 * along.square() - 1) * torch.exp(-(x.square() + y.square()))
    found = torch.einsum("ka,aij->kij", steered(angle), basis())[0]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_the_bank_is_normalised_and_answers_to_bright_lines_across_its_axis():
    filters = bank()
    assert filters.shape == (20, 9, 9)
    torch.testing.assert_close(filters.sum((1, 2)), torch.zeros(20, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(filters.square().sum((1, 2)), torch.ones(20, dtype=torch.float64))
    assert filters[0, 4, 4].item() == pytest.approx(0.6157, abs=1e-4)
    alike = [(filters[0] * filters[number]).sum().item() for number in (1, 5, 10)]
    assert alike == [pytest.approx(value, abs=1e-4) for value in (0.98378, 0.66695, 0.33219)]
    lines = [filters[number, :, 4].sum().item() for number in (0, 5, 10)]
    assert lines == [pytest.approx(value, abs=1e-4) for value in (1.62881, 0.81557, 0.00025)]


@pytest.mark.parametrize("taps", [5, 9])
def test_three_filters_span_the_bank(taps):
    filters = bank(20, taps)
    weights, shapes = factored(filters)
    assert weights.shape == (20, 3)
    torch.testing.assert_close(torch.einsum("ka,aij->kij", weights, shapes), filters, atol=1e-12, rtol=0)


def test_responses_are_those_of_every_filter_with_nothing_beyond_the_border():
    filters, image = bank(6), torch.rand(2, 1, 12, 15, dtype=torch.float64)
    found = responses(image, *factored(filters))
    torch.testing.assert_close(found, torch.nn.functional.conv2d(image, filters[:, None], padding=4))


def test_the_loss_has_its_known_values_and_no_value_for_equal_images():
    weights, shapes = factored(bank())
    nothing = torch.zeros_like(columns())
    for height, expected in ((1.0, 0.020356), (2.0, 0.062709)):
        found = steerable_loss(nothing, columns(height), weights, shapes)
        assert found.item() == pytest.approx(expected, abs=1e-6)
    assert steerable_loss(columns(), columns(), weights, shapes).item() == 0


def test_small_differences_count_by_their_square_and_large_ones_by_their_size():
    # One filter of one tap: the response is the image.
    weights, shapes = torch.ones(1, 1), torch.ones(1, 1, 1)
    output = torch.tensor([0.0, 0.5, -1.0, 2.0])[None, None, None]
    each = [steerable_loss(output[..., [place]], torch.zeros(1, 1, 1, 1), weights, shapes).item() for place in range(4)]
    assert each == [0, 0.125, 0.5, 1.5]
    assert steerable_loss(output, torch.zeros_like(output), weights, shapes).item() == 0.53125


def test_channels_are_compared_for_themselves():
    weights, shapes = factored(bank())
    two = torch.cat([columns(), torch.zeros_like(columns())], 1)
    found = steerable_loss(torch.zeros_like(two), two, weights, shapes).item()
    assert found == pytest.approx(0.020356 / 2, abs=1e-6)
