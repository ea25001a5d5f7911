// The frame: where the address leads, the navigation, light and dark, and the keys that work on every page.
//
// The address is all behind `#`, which browsers do not send: a query in a link reaches nobody's log.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { html } from "./html.js";
import { enterToken, leave, onTokenChange, onTokenNeeded } from "./lib/api.js";
import { parseAddress, sqlAddress } from "./lib/address.js";
import { token } from "./lib/storage.js";
import { Dialogs, askToken, showKeys } from "./parts/dialogs.js";
import { theme, useKeys, useScheme, zone } from "./parts/hooks.js";
import { DashboardPage, Dashboards } from "./pages/dashboards.js";
import { StreamPage, ViewPage } from "./pages/details.js";
import { Pipeline } from "./pages/pipeline.js";
import { SqlPage } from "./pages/sql.js";

onTokenNeeded(askToken);

const THEMES = { auto: "light", light: "dark", dark: "auto" };
const PAGES = [
  ["sql", "SQL"],
  ["pipeline", "Pipeline"],
  ["dashboards", "Dashboards"],
];
const OF_PIPELINE = ["streams", "views"];

function Page({ address: { page, name, query }, visit }) {
  if (page === "pipeline") return html`<${Pipeline} />`;
  if (page === "streams" && name) return html`<${StreamPage} key=${name} name=${name} />`;
  if (page === "views" && name) return html`<${ViewPage} key=${name} name=${name} />`;
  if (page === "dashboards")
    return name ? html`<${DashboardPage} key=${name} name=${name} />` : html`<${Dashboards} />`;
  const setShared = (text) => text !== query && visit(sqlAddress(text));
  return html`<${SqlPage} shared=${query} setShared=${setShared} />`;
}

function App() {
  const [address, setAddress] = useState(() => parseAddress(location.hash));
  const chosen = theme.use();
  const scheme = useScheme();
  const where = zone.use();
  const [hasToken, setHasToken] = useState(token() !== null);
  useEffect(() => {
    const moved = () => setAddress(parseAddress(location.hash));
    addEventListener("hashchange", moved);
    addEventListener("popstate", moved);
    return () => (removeEventListener("hashchange", moved), removeEventListener("popstate", moved));
  }, []);
  useEffect(() => onTokenChange(() => setHasToken(token() !== null)), []);
  // Before charts are drawn, which read their colours from the page.
  document.documentElement.dataset.theme = scheme;
  const visit = (hash) => {
    history.pushState(null, "", hash);
    setAddress(parseAddress(hash));
  };
  const title = PAGES.find(([page]) => page === address.page)?.[1];
  useEffect(() => {
    document.title = `${address.name ?? title ?? "Thalweg"} · Thalweg`;
  }, [address.name, title]);
  const nextTheme = () => theme.set(THEMES[chosen] ?? "auto");
  const nextZone = () => zone.set(where === "utc" ? "local" : "utc");
  const changeToken = async () => {
    if (hasToken) leave();
    else await enterToken("The token is sent with every call");
  };
  useKeys({
    "?": showKeys,
    "g s": () => (location.hash = "#/sql"),
    "g p": () => (location.hash = "#/pipeline"),
    "g d": () => (location.hash = "#/dashboards"),
    t: nextTheme,
    u: nextZone,
  });
  const isOn = (page) => address.page === page || (page === "pipeline" && OF_PIPELINE.includes(address.page));
  return html` <header class="top">
      <a class="brand" href="#/sql" aria-label="Thalweg">Thalweg</a>
      <nav aria-label="Pages">
        ${PAGES.map(([page, text]) => html`<a href=${`#/${page}`} aria-current=${isOn(page) ? "page" : null}>${text}</a>`)}
      </nav>
      <div class="switches">
        <button class="plain" onClick=${nextZone} title="Times in UTC or local (u)" aria-label=${`Times: ${where}`}>
          ${where === "utc" ? "UTC" : "local"}
        </button>
        <button
          class="plain"
          onClick=${nextTheme}
          title="Light, dark, or as the system has it (t)"
          aria-label=${`Colours: ${chosen}`}
        >
          ${{ auto: "◐", light: "☀", dark: "☾" }[chosen] ?? "◐"}
        </button>
        <button
          class="plain"
          onClick=${changeToken}
          title=${hasToken ? "Forget the token" : "Give a token"}
          aria-label=${hasToken ? "Forget the token" : "Give a token"}
        >
          ${hasToken ? "Leave" : "Token"}
        </button>
        <button class="plain" onClick=${showKeys} title="Keys (?)" aria-label="Keys">?</button>
      </div>
    </header>
    <${Page} address=${address} visit=${visit} />
    <${Dialogs} />`;
}

render(html`<${App} />`, document.getElementById("app"));
