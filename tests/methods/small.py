"""Minimal configurations of all systems, and random batches for them."""

import torch

from ganatomy import catalogue
from ganatomy.inference.predictor import predictor_of
from ganatomy.roles.image import ImageRole

READY = [system.slug for system in catalogue.ready()]
SMALLER = {
    "batch_size": 2,
    "patch": 32,
    "patch_shape": (12, 16, 16),
    "search_steps": 10,
    "starters": 2,
    "steps": 4,
    "features_width": 0.0625,
}
"""Where a system has such options."""
SMALLEST = {
    "mdcsrn": {"critic_width": 2},
    "mgan": {"size": (32, 32), "width": 8, "critic_width": 8},
    "va-gan": {"size": (32, 32), "width": 4},
    "refinegan": {"size": (32, 32), "width": 6},
    "csmri-refinement": {"size": (32, 32), "block_width": 8},
    "deep-dealiasing": {"size": (32, 32), "width": 8},
    "scan-cxr": {"size": (48, 48), "width": 4, "critic_width": 4},
    "ssnet": {"discriminator_every": 2, "size": (16, 32, 48), "trunk_width": 8, "discriminator_width": 4},
    "voxel-atlas-gan": {"size": (24, 24, 24), "width": 2, "discriminator_width": 4},
    "btrfly-net": {"size": (40, 16, 16), "width": 2},
    "scgan-lv-coverage": {
        "size": (32, 32),
        "generator_widths": (12, 8, 4),
        "discriminator_widths": (4, 6, 8),
        "latent": 8,
    },
    "cnn-classifier": {"size": (32, 32), "widths": (4, 6, 8)},
    "kohl-advseg": {"width": 2, "discriminator_width": 2},
    "udrea-lesion-cgan": {"width": 4, "discriminator_width": 4},
    "m-gan": {"size": (32, 32), "width": 4, "discriminator_width": 4},
    "virtual-pet": {
        "size": (32, 32),
        "fcn_widths": (2, 3, 4, 5, 6),
        "fcn_batch_size": 2,
        "width": 4,
        "discriminator_width": 4,
    },
    "fila-sgan": {"size": (32, 32), "width": 4, "latent": 8, "discriminator_width": 4},
    "v-gan": {"size": (64, 64), "width": 2, "steps": 2},
    "vessel-dcgan-ssl": {"patch": 8, "trunk_widths": (3, 4), "generator_widths": (4, 3), "hidden": 8},
    "rib-cage-gan": {"width": 4, "discriminator_steps": 2, "estimator_steps": 3},
    "vess2ret": {"size": (32, 32), "levels": 4, "width": 4, "discriminator_widths": (4, 6), "steps": 2},
    "retina-aae": {"size": (32, 32), "width": 4, "discriminator_widths": (4, 6), "steps": 2},
    "dual-gan": {
        "size": (32, 32),
        "levels": 3,
        "width": 4,
        "latent": 6,
        "map_batch_size": 2,
        "map_widths": (8, 4),
        "map_discriminator_widths": (4, 6),
        "discriminator_width": 4,
    },
    "dan": {"width": 2, "evaluation_width": 4},
    "resunet-cgan-odoc": {"size": (32, 32), "widths": (4, 6, 8), "critic_width": 4},
    "polyphase-cyclegan": {"widths": (4, 6, 8), "discriminator_width": 4},
    "dacal-landmarks": {"size": (48, 32), "width": 2, "discriminator_width": 2},
    "unpaired-mr2ct": {"size": (32, 32), "width": 4, "discriminator_width": 4},
    "staingan": {"size": (32, 32), "width": 4, "discriminator_width": 4},
    "virtual-he": {"size": (32, 32), "width": 4, "discriminator_width": 4},
    "twod-microscopy": {"size": (32, 32), "width": 4, "discriminator_width": 4},
    "sst": {
        "size": (32, 32),
        "width": 4,
        "halvings": 2,
        "discriminator_widths": (4, 8),
        "classifier_width": 4,
        "classifier_blocks": (1, 1),
    },
    "cardiac-cyclegan": {"size": (32, 32), "width": 4, "discriminator_width": 4},
    "context-aware-gan": {
        "kernels": (3, 3, 3, 3),
        "widths": (4, 6, 4, 1),
        "unpadded": (0, 2),
        "discriminator_widths": (3, 4),
        "discriminator_hidden": (5,),
        "size": (8, 8, 8),
    },
    "sgan-mra": {"size": (32, 32), "width": 4, "blocks": 1, "discriminator_width": 4},
    "scgan-us": {"size": (24, 32), "width": 8, "latent": 6, "discriminator_width": 2, "discriminator_downs": 3},
    "sketcher-refiner": {"size": (16, 16, 16), "widths": (4, 8), "discriminator_width": 4},
}
"""Options of single systems that would be slow otherwise."""


def configured(model, **values):
    """Return the configuration of ``slug`` or ``slug:preset``, updated with ``values``."""
    slug, _, preset = model.partition(":")
    kind = catalogue.load(slug).Config
    preset = preset or ("small" if "small" in kind.presets else "paper")
    fit = {name: value for name, value in SMALLER.items() if name in kind.model_fields}
    return kind.preset(preset, **{**fit, **SMALLEST.get(slug, {}), **values})


def build(model, **values):
    """Build the untrained method of ``slug`` or ``slug:preset``, always with the same weights."""
    torch.manual_seed(0)
    return catalogue.load(model.partition(":")[0]).of(configured(model, **values))


def count(module):
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def round_of(method, batch, stage=-1):
    """Yield the turns of a round, each followed by a step of plain gradient descent of its player."""
    played = method.stages()[stage]
    players = {player.name: player for player in played.players}
    for turn in played.turns(iter([batch])):
        yield turn
        parameters = players[turn.player].parameters()
        slopes = torch.autograd.grad(turn.total, parameters)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter -= 0.1 * slope


class Samples:
    """Endless random batches of the shape of a stage, determined by their number alone."""

    def __init__(self, method, stage, drawn=0):
        self.method, self.stage, self.drawn = method, stage, drawn

    def __iter__(self):
        return self

    def __next__(self):
        draw = torch.Generator().manual_seed(self.drawn)
        self.drawn += 1
        streams = self.stage.streams_in_order
        drawn = {stream.name: self.stream(stream, draw) for stream in streams}
        return next(iter(drawn.values())) if len(streams) == 1 else drawn

    def stream(self, stream, draw):
        task, dims = self.method.task, self.method.dims
        names = stream.roles if stream.roles is not None else (*task.required, *self.stage.derive)
        values = {}
        for name in names:
            role = task.roles.get(name) or ImageRole(name)
            around = stream.margin if name in stream.wide else (0, 0, 0)
            size = [length + 2 * extra for length, extra in zip(stream.patch, around, strict=True)]
            values[name] = torch.stack([role.example(size[3 - dims :], draw) for _ in range(stream.batch_size)])
        if classes := task.classes:
            values["label"] = torch.arange(stream.batch_size) % len(classes)
        return values


def ability_of(method):
    """Return the name of the first ability of a method."""
    return next(iter(method.task.predictors))


def shown(method, count=3):
    """Return random inputs of a method's first ability, one row per sample.

    These are latent vectors, images of a detector's size, or images of an accepted size with the method's margin.
    """
    draw, task, tiling = torch.Generator().manual_seed(7), method.task, method.tiling
    predictor = predictor_of(method)
    if not predictor.inputs:
        return method.draw(range(count))
    width = sum(task.roles[role].channels for role in predictor.inputs)
    size = task.preparation.size
    if ability_of(method) in ("detect", "classify"):
        return 0.2 * torch.randn(count, width, *size, generator=draw)
    grow = tiling.multiple * max(1, (32 if method.dims == 2 else 8) // tiling.multiple)
    sizes = [(2 if axis == 0 else grow) + 2 * extra for axis, extra in enumerate(tiling.margin)]
    return 0.5 + 0.2 * torch.randn(count, width, *sizes[3 - method.dims :], generator=draw)


def results_with_slopes(method, values):
    own = (torch.arange(len(values)) % len(method.task.classes),) if getattr(method, "labelled", False) else ()
    found = getattr(method, ability_of(method))(values, *own)
    return found if isinstance(found, tuple) else (found,)


@torch.no_grad()
def results(method, values):
    return results_with_slopes(method, values)
