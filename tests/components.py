"""What a test needs beside Python: ``require("java")`` skips loudly without it, and fails under REQUIRE_ALL=1."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

COMPONENTS = tomllib.loads((Path(__file__).parent / "components.toml").read_text(encoding="utf-8"))


def require(name: str) -> str:
    """The path of the component's command."""
    component = COMPONENTS[name]
    found = shutil.which(component["command"])
    if found is None:
        text = f"{component['command']} is not installed: {component['why']}"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(text)
        pytest.skip(text)
    return found
