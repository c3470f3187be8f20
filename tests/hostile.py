"""Records as an attacker, a bad disk or another version would leave them."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from handmade import failed, record

GONE = object()

HOSTILE = (
    *(None, True, False, 0, -1, 2**63, 10**400, 1.5, 1e160, 1e308, -1e308, 5e-324),
    *(float("inf"), float("nan"), "", "x", "../../x", "\x1b[31mred", "a\nb", "=cmd|calc"),
    *("<script>", "$\\frac$", "\u202e", "\ud800", "x" * 5000, "A@1", "ok", "failed"),
    *([], {}, [1], ["a"], [[1]], {"a": 1}, {"a": {"b": [[[[[1]]]]]}}, GONE),
)
"""In the place of any value."""

LEGAL_NUMBERS = (0, 0.0, 1e-100, 1e100, -1e100, 2**62, 0.5, 1e50, -5.0, 3)
LEGAL_TEXTS = ("=1+1", "$x$ $", "|", "[a](http://x)", "`x`", "\x1b]0;t\x07", "a\r\nb", "\\", "é")
"""In the place of numbers and texts, where the shape allows it."""


def whole() -> list[dict[str, Any]]:
    """Records with everything that one can have."""
    one_round = {
        "fit_by_shard": [0.1, 0.2],
        "fit_total": 0.3,
        "merge": 0.1,
        "bytes_up": 8,
        "bytes_down": 8,
        "metrics": {"mah@1": 0.5},
    }
    facts = {"python": "3", "cpu": "c", "cores": 2, "commit": "0", "packages": {"jax": "1"}}
    common: dict[str, Any] = {
        "rounds": [one_round, one_round],
        "training": [{"share": 0.5, "tv": 0.3}, {"share": 1.0, "tv": 0.2}],
        "client_laws": "0" * 64,
        "memory_bytes": {"fit": 1, "merge": 2},
        "importance": {
            "k_hat": 0.1,
            "ess_share": 0.5,
            "points": 400,
            "rank_correlation": 0.9,
        },
        "environment": facts,
        "info": {"ess": 9.0, "max_rhat": 1.0, "learning_curve": [3.0, 1.0], "free": {"a": [1]}},
        "reference": {"grade": "C", "failures": ["R-hat 1.2"]},
        "warnings": ["something"],
    }
    values = {"mah@1": 1.0, "iad@1": 0.5, "skew@1": 0.1}
    cells = [("alpha", 0), ("alpha", 1), ("beta", 0), ("beta", 1)]
    made = [record(method, split, values, **common) for method, split in cells]
    made += [record(m, s, values, problem="other", **common) for m, s in cells]
    return [
        *made,
        record("gamma", 0, values, status="unreliable", reason="R-hat"),
        failed("delta"),
        failed("delta", 1, "no", status="timeout", environment=facts),
    ]


def places(value: Any, so_far: tuple = ()) -> Iterator[tuple]:
    """Every place of a document."""
    inner = value.items() if isinstance(value, dict) else ()
    for name, each in enumerate(value) if isinstance(value, list) else inner:
        yield (*so_far, name)
        yield from places(each, (*so_far, name))


def at(document: Any, place: tuple) -> Any:
    """What stands at a place."""
    for name in place:
        document = document[name]
    return document


def replaced(document: Any, place: tuple, value: Any) -> Any:
    """A copy with another value at a place, or without it."""
    document = copy.deepcopy(document)
    *outside, name = place
    if value is GONE:
        del at(document, tuple(outside))[name]
    else:
        at(document, tuple(outside))[name] = copy.deepcopy(value)
    return document


def mutations(seed: int, number: int) -> Iterator[dict[str, Any]]:
    """Records with one to three places changed: into anything, or into what may pass."""
    rng = random.Random(seed)
    known = whole()
    for _ in range(number):
        made = rng.choice(known)
        for _ in range(rng.choice((1, 1, 1, 3))):
            place = rng.choice(list(places(made)))
            old = at(made, place)
            values: tuple = HOSTILE
            if rng.random() < 0.5 and type(old) in (int, float):
                values = LEGAL_NUMBERS
            elif rng.random() < 0.5 and isinstance(old, str):
                values = LEGAL_TEXTS
            made = replaced(made, place, rng.choice(values))
            if not made:
                break
        yield made


def as_file(content: Any) -> bytes:
    """A document as a file, with infinities and halves of characters where it has them."""
    return json.dumps(content).encode("utf-8", "surrogatepass")
