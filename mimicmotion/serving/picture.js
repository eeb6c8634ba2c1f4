// Frames: drawn in their order, as large as whole pixels allow, and the first of each block kept to go back to.

import { say } from "./texts.js";

const SHOWN_SECONDS = 2; // over which frames are counted
const THUMBNAIL = 192; // pixels wide
const MOST_THUMBNAILS = 200;
const HIGHEST = 0.72; // of the window's height
const FEWEST_WHOLE = 3; // pixels for one, from where whole ones are taken

// shown(header, error) after each frame, with what hindered its drawing; back(block) when an earlier block is chosen.
// room: the element whose width the picture may take.
export function makePicture(canvas, room, blocks, { shown, back }) {
  const context = canvas.getContext("2d");
  const times = [];
  const thumbnails = new Map(); // block -> its item in the row
  let drawing = Promise.resolve();
  let offered = null; // blocks that the server can go back to: [oldest, newest]
  let newest = null;
  let shownSession = null;

  // Decoding runs beside; drawing keeps the order.
  function take(header, blob) {
    const decoded = createImageBitmap(blob);
    decoded.catch(() => {}); // told below, in its turn
    drawing = drawing.then(async () => draw(header, await decoded)).catch(error => shown(header, error));
  }

  function draw(header, bitmap) {
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const now = performance.now();
    times.push(now);
    if (header.block !== newest) beginBlock(header.block);
    shown(header, null);
  }

  function framesPerSecond() {
    const since = performance.now() - 1000 * SHOWN_SECONDS;
    while (times.length && times[0] < since) times.shift();
    return times.length / SHOWN_SECONDS;
  }

  // The canvas takes whole device pixels for each of the world's.
  function fit() {
    const ratio = devicePixelRatio;
    const full = document.fullscreenElement !== null;
    const [width, height] = full ? [innerWidth, innerHeight] : [room.clientWidth, innerHeight * HIGHEST];
    const space = ratio * Math.min(width / canvas.width, height / canvas.height);
    // A large picture is not left small for that.
    const whole = space >= FEWEST_WHOLE;
    const scale = whole ? Math.floor(space) : space;
    canvas.classList.toggle("uneven", !whole);
    canvas.style.width = `${(canvas.width * scale) / ratio}px`;
    canvas.style.height = `${(canvas.height * scale) / ratio}px`;
  }

  function setSize(width, height) {
    canvas.width = width;
    canvas.height = height;
    fit();
  }

  function beginBlock(block) {
    newest = block;
    const atEnd = blocks.scrollLeft + blocks.clientWidth >= blocks.scrollWidth - 4; // else someone looks for a block
    for (const number of [...thumbnails.keys()]) if (number >= block) drop(number);
    addThumbnail(block, true);
    if (thumbnails.size > MOST_THUMBNAILS) drop(Math.min(...thumbnails.keys()));
    if (atEnd) blocks.scrollLeft = blocks.scrollWidth;
  }

  function drop(block) {
    thumbnails.get(block).remove();
    thumbnails.delete(block);
  }

  function addThumbnail(block, drawn) {
    const small = document.createElement("canvas");
    small.width = THUMBNAIL;
    small.height = Math.round((THUMBNAIL * canvas.height) / canvas.width);
    if (drawn) small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
    const button = document.createElement("button");
    button.type = "button";
    button.append(small, String(block));
    button.addEventListener("click", () => back(block));
    const item = document.createElement("li");
    item.append(button);
    item.block = block;
    thumbnails.set(block, item);
    blocks.insertBefore(item, [...blocks.children].find(other => other.block > block) ?? null);
    name(item);
  }

  function name(item) {
    const button = item.firstChild;
    button.setAttribute("aria-label", say("backTo", { block: item.block }));
    button.title = say("backTo", { block: item.block });
    button.disabled = !offered || item.block < offered[0] || item.block > offered[1];
  }

  // history: [oldest, newest] block that can be gone back to, or null; session: whose blocks they are.
  function offer(history, session) {
    if (session !== shownSession) forget();
    shownSession = session;
    offered = history;
    // After a reload the page has no pictures of what the server still offers.
    const [oldest, last] = offered ?? [0, -1];
    for (let block = Math.max(oldest, last - MOST_THUMBNAILS + 1); block <= last; block++) {
      if (!thumbnails.has(block) && block < (newest ?? Infinity)) addThumbnail(block, false);
    }
    refresh();
  }

  function refresh() {
    for (const item of thumbnails.values()) name(item);
  }

  function forget() {
    for (const block of [...thumbnails.keys()]) drop(block);
    newest = offered = null;
  }

  addEventListener("resize", fit);
  document.addEventListener("fullscreenchange", fit);
  return { take, framesPerSecond, setSize, offer, refresh };
}
