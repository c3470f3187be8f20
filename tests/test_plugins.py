"""Plugins: files and entry points, and what is left of one that raises."""

import re
import subprocess
import sys

import pytest
from handmade import Whole, import_shipped, registered_names

from dncbench import load_plugin, register_method, registry
from dncbench.errors import ContractError, PluginError


@pytest.fixture(scope="module", autouse=True)
def _shipped_imported():
    import_shipped()


# ---------------------------------------------------------------- plugin files

GOOD = '''
from dncbench import register_metric

@register_metric("ones")
def ones(approximation, reference):
    """Always one."""
'''


@pytest.mark.usefixtures("clean_registry")
def test_plugin_registers_and_twice_is_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    first = load_plugin(file)
    target = registry.get("metric", "ones").target
    assert load_plugin(str(file)) == first
    assert registry.get("metric", "ones").target is target
    assert sys.modules[first].ones is target


def test_a_plugin_that_imports_much_is_not_said_to_change_anything(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import matplotlib.pyplot\nimport jax.numpy\nimport scipy.stats\n" + GOOD)
    code = "import sys\nfrom dncbench import load_plugin\nload_plugin(sys.argv[1])\n"
    done = subprocess.run(
        [sys.executable, "-c", code, file], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["absent.py", "x" * 5000, "a\0b"])
def test_missing_plugin_is_named(tmp_path, name):
    with pytest.raises(PluginError, match=f"plugin .*{re.escape(name)}: no such file"):
        load_plugin(tmp_path / name)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("tail", "line", "what"),
    [
        ("\n1 / 0\n", 8, "ZeroDivisionError"),
        ("\nimport no_such_package_at_all\n", 8, "ModuleNotFoundError"),
        ("\ndef helper():\n    raise KeyError(1)\n\nhelper()\n", 9, "KeyError"),
        ("\ndef :\n", 8, "SyntaxError"),
    ],
)
def test_raising_plugin_names_file_and_line_and_is_withdrawn(tmp_path, tail, line, what):
    file = tmp_path / "raising.py"
    file.write_text(GOOD + tail)
    before = set(sys.modules)
    with pytest.raises(PluginError) as caught:
        load_plugin(file)
    assert str(file) in str(caught.value)
    assert f"line {line}" in str(caught.value)
    assert what in str(caught.value)
    assert "ones" not in registered_names("metric")
    assert not [name for name in set(sys.modules) - before if "raising" in name]


@pytest.mark.usefixtures("clean_registry")
def test_plugin_that_breaks_a_contract_is_named_and_withdrawn(tmp_path):
    file = tmp_path / "contract.py"
    file.write_text(GOOD + '\n@register_metric("mah")\ndef mine(a, b):\n    """Mine."""\n')
    with pytest.raises(ContractError, match=r"plugin .*contract\.py: metric 'mah' is already"):
        load_plugin(file)
    assert "ones" not in registered_names("metric")


def test_plugin_that_raises_leaves_shipped_names_usable(tmp_path):
    file = tmp_path / "raising.py"
    file.write_text("import dncbench.methods.consensus\nraise RuntimeError\n")
    code = (
        "import sys\nfrom dncbench import load_plugin, registry\n"
        "from dncbench.errors import PluginError\n"
        "try:\n    load_plugin(sys.argv[1])\n"
        "except PluginError:\n    print(registry.get('method', 'consensus').id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "consensus@1\n", done.stderr[-300:]


# ---------------------------------------------------------------- entry points


class Point:
    """Stands in for an installed entry point."""

    def __init__(self, name, load):
        self.name, self.value, self.load = name, f"{name}_package", load


@pytest.fixture
def install(monkeypatch, clean_registry):
    """Install these entry points for one test."""

    def install(*points):
        def found(group):
            return points if group == "dncbench.plugins" else ()

        monkeypatch.setattr(registry, "entry_points", found)
        registry._load_entry_points.cache_clear()

    yield install
    registry._load_entry_points.cache_clear()


def _broken():
    raise OSError("its library is gone")


def test_entry_point_that_raises_warns_and_the_others_go_on(install):
    def load():
        register_method("installed")(Whole)

    install(Point("bad", _broken), Point("good", load))
    with pytest.warns(UserWarning, match=r"plugin 'bad' \(bad_package\).*its library is gone"):
        names = registered_names("method")
    assert "installed" in names
    assert "consensus" in names
    assert registry.get("method", "installed").target is Whole


def test_entry_point_that_ends_the_process_is_left_out(install):
    install(Point("bad", lambda: sys.exit(0)), Point("good", lambda: None))
    with pytest.warns(UserWarning, match=r"plugin 'bad'.*SystemExit\(0\)"):
        assert "consensus" in registered_names("method")


def test_what_a_raising_entry_point_had_registered_is_withdrawn(install):
    def load():
        register_method("leftover")(Whole)
        _broken()

    install(Point("bad", load))
    with pytest.warns(UserWarning, match="'bad'"):
        names = registered_names("method")
    assert "leftover" not in names


def test_entry_points_are_loaded_once(install):
    calls = []
    install(Point("counted", lambda: calls.append(1)))
    for kind in ("problem", "method", "metric"):
        registry.entries(kind)
    assert calls == [1]
