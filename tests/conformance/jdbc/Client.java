import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Calendar;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;

/**
 * Drives the stock JDBC driver through every case and prints one JSON line for each: {"case": …, "value": …} or
 * {"case": …, "error": …}. It judges nothing; the test that starts it compares.
 *
 * Arguments: host, port, user, password. The token to log in with is the environment variable FLIGHT_TOKEN.
 */
public final class Client {
    private static final String ENDLESS_ROWS = "SELECT range AS n FROM range(1000000000000)";
    private static final String ENDLESS_WORK = "SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b";

    private static final DateTimeFormatter MICROSECONDS = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSSSSS");

    /** Without a calendar the driver shifts every time by the zone of the machine it runs on. */
    static final Calendar UTC = Calendar.getInstance(TimeZone.getTimeZone("UTC"));

    interface Case {
        Object run() throws Exception;
    }

    private interface Work {
        void run() throws Exception;
    }

    private final String url;
    private final String user;
    private final String password;

    private Client(String host, String port, String user, String password) {
        this.url = "jdbc:arrow-flight-sql://" + host + ":" + port + "/?useEncryption=false";
        this.user = user;
        this.password = password;
    }

    public static void main(String[] arguments) throws Exception {
        Client client = new Client(arguments[0], arguments[1], arguments[2], arguments[3]);
        client.loginCases(System.getenv("FLIGHT_TOKEN"));
        try (Connection connection = client.login(client.user, client.password)) {
            DatabaseMetaData metadata = connection.getMetaData();
            client.browseCases(metadata);
            client.dataCases(connection);
            client.statementCases(connection);
            client.stopCases(connection);
            client.sessionCases();
        }
        System.exit(0); // the driver keeps threads that are no daemons
    }

    private Connection login(String name, String secret) throws SQLException {
        Properties properties = new Properties();
        properties.put("user", name);
        properties.put("password", secret);
        return DriverManager.getConnection(url, properties);
    }

    // ---- the cases --------------------------------------------------------------------------------------------------

    private void loginCases(String token) {
        report("user and password", () -> {
            try (Connection connection = login(user, password)) {
                return query(connection, "SELECT current_user AS who, 1 AS one");
            }
        });
        report("user and password in the url", () -> {
            try (Connection connection = DriverManager.getConnection(url + "&user=" + user + "&password=" + password)) {
                return query(connection, "SELECT current_user AS who");
            }
        });
        report("token", () -> {
            Properties properties = new Properties();
            properties.put("token", token);
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                return query(connection, "SELECT current_user AS who");
            }
        });
        report("token as a password", () -> {
            Properties properties = new Properties();
            properties.put("user", "token");
            properties.put("password", token);
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                return query(connection, "SELECT current_user AS who");
            }
        });
        report("token that is none", () -> {
            Properties properties = new Properties();
            properties.put("token", "not.a.token");
            try (Connection connection = DriverManager.getConnection(url, properties)) {
                return query(connection, "SELECT 1 AS one");
            }
        });
        report("wrong password", () -> {
            try (Connection connection = login(user, password + "x")) {
                return query(connection, "SELECT 1 AS one");
            }
        });
        report("no credentials", () -> {
            try (Connection connection = DriverManager.getConnection(url)) {
                return query(connection, "SELECT 1 AS one");
            }
        });
    }

    /** What DBeaver asks while its tree is opened node by node. */
    private void browseCases(DatabaseMetaData metadata) throws SQLException {
        String escape = metadata.getSearchStringEscape();
        String quotes = "market" + escape + "_data";
        report("escape", () -> escape);
        report("catalogs", () -> rows(metadata.getCatalogs()));
        report("schemas", () -> rows(metadata.getSchemas("desk", "%")));
        report("schemas of no catalog", () -> rows(metadata.getSchemas("nope", "%")));
        report("table types", () -> rows(metadata.getTableTypes()));
        report("tables", () -> rows(metadata.getTables("desk", "main", "%", null)));
        report("tables escaped", () -> rows(metadata.getTables("desk", "main", quotes, null)));
        report("tables with wildcard", () -> rows(metadata.getTables(null, null, "market_dat_", null)));
        report("tables of a type", () -> rows(metadata.getTables("desk", "main", "%", new String[] {"NO SUCH TYPE"})));
        for (String table : new String[] {"market_data", "positions", "orders"}) {
            String name = table.replace("_", escape + "_");
            report("columns of " + table, () -> rows(metadata.getColumns("desk", "main", name, "%")));
        }
        report("columns by pattern", () -> rows(metadata.getColumns("desk", "main", quotes, "%_price")));
        report("primary keys", () -> rows(metadata.getPrimaryKeys("desk", "main", "positions")));
        report("primary keys by table alone", () -> rows(metadata.getPrimaryKeys(null, null, "market_data")));
        report("primary keys of %", () -> rows(metadata.getPrimaryKeys("desk", "main", "%")));
        report("type info", () -> rows(metadata.getTypeInfo()));
        report("index info", () -> rows(metadata.getIndexInfo("desk", "main", "orders", false, true)));
        report("imported keys", () -> rows(metadata.getImportedKeys("desk", "main", "orders")));
        report("exported keys", () -> rows(metadata.getExportedKeys("desk", "main", "orders")));
        report("cross reference", () ->
            rows(metadata.getCrossReference("desk", "main", "orders", "desk", "main", "positions")));
        report("metadata methods", () -> askEverything(metadata));
    }

    private void dataCases(Connection connection) {
        report("market_data", () -> table(connection, "SELECT * FROM \"desk\".\"main\".\"market_data\" ORDER BY symbol"));
        report("positions", () ->
            table(connection, "SELECT * FROM \"desk\".\"main\".\"positions\" ORDER BY account, symbol"));
        report("orders", () -> table(connection, "SELECT * FROM \"desk\".\"main\".\"orders\" ORDER BY order_id"));
        report("other types", () -> table(connection,
            "SELECT NULL AS nothing, TRUE AS yes, CAST(-7 AS TINYINT) AS tiny, CAST(1.5 AS REAL) AS half,"
            + " DATE '2026-01-05' AS day, CAST(12345678901234567890.123456789 AS DECIMAL(38, 9)) AS wide,"
            + " TIMESTAMP '2026-01-05 14:30:00.123456' AS plain_time, 'Zürich ✓' AS text"));
        report("times", () -> {
            try (Statement statement = connection.createStatement();
                    ResultSet set = statement.executeQuery("SELECT TIMESTAMPTZ '2026-01-05 14:30:00.5+00' AS t")) {
                set.next();
                return List.of(set.getTimestamp(1, UTC), set.getObject(1, LocalDateTime.class), set.getString(1));
            }
        });
        report("nested", () -> table(connection,
            "SELECT [1, 2, NULL] AS list, {'a': 1, 'b': 'x'} AS struct, [{'a': 1}] AS both, CAST(NULL AS INTEGER[]) AS none"));
        report("uuid", () -> table(connection, "SELECT CAST('123e4567-e89b-12d3-a456-426614174000' AS UUID) AS u"));
        report("enum", () -> table(connection, "SELECT CAST('buy' AS ENUM('buy', 'sell')) AS side"));
        report("empty", () -> {
            try (Statement statement = connection.createStatement();
                    ResultSet set = statement.executeQuery("SELECT symbol FROM market_data WHERE FALSE")) {
                return set.next();
            }
        });
        report("million", () -> {
            long count = 0;
            long sum = 0;
            try (Statement statement = connection.createStatement();
                    ResultSet set = statement.executeQuery("SELECT range AS n FROM range(1000000)")) {
                while (set.next()) {
                    count++;
                    sum += set.getLong(1);
                }
            }
            return List.of(count, sum);
        });
    }

    private void statementCases(Connection connection) {
        report("select 1", () -> query(connection, "SELECT 1"));
        report("prepared twice", () -> {
            List<Object> found = new ArrayList<>();
            try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) AS n FROM market_data")) {
                found.add(statement.getMetaData().getColumnName(1));
                found.add(statement.getParameterMetaData().getParameterCount());
                found.add(rows(statement.executeQuery()));
                found.add(rows(statement.executeQuery()));
            }
            return found;
        });
        report("two result sets", () -> {
            long left = 0;
            long right = 0;
            try (Statement one = connection.createStatement();
                    Statement two = connection.createStatement();
                    ResultSet first = one.executeQuery("SELECT range AS n FROM range(200000)");
                    ResultSet second = two.executeQuery("SELECT range + 1 AS n FROM range(200000)")) {
                while (first.next() & second.next()) {
                    left += first.getLong("n");
                    right += second.getLong("n");
                }
            }
            return List.of(left, right);
        });
        report("execute tells a query from an update", () -> {
            List<Object> found = new ArrayList<>();
            try (Statement statement = connection.createStatement()) {
                for (String sql : new String[] {
                    "/* first */ SELECT 1", "WITH t AS (SELECT 1) SELECT * FROM t", "VALUES (1)", "SHOW TABLES",
                    "DESCRIBE market_data", "USE main"}) {
                    found.add(statement.execute(sql));
                }
            }
            return found;
        });
        report("bad sql", () -> query(connection, "SELEC 1"));
        report("unknown table", () -> query(connection, "SELECT * FROM no_such_table"));
        report("unknown column", () -> query(connection, "SELECT no_such_column FROM market_data"));
        report("error in the stream", () -> query(connection, "SELECT CAST(symbol AS INTEGER) AS n FROM market_data"));
        report("insert", () -> {
            try (Statement statement = connection.createStatement()) {
                return statement.executeUpdate("INSERT INTO market_data (symbol) VALUES ('X')");
            }
        });
        report("after errors", () -> query(connection, "SELECT 1 AS one"));
    }

    private void stopCases(Connection connection) {
        report("cancel while rows come", () -> {
            try (Statement statement = connection.createStatement()) {
                ResultSet set = statement.executeQuery(ENDLESS_ROWS);
                return stopped(statement, () -> {
                    while (set.next()) {
                        set.getLong(1);
                    }
                });
            }
        });
        report("after cancel", () -> query(connection, "SELECT 2 AS two"));
        report("cancel before rows come", () -> {
            try (Statement statement = connection.createStatement()) {
                return stopped(statement, () -> statement.executeQuery(ENDLESS_WORK).next());
            }
        });
        report("time-out", () -> {
            long started = System.nanoTime();
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                try (ResultSet set = statement.executeQuery(ENDLESS_WORK)) {
                    return List.of("row", set.next());
                } catch (SQLException error) {
                    return List.of(error.getClass().getSimpleName(), seconds(started));
                }
            }
        });
        report("closing an unread result", () -> {
            long started = System.nanoTime();
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery(ENDLESS_ROWS).next();
            }
            return seconds(started);
        });
        report("after time-out", () -> query(connection, "SELECT 3 AS three"));
    }

    private void sessionCases() throws SQLException {
        report("use", () -> {
            try (Connection connection = login(user, password); Statement statement = connection.createStatement()) {
                int count = statement.executeUpdate("USE main");
                return List.of(count, query(connection, "SELECT current_schema() AS s"));
            }
        });
        report("update that is a query", () -> {
            Connection connection = login(user, password); // never closed: the driver has lost the rows, and would fail
            try (Statement statement = connection.createStatement()) {
                int count = statement.executeUpdate("SELECT 1 AS one");
                return List.of(count, query(connection, "SELECT 2 AS two"));
            }
        });
        report("set catalog", () -> {
            try (Connection connection = login(user, password)) {
                connection.setCatalog("desk");
                return query(connection, "SELECT current_catalog AS c");
            }
        });
        report("set unknown catalog", () -> {
            try (Connection connection = login(user, password)) {
                connection.setCatalog("nope");
                return query(connection, "SELECT current_catalog AS c");
            }
        });
        report("catalog in the url", () -> {
            Connection connection = DriverManager.getConnection(url + "&user=" + user + "&password=" + password + "&catalog=desk");
            Object found = query(connection, "SELECT count(*) AS n FROM market_data");
            try {
                connection.close();
            } catch (SQLException error) {
                return List.of(found, String.valueOf(error.getMessage())); // the driver closes its session twice
            }
            return List.of(found, "closed");
        });
        report("unknown catalog in the url", () -> {
            String wrong = url + "&user=" + user + "&password=" + password + "&catalog=nope";
            try (Connection connection = DriverManager.getConnection(wrong)) {
                return query(connection, "SELECT 1 AS one");
            }
        });
    }

    // ---- what the cases share -----------------------------------------------------------------------------------------

    /** Runs the work on a thread of its own, cancels the statement, and tells how the work ended and how soon. */
    private static Object stopped(Statement statement, Work work) throws Exception {
        String[] end = {"went on"};
        Thread thread = new Thread(() -> {
            try {
                work.run();
                end[0] = "ended";
            } catch (Exception error) {
                end[0] = "stopped";
            }
        });
        thread.setDaemon(true);
        thread.start();
        Thread.sleep(500);
        long started = System.nanoTime();
        statement.cancel();
        thread.join(20_000);
        return List.of(end[0], seconds(started));
    }

    private static double seconds(long started) {
        return (System.nanoTime() - started) / 1e9;
    }

    /** Calls each method of DatabaseMetaData that takes nothing; gives how many there are and which failed. */
    private static Object askEverything(DatabaseMetaData metadata) throws Exception {
        Method[] methods = DatabaseMetaData.class.getMethods();
        Arrays.sort(methods, Comparator.comparing(Method::getName));
        Map<String, Object> answers = new LinkedHashMap<>();
        Map<String, Object> failures = new LinkedHashMap<>();
        for (Method method : methods) {
            if (method.getParameterCount() > 0) {
                continue;
            }
            try {
                Object answer = method.invoke(metadata);
                if (answer instanceof ResultSet set) {
                    answer = rows(set).size();
                } else if (answer instanceof Connection) {
                    answer = "connection";
                }
                answers.put(method.getName(), answer);
            } catch (InvocationTargetException error) {
                failures.put(method.getName(), String.valueOf(error.getCause()));
            }
        }
        return Map.of("answers", answers, "failures", failures);
    }

    static List<Map<String, Object>> query(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    /** The rows by column name; closes the set. */
    static List<Map<String, Object>> rows(ResultSet set) throws SQLException {
        List<Map<String, Object>> found = new ArrayList<>();
        try (set) {
            ResultSetMetaData columns = set.getMetaData();
            while (set.next()) {
                Map<String, Object> row = new LinkedHashMap<>();
                for (int i = 1; i <= columns.getColumnCount(); i++) {
                    row.put(columns.getColumnLabel(i), set.getObject(i));
                }
                found.add(row);
            }
        }
        return found;
    }

    /** Column names, JDBC type names and rows. */
    private static Object table(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet set = statement.executeQuery(sql)) {
            ResultSetMetaData columns = set.getMetaData();
            List<Object> names = new ArrayList<>();
            List<Object> types = new ArrayList<>();
            for (int i = 1; i <= columns.getColumnCount(); i++) {
                names.add(columns.getColumnName(i));
                types.add(columns.getColumnType(i));
            }
            List<Object> found = new ArrayList<>();
            while (set.next()) {
                List<Object> row = new ArrayList<>();
                for (int i = 1; i <= names.size(); i++) {
                    boolean time = types.get(i - 1).equals(Types.TIMESTAMP);
                    Object value = time ? set.getTimestamp(i, UTC) : set.getObject(i);
                    row.add(set.wasNull() ? null : value);
                }
                found.add(row);
            }
            return Map.of("names", names, "types", types, "rows", found);
        }
    }

    static void report(String name, Case body) {
        StringBuilder line = new StringBuilder("{\"case\":");
        write(line, name);
        try {
            StringBuilder value = new StringBuilder();
            write(value, body.run());
            line.append(",\"value\":").append(value);
        } catch (Throwable error) {
            StringBuilder text = new StringBuilder();
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                text.append(cause).append('\n');
            }
            line.append(",\"error\":");
            write(line, text.toString());
        }
        System.out.println(line.append('}'));
    }

    // ---- JSON ---------------------------------------------------------------------------------------------------------

    private static void write(StringBuilder out, Object value) {
        if (value == null || value instanceof Boolean || value instanceof Long || value instanceof Integer
                || value instanceof Short || value instanceof Byte || value instanceof Double || value instanceof Float) {
            out.append(value);
        } else if (value instanceof BigDecimal decimal) {
            write(out, decimal.toPlainString());
        } else if (value instanceof Timestamp time) {
            write(out, time.toLocalDateTime());
        } else if (value instanceof LocalDateTime time) {
            write(out, MICROSECONDS.format(time));
        } else if (value instanceof Date day) {
            write(out, day.toLocalDate().toString());
        } else if (value instanceof Map<?, ?> map) {
            char before = '{';
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                out.append(before);
                write(out, String.valueOf(entry.getKey()));
                out.append(':');
                write(out, entry.getValue());
                before = ',';
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof Collection<?> items) {
            char before = '[';
            for (Object item : items) {
                out.append(before);
                write(out, item);
                before = ',';
            }
            out.append(items.isEmpty() ? "[]" : "]");
        } else {
            writeText(out, value.toString());
        }
    }

    private static void writeText(StringBuilder out, String text) {
        out.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
