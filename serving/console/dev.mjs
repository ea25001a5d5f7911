// A server for working on the console: builds at each load of the page, and passes the API's calls on to a running
// server.
//
//   node dev.mjs [http://127.0.0.1:8642 [PORT]]
//
// It sends the same security headers as the real server, so that what the policy forbids is seen here.
import http from "node:http";
import path from "node:path";
import { bundle } from "./build.mjs";

const server = new URL(process.argv[2] ?? "http://127.0.0.1:8642");
const port = Number(process.argv[3] ?? 8650);
const types = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
};
const policy =
  "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
let files = await bundle();

function pass(request, response) {
  const headers = { ...request.headers, host: server.host };
  if (headers.origin) headers.origin = server.origin;
  const options = { host: server.hostname, port: server.port, path: request.url, method: request.method, headers };
  const outgoing = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  outgoing.on("error", (error) => response.writeHead(502).end(String(error)));
  response.on("close", () => outgoing.destroy());
  request.pipe(outgoing);
}

http
  .createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    if (pathname !== "/" && !pathname.startsWith("/assets/")) return pass(request, response);
    if (pathname === "/") files = await bundle();
    const name = pathname === "/" ? "index.html" : pathname.slice(1);
    const bytes = files.get(name);
    if (!bytes) return response.writeHead(404).end();
    response.writeHead(200, {
      "content-type": types[path.extname(name).slice(1)],
      "content-security-policy": policy,
      "cache-control": "no-store",
    });
    response.end(bytes);
  })
  .listen(port, "127.0.0.1", () =>
    console.log(`the console is at http://127.0.0.1:${port}, the API at ${server.href}`),
  );
