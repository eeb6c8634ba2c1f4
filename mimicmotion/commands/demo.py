"""Animate a drawn person with a real person's motion on the embedded model: the turbo run on inputs made for it.

examples:
  {demo}   # needs network
  {demo} --comparison --num_inference_steps 8   # needs network

The inputs are made in assets/demo. The clip is cut from a video that pip downloads; where it cannot be had, a drawn
person drives, with exact poses. All flags of {turbo} work.
"""

import functools

from mimicmotion.cli import run_script, say
from mimicmotion.commands import turbo
from mimicmotion.config import Config
from mimicmotion.demo import provide_inputs


def work(config: Config) -> int:
    """Runs the batch and prints where its results lie."""
    code = turbo.work(config)
    from mimicmotion.results import plan_jobs

    for job in plan_jobs(config):
        if job.output.is_file():
            say(f"\nResult:          {job.output.resolve()}")
            say(f"Contact sheet:   {job.beside('.jpg').resolve()}")
            say(f"How it was made: {job.beside('.json').resolve()}")
    return code


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    prepare = functools.partial(provide_inputs, renew=True)
    return run_script(doc, turbo.GROUPS, work, argv, prog=prog, prepare=prepare)
