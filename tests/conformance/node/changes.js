// Changes through one of several npm Flight SQL clients, which send them as queries: GetFlightInfo, then DoGet. All run
// the same cases, each on a table of its own and in a process of its own, since some share global names. Lines are
// printed as client.js does.
//
// Arguments: host, port, user, password, client.
"use strict";

const { report } = require("./wire");

const [host, port, user, password, name] = process.argv.slice(2);

async function connected({ FlightSQLClient }, secret) {
  const client = new FlightSQLClient({ host, port: Number(port), plaintext: true, username: user, password: secret });
  try {
    await client.connect();
  } catch (error) {
    throw error.originalError ?? error;
  }
  const ask = async (sql) => {
    const table = await client.execute(sql);
    return table.toArray().map((row) => table.schema.fields.map((column) => row[column.name]));
  };
  return { ask, close: () => client.close() };
}

// Each client as the same two calls: ask(sql) gives the rows as lists, close() ends it.
const CLIENTS = {
  // Keeps the token of its handshake.
  gizmodata: (secret) => connected(require("@gizmodata/gizmosql-client"), secret),
  // Goes on sending user and password with every call.
  firetiger: (secret) => connected(require("@firetiger-oss/flight-sql-client"), secret),
  async lancedb(secret) {
    const { Client } = require("@lancedb/arrow-flight-sql-client");
    const client = await Client.connect({ host: `${host}:${port}`, username: user, password: secret, insecure: true });
    const ask = async (sql) => (await (await client.query(sql)).collectToObjects()).map((row) => Object.values(row.toJSON()));
    return { ask, close: () => {} };
  },
};

async function changes(ask) {
  const table = `notes_${name}`;
  const held = () => ask(`SELECT id, note, CAST(price AS VARCHAR) FROM ${table} ORDER BY id`);
  // What the change answered, and what the table holds then. It has no key: a row put in twice would be there twice.
  const changed = (what, sql) => report(what, async () => ({ answer: await ask(sql), held: await held() }));

  await changed("create", `CREATE TABLE ${table} (id BIGINT, note VARCHAR, price DECIMAL(18, 4))`);
  await changed("insert", `INSERT INTO ${table} VALUES (1, 'a', 1.5), (2, NULL, 2.25), (3, 'c', NULL)`);
  await changed("update", `UPDATE ${table} SET note = 'z' WHERE id >= 2`);
  await changed("delete", `DELETE FROM ${table} WHERE id = 1`);
  await changed("returning", `INSERT INTO ${table} VALUES (4, 'd', 0) RETURNING id, note`);
  await report("rollback", async () => {
    for (const sql of ["BEGIN", `DELETE FROM ${table}`, "ROLLBACK"]) await ask(sql);
    return held();
  });
  await report("not granted", () => ask("INSERT INTO market_data (symbol, timestamp) VALUES ('X', now())"));
  await report("after an error", held);
  await report("many", async () => {
    await ask(`CREATE TABLE many_${name} (id BIGINT)`);
    for (let id = 0; id < 50; id += 1) await ask(`INSERT INTO many_${name} VALUES (${id})`);
    return ask(`SELECT count(*) AS n, count(DISTINCT id) AS ids FROM many_${name}`);
  });
}

async function main() {
  await report("wrong password", () => CLIENTS[name](`${password}x`));
  const { ask, close } = await CLIENTS[name](password);
  try {
    await changes(ask);
  } finally {
    await close();
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
