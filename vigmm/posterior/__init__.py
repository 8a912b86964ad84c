"""What was learned: prediction, draws, summaries, the final bound, and files."""

from vigmm.posterior.draws import Draws
from vigmm.posterior.evidence import ElboReport, elbo
from vigmm.posterior.posterior import Posterior
from vigmm.posterior.prediction import Assignments
from vigmm.posterior.saving import load, save
from vigmm.posterior.summary import Spread, Summary

__all__ = ["Assignments", "Draws", "ElboReport", "Posterior", "Spread", "Summary", "elbo", "load", "save"]
