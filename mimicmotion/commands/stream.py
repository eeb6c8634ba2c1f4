"""Interactive mode of the action-driven world model: type the keys of each block and see it at once.

examples:
  {stream}   # asks for a picture, then for keys
  {stream} --actions 'W*12 W+L*12' --save_state outputs/walk.safetensors   # without typing
  {stream} --actions 'S*12' --resume_from outputs/walk.safetensors --whole
  {stream} --replay outputs/first_frame.session.jsonl   # the same frames again

Each block appears as <picture>_current.mp4 (9 frames, then 12); the whole session is saved as <picture>.mp4
and, with the keys drawn in, as <picture>_icon.mp4, also after Ctrl-C or the end of the input. There is no
limit of length. <picture>.session.jsonl beside them is all that --replay needs. It asks in English or in
Chinese, as the terminal does unless --lang says so; keys typed in full width count as the keys that they are.

One answer has all keys of a block: W L holds both, W*4 W+L*8 (or w-4,wl-8) says for how many frames, W L*6
holds W throughout and L for 6 frames, Enter is no move, n ends the session. --ask three asks as the published
script does.
"""

from mimicmotion.cli import REPLAY, STREAMING, Flag, run_script
from mimicmotion.config import Config

SESSION = (
    *REPLAY,
    Flag("--max_num_output_frames", "streaming.max_latents", int, "end a session after so many latents"),
    Flag("--resume_from", "streaming.resume_from", str, "go on with a session saved before"),
    Flag("--whole", "streaming.whole", True, "with --resume_from: the video has the blocks before it too, made again"),
    Flag("--session_log", "streaming.session_log", str, "log of the session of --resume_from; null: the one beside it"),
    Flag("--save_state", "streaming.save_state", str, "save the session there at its end"),
    Flag("--ask", "streaming.ask", str, "questions for a block: one takes all keys, three are the published ones"),
    Flag("--lang", "streaming.lang", str, "language of questions and messages; auto: by LC_ALL, LC_MESSAGES or LANG"),
)
GROUPS = {"streaming": STREAMING, "session": SESSION}


def work(config: Config) -> int:
    """Runs the session; imported here so that --help does not wait for torch."""
    from mimicmotion.streaming import run_streaming

    return run_streaming(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog)
