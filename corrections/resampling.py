"""Statistical errors by resampling events: the Poisson bootstrap.

Each replica gives every event a weight k, Poisson distributed with mean 1 and decided by a hash of run, luminosity
block and event. So all entries of an event share their fate, whatever their weights, and the replicas of two
histograms, bins or files of the same events are the same: their correlations come out by themselves
(Chamandy et al., "Estimating uncertainty for massive data streams", 2012).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from trila.corrections.event_hash import event_hash

__all__ = ["bootstrap_weights", "second_half"]

# 16 of the 64 bits of a hash decide one replica. The table gives Poisson(1) to 1e-5 in each probability.
_POISSON = np.searchsorted(special.pdtr(np.arange(20), 1.0), (np.arange(2**16) + 0.5) / 2**16).astype(
    np.uint8
)
_SALT = 0x626F6F74  # streams of their own, independent of the thinning of pairs and of the two halves
_SALT_HALF = 0x68616C66


def bootstrap_weights(
    run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike, replicas: int
) -> Iterator[NDArray[np.uint8]]:
    """For each replica in turn, how often it takes each entry.

    Args:
        run, luminosity_block, event: identity of each entry's event, shape (n,).
        replicas: how many.

    Yields:
        Shape (n,).

    >>> first, second = bootstrap_weights([1, 1, 1], [1, 1, 1], [7, 7, 8], 2)
    >>> bool(first[0] == first[1])
    True
    """
    for first in range(0, replicas, 4):
        bits = event_hash(run, luminosity_block, event, salt=_SALT + first)
        for position in range(min(4, replicas - first)):
            yield _POISSON[(bits >> np.uint64(16 * position)).astype(np.uint16)]


def second_half(run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike) -> NDArray[np.bool_]:
    """Which entries belong to the half that a calibration does not see, and its closure is shown with.

    >>> second_half([1], [1], [7]).dtype
    dtype('bool')
    """
    return np.asarray(event_hash(run, luminosity_block, event, salt=_SALT_HALF) >> np.uint64(63) == 1)
