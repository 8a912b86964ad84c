"""Configuration files: YAML read safely into a `Job`, each problem with its place."""

from vigmm.config.job import Job, Output
from vigmm.config.load import load_job, path_of, read_job, to_yaml
from vigmm.config.looking import Look, look
from vigmm.config.suggest import suggest

__all__ = ["Job", "Look", "Output", "load_job", "look", "path_of", "read_job", "suggest", "to_yaml"]
