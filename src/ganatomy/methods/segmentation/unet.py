"""U-Net planned from the data: the segmentation network without an adversary that others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ganatomy.errors import UserError
from ganatomy.game import Batch, Geometry, Player, Stage, Tiling, Triple, Turn, polynomial_decay, sgd
from ganatomy.images.augmentation import Augmentation
from ganatomy.losses.segmentation import binary_cross_entropy, cross_entropy, dice_loss
from ganatomy.nets.dynunet import DynamicUNet
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.codes import BRATS_2017
from ganatomy.tasks.segmentation.kinds import TUMOUR
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

Plan = Literal["all", "network", "none"]

DEEP = 16
"""Slices of the median training case from which the network is 3D (our choice; nnU-Net trains both and compares)."""
THIN = 3.0
"""Ratio of the coarsest spacing to the next one from which its axis is resampled to a finer spacing than the median."""
FINE = 10.0
"""Percentile of the spacings of such an axis that it is then resampled to."""
SMALLEST = 4
"""Least extent of the deepest feature maps."""
WIDEST = {2: 512, 3: 320}
"""Largest number of channels by spatial axes."""
TYPICAL = Geometry((1, 512, 512), (1.0, 1.0, 1.0))
"""Geometry that the network is planned for where no training cases are at hand."""


class UNet(Segmenter):
    """U-Net whose spacing, patch and depth are planned from the training cases, trained with Dice and cross-entropy.

    It has no adversary and is meant to be compared with (``--against unet``): MONAI's DynUNet with instance norm,
    leaky ReLU and deep supervision. The rules of the plan are those of nnU-Net as described in its paper, without its
    ensembles, its search among several networks and its estimate of memory: `spacing_of`, `patch_of` and `strides_of`.
    Images are scaled as for the other systems of this kind, not standardised, and losses of coarser outputs are taken
    on the full grid, to which MONAI resizes them.

    Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation,
    Nature Methods 18:203-211, 2021. doi:10.1038/s41592-020-01008-z.
    """

    stated_augmentation = "rotated, scaled, mirrored, and varied in contrast, gamma, blur and noise at random"

    class Config(SegmentationConfig):
        """Numbers of nnU-Net; what is none is planned from the training cases."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            **TUMOUR,
        }

        labels: str = "tumour"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = BRATS_2017  # label values by region
        embedded: Embedded = Embedded("brain-tumour-mr", grid={"slices": 12})  # phantom to learn from without --data
        plan: Plan = "all"  # what is planned from the training cases: spacing and network, the network alone, nothing
        patch_shape: Triple | None = None  # slices, rows and columns of a patch; one slice for a 2D network
        network_spacing: tuple[float, float, float] | None = None  # mm that halvings and kernels are for
        batch_size: int | None = None  # patches; 2 in 3D and 12 in 2D unless given
        patch_voxels: int = Field(
            128**3, ge=4096, le=512**3
        )  # largest size of a planned 3D patch (ours, for nnU-Net's memory)
        patch_pixels: int = Field(
            512**2, ge=256, le=8192**2
        )  # largest size of a planned 2D patch (ours, for nnU-Net's memory)
        width: int = 32  # channels of the finest feature maps, doubled at each halving
        game_rounds: int = 250_000  # 1000 epochs of 250 updates
        learning_rate: float = 0.01  # initial learning rate, which falls as (1 - t/T)^0.9
        momentum: float = 0.99  # Nesterov momentum
        weight_decay: float = 3e-5  # multiple of the weights that is added to their gradient
        dice_weight: float = 1.0  # weight of the soft Dice loss, beside the cross-entropy with weight 1
        centred: float = Field(1 / 3, ge=0, le=1)  # share of patches centred on a region, labels equally often
        flips: tuple[int, ...] = (0, 1, 2)  # axes along which patches are mirrored: 0 slices, 1 rows, 2 columns
        augmentation: Augmentation = Augmentation(
            move_share=0.36,
            rotation=(30.0, 30.0, 30.0),
            scaling=0.3,
            vary_share=0.5,
            gamma=1.5,
            contrast=0.25,
            blur=1.0,
            noise=0.1,
        )  # random changes of training patches, near those of nnU-Net

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "patch_voxels": 16 * 48 * 48,
                "patch_pixels": 96 * 96,
                "batch_size": 4,
                "width": 8,
                "game_rounds": 600,
            },
        }
        compared: ClassVar[Mapping[str, Any]] = {"plan": "network"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        patch, spacing = self.patch, config.network_spacing or TYPICAL.spacing
        self.dims = 2 if patch[0] == 1 else 3
        sides, steps = (patch[3 - self.dims :], spacing[3 - self.dims :])
        if max(sides) < 4 * SMALLEST:
            raise UserError(f"--patch-shape: no side has {4 * SMALLEST} voxels, so that it could be halved twice")
        strides, kernels = strides_of(sides, steps)
        self.divisors = [prod(own) for own in zip(*strides, strict=True)]
        halvings = len(strides) - 1
        widths = [min(config.width * 2**level, WIDEST[self.dims]) for level in range(halvings + 1)]
        self.network = DynamicUNet(self.image_channels, len(config.regions), strides, kernels, widths)

    @property
    def patch(self) -> Triple:
        """Size of the patches, (slices, rows, columns); that of a typical picture where none is planned."""
        c = self.config
        return c.patch_shape or patch_of(TYPICAL, c.patch_pixels)

    @property
    def batch_size(self) -> int:
        """Number of patches in a batch."""
        return self.config.batch_size or (12 if self.dims == 2 else 2)

    @property
    def adversarial(self) -> bool:
        return False

    @property
    def exclusive(self) -> bool:
        return next(iter(self.config.regions.values())) == (0,)

    @property
    def embedded(self) -> Embedded:
        return self.config.embedded

    @property
    def tiling(self) -> Tiling:
        return Tiling(tile=self.patch, overlap=0.5, blend="gaussian")

    def planned(self, cases: Callable[[], Sequence[Geometry]]) -> Mapping[str, Any]:
        c = self.config
        if c.plan == "none" or (c.patch_shape and c.network_spacing):
            return {}
        geometries, values = cases(), {}
        spacing = c.spacing
        if spacing is None and c.plan == "all" and len({geometry.spacing for geometry in geometries}) > 1:
            spacing = values["spacing"] = spacing_of(geometries)
        median = median_of(geometries, spacing)
        deep = median.shape[0] >= DEEP
        patch = patch_of(median, c.patch_voxels if deep else c.patch_pixels, deep)
        return {**values, "patch_shape": c.patch_shape or patch, "network_spacing": c.network_spacing or median.spacing}

    def check_sizes(self) -> None:
        check_input(self.network, (2, self.image_channels, *self.patch[3 - self.dims :]), "--patch-shape")

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = sgd(c.learning_rate, c.momentum, nesterov=c.momentum > 0, weight_decay=c.weight_decay)
        player = Player("network", (self.network,), moves, polynomial_decay(0.9), max_gradient_norm=12.0)
        flips = tuple(axis for axis in c.flips if self.dims == 3 or axis)
        centred = 0.0 if c.instances else c.centred  # maps of instances have no index of labels
        stream = self.annotated(self.batch_size, self.patch, centred=centred, flips=flips)
        return [Stage("segment", self.turns, [player], c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        truth, levels = self.truth(batch), self.network.levels(self.image(batch))
        weights = [0.5**level for level in range(len(levels))]
        losses: dict[str, Tensor] = {}
        for weight, logits in zip(weights, levels, strict=True):
            for name, loss in self.losses(interpolate(logits, truth.shape[2:]), truth).items():
                losses[name] = losses.get(name, logits.new_zeros(())) + weight / sum(weights) * loss
        yield Turn("network", losses)

    def losses(self, logits: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return the losses of one output; the background of exclusive classes has no Dice loss."""
        entropy = cross_entropy if self.exclusive else binary_cross_entropy
        found = {"entropy": entropy(logits, truth)}
        if weight := self.config.dice_weight:
            first = int(self.exclusive)
            maps = self.probabilities(logits)[:, first:]
            found["dice"] = weight * dice_loss(maps, truth[:, first:], squared=False)
        return found

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the regions, (N, regions, [D,] H, W)."""
        return logits.softmax(1) if self.exclusive else logits.sigmoid()

    def segment(self, image: Tensor) -> Tensor:
        # Images that are smaller than a patch are continued to extents that the halvings divide.
        lost = [-extent % divisor for extent, divisor in zip(image.shape[2:], self.divisors, strict=True)]
        padded = pad(image, [side for extra in reversed(lost) for side in (0, extra)], "replicate")
        within = (slice(None), slice(None), *(slice(0, extent) for extent in image.shape[2:]))
        return self.probabilities(self.network(padded)[within])


def spacing_of(cases: Sequence[Geometry]) -> tuple[float, float, float]:
    """Return the spacing that cases are resampled to: the median of each axis.

    Along the coarsest axis it is the 10th percentile instead, where its median is `THIN` times as coarse as the next
    axis and it has as many times fewer voxels, so that volumes with thin slices are not blurred for the sake of others.

    Args:
        cases: geometries of the training cases.
    """
    spacings = np.array([case.spacing for case in cases])
    shapes = np.median([case.shape for case in cases], axis=0)
    found = np.median(spacings, axis=0)
    coarse = int(found.argmax())
    others = [axis for axis in range(3) if axis != coarse]
    if found[coarse] > THIN * found[others].max() and shapes[coarse] * THIN < shapes[others].min():
        found[coarse] = max(float(np.percentile(spacings[:, coarse], FINE)), float(found[others].max()))
    first, second, third = (float(f"{value:.6g}") for value in found)
    return first, second, third


def median_of(cases: Sequence[Geometry], spacing: tuple[float, float, float] | None) -> Geometry:
    """Return the median extents and spacing of cases, after resampling where a spacing is given.

    Args:
        cases: geometries of the training cases.
        spacing: mm between slices, rows and columns; None keeps that of each case.
    """
    steps = np.array([spacing or case.spacing for case in cases])
    extents = np.array([case.shape for case in cases]) * [case.spacing for case in cases] / steps
    shape = np.maximum(np.round(np.median(extents, axis=0)), 1).astype(int)
    middle = [float(f"{value:.6g}") for value in np.median(steps, axis=0)]
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), (middle[0], middle[1], middle[2]))


def patch_of(median: Geometry, voxels: int, deep: bool = False) -> Triple:
    """Return the patch: as large as the median case, cut along its relatively longest axis until it is small enough.

    Before it is cut, the patch is no longer in mm along one axis than a cube of twice the allowed size. Every extent is
    one that the halvings of the network divide.

    Args:
        median: extents and spacing of the median case on the working grid.
        voxels: largest number of voxels of a patch.
        deep: whether patches have several slices.
    """
    first = 0 if deep else 1
    shape, spacing = np.array(median.shape[first:], float), np.array(median.spacing[first:])
    cube = (2 * voxels * spacing.prod()) ** (1 / len(shape)) / spacing
    patch = np.minimum(shape, cube)
    while True:
        extents = [max(round(extent), 2 * SMALLEST) for extent in patch]
        extents[int(patch.argmax())] = max(*extents, 4 * SMALLEST)
        strides, _ = strides_of(extents, spacing.tolist())
        divisors = np.prod(strides, axis=0)
        fitting = np.ceil(np.array(extents) / divisors).astype(int) * divisors
        if fitting.prod() <= voxels or (fitting <= 2 * SMALLEST).all():
            whole = [1] * first + [int(extent) for extent in fitting]
            return whole[0], whole[1], whole[2]
        longest = int((fitting / shape * (fitting > 2 * SMALLEST)).argmax())
        patch = fitting.astype(float)
        patch[longest] -= divisors[longest]


def strides_of(patch: Sequence[int], spacing: Sequence[float]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return the strides and kernel sizes of all levels of the encoder.

    At every level those axes are halved whose spacing is less than twice the smallest one among the axes that can
    still be halved, as long as at least `SMALLEST` voxels remain. Kernels have one voxel along an axis until its
    spacing is less than twice the smallest one, and three from then on.

    Args:
        patch: extents of a patch in voxels.
        spacing: mm between voxels along the same axes.

    Returns:
        Strides and kernel sizes, one tuple a level; the first stride is 1 along all axes.
    """
    extents, steps = np.array(patch), np.array(spacing, float)
    open_axes = np.zeros(len(extents), bool)
    strides: list[tuple[int, ...]] = [(1,) * len(extents)]
    kernels: list[tuple[int, ...]] = []
    while True:
        open_axes |= steps < 2 * steps.min()
        kernels.append(tuple(3 if wide else 1 for wide in open_axes))
        able = extents >= 2 * SMALLEST
        if not able.any():
            return strides, kernels
        halved = able & (steps < 2 * steps[able].min())
        extents, steps = -(-extents // np.where(halved, 2, 1)), steps * np.where(halved, 2, 1)
        strides.append(tuple(2 if half else 1 for half in halved))
