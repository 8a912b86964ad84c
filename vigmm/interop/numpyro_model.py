"""A NumPyro model as a model of the engine: its own prior and likelihood, our families, estimators and loop.

The function takes rows and has them in one plate, which the engine fills with whatever rows it needs:

    def regression(x):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([x.shape[1] - 1]).to_event(1))
        with numpyro.plate("N", x.shape[0]):
            numpyro.sample("y", dist.Bernoulli(logits=x[:, 1:] @ w), obs=x[:, 0])

The position is a dictionary with a vector of unconstrained coordinates for each latent site, so that for
`blocks` a site is a block. To the engine such a model is a mixture of one component, whose log weight is 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions.transforms import biject_to
from numpyro.primitives import Messenger

from vigmm.core.errors import SpecError
from vigmm.core.struct import require, spec, state
from vigmm.core.typing import PRNGKey

__all__ = ["Example", "NumpyroModel", "from_numpyro"]

Sites = dict[str, Array]

# Draws of a site's prior behind the median at which a run starts.
_MEDIAN_DRAWS = 64


@state
class Example:
    """In the place of the hyperparameters: a few rows, for the shapes that the prior's sites take of them."""

    x: Float[Array, "E D"]


@spec
class NumpyroModel:
    """A model function and the name of its plate over rows; hashable by the function's identity.

    Args:
        function: takes B x D rows, B any number.
        plate: name of the plate over them.
    """

    function: Callable[..., Any]
    plate: str = "N"

    num_components: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require(callable(self.function), "model", "a function with NumPyro's primitives", self.function)

    def refusal(self) -> str:
        """Nothing is known of its algebra."""
        return "a NumPyro model has no conjugate form here: choose another family, such as 'meanfield'"

    @property
    def algebra(self) -> Any:
        """None: raises `SpecError`."""
        raise SpecError("model", "one with a conjugate posterior", self.refusal())

    def _run(self, reader: _Reader, x: Float[Array, "B D"]) -> _Reader:
        with _lenient(), reader:
            self.function(x)
        require(reader.found, "model", f"one with a plate {self.plate!r} around its observed rows", "none")
        require(reader.observed, "model", f"one with an observed site in the plate {self.plate!r}", "none")
        return reader

    def start(self, x: Float[Array, "E D"], key: PRNGKey) -> Sites:
        """The prior's median, site by site, as a position; 0 where the prior cannot be drawn from."""
        return self._run(_Starter(self.plate, x.shape[0], key=key), x).position

    def log_weights(self, u: Sites) -> Float[Array, " K"]:
        """Of the only component: 0."""
        return jnp.zeros((1,), jax.tree.leaves(u)[0].dtype)

    def constrain(self, prior: Example, u: Sites) -> Sites:
        """Values of the latent sites."""
        return self._run(_Reader(self.plate, prior.x.shape[0], position=u), prior.x).values

    def log_prior(self, prior: Example, u: Sites) -> Float[Array, ""]:
        """Log density of a position: of all sites outside the plate, and the log volume of the transforms."""
        return self._run(_Reader(self.plate, prior.x.shape[0], position=u), prior.x).log_prior

    def log_lik(self, theta: Sites, x: Float[Array, "B D"]) -> Float[Array, " B"]:
        """Log likelihood of each row: the sum of its observed sites."""
        if x.shape[0] == 0:
            # A plate cannot be empty, and a run without held-out rows asks for this.
            return jnp.zeros((0,), x.dtype)
        return self._run(_Reader(self.plate, x.shape[0], values=theta), x).log_lik

    def log_joint(self, theta: Sites, x: Float[Array, "B D"]) -> Float[Array, "B 1"]:
        """The log likelihood as that of a mixture's only component."""
        return self.log_lik(theta, x)[:, None]

    def check(self, x: Float[np.ndarray, "N D"], u: Sites) -> None:
        """Raise `SpecError` unless the prior ignores the rows and each row's likelihood all other rows."""
        rows = jnp.asarray(x[: min(len(x), 8)])
        half = rows.shape[0] // 2
        if half == 0:
            return

        @jax.jit
        def values(u: Sites, rows: Array) -> tuple[Array, ...]:
            first, second = Example(x=rows[:half]), Example(x=rows[half:])
            theta = self.constrain(first, u)
            both = jnp.concatenate([self.log_lik(theta, first.x), self.log_lik(theta, second.x)])
            return self.log_prior(first, u), self.log_prior(second, u), both, self.log_lik(theta, rows)

        # Not at the start itself, where a coefficient of 0 may hide what it multiplies.
        aside = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.1, leaf.dtype), u)
        one, two, apart, together = map(np.asarray, values(aside, rows))
        tolerance = 1e-4 if rows.dtype == jnp.float32 else 1e-8

        def close(a: Any, b: Any) -> bool:
            return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))

        must = "one whose prior does not depend on the rows: pass what it needs of them as constants"
        require(close(one, two), "model", must, f"log prior {one:.6g} and {two:.6g} with different rows")
        must = "one that reads its rows from its argument, each independent of the others"
        require(close(apart, together), "model", must, "other likelihoods of the same rows in another batch")


def from_numpyro(model: Callable[..., Any], *, plate: str = "N") -> NumpyroModel:
    """A NumPyro model for `vigmm.fit_numpyro`.

    Latent sites must be continuous and outside the plate over rows; sum or integrate out all others. Rows are
    the function's one argument; a ``subsample_size`` in the plate is ignored, because the engine draws the
    minibatches. Keep the function: a new one for every fit compiles every time.

    Args:
        model: a function of B x D rows.
        plate: name of the plate over rows.
    """
    return NumpyroModel(function=model, plate=plate)


@contextlib.contextmanager
def _lenient() -> Iterator[None]:
    """NumPyro and its users' models rely on JAX's default promotion; a caller may have made it strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class _Reader(Messenger):  # type: ignore[misc]
    """Runs a model at given latent values and adds up its log densities.

    Args:
        plate: name of the plate over rows.
        rows: how many rows there are.
        position: unconstrained coordinates of the latent sites; or
        values: their values.
    """

    def __init__(
        self, plate: str, rows: int, *, position: Sites | None = None, values: Sites | None = None
    ) -> None:
        super().__init__()
        self.plate, self.rows = plate, rows
        self.position, self.values = position or {}, values or {}
        self._given = values is not None
        self.found = self.observed = False
        self._prior: list[Array] = []
        self._likelihood: list[Array] = []
        self._subsampled = 1.0

    @property
    def log_prior(self) -> Float[Array, ""]:
        return sum(self._prior[1:], start=self._prior[0]) if self._prior else jnp.zeros(())

    @property
    def log_lik(self) -> Float[Array, " B"]:
        return sum(self._likelihood[1:], start=self._likelihood[0])

    def process_message(self, msg: dict[str, Any]) -> None:
        """Fill the plate with the rows, and latent sites with their values."""
        kind, name = msg["type"], msg["name"]
        if kind == "plate":
            self._fill(msg, name)
        elif kind == "control_flow":
            raise SpecError("model", "one without scan and cond, whose sites cannot be seen", name)
        elif kind == "param":
            raise SpecError("model", "one without numpyro.param: give each unknown a prior instead", name)
        elif kind == "sample" and not msg["is_observed"]:
            self._check_latent(msg, name)
            msg["value"] = self.latent(name, msg["fn"])

    def _fill(self, msg: dict[str, Any], name: str) -> None:
        size, subsample = msg["args"]
        if name != self.plate:
            whole = subsample is None or subsample == size
            require(whole, "model", f"one with no subsampled plate but {self.plate!r}", name)
            return
        require(not self.found, "model", f"one that enters the plate {name!r} once", "twice")
        self.found, self._subsampled = True, size / self.rows
        msg["args"], msg["value"] = (size, self.rows), jnp.arange(self.rows)

    def _check_latent(self, msg: dict[str, Any], name: str) -> None:
        inside = any(frame.name == self.plate for frame in msg["cond_indep_stack"])
        must = f"one without latent sites in the plate {self.plate!r}: sum or integrate them out"
        require(not inside, "model", must, name)
        discrete = bool(getattr(msg["fn"].support, "is_discrete", False))
        require(not discrete, "model", "one without discrete latent sites: sum them out", name)

    def latent(self, name: str, fn: Any) -> Array:
        """The value of a latent site; the log volume of its transform goes to the prior."""
        if self._given:
            return self.values[name]
        transform = biject_to(fn.support)
        u = self.position[name].reshape(_unconstrained_shape(fn))
        value: Array = transform(u)
        self._prior.append(jnp.sum(transform.log_abs_det_jacobian(u, value)))
        self.values[name] = value
        return value

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        """Add the site's log density to the prior or to the rows' likelihoods."""
        if msg["type"] != "sample":
            return
        log_prob, scale = msg["fn"].log_prob(msg["value"]), msg["scale"]
        frame = next((one for one in msg["cond_indep_stack"] if one.name == self.plate), None)
        if frame is None:
            self._prior.append(jnp.sum(log_prob if scale is None else scale * log_prob))
            return
        self.observed = True
        # The plate's own factor is the batch's weight here.
        log_prob = log_prob if scale is None else scale / self._subsampled * log_prob
        by_row = jnp.moveaxis(log_prob, frame.dim, 0)
        fits = by_row.shape[0] == self.rows
        must = f"one whose sites in the plate {self.plate!r} have one log density for each row"
        require(fits, "model", must, f"shape {log_prob.shape} for {self.rows} rows at {msg['name']!r}")
        self._likelihood.append(jnp.sum(by_row.reshape(self.rows, -1), axis=1))


def _unconstrained_shape(fn: Any) -> tuple[int, ...]:
    return tuple(biject_to(fn.support).inverse_shape(tuple(fn.batch_shape) + tuple(fn.event_shape)))


class _Starter(_Reader):
    """Sets every latent site to its prior's median, given those before it, and notes the position."""

    def __init__(self, plate: str, rows: int, *, key: PRNGKey) -> None:
        super().__init__(plate, rows, position={})
        self._key = key

    def latent(self, name: str, fn: Any) -> Array:
        transform = biject_to(fn.support)
        zero = jnp.zeros(_unconstrained_shape(fn), jnp.result_type(float))
        self._key, key = jax.random.split(self._key)
        try:
            median = jnp.median(fn.sample(key, (_MEDIAN_DRAWS,)), axis=0)
            u = jnp.broadcast_to(transform.inv(median), zero.shape).astype(zero.dtype)
        except NotImplementedError:  # an improper prior
            u = zero
        u = jnp.where(jnp.all(jnp.isfinite(u)), u, zero)
        self.position[name] = u.reshape(-1)
        return super().latent(name, fn)
