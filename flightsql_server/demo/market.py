"""A market in miniature: prices walk at random, orders arrive, fill at the market's prices and move positions.

One seed gives one market: ``Market(seed)`` makes the same updates on every machine, but for their times.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from flightsql_server.data.datasets import MARKET_DATA, ORDERS, POSITIONS

SYMBOLS = 500
ACCOUNTS = ("ALPHA", "BETA", "GAMMA", "DELTA")
STRATEGIES = ("momentum", "pairs", "market_making")
CURRENCIES = ("USD", "USD", "USD", "EUR", "GBP")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CENT = Decimal("0.01")


def symbol_name(number: int) -> str:
    """A ticker of three letters, a different one for each number below 17 576."""
    scattered = (number * 7_919 + 1_234) % 17_576
    return _LETTERS[scattered // 676] + _LETTERS[scattered // 26 % 26] + _LETTERS[scattered % 26]


@dataclass(slots=True)
class _Instrument:
    symbol: str
    currency: str
    price: float
    spread: float
    volume: int = 0


@dataclass(slots=True)
class _Position:
    strategy: str
    currency: str
    quantity: Decimal = Decimal(0)
    average_price: Decimal = Decimal(0)
    realized_pnl: Decimal = Decimal(0)


@dataclass(slots=True)
class Updates:
    """What one step changed, as rows by column name; empty lists where nothing did."""

    market_data: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    positions: list[dict[str, Any]] = field(default_factory=list)

    def batches(self) -> dict[str, pa.RecordBatch]:
        """One batch for each dataset that changed."""
        pairs = ((MARKET_DATA, self.market_data), (ORDERS, self.orders), (POSITIONS, self.positions))
        return {d.name: pa.RecordBatch.from_pylist(rows, schema=d.schema) for d, rows in pairs if rows}


class Market:
    """The market's state; ``open`` gives every symbol's first quote, each ``step`` what came next."""

    def __init__(self, seed: int = 7, symbols: int = SYMBOLS) -> None:
        self._random = random.Random(seed)
        self._instruments = [self._instrument(number) for number in range(symbols)]
        self._positions: dict[tuple[str, str], _Position] = {}
        self._working: list[dict[str, Any]] = []
        self._orders_made = 0

    def _instrument(self, number: int) -> _Instrument:
        price = round(self._random.lognormvariate(4.2, 0.8), 2)
        spread = round(max(0.01, price * self._random.uniform(0.0001, 0.001)), 2)
        return _Instrument(symbol_name(number), self._random.choice(CURRENCIES), price, spread)

    def open(self, now: datetime | None = None) -> Updates:
        """A quote of every symbol."""
        now = now or datetime.now(UTC)
        return Updates(market_data=[self._quote(instrument, now) for instrument in self._instruments])

    def step(self, quotes: int = 50, now: datetime | None = None) -> Updates:
        """Moves so many symbols, perhaps sends an order, and works on those that are open."""
        now = now or datetime.now(UTC)
        updates = Updates()
        for instrument in self._random.sample(self._instruments, min(quotes, len(self._instruments))):
            self._walk(instrument)
            updates.market_data.append(self._quote(instrument, now))
        if self._random.random() < 0.5:
            self._working.append(self._new_order(now))
            updates.orders.append(dict(self._working[-1]))
        for order in list(self._working):
            if order["created_at"] < now and self._random.random() < 0.2:
                self._work_on(order, now, updates)
        return updates

    def _walk(self, instrument: _Instrument) -> None:
        moved = instrument.price * (1 + self._random.gauss(0, 0.0005))
        instrument.price = round(max(0.05, moved), 2)
        instrument.volume += self._random.randrange(1, 20) * 100

    def _quote(self, instrument: _Instrument, now: datetime) -> dict[str, Any]:
        half = instrument.spread / 2
        one_sided = self._random.random() < 0.01
        return {
            "symbol": instrument.symbol,
            "bid_price": None if one_sided else round(instrument.price - half, 2),
            "ask_price": round(instrument.price + half, 2),
            "last_price": instrument.price,
            "volume": instrument.volume,
            "timestamp": now,
        }

    def _new_order(self, now: datetime) -> dict[str, Any]:
        self._orders_made += 1
        instrument = self._random.choice(self._instruments)
        limit = self._random.random() < 0.7
        return {
            "order_id": f"O{self._orders_made:08d}",
            "client_order_id": f"C{self._random.getrandbits(40):010x}",
            "account": self._random.choice(ACCOUNTS),
            "symbol": instrument.symbol,
            "strategy": self._random.choice(STRATEGIES),
            "side": self._random.choice(("buy", "sell")),
            "order_type": "limit" if limit else "market",
            "time_in_force": self._random.choice(("day", "gtc", "ioc")),
            "quantity": Decimal(self._random.randrange(1, 50) * 100),
            "limit_price": Decimal(str(instrument.price)) if limit else None,
            "stop_price": None,
            "filled_quantity": Decimal(0),
            "average_fill_price": None,
            "currency": instrument.currency,
            "status": "new",
            "created_at": now,
            "updated_at": now,
        }

    def _work_on(self, order: dict[str, Any], now: datetime, updates: Updates) -> None:
        """Fills a part of the order, or the rest, or cancels it."""
        order["updated_at"] = now
        if self._random.random() < 0.1:
            order["status"] = "cancelled"
        else:
            remaining = order["quantity"] - order["filled_quantity"]
            lots = int(remaining / 100)
            part = Decimal(100 * self._random.randint(1, lots))
            self._fill(order, part, updates, now)
            order["status"] = "filled" if order["filled_quantity"] == order["quantity"] else "partially_filled"
        updates.orders.append(dict(order))
        if order["status"] in ("filled", "cancelled"):
            self._working.remove(order)

    def _fill(self, order: dict[str, Any], quantity: Decimal, updates: Updates, now: datetime) -> None:
        price = order["limit_price"] or Decimal(str(self._price(order["symbol"])))
        before = order["filled_quantity"]
        average = order["average_fill_price"] or Decimal(0)
        order["filled_quantity"] = before + quantity
        order["average_fill_price"] = _rounded((average * before + price * quantity) / order["filled_quantity"], 6)
        key = (order["account"], order["symbol"])
        position = self._positions.setdefault(key, _Position(order["strategy"], order["currency"]))
        _trade(position, quantity if order["side"] == "buy" else -quantity, price)
        row = {
            "account": order["account"],
            "symbol": order["symbol"],
            "strategy": position.strategy,
            "quantity": position.quantity,
            "average_price": position.average_price,
            "realized_pnl": position.realized_pnl,
            "currency": position.currency,
            "updated_at": now,
        }
        updates.positions.append(row)

    def _price(self, symbol: str) -> float:
        return next(found.price for found in self._instruments if found.symbol == symbol)


def _trade(position: _Position, quantity: Decimal, price: Decimal) -> None:
    """Average cost: what closes realises profit, what opens moves the average."""
    held = position.quantity
    if held == 0 or (held > 0) == (quantity > 0):
        total = abs(held) + abs(quantity)
        position.average_price = _rounded((position.average_price * abs(held) + price * abs(quantity)) / total, 6)
    else:
        closed = min(abs(held), abs(quantity))
        gain = (price - position.average_price) * (closed if held > 0 else -closed)
        position.realized_pnl += _rounded(gain, 2)
        if abs(quantity) > abs(held):
            position.average_price = price
    position.quantity = held + quantity
    if position.quantity == 0:
        position.average_price = Decimal(0)


def _rounded(value: Decimal, digits: int) -> Decimal:
    return value.quantize(_CENT if digits == 2 else Decimal(1).scaleb(-digits))
