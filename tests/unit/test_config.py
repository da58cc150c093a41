"""The settings: which source wins, where each value came from, and what is said of one that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from flightsql_auth.policies import PolicyError

from flightsql_server.cli import main
from flightsql_server.config import SETTINGS, Config, ConfigError, Setting, Value, load


def _file(folder: Path, text: str) -> Path:
    file = folder / "server.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_hold_when_nothing_is_said() -> None:
    found = load(environment={})
    assert found.values == {setting.name: setting.default for setting in SETTINGS}
    assert set(found.origins.values()) == {"default"}


def test_the_stronger_source_wins_and_each_value_tells_its_origin(tmp_path: Path) -> None:
    file = _file(tmp_path, "[server]\nport = 1\nhttp_port = 2\ndrain_seconds = 3\nworker_threads = 4\n")
    environment = {"FLIGHTSQL_SERVER_HTTP_PORT": "12", "FLIGHTSQL_SERVER_DRAIN_SECONDS": "13.5"}
    found = load(file, environment, {"server.drain_seconds": 23.0, "server.host": None})
    known = {name: (found.values[name], found.origins[name]) for name in found.values}
    assert known["server.worker_threads"] == (4, str(file))
    assert known["server.port"] == (1, str(file))
    assert known["server.http_port"] == (12, "FLIGHTSQL_SERVER_HTTP_PORT")
    assert known["server.drain_seconds"] == (23.0, "command line")
    assert known["server.host"] == ("127.0.0.1", "default")


@pytest.mark.parametrize(
    ("environment", "port", "origin"),
    [
        ({"ARROW_FLIGHT_PORT": "7001"}, 7001, "ARROW_FLIGHT_PORT"),
        ({"ARROW_FLIGHT_PORT": "7001", "FLIGHTSQL_SERVER_PORT": "7002"}, 7002, "FLIGHTSQL_SERVER_PORT"),
    ],
)
def test_the_older_name_of_the_port_is_honoured(
    tmp_path: Path, environment: dict[str, str], port: int, origin: str
) -> None:
    found = load(_file(tmp_path, "[server]\nport = 7000\n"), environment)
    assert (found.integer("server.port"), found.origins["server.port"]) == (port, origin)
    assert load(None, environment, {"server.port": 7003}).integer("server.port") == 7003


def _wrong(setting: Setting) -> list[tuple[Value, str]]:
    """Values that the setting can't have, and a part of what is said of them."""
    wrong: list[tuple[Value, str]] = []
    kind = type(setting.default)
    if kind is str:
        wrong.append((7, "must be"))
    else:
        wrong.append(("many", "number" if kind in (int, float) else "true or false"))
        wrong.append((2, "true or false") if kind is bool else (True, "number"))
    if kind is int:
        wrong.append((1.5, "a whole number"))
    if setting.choices:
        wrong.append(("nonsense", "one of " + ", ".join(setting.choices)))
    if setting.minimum is not None:
        wrong.append((kind(setting.minimum) - 1, f"at least {setting.minimum:.12g}"))
    if setting.maximum is not None:
        wrong.append((kind(setting.maximum) + 1, f"at most {setting.maximum:.12g}"))
    if setting.form is not None:
        wrong.append(("lots", setting.form[1]))
    return wrong


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_error_names_the_setting_and_its_source(setting: Setting, tmp_path: Path) -> None:
    for value, said in _wrong(setting):
        written = f'"{value}"' if isinstance(value, str) else str(value).lower()
        file = _file(tmp_path, f"[{setting.section}]\n{setting.key} = {written}\n")
        with pytest.raises(ConfigError) as failure:
            load(file, {})
        assert str(failure.value).startswith(f"{file}: {setting.name} must be ")
        assert said in str(failure.value)
        with pytest.raises(ConfigError, match=f"^command line: {setting.name} must be "):
            load(None, {}, {setting.name: value})
        told_apart = not isinstance(setting.default, str) or isinstance(value, str)  # in text, 7 is a text as well
        if told_apart and not isinstance(value, bool):
            with pytest.raises(ConfigError, match=f"^{setting.environment}: {setting.name} must be "):
                load(None, {setting.environment: str(value)})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"query\.seconds"):
        load(None, {"FLIGHTSQL_QUERY_SECONDS": text})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1\n", "there is no setting server.prot"),
        ("[sever]\nport = 1\n", "there is no setting sever.port"),
        ("port = 1\n", "port must be a table"),
        ("roles = 1\n", "roles must be tables"),
        ("[server\n", "is not a TOML file"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = _file(tmp_path, text)
    with pytest.raises(ConfigError) as failure:
        load(file, {})
    assert str(file) in str(failure.value)
    assert said in str(failure.value)


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match="can't be read"):
            load(file, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        load(binary, {})


def test_no_setting_holds_a_secret() -> None:
    for setting in SETTINGS:
        assert not {"password", "secret", "token"} & set(setting.key.split("_"))


def test_names_are_given_once() -> None:
    assert len({setting.name for setting in SETTINGS}) == len({setting.environment for setting in SETTINGS})
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


def test_values_come_in_their_type() -> None:
    found: Config = load(environment={"FLIGHTSQL_SERVER_DRAIN_SECONDS": "3"})
    assert isinstance(found.values["server.drain_seconds"], float)
    assert found.data_dir == Path("flightsql-data")


def test_check_config_prints_every_setting_with_value_and_origin(tmp_path: Path) -> None:
    file = _file(tmp_path, '[sql]\ndialect = "postgres"\n[roles.desk]\nselect = ["market_data"]\n')
    result = CliRunner(env={"FLIGHTSQL_QUERY_SECONDS": "5"}).invoke(
        main, ["check-config", "--config", str(file), "--port", "7070"]
    )
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line.split() for line in result.output.splitlines()}
    assert lines.keys() == {setting.name for setting in SETTINGS} | {"roles.desk"}
    assert lines["sql.dialect"][1:] == ["postgres", str(file)]
    assert lines["query.seconds"][1:] == ["5.0", "FLIGHTSQL_QUERY_SECONDS"]
    assert lines["server.port"][1:] == ["7070", "command", "line"]
    assert lines["server.http_port"][1:] == ["9464", "default"]
    assert lines["roles.desk"][1:] == ["(table)", str(file)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = 'many'\n", "server.port must be a whole number"),
        ("[roles.desk]\nselct = ['market_data']\n", "selct"),
        ("[roles.desk]\nselect = 5\n", "'desk'"),
        ("[sql]\ndialect = 'klingon'\n", "server.toml: sql.dialect can't be 'klingon'"),
        ("[login]\nanonymous_role = 'nobody'\n", "server.toml: login.anonymous_role can't be 'nobody'"),
        ("[server]\nport = 70000\n", "server.port must be a whole number, at least 0 and at most 65535"),
        ("[engine]\nmemory_limit = 'lots'\n", "engine.memory_limit must be a size such as 4GB"),
    ],
)
def test_check_config_fails_on_what_would_stop_the_server(tmp_path: Path, text: str, said: str) -> None:
    result = CliRunner().invoke(main, ["check-config", "--config", str(_file(tmp_path, text))])
    assert result.exit_code != 0, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not isinstance(result.exception, (ConfigError, PolicyError)), "an error is told, not thrown"
