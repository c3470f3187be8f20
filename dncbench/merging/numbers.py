"""Reading arrays of plain numbers: what says more than its numbers is refused, not stripped.

``np.asarray`` drops a mask, a unit, a date, an imaginary part or a name without a word. What
may be read is therefore listed here, and everything else is refused by its type.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dncbench.errors import DrawsError

_ARRAYS = (np.ndarray, np.memmap)
_DEEPEST = 3  # lists in lists: shards, draws, coordinates
_EXACT = 2**53  # whole numbers above it are no longer all float64 numbers
_KINDS = {
    "b": "truth values (.astype(float) where 0 and 1 are meant)",
    "c": "complex numbers (pass the real and the imaginary part as coordinates of their own)",
    "M": "dates (pass numbers of one unit)",
    "m": "durations (pass numbers of one unit)",
    "O": "Python objects (pass numbers, and a list with one array for each shard)",
    "S": "text",
    "U": "text",
    "T": "text",
    "V": "records (pass a mapping of name to array for each shard)",
}
"""What NumPy's kinds of dtype hold, for messages."""


def numbers(given: Any, where: str, depth: int = 0) -> Float[np.ndarray, "..."]:
    """An array of plain real numbers as float64.

    Args:
        given: a NumPy array (not of a subclass), JAX array, dense PyTorch tensor, number, or
            lists and tuples of these in one another.
        where: what messages call it.
        depth: how many lists it lies in.

    Raises:
        DrawsError: another type or dtype, rows of different lengths, whole numbers that
            float64 cannot hold. Names the type and the remedy.
    """
    if isinstance(given, jax.Array) or type(given) in _ARRAYS or is_scalar(type(given)):
        array = given
    elif type(given) in (list, tuple):
        if depth == _DEEPEST:
            raise DrawsError(f"{where} has lists nested more than {_DEEPEST} deep")
        array = _from_list(given, where, depth)
    elif type(given).__module__.partition(".")[0] == "torch":
        array = _from_torch(given, where)
    else:
        raise DrawsError(
            f"{where} is of type {type_name(given)}, whose meaning a plain array would lose; pass "
            "a NumPy, JAX or PyTorch array of numbers, or lists of numbers"
        )
    return _float64(array, where)


def is_scalar(kind: type) -> bool:
    """Whether a type is that of one plain real number (truth values and durations are none)."""
    return kind in (int, float) or (
        issubclass(kind, np.floating | np.integer) and not issubclass(kind, np.timedelta64)
    )


def type_name(given: Any) -> str:
    """A type for messages, with the library it comes from."""
    kind = type(given)
    library = kind.__module__.partition(".")[0]
    return kind.__name__ if library == "builtins" else f"{library}.{kind.__name__}"


def whole_number(given: Any, name: str, least: int, most: int) -> int:
    """A whole number of any integer type.

    Raises:
        DrawsError: it is none (a truth value is none), or lies outside ``least`` to ``most``.
    """
    try:
        if isinstance(given, bool | np.bool_):
            raise TypeError
        number = operator.index(given)
    except TypeError as error:
        raise DrawsError(f"{name} is {given!r}; pass a whole number") from error
    if not least <= number <= most:
        raise DrawsError(f"{name} is {number}; pass a whole number from {least} to {most}")
    return number


def _from_list(given: list | tuple, where: str, depth: int) -> np.ndarray:
    kinds = set(map(type, given))
    if all(is_scalar(kind) for kind in kinds):
        if int in kinds:  # beside a float, NumPy would round a long one without a word
            _refuse_long(max((abs(x) for x in given if type(x) is int), default=0), where)
        return np.asarray(given, dtype=np.float64)
    rows = [numbers(entry, where, depth + 1) for entry in given]
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise DrawsError(
            f"{where} is ragged: it holds entries of shapes "
            f"{' and '.join(map(str, sorted(shapes)[:2]))}; give every draw the same coordinates"
        )
    return np.stack(rows)


def _from_torch(given: Any, where: str) -> np.ndarray:
    named = any(name is not None for name in getattr(given, "names", ()))
    if type(given).__name__ not in ("Tensor", "Parameter") or given.is_sparse or named:
        raise DrawsError(f"{where} is no plain, dense tensor; pass one, or a NumPy array")
    given = given.detach().cpu()
    # NumPy has no bfloat16.
    return (given.double() if given.is_floating_point() else given).numpy()


def _float64(array: Any, where: str) -> Float[np.ndarray, "..."]:
    dtype = np.asarray(array).dtype if is_scalar(type(array)) else array.dtype
    if jnp.issubdtype(dtype, jnp.floating):  # bfloat16 too, which NumPy knows as "V"
        return np.asarray(array).astype(np.float64)
    kind = getattr(dtype, "kind", "")  # JAX's keys have none
    if kind not in ("i", "u"):
        held = _KINDS.get(kind, "no plain numbers")
        raise DrawsError(f"{where} holds {held}, dtype {dtype}; pass real numbers")
    array = np.asarray(array)
    if array.size:
        _refuse_long(max(abs(int(array.min())), abs(int(array.max()))), where)
    return array.astype(np.float64)


def _refuse_long(largest: int, where: str) -> None:
    if largest > _EXACT:
        raise DrawsError(
            f"{where} holds the whole number {largest}, beyond 2^53, where float64 cannot tell "
            "neighbours apart; subtract a constant from that coordinate first"
        )
