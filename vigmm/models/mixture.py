"""The mixture model, its assignments summed out.

    pi ~ weights,   (mu_k, Lambda_k) ~ prior,   p(x | pi, mu, Lambda) = sum_k pi_k p(x | mu_k, Lambda_k)

The *position* is the unconstrained parameter with exactly the model's degrees of freedom, in three
leaves: the sticks, the components, and what all components share. Densities of a position include the
Jacobian, so that the prior integrates to one over positions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core.errors import SpecError
from vigmm.core.struct import part, require, spec, state
from vigmm.models import sticks
from vigmm.models.covariance import (
    COVARIANCE_CHOICES,
    ConjugateStructure,
    Covariance,
    Full,
    MarginalStructure,
    Structure,
    StructurePosition,
    conjugate,
)
from vigmm.models.likelihoods import LIKELIHOODS, Likelihood
from vigmm.models.priors import PRIORS, ComponentPrior, DataScale, Frame
from vigmm.models.sticks import Sticks
from vigmm.models.weights import WEIGHTS, Dirichlet, WeightPrior

__all__ = ["Components", "Mixture", "Noise", "Position", "Prior"]


@state
class Position:
    """Unconstrained parameters: sticks, one row per component, and what all components share."""

    weights: Float[Array, "*S JH"]
    components: Float[Array, "*S K P"]
    shared: Float[Array, "*S G"]


@state
class Prior:
    """Hyperparameters in the standardised space; an argument, not a part, of the model."""

    weights: Sticks
    components: Any
    frame: Frame


@state
class Components:
    """What the likelihood reads: log weights (or their expectations) and the components' parts.

    `own` are the likelihood's coordinates; `log_noise` is the log density of the noise times its share, empty
    where the model has no noise. Where values may be missing, `parts` has one set for each of `patterns`.
    """

    log_weights: Float[Array, " K"]
    parts: Any
    own: Float[Array, "K E"]
    log_noise: Float[Array, " Z"]
    patterns: Float[Array, "M D"]


@spec
class Noise:
    """One more component, uniform over the box of the data: what no cluster explains.

    Its share of the rows has the prior Beta(a, b); the default expects 5 %.

    Args:
        a: rows that the prior counts as noise.
        b: rows that it counts as clusters'.
    """

    a: float = 1.0
    b: float = 19.0

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            require(0 < getattr(self, name) < math.inf, name, "> 0 and finite", getattr(self, name))

    def log_prob(self, logit: Float[Array, " Z"]) -> Float[Array, ""]:
        """Log density of the logit of the share."""
        constant = math.lgamma(self.a + self.b) - math.lgamma(self.a) - math.lgamma(self.b)
        kernel = self.a * jax.nn.log_sigmoid(logit) + self.b * jax.nn.log_sigmoid(-logit)
        return constant + jnp.sum(kernel)


@spec
class Mixture:
    """A Bayesian mixture model.

    Args:
        num_components: K, an upper bound when the weight prior is sparse.
        weights: prior of the mixture weights; a row of `WEIGHTS`.
        covariance: covariance structure; a row of `COVARIANCES`, or `auto`, which lets the search for the
            number of components find one.
        prior: prior of the components; a row of `PRIORS`.
        likelihood: density of a component; a row of `LIKELIHOODS`.
        noise: one more component, uniform over the data's box; none by default.
        missing: whether NaN stands for a missing value, which is integrated out exactly.

    Example:
        >>> Mixture(num_components=3).position_size(dim=2)
        17
    """

    num_components: int = 20
    weights: WeightPrior = part(WEIGHTS, "dirichlet_process")
    covariance: Covariance = part(COVARIANCE_CHOICES, "auto")
    prior: ComponentPrior = part(PRIORS, "normal_wishart")
    likelihood: Likelihood = part(LIKELIHOODS, "gaussian")
    noise: Noise | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        require(self.num_components >= 1, "num_components", ">= 1", self.num_components)
        self.prior.check(self.structure)
        able = not self.missing or (hasattr(self.structure, "marginal") and self.noise is None)
        require(able, "missing", "false for this covariance, and with noise", self.missing)

    @property
    def settled(self) -> Mixture:
        """The model that a fit begins with: a covariance that is left to the data is what it is first."""
        first = getattr(self.covariance, "first", None)
        return self if first is None else dataclasses.replace(self, covariance=first)

    @property
    def structure(self) -> Structure:
        """The covariance structure's algebra."""
        return self.covariance.structure

    def refusal(self) -> str | None:
        """Why this model has no conjugate posterior, or None where it has one."""
        noise = None if self.noise is None else "a noise component has no conjugate form here"
        prior = self.prior.refusal(self.structure)
        missing = "missing values have no conjugate form" if self.missing else None
        return missing or prior or self.weights.refusal() or self.likelihood.refusal() or noise

    @property
    def algebra(self) -> ConjugateStructure:
        """The conjugate algebra; `SpecError` if the model has none."""
        why = self.refusal()
        if why is not None:
            raise SpecError("model", "one with a conjugate posterior", why)
        return conjugate(self.structure)

    @property
    def surrogate(self) -> Mixture:
        """The nearest model with a conjugate posterior, where starts are looked for: itself if it has one."""
        if self.refusal() is None:
            return self
        return Mixture(
            num_components=self.num_components,
            weights=self.weights if self.weights.refusal() is None else Dirichlet(),
            covariance=self.covariance if hasattr(self.structure, "natural") else Full(),
        )

    def build_prior(self, data: DataScale, *, dtype: Any, slots: int | None = None) -> Prior:
        """Hyperparameters for this data: the part of the model that follows its scale.

        With `slots` there are so many components instead, of this model all the same: what depends on the
        largest number of components, such as the expected covariance of one, stays.
        """
        num = self.num_components if slots is None else slots
        components = self.prior.build(
            data, structure=self.structure, num_components=num, most=self.num_components, dtype=dtype
        )
        weights = self.weights.spare(self.num_components, num, dtype)
        return Prior(weights=weights, components=components, frame=data.frame(dtype))

    # Coordinates --------------------------------------------------------------------------

    def sizes(self, dim: int) -> tuple[int, int, int]:
        """Coordinates of the weights, of one component, and of what is shared."""
        weights = self.weights.num_sticks(self.num_components) + self.weights.num_hyper()
        own = self.prior.position_size(self.structure, dim) + self.likelihood.position_size()
        shared = self.prior.shared_size(self.structure, dim) + (self.noise is not None)
        return weights, own, shared

    def position_size(self, dim: int) -> int:
        """The number of all unconstrained coordinates."""
        weights, own, shared = self.sizes(dim)
        return weights + self.num_components * own + shared

    def _inner(self, u: Position) -> StructurePosition:
        """The coordinates that belong to prior and structure."""
        size = u.components.shape[-1] - self.likelihood.position_size()
        shared = u.shared[:-1] if self.noise is not None else u.shared
        return StructurePosition(components=u.components[:, :size], shared=shared)

    def _own(self, u: Position) -> Float[Array, "K E"]:
        size = u.components.shape[-1] - self.likelihood.position_size()
        return u.components[:, size:]

    def structure_position(self, prior: Prior, u: Position) -> StructurePosition:
        """The covariance structure's coordinates at a position."""
        return self.prior.expand(self.structure, prior.components, prior.frame, self._inner(u))

    def near(
        self,
        weights: tuple[Float[Array, " JH"], Float[Array, " JH"]],
        loc: StructurePosition,
        sd: StructurePosition,
    ) -> tuple[Position, Position]:
        """A position and its standard deviations from those of the sticks and of the structure."""
        own, own_sd = self.likelihood.start(self.num_components, loc.components.dtype)
        sd = self.prior.contract_scale(self.structure, loc, sd)
        loc = self.prior.contract(self.structure, loc)
        shares, share_sds = loc.shared, sd.shared
        if self.noise is not None:
            dtype = shares.dtype
            logit = math.log(self.noise.a / self.noise.b)
            shares = jnp.concatenate([shares, jnp.full((1,), logit, dtype)])
            share_sds = jnp.concatenate([share_sds, jnp.full((1,), 0.3, dtype)])
        return (
            Position(
                weights=weights[0],
                components=jnp.concatenate([loc.components, own], axis=-1),
                shared=shares,
            ),
            Position(
                weights=weights[1],
                components=jnp.concatenate([sd.components, own_sd], axis=-1),
                shared=share_sds,
            ),
        )

    # Reading a position -------------------------------------------------------------------

    def log_weights(self, u: Position) -> Float[Array, " K"]:
        """Log pi_k at a position, before noise takes its share."""
        num = self.num_components
        return sticks.log_weights(u.weights, num, self.weights.num_sticks(num))

    def constrain(self, prior: Prior, u: Position) -> Components:
        """Log weights and component parts at a position."""
        dim = prior.frame.scale.shape[0]
        log_weights = self.log_weights(u)
        inner = self.structure_position(prior, u)
        log_noise = jnp.zeros((0,), log_weights.dtype)
        if self.noise is not None:
            share = u.shared[-1:]
            log_noise = jax.nn.log_sigmoid(share) - prior.frame.log_volume
            log_weights = log_weights + jax.nn.log_sigmoid(-share)
        return Components(
            log_weights=log_weights,
            parts=self._parts(inner, prior.frame, dim),
            own=self._own(u),
            log_noise=log_noise,
            patterns=prior.frame.patterns,
        )

    def _parts(self, inner: StructurePosition, frame: Frame, dim: int) -> Any:
        """The components' parts; where values may be missing, one set for each pattern."""
        if not self.missing:
            return self.structure.constrain(inner, dim)
        structure = cast(MarginalStructure, self.structure)
        return jax.vmap(lambda seen: structure.marginal(inner, dim, seen))(frame.patterns)

    def moments(self, prior: Prior, u: Position) -> tuple[Float[Array, "K D"], Float[Array, "K D D"]]:
        """Location and scale matrix (for Gaussian components: covariance) of each component."""
        dim = prior.frame.scale.shape[0]
        return self.structure.moments(self.structure_position(prior, u), dim)

    def log_components(self, theta: Components, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log density of each row under each component."""
        if self.missing:
            return self._log_observed(theta, x)
        square = self.structure.square(theta.parts, x)
        return self.likelihood.log_density(theta.parts.log_det, square, theta.own, x.shape[-1])

    def _log_observed(self, theta: Components, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        """Log density of what each row has, by the parts of its pattern; a row of nothing has density one."""
        seen = 1.0 - jnp.isnan(x).astype(x.dtype)
        index = jnp.argmin(jnp.sum(jnp.abs(seen[:, None] - theta.patterns[None]), axis=-1), axis=-1)
        parts = jax.tree.map(lambda leaf: leaf[index], theta.parts)

        def one(parts: Any, row: Float[Array, " D"], count: Float[Array, ""]) -> Float[Array, " K"]:
            square = self.structure.square(parts, row[None])
            return self.likelihood.log_density(parts.log_det, square, theta.own, count)[0]

        # Not NaN times zero: a gradient through it would be NaN.
        return jax.vmap(one)(parts, jnp.where(seen > 0, x, 0.0), jnp.sum(seen, axis=-1))

    def log_joint(self, theta: Components, x: Float[Array, "B D"]) -> Float[Array, "B KZ"]:
        """Log pi_k + log p(x_b | component k); noise, where there is some, is the last column."""
        joint = theta.log_weights[None] + self.log_components(theta, x)
        if self.noise is None:
            return joint
        noise = jnp.broadcast_to(theta.log_noise[None], (x.shape[0], 1))
        return jnp.concatenate([joint, noise], axis=-1)

    def log_lik(self, theta: Components, x: Float[Array, "B D"]) -> Float[Array, " B"]:
        """Log p(x_b | theta), the assignments summed out."""
        return jax.nn.logsumexp(self.log_joint(theta, x), axis=-1)

    def log_prior(self, prior: Prior, u: Position) -> Float[Array, ""]:
        """Log density of a position under hyperparameters, Jacobian included."""
        components = self.prior.log_prob(self.structure, prior.components, prior.frame, self._inner(u))
        return sticks.log_prob(prior.weights, u.weights) + components + self._log_others(u)

    @property
    def inferred_factor(self) -> Any | None:
        """Prior of the common factor of all components' scales, where the components' prior infers one."""
        return getattr(self.prior, "hyper", None)

    @property
    def least_factor(self) -> float:
        """The least E[s], where there is such a factor."""
        return float(getattr(self.prior, "least", 1.0))

    def _log_others(self, u: Position) -> Float[Array, ""]:
        """Log density of the likelihood's coordinates and of the share of noise."""
        total = self.likelihood.log_prior(self._own(u))
        return total if self.noise is None else total + self.noise.log_prob(u.shared[-1:])

    def log_prior_parts(self, prior: Prior, u: Position) -> dict[str, Float[Array, ""]]:
        """The log prior density of weights, of covariances, of means given these, and of what is left."""
        inner = self._inner(u)
        components = self.prior.log_prob(self.structure, prior.components, prior.frame, inner)
        means = self.prior.log_means(self.structure, prior.components, prior.frame, inner)
        return {
            "weights": sticks.log_prob(prior.weights, u.weights),
            "covariances": components - means,
            "means": means,
            "others": self._log_others(u),
        }

    def parts(self, u: Position, dim: int) -> Position:
        """For each coordinate the number of its part, in the order of `log_prior_parts`."""
        own = u.components.shape[-1] - self.likelihood.position_size()
        column = np.arange(u.components.shape[-1])
        row = np.where(column < dim, 2, np.where(column < own, 1, 3))
        shared = np.where(np.arange(u.shared.shape[-1]) < u.shared.shape[-1] - (self.noise is not None), 1, 3)
        return Position(
            weights=jnp.zeros(u.weights.shape[-1:], jnp.int32),
            components=jnp.asarray(np.broadcast_to(row, u.components.shape[-2:]), jnp.int32),
            shared=jnp.asarray(shared, jnp.int32),
        )
