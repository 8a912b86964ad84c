"""Optimisers: Specs that build Optax chains, one row of `OPTIMIZERS` each."""

from vigmm.optim.presets import OPTIMIZERS, Adam, Optimizer, RobbinsMonro, Sgd

__all__ = ["OPTIMIZERS", "Adam", "Optimizer", "RobbinsMonro", "Sgd"]
