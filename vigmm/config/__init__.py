"""Configuration files: YAML read safely into a `Job`, each problem with its place."""

from vigmm.config.job import Job, Output
from vigmm.config.load import load_job, path_of, read_job, to_yaml

__all__ = ["Job", "Output", "load_job", "path_of", "read_job", "to_yaml"]
