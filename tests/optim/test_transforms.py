"""Fisher preconditioning, the trust region and averages of iterates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vigmm.core.errors import SpecError
from vigmm.optim import OPTIMIZERS, Adam, Averaged, Fisher, RobbinsMonro, Sgd, average_tail, scale_by_fisher


def double(_params, grads):
    """A metric that is easy to check by hand."""
    return jax.tree.map(lambda g: 2.0 * g, grads)


def test_small_steps_are_the_natural_gradient():
    rule = scale_by_fisher(double, max_kl=1.0, rate=lambda _: 0.1)
    grads = {"a": jnp.asarray([1.0, -2.0])}
    updates, _ = rule.update(grads, rule.init(grads), grads)
    np.testing.assert_allclose(updates["a"], [2.0, -4.0])


def test_large_steps_end_on_the_trust_region():
    """rate^2 g.n / 2 = max_kl after shortening, whatever the size of the gradient."""
    rate, max_kl = 0.5, 0.01
    rule = scale_by_fisher(double, max_kl=max_kl, rate=lambda _: rate)
    for size in (1e2, 1e6):
        grads = {"a": size * jnp.asarray([3.0, 4.0])}
        updates, _ = rule.update(grads, rule.init(grads), grads)
        # Of a step n, the gradient in the metric is n/2: KL = rate^2 n.(n/2)/2.
        divergence = 0.25 * rate**2 * float(jnp.sum(updates["a"] ** 2))
        np.testing.assert_allclose(divergence, max_kl, rtol=1e-5)
        np.testing.assert_allclose(updates["a"][0] / updates["a"][1], 0.75, rtol=1e-6)


def test_average_is_the_mean_of_the_last_iterates():
    rule = average_tail(optax.sgd(0.1), lambda step: step >= 3)
    params, state = jnp.asarray([1.0]), None
    state = rule.init(params)
    seen = []
    for step in range(7):
        updates, state = rule.update(jnp.asarray([float(step)]), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params[0]))
    np.testing.assert_allclose(state.mean, [np.mean(seen[3:])], rtol=1e-6)


def test_before_it_begins_the_average_is_the_iterate():
    rule = average_tail(optax.sgd(0.1), lambda step: step >= 100)
    params = jnp.asarray([1.0])
    updates, state = rule.update(jnp.asarray([2.0]), rule.init(params), params)
    np.testing.assert_allclose(state.mean, optax.apply_updates(params, updates))


def test_averaging_beats_the_last_iterate():
    """A noisy quadratic at a constant rate: the mean's squared error is several times smaller."""
    rule = Averaged(rule=Sgd(rate=0.3), share=0.8)
    horizon = jnp.asarray(400)
    built = rule.build(horizon)

    def run(key):
        noise = jax.random.normal(key, (400,))

        def body(carry, e):
            params, state = carry
            with jax.numpy_dtype_promotion("standard"):
                updates, state = built.update(params + e, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(body, (jnp.asarray(1.0), built.init(jnp.asarray(1.0))), noise)
        return params, rule.result(params, state)

    last, mean = jax.vmap(run)(jax.random.split(jax.random.key(0), 200))
    # In theory: variance 0.3/(2 - 0.3) of an iterate, and 1/320 of their mean.
    assert float(jnp.mean(last**2)) > 20 * float(jnp.mean(mean**2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_build_with_a_traced_horizon(name):
    """Whatever the row, one compiled program serves runs of any length."""
    optimizer = OPTIMIZERS[name]()
    params = {"a": jnp.ones(3)}

    @jax.jit
    def one(horizon):
        rule = optimizer.build(horizon, double)
        state = rule.init(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = rule.update(params, state, params)
        return optimizer.result(optax.apply_updates(params, updates), state)

    for horizon in (10, 1000):
        assert np.isfinite(one(jnp.asarray(horizon))["a"]).all()
    assert one._cache_size() == 1


def test_fisher_needs_a_metric():
    with pytest.raises(SpecError, match="optimizer must be 'adam'"):
        Fisher().check(None)
    with pytest.raises(SpecError, match="optimizer"):
        Averaged(rule=Fisher()).check(None)
    for fine in (Adam(), Sgd(), RobbinsMonro(), Averaged()):
        fine.check(None)


@pytest.mark.parametrize("bad", [{"rate": 0.0}, {"rate": 1.5}, {"max_kl": 0.0}, {"warmup": 1.0}])
def test_bad_values_are_refused(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Fisher(**bad)
