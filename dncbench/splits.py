"""Schemes of a split: how observations, or whole groups of them, are dealt out to the shards.

A split is named by a scheme and an integer index. Schemes:

- ``random``: shards of (nearly) equal size, at random. The default.
- ``in-order``: shards of (nearly) equal size, the first rows first. There is one such
  split; published data sets are cut so.
- ``sorted-by-label``: observations sorted by class, then cut: whole classes
  live on few shards.
- ``dirichlet:ALPHA``: each class is dealt out in Dirichlet(ALPHA) proportions,
  the usual model of class imbalance in federated learning; small ALPHA is worse.
- ``sizes:RATIO``: random, with shard sizes in geometric progression; shard s
  holds a share proportional to RATIO**s, 0 < RATIO <= 1.
"""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from dncbench.errors import NotApplicableError, UnknownNameError, nearest
from dncbench.storage.identity import SCHEME

_SCHEMES = {
    "random": None,
    "in-order": None,
    "sorted-by-label": None,
    "dirichlet": "ALPHA",
    "sizes": "RATIO",
}
_MOST_TRIES = 100


def parse_scheme(scheme: str) -> tuple[str, float | None]:
    """Split ``"dirichlet:0.3"`` into its name and its number.

    Raises:
        UnknownNameError: no such scheme, or its number is missing or out of range.
    """
    name, colon, text = scheme.partition(":")
    if name not in _SCHEMES:
        known = ", ".join(f"{key}:{what}" if what else key for key, what in _SCHEMES.items())
        raise UnknownNameError(
            f"no split scheme is called {name!r}{nearest(name, _SCHEMES)}; known: {known}"
        )
    wanted = _SCHEMES[name]
    if wanted is None:
        if colon:
            raise UnknownNameError(f"split scheme {name!r} takes no number; drop {colon + text!r}")
        return name, None
    try:
        number = float(text)
    except ValueError:
        raise UnknownNameError(
            f"split scheme {scheme!r}: write {name}:{wanted} with a number, e.g. {name}:0.5"
        ) from None
    if not 0 < number < np.inf or (name == "sizes" and number > 1):
        top = "at most 1" if name == "sizes" else "finite"
        raise UnknownNameError(f"split scheme {scheme!r}: {wanted} must be above 0 and {top}")
    if not SCHEME.fullmatch(scheme):  # float() reads more than a file's name may hold
        raise UnknownNameError(f"split scheme {scheme!r}: write {name}:{number:g}")
    return name, number


def assign(
    scheme: str,
    key: PRNGKeyArray,
    num_observations: int,
    num_shards: int,
    labels: np.ndarray | None = None,
    unit: str = "rows",
) -> np.ndarray:
    """Assign everything that is dealt out to a shard.

    Args:
        scheme: see the module's docstring.
        key: the split's key, derived from (seed, problem, split).
        num_observations: n, how many rows, groups, clients or files there are.
        num_shards: S; no shard is left empty.
        labels: (n,) classes, for the schemes that need them.
        unit: what is dealt out, for messages.

    Returns:
        (n,) integers in [0, S).

    Raises:
        NotApplicableError: the scheme needs labels and there are none, there are
            fewer observations than shards, or ALPHA leaves a shard empty.
    """
    name, number = parse_scheme(scheme)
    if num_observations < num_shards:
        raise NotApplicableError(
            f"{num_observations} {'observations' if unit == 'rows' else unit} cannot fill "
            f"{num_shards} shards; set num_shards lower"
        )
    if name in ("sorted-by-label", "dirichlet") and labels is None:
        raise NotApplicableError(f"split scheme {scheme!r} needs labels; this problem has none")
    shuffled = np.asarray(jax.random.permutation(key, num_observations))
    shard_of = np.empty(num_observations, dtype=int)
    if name == "dirichlet":
        assert labels is not None
        assert number is not None
        return _dirichlet(key, np.asarray(labels), shuffled, num_shards, number)
    if name == "in-order":
        shuffled = np.arange(num_observations)
    if name == "sorted-by-label":
        assert labels is not None
        shuffled = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    sizes = np.full(num_shards, 1.0)
    if name == "sizes":
        assert number is not None
        sizes = number ** np.arange(num_shards)
    cuts = _cut(sizes / sizes.sum(), num_observations, at_least=1)
    for shard, rows in enumerate(np.split(shuffled, cuts)):
        shard_of[rows] = shard
    return shard_of


def _cut(share: np.ndarray, total: int, at_least: int) -> np.ndarray:
    """Cut points that deal ``total`` out in these shares, every part at least so large."""
    spare = total - at_least * len(share)
    ends = at_least * np.arange(1, len(share)) + np.round(np.cumsum(share)[:-1] * spare)
    return ends.astype(int)


def _dirichlet(
    key: PRNGKeyArray, labels: np.ndarray, shuffled: np.ndarray, num_shards: int, alpha: float
) -> np.ndarray:
    classes = np.unique(labels)
    for attempt in range(_MOST_TRIES):
        shares = jax.random.dirichlet(
            jax.random.fold_in(key, attempt), np.full(num_shards, alpha), (len(classes),)
        )
        shard_of = np.empty(len(labels), dtype=int)
        for value, share in zip(classes, np.asarray(shares), strict=True):
            members = shuffled[labels[shuffled] == value]
            parts = np.split(members, _cut(share, len(members), at_least=0))
            for shard, rows in enumerate(parts):
                shard_of[rows] = shard
        if len(np.unique(shard_of)) == num_shards:
            return shard_of
    raise NotApplicableError(
        f"split scheme dirichlet:{alpha:g} left a shard empty {_MOST_TRIES} times over; "
        f"raise ALPHA or use fewer than {num_shards} shards"
    )
