import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Keeps a pool of connections with prepared statements over a restart of the server: prints "ready", waits for a line
 * on standard input, and goes on with the same connections. Prints lines as {@link Client} does.
 *
 * Arguments: host, port, user, password.
 */
public final class Pool {
    private static final int SIZE = 3;
    private static final String NOTE = "SELECT note FROM notes WHERE id = ?";

    private final HikariDataSource pool;
    private final List<Connection> held = new ArrayList<>();
    private final List<PreparedStatement> prepared = new ArrayList<>();

    private Pool(HikariDataSource pool) {
        this.pool = pool;
    }

    public static void main(String[] arguments) throws Exception {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:arrow-flight-sql://" + arguments[0] + ":" + arguments[1] + "/?useEncryption=false");
        config.setUsername(arguments[2]);
        config.setPassword(arguments[3]);
        config.setMaximumPoolSize(SIZE);
        try (HikariDataSource source = new HikariDataSource(config)) {
            Pool pool = new Pool(source);
            pool.before();
            System.out.println("ready");
            new BufferedReader(new InputStreamReader(System.in)).readLine();
            pool.after();
        }
        System.exit(0); // the driver keeps threads that are no daemons
    }

    private void before() throws Exception {
        for (int i = 0; i < SIZE; i++) {
            held.add(pool.getConnection());
        }
        try (Statement statement = held.get(0).createStatement()) {
            statement.executeUpdate("CREATE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR)");
            statement.executeUpdate("INSERT INTO notes VALUES (0, 'a'), (1, 'b'), (2, 'c')");
        }
        for (int i = 0; i < SIZE; i++) {
            int id = i;
            try (Statement statement = held.get(i).createStatement()) {
                statement.execute("USE u_maker");
            }
            prepared.add(held.get(i).prepareStatement(NOTE));
            Client.report("before " + i, () -> note(prepared.get(id), id));
        }
    }

    private void after() throws Exception {
        for (Connection connection : held) {
            reach(connection);
        }
        for (int i = 0; i < SIZE; i++) {
            int id = i;
            Connection connection = held.get(i);
            Client.report("schema " + i, () -> Client.query(connection, "SELECT current_schema() AS s"));
            Client.report("old handle " + i, () -> note(prepared.get(id), id));
            Client.report("new handle " + i, () -> {
                try (PreparedStatement statement = connection.prepareStatement(NOTE)) {
                    return note(statement, id);
                }
            });
            Client.report("change " + i, () -> {
                try (PreparedStatement statement = connection.prepareStatement("UPDATE notes SET note = ? WHERE id = ?")) {
                    statement.setString(1, "z" + id);
                    statement.setLong(2, id);
                    return statement.executeUpdate();
                }
            });
            Client.report("valid " + i, () -> connection.isValid(5));
        }
        Client.report("given back", () -> {
            for (Connection connection : held) {
                connection.close(); // the pool closes what was left open with it: the statements of before
            }
            return held.size();
        });
        Client.report("borrowed again", this::borrowed);
    }

    /** Every connection of the pool at once, each asked for its own row. */
    private List<Object> borrowed() throws Exception {
        List<Object> found = new ArrayList<>();
        List<Connection> taken = new ArrayList<>();
        for (int i = 0; i < SIZE; i++) {
            taken.add(pool.getConnection());
        }
        for (int i = 0; i < SIZE; i++) {
            List<Map<String, Object>> rows = Client.query(taken.get(i), "SELECT note, current_schema() AS s FROM notes WHERE id = " + i);
            found.addAll(rows);
        }
        for (Connection connection : taken) {
            connection.close();
        }
        return found;
    }

    private static Object note(PreparedStatement statement, long id) throws SQLException {
        statement.setLong(1, id);
        return Client.rows(statement.executeQuery());
    }

    /** The channel of a connection waits a little before it tries again. */
    private static void reach(Connection connection) throws Exception {
        long until = System.nanoTime() + 30_000_000_000L;
        while (true) {
            try {
                Client.query(connection, "SELECT 1 AS one");
                return;
            } catch (SQLException error) {
                if (!String.valueOf(error.getMessage()).contains("UNAVAILABLE") || System.nanoTime() > until) {
                    throw error;
                }
                Thread.sleep(200);
            }
        }
    }
}
