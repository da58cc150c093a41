"""What the tests of several clients share beside the server: an identity provider, and certificates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.own_authority import Files, make_authority
from tests.provider import RunningProvider, running_provider


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate authority of the tests' own, and a certificate for loopback."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def idp(files: Files) -> Iterator[RunningProvider]:
    """A provider on https that stays as it is."""
    with running_provider(files.certificate, files.key, ca_file=files.authority) as running:
        yield running
