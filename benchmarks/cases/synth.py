"""Overlapping full-covariance Gaussians of unequal weight, whose density is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.cases.base import CaseData
from benchmarks.gaussians import Gaussians, em

__all__ = ["SynthCase"]


@dataclass(frozen=True)
class SynthCase:
    """A sample of `vigmm.data.synthetic.gaussian_mixture`.

    The held-out rows are the last of the same draw, in addition to `rows`.

    Args:
        rows: training rows.
        dim: columns.
        true_components: Gaussians in the generator.
        k_max: components that a method may use.
        batch_size: rows of a minibatch.
        heldout: held-out rows.
        separation: sd of every coordinate of a mean, the generator's default if None; less is more overlap.
        seed: of the generator; the mixture does not depend on `rows`.
    """

    rows: int
    dim: int
    true_components: int
    k_max: int
    batch_size: int
    heldout: int = 20_000
    separation: float | None = None
    seed: int = 0

    def build(self, *, rows: int | None = None) -> CaseData:
        """Draw the rows; run EM from the truth for the oracle."""
        # Imported here: the workers read the case from files and must not pay for JAX.
        from vigmm.data.synthetic import gaussian_mixture

        train = rows or self.rows
        heldout = min(self.heldout, max(500, train // 10))
        data = gaussian_mixture(
            train + heldout, self.dim, self.true_components, separation=self.separation, seed=self.seed
        )
        x, held = data.x[:train], data.x[train:]
        oracle, iterations = em(Gaussians(data.weights, data.means, data.covs), x)
        weights = sorted((round(float(w), 4) for w in data.weights), reverse=True)
        facts = asdict(self) | {
            "rows": train,
            "heldout": heldout,
            "true_weights": weights,
            "oracle_iterations": iterations,
            "source": "vigmm.data.synthetic.gaussian_mixture",
        }
        references = {"true": data.log_density(held), "oracle": oracle.log_density(held)}
        return CaseData(x, held, references, facts, data.labels[train:])
