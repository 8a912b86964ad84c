"""A mixture as a NumPyro model, assignments summed out: for NUTS, for NumPyro's own SVI, for ArviZ.

Every part is one of NumPyro's distributions; none of the engine's densities is called. Latent sites are in
the model's standardised units (those of an `Independent` prior in the units of the data, in which it is
stated); rows, and the deterministic sites ``weights``, ``means`` and ``covariances``, are in the units that
are asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.distributions import constraints

from vigmm.core.errors import SpecError
from vigmm.interop.components import component_sites
from vigmm.models import Mixture, Position, Prior
from vigmm.models.likelihoods import Gaussian, StudentT
from vigmm.posterior import Posterior

__all__ = ["sites", "to_numpyro"]

NumpyroFunction = Callable[..., None]


def to_numpyro(
    source: Any,
    prior: Prior | None = None,
    *,
    center: Float[np.ndarray, " D"] | None = None,
    scale: Float[np.ndarray, " D"] | None = None,
) -> NumpyroFunction:
    """A NumPyro model ``f(x, weight=None)`` of N x D rows.

    Args:
        source: a `vigmm.Fit` or `vigmm.Posterior`, whose rows are in the units of the data; or a `Mixture`.
        prior: of a mixture, its hyperparameters in standardised units.
        center: of a mixture, with `scale`, the map x = center + scale z from standardised units to those of
            the rows; by default the rows are standardised.
        scale: see `center`.

    Returns:
        A function with the sites that `sites` names, the observed site ``x`` in the plate ``rows``, and the
        deterministic sites ``weights``, ``means`` and ``covariances`` (of Student-t components the scale
        matrices). `weight` multiplies the log likelihood of each row.

    Raises:
        SpecError: for a covariance structure, a prior or a likelihood that has no counterpart in NumPyro.

    Example:
        >>> import numpy as np, vigmm
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> f = vigmm.to_numpyro(vigmm.fit(x, model=vigmm.Mixture(num_components=2), moves=None))
        >>> from numpyro.infer import MCMC, NUTS
        >>> mcmc = MCMC(NUTS(f), num_warmup=500, num_samples=500)  # and then mcmc.run(key, x)
    """
    if prior is None:
        posterior = getattr(source, "posterior", source)
        if not isinstance(posterior, Posterior):
            got = type(source).__name__
            raise SpecError("source", "a vigmm.Fit, a vigmm.Posterior, or a Mixture with its prior", got)
        return to_numpyro(posterior.model, posterior.prior, center=posterior.center, scale=posterior.scale)
    model: Mixture = source
    component_sites(model, prior)
    if not isinstance(model.likelihood, Gaussian | StudentT):
        name = type(model.likelihood).__name__
        raise SpecError("likelihood", "'gaussian' or 'student_t' for NumPyro", name)
    dtype = prior.frame.scale.dtype
    unit = (
        jnp.zeros_like(prior.frame.scale) if center is None else jnp.asarray(center, dtype),
        jnp.ones_like(prior.frame.scale) if scale is None else jnp.asarray(scale, dtype),
    )
    return functools.partial(_mixture, model, prior, unit)


def _mixture(
    model: Mixture,
    prior: Prior,
    unit: tuple[Float[Array, " D"], Float[Array, " D"]],
    x: Float[Array, "N D"],
    weight: Float[Array, " N"] | None = None,
) -> None:
    """The model itself."""
    center, scale = unit
    log_weights = _log_weights(model, prior)
    loc, root = component_sites(model, prior).sample()
    means, root = center + scale * loc, scale[:, None] * root
    root = jnp.broadcast_to(root, (model.num_components, *root.shape[1:]))
    dof = _dof(model, loc.dtype) if isinstance(model.likelihood, StudentT) else None
    if model.noise is None:
        mixture: Any = dist.MixtureSameFamily(
            dist.Categorical(logits=log_weights), _density(means, root, dof)
        )
    else:
        share = numpyro.sample("noise", dist.Beta(*_numbers((model.noise.a, model.noise.b), loc.dtype)))
        log_weights = log_weights + jnp.log1p(-share)
        low, high = (center + scale * edge for edge in (prior.frame.low, prior.frame.high))
        each = [
            _density(*jax.tree.map(lambda leaf, k=k: leaf[k], (means, root, dof))) for k in range(len(means))
        ]
        parts = [*each, dist.Uniform(low, high).to_event(1)]
        every = jnp.concatenate([log_weights, jnp.log(share)[None]])
        mixture = dist.MixtureGeneral(dist.Categorical(logits=every), parts, support=constraints.real_vector)
    numpyro.deterministic("weights", jnp.exp(log_weights))
    numpyro.deterministic("means", means)
    numpyro.deterministic("covariances", root @ jnp.swapaxes(root, -1, -2))
    heavy = jnp.ones(x.shape[0], loc.dtype) if weight is None else jnp.asarray(weight, loc.dtype)
    if model.weights.num_sticks(model.num_components) == model.num_components:
        # A categorical distribution is normalised; what a free last stick loses comes off here.
        numpyro.factor("truncation", jnp.sum(heavy) * jax.nn.logsumexp(log_weights))
    with numpyro.plate("rows", x.shape[0]):
        if weight is None:
            numpyro.sample("x", mixture, obs=x)
            return
        # `scale` takes positive factors only.
        with handlers.mask(mask=heavy > 0), handlers.scale(scale=jnp.where(heavy > 0, heavy, 1.0)):
            numpyro.sample("x", mixture, obs=x)


def _numbers(values: tuple[float, ...], dtype: Any) -> tuple[Array, ...]:
    return tuple(jnp.asarray(value, dtype) for value in values)


def _density(
    means: Float[Array, "*k D"], root: Float[Array, "*k D D"], dof: Float[Array, "*k"] | None
) -> Any:
    if dof is None:
        return dist.MultivariateNormal(means, scale_tril=root)
    return dist.MultivariateStudentT(dof, means, root)


def _log_weights(model: Mixture, prior: Prior) -> Float[Array, " K"]:
    """Log pi_k = log v_k + sum_{j<k} log(1 - v_j), from Beta sticks and, if inferred, their concentration."""
    made, num = prior.weights, model.num_components
    a, b = made.a, made.b
    if model.weights.num_hyper():
        gamma = numpyro.sample("concentration", dist.Gamma(made.shape[0], made.rate[0]))
        a, b = a + gamma * made.a_slope[0], b + gamma * made.b_slope[0]
    zero = jnp.zeros((1,), a.dtype)
    if a.shape[0] == 0:
        return zero
    v = numpyro.sample("sticks", dist.Beta(a, b).to_event(1))
    left = jnp.concatenate([zero, jnp.cumsum(jnp.log1p(-v))])[:num]
    return left + jnp.concatenate([jnp.log(v), zero])[:num]


def _dof(model: Mixture, dtype: Any) -> Float[Array, " K"]:
    likelihood = model.likelihood
    assert isinstance(likelihood, StudentT)
    if likelihood.dof is not None:
        return jnp.full((model.num_components,), likelihood.dof, dtype)
    shape, rate = _numbers((likelihood.hyper.shape, likelihood.hyper.rate), dtype)
    drawn: Array = numpyro.sample("dof", dist.Gamma(shape, rate).expand((model.num_components,)).to_event(1))
    return drawn


def sites(model: Mixture, prior: Prior, u: Position) -> dict[str, Array]:
    """Values of the exported model's latent sites at a position of the engine.

    ``sticks`` and ``concentration`` for the weights, ``noise`` (share of the noise component), ``dof``; for
    the components ``loc`` and ``precision_root`` (Normal-Wishart: Lambda = L L^T) or ``precision``
    (Normal-Gamma), or ``mean``, ``sd`` or ``variance`` and ``correlation`` (independent priors); ``factor``.
    Only those that the model has.
    """
    num_sticks = model.weights.num_sticks(model.num_components)
    size = u.components.shape[-1] - model.likelihood.position_size()
    shared = u.shared if model.noise is None else u.shared[:-1]
    inner = type(model.structure_position(prior, u))(components=u.components[:, :size], shared=shared)
    made = component_sites(model, prior).values(inner, model.structure_position(prior, u))
    if num_sticks:
        made["sticks"] = jax.nn.sigmoid(u.weights[:num_sticks])
    if model.weights.num_hyper():
        made["concentration"] = jnp.exp(u.weights[num_sticks])
    if model.noise is not None:
        made["noise"] = jax.nn.sigmoid(u.shared[-1])
    if model.likelihood.position_size():
        made["dof"] = jnp.exp(u.components[:, size])
    return made
