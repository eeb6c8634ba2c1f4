"""What a session asks and says, in each language, and which of them a terminal gets.

Log lines, errors and --help are English in every language.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The first that is set decides what language messages are in, as POSIX has it.
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


@dataclass(frozen=True)
class Texts:
    """Questions and messages in one language; what stands in braces is filled in.

    labels: what a key does, by its English name in the action modes.
    """

    picture: str
    no_picture: str
    block: str
    keys: str
    keyboard: str
    mouse: str
    unknown_keys: str
    too_many_keys: str
    no_script: str
    understood: str
    runs_on: str
    go_on: str
    stop: str
    saved_block: str
    saved_video: str
    saved_session: str
    no_frame: str
    end_of_input: str
    interrupted: str
    labels: Mapping[str, str] = field(default_factory=dict)


ENGLISH = Texts(
    picture="Please input the image path (Enter: {default}): ",
    no_picture="{error}",
    block="--- Block {number} (latents {first}-{last}) ---",
    keys="Keys of this block (e.g. {held}, or with frames {script}; Enter: no move; n: end): ",
    keyboard="Please input the keyboard action (e.g. W, or W A for both): ",
    mouse="Please input the mouse action (e.g. L): ",
    unknown_keys="{error}",
    too_many_keys="{error}",
    no_script="{error}",
    understood="this block: {script}",
    runs_on="the answer runs on over the next blocks, without questions: {blocks}",
    go_on="Continue? (Press 'n' to break): ",
    stop="Press 'n' to stop generation: ",
    saved_block="saved {path} ({frames} frames; {total} in all)",
    saved_video="saved {path} ({frames} frames)",
    saved_session="saved {path}; go on with --resume_from {path}",
    no_frame="no frame was made, so no video was saved",
    end_of_input="\nend of input",
    interrupted="\ninterrupted",
)
CHINESE = Texts(
    picture="请输入图片路径（直接回车：{default}）：",
    no_picture="这张图片无法使用：{error}",
    block="--- 第 {number} 块（潜变量 {first}-{last}）---",
    keys="请输入本块的按键（例如 {held}，或写明帧数 {script}；直接回车：不动；n：结束）：",
    keyboard="请输入键盘动作（例如 W；同时按住两个键：W A）：",
    mouse="请输入鼠标动作（例如 L）：",
    unknown_keys="{mode} 模式没有按键 {keys}；可用的按键：{help}",
    too_many_keys="{mode} 模式每次只能按一个键，收到的是 {keys}",
    no_script="看不懂 {entry}；请写成 按键*帧数，例如 W*4 或 W-4",
    understood="本块：{script}",
    runs_on="该输入会延续到后面的块，期间不再询问；延续的块数：{blocks}",
    go_on="继续吗？（输入 n 结束，直接回车继续）：",
    stop="输入 n 退出，直接回车换一张图片重新开始：",
    saved_block="已保存 {path}（本块 {frames} 帧，共 {total} 帧）",
    saved_video="已保存 {path}（{frames} 帧）",
    saved_session="已保存 {path}；之后可用 --resume_from {path} 继续",
    no_frame="没有生成任何帧，因此没有保存视频",
    end_of_input="\n输入已结束",
    interrupted="\n已中断",
    labels={
        "forward": "前进", "back": "后退", "left": "左移", "right": "右移", "no move": "不动",
        "look up": "向上看", "look down": "向下看", "look left": "向左看", "look right": "向右看",
        "no look": "视角不动", "steer left": "左打方向", "steer right": "右打方向", "jump": "跳跃", "slide": "滑铲",
        "left side": "靠左", "right side": "靠右", "turn left": "左转", "turn right": "右转",
    },
)  # fmt: skip
TEXTS = {"en": ENGLISH, "zh": CHINESE}


def texts_for(lang: str, environment: Mapping[str, str], encoding: str | None) -> Texts:
    """The texts of the language `lang`: en, zh, or auto for the terminal's.

    Args:
        environment: the variables that name the terminal's language.
        encoding: of the terminal; one that cannot show Chinese gets English under auto. None: it shows anything.
    """
    if lang != "auto":
        return TEXTS[lang]
    named = next(filter(None, (environment.get(name) for name in VARIABLES)), "")
    language = named.replace("-", "_").split(".")[0].split("@")[0].split("_")[0].lower()
    return CHINESE if language == "zh" and _can_show(CHINESE, encoding) else ENGLISH


def _can_show(texts: Texts, encoding: str | None) -> bool:
    try:
        str(texts).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
