// The list of dashboards, and one dashboard: tiles that ask their queries again and again, and can be edited in place.
//
// Saving names the version that was read. If somebody else has saved meanwhile, the server refuses, and the user decides.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { call, views } from "../lib/api.js";
import { blank, blankTile, complaint, moved, shippedFor, SHIPPED } from "../lib/dashboards.js";
import { Problem } from "../parts/common.js";
import { askText, confirm, show } from "../parts/dialogs.js";
import { usePoll } from "../parts/hooks.js";
import { Tile, TileForm } from "../parts/tile.js";

const address = (name) => `/v1/dashboards/${encodeURIComponent(name)}`;
const go = (name) => (location.hash = `#/dashboards/${encodeURIComponent(name)}`);
const save = (name, version, dashboard) => call("PUT", address(name), { body: { version, dashboard } });

/** Asks for a name that is free, and saves there: the promise of true if it was done. */
async function saveAs(dashboard, suggestion) {
  for (let value = suggestion; ;) {
    const name = await askText("Save as", "Name", { value, action: "Save", check: complaint });
    if (!name) return false;
    try {
      await save(name, 0, dashboard);
      go(name);
      return true;
    } catch (error) {
      if (error.code !== "conflict") throw error;
      value = name;
      if (!(await confirm("The name is taken", `There is a dashboard ${name} already.`, "Choose another")))
        return false;
    }
  }
}

const slug = (title) =>
  title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 60) || "dashboard";

export function Dashboards() {
  const list = usePoll(async (signal) => {
    const [saved, known] = await Promise.all([call("GET", "/v1/dashboards", { signal }), views(signal)]);
    return { saved: saved.dashboards, shipped: shippedFor(known.views.map(({ name }) => name)) };
  }, 10_000);
  const [failure, setFailure] = useState(null);
  const make = async () => {
    const title = await askText("New dashboard", "Title", { action: "Make it" });
    if (!title) return;
    setFailure(null);
    await saveAs(blank(title), slug(title)).catch(setFailure);
  };
  const card = (name, title, note) =>
    html`<li key=${name}>
      <a class="card" href=${`#/dashboards/${encodeURIComponent(name)}`}><b>${title}</b><small>${note}</small></a>
    </li>`;
  return html`<main class="page" aria-label="Dashboards">
    <h1>Dashboards</h1>
    <p class="lead">Saved in the warehouse, for everybody who may ask this server.</p>
    <div class="bar-of-tools"><button class="primary" onClick=${make}>New dashboard</button></div>
    ${(failure ?? list.error) && html`<${Problem} error=${failure ?? list.error} />`}
    ${
      list.data &&
      html`<ul class="cards">
        ${list.data.saved.map(({ name, title, version }) => card(name, title, `${name}, version ${version}`))}
        ${list.data.shipped.map(({ name, dashboard }) => card(name, dashboard.title, "comes with the demo; copy it to change it"))}
      </ul>`
    }
    ${list.data && !list.data.saved.length && !list.data.shipped.length && html`<p class="empty">There are none yet.</p>`}
  </main>`;
}

// What is edited and not saved outlives a visit to another page, by name.
const drafts = new Map();
addEventListener("beforeunload", (event) => drafts.size && event.preventDefault());

export function DashboardPage({ name }) {
  const shipped = SHIPPED.find((each) => each.name === name);
  const [state, setShown] = useState(null);
  const setState = (next) => {
    if (next?.draft) drafts.set(name, next);
    else drafts.delete(name);
    setShown(next);
  };
  const [failure, setFailure] = useState(null);
  const load = async (signal) => {
    const read = shipped
      ? { version: null, dashboard: shipped.dashboard }
      : await call("GET", address(name), { signal });
    setState({ ...read, draft: null });
  };
  useEffect(() => {
    const ending = new AbortController();
    setFailure(null);
    if (drafts.has(name)) setShown(drafts.get(name));
    else load(ending.signal).catch((error) => !ending.signal.aborted && setFailure(error));
    return () => ending.abort();
  }, [name]);
  if (!state)
    return html`<main class="page">
      <h1>${name}</h1>
      ${failure ? html`<${Problem} error=${failure} />` : html`<p class="empty">Loading …</p>`}
    </main>`;

  const { version, dashboard, draft } = state;
  const shown = draft ?? dashboard;
  const edit = (change) => setState({ ...state, draft: { ...shown, ...change } });
  const attempt = (action) => async () => {
    setFailure(null);
    await action().catch(setFailure);
  };
  const keep = attempt(async () => {
    try {
      const saved = await save(name, version, draft);
      setState({ version: saved.version, dashboard: draft, draft: null });
    } catch (error) {
      if (error.code !== "conflict") throw error;
      const choice = await show(
        "Somebody else has saved this dashboard",
        (close) =>
          html`<p>Your changes are still here. What is saved has not been touched by them.</p>
            <footer>
              <button onClick=${() => close()}>Go on editing</button
              ><button onClick=${() => close("theirs")}>Take theirs, lose mine</button>
              <button class="primary" onClick=${() => close("copy")}>Save mine under another name</button>
            </footer>`,
      );
      if (choice === "theirs") await load();
      if (choice === "copy" && (await saveAs(draft, `${name}-copy`.slice(0, 63)))) drafts.delete(name);
    }
  });
  const copy = attempt(() => saveAs(shown, shipped ? slug(shipped.dashboard.title) : `${name}-copy`.slice(0, 63)));
  const remove = attempt(async () => {
    if (
      !(await confirm("Delete the dashboard?", `${shown.title} will be gone for everybody.`, "Delete", {
        danger: true,
      }))
    )
      return;
    await call("DELETE", `${address(name)}?version=${version}`);
    location.hash = "#/dashboards";
  });
  const form = async (tile) =>
    show(tile.sql ? "Tile" : "New tile", (close) => html`<${TileForm} tile=${tile} close=${close} />`);
  const change = async (i) => {
    const tile = await form(shown.tiles[i]);
    if (tile) edit({ tiles: shown.tiles.map((old, j) => (i === j ? tile : old)) });
  };
  const add = async () => {
    const tile = await form(blankTile());
    if (tile) edit({ tiles: [...shown.tiles, tile] });
  };
  return html`<main class="page dashboard" aria-label=${shown.title}>
    <h1>${shown.title}${draft && html` <span class="status busy">not saved</span>`}</h1>
    <div class="bar-of-tools">
      ${
        draft
          ? html`<button class="primary" onClick=${keep}>Save</button
              ><button onClick=${() => setState({ ...state, draft: null })}>Discard</button
              ><button onClick=${add}>Add a tile</button>
              <label
                >Title<input
                  value=${draft.title}
                  maxlength="200"
                  onInput=${(event) => edit({ title: event.target.value })}
              /></label>
              <label
                >Asks every<input
                  type="number"
                  min="1"
                  max="3600"
                  value=${draft.refresh_seconds}
                  onChange=${(event) => edit({ refresh_seconds: Math.min(Math.max(Math.round(Number(event.target.value)) || 5, 1), 3600) })}
                />s</label
              >`
          : html`${!shipped && html`<button onClick=${() => edit({})}>Edit</button>`}<button onClick=${copy}>
                Copy
              </button>
              ${!shipped && html`<button onClick=${remove}>Delete</button>`}<span class="grow dim"
                >${shipped ? "comes with the demo" : `version ${version}`} · every ${shown.refresh_seconds} s</span
              >`
      }
    </div>
    ${failure && html`<${Problem} error=${failure} />`}
    <div class="tiles">
      ${shown.tiles.map(
        (tile, i) =>
          html`<${Tile}
            key=${`${i}:${tile.title}:${tile.sql}`}
            tile=${tile}
            every=${shown.refresh_seconds * 1000}
            tools=${draft && { edit: () => change(i), left: () => edit({ tiles: moved(shown.tiles, i, -1) }), right: () => edit({ tiles: moved(shown.tiles, i, 1) }), remove: () => edit({ tiles: shown.tiles.filter((_, j) => j !== i) }) }}
          />`,
      )}
    </div>
    ${shown.tiles.length === 0 && html`<p class="empty">There are no tiles yet. ${draft ? "Add one." : "Edit the dashboard to add one."}</p>`}
  </main>`;
}
