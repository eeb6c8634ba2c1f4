"""What was run in an output folder, with what, and how it ended.

examples:
  {history}   # needs fragment
  {history} outputs --since 2026-11-01 --grep scheduler=AYS   # needs fragment
  {history} outputs --items last   # needs fragment
  {history} outputs --summary   # needs fragment
  {history} outputs --diff 20261128-1845 last   # needs fragment
  {history} outputs --rerun last   # needs fragment

Runs are read from runs.jsonl in the folder and below it. A run is named by any part of its id that no other run has,
or "last".

exit codes: 0 done, 1 with --summary where a result is not finished or a shard has no end, 2 wrong use
"""

import argparse
import json
import shlex
from collections import Counter
from dataclasses import asdict

from mimicmotion.cli import HelpFormatter, exit_code_of, say, setup_logging
from mimicmotion.config import OutputSettings
from mimicmotion.errors import UsageError

LISTED = 20  # shards in one message


def build_parser(doc: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The command line."""
    summary, _, rest = doc.partition("\n")
    parser = argparse.ArgumentParser(
        prog=prog, description=summary, epilog=rest.strip(), formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", nargs="?", default=OutputSettings.output_dir, metavar="DIR", help="output folder")
    which = parser.add_argument_group("which runs are listed")
    which.add_argument("--since", metavar="DATE", help="those that began on that day or later, such as 2026-11-28")
    which.add_argument("--status", help="those with a result that ended so: done, skipped, failed, interrupted")
    which.add_argument("--grep", metavar="TEXT", help="those with this text in their command or settings")
    which.add_argument("--last", type=int, metavar="N", help="the newest N")
    which.add_argument("--json", action="store_true", help="as JSON, with all that is known")
    one = parser.add_argument_group("instead of the list").add_mutually_exclusive_group()
    one.add_argument("--items", metavar="RUN", help="how each result of a run ended")
    one.add_argument(
        "--summary", action="store_true", help="how each result ended last in any of these runs, and what is not there"
    )
    one.add_argument("--diff", nargs=2, metavar="RUN", help="in what two runs differ")
    one.add_argument("--rerun", metavar="RUN", help="the command of a run, to be typed or piped into a shell")
    return parser


def show(arguments: argparse.Namespace) -> int:
    """Prints what was asked for; the exit code. Raises: UsageError for a folder without a history, or no such run."""
    from mimicmotion.results import compare, one_run, read_history

    runs, damaged = read_history(arguments.folder, items=bool(arguments.items or arguments.json))
    code = 0
    if arguments.rerun:
        say(rerun_line(one_run(runs, arguments.rerun)))
    elif arguments.diff:
        one, other = (one_run(runs, part) for part in arguments.diff)
        say("\n".join(compare(one, other)) or "the same settings, code, machine and versions")
    elif arguments.items:
        say("\n".join(map(item_line, one_run(runs, arguments.items).items)) or "no result was begun")
    else:
        chosen = [run for run in runs if is_chosen(run, arguments)][-(arguments.last or 0) :]
        if arguments.summary:
            code = show_summary(chosen)
        elif arguments.json:
            say(json.dumps([asdict(run) | {"log": str(run.log)} for run in chosen], indent=2))
        else:
            say("\n".join(line for run in chosen for line in described(run)) or "no run is like that")
    for path, lines in damaged.items():
        say(f"{path}: {lines} damaged lines were passed over")
    return code


def is_chosen(run, arguments: argparse.Namespace) -> bool:
    """Whether the flags let a run be listed."""
    text = " ".join([*run.command, *(f"{path}={value}" for path, value in run.settings.items())])
    return (
        run.time >= (arguments.since or "")
        and (arguments.status is None or arguments.status in run.counts)
        and (arguments.grep is None or arguments.grep in text)
    )


def described(run) -> list[str]:
    """The lines of one run: when, how it ended, its results, its command."""
    planned, ended = run.begun.get("planned", 0), sum(run.counts.values())
    left = [f"{planned - ended} not run"] if isinstance(planned, int) and planned > ended else []
    results = ", ".join([*(f"{count} {status}" for status, count in run.counts.items()), *left]) or "no results"
    seconds = f", {run.ended['seconds']:.0f} s" if isinstance(run.ended.get("seconds"), int | float) else ""
    return [
        f"{run.id}  {run.time}  exit code {run.end}{seconds}  {results}",
        f"    {shlex.join(run.command) or 'from Python'}",
    ]


def show_summary(runs: list) -> int:
    """Prints how each result of some runs ended last, and what is not there; 1 where there is anything of that kind."""
    from mimicmotion.results import sum_up

    logs = dict.fromkeys(run.log for run in runs)
    sums = {log: sum_up(log, [run for run in runs if run.log == log]) for log in logs}
    for summary in sums.values():
        say("\n".join(item_line(item, "output") for item in summary.items) or "no result was begun")
        if summary.unlisted:
            say(f"and {summary.unlisted} that were finished before and have no line")
    counts = Counter(str(item.get("status")) for summary in sums.values() for item in summary.items)
    counts["skipped"] += sum(summary.unlisted for summary in sums.values())
    finished, planned = (sum(getattr(s, name) for s in sums.values()) for name in ("finished", "planned"))
    ended = ", ".join(f"{count} {status}" for status, count in (+counts).items())
    say(f"{finished} of {planned} results are finished: {ended}")
    if not_begun := planned - counts.total():
        say(f"{not_begun} results were planned and not begun")
    for log, summary in sums.items():
        for name, why in list(summary.without_end.items())[:LISTED]:
            say(f"{log}: {'the newest run' if name == '1/1' else f'shard {name}'} {why}")
        if len(summary.without_end) > LISTED:
            say(f"{log}: and {len(summary.without_end) - LISTED} more shards")
    return 1 if finished < planned or any(summary.without_end for summary in sums.values()) else 0


def item_line(item: dict, name: str = "video") -> str:
    """How one result ended, called by its driving video or by its `output`."""
    seconds = f"{item['seconds']:.1f} s" if isinstance(item.get("seconds"), int | float) else "-"
    what = item.get(name, item.get("output", "-"))
    message = item.get("message", "")
    return f"{item.get('status', '-')!s:12}{seconds:>10}  {what}  {message if message != what else ''}".rstrip()


def rerun_line(run) -> str:
    """What to type to run it again. Raises: UsageError for a run that had no command."""
    if not run.command:
        raise UsageError(f"run {run.id} was started from Python, not by a command; its settings: {run.settings}")
    # "--shard auto" would be another one, or none, where the line is typed.
    shard = [f"batch.shard={run.begun['shard']}"] if "shard" in run.begun else []
    return f"cd {shlex.quote(str(run.begun.get('folder', '.')))} && {shlex.join([*run.command, *shard])}"


def main(argv: list[str] | None, doc: str, prog: str | None) -> int:
    """Runs the command; returns the exit code."""
    arguments = build_parser(doc, prog).parse_args(argv)
    setup_logging()
    return exit_code_of(lambda: show(arguments))
