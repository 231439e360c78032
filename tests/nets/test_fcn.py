"""The fully convolutional network on VGG-16."""

import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.nets.fcn import FCN4s, as_natural_image, enlarging

NARROW = (2, 3, 4, 5, 6)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("channels", "convolutions"), [(3, 14_714_688), (1, 14_713_536)])
def test_published_numbers_of_parameters(channels, convolutions):
    with torch.device("meta"):
        network = FCN4s(channels)
        assert network(torch.empty(1, channels, 512, 512)).shape == (1, 1, 512, 512)
    assert (count(network.blocks), count(network.scores), count(network.enlarged)) == (convolutions, 1_412, 112)


def test_maps_are_scored_at_a_quarter_to_a_thirty_second_of_the_size():
    network, seen = FCN4s(1, 1, NARROW), []
    for score in network.scores:
        score.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape[1:])))
    network(torch.zeros(1, 1, 64, 96))
    assert seen == [(6, 2, 3), (5, 4, 6), (4, 8, 12), (3, 16, 24)]


@pytest.mark.parametrize(("factor", "corner"), [(2, 0.5625), (4, 0.3906)])
def test_enlarging_is_bilinear_at_first(factor, corner):
    larger = enlarging(1, factor)(torch.ones(1, 1, 6, 6)).detach()[0, 0]
    assert larger.shape == (6 * factor, 6 * factor) and larger[0, 0].item() == pytest.approx(corner, abs=1e-4)
    torch.testing.assert_close(larger[factor:-factor, factor:-factor], torch.ones(4 * factor, 4 * factor))


def test_channels_are_enlarged_apart():
    image = torch.zeros(1, 2, 3, 3)
    image[0, 1] = 1
    assert not enlarging(2, 2)(image)[0, 0].any()


def test_it_begins_with_an_empty_image_and_every_score_counts():
    network, image = FCN4s(1, 1, NARROW), torch.rand(1, 1, 32, 32)
    assert not network(image).any()
    for score in network.scores:
        torch.nn.init.ones_(score.bias)
        before = network(image).mean().item()
        assert before > 0
        torch.nn.init.zeros_(score.bias)


def test_weights_of_vgg16_are_taken_in_their_order(tmp_path):
    draw = torch.Generator().manual_seed(1)
    network = FCN4s(3, 1, NARROW)
    own = [value for block in network.blocks for value in block.state_dict().values()]
    values = [torch.randn(value.shape, generator=draw) for value in own]
    # torchvision numbers convolutions among ReLUs and poolings.
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    names = [f"features.{place}.{part}" for place in places for part in ("weight", "bias")]
    state = {**dict(zip(names, values, strict=True)), "classifier.0.weight": torch.zeros(3, 3)}
    torch.save(state, tmp_path / "vgg16.pth")
    assert "sha256" in network.load_vgg16(tmp_path / "vgg16.pth")
    assert all(torch.equal(a, b) for a, b in zip(own, values, strict=True))
    with pytest.raises(UserError, match="no weights for the convolutions"):
        FCN4s(1, 1, NARROW).load_vgg16(tmp_path / "vgg16.pth")
    (tmp_path / "text.pth").write_text("nothing")
    with pytest.raises(UserError, match=r"text\.pth: no weights"):
        network.load_vgg16(tmp_path / "text.pth")


def test_images_are_normalised_as_natural_ones():
    black = as_natural_image(torch.full((1, 3, 1, 1), -1.0)).flatten()
    torch.testing.assert_close(black, torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
