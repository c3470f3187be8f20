"""What docs/record.md promises, held against every record that is published."""

import json
from pathlib import Path

import jsonschema
import pytest
from handmade import REPOSITORY, failed, record

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((DOCS / "record.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def published() -> list[Path]:
    return sorted((REPOSITORY / "results").rglob("records/**/*.json"))


def test_every_published_record_keeps_to_the_schema(validator) -> None:
    files = published()
    assert len(files) > 2000
    for file in files:
        broken = next(validator.iter_errors(json.loads(file.read_text(encoding="utf-8"))), None)
        assert broken is None, f"{file.name}: {broken.message}"


def test_handmade_records_keep_to_the_schema(validator) -> None:
    for made in (record(), failed("alpha"), record(status="unreliable", reason="R-hat 1.4")):
        validator.validate(made)


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
