"""The example client in TypeScript, built as its README says, and a process of it that does what a test asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.components import require
from tests.conformance.clients import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "typescript"
DRIVER = Path(__file__).parent / "typescript"
_EXAMPLE_BLOCK = re.compile(r"```ts\n(.*?)```", re.DOTALL)
_PATIENCE_SECONDS = 20.0
_WHOLE_SECONDS = 120.0
Event = dict[str, Any]


def built(folder: Path) -> Path:
    """The folder with the example, the driver and what the README shows, compiled in strict mode."""
    node, npm = require("node"), require("npm")
    build = folder / "typescript"
    unwanted = shutil.ignore_patterns("node_modules", "dist")
    shutil.copytree(EXAMPLE, build, ignore=unwanted)
    shutil.copytree(DRIVER, build / "tests", ignore=unwanted)
    (example,) = _EXAMPLE_BLOCK.findall((EXAMPLE / "README.md").read_text(encoding="utf-8"))
    readme = example.replace('"grpc://127.0.0.1:50052"', 'process.argv[2] ?? ""')
    (build / "tests" / "readme.ts").write_text(readme, encoding="utf-8")
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--silent")
    run([npm, "ci", "--prefix", build, *quiet])
    compiler = build / "node_modules" / "typescript" / "bin" / "tsc"
    run([node, compiler, "-p", build])
    run([node, compiler, "-p", build / "tests"])
    return build


class DriverError(Exception):
    """What the client threw: ``name`` of the error's class, ``code`` of gRPC where it has one."""

    def __init__(self, text: str, name: str, code: int | None) -> None:
        super().__init__(text)
        self.name = name
        self.code = code


class Driver:
    """The process. Use it as a context manager; it ends with the block, or when it goes on too long."""

    def __init__(self, build: Path, url: str, user: str) -> None:
        command = [require("node"), str(build / "tests" / "dist" / "driver.js"), url, user, user]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._too_long = threading.Timer(_WHOLE_SECONDS, self.process.kill)
        self._too_long.start()

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.process.kill()
        self.process.communicate(timeout=_PATIENCE_SECONDS)
        self._too_long.cancel()
        self._too_long.join()
        if kind is None:
            assert self.process.returncode == 0

    def ask(self, do: str, **terms: object) -> Any:
        """What the client's answer is; DriverError where it threw."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **terms}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the program has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise DriverError(answer["error"], answer["name"], answer.get("code"))
        return answer["value"]

    def subscribe(self, name: str, query: str, **options: object) -> Reading:
        """Begins to read a subscription beside what else is asked; retries come quickly unless told otherwise."""
        patience = {"firstDelayMs": 20, "longestDelayMs": 200}
        self.ask("subscribe", **{"as": name}, query=query, options={**patience, **options})
        return Reading(self, name)


class Reading:
    """One subscription of the process."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self._name = name

    def ask(self, do: str, **terms: object) -> Any:
        return self._driver.ask(do, **{"as": self._name}, **terms)

    def events(self, type_: str = "") -> list[Event]:
        """What has been told so far, of one type or all."""
        events: list[Event] = self.ask("events")["events"]
        return [event for event in events if type_ in ("", event["type"])]

    def rows(self) -> dict[str, float]:
        """The last price of each symbol, as the subscription has told it."""
        return {row["symbol"]: row["last_price"] for row in self.ask("rows")}

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the condition holds, which it must before long."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            told = self.ask("events")
            assert told["ended"] is None, told
            assert time.monotonic() < end, told["events"][-10:]
            time.sleep(0.05)

    def until_told(self, type_: str, count: int = 1) -> list[Event]:
        """Waits for so many events of that type."""
        self.until(lambda: len(self.events(type_)) >= count)
        return self.events(type_)

    def until_at(self, seq: int) -> None:
        """Waits until everything up to that ``_seq`` has been told."""
        self.until(lambda: (self.ask("events").get("seq") or 0) >= seq)

    def error(self) -> str:
        """What the subscription ended with, which it must before long."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while (ended := self.ask("events")["ended"]) is None:
            assert time.monotonic() < end, "it goes on"
            time.sleep(0.02)
        return str(ended)
