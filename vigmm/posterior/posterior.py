"""The posterior: everything a fit learned, and what can be asked of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from vigmm.core import rng
from vigmm.core.precision import DTYPES
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.moments import Standardizer
from vigmm.families import Family
from vigmm.models import Mixture, Prior
from vigmm.posterior import draws as drawing
from vigmm.posterior.draws import Draws
from vigmm.posterior.imputation import Imputed, impute
from vigmm.posterior.modal import LEVEL, Clusters, modal_clusters
from vigmm.posterior.modal import NUM_DRAWS as CLUSTER_DRAWS
from vigmm.posterior.prediction import NUM_DRAWS, Assignments, joined, score_blocks
from vigmm.posterior.summary import Summary, summarise
from vigmm.posterior.tables import assignment_columns, table_like

__all__ = ["Posterior"]

_EXPECTATION_DRAWS = 1000


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """q(weights, means, covariances) and the map between the data's units and the model's.

    Rows are given, and everything is returned, in the units of the data. Rows may be an N x D array-like, a
    table whose columns have the model's names (in any order), a path, a `vigmm.DataFile` or a source; they
    are read in chunks. Predictions are float32 unless model and rows are both float64. The same rows always
    get the same predictions: what is random follows from `seed`.

    Args:
        model: the mixture.
        family: the family of q.
        params: parameters of q, in standardised units.
        prior: hyperparameters, in standardised units.
        center: subtracted from each column.
        scale: then divided by.
        columns: names of the D columns.
        seed: fixes the draws behind predictions and summaries.
        dtype: ``float32`` or ``float64``.
    """

    model: Mixture
    family: Family
    params: Any
    prior: Prior
    center: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    columns: tuple[str, ...]
    seed: int
    dtype: str

    def __post_init__(self) -> None:
        center, scale = np.array(self.center, np.float64), np.array(self.scale, np.float64)
        object.__setattr__(self, "center", center)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "columns", tuple(self.columns))
        dim = len(self.columns)
        vector = center.shape == scale.shape == (dim,)
        require(vector, "center and scale", f"{dim} values each, one per column", (center.shape, scale.shape))
        require(bool(np.isfinite(center).all()), "center", "finite", center)
        require(bool((np.isfinite(scale) & (scale > 0)).all()), "scale", "> 0 and finite", scale)
        require(self.dtype in DTYPES, "dtype", "'float32' or 'float64'", self.dtype)
        require(0 <= self.seed < 2**32, "seed", "between 0 and 2**32 - 1", self.seed)

    def __repr__(self) -> str:
        names = ", ".join(self.columns[:6]) + (", ..." if self.dim > 6 else "")
        return (
            f"Posterior({type(self.family).__name__}, {self.num_components} components, "
            f"{self.dim} columns ({names}), {self.dtype})"
        )

    @property
    def dim(self) -> int:
        """Number of columns D."""
        return len(self.columns)

    @property
    def num_components(self) -> int:
        """Number of components K."""
        return self.model.num_components

    # Prediction ---------------------------------------------------------------------------

    def log_predictive(self, x: Any, *, num_draws: int = NUM_DRAWS) -> Float[np.ndarray, " N"]:
        """Log posterior predictive density of each row, parameters averaged out.

        log p(x | data) = log sum_k E_q[pi_k N(x | mu_k, Sigma_k)], in nats and in the units of the data.

        Args:
            x: N rows.
            num_draws: draws of the parameters, where the family has no closed form.

        Raises:
            DataError: for columns that do not fit, or a NaN or infinite value, naming row and column.
        """
        return joined(score_blocks(self, x, num_draws=num_draws)).log_density

    def responsibilities(self, x: Any, *, num_draws: int = NUM_DRAWS) -> Float[np.ndarray, "N K"]:
        """Probability that each row belongs to each component: p(z = k | x, data); rows sum to 1.

        Args:
            x: N rows.
            num_draws: draws of the parameters, where the family has no closed form.
        """
        found = joined(score_blocks(self, x, full=True, num_draws=num_draws)).responsibilities
        assert found is not None
        return found

    def predict(self, x: Any) -> Int[np.ndarray, " N"]:
        """The most probable component of each row, as int32."""
        return self.assign(x).component

    def assign(self, x: Any) -> Assignments:
        """Component, its probability and log predictive density of each row, in one pass."""
        return joined(score_blocks(self, x))

    def predict_table(self, x: Any, *, full: bool = False) -> Any:
        """`assign` as a table with the columns component, probability and log_density.

        It is a pandas frame with the index of the rows where these are one, a polars frame where they are
        one, and else a ``pyarrow.Table``.

        Args:
            x: N rows.
            full: whether the probabilities of all components, ``p0, p1, ...``, are wanted too.
        """
        found = joined(score_blocks(self, x, full=full))
        return table_like(x, assignment_columns(found, noise=self.model.noise is not None))

    def assign_blocks(
        self, x: Any, *, full: bool = False, devices: Sequence[jax.Device] = ()
    ) -> Iterator[tuple[int, Assignments]]:
        """`assign` chunk by chunk: pairs (number of the first row, assignments), for data beyond memory.

        Args:
            x: N rows.
            full: whether the probabilities of all components are wanted too.
            devices: what computes, a chunk each in turn; by default JAX's default device.
        """
        return score_blocks(self, x, full=full, devices=devices)

    def clusters(self, *, level: float = LEVEL, num_draws: int = CLUSTER_DRAWS) -> Clusters:
        """Components joined where they share a peak of the density: clusters of any shape.

        Two peaks are two clusters where at least the share `level` of posterior draws has a valley between
        them. ``posterior.clusters().predict(x)`` labels rows by cluster.

        Args:
            level: how sure the posterior must be that two clusters are two.
            num_draws: draws that are looked at.

        Raises:
            SpecError: unless 0.5 <= level < 1 and num_draws >= 20.
        """
        return modal_clusters(self, level=level, num_draws=num_draws)

    # Parameters ---------------------------------------------------------------------------

    def draw(self, key: PRNGKey, n: int) -> Draws:
        """`n` draws of weights, means and covariances from q.

        Args:
            key: chooses the draws; draw i does not depend on `n`.
            n: S, how many.
        """
        return drawing.draw(self, key, n)

    def sample(self, key: PRNGKey, n: int) -> tuple[Float[np.ndarray, "n D"], Int[np.ndarray, " n"]]:
        """New rows from the posterior predictive, and their components.

        Each row has the predictive distribution. Up to 1,024 rows have a draw of the parameters each; beyond
        that rows i and i + 1024 share one, which makes them a little dependent.

        Args:
            key: chooses the rows.
            n: how many.
        """
        return drawing.sample(self, key, n)

    @property
    def weights(self) -> Float[np.ndarray, " K"]:
        """Posterior mean of the mixture weights."""
        weights: Float[np.ndarray, " K"] = self._expected.weights[0]
        return weights

    @property
    def means(self) -> Float[np.ndarray, "K D"]:
        """Posterior mean of the component means."""
        means: Float[np.ndarray, "K D"] = self._expected.means[0]
        return means

    @property
    def covariances(self) -> Float[np.ndarray, "K D D"]:
        """Posterior mean of the component covariances."""
        covariances: Float[np.ndarray, "K D D"] = self._expected.covariances[0]
        return covariances

    @functools.cached_property
    def _expected(self) -> Draws:
        """Averages of draws, which every family can make; the draws are those of the summary."""
        key = rng.stream(rng.root_key(self.seed), "summary")
        fields = [field.name for field in dataclasses.fields(Draws)]
        sums: dict[str, Any] = dict.fromkeys(fields, 0.0)
        for _, block in drawing.draw_blocks(self, key, _EXPECTATION_DRAWS):
            sums = {name: total + getattr(block, name).sum(axis=0) for name, total in sums.items()}
        mean = {name: np.asarray(total / _EXPECTATION_DRAWS)[None] for name, total in sums.items()}
        back = Standardizer(center=self.center, scale=self.scale)
        mean |= {"means": back.inverse(mean["means"]), "covariances": back.inverse_cov(mean["covariances"])}
        return Draws(**mean)

    def impute(self, x: Any, *, num_draws: int = 20, seed: int = 0) -> Imputed:
        """Missing values (NaN) of rows from what the rows have: conditional means, sds and draws.

        Args:
            x: N rows.
            num_draws: completed copies of the rows, for multiple imputation.
            seed: fixes the draws.

        Raises:
            SpecError: for Student-t components.
        """
        return impute(self, x, num_draws=num_draws, seed=seed)

    def summary(self, *, level: float = 0.9, num_draws: int = 1000, rows: int | None = None) -> Summary:
        """Sizes, means and spreads of the components with credible intervals; print it, or see `Summary`.

        Args:
            level: probability in each central interval.
            num_draws: posterior draws that everything is computed from.
            rows: number of rows to turn weights into counts with.
        """
        return summarise(self, level=level, num_draws=num_draws, rows=rows)

    # Files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write ``model.safetensors`` and ``model.json`` into a folder; `vigmm.load` reads them back.

        Args:
            path: the folder, made if need be; see `vigmm.posterior.save`.

        Raises:
            OutputError: if they cannot be written there.
        """
        from vigmm.posterior.saving import save  # which imports this class

        save(self, path)
