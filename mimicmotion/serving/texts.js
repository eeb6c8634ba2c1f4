// What the page says, in each language. {braces} are filled in. Messages of the server are English in every language.

const ENGLISH = {
  language: "中文", languageLabel: "中文 (Chinese)",
  picture: "The world's picture", controls: "Controls", touch: "Touch controls", problems: "Problems", figures: "Figures",
  keys: "Keys", close: "Close", dismiss: "Dismiss this message",
  connecting: "connecting", open: "connected", lost: "connection lost, trying again in {seconds} s",
  refused: "refused", elsewhere: "this session goes on in another window",
  noServer: "The server does not answer; your session waits for you there.",
  badToken: "The server refused this page ({status}): {error} Open the link that the server printed.",
  ended: "ended", endedBecause: "{reason}", closed: "The server closed the connection: {reason}",
  takenOver: "This session was opened in another window. Reload this page to take it back.",
  newSession: "The session from before has ended on the server; this is a new one.",
  player: "you play", watcher: "you watch", waiting: "you watch and wait for your turn, {place} before you play",
  othersWait: "you play, {count} waiting",
  ask: "Ask for the turn", leave: "Give up the turn",
  replaying: "a recorded session is shown, {count} blocks to come; then it is yours",
  pause: "Pause", resume: "Go on", paused: "paused", step: "One block", record: "Record", stopRecording: "Stop recording",
  recording: "recording",
  sensitivity: "Mouse", smooth: "Smooth", full: "Full screen", showKeys: "Show keys", showTouch: "Touch pads", drag: "drag to look",
  mouseHint: "Click the picture to look with the mouse", mouseHeld: "Esc gives the mouse back",
  noMouse: "The browser did not give the mouse to this page ({error}).",
  earlier: "Earlier blocks", noBlocks: "Blocks appear here as they are made; choose one to go back to it and take another way.",
  backTo: "Go back to before block {block}",
  begin: "Begin from a picture", pictures: "Pictures", own: "yours",
  drop: "Drop a picture anywhere on this page, paste one, or choose a file.", choose: "Choose a file", seed: "Seed",
  another: "Draw a seed", start: "Begin",
  sending: "sending {name}", notPicture: "{name} is no picture and no saved state, so it was not sent.", nothingPasted: "There is no picture in what was pasted.",
  files: "Files of this session", script: "Download the action script", save: "Download the state",
  load: "Load a state", video: "Download the recording", videoKeys: "Download it with keys drawn in",
  failed: "{what}: {error}",
  shown: "frames/s shown", made: "frames/s made", denoise: "block: denoise", decode: "block: decode",
  transport: "block: transport", latency: "key to frame", latencyWorst: "worst of the last {count}", block: "block", seedFigure: "seed",
  dropped: "frames dropped", visitors: "visitors", milliseconds: "{value} ms", noFigure: "–",
  mouse: "mouse", mouseHelp: "click the picture, then move; Esc gives the mouse back", arrows: "arrow keys",
  arrowsHelp: "{labels}", gamepad: "gamepad", gamepadHelp: "left stick moves, right stick looks", space: "Space",
  next: "N", pauseHelp: "pause and go on", stepHelp: "one block while paused", recordHelp: "record on and off", helpHelp: "this list",
  aboutFigures: "Shown is what this page drew; made is how many of the frames that the world asks for the model can make. Key to frame is the time from sending a key to drawing the first frame of a block that felt it. A slow connection drops frames and does not lag.",
  labels: {},
};

const CHINESE = {
  language: "English", languageLabel: "English",
  picture: "世界画面", controls: "控制", touch: "触摸控制", problems: "问题", figures: "数据",
  keys: "按键", close: "关闭", dismiss: "关闭这条消息",
  connecting: "正在连接", open: "已连接", lost: "连接中断，{seconds} 秒后重试",
  refused: "被拒绝", elsewhere: "此会话在另一个窗口中继续",
  noServer: "服务器没有应答；你的会话仍保留在那里。",
  badToken: "服务器拒绝了此页面（{status}）：{error} 请打开服务器打印的链接。",
  ended: "已结束", endedBecause: "{reason}", closed: "服务器关闭了连接：{reason}",
  takenOver: "此会话已在另一个窗口中打开。重新加载本页即可取回。",
  newSession: "之前的会话已在服务器上结束；这是一个新会话。",
  player: "你在操作", watcher: "你在观看", waiting: "你在观看并排队，排在第 {place} 位", othersWait: "你在操作，{count} 人在等待",
  ask: "请求操作", leave: "让出操作",
  replaying: "正在播放录下的会话，还有 {count} 块；之后由你操作",
  pause: "暂停", resume: "继续", paused: "已暂停", step: "走一块", record: "录制", stopRecording: "停止录制", recording: "录制中",
  sensitivity: "鼠标灵敏度", smooth: "平滑显示", full: "全屏", showKeys: "显示按键", showTouch: "触摸按键", drag: "拖动以转动视角",
  mouseHint: "点击画面后用鼠标转动视角", mouseHeld: "按 Esc 释放鼠标",
  noMouse: "浏览器没有把鼠标交给此页面（{error}）。",
  earlier: "之前的块", noBlocks: "生成的块会出现在这里；选一个就回到那里，走另一条路。", backTo: "回到第 {block} 块之前",
  begin: "从一张图片开始", pictures: "图片", own: "你的图片",
  drop: "把图片拖到页面任意位置、粘贴，或选择文件。", choose: "选择文件", seed: "种子", another: "随机种子", start: "开始",
  sending: "正在发送 {name}", notPicture: "{name} 不是图片，也不是保存的状态，因此没有发送。", nothingPasted: "粘贴的内容里没有图片。",
  files: "此会话的文件", script: "下载动作脚本", save: "下载状态", load: "载入状态", video: "下载录像", videoKeys: "下载带按键的录像",
  failed: "{what}：{error}",
  shown: "每秒显示帧数", made: "每秒生成帧数", denoise: "每块去噪", decode: "每块解码", transport: "每块传输",
  latency: "按键到画面", latencyWorst: "最近 {count} 次中最慢", block: "块", seedFigure: "种子", dropped: "丢弃的帧", visitors: "访客",
  milliseconds: "{value} 毫秒", noFigure: "–",
  mouse: "鼠标", mouseHelp: "点击画面后移动；按 Esc 释放鼠标", arrows: "方向键", arrowsHelp: "{labels}", gamepad: "手柄",
  gamepadHelp: "左摇杆移动，右摇杆转动视角", space: "空格", next: "N", pauseHelp: "暂停与继续", stepHelp: "暂停时走一块",
  recordHelp: "开始与停止录制", helpHelp: "此列表",
  aboutFigures: "“显示”是本页画出的帧，“生成”是在世界所要求的帧数之内模型能做出的帧数。“按键到画面”是从发出按键到画出感受到它的那一块的第一帧所用的时间。连接慢时会丢帧，不会越来越滞后。",
  labels: {
    "forward": "前进", "back": "后退", "left": "左移", "right": "右移", "no move": "不动",
    "look up": "向上看", "look down": "向下看", "look left": "向左看", "look right": "向右看", "no look": "视角不动",
    "steer left": "左打方向", "steer right": "右打方向", "jump": "跳跃", "slide": "滑铲",
    "left side": "靠左", "right side": "靠右", "turn left": "左转", "turn right": "右转",
  },
};

export const TEXTS = { en: ENGLISH, zh: CHINESE };
let language = /^zh/i.test(navigator.language) ? "zh" : "en";

export function useLanguage(name) {
  language = name in TEXTS ? name : language;
}

export function currentLanguage() {
  return language;
}

export function say(name, values = {}) {
  return TEXTS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

// What a key does, by its English name in the action modes.
export function label(english) {
  return TEXTS[language].labels[english] ?? english;
}
