import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;

/**
 * Does to a user's own tables what a database browser does: opens its tree, shows a table, edits cells, saves, looks at
 * a view. Prints lines as {@link Client} does.
 *
 * Arguments: host, port, user, password.
 */
public final class Browser {
    private static final String TABLE = "\"desk\".\"u_maker\".\"trade_notes\"";

    private final Connection connection;
    private final DatabaseMetaData metadata;

    private Browser(Connection connection) throws SQLException {
        this.connection = connection;
        this.metadata = connection.getMetaData();
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + arguments[0] + ":" + arguments[1] + "/?useEncryption=false";
        Properties login = new Properties();
        login.put("user", arguments[2]);
        login.put("password", arguments[3]);
        Connection connection = DriverManager.getConnection(url, login);
        Browser browser = new Browser(connection);
        browser.setUp();
        browser.tree();
        browser.keys();
        browser.edits();
        browser.decimals();
        browser.batches();
        browser.connection();
        Client.report("close", () -> {
            connection.close(); // the driver has lost memory to the values that it refused, and says so
            return "closed";
        });
        System.exit(0); // the driver keeps threads that are no daemons
    }

    private int update(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    private void setUp() {
        Client.report("set up", () -> {
            List<Object> counts = new ArrayList<>();
            for (String sql : new String[] {
                "CREATE TABLE trade_notes (account VARCHAR, id BIGINT, note VARCHAR, price DECIMAL(18,4) NOT NULL DEFAULT 1,"
                    + " paid BOOLEAN, PRIMARY KEY (account, id))",
                "CREATE TABLE \"trade%notes\" (\"a_b\" INTEGER, \"aXb\" INTEGER)",
                "CREATE TABLE \"tradeXnotes\" (a INTEGER)",
                "CREATE VIEW cheap AS SELECT account, id, price * 2 AS twice FROM trade_notes WHERE price < 100",
                "INSERT INTO trade_notes VALUES ('A', 1, 'one', 1.5, TRUE), ('A', 2, NULL, 250.25, FALSE)"}) {
                counts.add(update(sql));
            }
            return counts;
        });
    }

    private void tree() throws SQLException {
        String escape = metadata.getSearchStringEscape();
        String schema = "u" + escape + "_maker";
        Client.report("schemas", () -> Client.rows(metadata.getSchemas("desk", schema)));
        Client.report("tables", () -> Client.rows(metadata.getTables("desk", schema, "%", null)));
        Client.report("views", () -> Client.rows(metadata.getTables("desk", schema, "%", new String[] {"VIEW"})));
        Client.report("tables alone", () -> Client.rows(metadata.getTables("desk", schema, "%", new String[] {"TABLE"})));
        Client.report("table escaped", () ->
            Client.rows(metadata.getTables("desk", schema, "trade" + escape + "_notes", null)));
        Client.report("percent escaped", () ->
            Client.rows(metadata.getTables("desk", schema, "trade" + escape + "%notes", null)));
        Client.report("tables of anything", () -> Client.rows(metadata.getTables(null, null, null, null)));
        Client.report("columns of anything", () -> Client.rows(metadata.getColumns(null, null, null, null)).size());
        Client.report("columns", () ->
            Client.rows(metadata.getColumns("desk", schema, "trade" + escape + "_notes", "%")));
        Client.report("columns of the view", () -> Client.rows(metadata.getColumns("desk", schema, "cheap", "%")));
        Client.report("sizes", () -> {
            String sql = "SELECT price, sum(price) AS sum, id FROM " + TABLE + " GROUP BY ALL";
            try (Statement statement = connection.createStatement(); ResultSet set = statement.executeQuery(sql)) {
                ResultSetMetaData columns = set.getMetaData();
                List<Object> found = new ArrayList<>();
                for (int i = 1; i <= columns.getColumnCount(); i++) {
                    found.add(List.of(columns.getColumnLabel(i), columns.getPrecision(i), columns.getScale(i)));
                }
                return found;
            }
        });
        Client.report("view", () -> Client.query(connection, "SELECT * FROM \"desk\".\"u_maker\".\"cheap\""));
    }

    private void keys() {
        Client.report("primary keys", () -> Client.rows(metadata.getPrimaryKeys("desk", "u_maker", "trade_notes")));
        Client.report("primary keys of %", () -> Client.rows(metadata.getPrimaryKeys("desk", "u_maker", "%")));
        Client.report("primary keys of the view", () -> Client.rows(metadata.getPrimaryKeys("desk", "u_maker", "cheap")));
        Client.report("foreign key", () -> List.of(
            update("CREATE TABLE accounts (name VARCHAR PRIMARY KEY)"),
            update("CREATE TABLE replies (id BIGINT, account VARCHAR REFERENCES accounts (name))")));
        Client.report("imported keys", () -> Client.rows(metadata.getImportedKeys("desk", "u_maker", "replies")));
        Client.report("imported keys of %", () -> Client.rows(metadata.getImportedKeys("desk", "u_maker", "%")));
        Client.report("exported keys", () -> Client.rows(metadata.getExportedKeys("desk", "u_maker", "accounts")));
        Client.report("exported keys of %", () -> Client.rows(metadata.getExportedKeys("desk", "u_maker", "%")));
        Client.report("cross reference", () ->
            Client.rows(metadata.getCrossReference("desk", "u_maker", "accounts", "desk", "u_maker", "replies")));
    }

    /** A cell, a new row, a row that goes: each found by its key, each one change. */
    private void edits() {
        String key = " WHERE \"account\" = ? AND \"id\" = ?";
        Client.report("edit text", () -> edit("UPDATE " + TABLE + " SET \"note\" = ?" + key, "zwei", "A", 2L));
        Client.report("edit to null", () -> edit("UPDATE " + TABLE + " SET \"note\" = ?" + key, null, "A", 1L));
        Client.report("edit truth", () -> edit("UPDATE " + TABLE + " SET \"paid\" = ?" + key, true, "A", 2L));
        Client.report("edit nothing", () -> edit("UPDATE " + TABLE + " SET \"note\" = ?" + key, "x", "A", 99L));
        Client.report("new row", () ->
            edit("INSERT INTO " + TABLE + " (\"account\", \"id\", \"note\") VALUES (?, ?, ?)", "B", 3L, "drei"));
        Client.report("same key", () -> edit("INSERT INTO " + TABLE + " (\"account\", \"id\") VALUES (?, ?)", "B", 3L));
        Client.report("gone row", () -> edit("DELETE FROM " + TABLE + key, "A", 2L));
        Client.report("after edits", () -> Client.query(connection, "SELECT * FROM " + TABLE + " ORDER BY id"));
        Client.report("execute", () -> {
            try (Statement statement = connection.createStatement()) {
                List<Object> found = new ArrayList<>();
                found.add(statement.execute("UPDATE " + TABLE + " SET note = 'x'"));
                found.add(statement.getUpdateCount());
                found.add(statement.execute("SELECT note FROM " + TABLE));
                found.add(statement.getUpdateCount());
                found.add(statement.execute("UPDATE " + TABLE + " SET note = NULL WHERE FALSE"));
                found.add(statement.getUpdateCount());
                return found;
            }
        });
    }

    private int edit(String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) {
                statement.setObject(i + 1, values[i]);
            }
            return statement.executeUpdate();
        }
    }

    private interface Setter {
        void set(PreparedStatement statement) throws SQLException;
    }

    /** A decimal cell, edited in each way there is; the connection must live on whatever the driver makes of it. */
    private void decimals() {
        decimal("exact scale", statement -> statement.setBigDecimal(1, new BigDecimal("12345.6789")));
        decimal("smaller scale", statement -> statement.setBigDecimal(1, new BigDecimal("2.5")));
        decimal("no scale", statement -> statement.setBigDecimal(1, new BigDecimal("7")));
        decimal("larger scale", statement -> statement.setBigDecimal(1, new BigDecimal("1.23456")));
        decimal("too large", statement -> statement.setBigDecimal(1, new BigDecimal("123456789012345678.1234")));
        decimal("object", statement -> statement.setObject(1, new BigDecimal("3.2500")));
        decimal("text", statement -> statement.setString(1, "4.75"));
        decimal("double", statement -> statement.setDouble(1, 5.5));
        decimal("whole number", statement -> statement.setLong(1, 6));
    }

    private void decimal(String name, Setter setter) {
        Client.report("decimal, " + name, () -> {
            try (PreparedStatement statement = connection.prepareStatement("UPDATE " + TABLE + " SET price = ? WHERE id = 1")) {
                setter.set(statement);
                return statement.executeUpdate();
            }
        });
        Client.report("after decimal, " + name, () -> Client.query(connection, "SELECT price FROM " + TABLE + " WHERE id = 1"));
    }

    private void batches() {
        Client.report("batch with a double key", () -> {
            String sql = "INSERT INTO " + TABLE + " (account, id) VALUES (?, ?)";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                for (long id : new long[] {1, 2, 1}) {
                    statement.setString(1, "D");
                    statement.setLong(2, id);
                    statement.addBatch();
                }
                return Arrays.stream(statement.executeBatch()).boxed().toList();
            }
        });
        Client.report("after batch with a double key", () ->
            Client.query(connection, "SELECT count(*) AS n FROM " + TABLE + " WHERE account = 'D'"));
    }

    private void connection() {
        Client.report("user name", () -> metadata.getUserName());
        Client.report("read only", () -> metadata.isReadOnly());
        Client.report("valid", () -> connection.isValid(5));
        Client.report("commit mode", () -> {
            connection.setAutoCommit(true);
            return connection.getAutoCommit();
        });
        Client.report("what pools set", () -> {
            connection.setReadOnly(false);
            connection.setHoldability(connection.getHoldability());
            connection.setTransactionIsolation(connection.getTransactionIsolation());
            connection.clearWarnings();
            return connection.getWarnings() == null;
        });
        Client.report("rollback of the driver's own", () -> {
            connection.setAutoCommit(false);
            update("INSERT INTO " + TABLE + " (account, id) VALUES ('R', 1)");
            connection.rollback();
            connection.setAutoCommit(true);
            return Client.query(connection, "SELECT count(*) AS n FROM " + TABLE + " WHERE account = 'R'");
        });
        Client.report("set schema", () -> {
            connection.setSchema("u_maker");
            return Client.query(connection, "SELECT 1 AS one");
        });
        Client.report("who", () -> Client.query(connection, "SELECT current_user AS who"));
    }
}
