"""Signals of MR sequences from proton density and relaxation times, and tables of these for tissues.

Times are in ms, angles in degrees, and signals relative to fully relaxed water of density 1 in the transverse plane.
All functions take numbers or arrays that broadcast. Pulses are instantaneous and exact; what is left over of the
transverse magnetisation is spoiled before each repetition, except in balanced sequences. The equations are those of
Bernstein, King and Zhou, Handbook of MRI Pulse Sequences, 2004.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Signal = NDArray[np.float64]


class Tissue(NamedTuple):
    """Proton density relative to water and relaxation times in ms; numbers, or arrays of the same shape (maps)."""

    density: Any
    t1: Any
    t2: Any
    t2_star: Any = None

    @property
    def decay(self) -> Any:
        """Time in ms by which gradient echoes decay: T2*, or T2 where it is unknown."""
        return self.t2 if self.t2_star is None else self.t2_star


BRAINWEB: Mapping[str, Tissue] = {
    "csf": Tissue(1.0, 2569, 329, 58),
    "grey": Tissue(0.86, 833, 83, 69),
    "white": Tissue(0.77, 500, 70, 61),
    "fat": Tissue(1.0, 350, 70, 58),
    "muscle": Tissue(1.0, 900, 47, 30),
    "plaque": Tissue(0.76, 752, 237, 204),
}
"""Tissues of the BrainWeb simulator at 1.5 T, as `ganatomy.phantoms.brain` has them: Kwan, Evans and Pike, IEEE Trans.
Med. Imaging 18(11), 1999, doi 10.1109/42.816072. Its times are shorter than those of `MEASURED`: the two tables must
not be mixed in one image, or the order of tissues changes."""

_DENSITIES = {
    "csf": 0.99,
    "grey": 0.83,
    "white": 0.69,
    "plaque": 0.83,
    "blood": 0.83,
    "muscle": 0.74,
    "myocardium": 0.76,
    "liver": 0.72,
    "spleen": 0.78,
    "kidney": 0.77,
    "pancreas": 0.71,
    "cartilage": 0.75,
    "fat": 0.9,
    "marrow": 0.6,
    "skin": 0.65,
    "fluid": 0.99,
    "lung": 0.2,
    "bone": 0.15,
    "air": 0.0,
}
_TIMES = {
    "csf": ((4300, 2000), (4300, 2000)),
    "grey": ((1124, 95), (1820, 99)),
    "white": ((884, 72), (1084, 69)),
    "plaque": ((1300, 150), (1700, 150)),
    "blood": ((1441, 290), (1932, 275)),
    "muscle": ((1008, 44), (1412, 50)),
    "myocardium": ((1030, 40), (1471, 47)),
    "liver": ((576, 46), (812, 42)),
    "spleen": ((1057, 79), (1328, 61)),
    "kidney": ((690, 55), (1194, 56)),
    "pancreas": ((584, 46), (725, 43)),
    "cartilage": ((1024, 30), (1168, 27)),
    "fat": ((343, 58), (382, 68)),
    "marrow": ((549, 49), (586, 49)),
    "skin": ((800, 30), (900, 30)),
    "fluid": ((3500, 800), (3500, 800)),
    "lung": ((1100, 2), (1300, 1)),
    "bone": ((200, 0.4), (200, 0.4)),
    "air": ((1000, 1), (1000, 1)),
}
MEASURED: Mapping[float, Mapping[str, Tissue]] = {
    field: {name: Tissue(_DENSITIES[name], *times[column]) for name, times in _TIMES.items()}
    for column, field in enumerate((1.5, 3.0))
}
"""Field strength in T to tissues, measured alike at 1.5 and 3 T.

Grey and white matter, blood, muscle, myocardium, kidney, liver and cartilage are those of Stanisz et al., Magn. Reson.
Med. 54:507, 2005, doi 10.1002/mrm.20605 (excised animal tissue and human blood at 37 °C); spleen, pancreas, marrow and
fat those of de Bazelaire et al., Radiology 230:652, 2004, doi 10.1148/radiol.2303021331 (volunteers). Cerebrospinal
fluid has the T1 of Rooney et al., Magn. Reson. Med. 57:308, 2007. The T2 of air-filled lung and of bone stand for the
rapid loss of gradient and spin echoes there. Densities of soft tissues are their shares of water by mass, after
Woodard and White, Br. J. Radiol. 59:1209, 1986. What these works do not measure (plaque, skin, other fluid, lung, bone,
and densities of fat and marrow) is our choice."""


def spin_echo(tissue: Tissue, repetition: ArrayLike, echo: ArrayLike) -> Signal:
    """Return the signal of a spin echo with one refocusing pulse half an echo time after the excitation by 90°."""
    density, t1, t2 = (np.asarray(value, np.float64) for value in tissue[:3])
    repetition, echo = np.asarray(repetition, np.float64), np.asarray(echo, np.float64)
    recovered = 1 - 2 * np.exp(-(repetition - echo / 2) / t1) + np.exp(-repetition / t1)
    return np.asarray(density * recovered * np.exp(-echo / t2))


def spoiled_gradient_echo(tissue: Tissue, repetition: ArrayLike, echo: ArrayLike, flip: ArrayLike) -> Signal:
    """Return the steady signal of a spoiled gradient echo (FLASH, SPGR) with a flip angle in degrees."""
    density, t1, decay = (np.asarray(value, np.float64) for value in (tissue.density, tissue.t1, tissue.decay))
    angle, left = np.radians(flip), np.exp(-np.asarray(repetition, np.float64) / t1)
    steady = np.sin(angle) * (1 - left) / (1 - np.cos(angle) * left)
    return np.asarray(density * steady * np.exp(-np.asarray(echo, np.float64) / decay))


def time_of_flight(
    tissue: Tissue, repetition: ArrayLike, echo: ArrayLike, flip: ArrayLike, pulses: ArrayLike = np.inf
) -> Signal:
    """Return the signal of a spoiled gradient echo of spins that the pulses have met for a while only.

    Blood that flows into a slab is fully relaxed: the first pulse finds all of its magnetisation, and each further one
    less, until the steady state of `spoiled_gradient_echo` is reached. So arteries are bright near where they enter.

    Args:
        tissue: density and relaxation times.
        repetition: time between pulses in ms.
        echo: time from a pulse to its echo in ms.
        flip: flip angle in degrees.
        pulses: number of the pulse that is followed by the echo, from 1; infinity for tissue that does not move.
    """
    t1, angle = np.asarray(tissue.t1, np.float64), np.radians(flip)
    along = np.exp(-np.asarray(repetition, np.float64) / t1)
    steady = (1 - along) / (1 - np.cos(angle) * along)
    kept = (along * np.cos(angle)) ** (np.asarray(pulses, np.float64) - 1)
    still = spoiled_gradient_echo(tissue, repetition, echo, flip)
    return np.asarray(still * (1 + (1 - steady) / steady * kept))


def pulses_met(path: ArrayLike, velocity: ArrayLike, repetition: float) -> Signal:
    """Return the number of pulses that blood has met, the present one included, after a way through the slab.

    Args:
        path: length of the way in mm.
        velocity: mean velocity in mm/s.
        repetition: time between pulses in ms.
    """
    time = 1000 * np.asarray(path, np.float64) / np.asarray(velocity, np.float64)
    return np.asarray(np.maximum(np.ceil(time / repetition), 1))


def inversion_recovery(tissue: Tissue, repetition: ArrayLike, inversion: ArrayLike, echo: ArrayLike) -> Signal:
    """Return the magnitude of the signal that is excited by 90° an inversion time after each inversion.

    With the inversion time that nulls fluid (`nulling_time`) this is FLAIR, with that of fat STIR. The echo must be
    short compared with the repetition time.
    """
    density, t1, t2 = (np.asarray(value, np.float64) for value in tissue[:3])
    repetition, inversion = np.asarray(repetition, np.float64), np.asarray(inversion, np.float64)
    recovered = np.abs(1 - 2 * np.exp(-inversion / t1) + np.exp(-repetition / t1))
    return np.asarray(density * recovered * np.exp(-np.asarray(echo, np.float64) / t2))


def balanced_ssfp(tissue: Tissue, repetition: ArrayLike, flip: ArrayLike) -> Signal:
    """Return the steady signal of a balanced sequence (bSSFP, TrueFISP) on resonance, echoed after half a repetition.

    The phase of its pulses alternates. The repetition time must be short compared with T2.
    """
    density, t1, t2 = (np.asarray(value, np.float64) for value in tissue[:3])
    angle, repetition = np.radians(flip), np.asarray(repetition, np.float64)
    along, across = np.exp(-repetition / t1), np.exp(-repetition / t2)
    steady = np.sin(angle) * (1 - along) / (1 - (along - across) * np.cos(angle) - along * across)
    return np.asarray(density * steady * np.sqrt(across))


def nulling_time(t1: float, repetition: float) -> float:
    """Return the inversion time in ms at which a tissue of this T1 gives no signal."""
    return float(t1 * np.log(2 / (1 + np.exp(-repetition / t1))))


def ernst_angle(t1: float, repetition: float) -> float:
    """Return the flip angle in degrees at which a spoiled gradient echo of a tissue is brightest."""
    return float(np.degrees(np.arccos(np.exp(-repetition / t1))))
