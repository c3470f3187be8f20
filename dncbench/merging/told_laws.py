"""Laws on objects that a merge tells beside its own: the report shows them, nothing is ranked."""

from typing import Any

import numpy as np
from jaxtyping import Float

from dncbench.errors import DrawsError
from dncbench.space import Codes, Space

_OFF = 1e-3  # of a sum from one: networks compute in float32


def taken_out(
    info: dict[str, Any], name: str, space: Space, num_shards: int
) -> tuple[Float[np.ndarray, "S K"] | None, Float[np.ndarray, "P K"] | None]:
    """Take ``client_log_probs`` and ``laws`` out of a merge's info, which is recorded.

    Args:
        info: as returned; changed.
        name: of the method, for messages.
        space: of the draws; where objects are not counted there are no such laws, and an entry
            of that name is like any other.
        num_shards: S.

    Returns:
        Log probabilities of all K objects under the law that each client learned; probabilities
        at P even steps of the merge's training, the last at its end. None where not told.

    Raises:
        DrawsError: these are no laws on the objects.
    """
    if not isinstance(space, Codes) or space.size is None:
        return None, None
    clients, course = (info.pop(key, None) for key in ("client_log_probs", "laws"))
    if clients is not None:
        clients = np.asarray(clients, np.float64)
        _require(np.exp(clients), (num_shards, space.size), f"{name!r}: client_log_probs")
    if course is not None:
        course = np.asarray(course, np.float64)
        _require(course, (len(np.atleast_2d(course)), space.size), f"{name!r}: laws")
    return clients, course


def _require(probs: np.ndarray, shape: tuple[int, int], what: str) -> None:
    if probs.shape != shape:
        raise DrawsError(f"method {what} has shape {probs.shape}, not {shape}: a law in each row")
    if not (np.all(probs >= 0.0) and np.all(np.abs(probs.sum(1) - 1.0) <= _OFF)):
        raise DrawsError(
            f"method {what} has a row that is no law; probabilities are not negative and sum to one"
        )
