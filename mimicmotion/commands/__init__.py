"""The commands: one file each with its help, its flags and its work, run as `mimicmotion NAME` or as a script.

turbo   the main job: every driving video of a folder
cache   the same with a feature cache
demo    the same on inputs made for it
sweep   every combination of several settings, on every clip
sentences  word clips joined to sentences
evaluate  results measured
evaluate_world  sessions of the world model measured
concat  keeps latents of clips, and joins them
steps   decodes the latents of every step
causal  the world model, with prepared actions
stream  the world model, with typed ones
serve_world  the world model, played in a browser
history  what was run in an output folder
gallery  a page of all results

A help text names the commands of its examples in braces, so that both ways show what one types.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Callable
from types import ModuleType

from mimicmotion.cli import guarded_console
from mimicmotion.errors import INTERRUPTED

SCRIPTS = {
    "turbo": "inference_raw_batch_turbo.py",
    "cache": "inference_raw_batch_cache.py",
    "sweep": "scripts/sweep.py",
    "sentences": "scripts/animate_sentences.py",
    "evaluate": "scripts/evaluate.py",
    "evaluate_world": "scripts/evaluate_world.py",
    "concat": "inference_latent_concat.py",
    "steps": "scripts/decode_latent_steps.py",
    "causal": "scripts/inference_causal.py",
    "stream": "scripts/inference_streaming.py",
    "serve_world": "scripts/serve_world.py",
    "history": "scripts/history.py",
    "gallery": "scripts/gallery.py",
    "demo": "scripts/demo.sh",
}
EXIT_CODES = "exit codes: 0 done, 1 some items failed, 2 wrong use, 3 weights, disk or device, 130 interrupted"

__all__ = ["SCRIPTS", "run_command", "run_console"]


@guarded_console()
def run_console(argv: list[str] | None = None) -> int:
    """The console program `mimicmotion COMMAND ...`; returns the exit code."""
    if argv is None:
        return _whole_process(lambda: run_console(sys.argv[1:]))
    width = max(map(len, SCRIPTS))
    lines = [f"  {name:{width}}  {_load(name).__doc__.partition(chr(10))[0]}" for name in SCRIPTS]
    parser = argparse.ArgumentParser(
        prog="mimicmotion",
        usage="mimicmotion COMMAND ...",
        description="Motion-driven video generation.",
        epilog="\n".join(["commands:", *lines, "", "mimicmotion COMMAND --help shows its flags.", EXIT_CODES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=tuple(SCRIPTS), metavar="COMMAND", help="one of those below")
    name = parser.parse_args(argv[:1]).command
    return run_command(name, argv[1:], console=True)


@guarded_console()
def run_command(name: str, argv: list[str] | None = None, console: bool = False) -> int:
    """Runs one command; returns the exit code.

    Args:
        argv: its arguments; None takes those of the process.
        console: the help speaks of `mimicmotion NAME` instead of the scripts.
    """
    if argv is None:
        return _whole_process(lambda: run_command(name, sys.argv[1:], console))
    module = _load(name)
    doc = re.sub(r"\{(\w+)\}", lambda match: _spelled(match[1], console), module.__doc__)
    return module.main(argv, doc, f"mimicmotion {name}" if console else None)


def _whole_process(work: Callable[[], int]) -> int:
    """The exit code of `work`, which is all that the process is for: 130 also for an interrupt while it is imported."""
    try:
        from mimicmotion.cli import interrupts_of_process

        with interrupts_of_process():
            return work()
    except KeyboardInterrupt:
        return INTERRUPTED


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _spelled(name: str, console: bool) -> str:
    """How a command is called."""
    script = SCRIPTS[name]
    if console:
        return f"mimicmotion {name}"
    return f"python {script}" if script.endswith(".py") else script
