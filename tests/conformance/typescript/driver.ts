// Does what the test tells it: one JSON line in, one JSON line out, in the same order.
//
// Arguments: url, user, password. Each request is {"do": name, …}; each answer is {"value": …} or
// {"error": …, "name": …, "code": …}. Subscriptions run beside it under the name that `as` gives them.

import { createInterface } from "node:readline";
import { RecordBatch, tableFromArrays } from "apache-arrow";
import type { Table } from "apache-arrow";
import { FlightSqlClient, Mirror, quoteBatch } from "flightsql-live";
import type {
  Acknowledgement, LiveEvent, MarketData, PutOptions, Quote, SubscribeOptions, Subscription,
} from "flightsql-live";

const [url = "", user = "", password = ""] = process.argv.slice(2);
const client = new FlightSqlClient(url, { user, password });

/** One subscription, what it has told, and the answer that this makes. */
interface Reading {
  readonly subscription: Subscription;
  readonly mirror: Mirror;
  readonly events: object[];
  /** The next change is told only then: a slow reader. */
  gate: Promise<void>;
  open: () => void;
  ended: string | null;
}
const readings = new Map<string, Reading>();

interface Request {
  readonly do: string;
  readonly as: string;
  readonly dataset: string;
  readonly query: string;
  readonly options: SubscribeOptions & PutOptions;
  /** Batches of rows [symbol, last_price, milliseconds]. */
  readonly batches: readonly (readonly [string, number, number][])[];
  readonly form: "quotes" | "dictionaries" | "deletes";
  readonly password: string;
}

function written(event: LiveEvent): object {
  if (event.type === "subscribed") return { ...event, schema: event.schema.fields.map((f) => `${f.name}: ${f.type}`) };
  if (event.type === "reconnecting") return { ...event, error: event.error.message };
  if (event.type !== "snapshot" && event.type !== "changes") return event;
  const rows = [...event.rows].map((row) => ({
    key: row["symbol"] ?? null,
    seq: row["_seq"],
    change: row["_change"],
  }));
  return { ...event, rows };
}

async function read(reading: Reading): Promise<void> {
  try {
    for await (const event of reading.subscription) {
      reading.mirror.apply(event);
      reading.events.push(written(event));
      if (event.type === "changes") await reading.gate;
    }
    reading.ended = "closed";
  } catch (error) {
    reading.ended = String(error);
  }
}

function batch(rows: readonly [string, number, number][], form: Request["form"]): RecordBatch {
  if (form === "quotes") {
    const quotes = rows.map(([symbol, last_price, at]): Quote => ({ symbol, last_price, timestamp: new Date(at) }));
    return quoteBatch(quotes);
  }
  const symbol = rows.map(([name]) => name);
  const timestamp = rows.map(([, , at]) => new Date(at));
  const deletes = { symbol, timestamp, _change: rows.map(() => "delete") };
  const price = rows.map(([, last]) => last);
  const volume = BigInt64Array.from(rows, () => 1n);
  const quotes = { symbol, timestamp, bid_price: price, ask_price: price, last_price: price, volume };
  const table: Table = tableFromArrays(form === "deletes" ? deletes : quotes);
  const [first] = table.batches;
  if (!first) throw new Error("no batch");
  return first;
}

function* batches(request: Request): Generator<RecordBatch> {
  for (const rows of request.batches) yield batch(rows, request.form);
}

const reading = (request: Request): Reading => {
  const found = readings.get(request.as);
  if (!found) throw new Error(`no subscription ${request.as}`);
  return found;
};

const actions: Record<string, (request: Request) => Promise<unknown>> = {
  async login({ password: other }) {
    const stranger = new FlightSqlClient(url, { user, password: other });
    try {
      await stranger.login();
    } finally {
      stranger.close();
    }
  },
  async table({ dataset }) {
    const table: Table = await client.table(dataset);
    const columns = table.schema.fields.map((field) => `${field.name}: ${field.type}`);
    return { columns, rows: [...table].map((row) => Object.values(row.toJSON())) };
  },
  async get({ dataset }) {
    let rows = 0;
    let found = 0;
    for await (const { numRows } of client.doGet<MarketData>(dataset)) [rows, found] = [rows + numRows, found + 1];
    return { rows, batches: found };
  },
  async put(request) {
    const acknowledged: Acknowledgement[] = [];
    let error: unknown;
    try {
      for await (const one of client.doPut(request.dataset, batches(request), request.options)) acknowledged.push(one);
    } catch (thrown) {
      error = String(thrown);
    }
    return { acknowledged, error };
  },
  async subscribe({ as, query, options }) {
    let open = (): void => undefined;
    const subscription = client.subscribe(query, options);
    const one: Reading = { subscription, mirror: new Mirror(), events: [], gate: Promise.resolve(), open, ended: null };
    readings.set(as, one);
    void read(one);
  },
  async events(request) {
    const { events, ended, subscription } = reading(request);
    return { events, ended, seq: subscription.seq };
  },
  async rows(request) {
    return [...reading(request).mirror.rows.values()].map((row) => row.toJSON());
  },
  async size(request) {
    return reading(request).mirror.rows.size;
  },
  async pause(request) {
    reading(request).subscription.pause();
  },
  async resume(request) {
    reading(request).subscription.resume();
  },
  async filter(request) {
    reading(request).subscription.filter(request.query);
  },
  async hold(request) {
    const one = reading(request);
    one.gate = new Promise((resolve) => (one.open = resolve));
  },
  async release(request) {
    const one = reading(request);
    one.gate = Promise.resolve();
    one.open();
  },
  async close(request) {
    reading(request).subscription.close();
  },
};

// 64-bit integers are bigint here, which JSON can't write.
const json = (content: object): string =>
  JSON.stringify(content, (_, value: unknown) => (typeof value === "bigint" ? Number(value) : value));

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as Request;
  try {
    const action = actions[request.do];
    if (!action) throw new Error(`no action ${request.do}`);
    console.log(json({ value: (await action(request)) ?? null }));
  } catch (error) {
    const { name, code } = error as Error & { code?: number };
    console.log(json({ error: String(error), name, code }));
  }
}
client.close();
