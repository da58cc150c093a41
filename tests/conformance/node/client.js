// Drives an npm Flight SQL client, and a bare gRPC channel with its stock limits, through every case and prints one
// JSON line for each: {"case": …, "value": …} or {"case": …, "error": …}. It judges nothing; the test compares.
//
// Arguments: host, port, user, password.
"use strict";

const grpc = require("@grpc/grpc-js");
const { FlightSQLClient } = require("@gizmodata/gizmosql-client");
const { asIs, field, read, report, SERVICE } = require("./wire");

const [host, port, user, password] = process.argv.slice(2);

async function connected(options, work) {
  const client = new FlightSQLClient({ host, port: Number(port), plaintext: true, ...options });
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.close();
  }
}

function rows(table) {
  return table.toArray().map((row) => table.schema.fields.map((field) => row[field.name]));
}

function bare() {
  return new grpc.Client(`${host}:${port}`, grpc.credentials.createInsecure());
}

function basic() {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`);
  return metadata;
}

async function sizes(sql) {
  const client = bare();
  try {
    const url = "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery";
    const command = Buffer.concat([field(1, Buffer.from(url)), field(2, field(1, Buffer.from(sql)))]);
    const descriptor = Buffer.concat([Buffer.from([8, 2]), field(2, command)]);
    const info = await new Promise((resolve, reject) =>
      client.makeUnaryRequest(`${SERVICE}GetFlightInfo`, asIs, asIs, descriptor, basic(), (error, response) =>
        error ? reject(error) : resolve(response),
      ),
    );
    const ticket = read(read(info, 3), 1);
    return await new Promise((resolve, reject) => {
      const found = { messages: 0, bytes: 0, longest: 0 };
      const call = client.makeServerStreamRequest(`${SERVICE}DoGet`, asIs, asIs, ticket, basic());
      call.on("data", (message) => {
        found.messages += 1;
        found.bytes += message.length;
        found.longest = Math.max(found.longest, message.length);
      });
      call.on("error", reject);
      call.on("end", () => resolve(found));
    });
  } finally {
    client.close();
  }
}

async function main() {
  const login = { username: user, password };
  await report("login", () => connected(login, async (client) => rows(await client.execute("SELECT current_user AS who"))));
  await report("wrong password", () =>
    connected({ username: user, password: `${password}x` }, async (client) => rows(await client.execute("SELECT 1 AS one"))),
  );
  await report("select", () =>
    connected(login, async (client) => {
      const sql = "SELECT symbol, bid_price, ask_price, last_price, volume FROM market_data ORDER BY symbol";
      return rows(await client.execute(sql));
    }),
  );
  await report("sum", () =>
    connected(login, async (client) => {
      const table = await client.execute("SELECT range AS n FROM range(200000)");
      let sum = 0n;
      for (const value of table.getChild("n")) sum += value;
      return [table.numRows, sum];
    }),
  );
  await report("schema", () =>
    connected(login, async (client) => {
      const schema = (await client.execute("SELECT * FROM orders LIMIT 1")).schema;
      return schema.fields.map((column) => column.name);
    }),
  );
  await report("tables", () => connected(login, (client) => client.getTables("desk", "main", "market\\_data")));
  await report("bad sql", () => connected(login, (client) => client.execute("SELEC 1")));
  await report("unknown table", () => connected(login, (client) => client.execute("SELECT * FROM no_such_table")));
  const wide = "SELECT range AS n, repeat('quote ', 20) || range AS line FROM range(200000)";
  await report("stock limits", () => sizes(wide));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
