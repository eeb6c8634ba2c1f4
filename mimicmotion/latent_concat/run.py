"""The latent concat experiment: sample clips and keep their latents, then join them and decode the whole.

    encode   clips -> <cache_dir>/<stem>.pt and an mp4 of each; sampled as in the turbo run
    decode   kept latents -> one mp4; the VAE is the only network, unless bridges are to be sampled
"""

import dataclasses
import hashlib
import logging
import os
from functools import cached_property
from pathlib import Path

from mimicmotion.animation import (
    Animator,
    AnimatorWork,
    Clip,
    Outcome,
    check_recording,
    fingerprint,
    outcome_facts,
    run_all,
    run_all_on_workers,
    summary_table,
    uses_workers,
    video_bytes,
)
from mimicmotion.cli import say
from mimicmotion.config import Config
from mimicmotion.device import resolve_device, resolve_dtype
from mimicmotion.dwpose import save_poses
from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import (
    LONGEST_ENDING,
    NAME_BYTES,
    content_sha256,
    printable,
    require_writable,
    sha256_file,
    writable_stem,
)
from mimicmotion.gallery import refresh_page
from mimicmotion.latent_concat.bridge import JoinSampler
from mimicmotion.latent_concat.entries import (
    ClipLatents,
    describe,
    entry_path,
    load_latents,
    poses_path,
    require_fitting,
    save_latents,
    settings_of,
    stale_because,
)
from mimicmotion.latent_concat.join import Part, join_clips, joins
from mimicmotion.latent_concat.joined_video import write_video
from mimicmotion.latent_concat.report import report_files, write_report
from mimicmotion.pipelines import check_steps
from mimicmotion.results import (
    Job,
    choose_shard,
    distinct_names,
    provenance,
    recipe,
    recorded,
    require_kept,
    require_places,
    require_pose_folder,
    require_reference,
    sidecar_path,
    tell_other_names,
    unfinished,
    write_sidecar,
)
from mimicmotion.video import VIDEO_SUFFIXES, find_videos, video_stem
from mimicmotion.weights import SVD_DECODERS, decoder_sha256, load_decoder, vae_sha256

logger = logging.getLogger(__name__)

NAME_LIMIT = 100
# Settings of latent_concat that change the joined video.
JOINING = ("drop_first", "interp_frames", "interp_mode", "isolate_clips", "bridge_frames", "bridge_strength")


def run_latent_concat(config: Config) -> int:
    """Runs the mode that the settings name; the exit code. Raises: UsageError, InputError, SetupError."""
    settings = config.latent_concat
    if settings.mode is None:
        raise UsageError("what is to be done? pass --mode encode or --mode decode")
    if len(config.test_case) != 1:
        raise UsageError(f"clips are joined for one reference, but test_case has {len(config.test_case)} entries")
    return encode_videos(config) if settings.mode == "encode" else decode_videos(config)


# ----------------------------------------------------------------------------------------------------
# Encode


def encode_videos(config: Config) -> int:
    """Samples every clip and keeps its latents; what is kept already is skipped. The exit code as `animate_folder`.

    Raises: UsageError before anything is sampled, when an entry was made differently or from another video.
    """
    settings, case, on_workers = config.latent_concat, config.test_case[0], uses_workers(config)
    require_reference(case, 0)
    require_pose_folder(config)
    folder = Path(settings.output_dir) / "individual"
    videos = chosen_videos(config)
    named = zip(videos, stems(videos), strict=True)
    jobs = [Job(video, case, 0, folder / f"{stem}.mp4", stem) for video, stem in named]
    tell_other_names(jobs)
    shard, planned = choose_shard(config), len(jobs)
    jobs = shard.jobs_of(jobs, settings.output_dir)
    if not jobs:
        return shard.run_empty(config, settings.output_dir, planned)
    for place in (Path(settings.cache_dir), Path(settings.output_dir), folder):
        require_writable(place)
    check_recording(config)
    animator = Animator(config)
    animator.models.check()
    if not on_workers:
        animator.models.resolve()
        animator.models.check_lcm()
    encoder = Encoder(animator)
    encoder.check_entries(jobs)
    outcomes = [Outcome(job) for job in jobs]
    with recorded(settings.output_dir, config, len(jobs), **shard.facts(planned)) as log:
        if on_workers:
            log.exit_code = run_all_on_workers(
                config,
                sorted(outcomes, key=lambda outcome: video_bytes(outcome.job), reverse=True),
                fingerprint([animator]),
                encode_work,
                (config,),
                lambda outcome: log.item(**outcome_facts(outcome)),
                (settings.cache_dir, folder),
            )
        else:
            log.exit_code = run_all(outcomes, encoder.encode, log)
    if config.output.page:
        refresh_page(settings.output_dir)
    say(summary_table(outcomes))
    return log.exit_code


def encode_work(config: Config) -> AnimatorWork:
    """What a worker that encodes does."""
    animator = Animator(config)
    encoder = Encoder(animator)
    return AnimatorWork([animator], encoder.encode, lambda _: animator, lambda outcome: encoder.keeps(outcome.job))


class Encoder:
    """Keeps the latents of clips that an Animator samples."""

    def __init__(self, animator: Animator):
        self.animator = animator
        self.settings = animator.config.latent_concat

    def check_entries(self, jobs: list[Job]) -> None:
        """Raises: UsageError when entries exist that this run would not make the same way.

        Entries of another video are never overwritten; others are with `overwrite_cache`, or kept with `keep_stale`.
        """
        stale = []
        for job in jobs:
            entry = self._entry(job)
            if not entry.exists():
                continue
            try:
                reasons = self._reasons(job, entry)
            except InputError as error:
                reasons = [str(error)]
            if reasons:
                stale.append(f"{entry}: {'; '.join(reasons)}")
        if stale and not self.settings.overwrite_cache and not self.settings.keep_stale:
            raise UsageError(
                "these latents were made differently:\n  " + "\n  ".join(stale) + "\n"
                "pass --overwrite_cache to sample them again, --keep_stale to keep them, or another --cache_dir"
            )
        for line in stale:
            logger.warning("%s; %s", line, "sampled again" if self.settings.overwrite_cache else "kept all the same")

    def _reasons(self, job: Job, entry: Path) -> list[str]:
        """Why an entry is not what this run would make. Raises: InputError when it cannot be read."""
        metadata = load_latents(entry).metadata
        recipe = settings_of(self.animator.recipe(job))
        source = metadata.get("video_path")
        if source != os.path.realpath(job.video) and metadata.get("video_hash") != recipe["inputs"]["video"]:
            raise UsageError(
                f"{entry} holds the clip of {source}, which has the same name as {job.video}; "
                "rename one of the videos or pass another --cache_dir"
            )
        return stale_because(metadata, recipe, self.settings.max_pose_frames)

    def encode(self, outcome: Outcome) -> None:
        """Samples one clip and keeps its latents, its poses and, if wanted, its mp4. Raises: as `Animator.animate`."""
        job, entry = outcome.job, self._entry(outcome.job)
        require_places(entry, poses_path(entry), job.output, sidecar_path(job.output))
        kept = self.keeps(job)
        if not kept:
            job.output.unlink(missing_ok=True)  # of other latents
            self._sample(job, entry)
        clip = load_latents(entry)
        if kept:
            self._restore_poses(job, clip)
        if self.settings.individual_videos:
            self._write_individual(job, clip, kept)
        outcome.status, outcome.frames = "skipped" if kept else "done", clip.metadata["num_frames"]
        outcome.message = f"{entry} is there" if kept else str(entry)

    def _sample(self, job: Job, entry: Path) -> None:
        inputs = self.animator.inputs(job)
        whole = self.animator.prepare(job)
        clip = first_frames(whole, self.settings.max_pose_frames)
        if len(clip.drawn) < len(whole.drawn):
            logger.info("%s: %d of %d frames (max_pose_frames)", job.name, len(clip.drawn), len(whole.drawn))
        latents = self.animator.sample(clip)
        poses_hash = self._save_poses(job, entry, clip)
        recipe = settings_of(self.animator.recipe(job, inputs))
        metadata = describe(recipe, job.case, job.video, len(whole.drawn))
        save_latents(entry, latents, metadata | {"poses_hash": poses_hash})

    def _write_individual(self, job: Job, clip: ClipLatents, kept: bool) -> None:
        """Decodes the clip by itself, unless that was done with the same latents and settings and is there whole."""
        config = self.animator.config
        made_from = {
            "latents": content_sha256(clip.path),
            "crf": config.output.crf,
            "decode_chunk_size": config.sampling.decode_chunk_size,
            "decode_overlap": config.sampling.decode_overlap,
            "vae_dtype": config.runtime.vae_dtype,
        }
        missing = unfinished(job.output, made_from)
        if not missing:
            return
        for path, reason in missing.items():
            if reason:
                logger.warning("%s is made anew: %s", path, reason)
        decoder = self._decoder if kept else self.animator.models.pipeline
        parts = join_clips([clip.latents], [clip.name])
        frames = write_video(job.output, decoder, parts, clip.metadata["fps"], config)
        write_sidecar(job.output, made_from, {"frames": frames, "fps": clip.metadata["fps"]})

    def _restore_poses(self, job: Job, kept: ClipLatents) -> None:
        """Finds the poses of kept latents anew where their file is missing or damaged.

        Raises: InputError when they are not those that the latents were sampled with.
        """
        path, digest = kept.poses_path, kept.metadata.get("poses_hash")
        # Bridges alone need them, and refuse others; latents kept though they are stale have poses of other settings.
        if digest is None or self.settings.keep_stale or (path.is_file() and sha256_file(path) == digest):
            return
        logger.warning("%s is missing or damaged; the poses of %s are found anew", path, kept.path)
        clip = first_frames(self.animator.prepare(job), self.settings.max_pose_frames)
        if self._save_poses(job, kept.path, clip) != digest:
            path.unlink()
            raise InputError(
                f"{path} is missing or damaged, and the poses found now are not those of {kept.path}; "
                "pass --overwrite_cache to sample the clip again"
            )

    def _save_poses(self, job: Job, entry: Path, clip: Clip) -> str:
        """Writes the poses beside an entry; the file's SHA-256."""
        height, width = clip.reference.pixels.shape[:2]
        path = poses_path(entry)
        save_poses(
            path, clip.drawn.poses, frame_indices=range(len(clip.drawn)), fps=job.case.fps, height=height, width=width,
            source=job.video.name, detector="fitted to the reference",
        )  # fmt: skip
        return sha256_file(path)

    def keeps(self, job: Job) -> bool:
        """Whether the job's latents are there and stay."""
        return self._entry(job).exists() and not self.settings.overwrite_cache

    def _entry(self, job: Job) -> Path:
        return entry_path(self.settings.cache_dir, job.output.stem)

    @cached_property
    def _decoder(self):
        return open_decoder(self.animator.config)


def first_frames(clip: Clip, count: int) -> Clip:
    """The clip with at most `count` frames, the reference included."""
    if len(clip.drawn) <= count:
        return clip
    driving = dataclasses.replace(
        clip.driving, poses=clip.driving.poses[: count - 1], frame_indices=clip.driving.frame_indices[: count - 1]
    )
    return dataclasses.replace(clip, driving=driving, drawn=clip.drawn.with_poses(clip.drawn.poses[:count]))


# ----------------------------------------------------------------------------------------------------
# Decode


def decode_videos(config: Config) -> int:
    """Joins the kept latents of the chosen videos and writes one mp4 with its record; the exit code.

    Raises: InputError naming the entry that is missing, damaged or does not fit; UsageError for options that exclude
        each other.
    """
    settings = config.latent_concat
    _check_options(config)
    clips = [load_clip(config, name) for name in chosen_names(config)]
    require_fitting(clips)
    _require_vae(config, clips)
    folder = require_writable(settings.output_dir)
    output = folder / f"{experiment_name(config, [clip.name for clip in clips])}.mp4"
    report = report_files(output) if settings.report and len(clips) > 1 else []
    require_places(output, sidecar_path(output), *report)
    made_from = joined_recipe(config, clips)
    if not config.output.overwrite:
        require_kept([(output, made_from)])
        if not unfinished(output, made_from, report):
            say(f"{output}: finished before with the same settings")
            return 0
    with recorded(folder, config) as log:
        decoder = open_decoder(config)
        parts = joined_parts(config, clips)
        frames = write_video(output, decoder, parts, clips[0].metadata["fps"], config, settings.isolate_clips)
        say(f"{output}: {frames} frames of {len(clips)} clips")
        if report:
            write_report(config, clips, decoder, output)
        write_sidecar(output, made_from, facts(config, clips, parts, frames), report)
        log.item(output=str(output), status="done", frames=frames)
    if config.output.page:
        refresh_page(folder)
    return 0


def joined_recipe(config: Config, clips: list[ClipLatents]) -> dict:
    """All that a joined video depends on."""
    inputs = {f"{number}: {clip.name}": content_sha256(clip.path) for number, clip in enumerate(clips)}
    whole = recipe(config, config.test_case[0], inputs, {"vae": vae_sha256(config)}, "none")
    settings, own = whole["settings"], dataclasses.asdict(config.latent_concat)
    used = {
        "latent_concat": {name: own[name] for name in JOINING},
        "sampling": {name: settings["sampling"][name] for name in ("decode_chunk_size", "decode_overlap")},
        "output": {"crf": settings["output"]["crf"]},
        "runtime": {"vae_dtype": settings["runtime"]["vae_dtype"]},
    }
    if decoder := decoder_sha256(config.sampling.decoder, SVD_DECODERS):
        used["sampling"]["decoder"] = decoder
    # A bridge is sampled as the settings say; else no network but the VAE is asked.
    return whole | {"settings": used | {"bridge": settings} if config.latent_concat.bridge_frames else used}


def joined_parts(config: Config, clips: list[ClipLatents]) -> list[Part]:
    """The latents of clips in order with what lies between them. Raises: InputError when a bridge cannot be sampled."""
    settings = config.latent_concat
    return join_clips(
        [clip.latents for clip in clips],
        [clip.name for clip in clips],
        drop_first=settings.drop_first,
        interp_frames=settings.interp_frames,
        interp_mode=settings.interp_mode,
        isolate=settings.isolate_clips,
        between=bridges(config, clips) if settings.bridge_frames and len(clips) > 1 else None,
    )


def _check_options(config: Config) -> None:
    settings = config.latent_concat
    if config.batch.shard is not None:
        raise UsageError("--mode decode makes one video of all clips, which has no parts; drop --shard (batch.shard)")
    if config.cluster.workers is not None:
        raise UsageError("--mode decode makes one video of all clips in this process; drop --workers (cluster.workers)")
    if settings.bridge_frames and settings.interp_frames:
        raise UsageError("--bridge_frames and --interp_frames both fill the gap between clips; choose one")
    if settings.bridge_frames and not settings.bridge_strength:
        raise UsageError("--bridge_strength 0 samples nothing; give more, or use --interp_frames")
    blended = settings.bridge_frames or (settings.interp_frames and settings.interp_mode == "smooth")
    if settings.isolate_clips and blended:
        raise UsageError("--isolate_clips decodes clips apart; a bridge or a cross-fade belongs to both: choose one")
    if settings.bridge_frames or settings.report:
        check_steps(config)
    name = settings.experiment_name
    if name is not None and (not name or Path(name).name != name or name in (".", "..") or writable_stem(name) != name):
        raise UsageError(
            f"--experiment_name {printable(name)} must be a plain file name, printable and of at most "
            f"{NAME_BYTES - LONGEST_ENDING} bytes"
        )


def chosen_names(config: Config) -> list[str]:
    """Stems of the clips to join, in order; one may come twice. The videos themselves need not be there any more."""
    folder, wanted = config.batch.video_folder, config.batch.videos
    if not wanted:
        return stems(chosen_videos(config))
    places = {name: Path(folder) / name if folder and Path(name).name == name else Path(name) for name in wanted}
    videos = {name: place for name, place in places.items() if place.suffix.lower() in VIDEO_SUFFIXES}
    called = dict(zip(videos, stems(list(videos.values())), strict=True))
    return [called.get(name, writable_stem(Path(name).name)) for name in wanted]


def stems(videos: list[Path]) -> list[str]:
    """What the entries of videos are called, each differently."""
    return distinct_names(videos, [video_stem(video) for video in videos])


def chosen_videos(config: Config) -> list[Path]:
    """The driving videos to encode, in the order of `batch.videos`; these are names in the folder, or paths.

    Raises: UsageError when one is not there.
    """
    folder, names = config.batch.video_folder, config.batch.videos
    if not folder and not names:
        raise UsageError("no videos: pass --video_folder, --videos or both")
    if folder and not names:
        return find_videos(folder)
    return list(dict.fromkeys(video for name in names for video in _find_video(folder, name)))


def _find_video(folder: str | None, name: str) -> list[Path]:
    """The video of that name; several where it is the stem of several."""
    if Path(name).name == name and folder:
        return find_videos(folder, [name])
    places = [Path(folder) / name, Path(name)] if folder else [Path(name)]
    found = next((place for place in places if os.path.exists(place)), None)
    if found is None:
        raise UsageError(f"no video {name}; looked for {', '.join(map(str, places))}")
    return [found]


def load_clip(config: Config, name: str) -> ClipLatents:
    """The kept latents of a clip. Raises: InputError when they are missing or cannot be used."""
    entry = entry_path(config.latent_concat.cache_dir, name)
    if not entry.exists():
        raise InputError(f"no latents of {name}: {entry} does not exist; run --mode encode first")
    return load_latents(entry)


def _require_vae(config: Config, clips: list[ClipLatents]) -> None:
    made_with = clips[0].metadata.get("recipe", {}).get("weights", {}).get("vae")
    if made_with != vae_sha256(config):
        raise InputError(
            f"{clips[0].path} was made with another VAE than the one in {config.base_model_path}; "
            "pass the --inference_config that it was encoded with"
        )


def bridges(config: Config, clips: list[ClipLatents]):
    """A function that samples the bridge behind clip i. Raises: InputError when clips and model do not fit."""
    settings, sampler = config.latent_concat, JoinSampler(Animator(config), clips)
    return lambda i: sampler.bridge(i, settings.bridge_frames, settings.bridge_strength)


def experiment_name(config: Config, names: list[str]) -> str:
    """Name of the joined mp4: the one asked for, or the clips and what lies between them."""
    settings = config.latent_concat
    if settings.experiment_name:
        return settings.experiment_name
    options = {
        f"{settings.interp_mode}{settings.interp_frames}": settings.interp_frames,
        f"bridge{settings.bridge_frames}at{settings.bridge_strength:g}": settings.bridge_frames,
        "isolated": settings.isolate_clips,
        f"drop-{settings.drop_first}": settings.drop_first != "each",
    }
    ending = "".join(f"_{option}" for option, chosen in options.items() if chosen)
    joined = "+".join(names)
    if len(joined) > NAME_LIMIT:
        joined = f"{names[0][:40]}+{len(names) - 1}-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"
    return writable_stem(joined + ending)


def facts(config: Config, clips: list[ClipLatents], parts: list[Part], frames: int) -> dict:
    """What the record of a joined video says beside the recipe."""
    return {
        "frames": frames,
        "fps": clips[0].metadata["fps"],
        "latent_concat": dataclasses.asdict(config.latent_concat),
        "made": provenance(config),
        "clips": [{"entry": str(clip.path), "seed": clip.metadata["seed"]} for clip in clips],
        "joins": [
            {"name": name, "first_frame": first, "transition_frames": count} for name, first, count in joins(parts)
        ],
    }


# ----------------------------------------------------------------------------------------------------
# Both


def open_decoder(config: Config):
    """The VAE by itself, where and how precisely the settings say."""
    device = resolve_device(config.runtime.device)
    return load_decoder(config, device, resolve_dtype(config.runtime.vae_dtype, device))
