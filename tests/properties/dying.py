"""A process that ends at a step of a commit: what its files then hold is kept aside, as a restart would find it."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

from flightsql_server.data.watermark import WATERMARK

_FILES = ("desk.duckdb", "desk.duckdb.wal", WATERMARK)


class Killed(BaseException):
    """The process ends here."""


class Dying:
    """A desk whose writer tells its steps to ``_at``. At ``step``, once, ``failure`` is raised; if that is ``Killed``,
    ``left`` is then a folder with the files as they stood.
    """

    folder: Path
    left: Path | None = None
    step: str | None = None
    failure: BaseException | None = None

    def _at(self, step: str) -> None:
        if step != self.step:
            return
        self.step = None
        assert self.failure is not None
        if isinstance(self.failure, Killed):
            self.left = Path(mkdtemp(prefix="desk-"))
            for name in _FILES:
                if (self.folder / name).exists():
                    shutil.copyfile(self.folder / name, self.left / name)
        raise self.failure
