"""The planner's promises hold with sqlglot in plain Python as well, where no compiled one can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlglot

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_corpus_attacks_and_fuzz_pass_uncompiled(tmp_path: Path) -> None:
    assert sqlglot.__file__ is not None
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(Path(sqlglot.__file__).parent, tmp_path / "sqlglot", ignore=ignored)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FULL": "0"}
    where = [sys.executable, "-c", "import sqlglot.parser; print(sqlglot.parser.__file__)"]
    found = subprocess.run(where, env=environment, check=True, capture_output=True, text=True).stdout
    assert found.strip() == str(tmp_path / "sqlglot" / "parser.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", str(HERE)]
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=800, cwd=HERE.parents[2]
    )
    assert done.returncode == 0, done.stdout[-4000:]
