"""Real data sets: where they are looked for, and what is refused."""

import dataclasses
import hashlib
import importlib
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import numpy as np
import pytest

from dncbench.configure import configure
from dncbench.contracts.real_data import real_data_folder
from dncbench.errors import DataError
from dncbench.problems import _datasets, _download, spambase
from dncbench.problems._datasets import Dataset, data_cache


def _text(table):
    return "\n".join(",".join(map(repr, row)) for row in table.tolist()) + "\n"


TABLE = np.array([[1.0, 2.5, 0.0], [3.0, 4.0, 1.0], [5.0, 6.25, 1.0], [7.0, 8.0, 0.0]])
DATASET = Dataset(
    name="small",
    file="small.data",
    url="https://example.org/small.zip",
    file_sha256=hashlib.sha256(_text(TABLE).encode()).hexdigest(),
    shape=(4, 3),
    array_sha256=hashlib.sha256(TABLE.astype("<f8").tobytes()).hexdigest(),
    parse=lambda path: np.loadtxt(path, delimiter=","),
    stand_in="small-twin",
)


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, an empty cache, and no DNCBENCH_DATA."""
    attempts = []

    def refuse(url, member, sha256):
        attempts.append(url)
        raise OSError("Network is unreachable\nand a second line")

    monkeypatch.setattr(_datasets, "file_in_archive", refuse)
    monkeypatch.setenv("DNCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DNCBENCH_DATA", raising=False)
    return attempts


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


def _archive(text: str | None = None, name: str = "small.data", how: int = zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr(name, _text(TABLE) if text is None else text)
    return buffer.getvalue()


GOOD = _archive()


class _Server(ThreadingHTTPServer):
    """A server on this machine; ``answer`` writes what it answers with."""

    daemon_threads = True
    answer: Callable[[BaseHTTPRequestHandler], None]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.answer(self)  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None:
        pass


def _with(body: bytes, length: int | None = None, status: int = 200):
    """An answer with this body, of which so many bytes are announced."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def _without_end(handler: BaseHTTPRequestHandler) -> None:
    """Bytes without a length, until nobody listens any more."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(2**16))
    except OSError:
        pass


def _trickling(handler: BaseHTTPRequestHandler) -> None:
    """One byte after another, never silent for long."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(600):
            handler.wfile.write(b"P")
            time.sleep(0.05)
    except OSError:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    served = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def served(server, monkeypatch) -> Dataset:
    """The data set, to be had from the server."""
    monkeypatch.setattr(_datasets, "file_in_archive", _download.file_in_archive)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answer = _with(GOOD)
    return dataclasses.replace(DATASET, url=f"http://127.0.0.1:{server.server_port}/small.zip")


def kept() -> list[Path]:
    """What is in the cache."""
    return [path for path in data_cache().rglob("*") if path.is_file()]


def test_a_download_is_kept(server, served):
    np.testing.assert_array_equal(served.load(), TABLE)
    server.answer = _with(b"", status=500)
    np.testing.assert_array_equal(served.load(), TABLE)
    (file,) = kept()
    assert file == data_cache() / "small" / "small.data"
    assert file.read_text() == _text(TABLE)


MARK = b"<!DOCTYPE html><html><body>This data set has moved.</body></html>"
BOMB = _archive(" " * 3_000_000, how=zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_with(MARK), "a web page of 65 bytes came, which is no zip archive"),
        (_with(b""), "something of 0 bytes came, which is no zip archive"),
        (_with(GOOD[:-30]), "something of .* bytes came, which is no zip archive"),
        (_with(GOOD[:-30], len(GOOD)), rf"it ended after {len(GOOD) - 30} of {len(GOOD)} bytes"),
        (_with(_archive(_text(TABLE[::-1]))), "small.data in it has sha256 .*, expected "),
        (_with(_archive(name="other.data")), "There is no item named 'small.data'"),
        (_with(GOOD.replace(b"2.5", b"2.6")), "Bad CRC-32"),
        (_with(_archive(how=zipfile.ZIP_LZMA)), "compressed in a way that cannot be unpacked"),
        (_with(BOMB), "small.data in it has more than 1000000 bytes"),
        (_with(b"", 10**12), "it has 1000000000000 bytes, of at most 100000"),
        (_without_end, "it has more than 100000 bytes"),
        (_trickling, "TimeoutError: it took longer than 1 s"),
        (_with(b"no such page", status=404), "HTTP Error 404"),
        (_with(b"", status=500), "HTTP Error 500"),
    ],
    ids=[
        "a page",
        "nothing",
        "cut",
        "cut short of its length",
        "another file",
        "no such file",
        "a flipped bit",
        "lzma",
        "a bomb",
        "a great length",
        "without end",
        "a trickle",
        "404",
        "500",
    ],
)
def test_a_download_that_is_refused_leaves_nothing_and_is_tried_again(
    server, served, monkeypatch, answer, said
):
    monkeypatch.setattr(_download, "SECONDS", 1.0 if answer is _trickling else 60.0)
    monkeypatch.setattr(_download, "MOST_BYTES", 100_000)
    monkeypatch.setattr(_download, "MOST_UNPACKED", 1_000_000)
    server.answer = answer
    with pytest.raises(DataError, match=rf"(?s)small data set is not here.*{said}.*nothing of it"):
        served.load()
    assert kept() == []
    server.answer = _with(GOOD)
    monkeypatch.setattr(_download, "SECONDS", 60.0)
    np.testing.assert_array_equal(served.load(), TABLE)


def test_nobody_there_is_an_error(served):
    nowhere = dataclasses.replace(served, url="http://127.0.0.1:9/small.zip")
    with pytest.raises(DataError, match=r"(?s)small data set is not here.*refused"):
        nowhere.load()


@pytest.mark.parametrize("text", [_text(TABLE[::-1]), "<html>moved</html>", ""])
def test_a_file_in_the_cache_that_is_refused_is_deleted(served, text: str) -> None:
    path = _write(data_cache(), text)
    with pytest.raises(DataError, match="it was deleted, the next try downloads it anew"):
        served.load()
    assert not path.exists()
    np.testing.assert_array_equal(served.load(), TABLE)


def test_somebodys_own_file_that_is_refused_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DNCBENCH_DATA", str(tmp_path / "mine"))
    path = _write(tmp_path / "mine", _text(TABLE[::-1]))
    with pytest.raises(DataError) as caught:
        DATASET.load()
    assert "deleted" not in str(caught.value)
    assert path.exists()


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


@pytest.fixture(scope="module", params=["spambase", "power_plant"])
def at_hand(request) -> tuple[Dataset, Path]:
    """A real data set and its file, found before a test hides the folder."""
    module = importlib.import_module(f"dncbench.problems.{request.param}")
    dataset = getattr(module, f"_{request.param.upper()}")
    return dataset, real_data_folder(dataset.name) / dataset.name / dataset.file


def test_a_download_must_bring_the_file_that_is_the_published_one(at_hand) -> None:
    dataset, path = at_hand
    assert hashlib.sha256(path.read_bytes()).hexdigest() == dataset.file_sha256


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
