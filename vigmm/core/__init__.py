"""Spec and State, key streams, errors and outcomes: what every other layer stands on."""
