// Calls of the studio's HTTP interface; every failure is an Error with the server's sentence.

async function checked(response) {
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try { message = (await response.json()).error ?? message; } catch { /* not JSON */ }
  throw new Error(message);
}

export async function get(path) { return (await checked(await fetch(path))).json(); }

export async function bytes(path) { return (await checked(await fetch(path))).arrayBuffer(); }

export async function levels(path) {
  const response = await checked(await fetch(path));
  const values = new Uint8Array(await response.arrayBuffer());
  return { bands: Number(response.headers.get("X-Bands")), values };
}

export async function post(path, body) {
  const raw = body instanceof Blob || body instanceof ArrayBuffer;
  const headers = raw ? {} : { "Content-Type": "application/json" };
  return (await checked(await fetch(path, { method: "POST", headers, body: raw ? body : JSON.stringify(body) }))).json();
}

export function cancel(job) { fetch(`api/jobs/${job}`, { method: "DELETE" }).catch(() => {}); }

// Events of a job until it has finished; `listener(event)` gets each after it has handled the one before, since a take that is
// still fetched must neither follow the end of its job nor replace a later take. Returns a function that stops listening.
export function follow(job, listener) {
  const source = new EventSource(`api/jobs/${job}/events`);
  let handled = Promise.resolve();
  const handle = (event) => { handled = handled.then(() => listener(event)); };
  source.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (["done", "error", "cancelled"].includes(event.kind)) source.close();
    handle(event);
  };
  source.onerror = () => { source.close(); handle({ kind: "error", message: "the connection to the studio was lost" }); };
  return () => source.close();
}
