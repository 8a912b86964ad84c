"""Moves: gains are differences of the bound, restrictions are bounds, and searches end where they should."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import xlogy
from sklearn import cluster

import vigmm
from vigmm.core import rng
from vigmm.core.effort import pass_work
from vigmm.core.processes import Group
from vigmm.data.sampler import Rows
from vigmm.data.synthetic import gaussian_mixture
from vigmm.families import Conjugate, ConjugateParams, untouched
from vigmm.families import factor as factors
from vigmm.models import (
    COVARIANCES,
    DataScale,
    Diag,
    Dirichlet,
    DirichletProcess,
    Full,
    Gamma,
    Mixture,
    NormalWishart,
    PitmanYor,
    Tied,
    sticks,
)
from vigmm.train import LabelsStart, Moves, Request, search
from vigmm.train.interrupt import Interrupt, Preempted
from vigmm.train.moves.merge import choose, merge, pairs
from vigmm.train.moves.mixture import Slots, ascend, assemble, read, resize, responsibilities
from vigmm.train.moves.split import WAYS, split

CONJUGATE = [name for name, row in COVARIANCES.items() if name != "low_rank"]
SLOTS = 6
CENTRES = np.array([[-3.0, 0.0], [3.0, 1.0], [0.0, -3.0]])


def scattered(n: int, centres: np.ndarray = CENTRES, sd: float = 0.5, seed: int = 0) -> tuple:
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % len(centres)
    return centres[labels] + sd * draw.normal(size=(n, centres.shape[1])), labels


def scale_of(x: np.ndarray) -> DataScale:
    dim = x.shape[1]
    cov = np.cov(x.T, bias=True).reshape(dim, dim)
    return DataScale(mean=x.mean(0), cov=cov, center=np.zeros(dim), scale=np.ones(dim))


@dataclasses.dataclass
class Case:
    """A model in `slots` slots, its rows, and posteriors made of responsibilities."""

    model: Mixture
    x: np.ndarray
    slots: int
    dtype: str = "float64"

    def prior(self, slots: int):
        return self.model.build_prior(scale_of(self.x), dtype=np.dtype(self.dtype), slots=slots)

    @property
    def sized(self) -> Mixture:
        return dataclasses.replace(self.model, num_components=self.slots)

    @property
    def rows(self) -> Rows:
        return Rows(x=jnp.asarray(self.x, self.dtype), weight=jnp.ones(len(self.x), self.dtype))

    def of_labels(self, labels: np.ndarray, centre: np.ndarray | None = None) -> Slots:
        return self.of_resp(np.eye(self.slots)[labels], centre)

    def of_resp(self, resp: np.ndarray, centre: np.ndarray | None = None) -> Slots:
        centre = np.zeros((self.slots, self.x.shape[1])) if centre is None else centre
        return _of_resp(
            self.sized, self.prior(self.slots), self.rows.x, jnp.asarray(resp, self.dtype),
            jnp.asarray(centre, self.dtype),
        )  # fmt: skip

    def start(self, labels: np.ndarray) -> ConjugateParams:
        return self.of_labels(labels).params


def before(model, prior):
    """No sticks, and q of a common factor as it is without rows."""
    return None, untouched(model, prior).factor


@functools.partial(jax.jit, static_argnames=("model",))
def _of_resp(model, prior, x, resp, centre):
    return assemble(model, prior, before(model, prior), model.algebra.stats(x, resp, centre), centre)


@functools.partial(jax.jit, static_argnames=("model",))
def bound_at(model, prior, x, resp, centre, factor=None):
    """The bound at given responsibilities, q of the parameters at its optimum for them."""
    order = jnp.argsort(-jnp.sum(resp, axis=0))
    resp, centre = resp[:, order], centre[order]
    kept = (None, factor or before(model, prior)[1])
    made = assemble(model, prior, kept, model.algebra.stats(x, resp, centre), centre)
    family = Conjugate()
    posterior = family.posterior(model, made.params)
    log_joint = model.log_joint(family.expected(model, posterior), x)
    fit = jnp.sum(resp * log_joint) - jnp.sum(xlogy(resp, resp))
    return fit + jax.tree.reduce(jnp.add, family.neg_kl(model, posterior, prior, made.used))


# Every structure compiles anew; those that are not run by default differ in nothing but their algebra.
QUICK = ("full", "tied")
FACTOR = NormalWishart(hyper=Gamma(shape=2.0, rate=2.0))


def params(names, quick):
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow], id=name) for name in names]


PLAIN = params(CONJUGATE, QUICK)
# A factor enters through two methods of a structure: matrices, variances, and what is shared.
EVERY = PLAIN + params(("full-factor", "tied-factor", "diag-factor"), ("full-factor",))


@pytest.fixture(scope="module", params=EVERY)
def case(request):
    name, _, factor = request.param.partition("-")
    prior = FACTOR if factor else NormalWishart()
    with jax.enable_x64(True):
        x, _ = scattered(60, sd=1.0)
        yield Case(Mixture(num_components=SLOTS, covariance=COVARIANCES[name](), prior=prior), x, SLOTS)


def test_statistics_of_groups_are_those_of_summed_responsibilities(case):
    """Also where the members' centres are far from each other and from the rows."""
    algebra, draw = case.sized.algebra, np.random.default_rng(1)
    resp = jnp.asarray(draw.dirichlet(np.ones(SLOTS), size=60))
    centre = jnp.asarray(5.0 * draw.normal(size=(SLOTS, 2)))
    group = jnp.array([0, 1, 1, 2, 0, 0])
    to = jnp.asarray(draw.normal(size=(3, 2)))
    x = case.rows.x
    joined = algebra.regroup(algebra.stats(x, resp, centre), to[group] - centre, group, 3)
    want = algebra.stats(x, resp @ jnp.eye(3)[group], to)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), joined, want)


@pytest.mark.parametrize("case", PLAIN, indirect=True)
def test_the_partition_gives_the_evidence(case):
    """Log Z of the posterior less that of the prior, less n D/2 log 2 pi, is the bound at K = 1."""
    one = Case(case.model, case.x, 1)
    algebra, prior, x = one.sized.algebra, one.prior(1), one.rows.x
    centre = jnp.zeros((1, 2))
    resp = jnp.ones((len(x), 1))
    base = algebra.natural(prior.components, centre)
    after = jax.tree.map(jnp.add, base, algebra.stats(x, resp, centre))
    evidence = algebra.log_partition(after) - algebra.log_partition(base) - len(x) * np.log(2 * np.pi)
    np.testing.assert_allclose(evidence, bound_at(one.sized, prior, x, resp, centre), rtol=1e-10)


def test_gains_are_differences_of_the_bound(case):
    """Every pair's gain, from statistics and entropies, against the bound with the columns added up."""
    prior, model = case.prior(SLOTS), case.sized
    slots = case.of_resp(np.random.default_rng(2).dirichlet(np.ones(SLOTS), size=60))
    found = pairs(model, prior, slots, case.rows)
    posterior, theta = read(model, slots)
    resp, _ = responsibilities(model, theta, case.rows.x)
    centre = posterior.components.loc
    told = bound_at(model, prior, case.rows.x, resp, centre, slots.params.factor)
    checked = 0
    for i, j, gain in zip(*(np.asarray(v) for v in (found.first, found.second, found.gain)), strict=True):
        joined = resp.at[:, i].add(resp[:, j]).at[:, j].set(0.0)
        after = bound_at(model, prior, case.rows.x, joined, centre, slots.params.factor)
        np.testing.assert_allclose(gain, after - told, atol=1e-7)
        checked += 1
    assert checked >= SLOTS


def test_a_merge_gains_what_was_promised_and_ascent_never_loses(case):
    prior, model = case.prior(SLOTS), case.sized
    # The first cluster is cut at random: rows of its halves are alike.
    labels = scattered(60)[1]
    labels = np.where((labels == 0) & (np.random.default_rng(0).random(60) < 0.5), 3, labels)
    slots = case.of_labels(labels)
    tolerance = jnp.asarray(-1.0)
    trace = [float(ascend(model, prior, slots, case.rows, jnp.int32(n), tolerance)[1]) for n in (1, 2, 4, 8)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(trace))
    slots, before = ascend(model, prior, slots, case.rows, jnp.int32(3), tolerance)
    found = pairs(model, prior, slots, case.rows)
    (i, j, gain), *_ = choose(found, least=-np.inf)
    group = np.arange(SLOTS)
    group[j] = i
    joined = merge(model, prior, slots, found, jnp.asarray(group))
    assert int(joined.used.sum()) == int(slots.used.sum()) - 1
    _, after = ascend(model, prior, joined, case.rows, jnp.int32(1), tolerance)
    # Responsibilities at their optimum for the merged posterior can only add to it.
    assert float(after - before) >= gain - 1e-7


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("weights", "components"),
    [
        pytest.param(DirichletProcess(), NormalWishart(), id="process"),
        pytest.param(DirichletProcess(), FACTOR, id="factor"),
        pytest.param(PitmanYor(), NormalWishart(), id="pitman_yor", marks=pytest.mark.slow),
        pytest.param(DirichletProcess(last_stick="free"), FACTOR, id="free", marks=pytest.mark.slow),
        pytest.param(DirichletProcess(hyper=Gamma()), NormalWishart(), id="hyper", marks=pytest.mark.slow),
    ],
)
def test_slots_out_of_use_cost_nothing(weights, components):
    """The bound of a process does not depend on how many slots are spare, and no row goes there."""
    x, labels = scattered(60)
    case = Case(Mixture(num_components=SLOTS, weights=weights, prior=components), x, SLOTS)
    slots = case.of_labels(labels)
    more = dataclasses.replace(case, slots=10)
    wide = resize(more.sized, case.prior(SLOTS), more.prior(10), slots)
    assert np.asarray(wide.used).tolist() == [True] * 3 + [False] * 7
    empty = jax.tree.map(lambda leaf: leaf[3:], wide.params.components)
    base = factors.base(more.sized, more.prior(10), wide.params.factor, wide.params.components.centre)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[3:], atol=1e-10), empty, base)
    few, many = (
        float(ascend(c.sized, c.prior(c.slots), s, c.rows, jnp.int32(4), jnp.asarray(-1.0))[1])
        for c, s in ((case, slots), (more, wide))
    )
    # A free concentration also learns from empty sticks, which is where the number of slots comes in.
    if not weights.num_hyper():
        np.testing.assert_allclose(many, few, rtol=1e-10)
    back = resize(case.sized, more.prior(10), case.prior(SLOTS), wide)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9),
        back.params.components,
        slots.params.components,
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("way", range(len(WAYS)), ids=WAYS)
def test_a_cut_parts_two_clusters_and_loses_no_row(way):
    x, labels = scattered(90, CENTRES[:2])
    case = Case(Mixture(num_components=4), x, 4)
    slots = case.of_labels(np.zeros(90, int))
    cut = split(case.sized, case.prior(4), slots, case.rows, rng.root_key(0), jnp.int32(way))
    counts = cut.params.components.count - case.prior(4).components.mean_precision
    assert int(cut.used.sum()) == 2
    np.testing.assert_allclose(jnp.sum(counts), 90.0, rtol=1e-12)
    settled, _ = ascend(case.sized, case.prior(4), cut, case.rows, jnp.int32(20), jnp.asarray(1e-6))
    resp, _ = responsibilities(case.sized, read(case.sized, settled)[1], case.rows.x)
    found = np.asarray(jnp.argmax(resp, axis=-1))
    assert len({(a, b) for a, b in zip(labels.tolist(), found.tolist(), strict=True)}) == 2


# Searches -------------------------------------------------------------------------------------


def searched(model: Mixture, x: np.ndarray, labels: np.ndarray, seed: int = 0, **options):
    case = Case(model, x, model.num_components, "float32")
    return search(
        options.pop("moves", Moves()), model, case.prior, case.start(labels), case.rows, rng.root_key(seed),
        **options,
    )  # fmt: skip


N = 300
MODEL = Mixture(num_components=8)


@pytest.mark.parametrize("first", [1, 8], ids=["from_one", "from_all"])
def test_three_clusters_are_three_wherever_the_search_begins(first):
    x, _ = scattered(N)
    found = searched(MODEL, x, np.random.default_rng(0).integers(first, size=N))
    assert found.num_components == 3
    assert found.params.components.count.shape == (3,)
    loc = np.asarray(MODEL.algebra.standard(found.params.components).loc)
    gaps = np.linalg.norm(loc[:, None] - CENTRES[None], axis=-1).min(axis=0)
    # Means of 100 rows of sd 0.5 have an error of 0.05 in each column.
    assert gaps.max() < 5 * 0.05 * np.sqrt(2)
    stage = found.notes["stages"][-1]
    assert stage["components"] == 3
    assert stage["rounds_kept"] >= (first == 1)


def test_one_gaussian_is_one():
    x = np.random.default_rng(3).normal(size=(N, 2))
    assert searched(MODEL, x, np.random.default_rng(0).integers(8, size=N)).num_components == 1


def test_the_same_seed_gives_the_same_bits():
    x, _ = scattered(N)
    one, two = (searched(MODEL, x, np.zeros(N, int), seed=5) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(Dirichlet(1.0), id="fixed"),
        pytest.param(DirichletProcess(), id="bounded", marks=pytest.mark.slow),
    ],
)
def test_a_swap_mends_a_start_with_two_on_one_and_one_on_two(weights):
    """With every component taken, only a split and a merge together can raise the bound."""
    x, labels = scattered(N, sd=0.3)
    wrong = np.where(labels == 0, np.where(x[:, 1] > 0, 0, 1), 2)
    found = searched(Mixture(num_components=3, weights=weights), x, wrong)
    assert found.num_components == 3
    loc = np.asarray(MODEL.algebra.standard(found.params.components).loc)
    assert np.linalg.norm(loc[:, None] - CENTRES[None], axis=-1).min(axis=0).max() < 5 * 0.03 * np.sqrt(2)


def test_a_number_that_was_given_is_kept():
    """A Dirichlet with a concentration of one has as many components as it says."""
    x = np.random.default_rng(3).normal(size=(N, 2))
    found = searched(Mixture(num_components=3, weights=Dirichlet(1.0)), x, np.arange(N) % 3)
    assert found.num_components == 3
    assert float(jnp.min(found.params.components.count)) > 1.0


@pytest.mark.slow
def test_a_sparse_dirichlet_keeps_its_empty_components():
    x, _ = scattered(N)
    model = Mixture(num_components=8, weights=Dirichlet())
    found = searched(model, x, np.arange(N) % 8)
    assert found.num_components == 8
    counts = np.asarray(found.params.components.count) - 0.01
    assert (counts[:3] > 50).all()
    np.testing.assert_allclose(counts[3:], 0.0, atol=1e-3)
    weights = sticks.expected_weights(found.params.weights, 8)
    np.testing.assert_allclose(jnp.sum(weights), 1.0, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", [Tied(), Diag()], ids=["tied", "diag"])
def test_other_covariances(covariance):
    x, _ = scattered(N)
    model = Mixture(num_components=8, covariance=covariance)
    assert searched(model, x, np.arange(N) % 8).num_components == 3


def test_a_start_that_is_not_finite_is_reported_and_left_alone():
    x, _ = scattered(N)
    case = Case(MODEL, x, 8, "float32")
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, case.start(np.arange(N) % 8))
    weights = case.start(np.arange(N) % 8).weights
    start = ConjugateParams(weights=weights, components=broken.components)
    found = search(Moves(), MODEL, case.prior, start, case.rows, rng.root_key(0))
    assert "not finite" in found.notes["stages"][0]["broken"]
    assert found.num_components == 8


def test_an_interrupt_ends_the_search_with_a_usable_posterior():
    x, _ = scattered(N)
    interrupt = Interrupt()
    interrupt.requested = True
    found = searched(MODEL, x, np.zeros(N, int), request=Request(interrupt))
    assert found.notes["stages"][0]["rounds"] == 0
    assert np.isfinite(np.asarray(found.params.components.second)).all()


@dataclasses.dataclass(frozen=True)
class _TwoProcesses(Group):
    """This one, and another whose flags are these."""

    others: tuple[bool, ...] = (False, False)

    def any_of(self, *flags):
        return tuple(a or b for a, b in zip(flags, self.others, strict=True))


def test_processes_stop_together_whoever_is_asked_or_late():
    assert not Request(seconds=1e6, group=_TwoProcesses()).stopped()
    assert Request(seconds=0.0, group=_TwoProcesses()).stopped()
    assert Request(seconds=1e6, group=_TwoProcesses(others=(True, False))).stopped()
    with pytest.raises(Preempted, match="run the same command again"):
        Request(group=_TwoProcesses(others=(False, True))).stopped()


@pytest.mark.slow
def test_overlapping_components_are_joined():
    """Five overlapping clusters from ten starts of k-means: merges that are computed alone leave seven.

    Components that share most of their rows seem to lose by any merge until they have settled, so merges
    are tried as well; the fit from the true labels ends at the same bound.
    """
    mixture = gaussian_mixture(22_000, 2, 5, seed=0)
    x, truth = mixture.x[:2_000].astype(np.float64), mixture.labels[:2_000]
    x = (x - x.mean(0)) / x.std(0)
    model = Mixture(num_components=10)
    want = searched(model, x, truth).notes["stages"][0]["elbo"]
    for seed in range(3):
        labels = cluster.KMeans(10, n_init=1, random_state=seed).fit_predict(x)
        found = searched(model, x, labels, seed)
        assert found.num_components == 5
        # A nat is what a move must gain.
        assert found.notes["stages"][0]["elbo"] == pytest.approx(want, abs=1.0)


def test_stages_by_rows():
    assert Moves().stages(300) == (300,)
    assert Moves().stages(40_000) == (40_000,)
    assert Moves().stages(40_001) == (20_000, 40_001)
    assert Moves().stages(10**9) == (20_000, 200_000)
    assert Moves(rows=10_000).stages(10**9) == (10_000,)
    # A row of 64 columns under 20 and 100 components is dear, one of 16 under 20 is not.
    dear, usual, dearest = (pass_work((1, dim), 2 * k) for dim, k in ((64, 20), (16, 20), (64, 100)))
    assert Moves().stages(100_000, dear) == Moves().stages(100_000, dearest) == (20_000, 40_000)
    assert Moves().stages(100_000, usual) == (20_000, 100_000)
    assert Moves().stages(30_000, dearest) == (30_000,)


@pytest.mark.slow
def test_a_search_in_stages(monkeypatch):
    x, _ = scattered(N)
    monkeypatch.setattr(Moves, "stages", lambda moves, rows, *_: (100, rows))
    found = searched(MODEL, x, np.zeros(N, int))
    assert [stage["rows"] for stage in found.notes["stages"]] == [100, N]
    assert found.num_components == 3
    assert found.rows_seen == N


def test_covariances_are_all_here():
    """A structure with a conjugate algebra that is not tested above would be left out in silence."""
    able = {
        name
        for name, row in COVARIANCES.items()
        if name != "low_rank" and hasattr(row().structure, "natural")
    }
    assert able == set(CONJUGATE)
    assert MODEL.structure == Full().structure


# How large a component is, inferred by the search and kept by the fit -------------------------------


@pytest.fixture(scope="module")
def wide():
    """Of five Gaussians in eight columns typical covariances are several times what the rule expects."""
    return np.asarray(gaussian_mixture(600, 8, 5, seed=0).x)


def fitted(x, *, prior=None, **moves):
    model = Mixture(num_components=10, prior=prior or NormalWishart())
    return vigmm.fit(x, model=model, moves=Moves(**moves), train=vigmm.Train(holdout=0.0))


@pytest.fixture(scope="module")
def pair(wide):
    return fitted(wide), fitted(wide, spread=False)


def test_the_spread_is_kept_and_told(pair):
    free, known = pair
    spread = free.manifest["notes"]["moves"]["spread"]
    assert spread > 2.0
    assert known.manifest["notes"]["moves"]["spread"] == 1.0
    said, before = (np.asarray(fit.manifest["prior"]["expected_covariance"]) for fit in pair)
    np.testing.assert_allclose(said, spread * before, rtol=1e-9)
    # The model is as it was chosen: no family has a coordinate more.
    assert free.posterior.params.factor is None
    assert free.posterior.model.prior == known.posterior.model.prior


def test_the_prior_that_was_found_has_the_higher_bound(pair, wide):
    free, known = pair
    assert free.elbo.elbo > known.elbo.elbo + 50
    # And it is a prior like any other: stated, it gives the same bound.
    cov = free.manifest["prior"]["expected_covariance"]
    stated = NormalWishart(covariance=tuple(map(tuple, cov)), mean=tuple(free.manifest["prior"]["mean"]))
    again = fitted(wide, prior=stated)
    assert again.manifest["notes"]["moves"]["spread"] == 1.0
    np.testing.assert_allclose(again.elbo.elbo, free.elbo.elbo, atol=1.0)


@pytest.mark.slow
def test_the_spread_is_where_the_bound_is_highest(pair, wide):
    free, _ = pair
    labels = free.posterior.predict(wide)
    spread = free.manifest["notes"]["moves"]["spread"]

    def bound(scale):
        fit = vigmm.fit(
            wide, model=Mixture(num_components=10, prior=NormalWishart(scale=scale)), moves=None,
            start=LabelsStart(labels=labels), train=vigmm.Train(holdout=0.0),
        )  # fmt: skip
        return fit.elbo.elbo

    below, at, above = (bound(spread * times) for times in (0.6, 1.0, 1.7))
    assert at > max(below, above)


@pytest.mark.parametrize(
    "prior",
    [NormalWishart(scale=0.5), NormalWishart(hyper=Gamma(2.0, 2.0)), NormalWishart(ratio=1.0)],
    ids=["scale", "hyper", "ratio"],
)
def test_a_scale_that_is_stated_is_known(prior):
    assert prior.roving is None


def test_tied_rows_do_not_take_it_below_one():
    x = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 30, axis=0)
    assert fitted(x).manifest["notes"]["moves"]["spread"] == pytest.approx(1.0, abs=1e-5)
