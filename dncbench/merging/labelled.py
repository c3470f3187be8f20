"""Reading the draws that a user gives: by position where they are plain, by name where labelled.

A shard may come as a DataFrame (pandas, polars) or as a mapping of name to array, as NumPyro
and BlackJAX return it. Coordinates are then matched by name, whatever their order; columns
that samplers write beside the parameters are left out where their name is reserved for that,
and refused where it might be a parameter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from dncbench.errors import DrawsError
from dncbench.merging.numbers import numbers, type_name

_RESERVED = re.compile(r"\..*|.*__")
"""Stan's (``lp__``) and posterior's (``.chain``) names, which no parameter can have."""

_AMBIGUOUS = re.compile(
    r"chain|draw|iter|iteration|index|level_0|lp|logp|log_prob|log_density|unnamed: \d+|",
    re.IGNORECASE,
)
"""Names of columns that are hardly parameters, and that no rule keeps parameters from having."""

_NUMERIC = re.compile(r"(u?int\d+|float\d+|float|double)(\[pyarrow\])?", re.IGNORECASE)
"""Data types of pandas' and polars' columns whose values are plain real numbers."""


@dataclass
class Given:
    """What a user gave, as plain arrays.

    Attributes:
        arrays: argument -> S arrays: (T_s, d), for log densities (T_s,); float64.
        names: of the d coordinates, where the draws are labelled.
        warnings: what was left out.
    """

    arrays: dict[str, list[Float[np.ndarray, "..."]]]
    names: tuple[str, ...] | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Labelled:
    """One shard's columns by name (each (T,)), what was left out, and the rows' index if any."""

    columns: dict[str, np.ndarray]
    left_out: list[str]
    index: list | None


def read(given: dict[str, Any]) -> Given:
    """Read what a user gave for every argument.

    Args:
        given: argument -> an array with a leading axis of S, or a list with one entry for
            each shard. An entry is an array or lists of numbers; for all but
            ``log_density`` it may be a DataFrame or a mapping of name to array (T,) or
            (T, k), for ``log_density`` a column (Series).

    Raises:
        DrawsError: a type that says more than its numbers, labels on some shards only or not
            the same on all, an index that is not that of the values. Names the argument, the
            shard and the remedy.
    """
    entries = {name: _by_shard(value, name) for name, value in given.items()}
    vectors = {name: shards for name, shards in entries.items() if name != "log_density"}
    where = {
        f"{name} of shard {s}": shard
        for name, shards in vectors.items()
        for s, shard in enumerate(shards)
    }
    labelled = {place for place, shard in where.items() if _is_labelled(shard)}
    if not labelled:
        arrays = {
            name: [_shard(shard, name, s) for s, shard in enumerate(shards)]
            for name, shards in entries.items()
        }
        return Given(arrays)
    for place, shard in where.items():
        if place not in labelled:
            raise DrawsError(
                f"{place} has no names (it is of type {type_name(shard)}), and "
                f"{next(iter(sorted(labelled)))} has; label all of them, or pass plain arrays "
                "with the same coordinates in the same order"
            )
    tables = {
        name: [_labelled(shard, f"{name} of shard {s}") for s, shard in enumerate(shards)]
        for name, shards in vectors.items()
    }
    names = _common_names(tables)
    found = Given(
        {
            name: [np.stack([table.columns[n] for n in names], axis=-1) for table in shards]
            for name, shards in tables.items()
        },
        names,
        _left_out(tables),
    )
    indices = [table.index for table in tables.get("values", [])]
    for s, table in enumerate(tables.get("score", [])):
        _require_index(table.index, indices, "score", s)
    if "log_density" in entries:
        found.arrays["log_density"] = [
            _shard(shard, "log_density", s, indices)
            for s, shard in enumerate(entries["log_density"])
        ]
    return found


# ---------------------------------------------------------------- shards


def _by_shard(value: Any, name: str) -> list[Any]:
    """The entries of an argument, one for each shard."""
    if type(value) in (list, tuple):
        return list(value)
    if _is_labelled(value) or _is_column(value):
        raise DrawsError(f"{name} is one {type_name(value)}; pass a list with one for each shard")
    if not hasattr(value, "__len__") or getattr(value, "shape", None) == ():
        raise DrawsError(f"{name} must be an array or a list with one entry for each shard")
    return list(numbers(value, name))


def _shard(shard: Any, name: str, s: int, indices: list | tuple = ()) -> Float[np.ndarray, "..."]:
    """One shard's plain numbers; log densities may be a column, in the order of the values."""
    where = f"{name} of shard {s}"
    if name == "log_density" and _is_column(shard):
        _require_index(_index(shard), indices, name, s)
        return _column(shard, where)
    if _is_labelled(shard):
        raise DrawsError(f"{where} is a {type_name(shard)}; pass one column of it, or an array")
    return numbers(shard, where)


def _is_frame(given: Any) -> bool:
    return hasattr(given, "columns") and hasattr(given, "__len__")


def _is_labelled(given: Any) -> bool:
    return _is_frame(given) or isinstance(given, Mapping)


def _is_column(given: Any) -> bool:
    """Whether it is a Series, of pandas or polars, and no array."""
    return (
        hasattr(given, "to_numpy")
        and hasattr(given, "dtype")
        and not hasattr(given, "columns")
        and not hasattr(given, "dims")  # xarray's arrays, whose axes are named
        and not isinstance(given, np.ndarray | jax.Array)
    )


# ---------------------------------------------------------------- names


def _labelled(shard: Any, where: str) -> _Labelled:
    names = list(shard.columns) if _is_frame(shard) else list(shard)
    wrong = [name for name in names if not isinstance(name, str | int) or isinstance(name, bool)]
    if wrong:
        raise DrawsError(
            f"{where} names a coordinate {wrong[0]!r}, of type {type_name(wrong[0])}; name all "
            "by text, or pass an array"
        )
    texts = [str(name) for name in names]
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated:
        raise DrawsError(f"{where} has more than one {repeated[0]!r}; rename them")
    table = _Labelled({}, [], _index(shard) if _is_frame(shard) else None)
    for name, text in zip(names, texts, strict=True):
        if _RESERVED.fullmatch(text):
            table.left_out.append(text)
            continue
        if _AMBIGUOUS.fullmatch(text.strip()):
            raise DrawsError(
                f"{where} has a column {text!r}, which is hardly a parameter; drop it, or rename "
                "it if it is one"
            )
        column = f"{where}, {text!r},"
        read = _column(shard[name], column) if _is_frame(shard) else numbers(shard[name], column)
        table.columns |= _spread(read, text, column)
    lengths = {text: len(column) for text, column in table.columns.items()}
    if not lengths:
        raise DrawsError(f"{where} has no parameters; its columns are {', '.join(texts) or 'none'}")
    if len(set(lengths.values())) > 1:
        raise DrawsError(f"{where} has different numbers of draws: {lengths}")
    return table


def _spread(array: Float[np.ndarray, "..."], name: str, where: str) -> dict[str, np.ndarray]:
    """A parameter's coordinates by name: itself, or one for each of its k columns."""
    if array.ndim == 1:
        return {name: array}
    if array.ndim != 2 or 0 < len(array) < array.shape[1]:
        raise DrawsError(
            f"{where} has shape {array.shape}; expected (T,) or (T, k), one row for each draw, "
            "with chains one after another and matrices flattened"
        )
    return {f"{name}[{i}]": array[:, i] for i in range(array.shape[1])}


def _column(series: Any, where: str) -> Float[np.ndarray, " T"]:
    """The numbers of one column of a frame."""
    if not _is_column(series):
        return numbers(series, where)
    dtype = str(series.dtype)
    if not _NUMERIC.fullmatch(dtype):
        raise DrawsError(
            f"{where} has dtype {dtype}, which is no plain real number; drop the column or "
            "convert it"
        )
    return numbers(series.to_numpy(), where)


def _common_names(tables: dict[str, list[_Labelled]]) -> tuple[str, ...]:
    """The first shard's names in its order, which all others must have too."""
    first, names = "", tuple[str, ...]()
    for argument, shards in tables.items():
        for s, table in enumerate(shards):
            where = f"{argument} of shard {s}"
            if not first:
                first, names = where, tuple(table.columns)
                continue
            lacking = [name for name in names if name not in table.columns]
            more = [name for name in table.columns if name not in names]
            if lacking or more:
                has = [f"lacks {', '.join(lacking)}"] * bool(lacking)
                has += [f"has {', '.join(more)} besides"] * bool(more)
                raise DrawsError(
                    f"{where} {' and '.join(has)}, compared with {first}; give all the same "
                    "parameters"
                )
    return names


def _left_out(tables: dict[str, list[_Labelled]]) -> list[str]:
    lines = []
    for argument, shards in tables.items():
        left_out = sorted({name for table in shards for name in table.left_out})
        if left_out:
            lines.append(f"{argument}: left out {', '.join(left_out)}, which samplers write")
    return lines


# ---------------------------------------------------------------- rows


def _index(table: Any) -> list | None:
    """The labels of the rows; None where there are none (polars)."""
    index = getattr(table, "index", None)
    return None if index is None or callable(index) else list(index)


def _require_index(index: list | None, of_values: list | tuple, name: str, s: int) -> None:
    """Refuse rows whose labels are not those of the values, or numbers in order."""
    if index is None:
        return
    known = of_values[s] if s < len(of_values) else None
    expected = list(range(len(index))) if known is None else known
    if index != expected:
        raise DrawsError(
            f"{name} of shard {s} has another index than its values; bring both into the same "
            "order, or drop the index (.to_numpy())"
        )
