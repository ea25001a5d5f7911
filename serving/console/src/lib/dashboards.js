// Dashboards as values: names, new ones, and the three that come with the demo. Saving is a call; see the page.

export const KINDS = [
  ["time", "lines"],
  ["bars", "bars"],
  ["table", "table"],
  ["number", "one number"],
];

/** Why the server would refuse a name, or null. The server checks again. */
export const complaint = (name) =>
  /^[a-z0-9][a-z0-9_-]{0,62}$/.test(name)
    ? null
    : "A name has small letters, digits, - and _, begins with a letter or digit, and is at most 63 long.";

export const blankTile = () => ({ title: "", sql: "", kind: "time", x: null, y: [], by: null, wide: false });
export const blank = (title) => ({ title, refresh_seconds: 5, tiles: [] });

const tile = (title, kind, sql, more = {}) => ({ ...blankTile(), title, kind, sql, ...more });

/** Read-only, shown while the views that they need exist; `name` has a sign that no saved name can have. */
export const SHIPPED = [
  {
    name: "demo:machines",
    needs: ["device_minutes", "site_alarms", "stuck_sensors"],
    dashboard: {
      title: "Machines",
      refresh_seconds: 2,
      tiles: [
        tile(
          "Readings a minute",
          "time",
          "SELECT minute, sum(readings) AS readings\nFROM device_minutes\nGROUP BY minute\nORDER BY minute DESC\nLIMIT 30",
          { x: "minute", y: ["readings"], wide: true },
        ),
        tile("Readings so far", "number", "SELECT sum(readings) AS readings FROM site_alarms"),
        tile(
          "Alarms by site",
          "bars",
          "SELECT site, sum(alarms) AS alarms\nFROM site_alarms\nGROUP BY site\nORDER BY alarms DESC",
          { x: "site", y: ["alarms"] },
        ),
        tile(
          "99th percentile of the hottest machines",
          "time",
          "SELECT minute, device, p99\nFROM device_minutes\nWHERE device IN (SELECT device FROM device_minutes GROUP BY device ORDER BY max(peak) DESC LIMIT 4)\nORDER BY minute DESC\nLIMIT 120",
          { x: "minute", y: ["p99"], by: "device" },
        ),
        tile(
          "Sensors that are stuck",
          "table",
          "SELECT device, since, readings, temperature\nFROM stuck_sensors\nORDER BY since DESC\nLIMIT 20",
        ),
      ],
    },
  },
  {
    name: "demo:logins",
    needs: ["failed_logins", "login_hours", "suspicious_addresses"],
    dashboard: {
      title: "Logins",
      refresh_seconds: 2,
      tiles: [
        tile(
          "Failed logins a minute",
          "time",
          "SELECT minute, sum(failures) AS failures\nFROM failed_logins\nGROUP BY minute\nORDER BY minute DESC\nLIMIT 30",
          { x: "minute", y: ["failures"], wide: true },
        ),
        tile("Attempts so far", "number", "SELECT sum(attempts) AS attempts FROM login_hours"),
        tile(
          "Addresses with most failures",
          "bars",
          "SELECT address, failures\nFROM suspicious_addresses\nORDER BY failures DESC\nLIMIT 10",
          { x: "address", y: ["failures"] },
        ),
        tile(
          "Accounts that somebody broke into",
          "table",
          "SELECT address, break_ins, failures, accounts, last_seen\nFROM suspicious_addresses\nWHERE break_ins > 0\nORDER BY break_ins DESC\nLIMIT 20",
        ),
      ],
    },
  },
  {
    name: "demo:prices",
    needs: ["stock_bars", "stock_vwap", "stock_days"],
    dashboard: {
      title: "Prices",
      refresh_seconds: 2,
      tiles: [
        tile("Close", "time", "SELECT minute, symbol, close\nFROM stock_bars\nORDER BY minute DESC\nLIMIT 240", {
          x: "minute",
          y: ["close"],
          by: "symbol",
          wide: true,
        }),
        tile("Trades so far", "number", "SELECT sum(trades) AS trades FROM stock_bars"),
        tile(
          "Turnover by share",
          "bars",
          "SELECT symbol, sum(turnover) AS turnover\nFROM stock_vwap\nGROUP BY symbol\nORDER BY turnover DESC",
          { x: "symbol", y: ["turnover"] },
        ),
        tile("The day", "table", "SELECT symbol, day, low, high, last, spread\nFROM stock_days\nORDER BY symbol"),
      ],
    },
  },
];

/** The shipped dashboards whose views all exist. */
export const shippedFor = (viewNames) => SHIPPED.filter(({ needs }) => needs.every((name) => viewNames.includes(name)));

/** `tiles` with the one at `i` moved by `step`. */
export function moved(tiles, i, step) {
  const to = i + step;
  if (to < 0 || to >= tiles.length) return tiles;
  const next = [...tiles];
  [next[i], next[to]] = [next[to], next[i]];
  return next;
}
