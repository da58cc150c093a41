// A trading service's feed: sends quotes by DoPut and reads them back by DoGet, with nothing but gRPC and Arrow for
// JavaScript, once under one Basic header and once without any. Prints one JSON line for each case; the test compares.
//
// Arguments: host, port, user, password.
"use strict";

const arrow = require("apache-arrow");
const grpc = require("@grpc/grpc-js");
const { asIs, field, read, report, SERVICE } = require("./wire");

const [host, port, user, password] = process.argv.slice(2);
const DATASET = "market_data";
const START = Date.UTC(2026, 0, 5, 14, 30);
const DEADLINE_MS = 30_000;

// ---- Arrow's stream format to FlightData and back

// The messages of a stream: each is ff ff ff ff, the length of the header, the header, the body.
function messages(stream) {
  const found = [];
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  for (let at = 0; at + 8 <= stream.length; ) {
    const length = view.getInt32(at + 4, true);
    if (length === 0) break;
    const header = stream.subarray(at + 8, at + 8 + length);
    const size = Number(arrow.Message.decode(header).bodyLength);
    found.push({ header, body: stream.subarray(at + 8 + length, at + 8 + length + size) });
    at += 8 + length + size;
  }
  return found;
}

// FlightData: descriptor 1, header 2, app_metadata 3, body 1000; the descriptor: type 1 (path: 1), path 3.
function flightData({ header, body }, descriptor) {
  const parts = descriptor ? [field(1, Buffer.concat([Buffer.from([8, 1]), field(3, Buffer.from(descriptor))]))] : [];
  parts.push(field(2, Buffer.from(header)));
  if (body.length) parts.push(field(1000, Buffer.from(body)));
  return Buffer.concat(parts);
}

function stream(flightMessages) {
  const parts = [];
  for (const message of flightMessages) {
    const header = read(message, 2);
    const padding = Buffer.alloc(-header.length & 7);
    const prefix = Buffer.alloc(8, 0xff);
    prefix.writeInt32LE(header.length + padding.length, 4);
    parts.push(prefix, header, padding, read(message, 1000));
  }
  return arrow.tableFromIPC(Buffer.concat(parts));
}

// ---- the feed

const SYMBOL = new arrow.Dictionary(new arrow.Utf8(), new arrow.Int32());
const PRICE = new arrow.Float64();
const SCHEMA = new arrow.Schema([
  new arrow.Field("symbol", SYMBOL, false),
  new arrow.Field("bid_price", PRICE, true),
  new arrow.Field("ask_price", PRICE, true),
  new arrow.Field("last_price", PRICE, true),
  new arrow.Field("volume", new arrow.Int64(), true),
  new arrow.Field("timestamp", new arrow.TimestampMillisecond(), false),
]);

// Quotes of symbols that begin with the prefix; every third has no bid. Later batches know more symbols.
function batch(prefix, number) {
  const at = Array.from({ length: 4 + number }, (_, n) => n);
  const columns = {
    symbol: arrow.vectorFromArray(at.map((n) => `${prefix}${n}`), SYMBOL),
    bid_price: arrow.vectorFromArray(at.map((n) => (n % 3 ? n + 0.25 : null)), PRICE),
    ask_price: arrow.vectorFromArray(at.map((n) => n + 0.5), PRICE),
    last_price: arrow.vectorFromArray(at.map((n) => n + number / 8), PRICE),
    volume: arrow.vectorFromArray(at.map((n) => BigInt(n) * 1_000_000_007n), new arrow.Int64()),
    timestamp: arrow.vectorFromArray(at.map((n) => START + 1000 * number + n), new arrow.TimestampMillisecond()),
  };
  const data = SCHEMA.fields.map((column) => columns[column.name].data[0]);
  const children = { type: new arrow.Struct(SCHEMA.fields), length: at.length, nullCount: 0, children: data };
  return new arrow.RecordBatch(SCHEMA, arrow.makeData(children));
}

function client() {
  return new grpc.Client(`${host}:${port}`, grpc.credentials.createInsecure());
}

async function put(metadata, prefix) {
  const writer = new arrow.RecordBatchStreamWriter();
  for (let number = 0; number < 3; number += 1) writer.write(batch(prefix, number));
  writer.finish();
  const sent = messages(await writer.toUint8Array());
  const connection = client();
  try {
    return await new Promise((resolve, reject) => {
      const acknowledged = [];
      const options = { deadline: Date.now() + DEADLINE_MS };
      const call = connection.makeBidiStreamRequest(`${SERVICE}DoPut`, asIs, asIs, metadata, options);
      call.on("data", (result) => acknowledged.push(JSON.parse(read(result, 1).toString())));
      call.on("error", reject);
      call.on("end", () => resolve({ messages: sent.length, acknowledged }));
      sent.forEach((message, number) => call.write(flightData(message, number ? null : DATASET)));
      call.end();
    });
  } finally {
    connection.close();
  }
}

async function get(metadata, prefix) {
  const connection = client();
  try {
    const received = await new Promise((resolve, reject) => {
      const found = [];
      const options = { deadline: Date.now() + DEADLINE_MS };
      const ticket = field(1, Buffer.from(DATASET));
      const call = connection.makeServerStreamRequest(`${SERVICE}DoGet`, asIs, asIs, ticket, metadata, options);
      call.on("data", (message) => found.push(message));
      call.on("error", reject);
      call.on("end", () => resolve(found));
    });
    const table = stream(received);
    const columns = table.schema.fields.map((column) => [column.name, String(column.type)]);
    const rows = table
      .toArray()
      .map((row) => table.schema.fields.map((column) => row[column.name]))
      .filter((row) => row[0].startsWith(prefix));
    return { columns, rows: rows.sort((one, other) => (one[0] < other[0] ? -1 : 1)) };
  } finally {
    connection.close();
  }
}

async function main() {
  const basic = new grpc.Metadata();
  basic.set("authorization", `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`);
  for (const [name, metadata, prefix] of [
    ["with basic", basic, "BASIC"],
    ["without credentials", new grpc.Metadata(), "NOBODY"],
  ]) {
    await report(`put ${name}`, () => put(metadata, prefix));
    await report(`get ${name}`, () => get(metadata, prefix));
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
