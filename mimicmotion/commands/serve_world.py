"""Play a world model in a browser: hold keys, move the mouse, see it at once.

examples:
  {serve_world}   # needs minutes
  {serve_world} --port 0 --seed 3   # needs minutes
  {serve_world} --host 0.0.0.0 --port 8010   # needs minutes
  {serve_world} --replay outputs/first_frame.session.jsonl   # needs fragment

It prints a link and serves until Ctrl-C. Only browsers of this machine reach it, unless --host names another address;
the link then has a token that nobody else knows. From another machine, ssh -L 8000:localhost:8000 is the safest way.
Recordings go to the output folder with their session's log; nothing there is ever overwritten. doc/serve_world.md
tells the rest.
"""

from mimicmotion.cli import STREAMING, Flag, run_script
from mimicmotion.config import Config, Origin

SERVING = (
    Flag("--config_path", "serving.config_path", str, "world model: a file of configs/streaming"),
    Flag("--img_path", "serving.image", str, "first picture; null: one that the world knows"),
    Flag("--host", "serving.host", str, "address to listen at; any but this machine's own asks for a token"),
    Flag("--port", "serving.port", int, "port to listen at; 0 takes any that is free"),
    Flag("--names", "serving.names", "list", "further names by which browsers reach this machine"),
    Flag("--require_token", "serving.require_token", True, "ask for a token on this machine too"),
    Flag("--idle_timeout", "serving.idle_timeout", float, "seconds without a key after which a session ends"),
    Flag("--turn_seconds", "serving.turn_seconds", float, "length of a turn while others wait"),
    Flag("--history", "serving.history", int, "blocks that one can go back to at once; earlier ones are made again"),
    Flag("--history_mb", "serving.history_mb", int, "MiB that these may take"),
    Flag("--replay", "streaming.replay", str, "show the session of this log first, then go on from its end"),
)
NOT_SERVED = ("--config_path", "--img_path", "--actions", "--overwrite", "--overlap")
WORLD = tuple(flag for flag in STREAMING if flag.name not in NOT_SERVED)
GROUPS = {"serving": SERVING, "world": WORLD}
WORLD_PATH = "streaming.config_path"


def prepare(origin: Origin) -> None:
    """The world is the one that is named for serving, unless the command line names one for all of streaming."""
    if not origin.sources.get(WORLD_PATH, "").startswith(f"{WORLD_PATH}="):
        origin.config.streaming.config_path = origin.config.serving.config_path


def work(config: Config) -> int:
    """Serves; imported here so that --help does not wait for torch."""
    from mimicmotion.serving import serve_world

    return serve_world(config)


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    return run_script(doc, GROUPS, work, argv, prog=prog, prepare=prepare)
