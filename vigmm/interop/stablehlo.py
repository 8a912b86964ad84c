"""Prediction as a StableHLO program: runs wherever JAX runs, without this package.

A program is closed: the posterior, the centring and the scaling are constants in it. Centring in float32 uses
the centre as a sum of two float32 numbers, so that nothing is lost but the digits that the rows themselves
do not have in float32.
"""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vigmm import __version__
from vigmm.core import rng
from vigmm.core.errors import OutputError
from vigmm.core.precision import DTYPES
from vigmm.core.struct import require
from vigmm.families import Conjugate
from vigmm.families.draws import averaged
from vigmm.math.rows import largest
from vigmm.models import Components
from vigmm.posterior import Posterior
from vigmm.posterior.prediction import NOISE, NUM_DRAWS, with_patterns
from vigmm.subject import posterior_of

__all__ = ["PLATFORMS", "to_stablehlo", "write_stablehlo"]

LogJoint = Callable[[Float[Array, "N D"]], Float[Array, "N KZ"]]

PLATFORMS = ("cpu", "cuda", "tpu")
"""What a program runs on, unless less is asked for."""


def to_stablehlo(
    source: Any,
    *,
    rows: str = "float64",
    platforms: tuple[str, ...] = PLATFORMS,
    num_draws: int = NUM_DRAWS,
) -> Any:
    """A ``jax.export.Exported`` that predicts rows in the units of the data; ``.serialize()`` makes bytes.

    It takes N x D rows, N any number, and returns a dictionary: ``log_density`` (N, in nats and in the units
    of the data), ``responsibilities`` (N x K; noise, if the model has it, is the last column) and
    ``component`` (N, -1 for noise). The numbers are those of `Posterior.assign`; all rows are worked through
    at once, so give millions in chunks. A row with a NaN has the log density NaN, also where the model
    allows for missing values.

    Args:
        source: a `vigmm.Fit` or a `vigmm.Posterior`.
        rows: ``float64``, for which the reader switches on ``jax_enable_x64``, or ``float32``. Standardising
            is as exact as the rows are: with a mean of 1,000 and an sd of 0.01, float32 rows are known to
            0.003 sd.
        platforms: what it can run on; none of them needs to be here.
        num_draws: draws of the parameters, where the family has no closed form.

    Raises:
        OutputError: if flatbuffers is not installed.

    Example:
        >>> import vigmm
        >>> x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
        >>> fit = vigmm.fit(x, model=vigmm.Mixture(num_components=2), moves=None)
        >>> program = to_stablehlo(fit, rows="float32", platforms=("cpu",))
        >>> sorted(program.call(x[:3]))
        ['component', 'log_density', 'responsibilities']
    """
    try:
        import flatbuffers  # noqa: F401  without it jax.export fails late, and without a remedy
        from jax import export
    except ImportError as error:
        raise OutputError("jax.export needs flatbuffers; pip install 'vigmm[stablehlo]'") from error
    posterior = posterior_of(source)
    require(rows in DTYPES, "rows", "'float32' or 'float64'", rows)
    with jax.enable_x64("float64" in (rows, posterior.dtype)):
        (count,) = export.symbolic_shape("n")
        like = jax.ShapeDtypeStruct((count, posterior.dim), np.dtype(rows))  # type: ignore[no-untyped-call]
        function = jax.jit(functools.partial(_predict, posterior, _log_joint(posterior, num_draws)))
        return export.export(function, platforms=platforms)(like)


def _log_joint(posterior: Posterior, num_draws: int) -> LogJoint:
    """`Family.log_predictive` of standardised rows, with all that depends on the parameters alone worked out.

    There must be no factorisation in the program: a fresh process that meets a LAPACK call in a program that
    it has read, before any of its own, crashes (jax 0.9.2).
    """
    model, family, params, prior = posterior.model, posterior.family, posterior.params, posterior.prior
    if model.missing:
        prior = with_patterns(prior, np.zeros((1, posterior.dim)))
    key = rng.stream(rng.root_key(posterior.seed), "predict")
    if isinstance(family, Conjugate):

        def exact(z: Float[Array, "N D"]) -> Float[Array, "N KZ"]:
            with jax.ensure_compile_time_eval():
                return family.log_predictive(model, params, prior, z, key, num_draws=num_draws)

        return exact

    @jax.jit
    def read(keys: Array) -> Components:
        found: Components = lax.map(
            lambda one: model.constrain(prior, family.sample(model, params, one)[0]), keys
        )
        return found

    drawn = read(jax.random.split(key, num_draws))
    return lambda z: averaged(lambda theta: model.log_joint(theta, z), drawn)


def _predict(posterior: Posterior, log_joint_of: LogJoint, x: Float[Array, "N D"]) -> dict[str, Array]:
    model = posterior.model
    log_joint = log_joint_of(_standardised(posterior, x).astype(np.dtype(posterior.dtype)))
    log_density = jax.nn.logsumexp(log_joint, axis=-1)
    responsibilities = jnp.exp(log_joint - log_density[:, None])
    component = largest(log_joint)
    if model.noise is not None:
        component = jnp.where(component == posterior.num_components, NOISE, component)
    volume = jnp.asarray(np.log(posterior.scale).sum(), x.dtype)
    gap = jnp.any(jnp.isnan(x), axis=-1)
    log_density = jnp.where(gap, jnp.nan, log_density.astype(x.dtype) - volume)
    return {
        "log_density": log_density,
        "responsibilities": responsibilities,
        "component": component.astype(jnp.int32),
    }


def _standardised(posterior: Posterior, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """(x - center) / scale with the centre as high + low; a compiler cannot join the two constants again."""
    high = posterior.center.astype(x.dtype)
    low = (posterior.center - high.astype(np.float64)) / posterior.scale
    scale = posterior.scale.astype(x.dtype)
    return (x - jnp.asarray(high)[None]) / jnp.asarray(scale)[None] - jnp.asarray(low.astype(x.dtype))[None]


def write_stablehlo(source: Any, path: str | Path, *, platforms: tuple[str, ...] = PLATFORMS) -> None:
    """Write programs for rows of float32 and of float64, and what a reader must know, into one zip file.

    ``about.json`` names the columns in their order, the programs and their outputs; a program is read by
    ``jax.export.deserialize(bytearray(zip.read("float64.jax")))``. Nothing in the file is a pickle. It can be
    read by this version of JAX and those of half a year to come: keep the model, and export again.
    """
    posterior = posterior_of(source)
    programs = {rows: to_stablehlo(posterior, rows=rows, platforms=platforms) for rows in DTYPES}
    about = {
        "format": "vigmm prediction",
        "version": 1,
        "columns": list(posterior.columns),
        "num_components": posterior.num_components,
        "noise": posterior.model.noise is not None,
        "programs": {
            rows: {
                "file": f"{rows}.jax",
                "input": {"dtype": rows, "shape": ["n", posterior.dim]},
                "platforms": list(program.platforms),
                "calling_convention_version": program.calling_convention_version,
            }
            for rows, program in programs.items()
        },
        "outputs": {
            "log_density": "log predictive density of each row, in nats and in the units of the data",
            "responsibilities": "probability of every component; noise, if there is any, is the last column",
            "component": f"the most probable component; {NOISE} for noise",
        },
        "made_with": {"vigmm": __version__, "jax": jax.__version__},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("about.json", json.dumps(about, indent=2))
        for rows, program in programs.items():
            file.writestr(f"{rows}.jax", bytes(program.serialize()))
