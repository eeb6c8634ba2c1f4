// The page of a live world: what is pressed goes to the server, frames and figures come from it.

import { makeFigures } from "./figures.js";
import { holdByTouch, isForPage, lookByDragging, makeInput, arrowLetters, watchGamepads } from "./input.js";
import { address, ask, connect, sessionId } from "./link.js";
import { makePicture } from "./picture.js";
import { currentLanguage, label, say, useLanguage } from "./texts.js";

const MOST_PROBLEMS = 4;
const HINT_MILLISECONDS = 4000;
const KEPT = "served world"; // before the names of what this browser keeps
const DRAWN_SEEDS = 2 ** 32;
const CLUSTERS = [["Z", "W", "C", "A", "S", "D"], ["", "I", "", "J", "K", "L"]]; // two rows of three, as on a keyboard

const $ = id => document.getElementById(id);
const state = {
  link: "connecting", details: {}, role: null, status: null, info: null, paused: false, recording: false, hinted: false,
};
const figures = makeFigures($("figures"));
let [send, input, picture] = [() => false, null, null];
let seq = Date.now(); // above that of this page before it was loaded again

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---------------------------------------------------------------------------------------------------
// What was chosen for this browser

function remember(name, value) {
  try { localStorage.setItem(`${KEPT} ${name}`, value); } catch { /* a browser that keeps nothing */ }
}

function remembered(name) {
  try { return localStorage.getItem(`${KEPT} ${name}`); } catch { return null; }
}

function setting(id, property, apply, start) {
  const box = $(id);
  const kept = remembered(id);
  if (kept !== null) box[property] = property === "checked" ? kept === "true" : kept;
  else if (start !== undefined) box[property] = start;
  const use = () => { apply(box[property]); remember(id, box[property]); };
  box.addEventListener("input", use);
  apply(box[property]);
}

// ---------------------------------------------------------------------------------------------------
// Words

function problem(words) {
  const close = element("button", { type: "button", textContent: "✕" });
  close.setAttribute("aria-label", say("dismiss"));
  const item = element("li", {}, element("span", { textContent: words }), close);
  close.addEventListener("click", () => item.remove());
  for (const same of [...$("problems").children]) if (same.firstChild.textContent === words) same.remove();
  $("problems").append(item);
  while ($("problems").children.length > MOST_PROBLEMS) $("problems").firstChild.remove();
}

function translate() {
  document.documentElement.lang = currentLanguage();
  for (const part of document.querySelectorAll("[data-text]")) part.textContent = say(part.dataset.text);
  for (const part of document.querySelectorAll("[data-label]")) part.setAttribute("aria-label", say(part.dataset.label));
  if (!state.info) return;
  makeKeys();
  makeHelp();
  picture.refresh();
  showGalleryNames();
  show();
}

// Only what changed is told again by a screen reader.
function write(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function show() {
  const connected = state.link === "open";
  const plays = connected && state.role?.role === "player";
  $("connection").dataset.state = state.link;
  write("connection", say(state.link, state.details));
  write("role", connected && state.role ? roleWords(state.role) : "");
  $("ask").hidden = !connected || plays || state.role?.waiting > 0;
  $("leave").hidden = !connected || !(plays ? state.status?.queue > 0 : state.role?.waiting > 0);
  $("pause").textContent = say(state.paused ? "resume" : "pause");
  $("record").textContent = say(state.recording ? "stopRecording" : "record");
  $("recording").hidden = !(connected && state.recording);
  for (const id of ["pause", "record", "start", "load"]) $(id).disabled = !plays;
  $("step").disabled = !(plays && state.paused);
  for (const id of ["script", "save"]) $(id).disabled = !connected || !state.status;
  for (const id of ["video", "video-keys"]) $(id).disabled = !connected || !state.status?.recorded;
  showNotice(connected);
  showHint(plays);
  showFigures();
}

function roleWords({ role, waiting }) {
  if (role === "watcher") return waiting ? say("waiting", { place: waiting }) : say("watcher");
  return state.status?.queue ? say("othersWait", { count: state.status.queue }) : say("player");
}

function showNotice(connected) {
  const words = {
    lost: state.details.tries > 1 && say("noServer"), refused: say("badToken", state.details),
    elsewhere: say("takenOver"), ended: say("endedBecause", state.details),
  }[state.link];
  const text = words || (connected && state.paused && say("paused"));
  $("notice").hidden = !text;
  write("notice", text || "");
}

function showHint(plays) {
  const locked = document.pointerLockElement === $("canvas");
  const useful = plays && input.hasCamera && matchMedia("(pointer: fine)").matches && !state.hinted;
  const replaying = state.link === "open" && state.status?.replaying;
  $("hint").hidden = !useful && !replaying;
  $("hint").textContent = replaying ? say("replaying", { count: replaying }) : say(locked ? "mouseHeld" : "mouseHint");
}

function showFigures() {
  if (state.info) figures.show(state.status, picture.framesPerSecond());
}

// ---------------------------------------------------------------------------------------------------
// What goes out and comes in

// Gives whether it was sent: who watches holds nothing.
function sendHeld({ keys, mouse, again }) {
  if (state.role?.role !== "player" || !send({ type: "held", seq: seq + 1, keys, mouse })) return false;
  seq += 1;
  if (!again && !state.paused && !state.status?.replaying) figures.sent(seq);
  return true;
}

function afterFrame(header, error) {
  send({ type: "ready" });
  if (error) return problem(say("failed", { what: say("picture"), error: error.message }));
  figures.drawn(header);
  $("no-blocks").hidden = true;
}

// ---------------------------------------------------------------------------------------------------
// Keys on the picture, on the screen and in the list

function clusters(wanted, make) {
  const letters = new Set(Object.keys(state.info.keys));
  const known = wanted.filter(names => names.some(name => letters.has(name)));
  const place = name => (letters.has(name) ? make(name) : element("span"));
  return known.map(names => element("div", { className: "cluster" }, ...names.map(place)));
}

function makeKeys() {
  $("keys").replaceChildren(...clusters(CLUSTERS, letter => element("span", { className: "key", textContent: letter })));
  // A finger that drags turns the camera, so its keys need no pads.
  $("pads").replaceChildren(...clusters(CLUSTERS.slice(0, 1), letter => {
    const words = label(state.info.keys[letter]);
    const small = element("small", { textContent: words });
    const button = element("button", { type: "button", className: "key", tabIndex: -1 }, letter, small);
    button.setAttribute("aria-label", `${letter}: ${words}`);
    holdByTouch(button, input, letter);
    return button;
  }));
  showHeld(input.letters());
}

// Who watches holds nothing, whatever he presses.
function showHeld(letters) {
  const held = state.role?.role === "player" ? letters : [];
  state.hinted ||= held.length > 0; // he knows how to play
  for (const key of document.querySelectorAll(".key")) {
    key.classList.toggle("held", held.includes(key.firstChild.textContent));
  }
}

function makeHelp() {
  const rows = Object.entries(state.info.keys).map(([letter, words]) => [letter, label(words)]);
  const arrows = [...new Set(Object.values(arrowLetters(state.info)))].map(letter => label(state.info.keys[letter]));
  if (arrows.length) rows.push([say("arrows"), say("arrowsHelp", { labels: arrows.join(", ") })]);
  if (input.hasCamera) rows.push([say("mouse"), say("mouseHelp")]);
  rows.push([say("gamepad"), say("gamepadHelp")]);
  rows.push([say("space"), say("pauseHelp")], ["N", say("stepHelp")], ["R", say("recordHelp")], ["F", say("full")]);
  rows.push(["?", say("helpHelp")]);
  $("help-keys").replaceChildren(...rows.flatMap(([key, words]) => [
    element("dt", { textContent: key }), element("dd", { textContent: words })]));
}

function showHelp() {
  input.clear();
  document.exitPointerLock();
  $("help-dialog").showModal();
}

function fullScreen() {
  const change = document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen();
  change.catch(error => problem(say("failed", { what: say("full"), error: error.message })));
}

const SHORTCUTS = {
  Space: () => $("pause").click(), KeyN: () => $("step").click(), KeyR: () => $("record").click(), KeyF: fullScreen,
};

function onKeyDown(event) {
  if (isForPage(event) || input.onKeyDown(event) || event.repeat) return;
  if (event.code === "Space" && event.target.closest("button, input")) return; // it presses them
  const shortcut = event.key === "?" ? showHelp : SHORTCUTS[event.code];
  if (!shortcut) return;
  event.preventDefault();
  shortcut();
}

function focusPicture() {
  const busy = document.querySelector("dialog[open]") || document.activeElement.type === "number";
  if (!busy) $("canvas").focus({ preventScroll: true });
}

function listen() {
  addEventListener("keydown", onKeyDown);
  addEventListener("keyup", input.onKeyUp);
  addEventListener("blur", input.clear);
  addEventListener("pagehide", input.clear);
  document.addEventListener("visibilitychange", () => document.hidden && input.clear());
  document.addEventListener("focusin", event => isForPage(event) && input.clear());
  const canvas = $("canvas");
  // Who pressed something with the mouse goes on playing with the keys.
  document.addEventListener("pointerup", event => {
    if (event.target.closest?.("button, label, input[type=range]")) setTimeout(focusPicture);
  });
  canvas.addEventListener("click", event => {
    canvas.focus();
    if (event.pointerType !== "mouse" || !input.hasCamera || state.role?.role !== "player") return;
    // Old browsers give no promise; what is refused comes as pointerlockerror there.
    canvas.requestPointerLock()?.catch(error => problem(say("noMouse", { error: error.message })));
  });
  canvas.addEventListener("mousemove", event => {
    if (document.pointerLockElement === canvas) input.lookByPixels(event.movementX, event.movementY);
  });
  document.addEventListener("pointerlockchange", () => {
    if (document.pointerLockElement !== canvas) input.clear();
    else setTimeout(() => { state.hinted = true; show(); }, HINT_MILLISECONDS);
    show();
  });
  lookByDragging(canvas, input, ["touch", "pen"]);
  lookByDragging($("drag"), input);
  $("drag").hidden = !input.hasCamera;
  $("sensitivity-row").hidden = !input.hasCamera;
  watchGamepads(state.info, input);
}

// ---------------------------------------------------------------------------------------------------
// Beginning, files, going back

let own = null; // address of the picture that was sent, for its tile

function tile(id, source, words) {
  const radio = element("input", { type: "radio", name: "picture", value: id });
  return element("label", {}, radio, element("img", { src: source, alt: "" }), element("span", { textContent: words }));
}

function makeGallery() {
  const source = id => address(`api/gallery/${encodeURIComponent(id)}`);
  $("gallery").replaceChildren(...state.info.gallery.map(({ id, name }) => tile(id, source(id), name)));
  $("gallery").querySelector("input")?.click();
}

function showGalleryNames() {
  const span = $("gallery").querySelector("[value=uploaded] ~ span");
  if (span) span.textContent = say("own");
}

async function attempt(what, work) {
  try {
    return await work();
  } catch (error) {
    problem(say("failed", { what, error: error.message }));
    return null;
  }
}

async function sendFile(file) {
  if (/\.safetensors$/i.test(file.name)) return sendState(file);
  if (file.type && !file.type.startsWith("image/")) return problem(say("notPicture", { name: file.name }));
  return attempt(say("sending", { name: file.name }), async () => {
    await post("picture", file, file.type);
    if (own) URL.revokeObjectURL(own);
    own = URL.createObjectURL(file);
    $("gallery").querySelector("[value=uploaded]")?.parentElement.remove();
    $("gallery").append(tile("uploaded", own, say("own")));
    $("gallery").querySelector("[value=uploaded]").click();
    $("start").focus();
  });
}

function sendState(file) {
  return attempt(say("sending", { name: file.name }), () => post("state", file));
}

function post(part, file, type = "") {
  const headers = { "Content-Type": type || "application/octet-stream" };
  return ask(`api/session/${sessionId()}/${part}`, { method: "POST", body: file, headers });
}

// Fetched first, so a refusal is told in words on this page.
async function download(what, path, name, query = {}) {
  await attempt(what, async () => {
    const answer = await ask(path, { query });
    const named = /filename="?([^";]+)"?/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1];
    const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: named ?? name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

function wire() {
  const click = (id, work) => $(id).addEventListener("click", work);
  const session = part => `api/session/${sessionId()}/${part}`;
  click("pause", () => send({ type: "pause", on: !state.paused }));
  click("step", () => send({ type: "step" }));
  click("record", () => send({ type: "record", on: !state.recording }));
  click("ask", () => send({ type: "play" }));
  click("leave", () => send({ type: "leave" }));
  click("help", showHelp);
  click("full", fullScreen);
  click("language", () => {
    input?.clear(); // the keys on the screen are made anew
    useLanguage(currentLanguage() === "en" ? "zh" : "en");
    remember("language", currentLanguage());
    translate();
  });
  click("another", () => ($("seed").value = Math.floor(Math.random() * DRAWN_SEEDS)));
  click("choose", () => $("file").click());
  click("load", () => $("state-file").click());
  for (const id of ["file", "state-file"]) {
    $(id).addEventListener("change", () => {
      for (const file of $(id).files) sendFile(file);
      $(id).value = "";
    });
  }
  click("script", () => download(say("script"), session("script"), "session.jsonl"));
  click("save", () => download(say("save"), session("state"), "session.safetensors"));
  click("video", () => download(say("video"), session("video"), "world.mp4", { overlay: 0 }));
  click("video-keys", () => download(say("videoKeys"), session("video"), "world_keys.mp4", { overlay: 1 }));
  $("begin").addEventListener("submit", event => {
    event.preventDefault();
    const chosen = $("gallery").querySelector("input:checked")?.value ?? "default";
    send({ type: "start", seed: Number($("seed").value), picture: chosen });
    $("canvas").focus();
  });
  addEventListener("dragover", event => { event.preventDefault(); $("stage").classList.add("dropping"); });
  addEventListener("dragleave", event => event.relatedTarget ?? $("stage").classList.remove("dropping"));
  addEventListener("drop", event => {
    event.preventDefault();
    $("stage").classList.remove("dropping");
    for (const file of event.dataTransfer.files) sendFile(file);
  });
  addEventListener("paste", event => {
    if (isForPage(event)) return;
    const files = [...event.clipboardData.files];
    if (!files.length) problem(say("nothingPasted"));
    for (const file of files) sendFile(file);
  });
}

// ---------------------------------------------------------------------------------------------------
// The server's words

function hearStatus(message) {
  if (!state.status) $("seed").value = message.seed;
  state.status = message;
  state.paused = Boolean(message.paused);
  state.recording = Boolean(message.recording);
  if (state.paused) figures.forgetSent();
  offerBlocks();
  show();
}

// Only who plays can go back.
function offerBlocks() {
  if (state.status) picture.offer(state.role?.role === "player" ? state.status.history : null, state.status.session);
}

const HEARD = {
  hello(message) {
    state.role = message;
    figures.forgetSent();
    if (message.renewed) problem(say("newSession"));
    input.tellAgain();
  },
  role(message) {
    const turned = message.role !== state.role?.role;
    state.role = message;
    figures.forgetSent();
    if (!turned) return;
    offerBlocks();
    input.tellAgain();
    showHeld(input.letters());
  },
  status: hearStatus,
  error: ({ message }) => problem(message),
};

const heard = {
  message(message) {
    HEARD[message.type]?.(message);
    show();
  },
  closed: reason => problem(say("closed", { reason })),
  frame: (header, blob) => picture.take(header, blob),
  state(name, details = {}) {
    Object.assign(state, { link: name, details });
    if (name !== "open") {
      state.role = null;
      offerBlocks();
      input.clear();
      figures.forgetSent();
    }
    show();
  },
};

async function begin() {
  useLanguage(remembered("language") ?? "");
  translate();
  wire();
  try {
    state.info = await (await ask("api/info")).json();
  } catch (error) {
    Object.assign(state, { link: "refused", details: { status: error.status ?? "", error: error.message } });
    $("connection").dataset.state = state.link;
    $("connection").textContent = say("refused");
    return problem(error.status ? say("badToken", state.details) : say("failed", { what: say("refused"), error: error.message }));
  }
  document.title = $("world").textContent = state.info.world;
  picture = makePicture($("canvas"), $("stage-room"), $("blocks"), { shown: afterFrame, back: block => send({ type: "back", block }) });
  picture.setSize(state.info.width, state.info.height);
  input = makeInput(state.info, { send: sendHeld, shown: showHeld });
  setting("smooth", "checked", on => $("canvas").classList.toggle("smooth", on));
  setting("show-keys", "checked", on => ($("keys").hidden = !on));
  setting("show-touch", "checked", on => ($("touch").hidden = !on), matchMedia("(pointer: coarse)").matches);
  setting("sensitivity", "value", value => input.setSensitivity(2 ** Number(value)));
  $("full").hidden = !document.fullscreenEnabled;
  makeGallery();
  listen();
  translate();
  send = connect(heard);
  setInterval(showFigures, 500);
}

begin();
