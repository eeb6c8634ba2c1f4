// Figures, honestly: what is shown and made, how long a key takes to be seen, what was dropped.

import { say } from "./texts.js";

const LATENCIES = 20; // kept for the median and the worst

function median(values) {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function milliseconds(value) {
  if (!Number.isFinite(value)) return say("noFigure");
  return say("milliseconds", { value: value < 10 ? value.toFixed(1) : Math.round(value) });
}

function rate(value) {
  return Number.isFinite(value) ? value.toFixed(1) : say("noFigure");
}

// list: a <dl> for the figures.
export function makeFigures(list) {
  let latencies = [];
  let open = null; // a change of the keys that is not seen yet: [seq, when it was sent]
  let dropped = 0;

  // A change is timed from its sending to the first drawn frame of a block that felt it; one at a time.
  function sent(seq) {
    open ??= [seq, performance.now()];
  }

  function drawn(header) {
    dropped = header.dropped;
    if (!open || header.seq < open[0]) return;
    latencies = [...latencies, performance.now() - open[1]].slice(-LATENCIES);
    open = null;
  }

  function forgetSent() {
    open = null;
  }

  // status: the server's newest, or null; shown: frames a second.
  function show(status, shown) {
    const rows = [
      ["shown", say("shown"), rate(shown)],
      ["made", say("made"), rate(status?.fps_made)],
      ["latency", say("latency"), milliseconds(median(latencies))],
      ["latencyWorst", say("latencyWorst", { count: LATENCIES }), milliseconds(Math.max(...latencies))],
      ["denoise", say("denoise"), milliseconds(status?.ms?.denoise)],
      ["decode", say("decode"), milliseconds(status?.ms?.decode)],
      ["transport", say("transport"), milliseconds(status?.ms?.transport)],
      ["block", say("block"), status?.block ?? say("noFigure")],
      ["seed", say("seedFigure"), status?.seed ?? say("noFigure")],
      ["dropped", say("dropped"), dropped],
      ["visitors", say("visitors"), status?.visitors ?? say("noFigure")],
    ];
    if (!list.children.length) list.append(...rows.map(([name]) => row(name)));
    rows.forEach(([, term, value], index) => {
      const [dt, dd] = list.children[index].children;
      dt.textContent = term;
      dd.textContent = value;
    });
  }

  return { sent, drawn, forgetSent, show };
}

function row(name) {
  const [div, dt, dd] = ["div", "dt", "dd"].map(tag => document.createElement(tag));
  dd.id = `figure-${name}`;
  div.append(dt, dd);
  return div;
}
