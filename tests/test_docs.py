"""The documents say what the code does: pages made from it are compared, and nothing lacks its line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from flightsql_auth.policies import Policies
from flightsql_auth.providers import Provider, providers_of

from flightsql_server import config
from flightsql_server.config import SETTINGS
from flightsql_server.protocol import flight_sql_pb2
from flightsql_server.tls import certificate_users, files_of
from tests.client_coverage import claims, claims_of, served
from tests.reference_pages import PAGES, ROOT, error_classes


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    written = (ROOT / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"{name} is out of date: run `make docs`"


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_every_setting_is_documented() -> None:
    lines = _lines("docs/reference/configuration.md")
    assert len(lines) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.meaning.endswith("."), setting.name
        found = [line for line in lines if f"| `{setting.key}` |" in line and f"`{setting.environment}`" in line]
        assert len(found) == 1, setting.name


def test_the_example_file_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example
    file = tmp_path / "example.toml"
    file.write_text(example[1], encoding="utf-8")
    loaded = config.load(file, environment={})
    assert loaded.origins["sql.dialect"] == str(file)
    assert (
        Policies.from_toml(loaded.roles)
        .grants(("desk",))
        .allows("ingest", schema="main", name="market_data", dataset=None)
    )


def test_the_examples_of_tls_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs/operating/security.md").read_text(encoding="utf-8")
    encrypt, certificates = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "example.toml"
    file.write_text(encrypt + certificates.removeprefix("[tls]\n"), encoding="utf-8")
    loaded = config.load(file, environment={})
    found = files_of(loaded)
    assert found is not None
    assert found.client_ca is not None
    assert certificate_users(loaded) is not None


def test_every_key_of_a_provider_is_documented() -> None:
    shown = {line.split("`")[1]: line.split("|")[2].strip() for line in _lines("docs/reference/federation.md")}
    fields = {one.name: one.default for one in dataclasses.fields(Provider) if one.name != "name"}
    assert shown.keys() == fields.keys()
    for name, default in fields.items():
        if name.endswith(("_seconds", "_bytes")):
            assert isinstance(default, int | float)
            assert shown[name] == f"{default:g}" or shown[name] == str(default), name


def test_the_example_of_a_provider_can_be_used(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/federation.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example
    file = tmp_path / "example.toml"
    file.write_text(example[1], encoding="utf-8")
    loaded = config.load(file, environment={})
    (provider,) = providers_of(loaded.providers, Policies.from_toml(loaded.roles).roles)
    assert provider.roles["/desk/operators"] == ("trader", "admin")


def test_every_error_is_documented() -> None:
    lines = _lines("docs/reference/errors.md")
    assert len(lines) == len(error_classes())
    for kind in error_classes():
        start = f"| `{kind.sqlstate}` | {kind.__name__} | `{kind.status}` |"
        assert len([line for line in lines if line.startswith(start)]) == 1, kind.__name__


def _sendable() -> list[str]:
    """The messages of FlightSql.proto that ride in a descriptor, a ticket or an action, as the page names them."""
    found = []
    for name in flight_sql_pb2.DESCRIPTOR.message_types_by_name:
        action = re.fullmatch(r"Action(\w+)Request", name)
        if action or name.startswith(("Command", "Ticket")):
            found.append(action[1] if action else name.removeprefix("Command"))
    return found


def test_every_message_that_a_client_can_send_has_its_test() -> None:
    """One that proves the right answer, or that it is refused as not served."""
    assert len(_sendable()) > 20
    assert set(_sendable()) <= set(served())
    covered = {name for claim in claims() for name in claim.names}
    assert [name for name in served() if name not in covered] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('@pytest.mark.covers("odbc", "GetTables")\ndef test_a(): ...', "no odbc"),
        ('@pytest.mark.covers("adbc", "GetTable")\ndef test_a(): ...', "no GetTable "),
        ('@pytest.mark.covers("adbc")\ndef test_a(): ...', "names a client and its commands"),
        ('@pytest.mark.covers("adbc", *NAMES)\ndef test_a(): ...', "plain text"),
        ('@pytest.mark.covers("adbc", "GetTables")\ndef helper(): ...', "no test carries it"),
        ('pytestmark = pytest.mark.covers("adbc", "GetTables")', "no test carries it"),
    ],
)
def test_a_mark_that_proves_nothing_is_refused(source: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        claims_of(source, "here")
