"""Moves that change the number of components, judged by the bound."""

from vigmm.train.moves.covariance import search_covariances
from vigmm.train.moves.search import Found, search
from vigmm.train.moves.stage import Moves, Request

__all__ = ["Found", "Moves", "Request", "search", "search_covariances"]
