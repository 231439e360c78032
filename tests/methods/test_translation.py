"""Statements of the papers on translation and super-resolution on their networks and losses."""

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.game import Progress, moves
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.methods.frameworks.mgan import MGAN, Decoder, MarkovianCritic, Painting, TextureCritic, cut
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.methods.frameworks.srgan import SRGAN


def small(kind, **values):
    own = {"steps": 5} if kind is MGAN else {"size": (32, 32), "jitter": 0} if kind in (Pix2Pix, CycleGAN) else {}
    return kind(kind.Config.preset("small", **{**own, **values}))


def batches(method, stage=-1, **given):
    """Yield endless batches of random images from -1 to 1, or of the given images by role."""
    stage, task = method.stages()[stage], method.task

    def drawn(stream):
        roles = stream.roles or (*task.required, *stage.derive)
        widths = {role: task.roles[role].channels if role in task.roles else 1 for role in roles}
        shape = {role: (stream.batch_size, width, *stream.patch[1:]) for role, width in widths.items()}
        return {role: given.get(role, 2 * torch.rand(*shape[role]) - 1) for role in roles}

    while True:
        found = {stream.name: drawn(stream) for stream in stage.streams_in_order}
        yield found if len(found) > 1 else next(iter(found.values()))


def play(method, stage=-1, **given):
    return list(moves(method.stages()[stage].turns(batches(method, stage, **given))))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_numbers_of_parameters():
    with torch.device("meta"):
        colours = {role: {"channels": 3} for role in ("source", "target")}
        alone, together = (Pix2Pix(Pix2Pix.Config(roles=colours, norm=norm)) for norm in ("instance", "batch"))
        cyclegan = CycleGAN(CycleGAN.Config(roles=colours, pool=0))
    for pix2pix in (alone, together):
        assert count(pix2pix.generator) == 54_413_955
        assert count(pix2pix.discriminator) == 2_768_705
    assert count(cyclegan.to_source) == count(cyclegan.to_target) == 11_378_179
    assert isinstance(alone.generator.up[1][-1], nn.Dropout)


def test_norms_of_pix2pix_are_those_of_batches_of_one():
    alone, together = (small(Pix2Pix, norm=norm, batch_size=1) for norm in ("instance", "batch"))
    for one, other in zip(alone.parameters(), together.parameters(), strict=True):
        other.data.copy_(one.data)
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(together.restore(image), alone.restore(image))
    together.restore(5 * torch.rand(1, 1, 32, 32))
    found = [method.inference_mode().restore(image) for method in (alone, together)]
    torch.testing.assert_close(*found, msg="images are normalised by their own statistics when it is applied, too")


def test_the_discriminator_of_pix2pix_sees_patches_of_70_pixels():
    with torch.device("meta"):
        discriminator = Pix2Pix(Pix2Pix.Config()).discriminator
        assert discriminator(torch.zeros(1, 2, 256, 256)).shape == (1, 1, 30, 30)


def test_pix2pix_turns_follow_the_order_and_weights_of_the_paper():
    method = small(Pix2Pix)
    t1, t2 = (torch.full((4, 1, 32, 32), value) for value in (0.5, 0.25))
    (discriminator,), (generator,) = play(method, t1=t1, t2=t2)
    assert (discriminator.player, generator.player) == ("discriminator", "generator")
    # Scores near zero: half of log 2 for real and fake each, and all of it for the generator.
    for parameter in method.discriminator.parameters():
        nn.init.zeros_(parameter)
    (discriminator,), (generator,) = play(method, t1=t1, t2=t2)
    assert discriminator.total.item() == pytest.approx(0.6931, abs=1e-3)
    assert generator.losses["adversarial"].item() == pytest.approx(0.6931, abs=1e-3)
    fake = method.restore(t1)
    assert generator.losses["l1"].item() == pytest.approx(100 * (fake - t2).abs().mean().item(), rel=1e-4)


def test_the_fake_of_pix2pix_is_made_once_a_round():
    method, calls = small(Pix2Pix), []
    method.generator.register_forward_hook(lambda *_: calls.append(1))
    play(method)
    assert len(calls) == 1


def test_dropout_stays_on_at_inference_only_if_asked():
    image = torch.randn(1, 1, 32, 32)
    for wanted in (False, True):
        method = small(Pix2Pix, dropout=0.5, dropout_at_inference=wanted).inference_mode()
        assert torch.equal(method.restore(image), method.restore(image)) != wanted


@pytest.mark.parametrize("kind", [Pix2Pix, CycleGAN, MGAN])
def test_a_translator_may_change_the_number_of_channels_and_the_names(kind):
    image = torch.randn(1, 3, 32, 32)
    method = small(kind, source="stain", target="mask", stain={"channels": 3})
    assert method.restore(image).shape == (1, 1, 32, 32)
    assert list(method.task.roles) == ["stain", "mask"] and play(method, 0)
    back = small(kind, source="t2", target="t1", t1={"channels": 3})
    assert back.restore(image[:, :1]).shape == image.shape and play(back, 0)


def test_cyclegan_moves_both_generators_first_and_both_discriminators_together():
    (first,), second = play(small(CycleGAN))
    assert first.player == "generators"
    assert [turn.player for turn in second] == ["discriminator source", "discriminator target"]
    assert set(first.losses) == {"cycle source", "cycle target", "adversarial source", "adversarial target"}
    more = play(small(CycleGAN, identity_weight=0.5))[0][0].losses
    assert set(more) >= {"identity source", "identity target"}


def test_cyclegan_weighs_its_terms_as_the_paper():
    paper = CycleGAN.Config()
    weights = {"adversarial_weight": paper.adversarial_weight, "cycle_weight": paper.cycle_weight}
    method = small(CycleGAN, identity_weight=0.5, **weights)
    method.to_source, method.to_target = nn.Identity(), nn.Hardtanh(-0.1, 0.1)
    t1, t2 = torch.full((2, 1, 32, 32), 0.5), torch.full((2, 1, 32, 32), 0.3)
    for discriminator in (method.discriminator_source, method.discriminator_target):
        for parameter in discriminator.parameters():
            nn.init.zeros_(parameter)
    first, second = play(method, t1=t1, t2=t2)
    losses = {name: term.item() for name, term in first[0].losses.items()}
    assert losses == pytest.approx(
        {
            "cycle source": 10 * 0.4,
            "cycle target": 10 * 0.2,
            "identity source": 0,
            "identity target": 5 * 0.2,
            "adversarial source": 1,
            "adversarial target": 1,
        },
        abs=1e-5,
    )
    assert all(turn.total.item() == pytest.approx(0.5) for turn in second)


def test_every_discriminator_sees_its_own_kind_of_images():
    method, seen = small(CycleGAN, pool=0), {}
    method.to_source, method.to_target = nn.Identity(), nn.Identity()
    for name in ("source", "target"):
        discriminator = getattr(method, f"discriminator_{name}")
        discriminator.register_forward_hook(lambda _, given, __, name=name: seen.setdefault(name, []).append(given[0]))
    t1, t2 = torch.full((2, 1, 32, 32), 0.5), torch.full((2, 1, 32, 32), 0.3)
    play(method, t1=t1, t2=t2)
    # Fakes for the generators' turn, then real images and fakes for its own; nothing is changed on the way.
    assert [float(images.mean()) for images in seen["source"]] == pytest.approx([0.3, 0.5, 0.3])
    assert [float(images.mean()) for images in seen["target"]] == pytest.approx([0.5, 0.3, 0.5])


def test_the_pools_are_saved_and_their_gradient_never_reaches_a_generator():
    method = small(CycleGAN, pool=4)
    _, (turn, _) = play(method)
    assert int(method.pool_source.filled) == 2 and "pool_target.images" in method.state_dict()
    slopes = torch.autograd.grad(turn.total, list(method.to_source.parameters()), allow_unused=True)
    assert all(slope is None for slope in slopes)


def test_the_rate_of_cyclegan_falls_in_the_second_half():
    schedule = small(CycleGAN).stages()[0].players[0].schedule
    rates = [schedule(Progress(stage_round=number, stage_rounds=100)) for number in (0, 50, 75, 100)]
    assert rates == [1, 1, 0.5, 0]


def test_only_pix2pix_draws_both_images_of_one_patient():
    streams = {kind: small(kind).stages()[0].streams_in_order for kind in (Pix2Pix, CycleGAN, MGAN)}
    assert {kind: [(one.name, one.roles) for one in found] for kind, found in streams.items()} == {
        Pix2Pix: [("pairs", ("t1", "t2"))],
        CycleGAN: [("source", ("t1",)), ("target", ("t2",))],
        MGAN: [("source", ("t1",)), ("target", ("t2",))],
    }


def test_srgan_learns_for_squared_error_first_and_its_rate_drops_at_half_the_game():
    paper = SRGAN.Config()
    assert (paper.pretrain_rounds, paper.game_rounds, paper.batch_size, paper.patch) == (1_000_000, 200_000, 16, 96)
    method = small(SRGAN, patch=32)
    first, second = method.stages()
    assert [player.name for player in first.players] == ["generator"] and not first.validated
    ((turn,),) = play(method, 0)
    assert set(turn.losses) == {"error"}
    rate = second.players[0].schedule
    assert [rate(Progress(stage_round=n, stage_rounds=10)) for n in (0, 4, 5, 9)] == [1, 1, 0.1, 0.1]


def test_srgan_makes_four_times_as_many_rows_and_columns():
    method = small(SRGAN, patch=32)
    assert method.tiling.scale == (1, 4, 4)
    assert method.restore(torch.rand(2, 1, 8, 6)).shape == (2, 1, 32, 24)
    fine = torch.full((1, 1, 32, 32), -1.0)
    assert torch.allclose(method.coarse(fine), torch.zeros(1, 1, 8, 8), atol=1e-5)


def test_srgan_with_a_skip_begins_with_bicubic_interpolation():
    method = small(SRGAN, patch=32, skip=True).inference_mode()
    low = torch.rand(2, 1, 8, 8)
    (bicubic,) = method.task.degradation.interpolated(low[:1, 0].numpy())
    np.testing.assert_allclose(method.restore(low)[0, 0].detach().numpy(), 2 * bicubic - 1, atol=1e-5)
    assert not SRGAN.Config().skip, "the paper's network has none"


def test_srgan_divides_features_and_weighs_the_adversary():
    method = small(SRGAN, patch=32, pixel_weight=0.0, adversarial_weight=1e-3)
    for parameter in method.discriminator.parameters():
        nn.init.zeros_(parameter)
    fine = torch.rand(8, 1, 32, 32)
    (discriminator,), (generator,) = play(method, image=fine)
    assert discriminator.total.item() == pytest.approx(2 * 0.6931, abs=1e-3)
    assert generator.losses["adversarial"].item() == pytest.approx(0.6931e-3, rel=1e-3)
    fake = method.restore(method.coarse(fine))
    want = method.features.distance((fake + 1) / 2, (fine + 1) / 2) / 12.75**2
    assert generator.losses["content"].item() == pytest.approx(want.item(), rel=1e-3)


def test_the_networks_of_mgan_have_the_published_layers():
    with torch.device("meta"):
        assert Decoder(512, 3)(torch.zeros(1, 512, 16, 16)).shape == (1, 3, 128, 128)
        assert MarkovianCritic(256)(torch.zeros(1, 256, 32, 32)).shape == (1, 1, 6, 6)
        assert TextureCritic(256)(torch.zeros(1, 256, 96, 96)).shape == (1, 23 * 23)
        assert count(TextureCritic(256)) == (9 * 256 + 1) * 256 + 2 * 256 + 64 * 256 + 1


def test_texture_patches_reach_the_edge():
    maps = torch.arange(70.0).reshape(1, 1, 10, 7)
    corners = cut(maps, 4, 2)[:, 0, 0, 0].tolist()
    assert corners == [7 * row + column for row in (0, 2, 4, 6) for column in (0, 2, 3)]
    assert torch.equal(cut(maps[:, :, :4, :4], 4, 2), maps[:, :, :4, :4])


def test_a_texture_patch_is_scored_as_if_it_were_alone():
    critic = TextureCritic(2, 4, patch=4, step=2).eval()
    maps = torch.randn(2, 2, 10, 8)
    alone = critic(maps[1:, :, 2:6, 4:8])
    torch.testing.assert_close(critic(maps)[1, 1 * 3 + 2], alone[0, 0])


def test_a_painting_moves_its_pixels_alone_and_each_image_as_if_it_were_alone():
    method = small(MGAN).inference_mode()
    content = torch.rand(2, 1, 32, 32) - 0.5
    before = {name: value.clone() for name, value in method.state_dict().items()}
    together, alone = Painting(method, content), Painting(method, content[1:])
    for painting in (together, alone):
        for _ in range(3):
            painting.step()
    assert not torch.equal(together.pixels, content)
    torch.testing.assert_close(together.pixels[1:], alone.pixels, atol=1e-3, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_a_painting_descends_its_loss():
    method = small(MGAN, content_weight=0.0, texture_weight=0.0, smoothness_weight=1.0).inference_mode()
    content = torch.rand(1, 1, 32, 32) - 0.5
    painting = Painting(method, content)
    for _ in range(10):
        painting.step()
    assert painting.pixels.std() < content.std()


def test_mgan_learns_from_what_was_optimised():
    method = small(MGAN)
    texture, network = method.stages()
    assert set(network.derive) == {"target"} and network.stream.roles == ("t1", "target")
    assert not texture.validated and len(list(texture.turns(batches(method, 0)))) == method.config.steps
    with torch.no_grad():
        batch = {"t1": torch.rand(1, 1, 32, 32), "t2": torch.rand(1, 1, 32, 32)}
        method.inference_mode()
        derived = network.derive["target"](batch)
        assert derived.shape == batch["t1"].shape and not derived.requires_grad
        assert torch.equal(network.derive["target"]({"t2": batch["t2"]}), batch["t2"])


def test_mgan_weighs_target_and_margin():
    method = small(MGAN, rotation=0.0, zoom=1.0, adversarial_weight=0.01)
    for parameter in method.critic.parameters():
        nn.init.zeros_(parameter)
    target = torch.zeros(8, 1, 64, 64)
    (critic,), (generator,) = play(method, target=target)
    assert critic.total.item() == pytest.approx(2)
    assert generator.losses["adversarial"].item() == pytest.approx(0.01 / 1.01)
    assert generator.losses["target"].item() < 1 / 1.01


def test_patches_are_turned_and_zoomed_together():
    method = small(MGAN)
    image = torch.rand(16, 1, 32, 32)
    first, second = method.warped(image, image)
    assert torch.equal(first, second) and not torch.equal(first, image)
    (still,) = small(MGAN, rotation=0.0, zoom=1.0).warped(image)
    torch.testing.assert_close(still, image)


@pytest.mark.parametrize("kind", [SRGAN, MGAN])
def test_results_name_their_feature_network(kind):
    assert all("substitute" in name for name in small(kind).provenance().values())


def test_pix2pix_takes_sizes_that_its_levels_can_halve():
    with pytest.raises(UserError, match="--levels 5: rows and columns must be multiples of 32, but --size is 64 48"):
        Pix2Pix(Pix2Pix.Config.preset("small", size=(64, 48)))
    assert Pix2Pix(Pix2Pix.Config.preset("small", size=(64, 48), levels=4)).tiling.multiple == 16
