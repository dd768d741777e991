"""Random numbers of toy events: one stream per event.

An event is thus the same whatever block or file it is made for. The generator is SplitMix64 (Steele, Lea, Flood,
OOPSLA 2014). Kernels take `state`, an array of one element that `generator_state` puts at the beginning of an event's
stream and every draw moves on.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trila.processors.compiled import kernel

__all__ = [
    "State",
    "azimuth",
    "coarse_normal",
    "exponential",
    "generator_state",
    "normal_pair",
    "poisson",
    "uniform",
]

State = NDArray[np.uint64]

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_LOW16, _S16, _S32, _S48 = np.uint64(0xFFFF), np.uint64(16), np.uint64(32), np.uint64(48)
_S30, _S27, _S31, _S12 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(12)


@kernel
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _S30)) * _FIRST
    value = (value ^ (value >> _S27)) * _SECOND
    return value ^ (value >> _S31)


@kernel
def generator_state(seed: int, event: int, state: State) -> None:
    """Put `state` (one element) at the beginning of an event's random numbers."""
    state[0] = _mixed(_mixed(np.uint64(seed) + _INCREMENT) + np.uint64(event) * _INCREMENT)


@kernel
def uniform(state: State) -> float:
    """The next uniform number, between 0 and 1, both excluded."""
    state[0] += _INCREMENT
    return (float(_mixed(state[0]) >> _S12) + 0.5) * 2.0**-52


@kernel
def normal_pair(state: State) -> tuple[float, float]:
    """Two independent standard normal numbers (Marsaglia's polar method)."""
    while True:
        x, y = 2.0 * uniform(state) - 1.0, 2.0 * uniform(state) - 1.0
        square = x * x + y * y
        if 0.0 < square < 1.0:
            factor = math.sqrt(-2.0 * math.log(square) / square)
            return x * factor, y * factor


@kernel
def coarse_normal(state: State) -> float:
    """A nearly normal number from one draw, for what nobody fits: four 16-bit uniform numbers, never beyond 3.5."""
    state[0] += _INCREMENT
    draw = _mixed(state[0])
    total = (draw & _LOW16) + ((draw >> _S16) & _LOW16) + ((draw >> _S32) & _LOW16) + (draw >> _S48)
    return (float(total) - 2.0 * 65535.0) * math.sqrt(3.0) / 65536.0


@kernel
def exponential(mean: float, state: State) -> float:
    """An exponential number of this mean."""
    return -mean * math.log(uniform(state))


@kernel
def poisson(mean: float, state: State) -> int:
    """A Poisson number, for small means: it takes one draw more than it counts."""
    limit, product, count = math.exp(-mean), uniform(state), 0
    while product > limit:
        product *= uniform(state)
        count += 1
    return count


@kernel
def azimuth(state: State) -> float:
    """An angle φ of any direction, between -π and π."""
    return math.pi * (2.0 * uniform(state) - 1.0)
