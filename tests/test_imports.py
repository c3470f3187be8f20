"""The way through the house: imports run one way, from the top floor to the ground."""

import ast
from pathlib import Path

import pytest

import dncbench

PACKAGE = Path(dncbench.__file__).parent

FLOORS = (
    # Top to bottom; what stands on one floor imports floors below it, not its neighbours.
    {"__main__", "asv_bench"},
    {"cli"},
    {"contracts"},
    {"report"},
    {"scaling"},
    {"boards", "running"},
    {"truth"},
    {"methods", "problems"},
    {"merging", "metrics", "citations"},
    {"sampling", "stategraph"},
    {"posterior", "budget"},
    {"configure"},
    {"plugins"},
    {"registry"},
    {"problem", "method"},
    {"splits"},
    {"shipped", "storage", "draws", "space", "timing"},
    {"entry", "errors", "precision", "sources", "undisturbed"},
    {"__init__"},
)
"""Wings (folders) and modules of the root."""

FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}

CONCRETE = {"methods", "problems"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def wing_of(module: Path) -> str:
    relative = module.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(module: Path) -> set[str]:
    """Everything of dncbench that a module imports, inside functions too, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "dncbench"}


def wings_imported(module: Path) -> set[str]:
    names = {name.split(".")[1] for name in imported(module) if "." in name}
    known = {name for name in names if name in FLOOR_OF}
    return (known | ({"__init__"} if names - known else set())) - {wing_of(module)}


def test_every_wing_and_module_has_a_floor() -> None:
    # Methods and problems lie behind symlinks in a checkout, which rglob does not follow.
    assert {wing_of(module) for module in modules()} | CONCRETE == set(FLOOR_OF)


@pytest.mark.parametrize("wing", sorted(FLOOR_OF))
def test_imports_go_down(wing: str) -> None:
    for module in modules():
        if wing_of(module) != wing or wing == "__init__":  # the front door shows everything
            continue
        for other in wings_imported(module):
            assert FLOOR_OF[other] > FLOOR_OF[wing], (
                f"{module.relative_to(PACKAGE)} imports dncbench.{other}, which is not below {wing}"
            )


def dotted(module: Path) -> str:
    relative = module.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(part for part in relative.parts if part != "__init__")


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Within a wing too; what is imported inside a function counts."""
    names = {dotted(module): module for module in modules() if module.stem != "__init__"}
    arrows = {
        name: {
            target
            for found in imported(module)
            for target in (found, found.rpartition(".")[0])
            if target in names and target != name
        }
        for name, module in names.items()
    }
    left = dict(arrows)
    while left:
        ready = {name for name, targets in left.items() if not targets & left.keys()}
        assert ready, f"a circle among {', '.join(sorted(left))}"
        left = {name: targets for name, targets in left.items() if name not in ready}


@pytest.mark.parametrize("wing", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_every_wing_says_what_it_is_for(wing: str) -> None:
    text = ast.get_docstring(ast.parse((PACKAGE / wing / "__init__.py").read_text("utf-8"))) or ""
    assert text
    assert len([line for line in text.splitlines() if line]) <= 8


@pytest.mark.parametrize("kind", ["methods", "problems"])
def test_no_method_or_problem_imports_its_neighbours(kind: str) -> None:
    """But for modules that are named as shared, by an underscore."""
    for module in (PACKAGE / kind).resolve().rglob("*.py"):
        for name in imported(module):
            parts = name.split(".")
            assert parts[1] not in CONCRETE - {kind}
            if parts[1] == kind and len(parts) > 2:
                assert any(part.startswith("_") for part in parts[2:]), f"{module.name}: {name}"


@pytest.mark.parametrize("wing", sorted(set(FLOOR_OF) - CONCRETE))
def test_the_framework_names_no_concrete_method_or_problem(wing: str) -> None:
    for module in modules():
        if wing_of(module) == wing:
            assert not CONCRETE & wings_imported(module)


@pytest.mark.parametrize(
    "old",
    ["bench", "experiment", "recall", "remarks", "exchange", "checking", "screen"],
)
def test_names_that_said_nothing_are_gone(old: str) -> None:
    assert old not in {module.stem for module in modules()}
