"""The programs around the JDBC driver: compiled with javac, their libraries brought by Maven."""

from __future__ import annotations

from pathlib import Path

from tests.components import require
from tests.conformance.clients import run
from tests.running import RunningServer

HERE = Path(__file__).parent / "jdbc"
OPEN = "--add-opens=java.base/java.nio=ALL-UNNAMED"


def libraries(build: Path) -> str:
    """The class path with the driver on it; ``build`` is a folder to write in."""
    found = build / "classpath"
    maven = require("maven")
    run([maven, "-q", "-B", "-f", HERE / "pom.xml", "dependency:build-classpath", f"-Dmdep.outputFile={found}"])
    return found.read_text(encoding="utf-8").strip()


def program(build: Path, name: str, zone: str = "UTC") -> list[str]:
    """The command that runs a program of ``jdbc/``, compiled into the folder; ``zone`` is where it believes to sit."""
    java, javac, path = require("java"), require("javac"), libraries(build)
    lint = "-Xlint:all,-processing,-classfile"
    run([javac, lint, "-Werror", "-cp", path, "-sourcepath", HERE, "-d", build, HERE / f"{name}.java"])
    return [java, f"-Duser.timezone={zone}", OPEN, "-cp", f"{build}:{path}", name]


def login(server: RunningServer, user: str) -> list[str]:
    """The arguments of every program: host, port, user, password."""
    return ["127.0.0.1", str(server.port), user, user]
