"""Prints profit and loss of each account in each currency whenever it changes.

The query joins two datasets, so the server runs it anew when either has changed, at most twice a second, and sends the
accounts whose figures differ.
"""

from __future__ import annotations

import sys

from common import close_after, login, parser

from flightsql_server.client import Mirror, subscribe

QUERY = """
SELECT p.account, p.currency,
       CAST(sum(p.realized_pnl) AS DECIMAL(18, 2)) AS realized,
       CAST(sum(p.quantity * (m.last_price - p.average_price)) AS DECIMAL(18, 2)) AS unrealized
FROM positions p JOIN market_data m USING (symbol)
GROUP BY p.account, p.currency
"""


def main() -> int:
    """See the module."""
    given = parser("Print profit and loss as the market moves.").parse_args()
    mirror = Mirror()
    with subscribe(given.url, QUERY, key=["account", "currency"], min_interval_ms=500, **login(given)) as updates:
        close_after(given.seconds, updates)
        try:
            for update in updates:
                mirror.apply(update)
                for (account, currency), row in sorted(mirror.rows.items()):
                    print(f"{account:10} {currency} realized {row['realized']:>14} unrealized {row['unrealized']:>14}")
                print(flush=True)
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
