"""What a test needs beside Python: ``require("java")`` skips loudly without it, and fails under REQUIRE_ALL=1."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import NoReturn

import pytest

COMPONENTS = tomllib.loads((Path(__file__).parent / "components.toml").read_text(encoding="utf-8"))


def require(name: str) -> str:
    """The path of the component's command."""
    command = COMPONENTS[name]["command"]
    found = shutil.which(command)
    if found is None:
        absent(name, f"{command} is not installed")
    return found


def absent(name: str, what: str) -> NoReturn:
    """Ends the test, saying what of the component is missing: skipped, or failed under REQUIRE_ALL=1."""
    text = f"{what}: {COMPONENTS[name]['why']}"
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(text)
    pytest.skip(text)
