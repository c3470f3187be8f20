"""The cache and the records: whole or absent, and never trusted when damaged."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from handmade import record

from dncbench.storage.cache import Cache
from dncbench.storage.files import canonical, digest, write_atomically
from dncbench.storage.identity import identity_of
from dncbench.storage.records import Records, read_record

KEY = {"problem": "tiny@1", "split": 0, "sampler": {"draws": 10, "share": 0.5}}


def _arrays():
    generator = np.random.default_rng(1)
    return {
        "values": generator.normal(size=(3, 10, 2)),
        "log_density": generator.normal(size=(3, 10)).astype(np.float32),
        "counts": np.arange(4),
    }


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def _stored(cache):
    cache.put("draws", KEY, _arrays(), {"rounds": 2, "names": ["a", "ü"]})
    return cache.path("draws", KEY)


# ---------------------------------------------------------------- keys


def test_equal_content_has_one_digest_in_any_order():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert canonical({"b": 1, "a": True}) == '{"a":true,"b":1}'


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_no_key_info_or_record_may_be_nan(cache, tmp_path, bad):
    with pytest.raises(ValueError, match="JSON compliant"):
        cache.path("draws", {"a": bad})
    with pytest.raises(ValueError, match="JSON compliant"):
        cache.put("draws", KEY, _arrays(), {"a": bad})
    with pytest.raises(ValueError, match="JSON compliant"):
        Records(tmp_path).put(record(values={"mah@1": bad}))
    with pytest.raises(ValueError, match="JSON compliant"):
        Records(tmp_path).put(record(info={"ess": bad}))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ---------------------------------------------------------------- cache


def test_cache_gives_back_what_was_put(cache):
    _stored(cache)
    arrays, info = cache.get("draws", KEY)
    assert info == {"rounds": 2, "names": ["a", "ü"]}
    assert arrays.keys() == _arrays().keys()
    for name, array in _arrays().items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_cache_has_nothing_under_another_key_or_kind(cache):
    _stored(cache)
    assert cache.get("draws", KEY | {"split": 1}) is None
    assert cache.get("merged", KEY) is None


def test_put_again_replaces(cache):
    _stored(cache)
    cache.put("draws", KEY, {"values": np.zeros(2)}, {})
    arrays, info = cache.get("draws", KEY)
    assert info == {}
    np.testing.assert_array_equal(arrays["values"], np.zeros(2))
    assert list(arrays) == ["values"]


def _flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [_flip, lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c + b"\0"],
    ids=["bit flip", "last byte gone", "half gone", "empty", "byte too many"],
)
def test_damaged_file_is_set_aside_and_reported(cache, capsys, damage):
    path = _stored(cache)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert cache.get("draws", KEY) is None
    assert not path.exists()
    assert path.with_suffix(".damaged").read_bytes() == damaged
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "set aside" in line
    assert cache.get("draws", KEY) is None
    _stored(cache)
    np.testing.assert_array_equal(cache.get("draws", KEY)[0]["values"], _arrays()["values"])


def test_objects_are_never_pickled(cache):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        cache.put("draws", KEY, {"values": np.array([{}, None])}, {})
    assert cache.get("draws", KEY) is None


def test_environment_moves_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DNCBENCH_CACHE", str(tmp_path / "elsewhere"))
    assert Cache().root == tmp_path / "elsewhere"
    assert Cache(tmp_path / "given").root == tmp_path / "given"


# ---------------------------------------------------------------- atomic writes


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["full", "^C"])
def test_write_that_raises_leaves_the_old_file_and_no_part(tmp_path, monkeypatch, step, error):
    path = tmp_path / "folder" / "file.json"
    write_atomically(path, b"old")

    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["file.json"]


def test_file_appears_whole_and_under_its_name_only(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append((path.exists(), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(path, b"content")
    assert seen == [(False, b"content")]
    assert os.listdir(tmp_path) == ["file.json"]
    assert path.stat().st_mode & 0o777 == 0o644


# ---------------------------------------------------------------- records


def test_record_reads_back_as_it_was_written(tmp_path):
    records, made = Records(tmp_path), record("alpha", 3, {"mah@1": 0.1 + 0.2})
    path = records.put(made)
    sealed = made | {"seal": digest(made)}
    assert records.get(identity_of(made)) == sealed
    assert list(records) == [sealed]
    assert path.parent == tmp_path / "records" / "made" / "alpha"
    assert path.name == f"random-3-0-{digest(made['identity'])[:12]}.json"


def test_record_has_sorted_keys_and_ends_with_a_newline(tmp_path):
    text = Records(tmp_path).put(record()).read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"


def test_every_part_of_the_identity_tells_cells_apart(tmp_path):
    records = Records(tmp_path)
    cells = [
        record(),
        record("beta"),
        record(split=1),
        record(seed=1),
        record(scheme="dirichlet:0.3"),
        record(budget="quick"),
        record(problem="other"),
        record(method_version=2),
        record(label="alpha[x=1]"),
    ]
    assert len({records.put(cell) for cell in cells}) == len(cells)
    assert {identity_of(each) for each in records} == set(map(identity_of, cells))


def test_put_replaces_the_record_of_the_same_cell(tmp_path):
    records = Records(tmp_path)
    records.put(record(values={"mah@1": 1.0}))
    records.put(record(values={"mah@1": 2.0}))
    assert [each["metrics"]["mah@1"]["value"] for each in records] == [2.0]


def test_a_record_under_another_cells_name_is_none_of_that_cell(tmp_path, capsys):
    records = Records(tmp_path)
    wanted = records.path(identity_of(record("alpha", 1)))
    records.put(record("alpha", 0)).rename(wanted)
    assert records.get(identity_of(record("alpha", 1))) is None
    assert "it is of another cell: made, budget smoke, alpha, split 0" in capsys.readouterr().err


def test_no_record_is_none_and_no_folder_is_empty(tmp_path):
    assert Records(tmp_path / "none").get(identity_of(record())) is None
    assert list(Records(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema": 99, "identity": {}}', "it has schema 99, this version reads 2"),
        ('{"schema": 1, "identity": {}}', "it has schema 1, this version reads 2"),
        ('{"name": "package"}', "it is not a record"),
        ('{"schema": 2}', "it lacks 'identity'"),
        ("[1, 2]", "it is not a record"),
        ("null", "it is not a record"),
        ('"schema"', "it is not a record"),
        ("", "it is not a record"),
        ('{"schema": 2, "identity": {"pro', "it is not a record"),
        ('{"schema": 2, "identity": {}, "metrics": {"mah@1": NaN}}', "it is not a record: NaN"),
    ],
)
def test_what_is_no_record_of_this_schema_is_left_out_with_a_line(tmp_path, capsys, text, reason):
    records, good = Records(tmp_path), record()
    path = records.put(good).parent / "foreign.json"
    path.write_text(text)
    assert list(map(identity_of, records)) == [identity_of(good)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dncbench: {path} is left out: {reason}")


def test_binary_file_is_left_out_with_a_line(tmp_path, capsys):
    path = tmp_path / "binary.json"
    path.write_bytes(bytes(range(256)))
    assert read_record(path) is None
    assert "is not a record" in capsys.readouterr().err


def test_environment_moves_the_records(tmp_path, monkeypatch):
    monkeypatch.setenv("DNCBENCH_RESULTS", str(tmp_path / "elsewhere"))
    assert Records().root == tmp_path / "elsewhere"
    assert Records(tmp_path / "given").root == tmp_path / "given"
