import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;

/**
 * Drives the stock JDBC driver through parameters, changes and transactions; prints lines as {@link Client} does.
 *
 * Arguments: host, port, user, password.
 */
public final class Changes {
    private Changes() {}

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + arguments[0] + ":" + arguments[1] + "/?useEncryption=false";
        Properties login = new Properties();
        login.put("user", arguments[2]);
        login.put("password", arguments[3]);
        try (Connection connection = DriverManager.getConnection(url, login);
                Connection other = DriverManager.getConnection(url, login)) {
            changes(connection);
            parameters(connection);
            transactions(connection, other);
        }
        System.exit(0); // the driver keeps threads that are no daemons
    }

    private static long update(Connection connection, String sql) throws Exception {
        try (Statement statement = connection.createStatement()) {
            return statement.executeLargeUpdate(sql);
        }
    }

    private static void changes(Connection connection) {
        Client.report("create", () -> update(connection,
                "CREATE OR REPLACE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR, price DECIMAL(18,4), t TIMESTAMP)"));
        Client.report("insert", () -> update(connection, "INSERT INTO notes VALUES (1, 'a', 1.5, NULL), (2, 'b', 2, NULL)"));
        Client.report("update", () -> update(connection, "UPDATE notes SET note = 'z' WHERE id = 2"));
        Client.report("execute", () -> {
            try (Statement statement = connection.createStatement()) {
                boolean rows = statement.execute("DELETE FROM notes WHERE id = 1");
                return List.of(rows, statement.getUpdateCount());
            }
        });
        Client.report("returning", () -> Client.query(connection, "INSERT INTO notes (id) VALUES (3) RETURNING id"));
        Client.report("rows", () -> Client.query(connection, "SELECT id, note, price FROM notes ORDER BY id"));
        Client.report("duplicate", () -> update(connection, "INSERT INTO notes (id) VALUES (3)"));
        Client.report("keys", () -> {
            List<Object> names = new ArrayList<>();
            for (Map<String, Object> row : Client.rows(connection.getMetaData().getPrimaryKeys(null, null, "notes"))) {
                names.add(row.get("COLUMN_NAME"));
            }
            return names;
        });
        Client.report("drop", () -> update(connection, "DROP TABLE IF EXISTS nothing_there"));
    }

    private static void parameters(Connection connection) {
        Client.report("types of parameters", () -> {
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO notes VALUES (?, ?, ?, ?)")) {
                ParameterMetaData metadata = statement.getParameterMetaData();
                List<Integer> types = new ArrayList<>();
                for (int i = 1; i <= metadata.getParameterCount(); i++) {
                    types.add(metadata.getParameterType(i));
                }
                return types;
            }
        });
        Client.report("bound insert", () -> {
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO notes VALUES (?, ?, ?, ?)")) {
                statement.setLong(1, 10);
                statement.setNull(2, Types.VARCHAR);
                statement.setBigDecimal(3, new BigDecimal("12345.6789"));
                statement.setTimestamp(4, Timestamp.valueOf("2026-01-02 03:04:05.678"));
                return statement.executeUpdate();
            }
        });
        Client.report("bound row", () -> {
            try (PreparedStatement statement = connection.prepareStatement(
                    "SELECT note IS NULL AS none, price, CAST(t AS VARCHAR) AS t FROM notes WHERE id = ?")) {
                statement.setLong(1, 10);
                return Client.rows(statement.executeQuery());
            }
        });
        Client.report("bound dates", () -> {
            update(connection, "CREATE OR REPLACE TABLE days (d DATE, t TIME, z TIMESTAMPTZ)");
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO days VALUES (?, ?, ?)")) {
                statement.setDate(1, Date.valueOf("2026-07-01"));
                statement.setTime(2, Time.valueOf("03:04:05"));
                statement.setTimestamp(3, Timestamp.valueOf("2026-07-01 03:04:05.678"));
                statement.executeUpdate();
            }
            return Client.query(connection,
                    "SELECT CAST(d AS VARCHAR) AS d, CAST(t AS VARCHAR) AS t, CAST(z AS VARCHAR) AS z FROM days");
        });
        Client.report("batch", () -> {
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO notes (id, note) VALUES (?, ?)")) {
                for (long id = 100; id < 150; id++) {
                    statement.setLong(1, id);
                    statement.setString(2, "n" + id);
                    statement.addBatch();
                }
                return Arrays.stream(statement.executeBatch()).boxed().toList();
            }
        });
        Client.report("after batch", () -> Client.query(connection, "SELECT count(*) AS n FROM notes WHERE id >= 100"));
        Client.report("limit", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM notes ORDER BY id LIMIT ?")) {
                statement.setLong(1, 2);
                return Client.rows(statement.executeQuery());
            }
        });
        Client.report("again", () -> {
            List<Object> found = new ArrayList<>();
            try (PreparedStatement statement = connection.prepareStatement("SELECT note FROM notes WHERE id = ?")) {
                for (long id = 100; id < 103; id++) {
                    statement.setLong(1, id);
                    try (ResultSet set = statement.executeQuery()) {
                        set.next();
                        found.add(set.getString(1));
                    }
                }
            }
            return found;
        });
        Client.report("two result sets", () -> {
            try (Statement one = connection.createStatement(); Statement two = connection.createStatement();
                    ResultSet first = one.executeQuery("SELECT range FROM range(100000)");
                    ResultSet second = two.executeQuery("SELECT range FROM range(100000)")) {
                long count = 0;
                while (first.next() && second.next()) {
                    count++;
                }
                return count;
            }
        });
    }

    private static void transactions(Connection connection, Connection other) {
        Client.report("rollback", () -> {
            update(connection, "BEGIN");
            update(connection, "INSERT INTO notes (id) VALUES (1000)");
            Object inside = Client.query(connection, "SELECT count(*) AS n FROM notes WHERE id = 1000");
            Object outside = Client.query(other, "SELECT count(*) AS n FROM notes WHERE id = 1000");
            update(connection, "ROLLBACK");
            return List.of(inside, outside, Client.query(connection, "SELECT count(*) AS n FROM notes WHERE id = 1000"));
        });
        Client.report("commit", () -> {
            update(connection, "BEGIN");
            update(connection, "INSERT INTO notes (id) VALUES (1000)");
            update(connection, "COMMIT");
            return Client.query(other, "SELECT count(*) AS n FROM notes WHERE id = 1000");
        });
        Client.report("live dataset", () -> update(connection, "UPDATE market_data SET volume = 1"));
    }
}
