// Which keys are held and how far the mouse went, from keyboard, mouse, touch and gamepad. One set, as in a game.

const MOST_MESSAGES = 30; // a second, of mouse movement; keys go out at once
const PIXELS_PER_STEP = 12; // at sensitivity 1: 180 pixels turn by a block's 12 steps
const MOST_STEPS = 500; // in one message
const DEAD_ZONE = 0.35; // of a stick, from where it counts as a key
const SMALL_DEAD_ZONE = 0.12; // of a stick that turns the camera
const ARROWS = { ArrowUp: [1, 0, "W"], ArrowDown: [-1, 0, "S"], ArrowLeft: [0, -1, "A"], ArrowRight: [0, 1, "D"] };
const STICK = [["W", 1, -1], ["S", 1, 1], ["A", 0, -1], ["D", 0, 1]]; // letter, axis, side
const BUTTONS = { 12: "W", 13: "S", 14: "A", 15: "D", 4: "Z", 5: "C" };

// The letter of each arrow key: the camera's that goes that way, or else a move's.
export function arrowLetters(info) {
  const found = {};
  for (const [code, [pitch, yaw, move]] of Object.entries(ARROWS)) {
    const camera = Object.entries(info.camera).find(([, step]) => Math.sign(step[0]) === pitch && Math.sign(step[1]) === yaw);
    const letter = camera?.[0] ?? move;
    if (letter in info.keys) found[code] = letter;
  }
  return found;
}

function bounded(steps) {
  return Math.max(-MOST_STEPS, Math.min(MOST_STEPS, steps));
}

// info: of api/info. send({keys, mouse, again}) -> whether it went out; again: it is no news. shown(letters) when the held ones change.
export function makeInput(info, { send, shown }) {
  const down = new Map(); // what is held -> its letter, in the order of pressing
  const arrows = arrowLetters(info);
  const tilts = Object.values(info.camera).some(([pitch]) => pitch !== 0);
  const turns = Object.values(info.camera).some(([, yaw]) => yaw !== 0);
  let mouse = [0, 0];
  let sent = null;
  let timer = null;
  let sensitivity = 1;

  function letters() {
    const held = [...new Set(down.values())];
    return info.one_hot ? held.slice(-1) : held;
  }

  function press(source, letter) {
    if (!(letter in info.keys) || down.get(source) === letter) return;
    down.set(source, letter);
    changed();
  }

  function release(source) {
    if (down.delete(source)) changed();
  }

  // movement in units of the camera's step, up and right
  function look(pitch, yaw) {
    mouse = [bounded(mouse[0] + (tilts ? pitch : 0)), bounded(mouse[1] + (turns ? yaw : 0))];
    if (mouse.some(value => value !== 0)) timer ??= setTimeout(post, 1000 / MOST_MESSAGES);
  }

  function lookByPixels(x, y) {
    look((-y * sensitivity) / PIXELS_PER_STEP, (x * sensitivity) / PIXELS_PER_STEP);
  }

  function changed() {
    shown(letters());
    if (String(letters()) !== sent) post();
  }

  function post(again = false) {
    clearTimeout(timer);
    timer = null;
    const keys = letters();
    if (send({ keys, mouse, again })) sent = String(keys);
    mouse = [0, 0]; // what could not be sent is of the past
  }

  // Everything is let go, as when the window loses the keyboard.
  function clear() {
    mouse = [0, 0];
    down.clear();
    changed();
  }

  // The server has forgotten what it was told, or never heard it.
  function tellAgain() {
    sent = null;
    mouse = [0, 0];
    post(true);
  }

  function letterOf(code) {
    return arrows[code] ?? (/^Key[A-Z]$/.test(code) ? code.slice(3) : null);
  }

  function onKeyDown(event) {
    const letter = letterOf(event.code);
    if (!letter || !(letter in info.keys)) return false;
    event.preventDefault();
    if (!event.repeat) press(event.code, letter);
    return true;
  }

  return {
    press, release, look, lookByPixels, clear, tellAgain, onKeyDown, letterOf, letters,
    // Of keys that are let go while Meta is down, macOS tells nothing.
    onKeyUp: event => (event.key === "Meta" ? clear() : release(event.code)),
    setSensitivity: value => (sensitivity = value),
    hasCamera: tilts || turns,
  };
}

// Typing in a field and the browser's own shortcuts are not for the game.
export function isForPage(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return true;
  const { type } = event.target;
  if (type === "range" || type === "radio") return /^(Arrow|Home|End|Page)/.test(event.code ?? "");
  return type === "number";
}

// Keys on the screen: any number of fingers, each holds the key it went down on.
export function holdByTouch(button, input, letter) {
  button.addEventListener("pointerdown", event => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    input.press(`pointer ${event.pointerId}`, letter);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    button.addEventListener(name, event => input.release(`pointer ${event.pointerId}`));
  }
  button.addEventListener("contextmenu", event => event.preventDefault());
}

// An area where a finger or pen drags the view.
export function lookByDragging(area, input, types = ["touch", "pen", "mouse"]) {
  const fingers = new Map();
  area.addEventListener("pointerdown", event => {
    if (!types.includes(event.pointerType)) return;
    event.preventDefault();
    area.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  area.addEventListener("pointermove", event => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    input.lookByPixels(event.clientX - before[0], event.clientY - before[1]);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    area.addEventListener(name, event => fingers.delete(event.pointerId));
  }
}

// Left stick and cross: keys; right stick: the camera, fully out one step a frame.
export function watchGamepads(info, input) {
  let running = false;
  let last = 0;

  function read(now) {
    const pads = navigator.getGamepads().filter(Boolean);
    running = pads.length > 0;
    if (!running) return;
    const frames = (Math.min(now - last, 100) / 1000) * info.fps;
    last = now;
    // A stick may still be held when another window has the keyboard.
    if (document.hasFocus()) for (const pad of pads) readOne(pad, frames);
    requestAnimationFrame(read);
  }

  function readOne(pad, frames) {
    for (const [letter, axis, side] of STICK) hold(`stick ${pad.index} ${letter}`, letter, pad.axes[axis] * side > DEAD_ZONE);
    for (const [button, letter] of Object.entries(BUTTONS)) {
      hold(`button ${pad.index} ${button}`, letter, pad.buttons[button]?.pressed ?? false);
    }
    const [yaw = 0, pitch = 0] = pad.axes.slice(2, 4).map(value => (Math.abs(value) > SMALL_DEAD_ZONE ? value : 0));
    if (yaw || pitch) input.look(-pitch * frames, yaw * frames);
  }

  function hold(source, letter, held) {
    if (held) input.press(source, letter); else input.release(source);
  }

  function begin() {
    if (running) return;
    running = true;
    last = performance.now();
    requestAnimationFrame(read);
  }

  addEventListener("gamepadconnected", begin);
  addEventListener("gamepaddisconnected", () => input.clear());
}
