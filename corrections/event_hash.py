"""Random numbers that belong to an event, whatever machine, chunk or order it is processed in.

The SplitMix64 finaliser (Steele, Lea and Flood, doi:10.1145/2660193.2660195) applied in turn to run, luminosity block
and event number; a different `salt` gives an independent number.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["event_hash", "event_uniform"]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def event_hash(
    run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike, salt: int = 0
) -> NDArray[np.uint64]:
    """64 bits per event.

    Args:
        run: run numbers, shape (n,).
        luminosity_block: luminosity blocks, shape (n,).
        event: event numbers, shape (n,).
        salt: chooses one of many independent streams.

    >>> hex(event_hash([0], [0], [0])[0]) != hex(event_hash([0], [0], [0], salt=1)[0])
    True
    """
    with np.errstate(over="ignore"):  # wrapping around is the point
        state = np.full(np.shape(event), salt, dtype=np.uint64)
        for part in (run, luminosity_block, event):
            state = _mix(state + _GAMMA + np.asarray(part, dtype=np.uint64) * _GAMMA)
    return state


def event_uniform(
    run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike, salt: int = 0
) -> NDArray[np.float64]:
    """A number in [0, 1) per event, from the upper 53 bits of its hash."""
    bits = event_hash(run, luminosity_block, event, salt) >> np.uint64(11)
    return np.asarray(bits.astype(np.float64) * 2.0**-53)
