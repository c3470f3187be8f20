"""Cache files that are wrong in themselves, though their checksum is right: set aside."""

import io
import json
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from dncbench.storage import cache as module
from dncbench.storage.cache import Cache

KEY = {"a": 1}
INFO = np.frombuffer(b"{}", np.uint8)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    """An array of three numbers whose header claims something else."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    return start + text.encode() + np.arange(3.0).tobytes()


def archive(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as packed:
        for name, content in ({"info": npy(INFO)} | members).items():
            packed.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(archive(values=npy(np.arange(3.0))))
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        flags = {b"PK\x03\x04": 6, b"PK\x01\x02": 8}[start]
        place = content.find(start)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(start, place + 1)
    return bytes(content)


def oversized() -> bytes:
    """The directory says that a member is of four gigabytes."""
    content = bytearray(archive(values=npy(np.arange(3.0))))
    place = content.find(b"PK\x01\x02")
    content[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")
    return bytes(content)


FILES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"<html>not found</html>",
    "empty archive": lambda: archive()[:0] + b"PK\x05\x06" + bytes(18),
    "compressed": lambda: archive(zipfile.ZIP_DEFLATED, values=npy(np.zeros(9))),
    "bzip2": lambda: archive(zipfile.ZIP_BZIP2, values=npy(np.zeros(9))),
    "lzma": lambda: archive(zipfile.ZIP_LZMA, values=npy(np.zeros(9))),
    "encrypted": encrypted,
    "oversized": oversized,
    "petabytes": lambda: archive(values=header("(1000000000000000,)")),
    "overflow": lambda: archive(values=header("(4294967296, 4294967296, 16)")),
    "negative": lambda: archive(values=header("(-3, -1)")),
    "too few": lambda: archive(values=header("(4,)")),
    "too many": lambda: archive(values=header("(2,)")),
    "objects": lambda: archive(values=header("(3,)", "'|O'")),
    "no type": lambda: archive(values=header("(3,)", "'nothing'")),
    "no array": lambda: archive(values=b"three numbers"),
    "other version": lambda: archive(values=b"\x93NUMPY\x09\x00" + header("(3,)")[8:]),
    "no info": lambda: archive(info=b""),
    "info that is no JSON": lambda: archive(info=npy(np.frombuffer(b"{", np.uint8))),
    "info nested deeply": lambda: archive(info=npy(np.frombuffer(b"[" * 100_000, np.uint8))),
}


def sealed(content: bytes) -> bytes:
    """With a checksum that matches, as one who knows the format would write it."""
    content = content[:-2] + (64).to_bytes(2, "little")
    return content + module._checksum(content)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("checksum", [True, False])
def test_a_wrong_file_is_set_aside_with_one_line(tmp_path, capsys, kind, checksum) -> None:
    cache = Cache(tmp_path)
    path = cache.path("draws", KEY)
    path.parent.mkdir()
    content = sealed(FILES[kind]()) if checksum else FILES[kind]()
    path.write_bytes(content)
    assert cache.get("draws", KEY) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dncbench: {path} is damaged (")
    assert path.with_suffix(".damaged").read_bytes() == content
    cache.put("draws", KEY, {"values": np.arange(3.0)}, {})
    np.testing.assert_array_equal(cache.get("draws", KEY)[0]["values"], np.arange(3.0))


def test_the_same_file_without_a_fault_is_read(tmp_path) -> None:
    cache = Cache(tmp_path)
    path = cache.path("draws", KEY)
    path.parent.mkdir()
    path.write_bytes(sealed(archive(values=npy(np.arange(3.0)))))
    arrays, info = cache.get("draws", KEY)
    assert info == json.loads("{}")
    np.testing.assert_array_equal(arrays["values"], np.arange(3.0))


def test_what_the_reader_cannot_use_is_set_aside(tmp_path, capsys) -> None:
    cache = Cache(tmp_path)
    cache.put("draws", KEY, {"value": np.arange(3.0)}, {})
    assert cache.get("draws", KEY, lambda arrays, info: arrays["values"]) is None
    assert "is damaged (KeyError: 'values')" in capsys.readouterr().err
    assert cache.get("draws", KEY) is None


def test_numpy_opens_an_entry(tmp_path) -> None:
    cache = Cache(tmp_path)
    cache.put("draws", KEY, {"values": np.arange(6.0).reshape(2, 3).T}, {})
    with np.load(cache.path("draws", KEY)) as read:
        np.testing.assert_array_equal(read["values"], np.arange(6.0).reshape(2, 3).T)


def test_a_reader_beside_a_writer_sees_one_entry_or_the_other(tmp_path, capsys) -> None:
    """Each entry is one rename: whatever a reader opens is whole, and it needs no second file."""
    cache, seen = Cache(tmp_path), []
    write = module.write_atomically

    def watched(path, content):
        found = cache.get("draws", KEY)
        seen.append(None if found is None else found[0]["values"].tolist())
        write(path, content)
        seen.append(cache.get("draws", KEY)[0]["values"].tolist())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_atomically", watched)
        for number in (1.0, 2.0):
            cache.put("draws", KEY, {"values": np.array([number])}, {})
    assert seen == [None, [1.0], [1.0], [2.0]]
    assert capsys.readouterr().err == ""
    assert [path.name for path in tmp_path.rglob("*.*")] == [cache.path("draws", KEY).name]
