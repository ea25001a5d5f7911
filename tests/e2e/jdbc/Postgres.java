// What the tests ask of pgjdbc: statements, typed values sent and read in both formats, reading in parts, time-outs.

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.Arrays;

public class Postgres {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            types(connection);
            // In the simple mode they are literals of the query.
            if (!arguments[0].contains("preferQueryMode=simple")) {
                moments(connection);
            }
            parts(connection);
            timeouts(connection);
            System.out.println("done");
        }
    }

    private static void same(Object got, Object expect) {
        if (!expect.equals(got)) {
            throw new AssertionError(got + " is not " + expect);
        }
    }

    private static void types(Connection connection) throws SQLException {
        String sql = "SELECT CAST(? AS BIGINT) + 1, CAST(? AS DOUBLE), CAST(? AS DECIMAL(10, 3)), CAST(? AS STRING), "
            + "CAST(? AS TIMESTAMP), CAST(? AS BOOLEAN), CAST(? AS DATE), make_array(1, 2), 'ü'";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            // The driver changes to the binary format and to a prepared statement after the first runs.
            for (int run = 0; run < 8; run++) {
                statement.setLong(1, 41);
                statement.setDouble(2, 1.5);
                statement.setBigDecimal(3, new BigDecimal("-12.125"));
                statement.setString(4, "x");
                statement.setTimestamp(5, Timestamp.valueOf("2026-01-01 00:00:00.25"));
                statement.setBoolean(6, true);
                statement.setObject(7, LocalDate.of(2026, 1, 31));
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(rows.getLong(1), 42L);
                    same(rows.getDouble(2), 1.5);
                    same(rows.getBigDecimal(3), new BigDecimal("-12.125"));
                    same(rows.getString(4), "x");
                    same(rows.getObject(5, LocalDateTime.class), LocalDateTime.of(2026, 1, 1, 0, 0, 0, 250_000_000));
                    same(rows.getBoolean(6), true);
                    same(rows.getObject(7, LocalDate.class), LocalDate.of(2026, 1, 31));
                    same(Arrays.asList((Object[]) rows.getArray(8).getArray()), Arrays.asList(1L, 2L));
                    same(rows.getString(9), "ü");
                }
            }
        }
    }

    // The driver sends times and dates as texts of no type, with the offset of its own zone.
    private static void moments(Connection connection) throws SQLException {
        String sql = "SELECT count(*) FROM (VALUES (TIMESTAMP '2026-01-31 10:00:00', DATE '2026-01-31', "
            + "CAST('1.01' AS DECIMAL(10, 2)))) AS t (at, day, amount) WHERE at = ? AND day = ? AND amount > ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int run = 0; run < 8; run++) {
                statement.setTimestamp(1, Timestamp.valueOf("2026-01-31 10:00:00"));
                statement.setDate(2, Date.valueOf("2026-01-31"));
                statement.setBigDecimal(3, new BigDecimal("1.005"));
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(rows.getLong(1), 1L);
                }
            }
        }
    }

    private static void parts(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(300);
            long sum = 0;
            try (ResultSet rows = statement.executeQuery("SELECT value FROM generate_series(1, 5000)")) {
                while (rows.next()) {
                    sum += rows.getLong(1);
                }
            }
            same(sum, 12_502_500L);
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    private static void timeouts(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            try {
                statement.executeQuery("SELECT max(sin(value)) FROM generate_series(1, 4000000000)");
                throw new AssertionError("the query ended");
            } catch (SQLException error) {
                same(error.getSQLState(), "57014");
            }
            statement.setQueryTimeout(0);
            try {
                statement.executeQuery("SELECT * FROM nowhere");
                throw new AssertionError("the table exists");
            } catch (SQLException error) {
                same(error.getSQLState(), "42P01");
            }
        }
    }
}
