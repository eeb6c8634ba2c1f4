// The socket to the server. It comes back by itself, with the same session.

const WAITS = [0.5, 1, 2, 4, 8]; // seconds before each new try
const KEPT = "session"; // in sessionStorage, so a tab keeps its session over a reload
const STEADY = 10000; // milliseconds after which a connection counts as good, and waits begin anew
// Close codes after which nothing is tried again: the session is open in another window, or it has ended.
const FINAL = { 4001: "elsewhere", 4002: "ended" };

export const token = new URLSearchParams(location.search).get("token");

// An address of the server below the page's own, so a proxy may put the page in a folder.
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  url.search = new URLSearchParams({ ...query, ...(token ? { token } : {}) });
  return url;
}

// The body of an answer as an Error's text where the server refused.
export async function ask(path, { query, ...options } = {}) {
  const answer = await fetch(address(path, query), options);
  if (answer.ok) return answer;
  const text = await answer.text();
  let words = `${answer.status} ${answer.statusText}`;
  try {
    const { error, detail } = JSON.parse(text);
    words = error ?? (typeof detail === "string" ? detail : words);
  } catch { /* not JSON: the status has to do */ }
  throw Object.assign(new Error(words), { status: answer.status });
}

export function sessionId() {
  return sessionStorage.getItem(KEPT);
}

// heard: message(object), frame(header, blob), state(name, details), closed(reason). Gives send(object) -> whether it was sent.
export function connect(heard) {
  let socket = null;
  let tries = 0;
  let since = Infinity;
  let timer = null;
  let stopped = false;

  function open() {
    clearInterval(timer);
    heard.state("connecting");
    const session = sessionId();
    const url = address("ws", session ? { session } : {});
    url.protocol = url.protocol.replace("http", "ws");
    const own = (socket = new WebSocket(url));
    own.binaryType = "arraybuffer";
    own.addEventListener("message", event => {
      if (own !== socket) return;
      if (typeof event.data === "string") hear(JSON.parse(event.data)); else heard.frame(...unpack(event.data));
    });
    own.addEventListener("close", event => own === socket && lost(event));
  }

  function hear(message) {
    if (message.type === "hello") {
      since = performance.now();
      const before = sessionId();
      sessionStorage.setItem(KEPT, message.sid);
      heard.state("open");
      message.renewed = before !== null && before !== message.sid;
    }
    heard.message(message);
  }

  async function lost(event) {
    socket = null;
    if (performance.now() - since > STEADY) tries = 0;
    since = Infinity;
    const { reason } = event;
    if (event.code in FINAL) return stop(FINAL[event.code], { reason });
    if (reason) heard.closed(reason);
    // A refused handshake looks like a server that is gone; a plain request tells which it was.
    try {
      await ask("api/info");
    } catch (error) {
      if ([401, 403].includes(error.status)) return stop("refused", { status: error.status, error: error.message });
    }
    if (socket) return; // it was opened meanwhile
    let seconds = WAITS[Math.min(tries++, WAITS.length - 1)];
    const end = performance.now() + 1000 * seconds;
    heard.state("lost", { seconds: Math.ceil(seconds), tries });
    clearInterval(timer);
    timer = setInterval(() => {
      seconds = (end - performance.now()) / 1000;
      if (seconds <= 0) open(); else heard.state("lost", { seconds: Math.ceil(seconds), tries });
    }, 250);
  }

  function stop(state, details) {
    stopped = true;
    heard.state(state, details);
  }

  addEventListener("online", () => !socket && !stopped && open());
  open();
  return message => {
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify(message));
    return true;
  };
}

// A frame: 4 bytes, the length of a JSON header; the header; the picture's file.
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return [header, new Blob([new Uint8Array(buffer, 4 + length)])];
}
