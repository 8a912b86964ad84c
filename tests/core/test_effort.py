"""How hard the compiler tries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core import effort
from vigmm.core.effort import LITTLE, once, pass_work, program


@program(lambda x, *, work: work, static_argnames="work")
def gram(x, *, work):
    return jnp.log1p(jnp.exp(x @ x.T)).sum()


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)


def test_the_effort_follows_the_work(x):
    assert jax.default_backend() == "cpu"
    chosen = [gram._chosen(x, work=work) for work in (0.0, LITTLE, LITTLE + 1)]
    least, usual = (gram._form(options) for options in (effort._LEAST, effort._USUAL))
    assert chosen == [least, least, usual]


def test_every_effort_computes_the_same(x):
    values = [float(gram(x, work=work)) for work in (0.0, 2 * LITTLE)]
    # A sum of 49 numbers in float32: each way of rounding is within 49 units in the last place.
    np.testing.assert_allclose(values, values[0], rtol=49 * np.finfo(np.float32).eps)
    # Two, or one where this compiler does not know the options.
    assert gram._cache_size() >= 1
    gram.clear_cache()
    assert gram._cache_size() == 0


def test_inside_a_transformation_it_is_a_plain_function(x):
    np.testing.assert_allclose(jax.jit(lambda x: gram(x, work=0.0))(x), gram(x, work=0.0), rtol=1e-5)
    assert jax.grad(lambda x: gram(x, work=0.0))(x).shape == x.shape


def test_options_that_the_compiler_does_not_know_are_done_without(x, monkeypatch):
    monkeypatch.setattr(effort, "_LEAST", {"xla_no_such_option": True, "xla_backend_optimization_level": 0})
    monkeypatch.setattr(effort, "_refused", set())
    made = program(lambda x: 0.0)(lambda x: x + 1)
    np.testing.assert_array_equal(made(x), x + 1)
    assert effort._refused == {"xla_no_such_option"}
    assert list(made._made)[-1] == (("xla_backend_optimization_level", 0),)
    np.testing.assert_array_equal(made(x), x + 1)


def test_other_errors_are_told(x):
    def broken(x):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        program(lambda x: 0.0)(broken)(x)


def test_donated_state_is_gone(x):
    add = program(lambda a, b: 0.0, donate_argnames="a")(lambda a, b: a + b)
    given = jnp.copy(x)
    np.testing.assert_array_equal(add(given, x), x + x)
    assert given.is_deleted()


def test_work_of_a_pass():
    assert pass_work((10, 3), 2) == 10 * 2 * (3 * 4 + 20)


def test_what_is_marked_is_computed_in_one_place(x):
    """Eight arrays ask whether one long computation came out positive."""

    def asked(mark):
        def function(x, *others):
            long = mark(jax.scipy.special.digamma(x[0, 0]) - 1.0)
            return [jnp.where(long > 0, other, -other) for other in others]

        return program(lambda *_: 0.0)(function)

    others = [jnp.ones((2, n)) for n in range(1, 9)]
    sizes = [
        asked(mark).lower(x, *others).compile().as_text().count("digamma") for mark in (once, lambda y: y)
    ]
    assert 1.5 * sizes[0] < sizes[1]
    for found, want in zip(asked(once)(x, *others), others, strict=True):
        np.testing.assert_array_equal(found, want * np.sign(jax.scipy.special.digamma(x[0, 0]) - 1.0))
    slope = jax.grad(lambda y: once(y**2))
    np.testing.assert_allclose(jax.vmap(slope)(jnp.arange(3.0)), 2.0 * jnp.arange(3.0))
