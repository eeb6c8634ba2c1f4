"""Micro models of the true classes, with weights drawn from a fixed seed; what keeps the suite small and off the clock.

No test decides by the wall clock: it waits for what a child process prints or writes. HANG_SECONDS is no such limit;
it only ends a run in which something hangs, and lies far above what the slowest machine needs.
"""

import logging
import resource
import signal
import sys
import time
from pathlib import Path

import hypothesis
import pytest
import torch

from mimicmotion.results.run_log import LOG_NAME, read_lines

HANG_SECONDS = 900
# Two workers held up to 1.7 GB each; scripts/test.sh counts on 2. A model or detector that every test leaves alive
# (140 MB each was seen) passes this bound before the memory of a small machine ends.
MAX_WORKER_MB = 2048

# Slow examples are no failures, neither one by one (deadline) nor while they are drawn (too_slow).
hypothesis.settings.register_profile(
    "off_the_clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("off_the_clock")

SVD_SCHEDULER = {
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "timestep_spacing": "leading",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
}


def pytest_configure():
    """Makes signals work in tests and in the scripts they start.

    A shell's background jobs begin with Ctrl-C ignored, those under `nohup` with a closed terminal.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Single tests of minutes, on what is dear to make.
LONGEST = "tests/test_documents.py"


def pytest_collection_modifyitems(items):
    """The longest come first: none is left alone at the end, and with `--dist worksteal`, which takes from the end of
    another worker's half, they stay in one worker, with what they share.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def peak_mb():
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


PEAKS = {}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Takes what a worker of xdist told at its end."""
    PEAKS[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak_mb", 0)


def pytest_sessionfinish(session):
    """A worker tells its peak; who runs the suite fails it when one has grown too far."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak_mb"] = peak_mb()
        return
    PEAKS.setdefault("main", peak_mb())
    if max(PEAKS.values()) > MAX_WORKER_MB and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line("peak memory: " + ", ".join(f"{who} {mb} MB" for who, mb in sorted(PEAKS.items())))
    for who, mb in sorted(PEAKS.items()):
        if mb > MAX_WORKER_MB:
            terminalreporter.write_line(f"{who}: more than {MAX_WORKER_MB} MB; something stays alive", red=True)


def wait_for_file(path, process):
    """Waits until a child process has written `path`; only its end before that is a failure."""
    while not path.exists():
        assert process.poll() is None or path.exists(), process.communicate()
        time.sleep(0.02)


def wait_for_line(process, line):
    """Reads what a child process prints until `line` comes; only its end before that is a failure."""
    before = []
    for printed in process.stdout:
        before.append(printed)
        if line in printed:
            return
    pytest.fail(f"the child ended without {line!r}: {''.join(before)}")


def make_unet(levels=2):
    """A micro UNet; one of a single level has a block of each kind that computes, for what is slow by layer."""
    from diffusers import UNetSpatioTemporalConditionModel

    return UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64)[:levels],
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal")[:levels],
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")[-levels:],
        layers_per_block=1,
        transformer_layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=(2, 4)[:levels],
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=8,
    )


def make_temporal_vae():
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=1,
    )


def make_tiny_vae():
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    # Fresh weights decode to black; this gives grey pictures with contrast.
    last = vae.decoder.layers[-1]
    torch.nn.init.normal_(last.weight, std=0.5)
    torch.nn.init.constant_(last.bias, 0.5)
    return vae


def make_image_encoder():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            patch_size=56,
            projection_dim=16,
        )
    ).eval()


def make_pose_net():
    from mimicmotion.modules.pose_net import PoseNet

    pose_net = PoseNet(32)
    torch.nn.init.normal_(pose_net.final_proj.weight, std=0.2)
    return pose_net


def make_scheduler():
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**SVD_SCHEDULER)


def make_pipeline(make_vae=make_temporal_vae, seed=0):
    from transformers import CLIPImageProcessorPil

    from mimicmotion.pipelines.pipeline_mimicmotion import MimicMotionPipeline

    torch.manual_seed(seed)
    pipeline = MimicMotionPipeline(
        vae=make_vae().eval(),
        image_encoder=make_image_encoder(),
        unet=make_unet().eval(),
        scheduler=make_scheduler(),
        feature_extractor=CLIPImageProcessorPil(),
        pose_net=make_pose_net().eval(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def shared_pipeline():
    """One micro pipeline for the whole run; tests that change it put it back."""
    return make_pipeline()


@pytest.fixture
def pipeline(shared_pipeline):
    """The micro pipeline with its SVD scheduler."""
    shared_pipeline.scheduler = make_scheduler()
    return shared_pipeline


def save_micro_model(folder):
    """A whole micro model in diffusers' layout, PoseNet included."""
    make_pipeline(make_tiny_vae).save_pretrained(folder)
    return folder


def dancing_poses(count, size=(96, 64)):
    """Poses of a stick person who waves and crouches, in single precision like detected ones."""
    import math

    from mimicmotion.dwpose.example_poses import project, stick_figure
    from mimicmotion.features import in_single_precision

    poses = []
    for i in range(count):
        swing = math.sin(i / 2)
        figure = stick_figure(crouch=0.3 + 0.2 * swing, arms=(1 + swing, 1 - swing))
        poses.append(in_single_precision(project(figure, 0.8, (0.5, 0.95), size)))
    return poses


def write_clip(path, count=12, size=(96, 64), fps=30, audio=False):
    """A driving video of changing grey with a moving square; its person exists in a pose file only."""
    import subprocess

    import numpy as np

    from mimicmotion.video.ffmpeg import ffmpeg_exe
    from mimicmotion.video.writer import VideoWriter

    height, width = size
    with VideoWriter(path, fps) as writer:
        for i in range(count):
            frame = np.full((height, width, 3), 40 + 10 * i % 200, np.uint8)
            frame[10 + i : 30 + i, 10:30] = (200, 60, 60)
            writer.write(frame)
    if audio:
        loud = path.with_name("loud" + path.suffix)
        tone = ["-f", "lavfi", "-i", "sine=frequency=440", "-shortest", "-c:v", "copy", "-c:a", "aac"]
        subprocess.run([ffmpeg_exe(), "-y", "-loglevel", "error", "-i", path, *tone, loud], check=True)
        loud.replace(path)
    return path


def write_pose_file(path, poses, size=(96, 64), fps=30.0, stride=1):
    """A pose file as --save_pose writes it, or a picture's sidecar."""
    from mimicmotion.dwpose.keypoints import save_poses

    save_poses(
        path, poses, frame_indices=range(0, len(poses) * stride, stride), fps=fps, height=size[0], width=size[1],
        source=path.stem, detector="test",
    )  # fmt: skip


@pytest.fixture
def logging_as_before():
    """Takes back what `setup_logging` changes, for tests that run whole scripts."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory):
    """Folder of a saved micro model."""
    return save_micro_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def driving_clip(tmp_path_factory):
    """The clip of `write_clip`, coded once for the whole run."""
    return write_clip(tmp_path_factory.mktemp("clips") / "driving.mp4")


@pytest.fixture
def project(tmp_path, micro_model, driving_clip):
    """A folder with a reference, three driving videos with their poses, and settings that use the micro model."""
    import shutil

    import PIL.Image
    import yaml

    (tmp_path / "videos").mkdir()
    for name in ("a", "b", "c"):
        shutil.copyfile(driving_clip, tmp_path / "videos" / f"{name}.mp4")
        write_pose_file(tmp_path / "poses" / f"{name}.npz", dancing_poses(6), stride=2)
    PIL.Image.new("RGB", (64, 96), (90, 120, 150)).save(tmp_path / "person.png")
    write_pose_file(tmp_path / "person.pose.npz", dancing_poses(1), fps=0.0)
    settings = {
        "base_model_path": str(micro_model),
        "batch": {"video_folder": str(tmp_path / "videos")},
        "test_case": [
            {
                "ref_image_path": str(tmp_path / "person.png"),
                "num_frames": 4,
                "frames_overlap": 2,
                "resolution": 64,
                "seed": 3,
            }
        ],
        "turbo": {"num_inference_steps": 2, "guidance_scale": 1.0},
        "pose": {"backend": "file", "folder": str(tmp_path / "poses")},
        "output": {"output_dir": str(tmp_path / "outputs")},
        "runtime": {"device": "cpu"},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def read_nothing(patch: pytest.MonkeyPatch, but: str | None = None) -> None:
    """Has whoever reads inputs or results, to know what is finished, fail; not for the video `but` and pictures."""
    from mimicmotion.files import content_sha256

    def read(path, *_, **__):
        if but is None or (path.suffix == ".mp4" and path.name != but):
            pytest.fail(f"what is sealed was read: {path}")
        return content_sha256(path)

    patch.setattr("mimicmotion.animation.record.content_sha256", read)
    patch.setattr("mimicmotion.results.sidecar.difference", lambda path, *_: pytest.fail(f"{path} was read"))


def last_items(folder: Path) -> list[dict]:
    """How each result of the last run into a folder ended, as its history says."""
    records = list(read_lines(folder / LOG_NAME))
    return [record for record in records if record["kind"] == "item" and record["run"] == records[-1]["run"]]
