"""Real data sets: where they are looked for, and what is refused."""

import dataclasses
import hashlib
import zipfile

import jax
import numpy as np
import pooch
import pytest

from dncbench.configure import configure
from dncbench.errors import DataError
from dncbench.problems import spambase
from dncbench.problems._datasets import Dataset, data_cache

TABLE = np.array([[1.0, 2.5, 0.0], [3.0, 4.0, 1.0], [5.0, 6.25, 1.0], [7.0, 8.0, 0.0]])
DATASET = Dataset(
    name="small",
    file="small.data",
    url="https://example.org/small.zip",
    archive_sha256="0" * 64,
    shape=(4, 3),
    array_sha256=hashlib.sha256(TABLE.astype("<f8").tobytes()).hexdigest(),
    parse=lambda path: np.loadtxt(path, delimiter=","),
    stand_in="small-twin",
)


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, an empty cache, and no DNCBENCH_DATA."""
    attempts = []

    def refuse(url, **options):
        attempts.append(url)
        raise OSError("Network is unreachable\nand a second line")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.setenv("DNCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DNCBENCH_DATA", raising=False)
    return attempts


def _text(table):
    return "\n".join(",".join(map(repr, row)) for row in table.tolist()) + "\n"


def _write(folder, text=None):
    (folder / "small").mkdir(parents=True, exist_ok=True)
    path = folder / "small" / "small.data"
    path.write_text(_text(TABLE) if text is None else text)
    return path


# ---------------------------------------------------------------- absent


def test_absent_and_offline_is_one_error_with_the_remedy(tmp_path, offline):
    with pytest.raises(DataError) as caught:
        DATASET.load()
    message = str(caught.value)
    assert "the small data set is not here and could not be downloaded" in message
    assert "DNCBENCH_DATA (not set)" in message
    assert str(tmp_path / "cache" / "data" / "small") in message
    assert DATASET.url in message
    assert "OSError: Network is unreachable" in message
    assert "second line" not in message
    assert "put small.data from" in message
    assert "into a folder small/ and set DNCBENCH_DATA to that folder's parent" in message
    assert "--problem small-twin" in message
    assert offline == [DATASET.url]


def test_folder_without_the_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError) as caught:
        DATASET.load()
    assert str(tmp_path / "mine" / "small") in str(caught.value)


def test_spambase_that_cannot_be_had_names_its_twin():
    _, problem = configure("problem", "spambase")
    with pytest.raises(DataError) as caught:
        problem.data(jax.random.key(0))
    message = str(caught.value)
    assert "put spambase.data from https://archive.ics.uci.edu/" in message
    assert "DNCBENCH_DATA" in message
    assert "--problem spambase-twin" in message
    assert configure("problem", "spambase-twin")[1].dim == problem.dim == 58


# ---------------------------------------------------------------- order


def test_folder_comes_before_the_cache_before_a_download(tmp_path, monkeypatch, offline):
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path / "mine"))
    _write(data_cache())
    np.testing.assert_array_equal(DATASET.load(), TABLE)
    mine = _write(tmp_path / "mine", _text(TABLE[::-1]))
    with pytest.raises(DataError) as caught:
        DATASET.load()
    assert str(mine) in str(caught.value)
    monkeypatch.delenv("DNCBENCH_DATA")
    np.testing.assert_array_equal(DATASET.load(), TABLE)
    assert offline == []


def test_loaded_array_is_float64(tmp_path, monkeypatch):
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path))
    _write(tmp_path)
    array = DATASET.load()
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, TABLE)


# ---------------------------------------------------------------- download


def _serve(monkeypatch, tmp_path, name="small.data", text=None):
    """A download that succeeds: an archive with one file; returns what was asked for."""
    asked = []

    def retrieve(url, known_hash, path, fname, **options):
        asked.append((url, known_hash))
        path.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path / fname, "w") as archive:
            archive.writestr(name, _text(TABLE) if text is None else text)
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return asked


def test_download_asks_for_the_checksum_and_is_kept(tmp_path, monkeypatch):
    asked = _serve(monkeypatch, tmp_path)
    np.testing.assert_array_equal(DATASET.load(), TABLE)
    np.testing.assert_array_equal(DATASET.load(), TABLE)
    assert asked == [(DATASET.url, "sha256:" + "0" * 64)]
    kept = data_cache() / "small"
    assert (kept / "small.data").read_text() == _text(TABLE)
    assert not list(kept.glob("*.part"))


def test_archive_without_the_file_is_refused(tmp_path, monkeypatch):
    _serve(monkeypatch, tmp_path, name="other.data")
    with pytest.raises(DataError, match=r"(?s)small data set.*could not be downloaded.*KeyError"):
        DATASET.load()


def test_file_that_is_no_archive_is_refused(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    page.write_text("<html>moved</html>")
    monkeypatch.setattr(pooch, "retrieve", lambda url, **options: str(page))
    with pytest.raises(DataError, match="BadZipFile"):
        DATASET.load()


def test_wrong_checksum_of_a_download_is_refused(monkeypatch):
    def retrieve(url, **options):
        raise ValueError("SHA256 hash of downloaded file does not match the known hash")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match="does not match the known hash"):
        DATASET.load()


def test_downloaded_content_is_checked_too(tmp_path, monkeypatch):
    _serve(monkeypatch, tmp_path, text=_text(TABLE[::-1]))
    with pytest.raises(DataError, match="differ from the published ones"):
        DATASET.load()


# ---------------------------------------------------------------- content


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (_text(TABLE[[1, 0, 2, 3]]), "the parsed values differ from the published ones"),
        (_text(TABLE).replace("6.25", "6.26"), "the parsed values differ"),
        (_text(TABLE).replace("6.25", "nan"), "the parsed values differ"),
        (_text(TABLE[:-1]), "has 3 x 3 values, not 4 x 3"),
        (_text(TABLE[:, :-1]), "has 4 x 2 values, not 4 x 3"),
        (_text(TABLE[:1]), "has 3 values, not 4 x 3"),
        (_text(TABLE).replace("6.25", "much"), "cannot be parsed: "),
        (_text(TABLE)[:-9], "cannot be parsed: "),
        ("a,b,c\n" + _text(TABLE), "cannot be parsed: "),
    ],
    ids=[
        "shuffled",
        "edited",
        "nan",
        "row gone",
        "column gone",
        "one row",
        "word",
        "cut",
        "header",
    ],
)
def test_other_content_is_refused_naming_file_and_remedy(tmp_path, monkeypatch, text, complaint):
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path))
    path = _write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        DATASET.load()
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)
    assert "put small.data from https://example.org/small.zip" in str(caught.value)


def test_same_values_written_otherwise_are_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path))
    _write(tmp_path, _text(TABLE).replace("1.0,2.5", "1,  2.50").replace("\n", "\r\n"))
    np.testing.assert_array_equal(DATASET.load(), TABLE)


# ---------------------------------------------------------------- the real thing


def test_spambase_is_the_published_data_set(spambase_data, monkeypatch):
    monkeypatch.setenv("DNCBENCH_DATA", str(spambase_data))
    data = configure("problem", "spambase")[1].data(jax.random.key(0))
    x, y = np.asarray(data["x"]), np.asarray(data["y"])
    assert x.shape == (4601, 58)
    assert y.shape == (4601,)
    assert y.sum() == 1813
    assert set(np.unique(y)) == {0.0, 1.0}
    np.testing.assert_array_equal(x[:, 0], 1.0)
    assert x[:, 1:].min() == 0.0


def test_edited_spambase_is_refused(spambase_data, tmp_path, monkeypatch):
    lines = (spambase_data / "spambase" / "spambase.data").read_text().splitlines()
    (tmp_path / "spambase").mkdir()
    copy = tmp_path / "spambase" / "spambase.data"
    copy.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match="the parsed values differ from the published ones"):
        configure("problem", "spambase")[1].data(jax.random.key(0))


def test_wrong_count_of_spam_is_refused(monkeypatch):
    table = np.zeros((4601, 58))
    table[:1812, -1] = 1.0
    changed = dataclasses.replace(
        spambase._SPAMBASE,
        parse=lambda path: table,
        array_sha256=hashlib.sha256(table.tobytes()).hexdigest(),
    )
    monkeypatch.setattr(spambase, "_SPAMBASE", changed)
    monkeypatch.setattr(Dataset, "_find", lambda self: data_cache())
    with pytest.raises(DataError, match="1812 e-mails labelled spam, expected 1813"):
        configure("problem", "spambase")[1].data(jax.random.key(0))
