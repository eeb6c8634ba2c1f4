"""A sweep from settings to files.

    <output_dir>/<cell>/<folder>/<video>.mp4     an ordinary result, with its record
    <output_dir>/sweep.csv, sweep.json           a row per result
    <output_dir>/compared/<folder>/<video>_...   all results of one clip: a grid, a video side by side
    <output_dir>/sweep.png                       quality over seconds, with --metrics
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

from mimicmotion.acceleration import chosen_acceleration
from mimicmotion.animation import (
    Animator,
    AnimatorWork,
    Models,
    Opened,
    Outcome,
    Seals,
    fingerprint,
    look_through,
    outcome_facts,
    run_all,
    run_all_on_workers,
    still_to_do,
    uses_workers,
    video_bytes,
)
from mimicmotion.cli import say
from mimicmotion.config import Config, Origin
from mimicmotion.errors import INTERRUPTED, MimicMotionError, SetupError, UsageError
from mimicmotion.feature_cache import FeatureCache, cached_animator, statistics_lines
from mimicmotion.files import require_writable
from mimicmotion.gallery import refresh_page
from mimicmotion.places import looked_for
from mimicmotion.results import Manifest, Shard, choose_shard, left_out, recorded
from mimicmotion.sweep.cells import Cell, make_cells
from mimicmotion.sweep.order import in_turns
from mimicmotion.sweep.plan import plan_table
from mimicmotion.sweep.tables import Row, summary, write_tables

logger = logging.getLogger(__name__)


def run_sweep(origin: Origin) -> int:
    """Makes every result of every cell and what compares them; the exit code as `animate_folder`. A dry run that finds
    a result that cannot be made ends with 1.

    A failing cell leaves its reason in the tables and the others go on. A shard makes its results; what compares them
    is for a run that has all of them.

    Raises: UsageError and SetupError for what can be known before the first result.
    """
    config = origin.config
    on_workers = uses_workers(config)
    shard, cells = choose_shard(config), make_cells(origin)
    planned = sum(len(cell.jobs) for cell in cells)
    cells = cells_of(shard, cells, config.sweep.output_dir)
    if not cells:
        return shard.run_empty(config, config.sweep.output_dir, planned)
    sweep = Sweep(config, cells)
    sweep.know_by_seals(Manifest(config.sweep.output_dir, shard.part))
    sweep.check()
    if config.output.dry_run:
        if not on_workers:
            sweep.resolve()
        plan, failing = plan_table(sweep.animators, sweep.cells)
        return (1 if failing else 0) if say(plan) else SetupError.exit_code
    folder = require_writable(config.sweep.output_dir)
    for place in {job.output.parent for cell in sweep.cells for job in cell.jobs}:
        require_writable(place)
    mine = sum(len(cell.jobs) for cell in sweep.cells)
    with recorded(folder, config, mine, **shard.facts(planned)) as log, sweep.seals_written():
        if on_workers:
            outcomes = sweep.outcomes_for_workers()
            folders = {outcome.job.output.parent for outcome in outcomes}

            def settled(outcome: Outcome) -> None:
                log.item(**outcome_facts(outcome))
                if outcome.status == "done":
                    sweep.animator_of(outcome).seals.note(outcome.job)

            log.exit_code = run_all_on_workers(
                config, still_to_do(outcomes, settled), fingerprint(sweep.animators), sweep_work, (config, cells),
                settled, folders,
            )  # fmt: skip
        else:
            outcomes = sweep.outcomes()
            log.exit_code = run_all(outcomes, sweep.work, log)
    for line in sweep.cache_lines():
        logger.info("Feature cache, %s", line)
    rows = sweep.rows(outcomes)
    say(summary(rows, left_out(config)))
    if shard.count > 1:
        say("When all shards have ended, the same command without --shard skips what is there and compares it")
    else:
        compare(config, rows, measured=log.exit_code != INTERRUPTED)
    if config.output.page:
        refresh_page(folder)
    return log.exit_code


def cells_of(shard: Shard, cells: list[Cell], folder: str) -> list[Cell]:
    """The cells with the results of a shard alone; those that have none are left out."""
    mine = [dataclasses.replace(cell, jobs=shard.jobs_of(cell.jobs, folder)) for cell in cells]
    return [cell for cell in mine if cell.jobs]


def compare(config: Config, rows: list[Row], measured: bool) -> None:
    """Writes what compares the results; of a sweep that was interrupted the tables alone."""
    folder, wanted = Path(config.sweep.output_dir), config.sweep.metrics or config.sweep.truth is not None
    written = write_tables(folder, rows)
    say("\n".join(f"{path}: a row per result" for path in written))
    if not measured or not any(row.facts for row in rows):
        return
    from mimicmotion.sweep.pictures import compare_clips

    if wanted:
        from mimicmotion.sweep.measures import measure_rows

        measure_rows(rows, config.sweep.truth)
        write_tables(folder, rows)
    for path in compare_clips(folder, rows):
        say(path)
    if wanted:
        from mimicmotion.sweep.plot import draw_plot

        say(draw_plot(folder / "sweep.png", rows) or "No result was measured, so there is no plot")


class Sweep:
    """The cells of a sweep with what makes their results: one cache and one set of loaded networks for all."""

    def __init__(self, config: Config, cells: list[Cell]):
        self.cells, self._config = cells, config
        self.opened = Opened(config.sweep.keep_models)
        settings = config.feature_cache
        self._cache = None
        if settings.enabled:
            self._cache = FeatureCache(Path(settings.folder), settings.max_gb, settings.force_refresh)
        self.animators = [self._animator(cell) for cell in cells]
        self._cell_of = {job.output: place for place, cell in enumerate(cells) for job in cell.jobs}

    def know_by_seals(self, manifest: Manifest) -> None:
        """Has finished results known by a manifest, one for all cells."""
        for animator in self.animators:
            animator.seals = Seals(animator.models, manifest)

    @contextlib.contextmanager
    def seals_written(self) -> Iterator[None]:
        """A block in which results are made; at its end their seals are on the disk."""
        with contextlib.ExitStack() as stack:
            for animator in self.animators:
                stack.enter_context(animator.seals.written())
            yield

    def _animator(self, cell: Cell) -> Animator:
        models = Models(cell.config, self.opened)
        return cached_animator(models, self._cache) if self._cache else Animator(cell.config, models)

    def check(self) -> None:
        """Raises: UsageError or SetupError for what is wrong with any cell, which is named; nothing is loaded."""
        if self._config.latent_steps.folder:
            raise UsageError("a sweep records no steps: drop latent_steps.folder, and record a cell by itself")
        truth = self._config.sweep.truth
        if truth and not Path(truth).is_dir():
            raise UsageError(f"no such folder of true videos: {looked_for(truth)} (sweep.truth)")
        checked = set()
        for cell, animator in zip(self.cells, self.animators, strict=True):
            files = _files(cell.config)
            if files not in checked:
                _named(cell, animator.models.check)
            checked.add(files)
            _named(cell, functools.partial(look_through, animator, cell.jobs))

    def resolve(self) -> bool:
        """Whether anything is to be made. Raises: UsageError or SetupError for a device or number format that cannot be
        had then.
        """
        if all(animator.is_finished(job) for cell, animator in self._pairs() for job in cell.jobs):
            return False
        for cell, animator in self._pairs():
            _named(cell, animator.models.resolve)
        return True

    def outcomes(self) -> list[Outcome]:
        """All results in the order in which they are made. Raises: as `resolve`."""
        if not self.resolve():
            return [Outcome(job) for cell in self.cells for job in cell.jobs]
        networks = [_networks(cell.config) for cell in self.cells]
        jobs = [{cell.clip_of(job): job for job in cell.jobs} for cell in self.cells]
        # In a shard a cell may lack clips that another one has.
        clips = list(dict.fromkeys(clip for of_cell in jobs for clip in of_cell))
        order = [(jobs[variant], clips[clip]) for variant, clip in in_turns(networks, len(clips), self.opened.keep)]
        return [Outcome(of_cell[clip]) for of_cell, clip in order if clip in of_cell]

    def outcomes_for_workers(self) -> list[Outcome]:
        """All results, those of cells with the same networks together, the longest clips first; finished ones are
        skipped already.
        """
        outcomes = [
            (_networks(cell.config), Outcome(job), animator.is_finished(job))
            for cell, animator in self._pairs()
            for job in cell.jobs
        ]
        places = {networks: place for place, networks in enumerate(dict.fromkeys(key for key, _, _ in outcomes))}
        outcomes.sort(key=lambda one: (places[one[0]], -video_bytes(one[1].job)))
        for _, outcome, finished in outcomes:
            if finished:
                outcome.skip()
        return [outcome for _, outcome, _ in outcomes]

    def animator_of(self, outcome: Outcome) -> Animator:
        """What makes it."""
        return self.animators[self._cell_of[outcome.job.output]]

    def work(self, outcome: Outcome) -> None:
        """Makes one result. Raises: as `Animator.animate`; SetupError only for what the next cell would meet too."""
        place = self._cell_of[outcome.job.output]
        animator = self.animators[place]
        logger.info("cell %s", self.cells[place].name)
        try:
            animator.animate(outcome)
        except SetupError as error:
            # Weights that do not fit are the matter of the cells that name them; a full disk is everybody's.
            if animator.models.networks_key not in self.opened.failed:
                raise
            raise MimicMotionError(str(error)) from error

    def rows(self, outcomes: list[Outcome]) -> list[Row]:
        """What became of every result, cell by cell."""
        ended = {outcome.job.output: outcome for outcome in outcomes}
        return [Row.of(cell, job, ended[job.output]) for cell in self.cells for job in cell.jobs]

    def cache_lines(self) -> list[str]:
        """What the feature cache did."""
        return statistics_lines(self._cache.statistics) if self._cache else []

    def _pairs(self) -> list[tuple[Cell, Animator]]:
        return list(zip(self.cells, self.animators, strict=True))


class SweepWork(AnimatorWork):
    """What a worker of a sweep does."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        super().__init__(
            sweep.animators,
            sweep.work,
            sweep.animator_of,
            lambda outcome: sweep.animator_of(outcome).is_finished(outcome.job),
        )

    def load(self, outcome: Outcome) -> None:
        """As `AnimatorWork.load`; networks that cannot be loaded are the matter of the cells that name them."""
        models = self._sweep.animator_of(outcome).models
        models.resolve()
        with contextlib.suppress(MimicMotionError):
            super().load(outcome)


def sweep_work(config: Config, cells: list[Cell]) -> SweepWork:
    """What a worker makes of a sweep."""
    return SweepWork(Sweep(config, cells))


def _networks(config: Config) -> str:
    """What decides which networks a cell needs, on whatever device."""
    turbo, files = config.turbo, _files(config)
    lcm = (turbo.lcm_lora_scale, turbo.more_lora_scales, turbo.fuse_lcm_lora)
    return repr((files, *lcm, config.runtime, chosen_acceleration(config)))


def _files(config: Config) -> tuple:
    """What decides which weight files a cell needs."""
    turbo, pose = config.turbo, config.pose
    lcm = (turbo.lcm_lora_path, turbo.lcm_weight_name, *(turbo.more_lora_paths or []))
    model = (config.base_model_path, config.ckpt_path, config.pose_net_path, turbo.lcm_base_path)
    return (*model, *lcm, pose.backend, pose.model_det, pose.model_pose)


def _named(cell: Cell, check) -> None:
    """`check()`, whose errors say of which cell they are."""
    try:
        check()
    except (UsageError, SetupError) as error:
        raise type(error)(f"cell {cell.name}: {error}") from error
