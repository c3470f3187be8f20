"""The source that a plugin's figures come from, as a digest: part of its id.

What ships with dncbench says by its version that its figures mean something else. A plugin
is edited while it is tried, and nobody raises a version for that: its id holds a digest of the
file that it is in and of the files beside it that it imports, so that what an earlier text of it
made is never taken for what the present one would make. Data files that a plugin reads, and
libraries that it imports, are not in the digest.
"""

import ast
import hashlib
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LENGTH = 12
"""Hexadecimal digits of a digest in an id."""


def digest_of(target: Any) -> str:
    """Digest of the source of a plugin's class or function; "" for what ships with dncbench.

    Args:
        target: what is registered.

    Returns:
        Twelve hexadecimal digits. Of a class or function that is in no file, as in a notebook,
        they are those of its own text, or else of its compiled code.
    """
    if target.__module__.partition(".")[0] == "dncbench":
        return ""
    named = getattr(sys.modules.get(target.__module__), "__file__", None)
    file = Path(named).resolve() if named else None
    if file is not None and file.suffix == ".py" and file.is_file():
        # A module a.b.c is three names below the folder that its absolute imports start from.
        depth = target.__module__.count(".") + (file.stem == "__init__")
        return _of_files(file, file.parents[depth])
    return _short(_own_text(target).encode())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]


def _own_text(target: Any) -> str:
    try:
        return inspect.getsource(target)
    except (OSError, TypeError):
        return "\n".join(_compiled(target))


def _compiled(found: Any) -> Iterator[str]:
    """What a function or class without a text does, as far as it can be told."""
    if isinstance(found, type):
        for name, member in sorted(vars(found).items()):
            yield name
            yield from _compiled(member)
    elif isinstance(found, types.CodeType):
        yield f"{found.co_code.hex()} {found.co_names}"
        for constant in found.co_consts:
            yield from _compiled(constant)
    elif (code := getattr(found, "__code__", None)) is not None:
        yield from _compiled(code)
        yield from _compiled(found.__defaults__)
    elif isinstance(found, bool | int | float | complex | str | bytes | tuple | frozenset | None):
        yield repr(found)


def _of_files(file: Path, root: Path) -> str:
    """Digest of a file and of all that it imports from below its folder or package's root.

    Args:
        file: where the plugin is.
        root: the folder that its absolute imports start from.
    """
    texts: dict[Path, bytes] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in texts:
            texts[path] = path.read_bytes()
            waiting += _imported(path, texts[path], (file.parent, root))
    content = hashlib.sha256()
    for path in sorted(texts, key=lambda path: (path != file, path)):
        # A plugin may be copied or renamed; the files beside it are found by their names.
        content.update(b"" if path == file else path.name.encode())
        content.update(hashlib.sha256(texts[path]).digest())
    return content.hexdigest()[:LENGTH]


def _imported(path: Path, text: bytes, roots: tuple[Path, ...]) -> Iterator[Path]:
    """The files beside that a file imports."""
    try:
        tree = ast.parse(text)
    except SyntaxError:  # whoever imports it knows what to do about that
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(roots, alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = (path.parents[node.level - 1],) if node.level else roots
            module = node.module or ""
            for name in [module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)]:
                yield from _files(start, name)


def _files(roots: tuple[Path, ...], module: str) -> Iterator[Path]:
    """Where a module and the packages around it are, below the first root that has any of it."""
    parts = [part for part in module.split(".") if part]
    for root in roots:
        inner = [root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
        places = [path for at in inner for path in (at / "__init__.py", at.with_suffix(".py"))]
        there = [path.resolve() for path in places if path.is_file()]
        if there:
            yield from there
            return
