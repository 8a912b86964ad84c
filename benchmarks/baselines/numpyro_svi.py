"""NumPyro SVI as its users write a Bayesian Gaussian mixture with assignments summed out.

The choices, where users' code differs:

- Columns are standardised first, and the densities undone: unit-scale priors are what people write.
- Stick-breaking weights, `MixtureSameFamily` over `MultivariateNormal(scale_tril=...)`, sds and an LKJ
  Cholesky factor per component, minibatches by `plate(subsample_size=...)`, an `AutoNormal` guide.
- The start is the one of the Pyro and NumPyro tutorials: means at random rows, unit scales, equal weights.
  NumPyro's own default (uniform in the unconstrained space) starts all components in one place.
- Adam at 0.01 with cosine decay to zero: the best of the rates from 0.003 to 0.1.
- One jitted `svi.update` per step in a Python loop, as in the manual; the data are its argument, so they
  are no constant of the program. `svi.init` runs eagerly, as `svi.run` does it.
- The density is the mean over `draws` draws of the guide (its median is about as good).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from benchmarks.gaussians import Gaussians, average
from benchmarks.protocol import Array, Clock, Fitted, LogDensity, Point, Problem, Unfit

__all__ = ["NumpyroSvi"]


@dataclass(frozen=True)
class NumpyroSvi:
    """Mean-field SVI with one particle.

    Args:
        passes: passes over the data of the main run; the rate falls to zero at its end.
        more: budgets of further runs (a shorter run cools down earlier), for the full benchmark.
        rate: Adam's peak rate.
        concentration: of the stick-breaking weights.
        draws: draws of the guide in the predictive density.
        keep: models of the trace.
    """

    passes: float = 30.0
    more: tuple[float, ...] = (10.0, 20.0)
    rate: float = 0.01
    concentration: float = 1.0
    draws: int = 16
    keep: int = 5
    _compiled: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    environment: ClassVar[str | None] = "numpyro"
    reruns: ClassVar[bool] = True
    costly: ClassVar[bool] = True

    @property
    def budgets(self) -> tuple[float, ...]:
        return (self.passes, *self.more)

    def load(self) -> None:
        import jax
        import numpyro.infer.autoguide  # noqa: F401
        import optax  # noqa: F401

        jax.devices()

    def tune(self, problem: Problem) -> NumpyroSvi:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import jax
        import jax.numpy as jnp

        if problem.covariance != "full" or problem.iterations is not None:
            raise Unfit("written for full covariances and minibatches")
        x = problem.x
        center, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        z = jnp.asarray((x - center) / scale, jnp.float32)
        steps = max(1, round(passes * len(x) / problem.batch_size))
        rows = np.random.default_rng(problem.seed).choice(len(x), problem.k_max, replace=False)
        svi, update = self._svi(problem, steps, np.asarray(z[rows]))
        guide_key, draw_key = jax.random.split(jax.random.key(problem.seed))

        def density(params: Any) -> LogDensity:
            draws = svi.guide.sample_posterior(draw_key, params, sample_shape=(self.draws,))
            parts = {name: np.asarray(value, np.float64) for name, value in draws.items()}
            return lambda rows: average(_gaussians(parts, center, scale), rows)

        state = svi.init(guide_key, z)
        kept: list[tuple[Any, float, Any]] = []
        losses = []
        every = max(1, steps // self.keep)
        overdue = False
        for step in range(1, steps + 1):
            state, loss = update(state, z)
            losses.append(loss)
            if step % 50 == 0:
                _ready(loss)  # the clock must not run ahead of the device
                overdue = problem.overdue(clock)
            if step % every == 0 or step == 1 or overdue:
                params = _ready(svi.get_params(state))
                kept.append((clock.lap(), step * problem.batch_size / len(x), params))
            if overdue:
                break
        params = _ready(svi.get_params(state))

        def weights() -> Array:
            sticks = svi.guide.median(params)["sticks"]
            return np.asarray(_weights(np.asarray(sticks, np.float64)[None])[0])

        # Turning parameters into densities is the judge's work, so it is put off until it is asked for.
        trace = tuple(Point(cost, done, _late(density, p)) for cost, done, p in kept)
        loss_last = float(np.mean(np.asarray(losses[-20:]))) / len(x)
        notes = {"steps": len(losses), "loss_last": loss_last, "overdue": overdue}
        done = len(losses) * problem.batch_size / len(x)

        def predict(rows: Array) -> Array:
            median = svi.guide.median(params)
            parts = {name: np.asarray(value, np.float64)[None] for name, value in median.items()}
            return _gaussians(parts, center, scale)[0].predict(rows)

        return Fitted(_late(density, params), weights, done, trace, notes, predict)

    def _svi(self, problem: Problem, steps: int, means: Array) -> tuple[Any, Any]:
        """The SVI object and its jitted update, kept so that a second fit compiles nothing."""
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist
        import optax
        from numpyro.infer import SVI, Trace_ELBO, init_to_value
        from numpyro.infer.autoguide import AutoNormal

        key = (problem.k_max, problem.batch_size, problem.seed, problem.x.shape, steps)
        if key in self._compiled:
            return self._compiled[key]  # type: ignore[no-any-return]
        components, concentration = problem.k_max, self.concentration

        def model(x: Any) -> None:
            n, dim = x.shape
            with numpyro.plate("sticks_plate", components - 1):
                sticks = numpyro.sample("sticks", dist.Beta(1.0, concentration))
            rest = jnp.cumprod(1.0 - sticks)
            weights = jnp.pad(sticks, (0, 1), constant_values=1.0) * jnp.pad(
                rest, (1, 0), constant_values=1.0
            )
            with numpyro.plate("components", components):
                loc = numpyro.sample("loc", dist.Normal(0.0, 1.0).expand([dim]).to_event(1))
                sd = numpyro.sample("sd", dist.LogNormal(0.0, 1.0).expand([dim]).to_event(1))
                corr = numpyro.sample("corr", dist.LKJCholesky(dim, 1.0))
            normal = dist.MultivariateNormal(loc, scale_tril=sd[..., None] * corr)
            with numpyro.plate("rows", n, subsample_size=problem.batch_size):
                batch = numpyro.subsample(x, event_dim=1)
                mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), normal)
                numpyro.sample("x", mixture, obs=batch)

        dim = problem.x.shape[1]
        values = {
            "sticks": 1.0 / np.arange(components, 1, -1, dtype=np.float32),
            "loc": means,
            "sd": np.ones((components, dim), np.float32),
            "corr": np.tile(np.eye(dim, dtype=np.float32), (components, 1, 1)),
        }
        guide = AutoNormal(model, init_loc_fn=init_to_value(values=values))
        optimizer = optax.adam(optax.cosine_decay_schedule(self.rate, steps))
        svi = SVI(model, guide, optimizer, Trace_ELBO())
        self._compiled[key] = svi, jax.jit(svi.update)
        return self._compiled[key]  # type: ignore[no-any-return]


def _ready(params: Any) -> Any:
    import jax

    return jax.block_until_ready(params)  # type: ignore[no-untyped-call]


def _late(density: Callable[[Any], LogDensity], params: Any) -> LogDensity:
    return lambda rows: density(params)(rows)


def _weights(sticks: Array) -> Array:
    """w_k = v_k prod_{j<k} (1 - v_j), the last stick taking the rest; shapes [S, K-1] and [S, K]."""
    rest = np.cumprod(1.0 - sticks, axis=1)
    ones = np.ones((len(sticks), 1))
    return np.asarray(np.concatenate([sticks, ones], 1) * np.concatenate([ones, rest], 1))


def _gaussians(draws: dict[str, Array], center: Array, scale: Array) -> list[Gaussians]:
    """Draws of the guide as mixtures in the units of the data."""
    factors = scale[:, None] * draws["sd"][..., None] * draws["corr"]
    covs = factors @ factors.swapaxes(-1, -2)
    means = center + scale * draws["loc"]
    return [Gaussians(*parts) for parts in zip(_weights(draws["sticks"]), means, covs, strict=True)]
