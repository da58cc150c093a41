"""The shape of the code: who may import whom, who owns which library, how long things are, what they are called."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"flightsql_server": ROOT / "flightsql_server", "flightsql_auth": ROOT / "auth" / "flightsql_auth"}

# What each room may import of ours, beside itself and the leaves below.
MAY_IMPORT: dict[str, set[str]] = {
    "protocol": {"service", "data", "flightsql_auth", "audit"},
    "service": {"planner", "data", "flightsql_auth"},
    "http": {"service", "flightsql_auth"},
    "planner": {"flightsql_auth"},
    "engine": set(),
    "data": set(),
    "audit": {"flightsql_auth"},
    "demo": {"client", "data.datasets"},
    "backup": {"data_dir"},
    "tls": {"flightsql_auth"},
    "housekeeping": {"service", "tls", "flightsql_auth"},
    "rooms": {"*"},
    "server": {"*"},
    "cli": {"*"},
    "__main__": {"cli"},
}
# Every room may import these; they import nothing of ours, but for what is said here.
LEAVES: dict[str, set[str]] = {
    "model": {"flightsql_auth.principals"},
    "errors": set(),
    "config": set(),
    "metrics": set(),
    "data_dir": set(),
    "client": set(),
    "flightsql_auth": set(),
}
FOR_ALL = {"model", "errors", "config"}
FOR_ALL_BUT_THE_PLANNER = {"metrics"}

# Which rooms may import which library.
OWNERS: dict[str, set[str]] = {
    "adbc_driver_flightsql": {"cli", "server"},
    "adbc_driver_manager": {"cli"},
    "aiohttp": {"http"},
    "argon2": {"flightsql_auth"},
    "click": {"cli"},
    "cryptography": {"flightsql_auth", "protocol"},
    "duckdb": {"engine"},
    "google": {"protocol", "server"},
    "grpc": {"protocol", "server"},
    "grpc_health": {"protocol", "server"},
    "grpc_reflection": {"protocol", "server"},
    "jwt": {"flightsql_auth"},
    "numpy": {"data"},
    "prometheus_client": {"metrics", "http", "server"},
    "psutil": {"cli"},
    "pyarrow": {
        "cli",
        "client",
        "data",
        "demo",
        "engine",
        "model",
        "planner",
        "protocol",
        "rooms",
        "server",
        "service",
    },
    "rich": {"cli"},
    "sqlglot": {"planner", "server"},  # the server tells its version
    "uvloop": {"cli"},
}

MODULE_LINES, FUNCTION_LINES = 400, 70
BANNED = re.compile(r"(?:^|_)(?:manager|helper|util)s?(?:$|_)")
MACHINE_PATH = re.compile(r"(?<![\w.$}>-])/(?:home|root|work|Users)/\w")
PRINTS = {"cli", "tests", "benchmarks", "examples", "grafana"}


class Module(NamedTuple):
    """A parsed module: its room, its dotted name inside the package, its file and its tree."""

    room: str
    name: str
    file: Path
    tree: ast.Module

    @property
    def shown(self) -> str:
        return str(self.file.relative_to(ROOT))


def _parsed(package: str, file: Path) -> Module:
    parts = file.relative_to(SOURCES[package]).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    room = "flightsql_auth" if package == "flightsql_auth" else name.split(".")[0]
    return Module(room, name, file, ast.parse(file.read_text(encoding="utf-8")))


MODULES = [
    _parsed(package, file)
    for package, folder in SOURCES.items()
    for file in sorted(folder.rglob("*.py"))
    if not file.name.endswith("_pb2.py")
]


def _imports(module: Module) -> Iterator[str]:
    """The dotted names that the module imports, relative ones made absolute."""
    package = "flightsql_auth" if module.room == "flightsql_auth" else "flightsql_server"
    here = [package, *module.name.split(".")] if module.name else [package]
    if module.file.name != "__init__.py":
        here = here[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _ours(module: Module) -> Iterator[str]:
    """What the module imports of ours, as the arrows name it; the package's own version left out."""
    for name in _imports(module):
        package, _, rest = name.partition(".")
        if package == "flightsql_auth":
            yield name
        elif package == "flightsql_server" and rest != "__version__":
            yield rest


def _allowed(room: str, target: str) -> bool:
    may = set(LEAVES[room]) if room in LEAVES else MAY_IMPORT[room] | FOR_ALL
    if room not in LEAVES and room != "planner":
        may |= FOR_ALL_BUT_THE_PLANNER
    return any(target == name or target.startswith(name + ".") for name in may | {room}) or "*" in may


def test_imports_follow_the_arrows() -> None:
    wrong = [
        f"{module.shown} imports {target}"
        for module in MODULES
        for target in _ours(module)
        if module.name and not _allowed(module.room, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_stands_in_the_table() -> None:
    rooms = {module.room for module in MODULES if module.room}
    assert rooms == MAY_IMPORT.keys() | LEAVES.keys()


def test_each_library_has_its_owner() -> None:
    wrong = []
    for module in MODULES:
        for name in _imports(module):
            library = name.split(".")[0]
            ours = library in SOURCES or library in sys.stdlib_module_names
            if not ours and module.room not in OWNERS.get(library, set()):
                wrong.append(f"{module.shown} imports {library}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_imported_by_a_name_made_at_run_time() -> None:
    for module in MODULES:
        found = [name for name in _imports(module) if name.split(".")[0] == "importlib"]
        assert all(name.startswith("importlib.metadata") for name in found), module.shown
        names = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
        assert "__import__" not in names, module.shown


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.shown)
def test_modules_and_functions_are_short(module: Module) -> None:
    lines = module.file.read_text(encoding="utf-8").count("\n")
    assert lines <= MODULE_LINES, f"{module.shown} has {lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{module.shown}: {node.name} has {length} lines"


def _tracked() -> list[Path]:
    """The files of the checkout: those that git tracks, and new ones that it doesn't ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file()]


def _python_files() -> list[Path]:
    return [file for file in _tracked() if file.suffix == ".py" and not file.name.endswith("_pb2.py")]


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def test_names_say_what_things_are() -> None:
    wrong = []
    for file in _python_files():
        names = [*file.relative_to(ROOT).with_suffix("").parts, *_defined(ast.parse(file.read_text(encoding="utf-8")))]
        wrong += [f"{file.relative_to(ROOT)}: {name}" for name in names if BANNED.search(_snake(name))]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is() -> None:
    silent = []
    for file in _python_files():
        text = file.read_text(encoding="utf-8")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(str(file.relative_to(ROOT)))
    assert not silent, "\n".join(silent)


def test_only_the_command_line_prints() -> None:
    wrong = []
    for file in _python_files():
        if PRINTS & set(file.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_files_are_clean() -> None:
    """Text ends with a newline, and no file knows the machine it was written on."""
    wrong = []
    for file in _tracked():
        content = file.read_bytes()
        if b"\0" in content[:8000] or file.suffix == ".bin" or not content:
            continue
        shown = file.relative_to(ROOT)
        if not content.endswith(b"\n"):
            wrong.append(f"{shown} does not end with a newline")
        found = MACHINE_PATH.search(content.decode("utf-8", "replace"))
        if found:
            wrong.append(f"{shown} holds the path {found[0]}…")
    assert not wrong, "\n".join(wrong)
