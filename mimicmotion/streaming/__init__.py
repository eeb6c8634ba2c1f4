"""Action-driven video, block by block: the causal generator of Matrix-Game-2, offline and live.

run            what the commands do with their settings: load, play, record, save
beginning      what a session begins with: a picture, a saved one, a log; and how it is saved
play           a session, with prepared or typed actions; every question to the terminal
answers        what is typed for a block -> its actions, and those of the blocks that it runs on over
texts          what it asks and says, in English and in Chinese
recording      a session's videos and log, written while it goes on
overlay        keys and pointer drawn on frames: their places and colours
generator      StreamingGenerator: action in, frames out; the session's state
overlap        the same, a block decoded while the next is denoised
session_file   a session in a file: checksum, what its values can be
session_log    a session as lines: first picture, seed, actions by block; its frames are made again from it
replay         a session made again from its log, and the blocks before a saved one
schedule       noise levels and steps of few-step flow matching
model          the causal transformer
action_module  its layers for keyboard and mouse
attention      its attention call, by back end
rope           its rotary angles
cache          its keys and values of earlier latents, in rings
vae            the Wan VAE by the block, its memory held outside
clip           the image's tokens by a CLIP vision tower; no video clip
actions        keys -> numbers of each mode; scripts, bench sequences
action_runs    actions as records and logs have them
sources        actions that lie ready: bench, a script, a file of one, a session or its record
world          what a world model is: a file of configs/streaming
loading        checkpoints -> generator; names of their tensors
tiny           a stand-in of the published layout with drawn weights
benchmark      a session timed block by block

In short: load_generator(read_world("configs/streaming/world.yaml")).stream(image, actions).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "actions": ["ActionMode", "Actions", "CAMERA_STEP", "block_size", "encode", "get_mode", "join", "parse_script"],
        "clip": ["ImageEncoder"],
        "generator": ["StreamState", "StreamingGenerator", "load_image"],
        "loading": ["load_clip", "load_generator", "load_model", "load_vae"],
        "model": ["PATCH", "CausalWanModel", "timestep_embedding", "unpatchify"],
        "overlap": ["overlap_pays", "play_blocks"],
        "recording": ["Recording"],
        "rope": ["action_rope", "rotate", "video_rope"],
        "run": ["create_generator", "run_benchmark", "run_causal", "run_streaming", "world_of"],
        "schedule": ["denoise", "make_scheduler"],
        "session_log": [
            "LoggedBlock",
            "SessionHeader",
            "SessionLog",
            "actions_of",
            "frames_sha256",
            "header_of",
            "is_session_log",
            "read_log",
            "require_equal_generator",
            "require_fitting",
        ],
        "sources": ["planned_frames"],
        "tiny": ["draw_weights"],
        "vae": ["StreamingVAE", "frame_count", "new_memory", "to_uint8"],
        "world": ["WorldConfig", "read_world"],
    },
)
