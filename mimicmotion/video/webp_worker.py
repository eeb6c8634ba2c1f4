"""A process of its own for animated WebP, which ffmpeg's libraries do not decode; Pillow does. See `worker`."""

from PIL import Image

from mimicmotion.video.stills import as_rgb
from mimicmotion.video.worker import Refused, check_count, check_size, serve

DEFAULT_DURATION = 100  # milliseconds, of a frame that says 0, as browsers have it


def animation_facts(request: dict, out) -> dict:
    """As `pyav_worker.describe`; every frame is decoded once."""
    try:
        with Image.open(request["path"]) as image:
            width, height = image.size
            check_size(request, width, height)
            check_count(request, image.n_frames, width, height)
            pts, time = [], 0
            for index in range(image.n_frames):
                image.seek(index)
                image.load()
                pts.append(time)
                time += image.info.get("duration") or DEFAULT_DURATION
    except (OSError, ValueError, EOFError) as error:
        raise Refused(f"cannot be read as a video: {error}") from error
    return {
        "codec": "webp",
        "pix_fmt": image.mode.lower(),
        "height": height,
        "width": width,
        "pts": pts,
        "time_base": [1, 1000],
        "claimed_rates": [],
        "duration": time / 1000,
        "end": time / 1000,
        "clean": True,
    }


def sound_facts(request: dict, out) -> dict:
    """There is never sound."""
    return {"has_audio": False, "audio_offset": None}


def write_frames(request: dict, out) -> None:
    """As `pyav_worker.write_frames`."""
    with Image.open(request["path"]) as image:
        for index in range(*request["range"]) if "range" in request else request["indices"]:
            image.seek(index)
            out.write(as_rgb(image).data)
            out.flush()


if __name__ == "__main__":
    serve({"facts": animation_facts, "sound": sound_facts}, write_frames)
