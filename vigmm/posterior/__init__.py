"""What was learned: prediction, draws, summaries, the final bound, how far to trust it, and files."""

from vigmm.posterior.diagnosis import Diagnosis, diagnose
from vigmm.posterior.draws import Draws
from vigmm.posterior.evidence import ElboReport, elbo
from vigmm.posterior.findings import Finding
from vigmm.posterior.modal import Clusters
from vigmm.posterior.posterior import Posterior
from vigmm.posterior.prediction import Assignments
from vigmm.posterior.saving import digest, load, save
from vigmm.posterior.summary import Spread, Summary

__all__ = [
    "Assignments",
    "Clusters",
    "Diagnosis",
    "Draws",
    "ElboReport",
    "Finding",
    "Posterior",
    "Spread",
    "Summary",
    "diagnose",
    "digest",
    "elbo",
    "load",
    "save",
]
