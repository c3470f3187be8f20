"""What docs/record.md and the schema promise is what readers hold records to."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from handmade import REPOSITORY, failed, record
from hostile import mutations, whole

from dncbench.storage import contents, shape

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((DOCS / "record.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    spelled = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole)
    spelled = spelled.redefine("number", lambda _, value: _is_float(value) or _is_whole(_, value))
    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=spelled)
    return kind(schema)


# How a number is spelled, which readers see, JSON Schema does not tell.


def _is_whole(_: object, value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_float(value: object) -> bool:
    return type(value) is float and value == value  # NaN is nothing that JSON has


def published() -> list[Path]:
    return sorted((REPOSITORY / "results").rglob("records/**/*.json"))


def test_the_schema_is_the_shape_that_readers_use(validator) -> None:
    assert validator.schema == contents.schema(), (
        "write it anew: python -c 'import json; from dncbench.storage.contents import schema; "
        "print(json.dumps(schema(), indent=1, sort_keys=True))' > docs/record.schema.json"
    )


def test_every_published_record_is_whole_and_sealed() -> None:
    files = published()
    assert len(files) > 2000
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        contents.check(found)
        assert "seal" in found, file.name


def test_some_published_records_keep_to_the_schema(validator) -> None:
    for file in published()[::100]:  # 10 ms each; all are held to the same shape above
        broken = next(validator.iter_errors(json.loads(file.read_text(encoding="utf-8"))), None)
        assert broken is None, f"{file.name}: {broken.message}"


def test_schema_and_readers_agree_on_mutated_records(validator) -> None:
    verdicts = []
    for made in [*whole(), *mutations(14, 400)]:
        verdicts.append(kept := passes(made))
        broken = [error.message for error in validator.iter_errors(made)]
        assert kept == (not broken), (broken, made)
    assert 50 < sum(verdicts) < len(verdicts) - 50


def passes(made: Any) -> bool:
    try:
        contents.check(made)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "fine"),
        ("headline", []),
        ("seconds", {"merge": 1.0}),
        ("metrics", {"mah": {}}),
        ("identity", {}),
        ("budget", {}),
        ("surprise", 1),
    ],
)
def test_other_records_do_not(validator, field: str, value: object) -> None:
    assert list(validator.iter_errors(record() | {field: value}))


def test_a_reason_is_given_for_everything_but_success(validator) -> None:
    without = {key: value for key, value in failed("alpha").items() if key != "reason"}
    assert list(validator.iter_errors(without))


def test_every_field_is_explained(validator) -> None:
    page = (DOCS / "record.md").read_text(encoding="utf-8")
    for field in validator.schema["properties"]:
        assert f"`{field}" in page, field


def test_what_is_held_to_its_shape_once_is_told_from_what_only_equals_it() -> None:
    numbers = shape.repeated(shape.mapped(shape.text(), shape.whole(0, 5)))
    for _ in range(2):  # remembered the second time
        numbers.check({"a": 1})
        for other in ({"a": True}, {"a": 1.0}, {"a": 6}, {"a": "1"}, {"a": None}, [1]):
            with pytest.raises(shape.Misfit):
                numbers.check(other)
