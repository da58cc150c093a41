"""What ``serve --demo`` adds: three users, and a market played by a process of its own through the front door."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

from flightsql_auth.credentials import PasswordHasher

from flightsql_server.server import Server

USERS = {"admin": ("admin",), "trader": ("trader",), "viewer": ("viewer",)}
"""The demo's users, each with its name as password, and their roles."""

CLAIMS = {"trader": {"accounts": ["ALPHA", "BETA"]}}
_MADE_HERE = {"made_by": "demo"}
_OPENING_SECONDS = 30
_OWN = "account IN (claims.accounts)"
ROLES = {
    "trader": {"select": ["*"], "subscribe": ["*"], "filters": {"positions": _OWN, "orders": _OWN}},
    "viewer": {
        "select": ["market_data"],
        "subscribe": ["market_data"],
        "masks": {"market_data": {"volume": "round(-3)"}},
    },
}
"""The demo's roles: a trader sees the positions and orders of some accounts, a viewer quotes with rounded volumes."""


class Player:
    """The process that plays the market. It ends when its standard input does, so never outlives the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def stop(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def add_users(server: Server) -> None:
    """Adds the demo's users where they are missing; the roles of all but one are the demo's own."""
    hasher = PasswordHasher()
    for name, roles in USERS.items():
        user = server.users.get_user(name)
        if user is None:
            claims = {"claims": json.dumps(CLAIMS[name])} if name in CLAIMS else {}
            server.users.add_user(name, hasher.hash(name), roles, {**_MADE_HERE, **claims})
        elif user.options.items() >= _MADE_HERE.items():
            server.users.set_disabled(name, False)


def retire_users(server: Server) -> None:
    """Disables the users that an earlier demo left in the data directory: everybody knows their passwords."""
    for user in server.users.list_users():
        if not user.disabled and user.options.items() >= _MADE_HERE.items():
            server.users.set_disabled(user.name, True)


async def start(server: Server, data_dir: Path) -> Player:
    """Adds the users, starts the market and waits until it is open."""
    await asyncio.get_running_loop().run_in_executor(None, add_users, server)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "flightsql_server.demo",
        f"grpc://127.0.0.1:{server.port}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    # Its first line says that every symbol has a quote; whoever pastes a query at once is to see rows.
    if process.stdout is not None:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.stdout.readline(), _OPENING_SECONDS)
    return Player(process)


def welcome(host: str, port: int, http_port: int) -> str:
    """Lines to paste into a client; the command is written as it was called."""
    command = sys.argv[0] if "/" in sys.argv[0] else "flightsql-server"
    if command.endswith("__main__.py"):
        command = f"{sys.executable} -m flightsql_server"
    return f"""
A demo market ticks at grpc://{host}:{port}. Users: admin/admin, trader/trader, viewer/viewer. Stop it with Ctrl-C.

In this shell:
  export FLIGHTSQL_URL=grpc://{host}:{port} FLIGHTSQL_USER=trader FLIGHTSQL_PASSWORD=trader
  {command} sql "SELECT * FROM market_data LIMIT 5"

Python, ADBC:
  import adbc_driver_flightsql.dbapi as fs
  con = fs.connect("grpc://{host}:{port}", db_kwargs={{"username": "trader", "password": "trader"}}, autocommit=True)
  cur = con.cursor(); cur.execute("SELECT symbol, last_price FROM market_data LIMIT 5"); print(cur.fetch_arrow_table())

Python, pyarrow:
  import pyarrow.flight as fl
  c = fl.connect("grpc://{host}:{port}")
  o = fl.FlightCallOptions(headers=[c.authenticate_basic_token("trader", "trader")])
  print(c.do_get(fl.Ticket(b"market_data"), o).read_all())

JDBC and DBeaver (driver org.apache.arrow:flight-sql-jdbc-driver:18.3.0, Java option
--add-opens=java.base/java.nio=ALL-UNNAMED):
  jdbc:arrow-flight-sql://{host}:{port}/?useEncryption=false&user=trader&password=trader

Metrics and health:
  curl http://{host}:{http_port}/metrics
  curl http://{host}:{http_port}/readyz
"""
