"""A closed loop of ADBC clients, one connection and one thread each.

``adbc_loop.py URL LOGIN QUERY CLIENTS SECONDS``
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flight_sql


def main() -> None:
    url, login, query, clients, seconds = sys.argv[1:6]
    options = {"username": "reader", "password": "reader"} if login == "1" else {}
    times: list[float] = []
    lock = threading.Lock()
    barrier = threading.Barrier(int(clients))

    def loop() -> None:
        mine = []
        with flight_sql.connect(url, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(query.replace("{symbol}", "S00000"))
            cursor.fetchall()
            barrier.wait()
            until = time.perf_counter() + float(seconds)
            while (started := time.perf_counter()) < until:
                cursor.execute(query.replace("{symbol}", f"S{random.randrange(1000):05d}"))
                for _ in cursor.fetch_record_batch():
                    pass
                mine.append(time.perf_counter() - started)
        with lock:
            times.extend(mine)

    threads = [threading.Thread(target=loop) for _ in range(int(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    at = [times[int(share * (len(times) - 1))] * 1000 for share in (0.5, 0.99)]
    print(json.dumps({"calls": len(times), "qps": len(times) / float(seconds), "p50_ms": at[0], "p99_ms": at[1]}))


if __name__ == "__main__":
    main()
