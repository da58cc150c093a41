"""What the pages of ``docs/clients`` tell a reader to write is run here, by its own language, and prints what they say.

Blocks marked ``tls`` meet a server with TLS that takes client certificates on its second port; ``ca.pem``,
``trader.pem`` and ``trader.key`` lie in their folder. The others meet the demo.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow.flight as flight
import pytest

from tests.certificates import Authority
from tests.commands import CLEAN
from tests.components import require
from tests.conformance import java
from tests.conformance.test_go import build
from tests.conformance.test_node import install
from tests.running import RunningServer, add_users
from tests.test_examples import ROOT, Example, demo, examples, shape

__all__ = ["demo"]  # a fixture

PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "clients").glob("*.md"))
EXAMPLES = [one for one in examples(*PAGES) if not one.how.startswith("dbapi")]
CA = Authority()
CONFIG = '[roles.trader]\nselect = ["*"]\n'


@dataclass(frozen=True)
class Target:
    """A server as the pages name its ports, and the files and the token that they speak of."""

    ports: dict[str, int]
    url: str
    ca: bytes | None = None
    files: Path | None = None

    def token(self) -> str:
        """A new one for each example: ADBC ends the session of its token when the connection is closed."""
        with flight.FlightClient(self.url, tls_root_certs=self.ca) as client:
            _, bearer = client.authenticate_basic_token("trader", "trader")
        return str(bearer.decode().split()[1])

    def placed(self, text: str) -> str:
        """The text with the server's own ports."""
        for shown, port in self.ports.items():
            text = re.sub(rf"\b{shown}\b", str(port), text)
        return text

    def bring(self, folder: Path) -> None:
        """Puts the files there."""
        for name in ("ca.pem", "trader.pem", "trader.key"):
            if self.files is not None:
                shutil.copy(self.files / name, folder / name)


@pytest.fixture(scope="module")
def plain(demo: RunningServer) -> Target:
    return Target({"50052": demo.port, "9464": demo.http_port}, demo.url)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with encrypted_server(tmp_path_factory.mktemp("encrypted")) as target:
        yield target


@contextmanager
def encrypted_server(folder: Path) -> Iterator[Target]:
    """A server with TLS for the pages; stopped at the end of the block."""
    CA.client("trader").write(folder, "trader")
    (folder / "ca.pem").write_bytes(CA.pem)
    certificate, key = CA.server().write(folder, "server")
    (folder / "server.toml").write_text(
        f'{CONFIG}[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nclient_ca = "{folder / "ca.pem"}"\n'
        'client_certificates = "optional"\ncertificate_port = 0\n',
        encoding="utf-8",
    )
    add_users(folder / "data", {"trader": ("trader",)})
    server = RunningServer(folder / "data", "--config", str(folder / "server.toml"), environment=CLEAN)
    try:
        second = re.search(r"certificates on grpc\+tls://[^:]+:(\d+)", "".join(server.output))
        assert second
        ports = {"50052": server.port, "50053": int(second[1]), "9464": server.http_port}
        yield Target(ports, f"grpc+tls://127.0.0.1:{server.port}", CA.pem, folder)
    finally:
        server.stop()


def _python(text: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", text]


def _shell(text: str, folder: Path) -> list[str]:
    return ["bash", "-e", "-o", "pipefail", "-c", text]


@cache
def _java_libraries(folder: Path) -> str:
    return java.libraries(folder)


def _java(text: str, folder: Path) -> list[str]:
    source = folder / "Example.java"
    source.write_text(text, encoding="utf-8")
    return [require("java"), java.OPEN, "-cp", _java_libraries(folder.parent), str(source)]


def _go(text: str, folder: Path) -> list[str]:
    source = folder / "go"
    source.mkdir()
    (source / "main.go").write_text(text, encoding="utf-8")
    for name in ("go.mod", "go.sum"):
        shutil.copy(ROOT / "tests" / "conformance" / "go" / name, source / name)
    return [str(build(source, folder / "example"))]


@cache
def _node_modules(folder: Path) -> Path:
    return install(folder) / "node_modules"


def _javascript(text: str, folder: Path) -> list[str]:
    (folder / "node_modules").symlink_to(_node_modules(folder.parent))
    (folder / "example.js").write_text(text, encoding="utf-8")
    return [require("node"), "example.js"]


RUN: dict[str, Callable[[str, Path], list[str]]] = {
    "python": _python,
    "shell": _shell,
    "java": _java,
    "go": _go,
    "javascript": _javascript,
}


def _cases() -> Iterator[object]:
    """Of languages that are slow to start, `make test` runs what has TLS: the rest their own tests prove already."""
    for one in EXAMPLES:
        kind, *flags = one.how.split(", ")
        slow = kind in ("java", "go", "javascript") and "tls" not in flags
        yield pytest.param(one, marks=[pytest.mark.slow] if slow else [], id=one.where)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("example", list(_cases()))
def test_the_page_does_what_it_says(example: Example, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kind, *flags = example.how.split(", ")
    target: Target = request.getfixturevalue("encrypted" if "tls" in flags else "plain")
    target.bring(tmp_path)
    command = RUN[kind](target.placed(example.text), tmp_path)
    environment = {**os.environ, "FLIGHT_TOKEN": target.token()}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if example.output is not None:
        assert shape(done.stdout) == shape(example.output), done.stderr


def test_every_page_has_examples_and_stands_in_the_index() -> None:
    index = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert examples(page), page
        assert f"({page.removeprefix('docs/')})" in index
    assert len(EXAMPLES) >= 15
