"""What a record may hold (``docs/record.md`` explains it).

``docs/record.schema.json`` is :func:`schema` written down. Whatever passes, no reader can trip
over: figures are finite and so far from the ends of floating point that their squares and ratios
are finite too, names and labels are of one line, and nothing is nested deeply.
"""

from typing import Any

from dncbench.storage.identity import BUDGET, ID, LABEL, METHOD_ID, SCHEME, SPACE
from dncbench.storage.shape import (
    LARGEST,
    PRINTABLE,
    Misfit,
    anything,
    document,
    fields,
    listed,
    mapped,
    nullable,
    number,
    one_of,
    repeated,
    shown,
    text,
    whole,
)

RECORD_SCHEMA = 2

RULES = 3
"""By which errors are told; ``docs/record.md`` lists them. A record that says none has the first.

Raised where standard errors, noise floors, statuses or warnings come to mean something else, and
figures do not.
"""

SCORED = ("ok", "unreliable")
"""Statuses of records with figures; "unreliable": the merge's own sampling did not converge."""

WITHOUT_FIGURES = ("failed", "not applicable", "timeout")
"""Statuses of records that give a reason instead."""

_WHOLE = 2**63
_GREAT, _SMALL = 1e100, 1e-100
"""Between these, squares and ratios of figures are numbers, and so are sums of those."""

_ANY = anything()
_PLAIN = text()
_LINE = text(rf"{PRINTABLE}*", "a text in one line", 1_000)
_FIGURE = number(-_GREAT, _GREAT)
_LEVEL = number(-_GREAT, _GREAT, _SMALL)  # of a metric that is a logarithm it may be below 0
_AMOUNT = number(0.0, _GREAT, _SMALL)
_COUNT = whole(0, _WHOLE - 1)
_ID = text(ID.pattern, "NAME@VERSION", 200)
_NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a name", 100)

_IDENTITY = fields(
    {
        "problem": fields({"id": _ID, "label": text(LABEL, "NAME[SETTING=VALUE,...]", 500)}),
        "method": fields(
            {
                "id": text(METHOD_ID, "NAME@VERSION, or several with ' + ' between them", 400),
                "label": text(rf"{LABEL}( \+ {LABEL})*", "NAME[SETTING=VALUE,...]", 1_000),
            }
        ),
        "split": fields({"scheme": text(SCHEME.pattern, "a split scheme", 100), "index": _COUNT}),
        "seed": whole(-_WHOLE, _WHOLE - 1),
        "space": text(SPACE, "the name of a space", 100),
        "budget": text(BUDGET, "the name of a budget", 500),
    }
)
NOISE_FLOOR = fields(
    {"mean": _LEVEL, "sd": _AMOUNT, "max": _LEVEL},
    {"standard_error": _AMOUNT},  # of the mean
)
"""What a metric reads on perfect draws."""

METRIC = fields({"value": _FIGURE, "standard_error": _AMOUNT, "noise_floor": NOISE_FLOOR})
"""What a metric reads on merged draws."""

_PHASES = ("sampling", "sampling_compile", "compile", "fit_slowest_shard", "fit_total", "merge")
_ROUND = fields(
    {
        "fit_by_shard": listed(_AMOUNT),
        "fit_total": _AMOUNT,
        "merge": _AMOUNT,
        "bytes_up": _COUNT,
        "bytes_down": _COUNT,
        "metrics": mapped(_ID, _FIGURE),
    }
)
_STEP = fields({"share": number(0.0, 1.0), "tv": _AMOUNT})
_ENVIRONMENT = fields(
    {},
    {
        "commit": nullable(_LINE),
        "cpu": nullable(_LINE),
        "cores": nullable(_COUNT),
        "platform": nullable(_LINE),
        "python": nullable(_LINE),
        "packages": repeated(mapped(_LINE, nullable(_LINE))),
        "peak_memory_mib": nullable(_COUNT),
    },
    _ANY,
)
_INFO = fields(
    {"ess": _AMOUNT},
    {"max_rhat": _AMOUNT, "learning_curve": listed(number(-LARGEST, LARGEST))},
    _ANY,
)
_ALWAYS = {
    "schema": one_of(RECORD_SCHEMA),
    "identity": _IDENTITY,
    "settings": repeated(fields({"problem": mapped(_LINE, _ANY), "method": mapped(_LINE, _ANY)})),
    "budget": repeated(fields({"name": text(BUDGET, "the name of a budget", 500)}, None, _ANY)),
    "headline": listed(_NAME, fewest=1),
    "track": text(rf"{PRINTABLE}+", "the name of a track", 200),
    "created": text(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00", "a time in UTC", 30
    ),
    "reference": fields({"grade": one_of("A", "B", "C", "given"), "failures": listed(_PLAIN)}),
    "environment": _ENVIRONMENT,
    "status": one_of(*SCORED, *WITHOUT_FIGURES),
    "metrics": mapped(_ID, METRIC),
}
_WITH_FIGURES = {
    "metrics_not_applicable": listed(_ID),
    "seconds": fields(dict.fromkeys(_PHASES, _AMOUNT)),
    "bytes_communicated": _COUNT,
    "other_load_cores": nullable(_AMOUNT),
    "num_draws": whole(1, _WHOLE - 1),
    "info": _INFO,
    "importance": nullable(
        fields({}, {"k_hat": nullable(_FIGURE), "rank_correlation": nullable(_FIGURE)}, _ANY)
    ),
    "shards": repeated(mapped(_LINE, _ANY)),
    "warnings": listed(_PLAIN),
}
_MAYBE = {
    "reason": _PLAIN,
    "rules": whole(1, _WHOLE - 1),
    "metrics_failed": mapped(_ID, _PLAIN),
    "rounds": listed(_ROUND),
    "training": listed(_STEP),
    "memory_bytes": fields({"fit": _COUNT, "merge": _COUNT}),
    "merged_draws": text(r"[0-9a-f]{64}", "a SHA-256", 64),
    "client_laws": text(r"[0-9a-f]{64}", "a SHA-256", 64),
    "seal": text(r"[0-9a-f]{64}", "a SHA-256", 64),
}
_RECORD = fields(_ALWAYS, _WITH_FIGURES | _MAYBE)


def check(record: Any) -> None:
    """Hold a record, as JSON has it, to all that readers rely on, but for its seal.

    Raises:
        ValueError: what is wrong with it, and where.
    """
    if not isinstance(record, dict) or "schema" not in record:
        raise Misfit("it is not a record")
    if record["schema"] != RECORD_SCHEMA:
        found = shown(record["schema"])
        raise Misfit(f"it has schema {found}, this version reads {RECORD_SCHEMA}")
    _RECORD.check(record)
    scored = record["status"] in SCORED
    needed = [*_WITH_FIGURES] * scored + ["reason"] * (record["status"] != "ok")
    for name in needed:
        if name not in record:
            raise Misfit(f"it lacks {name!r}")
    if not scored and record["metrics"]:
        raise Misfit(f"it is {record['status']}, and has figures")


def schema() -> dict[str, Any]:
    """The JSON Schema of a record; a label that is of another id it cannot tell."""
    with_figures = {"properties": {"status": {"enum": list(SCORED)}}}
    ok = {"properties": {"status": {"const": "ok"}}}
    title = f"A record of dncbench, schema {RECORD_SCHEMA}"
    return document(_RECORD, title) | {
        "allOf": [
            {
                "if": with_figures,
                "then": {"required": sorted(_WITH_FIGURES)},
                "else": {"properties": {"metrics": {"maxProperties": 0}}},
            },
            {"if": ok, "else": {"required": ["reason"]}},
        ]
    }
