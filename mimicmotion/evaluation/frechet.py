"""The Frechet distance of two sets of features, each seen as one normal distribution (Heusel et al. 2017).

Features are added up clip by clip, so that memory does not grow with their number.
"""

import numpy as np
import scipy.linalg


class Moments:
    """Mean and covariance of feature vectors that come in pieces."""

    def __init__(self):
        self.count = 0
        self._sum = self._outer = 0.0

    def add(self, features: np.ndarray) -> None:
        """Takes more vectors, (n, channels)."""
        features = np.asarray(features, np.float64)
        self.count += len(features)
        self._sum = self._sum + features.sum(0)
        self._outer = self._outer + features.T @ features

    def mean(self) -> np.ndarray:
        """(channels,)."""
        return self._sum / self.count

    def covariance(self) -> np.ndarray:
        """(channels, channels), divided by one less than the number of vectors."""
        return (self._outer - self.count * np.outer(self.mean(), self.mean())) / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float | None:
    """Squared distance of the means plus that of the covariances; None with fewer than two vectors in either set.

    The square root is that of the symmetric C1^1/2 C2 C1^1/2, which has the trace of (C1 C2)^1/2 and stays real where
    there are fewer vectors than channels.
    """
    if min(one.count, other.count) < 2:
        return None
    first, second = one.covariance(), other.covariance()
    root = _root(first)
    values = scipy.linalg.eigvalsh(root @ second @ root)
    shared = np.sqrt(values.clip(min=0)).sum()
    apart = np.square(one.mean() - other.mean()).sum()
    return float(max(0.0, apart + np.trace(first) + np.trace(second) - 2 * shared))


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = scipy.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
