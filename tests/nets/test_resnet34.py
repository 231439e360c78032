import torch

from ganatomy.nets.resnet34 import ResNet34Classifier


def test_the_published_network_has_the_known_number_of_parameters_and_features():
    with torch.device("meta"):
        network = ResNet34Classifier(3, 2, (256, 256))
        features = network.features(torch.empty(2, 3, 256, 256))
    assert sum(one.numel() for one in network.parameters()) == 21_288_770
    assert sum(one.numel() for one in network.fc.parameters()) == 2 * 2_048 + 2
    assert features.shape == (2, 2_048) and network.average.kernel_size == (7, 7)


def test_small_and_oblong_images_have_features_of_the_stated_number():
    for size in ((64, 64), (32, 96), (16, 16)):
        network = ResNet34Classifier(3, 2, size, 4, (1, 1, 1, 1)).eval()
        image = torch.randn(2, 3, *size)
        assert network.features(image).shape == (2, network.width)
        torch.testing.assert_close(network(image), network.fc(network.features(image)))
