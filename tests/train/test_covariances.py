"""A covariance that is left to the data: promises in closed form, one more search, and the higher bound."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vigmm
from tests.train.test_moves import Case, bound_at, scale_of
from vigmm import api
from vigmm.core.specdict import from_dict, to_dict
from vigmm.estimators import Objective
from vigmm.families import factor as factors
from vigmm.models import (
    COVARIANCE_CHOICES,
    COVARIANCES,
    AutoCovariance,
    Diag,
    Dirichlet,
    Full,
    Gamma,
    Mixture,
    NormalWishart,
    StudentT,
    TiedSpherical,
)
from vigmm.train import Checkpointing, Checkpoints, LabelsStart, Moves
from vigmm.train.moves import covariance as choosing
from vigmm.train.moves.mixture import ascend
from vigmm.train.moves.promise import _evidence, _told, costly, promises, restated
from vigmm.train.moves.search import Found

OTHERS = {name: row for name, row in COVARIANCES.items() if row() in AutoCovariance().others}
AUTO = Mixture(num_components=3)
WHOLE = vigmm.Train(holdout=0.0)
COLUMNS = 10


def balls(n: int, dim: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two round clusters, so far apart; all columns have one variance, so that they stay round."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    centres = np.array([[-0.5], [0.5]]) * apart * np.full(dim, dim**-0.5)
    return centres[labels] + draw.normal(size=(n, dim)), labels


def correlated(n: int, dim: int) -> np.ndarray:
    draw = np.random.default_rng(1)
    return np.asarray(draw.normal(size=(n, dim)) @ draw.normal(size=(dim, dim)))


# Promises -------------------------------------------------------------------------------------


@pytest.fixture
def problem(x64):
    """Rows of three soft groups, a posterior of matrices, and models of the same mixture."""
    x, labels = balls(60, 4, 6.0)
    model = Mixture(num_components=3, covariance=Full())
    resp = np.eye(3)[labels] * 0.8 + 0.2 / 3
    case = Case(model, x, 3)
    centre = np.random.default_rng(2).normal(size=(3, 4))
    return SimpleNamespace(case=case, resp=resp, centre=centre, slots=case.of_resp(resp, centre))


@pytest.mark.parametrize("name", OTHERS)
def test_without_cuts_a_promise_is_a_difference_of_bounds(problem, name):
    """At the same responsibilities and the same scale, as passes over the rows have it."""
    case, other = problem.case, dataclasses.replace(problem.case.sized, covariance=OTHERS[name]())
    its = other.build_prior(scale_of(case.x), dtype=np.float64, slots=3)
    told = promises(case.sized, case.prior(3), problem.slots.params, [(other, its)], 0)
    x, resp, centre = case.rows.x, jnp.asarray(problem.resp), jnp.asarray(problem.centre)
    before = bound_at(case.sized, case.prior(3), x, resp, centre)
    np.testing.assert_allclose(told[0], bound_at(other, its, x, resp, centre) - before, rtol=1e-9)


def statistics(model, prior, params):
    """Additive parameters less those of the prior that the components see."""
    base = factors.base(model, prior, params.factor, params.components.centre)
    return jax.tree.map(lambda a, b: np.asarray(a - b), params.components, base)


@pytest.mark.parametrize("hyper", [None, Gamma(2.0, 2.0)], ids=["known", "factor"])
@pytest.mark.parametrize("name", OTHERS)
def test_statistics_are_restated_without_the_rows(problem, name, hyper):
    model = dataclasses.replace(problem.case.model, prior=NormalWishart(hyper=hyper))
    first = dataclasses.replace(problem.case, model=model)
    other = dataclasses.replace(problem.case, model=dataclasses.replace(model, covariance=OTHERS[name]()))
    start = first.of_resp(problem.resp, problem.centre).params
    made = restated(first.sized, first.prior(3), start, other.sized, other.prior(3))
    want = other.of_resp(problem.resp, problem.centre).params
    found, true = (statistics(other.sized, other.prior(3), one) for one in (made, want))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, true)
    np.testing.assert_array_equal(made.components.centre, want.components.centre)
    jax.tree.map(np.testing.assert_array_equal, made.weights, want.weights)
    assert (made.factor is None) == (hyper is None)


def one_component(x: np.ndarray, most: int) -> list[float]:
    """What every other structure promises where one matrix describes all rows."""
    case = Case(Mixture(num_components=most, covariance=Full()), x, 1)
    roving = case.model.prior.roving
    scale = scale_of(x)
    factor = factors.unseen(dataclasses.replace(case.model, prior=roving), np.float64)
    assert factor is not None

    def other(covariance):
        model = Mixture(num_components=most, covariance=covariance, prior=roving)
        prior = model.build_prior(scale, dtype=np.float64, slots=1)
        return dataclasses.replace(model, num_components=1), prior

    params = case.of_resp(np.ones((len(x), 1))).params
    return promises(
        case.sized, case.prior(1), params, [other(one) for one in AutoCovariance().others], most - 1
    )


@pytest.mark.usefixtures("x64")
def test_balls_that_lie_in_one_component_promise_and_correlated_rows_do_not():
    hidden = one_component(balls(600, 12, 5.0)[0], 4)
    # The simplest, for the clusters are balls of one size.
    assert hidden[0] == max(hidden) > 100
    # As one ball they would be far worse than as one ellipsoid: it is the long direction that is cut.
    assert max(one_component(balls(600, 12, 5.0)[0], 1)) < -100
    assert max(one_component(correlated(600, 12), 4)) < -100


def test_where_matrices_are_dear():
    assert costly(8, 1, 2_000.0)
    assert costly(32, 2, 2_000.0)
    # Few columns, or many rows for each component.
    assert not costly(4, 20, 150.0)
    assert not costly(16, 20, 1e6)


# Searches -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hidden():
    return balls(300, COLUMNS, 4.0)


@pytest.fixture(scope="module")
def fits(hidden):
    """Full covariances, and whatever the data support."""
    x, _ = hidden
    full = vigmm.fit(x, model=dataclasses.replace(AUTO, covariance=Full()), train=WHOLE)
    return full, vigmm.fit(x, model=AUTO, train=WHOLE)


def test_clusters_are_found_that_matrices_cannot_pay_for(fits, hidden):
    full, auto = fits
    assert full.posterior.num_components == 1
    assert auto.posterior.num_components == 2
    agree = np.mean(auto.posterior.predict(hidden[0]) == hidden[1])
    assert max(agree, 1 - agree) > 0.95
    assert auto.elbo.elbo > full.elbo.elbo + 20
    told = auto.manifest["notes"]["moves"]["covariance"]
    assert told["found"] == "tied_spherical"
    assert told["bounds"]["tied_spherical"] > told["bounds"]["full"] + 20
    assert set(told["promised"]) == set(OTHERS)


def test_the_choice_does_not_outlive_the_search(fits, tmp_path):
    full, auto = fits
    assert full.posterior.model.covariance == Full()
    assert "covariance" not in full.manifest["notes"]["moves"]
    assert auto.posterior.model == dataclasses.replace(AUTO, num_components=2, covariance=TiedSpherical())
    assert auto.context.objective.model == auto.posterior.model
    # What was asked for is told too.
    assert auto.manifest["model"]["covariance"] == {"kind": "auto"}
    auto.save(tmp_path / "model")
    assert vigmm.load(tmp_path / "model").model.covariance == TiedSpherical()


def test_the_bound_is_that_of_the_named_structure(fits, hidden):
    """The same start, key and rows: a fit that names what was found ends with as high a bound."""
    x, _ = hidden
    named = vigmm.fit(x, model=dataclasses.replace(AUTO, covariance=TiedSpherical()), train=WHOLE)
    np.testing.assert_allclose(named.elbo.elbo, fits[1].elbo.elbo, atol=1.0)


def programs() -> tuple[int, ...]:
    return tuple(one._cache_size() for one in (ascend, _told, _evidence, restated))


def test_few_columns_cost_nothing():
    """With four columns a fit is that of full matrices, to the last bit, and nothing else is compiled."""
    x, _ = balls(80, 4, 9.0)
    full = vigmm.fit(x, model=dataclasses.replace(AUTO, covariance=Full()), train=WHOLE)
    before = programs()
    auto = vigmm.fit(x, model=AUTO, train=WHOLE)
    assert programs() == before
    assert auto.posterior.model == full.posterior.model
    jax.tree.map(np.testing.assert_array_equal, auto.posterior.params, full.posterior.params)
    assert list(auto.manifest["notes"]["moves"]["covariance"]["bounds"]) == ["full"]


def test_correlated_columns_are_searched_once():
    x = correlated(300, COLUMNS)
    full = vigmm.fit(x, model=dataclasses.replace(AUTO, covariance=Full()), train=WHOLE)
    before = programs()[0]
    auto = vigmm.fit(x, model=AUTO, train=WHOLE)
    assert programs()[0] == before
    assert auto.posterior.model.covariance == Full()
    assert auto.elbo.elbo == full.elbo.elbo
    told = auto.manifest["notes"]["moves"]["covariance"]
    assert list(told["bounds"]) == ["full"]
    assert max(told["promised"].values()) < 0


@pytest.mark.parametrize(
    ("promised", "elbo", "found"),
    [
        ([7.0, 3.0, 2.0, 1.0], -90.0, "tied_spherical"),
        ([1.0, 3.0, 2.0, 7.0], -90.0, "diag"),
        ([1.0, 3.0, 2.0, 7.0], -99.5, "full"),
        ([7.0, 3.0, 2.0, 1.0], float("nan"), "full"),
        ([0.5, -3.0, 0.2, 0.1], -90.0, "full"),
    ],
)
def test_the_higher_bound_is_kept(monkeypatch, problem, promised, elbo, found):
    """By more than a nat; a search that broke off is no reason to change."""
    case = problem.case

    def searched(moves, model, prior_at, params, *_, **__):
        bound = -100.0 if model.covariance == Full() else elbo
        return Found(params, 3, 60, {"components": 1}, bound, model.covariance)

    monkeypatch.setattr(choosing, "search", searched)
    monkeypatch.setattr(choosing, "costly", lambda *_: True)
    monkeypatch.setattr(choosing, "_promises", lambda *_: promised)
    model, others = dataclasses.replace(case.model, covariance=Full()), AutoCovariance().others

    def prior_of(one, slots=None, spread=1.0):
        return one.build_prior(scale_of(case.x).spread_by(spread), dtype=np.float64, slots=slots)

    made = choosing.search_covariances(
        Moves(), model, others, prior_of, problem.slots.params, case.rows, jax.random.key(0)
    )
    assert made.notes["covariance"]["found"] == found
    assert to_dict(made.covariance, COVARIANCES)["kind"] == found


def test_what_the_other_parts_cannot_fit_is_not_looked_for():
    objective = Objective(model=AUTO, family=vigmm.Conjugate(), estimator=vigmm.Natural())
    assert api._others(objective) == list(AutoCovariance().others)
    kernel = dataclasses.replace(objective, estimator=vigmm.Natural(kernel="pallas"))
    assert api._others(kernel) == []
    named = dataclasses.replace(objective, model=dataclasses.replace(AUTO, covariance=Full()))
    assert api._others(named) == []


@pytest.mark.parametrize("what", ["moves", "likelihood"])
def test_without_a_search_it_is_full(what):
    x, _ = balls(60, 2, 8.0)
    model = Mixture(num_components=2, **({"likelihood": StudentT()} if what == "likelihood" else {}))
    more = {"moves": None} if what == "moves" else {"family": vigmm.MeanField()}
    fit = vigmm.fit(x, model=model, train=vigmm.Train(passes=2, holdout=0.0), **more)
    assert fit.posterior.model.covariance == Full()


@pytest.mark.slow
def test_a_number_that_was_given_is_kept_and_a_model_goes_on(fits, hidden):
    """Exactly two components from labels, in whichever structure; and on from what was found."""
    x, labels = hidden
    weights = Dirichlet(concentration=1.0)
    start = LabelsStart(labels=labels)
    fixed = vigmm.fit(x, model=Mixture(num_components=2, weights=weights), start=start, train=WHOLE)
    assert fixed.posterior.num_components == 2
    assert fixed.posterior.model.covariance == TiedSpherical()
    again = vigmm.fit(x, model=AUTO, start=vigmm.ModelStart(posterior=fits[1].posterior), train=WHOLE)
    assert again.posterior.model == fits[1].posterior.model
    np.testing.assert_allclose(again.elbo.elbo, fits[1].elbo.elbo, atol=1.0)
    kept = vigmm.fit(x, model=AUTO, moves=Moves(keep=True), train=WHOLE)
    assert kept.posterior.num_components == 3
    assert kept.posterior.model.covariance == TiedSpherical()


class Break(Exception):
    """What ends a run from outside."""


def test_a_run_goes_on_with_what_was_found(fits, hidden, tmp_path, monkeypatch):
    """After the search a resumed run has its structure, and ends with the bits of an unbroken one."""
    x, _ = hidden

    def broken(*_, **__):
        raise Break

    always = Checkpointing(seconds=0.0)
    with monkeypatch.context() as patch:
        patch.setattr("vigmm.api.run_training", broken)
        with pytest.raises(Break):
            vigmm.fit(x, model=AUTO, train=WHOLE, checkpoints=Checkpoints(tmp_path, always))
    before = programs()[0]
    fit = vigmm.fit(x, model=AUTO, train=WHOLE, checkpoints=Checkpoints(tmp_path, always))
    assert programs()[0] == before
    assert fit.posterior.model == fits[1].posterior.model
    jax.tree.map(np.testing.assert_array_equal, fit.posterior.params, fits[1].posterior.params)
    assert fit.manifest["notes"] == fits[1].manifest["notes"] | {"start": fit.manifest["notes"]["start"]}


# What was chosen, as text ----------------------------------------------------------------------


def test_it_is_the_default_and_survives_a_round_trip():
    assert Mixture().covariance == AutoCovariance()
    assert to_dict(Mixture())["covariance"] == {"kind": "auto"}
    assert from_dict(Mixture, to_dict(Mixture())) == Mixture()
    assert from_dict(Mixture, {"covariance": "full"}).covariance == Full()
    assert from_dict(Mixture, {}).covariance == AutoCovariance()


def test_it_is_no_structure_of_its_own():
    assert AutoCovariance not in COVARIANCES.values()
    assert set(COVARIANCE_CHOICES) == {"auto", *COVARIANCES}
    assert AutoCovariance().structure == Full().structure
    assert Mixture().settled == Mixture(covariance=Full())
    named = Mixture(covariance=Diag())
    assert named.settled is named
