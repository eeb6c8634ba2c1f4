"""A run of stubs as a process of its own: python -m tests.cluster.driver FOLDER NAME..."""

import sys
from pathlib import Path

from mimicmotion.animation import outcome_facts, run_all_on_workers, still_to_do, summary_table
from mimicmotion.cli import exit_code_of, say, setup_logging
from mimicmotion.config import load_config
from mimicmotion.results import recorded
from tests.cluster import stubs


def work(folder, names):
    setup_logging()
    config = load_config(overrides=["cluster.workers=2", "cluster.start_timeout=900", "runtime.device=cpu"])
    outcomes = stubs.outcomes_of(folder, *names)
    for outcome in outcomes:
        if outcome.job.output.exists():
            outcome.skip()
    with recorded(folder, config, len(outcomes)) as log:

        def settled(outcome):
            log.item(**outcome_facts(outcome))

        left = still_to_do(outcomes, settled)
        log.exit_code = run_all_on_workers(config, left, stubs.fingerprint(), stubs.make, (), settled, [folder])
    say(summary_table(outcomes))
    return log.exit_code


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    sys.exit(exit_code_of(lambda: work(Path(folder), names)))
