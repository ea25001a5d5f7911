// What the tests ask of the Flight SQL JDBC driver: each argument after the URL is one step, and each step prints lines.

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.List;

public class FlightSql {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            for (int i = 1; i < arguments.length; i++) {
                System.out.println("> " + arguments[i].split("\n", 2)[0]);
                try {
                    step(connection, arguments[i]);
                } catch (SQLException | RuntimeException error) {
                    System.out.println("error: " + messages(error));
                }
            }
        }
    }

    private static void step(Connection connection, String step) throws Exception {
        String[] parts = step.split("\n");
        switch (parts[0]) {
            case "query" -> {
                try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(parts[1])) {
                    show(rows);
                }
            }
            case "update" -> {
                try (Statement statement = connection.createStatement()) {
                    System.out.println("updated " + statement.executeUpdate(parts[1]));
                }
            }
            case "prepared" -> prepared(connection, parts);
            case "metadata" -> metadata(connection.getMetaData());
            case "cancel" -> cancel(connection, parts[1]);
            case "autocommit" -> {
                connection.setAutoCommit(false);
                System.out.println("autocommit is off");
            }
            default -> throw new IllegalArgumentException(parts[0]);
        }
    }

    // The text, then one line for each run: values as `type value`, between tabs.
    private static void prepared(Connection connection, String[] parts) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(parts[1])) {
            System.out.println("parameters " + statement.getParameterMetaData().getParameterCount());
            for (int run = 2; run < parts.length; run++) {
                String[] values = parts[run].split("\t");
                for (int at = 0; at < values.length; at++) {
                    String[] value = values[at].split(" ", 2);
                    switch (value[0]) {
                        case "long" -> statement.setLong(at + 1, Long.parseLong(value[1]));
                        case "int" -> statement.setInt(at + 1, Integer.parseInt(value[1]));
                        case "double" -> statement.setDouble(at + 1, Double.parseDouble(value[1]));
                        case "decimal" -> statement.setBigDecimal(at + 1, new BigDecimal(value[1]));
                        case "string" -> statement.setString(at + 1, value[1]);
                        case "boolean" -> statement.setBoolean(at + 1, Boolean.parseBoolean(value[1]));
                        case "timestamp" -> statement.setTimestamp(at + 1, Timestamp.valueOf(value[1]));
                        default -> throw new IllegalArgumentException(value[0]);
                    }
                }
                try (ResultSet rows = statement.executeQuery()) {
                    show(rows);
                }
            }
        }
    }

    private static void metadata(DatabaseMetaData about) throws SQLException {
        System.out.println("product " + about.getDatabaseProductName() + " read only " + about.isReadOnly());
        System.out.println("quote " + about.getIdentifierQuoteString() + " escape " + about.getSearchStringEscape());
        System.out.println("transactions " + about.supportsTransactions() + " union " + about.supportsUnion());
        System.out.println("statement length " + about.getMaxStatementLength());
        System.out.println("keywords " + about.getSQLKeywords().contains("MATERIALIZED"));
        System.out.println("functions " + about.getNumericFunctions().contains("abs"));
        show("catalogs", about.getCatalogs(), "TABLE_CAT");
        show("schemas", about.getSchemas(), "TABLE_CATALOG", "TABLE_SCHEM");
        show("table types", about.getTableTypes(), "TABLE_TYPE");
        show("tables", about.getTables(null, "public", "%", null), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE");
        show("streams", about.getTables(null, "public", "sensor\\_%", new String[] {"TABLE"}), "TABLE_NAME");
        show("columns", about.getColumns(null, "public", "totals", "%"), "COLUMN_NAME", "TYPE_NAME", "DATA_TYPE");
        show("keys", about.getPrimaryKeys(null, "public", "totals"), "COLUMN_NAME");
        show("imported", about.getImportedKeys(null, "public", "totals"), "FKCOLUMN_NAME");
    }

    private static void cancel(Connection connection, String sql) throws Exception {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            System.out.println("first " + rows.getLong(1));
            statement.cancel();
            long more = 0;
            try {
                while (rows.next()) {
                    more++;
                }
                System.out.println("read to the end");
            } catch (SQLException | RuntimeException error) {
                System.out.println("ended");
            }
        }
    }

    private static void show(String title, ResultSet rows, String... columns) throws SQLException {
        List<String> lines = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                List<String> values = new ArrayList<>();
                for (String column : columns) {
                    values.add(rows.getString(column));
                }
                lines.add(String.join(" ", values));
            }
        }
        System.out.println(title + ": " + String.join(", ", lines));
    }

    private static void show(ResultSet rows) throws SQLException {
        ResultSetMetaData about = rows.getMetaData();
        List<String> columns = new ArrayList<>();
        for (int at = 1; at <= about.getColumnCount(); at++) {
            columns.add(about.getColumnLabel(at) + " " + about.getColumnTypeName(at));
        }
        System.out.println(String.join(" | ", columns));
        while (rows.next()) {
            List<String> values = new ArrayList<>();
            for (int at = 1; at <= columns.size(); at++) {
                Object value = rows.getObject(at);
                values.add(value instanceof byte[] bytes ? hex(bytes) : String.valueOf(value));
            }
            System.out.println(String.join(" | ", values));
        }
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte each : bytes) {
            text.append(String.format("%02x", each));
        }
        return text.toString();
    }

    private static String messages(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(cause.getMessage()).append(" / ");
        }
        return text.toString().replace("\n", " ");
    }
}
