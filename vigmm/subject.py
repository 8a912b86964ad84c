"""What pictures and exports are made of: a fit or a posterior, and some rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import DataError, SpecError
from vigmm.data.protocol import evenly_spaced
from vigmm.fitted import Fit
from vigmm.posterior import Posterior
from vigmm.posterior.inputs import conform

__all__ = ["posterior_of", "rows_of"]


def posterior_of(source: Any, field: str = "source") -> Posterior:
    """The posterior of a fit, or the posterior itself.

    Raises:
        SpecError: if it is neither.
    """
    posterior = getattr(source, "posterior", source)
    if not isinstance(posterior, Posterior):
        raise SpecError(field, "a vigmm.Fit or a vigmm.Posterior", type(source).__name__)
    return posterior


def rows_of(source: Any, rows: Any, most: int) -> tuple[Float[np.ndarray, "n D"], int]:
    """Rows to look at, evenly spaced where there are more than `most`, and how many there are in all.

    Args:
        source: a fit or a posterior.
        rows: N rows; by default those that were fitted.
        most: the most to read.

    Raises:
        DataError: if there are none, or they do not fit the model.
    """
    if rows is None:
        if not isinstance(source, Fit):
            raise DataError("a posterior does not keep the rows that it was fitted on; give some (rows=...)")
        rows = source.data
    data = conform(rows, posterior_of(source).columns)
    return evenly_spaced(data, most), len(data)
