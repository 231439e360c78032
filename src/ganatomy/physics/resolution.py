"""What a coarser acquisition of an image would show."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad


def coarser(image: Tensor, factor: int, blur: float) -> Tensor:
    """Blurred and sampled at fewer pixels, each in the middle of those it stands for.

    Cubic sampling with a kernel as wide as the new pixels, after a Gaussian blur; values may overshoot by a little.

    Args:
        image: (N, C, H, W); H and W are multiples of the factor.
        factor: old pixels per new pixel along either axis.
        blur: standard deviation of the Gaussian, in old pixels; 0 for none.

    Returns:
        (N, C, H / factor, W / factor).

    Raises:
        ValueError: a size is no multiple of the factor.
    """
    rows, columns = image.shape[2:]
    if rows % factor or columns % factor:
        raise ValueError(f"images of {rows}x{columns} pixels have no {factor} times coarser grid")
    smooth = _blurred(image, blur) if blur else image
    return interpolate(smooth, (rows // factor, columns // factor), mode="bicubic", antialias=True)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=image.device)
    taps = torch.exp(-0.5 * (offsets / sigma).square())
    taps = (taps / taps.sum()).to(image)
    planes = pad(image.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    planes = conv2d(conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return planes.view_as(image)


def enlarged(image: Tensor, factor: int) -> Tensor:
    """Bicubic interpolation, (N, C, H, W) to (N, C, factor·H, factor·W), every pixel over those it stands for."""
    # With this switch torch takes the usual cubic kernel, which keeps ramps straight.
    return interpolate(image, scale_factor=float(factor), mode="bicubic", antialias=True)
