"""One file out of a zip archive on the web, within limits of time and size, or an error.

Nothing touches the disk here: what is refused leaves nothing behind that a later try would
take for the file.
"""

import hashlib
import io
import queue
import threading
import urllib.error
import urllib.request
import zipfile

SECONDS = 300.0
"""A download may take, however steadily it trickles."""

MOST_BYTES = 64 * 2**20
"""An archive may have."""

MOST_UNPACKED = 256 * 2**20
"""The file may have once it is unpacked."""

_SILENCE = 30.0  # seconds without a byte
_CHUNK = 2**16


def file_in_archive(url: str, member: str, sha256: str) -> bytes:
    """The content of one file of an archive.

    Args:
        url: of the zip archive.
        member: path of the file in it.
        sha256: of the file's content.

    Raises:
        OSError: it cannot be had within the limits, or its content is another.
        Exception: whatever a broken archive makes zipfile raise.
    """
    archive = fetch(url)
    if not zipfile.is_zipfile(io.BytesIO(archive)):
        what = "a web page" if archive.lstrip()[:1] == b"<" else "something"
        raise OSError(f"{what} of {len(archive)} bytes came, which is no zip archive")
    content = _unpacked(archive, member)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise OSError(f"{member} in it has sha256 {found[:12]}..., expected {sha256[:12]}...")
    return content


def fetch(url: str) -> bytes:
    """What is at an address.

    Raises:
        OSError: it cannot be had, takes longer than ``SECONDS`` or is larger than ``MOST_BYTES``.
    """
    stopped = threading.Event()
    answer: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put(_read(url, stopped))
        except Exception as error:
            answer.put(error)

    # In a thread, because a server that sends a byte now and then is never silent for long.
    threading.Thread(target=work, daemon=True).start()
    try:
        found = answer.get(timeout=SECONDS)
    except queue.Empty:
        raise TimeoutError(f"it took longer than {SECONDS:g} s") from None
    finally:
        stopped.set()
    if isinstance(found, OSError):
        raise found
    if isinstance(found, Exception):
        raise OSError(f"{type(found).__name__}: {found}") from found
    return found


def _read(url: str, stopped: threading.Event) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "dncbench"})
    try:
        opened = urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise OSError(f"HTTP Error {error.code}: {error.reason}") from None
    with opened as response:
        announced = int(response.headers.get("Content-Length", -1))
        if announced > MOST_BYTES:
            raise OSError(f"it has {announced} bytes, of at most {MOST_BYTES}")
        content = bytearray()
        while not stopped.is_set() and (part := response.read1(_CHUNK)):
            content += part
            if len(content) > MOST_BYTES:
                raise OSError(f"it has more than {MOST_BYTES} bytes")
    if announced >= 0 and len(content) != announced:
        raise OSError(f"it ended after {len(content)} of {announced} bytes")
    return bytes(content)


def _unpacked(archive: bytes, member: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        if opened.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise OSError(f"{member} in it is compressed in a way that cannot be unpacked in parts")
        with opened.open(member) as file:
            content = file.read(MOST_UNPACKED + 1)
    if len(content) > MOST_UNPACKED:
        raise OSError(f"{member} in it has more than {MOST_UNPACKED} bytes")
    return content
