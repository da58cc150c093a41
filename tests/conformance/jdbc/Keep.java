import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;

/**
 * Keeps three connections for as long as it is told to: one by user and password, one by the property {@code token},
 * one by a token in the place of a password. Each line on standard input is the name of a round: every connection is
 * asked for its user, and "done" is printed. Prints lines as {@link Client} does.
 *
 * Arguments: host, port, user, password. The token is the environment variable FLIGHT_TOKEN.
 */
public final class Keep {
    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + arguments[0] + ":" + arguments[1] + "/?useEncryption=false";
        String token = System.getenv("FLIGHT_TOKEN");
        Map<String, Connection> kept = new LinkedHashMap<>();
        kept.put("password", DriverManager.getConnection(url, login(arguments[2], arguments[3])));
        kept.put("token", DriverManager.getConnection(url + "&token=" + token, new Properties()));
        kept.put("token as password", DriverManager.getConnection(url, login("token", token)));
        BufferedReader rounds = new BufferedReader(new InputStreamReader(System.in));
        for (String round = rounds.readLine(); round != null; round = rounds.readLine()) {
            String name = round;
            kept.forEach((how, connection) -> {
                Client.report(name + ", " + how, () -> Client.query(connection, "SELECT current_user AS name"));
                Client.report(name + ", " + how + ", valid", () -> connection.isValid(5));
            });
            System.out.println("done");
        }
        System.exit(0); // the driver keeps threads that are no daemons
    }

    private static Properties login(String user, String password) {
        Properties properties = new Properties();
        properties.put("user", user);
        properties.put("password", password);
        return properties;
    }
}
