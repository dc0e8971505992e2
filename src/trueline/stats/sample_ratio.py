"""Did each arm get its share? A sample-ratio mismatch means that the experiment is broken, not the model.

The Bayes factor of a Dirichlet alternative around the intended shares against those shares is an e-value; factors of
stages with different shares multiply. At 1/α the release holds and nothing is said about the version.

Source: Lindon & Malek (NeurIPS 2022), as in Optimizely's `ssrm-test`; k = 1000 finds shifts of 0.5-2 points soonest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

STRENGTH = 1000.0


def log_bayes_factor(counts: Sequence[int], shares: Sequence[float], *, k: float = STRENGTH) -> float:
    """Evidence that units did not fall on the arms in these shares (the shares sum to one).

    >>> import math
    >>> round(math.exp(-log_bayes_factor((1000, 810), (0.5, 0.5), k=10_000)), 6)
    0.235657
    """
    n = np.asarray(counts, dtype=np.float64)
    theta = np.asarray(shares, dtype=np.float64)
    return log_evidence(n, k * theta) - float(np.sum(n * np.log(theta)))


def log_evidence(counts: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]) -> float:
    """The log-probability of a sequence with these counts, its shares drawn from Dirichlet(`prior`)."""
    return _log_beta(prior + counts) - _log_beta(prior)


def _log_beta(weights: npt.NDArray[np.float64]) -> float:
    return float(np.sum(gammaln(weights)) - gammaln(np.sum(weights)))
