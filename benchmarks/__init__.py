"""Benchmarks: vigmm and its peers on data of known density, each fit in a process of its own.

Run them with ``python -m benchmarks.run`` (or ``make bench``). A new case is one file in `cases` and one
row of `CASES`; a new peer is one file in `baselines` and one row of `BASELINES`.
"""
