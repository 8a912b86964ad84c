"""Benchmarks: vigmm and its peers on data of known density, each fit in a process of its own.

- ``python -m benchmarks`` (``make bench``, ``make bench-full``): cases x methods; writes `RESULTS.md`. A new
  case is one file in `cases` and one row of `CASES`; a new peer is one file in `baselines`, one text of exact
  requirements beside it (its environment is built on demand) and one row of `BASELINES`.
- ``python -m benchmarks.kernel``: one pass over the rows against a plain matrix product and oneDAL.
"""
