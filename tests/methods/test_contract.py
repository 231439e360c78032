"""Contract of all systems, which is tested as soon as the catalogue calls a system ready."""

import copy
import inspect
import itertools
import re
from dataclasses import replace
from functools import cache

import pytest
import torch
from lightning_fabric import Fabric
from small import READY, Samples, ability_of, build, results, results_with_slopes, shown
from torch import nn

from ganatomy import catalogue
from ganatomy.api import configured
from ganatomy.case import Role
from ganatomy.cli.info import field_comments, page
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import judge_of
from ganatomy.game import Noise, RolesConfig, moves
from ganatomy.inference.predictor import predictor_of
from ganatomy.roles.image import ImageOptions
from ganatomy.training.augmenting import with_changes
from ganatomy.training.loop import Trainer

MODELS = [*READY, "brain-manifold-dcgan:small-denoiser"]
"""Systems with their small presets, and presets that make another model."""
OTHER_DATA = {("segan", "isic"), ("segan", "brats"), ("va-gan", "volumes"), ("fila-sgan", "neurons")}
"""Presets for other images than those of the first experiment of a paper, which their names say."""
HALFLIFE = 7.0
"""Images; what averages are asked for, where a system has the option."""
NORMS = (nn.modules.batchnorm._BatchNorm,)


@pytest.fixture(params=MODELS)
def method(request):
    return build(request.param)


@cache
def page_of(slug):
    """Return the page of a system, for which it is built in full size."""
    return page(catalogue.resolve(slug))


def state_of(method):
    return {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}


def prefixes(method, modules):
    names = {id(value): name for name, value in [*method.named_parameters(), *method.named_buffers()]}
    own = [value for module in modules for value in [*module.parameters(), *module.buffers()]]
    return {names[id(value)] for value in own if id(value) in names}


def batch_statistics(method):
    """Return the names of buffers that a forward pass in training mode may change."""
    return {
        f"{name}.{buffer}"
        for name, module in method.named_modules()
        if isinstance(module, NORMS)
        for buffer, _ in module.named_buffers(recurse=False)
    }


class Silent:
    def __init__(self):
        self.moved = []

    def turn(self, progress, turn):
        self.moved.append(turn.player)

    def gradients(self, turn, norm): ...

    def watches(self, progress):
        return False

    def round(self, progress): ...


def trainer(method, rounds=1, after_round=lambda trainer, ending: None):
    return Trainer(
        method,
        Fabric(accelerator="cpu"),
        [rounds] * len(method.stages()),
        lambda stage, index, drawn: Samples(method, stage, drawn),
        Silent(),
        after_round,
    )


def test_a_round_moves_the_players_it_names_and_nothing_else(method):
    method.train()
    for stage in method.stages():
        optimizers = {player.name: player.optimizer(player.parameters()) for player in stage.players}
        players = {player.name: player for player in stage.players}
        statistics = batch_statistics(method)
        if stage.begin:
            stage.begin()
        moved = set()
        for move in moves(stage.turns(Samples(method, stage))):
            before = state_of(method)
            for turn in move:
                parameters = players[turn.player].parameters()
                turn.total.backward(inputs=parameters, retain_graph=turn is not move[-1])
            for turn in move:
                optimizers[turn.player].step()
                optimizers[turn.player].zero_grad(set_to_none=True)
                moved.add(turn.player)
            after = state_of(method)
            changed = {name for name in before if not torch.equal(before[name], after[name])}
            allowed = prefixes(method, [m for turn in move for m in players[turn.player].modules])
            assert changed <= allowed | statistics, "a turn moved what its player does not own"
            for turn in move:
                assert changed & prefixes(method, players[turn.player].modules), f"{turn.player} did not move"
        assert moved == set(players), f"stage {stage.name}: players that never move"


def test_every_term_is_finite_and_reaches_its_player(method):
    method.train()
    for stage in method.stages():
        players = {player.name: player.parameters() for player in stage.players}
        if stage.begin:
            stage.begin()
        for move in moves(stage.turns(Samples(method, stage))):
            for turn in move:
                for name, term in turn.losses.items():
                    assert term.dim() == 0 and torch.isfinite(term), f"{turn.player}/{name}"
                    slopes = torch.autograd.grad(term, players[turn.player], retain_graph=True, allow_unused=True)
                    reached = [slope for slope in slopes if slope is not None]
                    assert all(torch.isfinite(slope).all() for slope in reached), f"{turn.player}/{name}"
                    assert any(slope.abs().max() > 0 for slope in reached), f"{turn.player}/{name} moves nobody"
                assert all(torch.isfinite(score).all() for score in turn.scores.values())


@pytest.mark.parametrize("slug", READY)
def test_a_system_declares_what_its_source_says_of_augmentation(slug):
    declared = vars(catalogue.load(slug))
    assert "stated_augmentation" in declared, "by the system itself, and not by the class that it extends"
    assert declared["stated_augmentation"] is None or not declared["stated_augmentation"].endswith(".")


def test_added_changes_suit_the_roles_of_every_stream(method):
    changes, task = method.task.changes(), method.task
    if not (changes.allowed.moves or changes.allowed.varies):
        assert changes.because
        return
    for stage in method.stages():
        roles = (*task.required, *stage.derive)
        for plain, stream in zip(stage.streams_in_order, with_changes(stage, roles, changes.allowed), strict=True):
            shown = roles if stream.roles is None else stream.roles
            assert replace(stream, augmentation=plain.augmentation) == plain
            assert set(stream.augmentation.varied_images) <= set(shown) & set(task.roles)
            kinds = [task.roles[name] for name in shown if name in task.roles]
            assert all(type(kind).move is not Role.move for kind in kinds if stream.augmentation.moves)
            assert all(kind.has_intensities for kind in kinds if kind.name in stream.augmentation.varied_images)


def test_parameters_belong_to_one_player_of_a_stage(method):
    named = {id(parameter) for parameter in method.parameters()}
    for stage in method.stages():
        owned = [id(parameter) for player in stage.players for parameter in player.parameters()]
        assert len(owned) == len(set(owned)), "two players own one parameter"
        assert set(owned) <= named, "a player moves what is not saved"
        assert stage.rounds >= 1 and len({player.name for player in stage.players}) == len(stage.players)
    assert len({stage.name for stage in method.stages()}) == len(method.stages())
    assert any(stage.validated for stage in method.stages())


def test_a_stopped_game_goes_on_bit_for_bit(request, method):
    model = request.node.callspec.params["method"]
    total = 2 * len(method.stages())
    whole = trainer(method, 2)
    whole.fit()
    for stop in sorted({1, total - 1}):
        saved = {}

        def save(game, ending, stop=stop, saved=saved):
            if game.progress.round == stop:
                saved.update(copy.deepcopy(game.state()))
                raise StopIteration

        with pytest.raises(StopIteration):
            first = build(model)
            trainer(first, 2, save).fit()
        other = build(model)
        torch.manual_seed(99)
        resumed = trainer(other, 2)
        resumed.load_state(saved)
        resumed.fit()
        assert all(torch.equal(value, state_of(other)[name]) for name, value in state_of(method).items()), stop


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_the_average_is_of_what_is_used(model, baseline):
    kind = catalogue.load(model.partition(":")[0]).Config
    if "ema_halflife" not in kind.model_fields:
        pytest.skip("it averages nothing, or by a rule of its own")
    if baseline and not kind.baseline:
        pytest.skip("it has no baseline")
    method = build(model, ema_halflife=HALFLIFE, **(kind.baseline if baseline else {})).inference_mode()
    found = results_with_slopes(method, shown(method))
    parameters = list(method.parameters())
    slopes = torch.autograd.grad(sum(part.sum() for part in found), parameters, allow_unused=True)
    used = {id(one) for one, slope in zip(parameters, slopes, strict=True) if slope is not None}
    # Of earlier stages may be left what they made.
    for player in [stage for stage in method.stages() if stage.validated][-1].players:
        if any(id(one) in used for one in player.parameters()):
            assert player.ema_halflife == HALFLIFE, f"--ema-halflife does not reach {player.name}"
    named = {player.name: player.ema_halflife for stage in method.stages() for player in stage.players}
    assert all(value is None for name, value in named.items() if "critic" in name or "discriminator" in name)


def test_saved_weights_give_the_same_result(request, method):
    trainer(method).fit()
    want = results(method.inference_mode(), shown(method))
    other = build(request.node.callspec.params["method"])
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    for a, b in zip(want, results(other.inference_mode(), shown(method)), strict=True):
        assert torch.equal(a, b)


def test_the_ability_changes_nothing_and_repeats_itself(method):
    trainer(method).fit()
    method.inference_mode()
    before, values = state_of(method), shown(method)
    given = values.clone()
    first, second = results(method, values), results(method, values)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b) and torch.isfinite(a).all()
    assert torch.equal(values, given), "the input was written to"
    after = state_of(method)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_each_sample_gets_what_it_would_get_alone(method):
    trainer(method).fit()
    method.inference_mode()
    values = shown(method)
    if getattr(method, "labelled", False):
        kept = method.sample
        method.sample = lambda latent, label: kept(latent, torch.zeros_like(label))
    together = results(method, values)
    turned = results(method, values.flip(0))
    alone = [results(method, values[index : index + 1]) for index in range(len(values))]
    for part, (whole, back) in enumerate(zip(together, turned, strict=True)):
        scale = float(whole.abs().max())
        torch.testing.assert_close(back.flip(0), whole, rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(torch.cat([each[part] for each in alone]), whole, rtol=1e-4, atol=1e-5 * scale)


def test_the_result_is_smaller_by_the_margin(method):
    predictor, tiling = predictor_of(method), method.tiling
    if not predictor.inputs or ability_of(method) in ("detect", "locate", "classify", "simulate"):
        pytest.skip("only images turned into others have the size of their input")
    method.inference_mode()
    for grow in (0, tiling.multiple):
        values = nn.functional.pad(
            shown(method), (0, grow, 0, grow), mode="replicate" if method.dims == 2 else "constant"
        )
        (output,) = results(method, values)
        lost = [2 * extra for extra in tiling.margin][3 - method.dims :]
        finer = tiling.scale[3 - method.dims :]
        assert list(output.shape[2:]) == [
            (size - less) * times for size, less, times in zip(values.shape[2:], lost, finer, strict=True)
        ]
        assert len(output) == len(values)
    for stage in method.stages():
        for stream in stage.streams_in_order:
            assert method.dims == 3 or (stream.patch[0] == 1 and stream.margin[0] == 0)


def test_the_task_is_one_object_and_its_preparation_has_a_key_of_its_own(method):
    task = method.task
    assert method.task is task and task.preparation == task.preparation
    assert len(task.preparation.digest) == 24
    assert {role for group in task.groups for role in group} <= set(task.roles)
    assert all(name == role.name for name, role in task.roles.items())
    assert task.given in task.roles and task.selection in task.directions


def test_predictors_and_judge_are_found_by_name(method):
    for ability in method.task.predictors:
        predictor = predictor_of(method, ability=ability)
        assert {*predictor.inputs, *predictor.optional} <= set(method.task.roles)
        assert callable(getattr(method, ability)) and predictor.outputs
    assert judge_of(method.task).scores


@pytest.mark.parametrize("slug", READY)
def test_every_preset_and_the_baseline_are_valid(slug):
    kind = catalogue.load(slug).Config
    assert "paper" in kind.presets and kind.presets["paper"] == {}
    for name in kind.presets:
        again = kind.preset(name)
        assert kind.model_validate(again.model_dump(mode="json")) == again, "run.yaml would not repeat the run"
    assert kind.baseline or ability_of(build(slug)) != "restore", "nothing to compare with"
    with pytest.raises(UserError, match=r"--preset nix: unknown; this system has paper"):
        kind.preset("nix")
    with pytest.raises(UserError, match="option no_such_thing"):
        kind.preset("paper", no_such_thing=1)


def images_of(config):
    """Return the phantom of a system, and window, unit and channels of its images as options of it or of its roles."""
    found = {name: getattr(config, name, None) for name in ("phantom", "window", "window_unit", "unit", "channels")}
    if not isinstance(config, RolesConfig):
        return {**found, "images": set()}
    found.pop("channels")  # the sum over all roles
    images = [one for one in config.roles.values() if isinstance(one, ImageOptions)]
    return {**found, "images": {(one.window, one.unit, one.channels) for one in images}}


@pytest.mark.parametrize("slug", READY)
def test_presets_do_not_change_which_images_a_system_takes(slug):
    cls = catalogue.load(slug)
    for preset in cls.Config.presets:
        if (slug, preset) not in OTHER_DATA:
            assert images_of(cls.Config.preset(preset)) == images_of(cls.Config()), preset


@pytest.mark.parametrize("slug", READY)
def test_the_page_lists_the_loss_weights_that_the_small_preset_changes(slug):
    kind = catalogue.load(slug).Config
    small, paper = kind.preset("small").model_dump(), kind().model_dump()
    changed = [name for name in paper if "weight" in name and small[name] != paper[name]]
    told = [line for line in page_of(slug).splitlines() if "loss weights that `small` changes" in line]
    assert len(told) == bool(changed)
    assert all(f"`{name}` from " in told[0] for name in changed)


def same_numbers(text, value):
    """Whether a text on a page is read as the numbers of an option; true of options that hold none."""
    numbers = value if isinstance(value, tuple) else (value,)
    if not numbers or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        return True
    return tuple(float(word) for word in text.split()) == numbers


@pytest.mark.parametrize("slug", READY)
def test_numbers_on_the_page_are_those_of_the_system(slug):
    kind, text = catalogue.load(slug).Config, page_of(slug)
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| (.*?) \| ", text, re.MULTILINE))
    for name, value in kind.preset():
        if (row := name.replace("_", "-")) in rows:
            assert same_numbers(rows[row], value), f"--{row} {value} is printed as {rows[row]}"
    for preset, values in kind.presets.items():
        (line,) = re.findall(rf"^- `{preset}`: (.*)$", text, re.MULTILINE)
        told = dict(part.partition(" ")[::2] for part in line.split(", "))
        for name, value in values.items():
            assert name == "roles" or same_numbers(told[name], value), f"{preset}: {name} {value} is {told[name]}"


@pytest.mark.parametrize("slug", READY)
def test_a_baseline_differs_from_the_method_or_is_refused(slug):
    kind = catalogue.load(slug).Config
    for preset in kind.presets:
        if kind.baseline:
            assert configured(kind, preset, True, {}, {}) != configured(kind, preset, False, {}, {}), preset
        else:
            with pytest.raises(UserError, match=r"^--baseline: this system has none"):
                configured(kind, preset, True, {}, {})


@pytest.mark.parametrize("slug", READY)
def test_the_baseline_has_no_adversary(slug):
    if not catalogue.load(slug).Config.baseline:
        pytest.skip("nothing is left of it without its adversary")
    method = build(slug, **catalogue.load(slug).Config.baseline)
    assert {len(stage.players) for stage in method.stages()} - {0} == {1}, "stages without players only compute"
    assert not getattr(method, "adversarial", False)
    assert set(build(slug).state_dict()) > set(method.state_dict()), "the baseline keeps the adversary's weights"
    trainer(method).fit()


@pytest.mark.parametrize("slug", READY)
def test_every_option_says_what_it_is(slug):
    kind = catalogue.load(slug).Config
    assert set(kind.model_fields) == set(field_comments(kind))


@pytest.mark.parametrize("slug", READY)
def test_a_system_tells_who_published_it(slug):
    text = inspect.getdoc(catalogue.load(slug))
    assert any(mark in text for mark in ("doi:", "arXiv"))
    assert catalogue.load(slug).dims in (
        (2, 3) if "/" in catalogue.resolve(slug).dims else (int(catalogue.resolve(slug).dims[0]),)
    )


@pytest.mark.parametrize("slug", READY)
def test_two_halves_of_the_noise_are_the_whole(slug):
    method = build(slug)
    whole = Noise(3).normal(4, 2)
    method.noise = Noise(3, rank=1, world=2)
    assert torch.equal(method.noise.normal(2, 2), whole[2:])


def test_a_longer_game_keeps_naming_the_same_players(method):
    for stage in method.stages():
        rounds = [
            [turn.player for move in moves(stage.turns(Samples(method, stage, drawn))) for turn in move]
            for drawn in (0, 5)
        ]
        assert set(itertools.chain(*rounds)) <= {player.name for player in stage.players}
