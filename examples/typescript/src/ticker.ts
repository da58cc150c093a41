// Prints the quotes of some symbols as they change, until Ctrl-C:
//
//   node dist/ticker.js grpc://127.0.0.1:50052 [symbol …]
//
// User and password come from FLIGHTSQL_USER and FLIGHTSQL_PASSWORD.

import { FlightSqlClient } from "./index.js";
import type { MarketData } from "./index.js";

const [url = "grpc://127.0.0.1:50052", ...symbols] = process.argv.slice(2);
const { FLIGHTSQL_USER: user = "trader", FLIGHTSQL_PASSWORD: password = "trader" } = process.env;

const names = symbols.map((symbol) => `'${symbol.replaceAll("'", "''")}'`).join(", ");
const query = `SELECT * FROM market_data${names && ` WHERE symbol IN (${names})`}`;

const client = new FlightSqlClient(url, { user, password });
const ticks = client.subscribe<MarketData>(query);
process.once("SIGINT", () => ticks.close());

try {
  for await (const event of ticks) {
    if (event.type === "snapshot" || event.type === "changes") {
      for (const row of event.rows) {
        const at = row._seq === null ? "" : `#${row._seq}`;
        const told = row._change === "delete" ? "gone" : `${row.bid_price ?? "-"} / ${row.ask_price ?? "-"}`;
        console.log(`${row.symbol.padEnd(8)} ${told.padEnd(24)} ${at}`);
      }
    } else if (event.type === "reconnecting") {
      console.error(`${event.error.message} Again in ${event.delayMs} ms, after _seq ${event.seq ?? "none"}.`);
    } else if (event.type === "reset") {
      console.error(`Beginning anew: ${event.reason}`);
    }
  }
} finally {
  client.close();
}
