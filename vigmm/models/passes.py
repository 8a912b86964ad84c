"""Passes over rows: the likelihood of a mixture, and either the statistics of its components or its gradient.

Statistics are sums about each component's centre, for which every row is centred K times, or sums of natural
features about the origin (`vigmm.math.features`), which are two to four times faster but not as exact: where
they become covariances, terms cancel. `roughness` of the covariance structure is the size of these terms
times the rounding error of a number, and so the relative error of a component's variance in its tightest
direction. Which of the two is right is asked anew at every pass.

Log densities come from whitened rows, whose rounding is harmless, or for variances without correlations from
the same features. There `roughness` is the error in nats of the log density of a row, which the rows of a
component share where it is the slopes that are rounded: it must not show in the bound of all rows.

All that is the work of XLA's compiler. For a GPU there are kernels that keep on the chip what is made of a
row (`vigmm.math.fused`), for those who ask for them: `Kernel`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from vigmm.core.axes import num_shares, sum_of_shares
from vigmm.core.struct import require
from vigmm.core.typing import Batch
from vigmm.math.features import Joint, sweep
from vigmm.math.linalg import einsum
from vigmm.math.rows import softmax
from vigmm.math.tiles import LANES, choose_tile, tiled_sum, tiled_value
from vigmm.models.covariance import Quadratic
from vigmm.models.mixture import Components, Mixture

__all__ = ["Kernel", "check", "gather", "log_lik"]

Kernel: TypeAlias = Literal["xla", "pallas"]
"""What makes a pass: XLA's compiler, or kernels of our own for GPUs."""

# Relative error of a variance that is harmless: n rows lose n/4 times its square, in nats.
_HARMLESS = 1e-3
# Error of the bound that is harmless: so many nats, and this share of the sampling error of a minibatch.
_NATS, _OF_NOISE = 0.1, 0.01
# Log densities from whitened rows, or from slopes, where statistics come from features.
_SLOPED = (False, True)
# Features of one or two columns save nothing.
_LEAST_COLUMNS = 3


def check(model: Mixture, kernel: Kernel) -> None:
    """Refuse kernels for a model that they are not made for.

    Raises:
        SpecError: with the reason.
    """
    require(kernel in ("xla", "pallas"), "kernel", "'xla' or 'pallas'", kernel)
    why = None if kernel == "xla" else _unfit(model)
    require(why is None, "kernel", f"'xla' for {why}", kernel)


def _unfit(model: Mixture) -> str | None:
    """Why rows of this model are not whitened and summed as the kernels do it, or None."""
    if not isinstance(model, Mixture):  # a NumPyro program, of which nothing is known
        return "a model that is not a mixture of covariance matrices"
    likelihood = None if model.likelihood.refusal() is None else "components that are not Gaussian"
    noise = None if model.noise is None else "a noise component"
    missing = "missing values" if model.missing else None
    structure = None if hasattr(model.structure, "gathered") else "a covariance without whiteners"
    return likelihood or noise or missing or structure


def gather(
    model: Mixture,
    theta: Components,
    batch: Batch,
    centre: Float[Array, "K D"],
    *,
    tile: int | None = None,
    lanes: int = LANES,
    kernel: Kernel = "xla",
) -> tuple[Float[Array, ""], Any]:
    """sum_b w_b log sum_k exp(log joint), and the statistics of the responsibilities about `centre`.

    Args:
        model: a mixture with a conjugate posterior.
        theta: log weights and components, or their expectations; a log weight of -inf is out of use.
        batch: weighted rows, each of which is read once.
        centre: what the statistics are about.
        tile: rows at a time; None to choose. Kernels choose for themselves.
        lanes: tiles that are worked on at a time.
        kernel: what makes the pass; the model must have passed `check`.
    """
    if kernel == "pallas":
        # Importing Pallas takes longer than a small fit.
        from vigmm.models import fused_passes

        return fused_passes.gather(model, theta, batch, centre)
    size = tile or _tile(model, batch)

    def exact() -> tuple[Float[Array, ""], Any]:
        def one(piece: Batch) -> tuple[Array, Any]:
            shares, log_norm = softmax(model.log_joint(theta, piece.x), dim=piece.x.shape[1])
            stats = model.algebra.stats(piece.x, piece.weight[:, None] * shares, centre)
            return jnp.sum(piece.weight * log_norm), stats

        found: tuple[Array, Any] = tiled_sum(one, batch, size, lanes=lanes)
        return found

    quick = _quadratic(model, batch)
    if quick is None:
        return exact()
    many = jax.tree.map(lambda leaf: leaf[None], theta)

    def by_features(sloped: bool) -> tuple[Float[Array, ""], Any]:
        value, moments = sweep(quick.features, _joint(model, many, batch, sloped), batch, size, lanes=lanes)
        return value[0], quick.collect(moments[0], centre)

    sloped = _SLOPED[: 1 + quick.sloped]
    forms: list[Callable[[], Any]] = [exact, *(functools.partial(by_features, one) for one in sloped)]
    made: tuple[Array, Any] = lax.switch(_form(quick, many, batch), forms)
    return made


def log_lik(
    model: Mixture, theta: Components, batch: Batch, *, tile: int | None = None, kernel: Kernel = "xla"
) -> Float[Array, " S"]:
    """sum_b w_b log p(x_b | theta_s) for S draws, differentiable once with respect to theta.

    Value and gradient are made in one pass; the draws ride in the same matrix products.

    Args:
        model: any mixture.
        theta: S log weights and components, stacked.
        batch: weighted rows.
        tile: rows at a time; None to choose. Kernels choose for themselves.
        kernel: what makes the pass; the model must have passed `check`.
    """
    if kernel == "pallas":
        from vigmm.models import fused_passes

        found: Array = fused_passes.log_lik(model, theta, batch)
        return found
    size = tile or _tile(model, batch, draws=jax.tree.leaves(theta)[0].shape[0])

    def one(theta: Components, piece: Batch) -> Float[Array, ""]:
        return jnp.sum(piece.weight * model.log_lik(theta, piece.x))

    def exact(theta: Components) -> Float[Array, " S"]:
        found: Array = jax.vmap(lambda theta: tiled_value(one, theta, batch, size))(theta)
        return found

    quick = _quadratic(model, batch)
    if quick is None:
        return exact(theta)
    by_features = [
        functools.partial(_log_lik, model, size, sloped, batch) for sloped in _SLOPED[: 1 + quick.sloped]
    ]
    made: Array = lax.switch(_form(quick, theta, batch), [exact, *by_features], theta)
    return made


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _log_lik(model: Mixture, tile: int, sloped: bool, batch: Batch, theta: Components) -> Float[Array, " S"]:
    """The same, its gradient from the moments of the features."""
    return _fwd(model, tile, sloped, batch, theta)[0]


def _fwd(
    model: Mixture, tile: int, sloped: bool, batch: Batch, theta: Components
) -> tuple[Float[Array, " S"], Any]:
    kind = cast(Quadratic, model.structure).features
    value, moments = sweep(kind, _joint(model, theta, batch, sloped), batch, tile)
    return value, (moments, theta, batch)


def _bwd(model: Mixture, tile: int, sloped: bool, residuals: Any, cotangent: Any) -> tuple[Any, Any]:
    moments, theta, batch = residuals
    scaled = cotangent[:, None, None] * moments
    _, back = jax.vjp(lambda theta: _linear(model, theta, batch), theta)
    (gradient,) = back((scaled[:, :, :-1], scaled[:, :, -1]))
    # Rows are data: nobody differentiates with respect to them.
    return jax.tree.map(jnp.zeros_like, batch), gradient


_log_lik.defvjp(_fwd, _bwd)


def _quadratic(model: Mixture, batch: Batch) -> Quadratic | None:
    """The structure, where log densities are linear in natural features and columns enough for them."""
    if not isinstance(model, Mixture):  # a NumPyro program, of which nothing is known
        return None
    gaussian = model.likelihood.refusal() is None and model.noise is None and not model.missing
    if not gaussian or not hasattr(model.structure, "slopes"):
        return None
    return cast(Quadratic, model.structure) if batch.x.shape[1] >= _LEAST_COLUMNS else None


def _form(structure: Quadratic, theta: Components, batch: Batch) -> Int[Array, ""]:
    """What comes from features: 0, nothing, as where something is not finite; 1, statistics; 2, all."""
    # All devices must come to the same answer, for they all take part in the sums that follow.
    rows = batch.x.shape[0] * num_shares()
    power, total = sum_of_shares((jnp.mean(batch.x**2, axis=0) / num_shares(), jnp.sum(batch.weight)))
    rough = jnp.max(jax.vmap(lambda parts: structure.roughness(parts, power))(theta.parts))
    form = (rough <= _HARMLESS).astype(jnp.int32)
    if not structure.sloped:
        return form
    # A minibatch of B rows knows the bound of n rows to about n / B^(1/2) nats.
    noise = total * jnp.sqrt(jnp.maximum(1.0 / rows - 1.0 / total, 0.0))
    return form * (1 + (rough * total <= _NATS + _OF_NOISE * noise).astype(jnp.int32))


def _joint(model: Mixture, theta: Components, batch: Batch, sloped: bool) -> Joint:
    if not sloped:
        return lambda x, _: jax.vmap(lambda theta: model.log_joint(theta, x))(theta)
    slopes, level = _linear(model, theta, batch)
    # The one has no slope: an infinite level in a product would be NaN where a backend splits its factors.
    slopes = jnp.pad(slopes, ((0, 0), (0, 0), (0, 1)))
    return lambda _, t: einsum("ske,be->sbk", slopes, t) + level[:, None, :]


def _linear(
    model: Mixture, theta: Components, batch: Batch
) -> tuple[Float[Array, "S K E"], Float[Array, "S K"]]:
    """Slopes, and levels: log joint densities at the origin."""
    origin = jnp.zeros_like(batch.x[:1])
    level = jax.vmap(lambda theta: model.log_joint(theta, origin)[0])(theta)
    return jax.vmap(cast(Quadratic, model.structure).slopes)(theta.parts), level


def _tile(model: Mixture, batch: Batch, draws: int = 1) -> int:
    return choose_tile(batch.x, draws * model.num_components * batch.x.shape[1])
