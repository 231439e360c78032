import hashlib
import io
import os
import pickle
from email.message import Message
from urllib.error import URLError

import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.nets import features
from ganatomy.nets.features import VGG19Features
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.unet import ConvUNet, Pix2PixUNet
from ganatomy.tasks.synthesis import features as sets


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_pix2pix():
    assert count(Pix2PixUNet(3, 3)) == 54_413_955
    assert count(PatchGAN(6)) == 2_768_705


def test_unet_reaches_one_pixel_and_comes_back():
    network = Pix2PixUNet(1, 2, width=2).eval()
    shapes = []
    network.down[-1].register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    assert network(torch.randn(1, 1, 256, 256)).shape == (1, 2, 256, 256)
    assert shapes == [(1, 16, 1, 1)]


def test_unet_drops_out_in_the_three_innermost_decoder_levels():
    network = Pix2PixUNet(3, 3, width=4)
    dropping = [any(isinstance(layer, torch.nn.Dropout) for layer in up) for up in network.up]
    assert dropping == [True] * 3 + [False] * 5


@pytest.mark.parametrize(("strided", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_receptive_field_of_the_patch_discriminator(strided, field):
    network = PatchGAN(1, width=2, strided=strided, norm="none")
    image = torch.randn(1, 1, 288, 288, requires_grad=True)
    score = network(image)
    score[0, 0, score.shape[2] // 2, score.shape[3] // 2].backward()
    seen = image.grad[0, 0].abs().sum(0).nonzero()
    assert seen.max() - seen.min() + 1 == field


def test_patch_discriminator_of_256_pixels_gives_30_by_30_scores():
    assert PatchGAN(2, width=2)(torch.randn(1, 2, 256, 256)).shape == (1, 1, 30, 30)


def test_pix2pix_initialisation():
    network = PatchGAN(6)
    init_pix2pix(network)
    assert network[2].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network[0].bias.abs().sum() == 0
    narrow = PatchGAN(6, width=16)
    init_pix2pix(narrow, 16)
    assert narrow[2].weight.std().item() == pytest.approx(0.04, rel=0.05)
    scaled = PatchGAN(6, norm="instance", scaled=True)
    init_pix2pix(scaled)
    gains = torch.cat([layer.weight.detach() for layer in scaled if isinstance(layer, nn.InstanceNorm2d)])
    assert gains.mean().item() == pytest.approx(1, abs=0.005) and gains.std().item() == pytest.approx(0.02, rel=0.2)
    assert not list(PatchGAN(6, norm="instance")[3].parameters())


def test_conv_unet_keeps_the_size():
    assert ConvUNet(1, 3, width=4, levels=3)(torch.randn(2, 1, 24, 32)).shape == (2, 3, 24, 32)


def test_vgg19_has_its_parameters_and_scales():
    network = VGG19Features("conv5_4", "substitute")
    assert count(network.__dict__["network"]) == 20_024_384
    assert network(torch.rand(1, 1, 64, 64)).shape == (1, 512, 4, 4)


def test_features_are_frozen_unsaved_reproducible_and_named():
    first = VGG19Features("conv2_2", "substitute", width=0.25)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    second = VGG19Features("conv2_2", "substitute", width=0.25)
    assert torch.equal(torch.get_rng_state(), state)
    image = torch.rand(2, 1, 16, 16)
    assert torch.equal(first(image), second(image))
    assert list(first.parameters()) == []
    assert first.state_dict() == {}
    assert "substitute" in first.name


def test_feature_distance_moves_the_output_only():
    network = VGG19Features("conv1_2", "substitute", width=0.25)
    output = torch.rand(1, 1, 16, 16, requires_grad=True)
    target = torch.rand(1, 1, 16, 16, requires_grad=True)
    network.distance(output, target).backward()
    assert output.grad.abs().sum() > 0
    assert target.grad is None
    assert network.distance(target, target).item() == 0
    mean, summed = (network.distance(output, target, summed=how).item() for how in (False, True))
    assert summed == pytest.approx(network(target)[0].numel() * mean, rel=1e-5)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return the bytes of a file with VGG-19 weights; the folder of weights is empty, and no network is reached."""
    monkeypatch.setenv("GANATOMY_WEIGHTS", str(tmp_path / "weights"))

    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    donor = VGG19Features._build("conv5_4", True, 1.0)
    state = {f"features.{name}": torch.full_like(value, 0.01) for name, value in donor.state_dict().items()}
    file = tmp_path / "own.pth"
    torch.save(state, file)
    return file.read_bytes()


def known_as_published(monkeypatch, content):
    monkeypatch.setattr(features, "VGG19_SHA256", hashlib.sha256(content).hexdigest()[:8])


def test_weights_of_the_users_own_are_named_by_their_digest(tmp_path, monkeypatch, weights):
    network = VGG19Features("conv1_1", "vgg19", tmp_path / "own.pth")
    assert network.name == f"vgg19 with the weights sha256:{hashlib.sha256(weights).hexdigest()[:12]}, conv1_1"
    assert network.__dict__["network"][0].weight.unique().tolist() == pytest.approx([0.01])
    known_as_published(monkeypatch, weights)
    assert VGG19Features("conv1_1", "auto", tmp_path / "own.pth").name == "vgg19 with ImageNet weights, conv1_1"


def test_weights_in_the_folder_of_weights_are_checked_against_the_published_hash(tmp_path, monkeypatch, weights):
    file = features.vgg19_file()
    file.parent.mkdir()
    file.write_bytes(weights)
    for source in ("auto", "vgg19", "download"):
        with pytest.raises(UserError, match=r"vgg19-dcbb9e9d\.pth: not torchvision's VGG-19 weights, or damaged"):
            VGG19Features("conv1_1", source)
    known_as_published(monkeypatch, weights)
    for source in ("auto", "vgg19", "download"):
        assert VGG19Features("conv1_1", source).name == "vgg19 with ImageNet weights, conv1_1"


def test_nothing_is_downloaded_unless_asked_for(weights):
    assert "substitute" in VGG19Features("conv1_1", "auto").name
    with pytest.raises(UserError, match=r"--features vgg19: no weights in .*vgg19-dcbb9e9d.pth; copy .*substitute"):
        VGG19Features("conv1_1", "vgg19")
    with pytest.raises(UserError, match=r"--features vgg19: no weights in .*vgg19-dcbb9e9d.pth"):
        sets.features("vgg19", torch.zeros(2, 1, 8, 8))
    assert not features.vgg19_file().parent.exists()


def test_a_download_is_kept_where_its_hash_is_the_published_one(monkeypatch, weights):
    def served(request, *arguments, **options):
        assert request.full_url == features.VGG19_ADDRESS
        answer = io.BytesIO(weights)
        answer.info = Message
        return answer

    monkeypatch.setattr(torch.hub, "urlopen", served)
    with pytest.raises(UserError, match=r"--features download: .* cannot be fetched \(invalid hash value"):
        VGG19Features("conv1_1", "download")
    assert not list(features.vgg19_file().parent.iterdir()), "another file is not kept"
    known_as_published(monkeypatch, weights)
    assert VGG19Features("conv1_1", "download").name == "vgg19 with ImageNet weights, conv1_1"
    assert features.vgg19_file().read_bytes() == weights


def test_without_a_home_folder_there_are_no_weights(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANATOMY_WEIGHTS")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda user: {}["nobody"])
    assert VGG19Features("conv1_1").name.startswith(features.SUBSTITUTE)
    with pytest.raises(UserError, match="there is no home folder; set GANATOMY_WEIGHTS"):
        VGG19Features("conv1_1", "download")
    assert not list(tmp_path.glob("~*"))


def test_a_download_that_fails_says_which_file_to_put_where(monkeypatch, weights):
    def unreachable(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"--features download: .*no route to host.* copy it to .*vgg19-dcbb9e9d\.pth"):
        VGG19Features("conv1_1", "download")


class Payload:
    """A pickle that makes a folder where it is executed."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("write", [torch.save, lambda payload, file: file.write_bytes(pickle.dumps(payload, 2))])
def test_no_code_in_a_weight_file_is_run(tmp_path, write):
    file = tmp_path / "vgg.pth"
    write({"features.0.weight": Payload(tmp_path / "made")}, file)
    with pytest.raises(UserError, match=r"vgg\.pth: not torchvision's VGG-19 weights \(UnpicklingError\)"):
        VGG19Features("conv1_1", "vgg19", file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_a_bad_weight_file_is_named(tmp_path, content):
    file = tmp_path / "vgg.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"vgg\.pth"):
        VGG19Features("conv1_1", "vgg19", file)


def test_an_unknown_layer_is_named():
    with pytest.raises(UserError, match="conv9_9"):
        VGG19Features("conv9_9", "substitute")
