"""What a trained world model can do, in figures: on sessions of the courtyard that no stage trained on."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mimicmotion.evaluation import colour_shift
from mimicmotion.files import write_json
from mimicmotion.results import contact_sheet
from mimicmotion.streaming import (
    StreamingGenerator,
    WorldConfig,
    encode,
    get_mode,
    load_generator,
    read_world,
    to_uint8,
)
from mimicmotion.training import steps_done
from mimicmotion.world_training.coding import decode, psnr, to_pixels
from mimicmotion.world_training.coding import encode as encode_pixels
from mimicmotion.world_training.evaluation_page import write_page
from mimicmotion.world_training.options import EVALUATION_SEED, EvaluateOptions
from mimicmotion.worlds import (
    BLOCK,
    FIRST_BLOCK,
    JUDGED_KEYS,
    LOCK,
    Walk,
    block_slice,
    get_walk,
    hold,
    leads_on,
    locate,
    nearest_key,
    open_place,
    render,
    squared_error,
    true_blocks,
    yaw_difference,
)

log = logging.getLogger(__name__)

SHORT, LONG = 6, 21  # blocks of a session, the first of 9 frames
MANY_STEPS = 20
PLAYED_SEED = EVALUATION_SEED + 500_000
WALK_PLACE = EVALUATION_SEED + 19
WALK = ("W", "D", "J", "W", "W", "L", "A")


@dataclass(frozen=True)
class Played:
    """A session of the generator: keys of each block, its frames and the true ones, uint8 (N, H, W, 3)."""

    keys: list[str]
    made: np.ndarray
    true: np.ndarray
    cameras: np.ndarray
    walk: Walk


def evaluate(options: EvaluateOptions) -> None:
    """Measures, prints the figures and writes page, sheets and figures. The sheets are named as the page is.

    Raises: SetupError when a part of the model is missing.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    world = dataclasses.replace(read_world(options.world), weights_folder=str(options.out))
    generator, walk = load_generator(world), get_walk(options.walk)
    figures = {"sessions": options.sessions, "long_sessions": options.long_sessions}
    figures |= {"step": steps_done(options.run_dir / "world")} | teacher_forced(options)
    for measure in (vae_loss, steps_compared, times):
        figures |= measure(generator, world, walk, options.sessions)
        log.info("%s", figures)
    short = [play(generator, walk, PLAYED_SEED + n, SHORT) for n in range(options.sessions)]
    long = [play(generator, walk, PLAYED_SEED + 1000 + n, LONG) for n in range(options.long_sessions)]
    early = [entry for session in short for entry in judged_blocks(session)]
    late = [entry for session in long for entry in judged_blocks(session) if entry["block"] >= SHORT]
    figures |= obedience(early, "1-5") | obedience(late, "6-20") | {"taken_for": taken_for(early)}
    figures |= above_repeating(short) | sharpness(short)
    figures |= idle_drift(generator, walk, options.long_sessions)
    figures |= turned_back(generator, walk, options.long_sessions)
    write_json(options.page.with_name(f"{options.page.stem}_figures.json"), figures)
    contact_sheet(options.page.with_suffix(".jpg"), list(held_keys(generator, walk)), title="held keys, made and true")
    walked = options.page.with_name(f"{options.page.stem}_walk.jpg")
    contact_sheet(walked, walk_rows(generator, walk), title="a walk by keys, and where they truly lead", tile_width=224)
    write_page(options.page, figures, options.run_dir, options.walk)
    for name, value in figures.items():
        print(f"{name}: {value}")


def vae_loss(generator: StreamingGenerator, _world: WorldConfig, walk: Walk, sessions: int) -> dict:
    """PSNR of frames that the VAE alone encodes and decodes, and their gradient energy as a share of the truth's."""
    errors, made, true = [], 0.0, 0.0
    for n in range(sessions):
        frames = render(open_walk(walk, PLAYED_SEED + n, 3)[1])
        pixels = to_pixels(frames[None])
        with torch.no_grad():
            decoded = decode(generator.vae.vae, encode_pixels(generator.vae.vae, pixels)).clamp(-1, 1)
        errors.append((decoded - pixels).square().mean())
        made += gradient_energy(to_uint8(decoded)[0].numpy())
        true += gradient_energy(frames)
    return {"vae_psnr": psnr(torch.stack(errors).sqrt()), "vae_gradient_energy": made / true}


def teacher_forced(options: EvaluateOptions) -> dict:
    """PSNR of blocks 1 and later in one step from noise after true blocks, with right and with wrong actions."""
    from mimicmotion.world_training.stages import unseen_stage

    stage = unseen_stage(options)
    return {f"forced_{name}": value for name, value in stage.gaps(stage.unseen).items()}


def open_walk(walk: Walk, seed: int, blocks: int) -> tuple[list[str], np.ndarray]:
    """One key for each block, none of them blocked by a wall for most of it, and the cameras (N, 4) of all frames."""
    draws = np.random.default_rng(seed)
    start = camera = open_place(seed, walk)
    keys = []
    for block in range(blocks):
        frames = BLOCK if block else FIRST_BLOCK
        for key in draws.permutation(JUDGED_KEYS):
            if leads_on(walk, camera, key, frames):
                break
        keys.append(str(key))
        camera = walk.end(camera, *actions_of_part(key, frames))
    return keys, walk.follow_actions(start, *actions_of(keys))


def actions_of(keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Keyboard (N, 4) and mouse (N, 2) of all frames of a session."""
    lengths = [FIRST_BLOCK] + [BLOCK] * (len(keys) - 1)
    parts = [actions_of_part(key, frames) for key, frames in zip(keys, lengths, strict=True)]
    return np.concatenate([keyboard for keyboard, _ in parts]), np.concatenate([mouse for _, mouse in parts])


def actions_of_part(key: str, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Keyboard (frames, 4) and mouse (frames, 2) of a key that is held."""
    held = encode(get_mode("universal"), key).repeat(frames)
    return held.keyboard, held.mouse


def play(generator: StreamingGenerator, walk: Walk, seed: int, blocks: int) -> Played:
    """The session of a seed, free-running from its first true frame."""
    keys, cameras = open_walk(walk, seed, blocks)
    true = render(cameras)
    made = generator.generate(true[0], [encode(generator.mode, key) for key in keys], seed)
    return Played(keys, made, true, cameras, walk)


def judged_blocks(session: Played) -> Iterator[dict]:
    """Every block after the first: which key it is taken for, and what the tracker says.

    The videos that a block is compared with begin where the tracker sees the camera in the frame before it.
    """
    walk = session.walk
    camera = session.cameras[FIRST_BLOCK - 1]
    camera, _ = locate(session.made[FIRST_BLOCK - 1], walk.reachable(camera, 2))
    for block in range(1, len(session.keys)):
        key, before = session.keys[block], session.keys[block - 1]
        frames = session.made[block_slice(block)]
        cameras = true_blocks(camera, before, walk)
        found, left = locate(frames[-1], walk.reachable(camera, BLOCK), seed=block)
        still = np.repeat(session.made[block_slice(block - 1)][-1:], BLOCK, 0)
        videos = {name: render(path) for name, path in cameras.items()}
        yield {
            "block": block,
            "key": key,
            "told": nearest_key(frames, videos),
            "still": nearest_key(still, videos),
            "locked": left < LOCK,
            "moved_right": moved_right(camera, found, cameras[key][-1], walk.still_error),
        }
        camera = found


def moved_right(start: np.ndarray, found: np.ndarray, wanted: np.ndarray, still: tuple[float, float]) -> bool:
    """Whether the camera went where it should, within half of its true move; still: metres and degrees at rest."""
    distance = np.hypot(*(wanted - start)[:2])
    turn = abs(yaw_difference(wanted[2], start[2]))
    return bool(
        np.hypot(*(found - wanted)[:2]) <= max(distance / 2, still[0])
        and abs(yaw_difference(found[2], wanted[2])) <= max(turn / 2, still[1])
    )


def obedience(judged: list[dict], name: str) -> dict:
    """Shares of blocks that are taken for their key."""
    locked = [entry for entry in judged if entry["locked"]]
    return {
        f"obeyed_{name}": float(np.mean([entry["told"] == entry["key"] for entry in judged])),
        f"obeyed_still_{name}": float(np.mean([entry["still"] == entry["key"] for entry in judged])),
        f"locked_{name}": len(locked) / len(judged),
        f"moved_right_{name}": float(np.mean([entry["moved_right"] for entry in locked])) if locked else None,
    }


def taken_for(judged: list[dict]) -> dict[str, dict[str, int]]:
    """How often each key is taken for which."""
    table = {key: dict.fromkeys(JUDGED_KEYS, 0) for key in JUDGED_KEYS}
    for entry in judged:
        table[entry["key"]][entry["told"]] += 1
    return table


def above_repeating(sessions: list[Played]) -> dict:
    """PSNR of blocks 1 and 5 above that of repeating the last true frame before them, in dB."""
    found = {}
    for block in (1, 5):
        part = block_slice(block)
        made = np.mean([squared_error(s.made[part], s.true[part]) for s in sessions])
        copied = np.mean(
            [squared_error(np.repeat(s.true[part.start - 1 : part.start], BLOCK, 0), s.true[part]) for s in sessions]
        )
        found[f"psnr_block_{block}"] = decibels(made)
        found[f"above_repeating_block_{block}"] = decibels(made) - decibels(copied)
    return found


def sharpness(sessions: list[Played]) -> dict:
    """Gradient energy of block 5 as a share of the truth's."""
    part = block_slice(5)
    made, true = (sum(gradient_energy(getattr(s, name)[part]) for s in sessions) for name in ("made", "true"))
    return {"gradient_energy_block_5": made / true}


def gradient_energy(frames: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels, across plus down."""
    frames = frames.astype(np.float32)
    return float(np.square(np.diff(frames, axis=2)).mean() + np.square(np.diff(frames, axis=1)).mean())


def idle_drift(generator: StreamingGenerator, walk: Walk, places: int) -> dict:
    """How far the mean colour goes in 20 blocks without a key, of 255, at worst and on average; what PSNR is left."""
    drifts, errors = [], []
    for place in range(places):
        image = render(open_place(PLAYED_SEED + place, walk)[None])[0]
        made = generator.generate(image, [encode(generator.mode, "Q")] * LONG, place)
        drifts.append(colour_shift(made[-BLOCK:], image))
        errors.append(squared_error(made[-BLOCK:], np.repeat(image[None], BLOCK, 0)))
    drift = {"idle_drift": float(max(drifts)), "idle_drift_mean": float(np.mean(drifts))}
    return drift | {"idle_psnr": decibels(np.mean(errors))}


def turned_back(generator: StreamingGenerator, walk: Walk, places: int) -> dict:
    """Turned 90 degrees to the left and back: is the picture nearer to the first one than to that at 90 degrees?"""
    again, errors = 0, []
    for place in range(places):
        camera = open_place(PLAYED_SEED + place, walk)
        keys = ["J"] * walk.quarter_turn + ["L"] * walk.quarter_turn
        cameras = walk.follow_actions(camera, *actions_of(keys))
        true = render(cameras[[BLOCK * walk.quarter_turn - 4, -1]])
        image = render(camera[None])[0]
        last = generator.generate(image, [encode(generator.mode, key) for key in keys], place)[-1]
        again += squared_error(last, true[1]) < squared_error(last, true[0])
        errors.append(squared_error(last, true[1]))
    return {"turned_back": again / places, "turned_back_psnr": decibels(np.mean(errors))}


def steps_compared(generator: StreamingGenerator, world: WorldConfig, walk: Walk, sessions: int) -> dict:
    """Mean squared error of block 1 with the published steps and with many, for a quarter of the sessions."""
    many = tuple(int(step) for step in np.linspace(1000, 1000 / MANY_STEPS, MANY_STEPS))
    patient = StreamingGenerator(
        generator.model,
        generator.vae,
        generator.image_encoder,
        generator.mode,
        height=world.height,
        width=world.width,
        steps=many,
        shift=world.timestep_shift,
        context_noise=world.context_noise,
        frames_per_block=world.frames_per_block,
    )
    errors = {"few": [], "many": []}
    for n in range(max(1, sessions // 4)):
        for name, one in (("few", generator), ("many", patient)):
            session = play(one, walk, PLAYED_SEED + n, 2)
            errors[name].append(squared_error(session.made[FIRST_BLOCK:], session.true[FIRST_BLOCK:]))
    return {"mse_few_over_many_steps": float(np.mean(errors["few"]) / np.mean(errors["many"]))}


def times(
    generator: StreamingGenerator, _world: WorldConfig, walk: Walk, _sessions: int, blocks: int = 4
) -> dict:
    """Milliseconds of a block after the first, least of a few, of this process's CPU time."""
    state = generator.start(render(open_place(PLAYED_SEED, walk)[None])[0], 0)
    action = encode(generator.mode, "W")
    generator.step(state, action)
    denoising, decoding = [], []
    for _ in range(blocks):
        keyboard, mouse = generator.action_history(state, action)
        started = time.process_time()
        latents = generator.denoise_block(state, keyboard, mouse)
        between = time.process_time()
        _, state.memory = generator.vae.decode(latents, state.memory)
        denoising.append(between - started)
        decoding.append(time.process_time() - between)
        state.keyboard, state.mouse = keyboard, mouse
        state.start += generator.frames_per_block
    return {"denoise_cpu_ms": 1e3 * min(denoising), "decode_cpu_ms": 1e3 * min(decoding)}


def held_keys(generator: StreamingGenerator, walk: Walk) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of a sheet: each key held for five blocks from one place, made and true."""
    camera = open_place(EVALUATION_SEED, walk)
    for key in JUDGED_KEYS:
        true = render(hold(camera, key, FIRST_BLOCK + 4 * BLOCK, walk).cameras)
        made = generator.generate(true[0], [encode(generator.mode, key)] * 5, 0)
        yield f"{key} made", made[8::6]
        yield f"{key} true", true[8::6]


def walk_rows(generator: StreamingGenerator, walk: Walk) -> list[tuple[str, np.ndarray, list[str]]]:
    """Rows of a sheet: the first picture of a walk and the last frame of each block of it, made and true."""
    cameras = walk.follow_actions(open_place(WALK_PLACE, walk), *actions_of(list(WALK)))
    true = render(cameras)
    made = generator.generate(true[0], [encode(generator.mode, key) for key in WALK], 0)
    shown = [0, *(block_slice(block).stop - 1 for block in range(len(WALK)))]
    captions = ["first picture", *WALK]
    return [("made", made[shown], captions), ("true", true[shown], captions)]


def decibels(squared: float) -> float:
    """PSNR of a mean squared error in grey levels."""
    return float(-10 * np.log10(squared / 255**2))
