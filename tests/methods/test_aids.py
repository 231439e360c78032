"""Which system accepts which aids of `ganatomy.game.Aids`, as docs/training.md says."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small import READY, Samples, build
from toys import Quiet

from ganatomy import catalogue
from ganatomy.game import Aids
from ganatomy.nets.enlarging import restore_enlarged
from ganatomy.training.aids import prepare
from ganatomy.training.loop import Trainer
from ganatomy.training.shapes import refusals

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
WHY = {
    "batch norm": "batch norm",
    "no adversary": "trained without an adversary",
    "weights with a scale": "weights that are scaled at run time",
    "weights changed after turns": "changes weights itself after a turn",
    "scores of its own": "computes the scores",
    "no scores of real samples": "gives no scores of real and of generated samples",
    "scores of several calls": "come from several calls",
    "no second slope": "no round can be played with these aids",
    "samples one by one": "no round can be played with these aids",
}
"""Reason in the table to words of the message."""

JOINT_SCORES = ("pack", "minibatch_discrimination")
"""Aids for systems that only make samples from noise."""


def refused() -> dict[str, list[tuple[set[str], str]]]:
    """System to the sets of aids in the table of the page, each with its reason."""
    found: dict[str, list[tuple[set[str], str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[2] in WHY:
            aids = {word.strip("` ").removeprefix("--aids.").replace("-", "_") for word in cells[1].split(",")}
            for system in cells[0].split(","):
                found.setdefault(system.strip("` "), []).append((aids, WHY[cells[2]]))
    return found


@cache
def refusals_of(slug: str) -> Mapping[str, str]:
    return refusals(build(slug))


@pytest.mark.parametrize("slug", READY)
def test_a_system_refuses_the_aids_that_the_page_names(slug: str) -> None:
    found, told = refusals_of(slug), refused().get(slug, [])
    method = build(slug)
    if set(method.task.predictors) != {"sample"}:
        told = [*told, (set(JOINT_SCORES), "made from noise alone" if method.adversarial else WHY["no adversary"])]
    assert set(found) == {aid for aids, _ in told for aid in aids}
    for aids, words in told:
        for aid in aids:
            assert words in found[aid], found[aid]
            assert found[aid].startswith(f"--aids.{aid.replace('_', '-')}: ")


def test_the_page_names_no_system_that_does_not_exist() -> None:
    assert set(refused()) <= set(READY)


FRAMEWORKS = {system.slug for system in catalogue.ready() if system.section == "frameworks"}
EACH = [
    pytest.param(slug, marks=() if slug in FRAMEWORKS or not place % 4 else pytest.mark.slow)
    for place, slug in enumerate(READY)
]
"""All systems; most that are no framework are slow, since their rounds differ in networks and not in what aids do."""


@pytest.mark.parametrize("slug", EACH)
def test_a_round_with_all_accepted_aids_moves_those_who_move_without(slug: str) -> None:
    # Players of VAE-GAN pause by their losses, which are others one round ahead.
    joint = "consensus" if slug == "vae-gan" else ("extragradient", "consensus")[READY.index(slug) % 2]
    method = build(slug)
    wanted = {**dict.fromkeys(("instance_noise", "r1", "dragan", "gradient_penalty"), 0.1), "spectral_norm": True}
    wanted |= {"adversary_rate": 2.0, "historical_averaging": 0.1, "feature_matching": 0.1, joint: True}
    aids = Aids(**{name: value for name, value in wanted.items() if name not in refusals_of(slug)})
    prepare(method, aids)
    rounds = [0] * (len(method.stages()) - 1) + [1]
    trainer = Trainer(
        method,
        Fabric(accelerator="cpu"),
        rounds,
        lambda stage, index, drawn: Samples(method, stage, drawn),
        Quiet([]),
        lambda trainer, ending: None,
        aids,
    )
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    trainer.fit()
    moved = {player for _, player in trainer.observer.turns}
    names = {id(value): name for name, value in method.named_parameters()}
    for player in method.stages()[-1].players:
        own = [names[id(value)] for value in player.parameters()]
        now = dict(method.named_parameters())
        assert all(now[name].isfinite().all() for name in own)
        assert any(not torch.equal(now[name], before[name]) for name in own) == (player.name in moved), player.name


@pytest.mark.parametrize("name", JOINT_SCORES)
@pytest.mark.parametrize("slug", [slug for slug in READY if set(build(slug).task.predictors) == {"sample"}])
def test_a_round_with_scores_of_several_samples_is_played_and_can_be_loaded(slug: str, name: str) -> None:
    if name in refusals_of(slug):
        pytest.skip("refused, as the page says")
    method, aids = build(slug), Aids.model_validate({name: 2})
    prepare(method, aids)
    stages = len(method.stages())
    trainer = Trainer(
        method,
        Fabric(accelerator="cpu"),
        [0] * (stages - 1) + [1],
        lambda stage, index, drawn: Samples(method, stage, drawn),
        Quiet([]),
        lambda trainer, ending: None,
        aids,
    )
    trainer.fit()
    assert all(value.isfinite().all() for value in method.parameters())
    tensors = {key: value for key, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    again = build(slug)
    assert set(tensors) != set(again.state_dict())
    restore_enlarged(again, tensors)
    assert {key: value.shape for key, value in tensors.items()} == {
        key: value.shape for key, value in again.state_dict().items() if isinstance(value, torch.Tensor)
    }
