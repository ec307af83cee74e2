// Drives one headless Chromium: every page is one phone.  JSON lines on stdin and stdout; diagnostics go to stderr.
//
//   in   {"id": 1, "page": "alice", "do": "call", "with": {"target": "sip:bob@tandem.test"}}
//   out  {"id": 1, "value": ...} or {"id": 1, "error": "..."}; unasked: {"page": "alice", "event": "confirmed", "data": {...}, "at": ms}
//
// `open`, `reload`, `close` and `screenshot` are the driver's own commands; any other is the page's.  It ends with its stdin.
// INTEROP_BROWSER_MODULES names the node_modules folder, CHROMIUM the browser.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const MODULES = process.env.INTEROP_BROWSER_MODULES;
const installed = createRequire(join(MODULES, "index.js"));
const { chromium } = installed("playwright-core");
const { buildSync } = installed("esbuild");

const FLAGS = [
    "--no-sandbox", // tests run as root
    "--ignore-certificate-errors", // the switch's certificate is self-signed; the context's own option does not cover WebSockets
    "--allow-loopback-in-peer-connection", // without it there is no candidate on 127.0.0.1, and the whole test network is there
    "--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebRTC,LocalNetworkAccessChecksWebSockets",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-gpu",
];

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

/** The page has an origin of 127.0.0.1: a secure context, which WebRTC wants. */
function serve() {
    const plain = (name, type) => [type, readFileSync(join(HERE, name))];
    const bundled = (name) => ["text/javascript", buildSync({
        entryPoints: [join(HERE, name)], bundle: true, write: false, format: "iife", nodePaths: [MODULES],
    }).outputFiles[0].contents];
    const files = {
        "/": plain("page.html", "text/html"),
        "/desk": plain("desk.html", "text/html"), // it is served as it is: what it uses, every browser has
        "/desk.js": plain("desk.js", "text/javascript"),
        "/cas.js": plain("cas.js", "text/javascript"),
        "/phone.js": bundled("page.js"),
        "/thin": plain("thin.html", "text/html"),
        "/thin.js": bundled("thin.js"),
    };
    const server = createServer((request, response) => {
        const [type, body] = files[request.url] ?? [];
        response.writeHead(type ? 200 : 404, { "content-type": type ?? "text/plain" }).end(body);
    });
    return new Promise((done) => server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));
}

const origin = await serve();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
const CONTEXT = { ignoreHTTPSErrors: true, viewport: { width: 640, height: 480 } };

// A page that may use the microphone has a socket on every interface's address; one that may not has a single socket on no address, whose
// source is that of the route, and changes with it.
const ADDRESSES = { every: ["microphone", "camera"], route: [] };
const pages = new Map();

const own = {
    async open(name, { addresses = "every", path = "/" }) {
        const context = await browser.newContext({ ...CONTEXT, permissions: ADDRESSES[addresses] }); // a window of its own: a tab in the background paints no frames
        const page = await context.newPage();
        page.on("console", (message) => console.error(`${new Date().toISOString().slice(11, 23)} [${name}] ${message.text()}`));
        page.on("pageerror", (error) => say({ page: name, event: "error", data: { error: String(error) }, at: Date.now() }));
        await page.exposeFunction("tell", (event, data) => say({ page: name, event, data, at: Date.now() }));
        await page.goto(origin + path);
        pages.set(name, page);
    },

    async reload(name) {
        await pages.get(name).reload();
    },

    async close(name) {
        await pages.get(name).context().close();
        pages.delete(name);
    },

    async screenshot(name, { path }) {
        await pages.get(name).screenshot({ path });
    },
};

async function run({ page, do: command, with: given }) {
    if (Object.hasOwn(own, command)) return own[command](page, given);
    return pages.get(page).evaluate(([name, it]) => window.phone(name, it), [command, given]);
}

say({ event: "ready", data: { origin, version: browser.version() }, at: Date.now() });
const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
    const { id, ...wanted } = JSON.parse(line);
    try {
        say({ id, value: (await run(wanted)) ?? null });
    } catch (error) {
        say({ id, error: String(error?.message ?? error) });
    }
});
lines.on("close", async () => {
    await browser.close();
    process.exit(0);
});
