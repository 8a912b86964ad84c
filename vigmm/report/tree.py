"""Which components are nearly one: pairs joined one after the other, the cheapest first.

Joining i and j into the Gaussian of their common mean and covariance costs at most

    B(i, j) = 1/2 [(w_i + w_j) log det S_ij - w_i log det S_i - w_j log det S_j]              (1)

nats per row: an upper bound of the divergence between the mixtures before and after. Weights, means and
covariances are the posterior's means, whatever its family; those of a joined pair are its moments.

References:
    Runnalls (2007), Kullback-Leibler approach to Gaussian mixture reduction, IEEE Transactions on Aerospace
    and Electronic Systems 43.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

__all__ = ["Join", "merge_tree"]


# Numbers in the covariances of pairs that are looked at together.
_TOGETHER = 4_000_000


@dataclasses.dataclass(frozen=True)
class Join:
    """Two clusters that become one.

    Args:
        first: a leaf (its number), or the number of leaves plus that of an earlier join.
        second: another; the lighter of the two.
        cost: equation (1), in nats per row.
        height: the largest cost so far below this join, so that branches never turn back.
        weight: share of the rows.
    """

    first: int
    second: int
    cost: float
    height: float
    weight: float


def merge_tree(
    weights: Float[np.ndarray, " K"], means: Float[np.ndarray, "K D"], covariances: Float[np.ndarray, "K D D"]
) -> list[Join]:
    """K - 1 joins, each of the pair that is then cheapest.

    Units do not matter: equation (1) is the same for every linear change of the columns.

    Example:
        >>> two = np.array([[0.0], [0.1], [9.0]])
        >>> tree = merge_tree(np.full(3, 1 / 3), two, np.ones((3, 1, 1)))
        >>> [(join.first, join.second) for join in tree]
        [(0, 1), (3, 2)]
    """
    num = len(weights)
    total = 2 * num - 1
    # Determinants of columns in very different units would lose their digits.
    scale = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2).mean(axis=0))
    means, covariances = means / scale, covariances / np.outer(scale, scale)
    weight = np.concatenate([weights, np.zeros(num - 1)]) if num else np.zeros(0)
    mean = np.concatenate([means, np.zeros((max(num - 1, 0), means.shape[1]))])
    cov = np.concatenate([covariances, np.zeros((max(num - 1, 0), *covariances.shape[1:]))])
    log_det = np.full(max(total, 0), np.nan)
    log_det[:num] = np.linalg.slogdet(covariances)[1]
    height = np.zeros(max(total, 0))
    cost = np.full((max(total, 0), max(total, 0)), np.inf)
    together = max(1, _TOGETHER // means.shape[1] ** 2)

    def price(i: int, others: np.ndarray) -> None:
        if len(others) == 0:
            return
        for some in np.array_split(others, -(-len(others) // together)):
            joined, _, wide = _joined(weight, mean, cov, np.full(len(some), i), some)
            before = weight[i] * log_det[i] + weight[some] * log_det[some]
            bound = 0.5 * (joined * np.linalg.slogdet(wide)[1] - before)
            cost[i, some] = cost[some, i] = np.maximum(bound, 0.0)

    for i in range(1, num):
        price(i, np.arange(i))
    alive = list(range(num))
    joins = []
    for new in range(num, total):
        block = cost[np.ix_(alive, alive)]
        a, b = (alive[int(at)] for at in np.unravel_index(int(np.argmin(block)), block.shape))
        first, second = (a, b) if weight[a] >= weight[b] else (b, a)
        merged = _joined(weight, mean, cov, np.array([first]), np.array([second]))
        weight[new], mean[new], cov[new] = (value[0] for value in merged)
        log_det[new] = np.linalg.slogdet(cov[new])[1]
        height[new] = max(float(cost[a, b]), height[a], height[b])
        joins.append(Join(first, second, float(cost[a, b]), float(height[new]), float(weight[new])))
        alive = [k for k in alive if k not in (a, b)]
        price(new, np.array(alive, np.int64))
        alive.append(new)
    return joins


def _joined(
    weight: np.ndarray, mean: np.ndarray, cov: np.ndarray, i: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, mean and covariance of pairs."""
    total = weight[i] + weight[j]
    share = np.divide(weight[i], total, out=np.full(len(total), 0.5), where=total > 0)
    apart = mean[i] - mean[j]
    between = (share * (1 - share))[:, None, None] * apart[:, :, None] * apart[:, None, :]
    wide = share[:, None, None] * cov[i] + (1 - share)[:, None, None] * cov[j] + between
    return total, mean[j] + share[:, None] * apart, wide
