"""Who may know whom."""

import ast
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "hypern"
EXTENSION = "_hypern"
OUTSIDE = {"__init__", "testing", "cli", "__main__"}


def imports_of(path):
    """The modules of the package that a module imports, whether at runtime or for its types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            if package == "hypern":
                yield from [module] if module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, module = alias.name.partition(".")
                if package == "hypern":
                    yield module or "__init__"


def graph():
    return {path.stem: set(imports_of(path)) - {EXTENSION, path.stem} for path in PACKAGE.glob("*.py")}


def test_nothing_imports_app_but_the_outermost_modules():
    assert {module for module, imports in graph().items() if "app" in imports} <= OUTSIDE


def test_only_app_and_what_is_outside_of_it_imports_routing():
    assert {module for module, imports in graph().items() if "routing" in imports} <= OUTSIDE | {"app"}


def test_app_imports_routing_and_routing_the_rest():
    modules = graph()
    assert "routing" in modules["app"]
    assert modules["routing"].isdisjoint(OUTSIDE | {"app"})


def test_no_module_imports_the_package_itself():
    assert {module for module, imports in graph().items() if "__init__" in imports} == set()


def test_there_is_no_import_cycle():
    remaining = graph()
    while remaining:
        leaves = {module for module, imports in remaining.items() if imports.isdisjoint(remaining)}
        assert leaves, f"a cycle among {sorted(remaining)}"
        remaining = {module: imports for module, imports in remaining.items() if module not in leaves}


def test_the_core_does_not_depend_on_python():
    manifest = tomllib.loads((ROOT / "crates" / "hypern-core" / "Cargo.toml").read_text())
    tables = [manifest.get(table, {}) for table in ("dependencies", "dev-dependencies", "build-dependencies")]
    dependencies = {name for table in tables for name in table}
    assert "hyper" in dependencies
    assert not {name for name in dependencies if name.startswith(("pyo3", "hypern"))}
