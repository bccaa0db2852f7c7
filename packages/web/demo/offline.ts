/** Keeps the page for times without a network: its service worker. */

// In an ordinary script there would be no `export`; this makes it a module with names of its own.
export {};

interface Kept {
  readonly version: string;
  readonly files: readonly string[];
}
interface Extendable extends Event {
  waitUntil(promise: Promise<unknown>): void;
}
interface Fetched extends Extendable {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

/** Written into the built script: all files of the page, and their version. */
const { KEPT } = self as unknown as { KEPT: Kept };
const PREFIX = "mien-demo-";
const NAME = `${PREFIX}${KEPT.version}`;

async function keep(): Promise<void> {
  const cache = await caches.open(NAME);
  // Past the browser's own cache, which may hold files of the version before.
  await cache.addAll(KEPT.files.map((file) => new Request(file, { cache: "reload" })));
}

async function dropOlder(): Promise<void> {
  const names = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
  await Promise.all(names.map((name) => caches.delete(name)));
}

/** What is kept, else from the network; what is fetched is kept. */
async function fromCache(request: Request): Promise<Response> {
  const cache = await caches.open(NAME);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}

self.addEventListener("install", (event) => (event as Extendable).waitUntil(keep()));
self.addEventListener("activate", (event) => (event as Extendable).waitUntil(dropOlder()));
self.addEventListener("fetch", (event) => {
  const { request, respondWith } = event as Fetched;
  const isOurs = request.url.startsWith(new URL("./", self.location.href).href);
  if (request.method === "GET" && isOurs) respondWith.call(event, fromCache(request));
});
