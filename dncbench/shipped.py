"""What ships with dncbench, found by reading its decorators: nothing is imported."""

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

from dncbench.entry import Entry, Kind
from dncbench.errors import ContractError

PACKAGES: dict[Kind, str] = {
    "problem": "problems",
    "method": "methods",
    "correction": "methods",
    "metric": "metrics",
}
PACKAGE_ROOT = Path(__file__).parent


@functools.cache
def shipped(kind: Kind) -> dict[str, Entry]:
    """Read the decorators of the modules that ship with dncbench, importing none of them."""
    folder = PACKAGE_ROOT / PACKAGES[kind]
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder).with_suffix("")
        parts = [part for part in relative.parts if part != "__init__"]
        module = ".".join(["dncbench", PACKAGES[kind], *parts])
        for entry in _decorated(path.read_text(encoding="utf-8"), kind, module):
            if entry.name in found:
                raise ContractError(
                    f"{kind} {entry.name!r} is registered by both {found[entry.name].module} "
                    f"and {module}; rename one"
                )
            found[entry.name] = entry
    return found


def _decorated(source: str, kind: Kind, module: str) -> Iterable[Entry]:
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            if call.func.id == f"register_{kind}":
                options = {
                    word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg
                }
                summary = (ast.get_docstring(node) or "").strip().split("\n")[0]
                name = ast.literal_eval(call.args[0])
                version = options.pop("version", 1)
                yield Entry(kind, name, version, summary, module, **options)
