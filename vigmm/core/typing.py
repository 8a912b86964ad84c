"""Shape glossary and the Batch that every estimator receives.

| letter | axis                         |
|--------|------------------------------|
| N      | rows of the whole data set   |
| B      | rows of a batch              |
| D      | dimensions (columns)         |
| K      | mixture components           |
| J      | weight degrees of freedom    |
| P      | position (all unconstrained) |
| S      | Monte-Carlo samples          |
| R      | restarts                     |

Axis order is always R, S, B, K, D.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from jaxtyping import Array, Float, Key

from vigmm.core.struct import state

__all__ = ["Array", "Batch", "Float", "PRNGKey", "PyTree"]

PRNGKey: TypeAlias = Key[Array, ""]
PyTree: TypeAlias = Any


@state
class Batch:
    """Weighted rows with E[sum_b weight_b f(x_b)] = sum_n f(x_n) for every function f.

    `weight` carries minibatch scaling (N/B), padding (0), the user's sample weights and coresets.
    """

    x: Float[Array, "B D"]
    weight: Float[Array, " B"]
