"""Natural gradients in closed form for conjugate posteriors.

With responsibilities r at their optimum for the current q, the bound is

    ELBO = sum_b w_b logsumexp_k(E[log pi_k] + E[log N_k(x_b)]) - KL(q || prior),             (1)

and its natural gradient in the additive parameters lambda is (prior + statistics) - lambda
(Hoffman et al. 2013, eq. 15). A step of rate 1 on the full batch is coordinate ascent; a decreasing
rate on minibatches is stochastic variational inference.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec
from vigmm.core.typing import Batch, PRNGKey
from vigmm.estimators.base import Estimate
from vigmm.families import Conjugate, Family
from vigmm.families.conjugate import ConjugateParams
from vigmm.models import Mixture, Prior, passes
from vigmm.models.passes import Kernel
from vigmm.models.truncated import gather_few

__all__ = ["Natural"]


@spec
class Natural:
    """The exact expected bound and its natural gradient; needs the `conjugate` family.

    Args:
        tile: rows processed at a time; ``None`` chooses from the cache size.
        candidates: for hundreds of components or more: look at only so many for each row. The bound is then
            that of a q restricted to them, a lower one. ``None`` looks at all.
        kernel: ``xla``, or ``pallas`` for fused kernels on a GPU: Gaussians with covariance matrices, in
            float32, of at most 128 columns; `tile` says nothing to them.
    """

    tile: int | None = None
    candidates: int | None = None
    kernel: Kernel = "xla"

    default_optimizer: ClassVar[tuple[str, str]] = ("robbins_monro", "sgd")
    full_batch: ClassVar[bool] = False
    natural: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.tile is None or self.tile >= 1, "tile", ">= 1", self.tile)
        require(self.candidates is None or self.candidates >= 2, "candidates", ">= 2", self.candidates)
        able = self.candidates is None or self.kernel == "xla"
        require(able, "kernel", "'xla' with candidates", self.kernel)

    def check(self, model: Mixture, family: Family) -> None:
        """Refuse families without natural parameters, and kernels that do not know the model."""
        _conjugate(family)
        passes.check(model, self.kernel)

    def final(self) -> Natural:
        """Itself, all components looked at, by what is right in double precision too."""
        return dataclasses.replace(self, candidates=None, kernel="xla")

    def value(
        self,
        model: Mixture,
        family: Family,
        params: ConjugateParams,
        prior: Prior,
        batch: Batch,
        key: PRNGKey,
    ) -> dict[str, Float[Array, ""]]:
        """The terms of equation (1), of all components."""
        family = _conjugate(family)
        posterior = family.posterior(model, params)
        theta = family.expected(model, posterior)
        many = jax.tree.map(lambda leaf: leaf[None], theta)
        log_lik = passes.log_lik(model, many, batch, tile=self.tile, kernel=self.kernel)[0]
        return {"log_lik": log_lik, **family.neg_kl(model, posterior, prior)}

    def estimate(
        self,
        model: Mixture,
        family: Family,
        params: ConjugateParams,
        prior: Prior,
        batch: Batch,
        key: PRNGKey,
    ) -> Estimate:
        """Equation (1) and lambda - (prior + statistics). `key` is not used: nothing is sampled.

        Each row is read once, for its responsibilities and for the statistics together.
        """
        family = _conjugate(family)
        posterior = family.posterior(model, params)
        theta = family.expected(model, posterior)
        centre = params.components.centre
        if self.candidates is None or self.candidates >= model.num_components:
            log_lik, stats = passes.gather(model, theta, batch, centre, tile=self.tile, kernel=self.kernel)
        else:
            log_lik, stats = gather_few(model, theta, batch, centre, self.candidates)
        target = family.target(model, prior, params, stats.count, stats)
        terms = {"log_lik": log_lik, **family.neg_kl(model, posterior, prior)}
        return Estimate(
            elbo=jax.tree.reduce(jnp.add, terms),
            grads=jax.tree.map(jnp.subtract, params, target),
            terms=terms,
            se=jnp.zeros((), log_lik.dtype),
        )


def _conjugate(family: Family) -> Conjugate:
    if not isinstance(family, Conjugate):
        raise SpecError("family", "'conjugate' for the natural estimator", type(family).__name__)
    return family
