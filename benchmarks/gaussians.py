"""Gaussian mixtures in plain float64 NumPy: the judge's own densities, and EM for the oracle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.protocol import Array, Fitted, Point

__all__ = ["Gaussians", "average", "dense", "em"]

_CHUNK = 1024


@dataclass(frozen=True)
class Gaussians:
    """sum_k w_k N(x | m_k, C_k).

    Args:
        weights: w, shape [K].
        means: m, shape [K, D].
        covs: C, shape [K, D, D].
    """

    weights: Array
    means: Array
    covs: Array

    def fitted(
        self, passes: float, trace: Iterable[Point] = (), notes: Mapping[str, Any] | None = None
    ) -> Fitted:
        """A fit that ends with this mixture."""
        return Fitted(self.log_density, lambda: self.weights, passes, tuple(trace), notes or {}, self.predict)

    def log_joint(self, x: Array) -> Array:
        """log w_k + log N(x | m_k, C_k), shape [n, K]."""
        dim, count = x.shape[1], len(self.weights)
        factors = np.linalg.cholesky(np.asarray(self.covs, np.float64))
        whiten = np.linalg.inv(factors).transpose(0, 2, 1)
        with np.errstate(divide="ignore"):  # an unused component may have weight 0
            log_weights = np.log(np.asarray(self.weights, np.float64))
        half_log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        constant = log_weights - half_log_det - 0.5 * dim * math.log(2 * math.pi)
        # All components in one matrix product; the rows of a chunk stay in the cache.
        wide = whiten.transpose(1, 0, 2).reshape(dim, count * dim)
        shift = np.einsum("kd,kde->ke", np.asarray(self.means, np.float64), whiten).reshape(-1)
        out = np.empty((len(x), count))
        for start in range(0, len(x), _CHUNK):
            white = x[start : start + _CHUNK].astype(np.float64) @ wide
            white -= shift
            np.square(white, out=white)
            squares = white.reshape(-1, count, dim).sum(2)
            out[start : start + _CHUNK] = constant - 0.5 * squares
        return out

    def log_density(self, x: Array) -> Array:
        """Log density of rows, nats."""
        return log_sum_exp(self.log_joint(x))

    def predict(self, x: Array) -> Array:
        """Most probable component of rows."""
        return np.asarray(self.log_joint(x).argmax(1))


def dense(covs: Array) -> Array:
    """Covariances [K, D, D], also from variances [K, D]."""
    full = np.asarray(covs, np.float64)
    return full[:, :, None] * np.eye(full.shape[1]) if full.ndim == 2 else full


def average(draws: list[Gaussians], x: Array) -> Array:
    """Log of the mean density of several mixtures: a Monte-Carlo predictive."""
    total = np.full(len(x), -np.inf)
    for draw in draws:
        np.logaddexp(total, draw.log_density(x), out=total)
    return np.asarray(total - math.log(len(draws)))


def em(start: Gaussians, x: Array, *, iterations: int = 50, tolerance: float = 1e-5) -> tuple[Gaussians, int]:
    """Expectation-maximisation by the textbook, from `start`.

    Started from the true parameters it is the oracle: what estimation from these rows allows.

    Args:
        start: first parameters.
        x: rows, shape [N, D].
        iterations: most iterations.
        tolerance: ends when the mean log-likelihood rises by less, nats per row.

    Returns:
        The mixture and the number of iterations.
    """
    now, last = start, -math.inf
    for done in range(iterations):
        joint = now.log_joint(x)
        log_norm = log_sum_exp(joint)
        level = float(log_norm.mean())
        if not level - last > tolerance:
            return now, done
        last = level
        now = _maximise(x, np.exp(joint - log_norm[:, None]))
    return now, iterations


def _maximise(x: Array, resp: Array) -> Gaussians:
    """Weighted sample weights, means and covariances; a component without rows keeps weight 0."""
    counts = resp.sum(0)
    dim = x.shape[1]
    means = np.zeros((len(counts), dim))
    covs = np.tile(np.eye(dim), (len(counts), 1, 1))
    for k in np.flatnonzero(counts > dim):
        means[k] = resp[:, k] @ x / counts[k]
        for start in range(0, len(x), _CHUNK):
            rows = x[start : start + _CHUNK] - means[k]
            part = (rows * resp[start : start + _CHUNK, k, None]).T @ rows / counts[k]
            covs[k] = part + (covs[k] if start else 1e-6 * np.eye(dim))
    return Gaussians(np.where(counts > dim, counts, 0.0) / counts.sum(), means, covs)


def log_sum_exp(joint: Array) -> Array:
    """log sum_k exp(joint_k) of each row."""
    top = joint.max(1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(joint - top).sum(1)))
