"""A plugin's id follows its source, and the files beside it that it imports."""

import sys
from pathlib import Path

import pytest

from dncbench import registry
from dncbench.plugins import load_plugin
from dncbench.sources import digest_of

METRIC = '''
from dncbench import register_metric
{imports}

@register_metric("one")
def one(approximation, reference):
    """Always {value}."""
    return {value}
'''


def written(folder: Path, imports: str = "", value: int = 1, **beside: str) -> str:
    """The id of the metric of a plugin in a folder of its own."""
    folder.mkdir(exist_ok=True)
    for name, text in beside.items():
        file = folder.joinpath(*name.split("__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    file = folder / "plugin.py"
    file.write_text(METRIC.format(imports=imports, value=value))
    sys.path.insert(0, str(folder))
    load_plugin(file)
    found = registry.get("metric", "one").id
    del registry._registered["metric"]["one"]
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("helper", "inner")]:
        del sys.modules[name]
    return found


pytestmark = pytest.mark.usefixtures("clean_registry")


def test_another_place_is_the_same_plugin_and_another_text_is_not(tmp_path: Path) -> None:
    first = written(tmp_path / "a")
    assert first == written(tmp_path / "b")
    assert first != written(tmp_path / "c", value=2)


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import helper", "helper"),
        ("from helper import number", "helper"),
        ("import inner.part", "inner__part"),
        ("from inner import part", "inner__part"),
        ("if True:\n    import helper as h", "helper"),
    ],
)
def test_what_lies_beside_counts(tmp_path: Path, imports: str, name: str) -> None:
    package = {"inner____init__": ""} if name.startswith("inner") else {}
    ids = [
        written(tmp_path / f"{n}", imports, **package, **{name: f"number = {n}"}) for n in (1, 2)
    ]
    assert ids[0] != ids[1]


def test_what_is_imported_by_what_is_imported_counts(tmp_path: Path) -> None:
    ids = [
        written(
            tmp_path / f"{n}",
            "import helper",
            helper="from inner.part import number",
            inner____init__="from . import part",
            inner__part=f"number = {n}",
        )
        for n in (1, 2)
    ]
    assert ids[0] != ids[1]


def test_what_lies_beside_and_is_not_imported_does_not_count(tmp_path: Path) -> None:
    assert written(tmp_path / "a") == written(tmp_path / "b", helper="number = 1")


def test_what_ships_has_a_version_alone() -> None:
    assert digest_of(registry.get("metric", "mah").target) == ""
    assert registry.get("metric", "mah").id.count("+") == 0


def test_code_without_a_file_counts() -> None:
    """As in a notebook."""

    def made(text: str):
        space: dict = {"__name__": "nowhere"}
        exec(text, space)
        return space["f"]

    texts = [
        "def f(): return 1",
        "def f(): return 2",
        "def f(x=1): return x",
        "def f(x=2): return x",
    ]
    texts += [f"class f:\n    a = {n}\n    def g(self): return {m}" for n in "12" for m in "12"]
    digests = [digest_of(made(text)) for text in texts]
    assert len(set(digests)) == len(texts)
    assert digests == [digest_of(made(text)) for text in texts]
