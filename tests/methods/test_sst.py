"""SST: grey as the networks see it, the classifier whose features are kept, and the losses of the reimplementation."""

import numpy as np
import pytest
import torch
from small import build, count
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.game import Balanced, moves
from ganatomy.images.image import axial_affine
from ganatomy.losses.matching import softmax_divergence
from ganatomy.methods.synthesis.sst import StainStyleTransfer, grey

SIZE = (32, 32)


def system(**values):
    own = {"size": SIZE, "width": 4, "halvings": 2, "discriminator_widths": (4, 8), "classifier_width": 4}
    return build("sst", **{**own, "classifier_blocks": (1, 1), **values})


def batch_of(seed=1):
    draw = torch.Generator().manual_seed(seed)
    tumour = torch.zeros(4, 1, *SIZE)
    tumour[0] = 1
    tumour[1, :, :8] = 1
    tumour[2, :, 0, 0] = 1
    return {"scanner_a": 2 * torch.rand(4, 3, *SIZE, generator=draw) - 1, "tumour": tumour}


@pytest.fixture(scope="module")
def release():
    with torch.device("meta"):
        return StainStyleTransfer(StainStyleTransfer.Config.preset())


def test_networks_have_the_known_numbers_of_parameters_and_sizes(release):
    assert count(release.generator) == 4_917_555
    assert count(release.discriminator) == 11_197_793
    assert count(release.classifier) == 21_288_770
    patch = torch.empty(2, 3, 256, 256, device="meta")
    assert release.restore(patch).shape == patch.shape
    assert release.discriminator(patch).shape == (2, 1)
    assert release.classifier.features(patch).shape == (2, 2048)


def test_numbers_of_the_reimplementation(release):
    c = release.config
    weights = (c.adversarial_weight, c.feature_weight, c.reconstruction_weight)
    assert weights == (0.2, 0.4, 0.4) and c.divergence == "mean"
    assert (c.learning_rate, c.betas, c.batch_size, c.flips, c.quarter_turns) == (2e-4, (0.5, 0.999), 8, (2,), True)
    first, second = release.stages()
    assert first.stream.place == second.stream.place == Balanced("tumour", {1: 0.5})
    assert not first.validated and second.players[0].schedule is None
    slow = first.players[0].optimizer([torch.nn.Parameter(torch.zeros(1))]).defaults
    assert (slow["lr"], slow["momentum"], slow["weight_decay"]) == (2e-4, 0.9, 1e-5)


def test_grey_is_luma_rounded_to_8_bits_and_values_are_centred_at_128():
    colours = torch.tensor([[200.0, 100, 150], [128, 128, 128], [255, 255, 255], [0, 0, 0]])
    seen = grey(colours[:, :, None, None] / 128 - 1)[:, 0, 0, 0]
    assert (128 * seen + 128).tolist() == [136, 128, 255, 0]
    role = system().task.roles["scanner_a"]
    np.testing.assert_allclose(role.encoded(np.array([0.0, 128, 255])), [-1, 0, 127 / 128])
    np.testing.assert_allclose(role.decoded(role.encoded(np.array([128.0, 255]))), [128, 255], atol=1e-4)


def test_colours_of_the_given_slide_do_not_matter_beyond_its_grey():
    method = system().inference_mode()
    first = torch.full((1, 3, *SIZE), 0.0)
    second = first + torch.tensor([0.114 / 0.299, 0.0, -1.0])[None, :, None, None] * 0.5
    torch.testing.assert_close(method.restore(first), method.restore(second))
    assert not torch.equal(method.restore(first), method.restore(first + 0.3))


def test_a_round_has_the_losses_of_the_reimplementation():
    method, batch = system(), batch_of()
    method.eval()
    judged, made = (move[0] for move in moves(method.turns(iter([batch]))))
    true = batch["scanner_a"]
    fake = method.restore(true)
    scores = method.discriminator(true), method.discriminator(fake)

    def entropy(found, wanted):
        return binary_cross_entropy_with_logits(found, torch.full_like(found, wanted))

    torch.testing.assert_close(judged.total, entropy(scores[0], 1.0) + entropy(scores[1], 0.0))
    torch.testing.assert_close(made.losses["adversarial"], 0.2 * entropy(scores[1], 1.0))
    torch.testing.assert_close(made.losses["reconstruction"], 0.4 * mse_loss(fake, true))
    features = (method.classifier.features(one) for one in (true, fake))
    torch.testing.assert_close(made.losses["features"], 0.4 * softmax_divergence(*features, "batchmean"))
    total = 0.2 * 0.857399 + 0.4 * 0.3174 + 0.4 * 0.03745
    assert total == pytest.approx(0.313420, abs=1e-6)


def test_the_classifier_is_frozen_in_the_game_and_passes_gradients_on():
    method = system().train()
    before = {name: value.clone() for name, value in method.classifier.state_dict().items()}
    *_, made = (move[0] for move in moves(method.turns(iter([batch_of()]))))
    slopes = torch.autograd.grad(made.losses["features"], list(method.generator.parameters()), allow_unused=True)
    assert any(slope is not None and slope.abs().sum() > 0 for slope in slopes)
    for name, value in method.classifier.state_dict().items():
        assert torch.equal(value, before[name]), name
    players = {name for stage in method.stages()[1:] for player in stage.players for name in [player.name]}
    assert players == {"discriminator", "generator"}


def test_patches_are_of_tumour_from_a_tenth_on():
    method, seen = system(), []
    method.classifier.forward = lambda images: (
        seen.append(images) or torch.tensor([[-9.0, 9], [-9, 9], [9, -9], [9, -9]])
    )
    (turn,) = next(iter(moves(method.classifier_turns(iter([batch_of()])))))
    assert turn.total.item() < 1e-6 and len(seen) == 1


def test_statistics_of_the_image_or_of_training():
    image = batch_of()["scanner_a"][:2]
    for statistics in ("running", "image"):
        method = system(statistics=statistics).inference_mode()
        torch.testing.assert_close(method.restore(image)[:1], method.restore(image[:1]), atol=1e-5, rtol=1e-4)
    kept, own = (system(statistics=one).inference_mode().restore(image) for one in ("running", "image"))
    assert not torch.allclose(kept, own, atol=1e-3)


def test_sizes_and_data_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"--size 32 48: only square patches can be turned; add --no-quarter-turns"):
        system(size=(32, 48))
    with pytest.raises(UserError, match="must be multiples of 8"):
        system(size=(36, 36), discriminator_widths=(4, 8, 8))
    method = system()

    def sample(**maps):
        arrays = {name: np.full((1, 1, 4, 4), value, np.uint8) for name, value in maps.items()}
        return Sample(
            Case("p", "p", "train", {}), arrays, dict.fromkeys(arrays, axial_affine((1, 1, 1))), method.task.roles
        )

    with pytest.raises(UserError, match="no training case has both a scanner_a image and a tumour map"):
        method.check_samples([sample(scanner_a=1), sample(scanner_b=1, tumour=1)])
    with pytest.raises(UserError, match="no training case has any tumour"):
        method.check_samples([sample(scanner_a=1, tumour=0)])
    with pytest.raises(UserError, match="no training case has normal tissue"):
        method.check_samples([sample(scanner_a=1, tumour=1)])
    assert method.check_samples([sample(scanner_a=1, tumour=0), sample(scanner_a=1, tumour=1)]) == ()
