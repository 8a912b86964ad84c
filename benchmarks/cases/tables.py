"""Large real tables that lie beside some checkouts: skin colours, flights, cells in a flow cytometer."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.cases.base import CaseData, Skipped
from benchmarks.cases.split import from_table, standardised

__all__ = ["TableCase"]


@dataclass(frozen=True)
class TableCase:
    """A row of `refdata.REAL`, columns standardised.

    Args:
        table: its name.
        k_max: components that a method may use.
        batch_size: rows of a minibatch.
    """

    table: str
    k_max: int
    batch_size: int = 2000

    def build(self, *, rows: int | None = None) -> CaseData:
        from benchmarks import refdata

        real = refdata.REAL[self.table]
        why = refdata.missing(real.file) if real.file else None
        if why is not None:
            raise Skipped(why)
        facts = {**asdict(self), "source": real.file}
        return from_table(standardised(real.read()), facts, rows=rows)
