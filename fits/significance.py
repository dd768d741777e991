"""Local significance of a signal, for all masses of a scan at once.

The test statistic is q_0 (Cowan, Cranmer, Gross, Vitells, arXiv:1007.1727, eq. (12)): twice the logarithm of the likelihood ratio of the
best fit and of the background alone, 0 where the best fit has no signal. What looking at many masses does to the
largest of these significances is the subject of `look_elsewhere.py`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trila.fits.asymptotics import p0
from trila.fits.likelihood import Model, Observation
from trila.fits.limits import best_fit_error
from trila.fits.profile import profile

__all__ = ["Discovery", "discovery"]

Array = NDArray[np.float64]

#: The best fit may be worse than that of the background by this much, by rounding and the tolerance of the minima.
_WORSE = 1e-5


class Discovery(NamedTuple):
    """Significance of N data sets, each array of shape (N,); NaN where a fit failed.

    Attributes:
        q0: test statistic.
        p_local: probability of a larger q_0 without signal, in the asymptotic limit; 0.5 where q_0 = 0.
        z_local: the same in standard deviations, √q_0.
        best_fit, sigma: estimate of the parameter of interest and its error from the Hessian.
        verified: both fits converged, the best fit is not worse than that of the background, and the parameter of interest is
            not at its upper bound, where q_0 is too small.
    """

    q0: Array
    p_local: Array
    z_local: Array
    best_fit: Array
    sigma: Array
    verified: NDArray[np.bool_]


def discovery(
    model: Model, observation: Observation | None = None, which: NDArray[np.int64] | None = None
) -> Discovery:
    """Test the background against a signal.

    Args:
        model: with M alternatives.
        observation: N data sets, such as toys or those of `profile.asimov`, counts (N, I) and auxiliary (N, P); default the model's
            own data, once for each alternative.
        which: alternative of each data set, shape (N,); needed with `observation`.
    """
    fits = profile(model, observation, which)
    best_fit, sigma = best_fit_error(model, fits)
    with np.errstate(invalid="ignore"):
        gain = fits.background.deviance - fits.best.deviance
        sound = fits.background.converged & fits.best.converged & (gain >= -_WORSE)
    q0 = np.where(sound, np.where(best_fit <= 0, 0.0, np.maximum(gain, 0.0)), np.nan)
    upper = np.broadcast_to(model.upper, (model.alternatives, model.start.size))[fits.which, model.poi]
    inside = fits.best.values[:, model.poi] < upper
    return Discovery(q0, p0(q0), np.sqrt(q0), best_fit, sigma, sound & inside)
