"""A process of its own for PyAV: native code that crashes, hangs or grows takes no run along.

python -m mimicmotion.video.pyav_worker < REQUEST, a JSON object with "task", "path" and the limits of `Limits`.

- "facts": decodes the whole file once; JSON lines {"frames": n} on standard output as signs of life, then one with
  "facts", or with "refused": the reason.
- "sound": the same for the little that `probe.sound_start` wants.
- "frames": the raw RGB frames whose indices are asked for.

What ffmpeg's libraries complain of goes to standard error, which is a file: where it has grown, they complained.
"""

import contextlib
import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import av.filter
import av.logging
from av.error import FFmpegError

from mimicmotion.video.ffmpeg import CONTAINERS
from mimicmotion.video.orientation import swaps_sides, upright_filters
from mimicmotion.video.worker import Refused, check_count, check_size, on_white, serve, write_line

MAX_THREADS = 8
THREAD_BYTES = 256 << 20  # of frames that decoding threads may hold
SIGN_OF_LIFE_SECONDS = 1.0
ZERO_BYTES = 1024
# A sample aspect this near to 1 is a rounding of the encoder's.
SQUARE = 0.01
TRANSFERS = {16: "PQ", 18: "HLG"}  # color_trc of H.273
PICT_TYPE_B = 3
MOST_REORDERED = 32  # frames that a decoder holds back: 16 by the standards, and one for each thread
TRANSPARENT_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def complained() -> int:
    """Grows with every complaint of ffmpeg's libraries."""
    sys.stderr.flush()
    return os.fstat(2).st_size


# ----------------------------------------------------------------------------------------------------
# Opening


def open_container(request: dict):
    """The file as a container of local video, whatever characters its name holds."""
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": CONTAINERS,
        "max_pixels": str(request["max_pixels"]),  # for the look at the first frames that opening takes
    }
    try:
        return av.open("file:" + request["path"], options=options)
    except FFmpegError as error:
        reason = f"{error.strerror}; give an mp4, mov, mkv, webm or avi file"
        raise Refused(f"cannot be read as a video: {reason}") from error


def picture_streams(container) -> list:
    """Video streams, cover pictures left out."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def require_picture(container):
    streams = picture_streams(container)
    if not streams:
        what = "it holds sound but no picture" if container.streams.audio else "it holds no picture"
        raise Refused(f"cannot be read as a video: {what}")
    if streams[0].codec_context is None:
        raise Refused("cannot be read as a video: there is no decoder for its codec")
    return streams[0]


def prepare_decoder(stream, max_pixels: int, threads: int):
    """What decodes a stream, in `threads` threads; 0 means as many as are good for frames of its size."""
    context = transparent_decoder(stream) or stream.codec_context
    context.options = {"max_pixels": str(max_pixels)}
    most = min(MAX_THREADS, THREAD_BYTES // max(1, stream.width * stream.height * 3))
    context.thread_count = threads or max(1, min(most, (os.cpu_count() or 1) + 1))
    context.thread_type = "AUTO"
    return context


def transparent_decoder(stream):
    """A decoder that sees the transparency which WebM keeps beside the pictures, as ffmpeg's own do not; or None."""
    name = TRANSPARENT_DECODERS.get(stream.codec_context.name) if has_alpha_beside(stream) else None
    return av.CodecContext.create(name, "r") if name in av.codecs_available else None


def has_alpha_beside(stream) -> bool:
    return stream.metadata.get("alpha_mode") == "1"


# ----------------------------------------------------------------------------------------------------
# Facts


@dataclass
class Pass:
    """What one decoding pass found. `damaged` counts frames that errors cover, `holes` errors of unknown extent."""

    pts: list = field(default_factory=list)
    dts: list = field(default_factory=list)
    sound_start: float | None = None
    picture_start: float | None = None
    end: float = 0.0
    interlaced: bool = False
    first: object = None
    damaged: int = 0
    holes: int = 0
    complaints: int = 0

    @property
    def clean(self) -> bool:
        return not (self.complaints or self.damaged or self.holes)


def clip_facts(request: dict, out) -> dict:
    """All that `VideoInfo` is made of, as plain values."""
    # Decoding threads complain at any time: only one of them lets an error be told to a frame.
    return decode_all(request, out, threads=0) or decode_all(request, out, threads=1)


def check_claims(request: dict, container, stream) -> None:
    """Raises: Refused for a size or a count beyond the limits, before anything is decoded."""
    check_size(request, stream.width, stream.height)
    frames = stream.frames
    if not frames and container.duration and stream.average_rate:
        frames = int(container.duration / av.time_base * stream.average_rate)
    check_count(request, frames, stream.width, stream.height)


def decode_all(request: dict, out, threads: int) -> dict | None:
    """Decodes pictures and throws them away; of the sound only the packets are read, and its first samples.

    Returns: the facts, or None where something is wrong that several threads cannot tell.
    """
    found = Pass()
    with open_container(request) as container:
        stream = require_picture(container)
        check_claims(request, container, stream)
        decoder = prepare_decoder(stream, request["max_pixels"], threads)
        sound = container.streams.audio[0] if container.streams.audio else None
        damage = Damage(found, decoder, discontinuous(container), in_order=threads == 1)
        alive = time.monotonic()
        damage.opened()
        for packet in damage.watched(container.demux()):
            reach(found, container, packet)
            if packet.stream is sound and found.sound_start is None:
                found.sound_start = first_sample(packet)
                damage.opened()
            if packet.stream is not stream:
                continue
            for frame in damage.decoded(packet):
                note_frame(found, frame)
                check_count(request, len(found.pts), frame.width, frame.height)
            if time.monotonic() - alive > SIGN_OF_LIFE_SECONDS:
                alive = time.monotonic()
                write_line(out, {"frames": len(found.pts)})
        damage.closed()
        found.holes += ends_in_zeros(request["path"], container)
        if threads != 1 and not found.clean:
            return None
        if not found.pts:
            raise Refused(no_frame(stream, found))
        return describe(request, container, stream, found)


def no_frame(stream, found: Pass) -> str:
    """Why there is none."""
    if found.clean:
        return "cannot be read as a video: it holds no frame"
    promised = f" of {stream.frames}" if stream.frames else ""
    what = f"the data are damaged or end early: 0 frames can be read{promised}; copy or download the file again"
    return f"cannot be read as a video: {what}"


def has_no_pts(container) -> bool:
    """Whether the container says nothing of when frames are shown; they begin with it."""
    return container.format.name == "avi"


def discontinuous(container) -> bool:
    """Whether the container is a stream of packets that may begin and break off anywhere."""
    return container.format.name in ("mpegts", "mpeg")


def ends_in_zeros(path: str, container) -> bool:
    """Whether the end was never written, as in a download that stopped, in containers that do not tell their length."""
    if container.format.name not in ("mpegts", "mpeg", "gif") or container.size < ZERO_BYTES:
        return False
    with open(path, "rb") as file:
        file.seek(-ZERO_BYTES, os.SEEK_END)
        return not any(file.read())


def reach(found: Pass, container, packet) -> None:
    """Notes until when, in seconds, there are data."""
    if packet.pts is not None and packet.size:
        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        found.end = max(found.end, end - (container.start_time or 0) / av.time_base)


def first_sample(packet) -> float | None:
    """When, in seconds, the first sample in a packet of sound is heard; encoders' padding is left out."""
    try:
        frames = packet.decode()
    except (FFmpegError, ValueError, AttributeError):
        return None
    times = [frame.time for frame in frames if frame.pts is not None]
    return times[0] if times else None


def note_frame(found: Pass, frame) -> None:
    if found.first is None:
        found.first, found.picture_start = frame, frame.time
    found.pts.append(frame.pts)
    found.dts.append(frame.dts)
    found.interlaced |= frame.interlaced_frame


def shown_at(found: Pass) -> list:
    """When each frame is shown, in units of the time base.

    A decoder gives frames in the order in which they are shown, so times that step back are not theirs: AVI has none,
    and what is made up for its packets follows the order of decoding. ffmpeg decides in the same way. The last frames,
    which no packet brings out, have no time of decoding.
    """
    unknown = found.dts.count(None)
    if unknown > min(MOST_REORDERED, len(found.dts) // 2) or _steps_back(found.dts) >= _steps_back(found.pts):
        return found.pts
    return found.dts


def _steps_back(stamps: list) -> int:
    return sum(a is not None and b is not None and b <= a for a, b in itertools.pairwise(stamps))


class Damage:
    """Counts, in the order of decoding, the frames that errors cover.

    An error covers its own frame and, unless no other frame builds on it, all up to the next key frame. What comes
    before the first key frame is not counted: no player shows it.
    """

    def __init__(self, found: Pass, decoder, discontinuous: bool, in_order: bool):
        self.found, self.decoder = found, decoder
        # It marks what it could not decode; what else it complains of changes no pixel, as after cuts in open groups.
        self.marks_all = decoder.name == "h264"
        self.discontinuous = discontinuous
        self.in_order = in_order
        self.packets: list[tuple[int | None, bool]] = []  # (pts, key frame)
        self.alone: set[int] = set()  # numbers of packets that are damaged, but no other frame builds on them
        self.broken: set[int] = set()
        self.seen = 0

    def opened(self) -> None:
        """What was complained of until now concerns the header."""
        self.seen = complained()

    def _complaint(self) -> bool:
        now = complained()
        grown, self.seen = now > self.seen, now
        self.found.complaints += grown
        return grown

    def watched(self, packets) -> Iterator:
        """Packets of all streams; errors of the container itself are holes."""
        try:
            for packet in packets:
                holes = self._complaint() if self.in_order else False
                # A transport stream that was joined or cut has packets like that, and goes on after them.
                holes |= packet.is_corrupt and not self.discontinuous
                self.found.holes += holes
                yield packet
        except FFmpegError:
            self.found.holes += 1
        if self.in_order:
            self.found.holes += self._complaint()

    def decoded(self, packet) -> list:
        """The frames that a packet of the pictures completes."""
        if packet.size and not packet.is_discard:
            self.packets.append((packet.pts, packet.is_keyframe))
        here = len(self.packets) - 1
        if packet.is_corrupt:
            self.broken.add(here)
        try:
            frames = self.decoder.decode(packet)
        except FFmpegError:
            self.broken.add(here)
            frames = []
        if self.in_order and self._complaint() and not self.marks_all:
            self.broken.add(here)
        for frame in frames:
            if frame.is_corrupt:
                place = self._place(frame.pts, here)
                (self.alone if frame.pict_type == PICT_TYPE_B else self.broken).add(place)
        return frames

    def _place(self, pts: int | None, here: int) -> int:
        nearest = range(here, max(-1, here - 64), -1)
        return next((place for place in nearest if self.packets[place][0] == pts), here)

    def closed(self) -> None:
        """Adds up what was found."""
        if not self.in_order:
            self._complaint()
        keys = [place for place, (_, key) in enumerate(self.packets) if key]
        first = keys[0] if keys else 0
        ends = [*keys, len(self.packets)]
        covered = {place for place in self.alone - self.broken if place >= first}
        for place in self.broken:
            if place >= first:
                covered.update(range(place, next((end for end in ends if end > place), place + 1)))
        self.found.damaged = len(covered)
        # Where the last frame is torn, more may be missing. A transport stream may stop anywhere.
        self.found.holes += not self.discontinuous and len(self.packets) - 1 in self.broken | self.alone


def describe(request: dict, container, stream, found: Pass) -> dict:
    """The facts that the first frame, the header and the pass together give."""
    frame = found.first
    turn = upright(frame)
    aspect = sample_aspect(stream)
    width, height = shown_size(frame.width, frame.height, aspect, turn)
    check_size(request, width, height)
    duration = container.duration / av.time_base if container.duration is not None else None
    offset = None
    if has_no_pts(container):
        found.picture_start = 0.0
    if found.sound_start is not None and found.picture_start is not None:
        offset = found.sound_start - found.picture_start
    return {
        "codec": stream.codec_context.name,
        "pix_fmt": frame.format.name,
        "height": height,
        "width": width,
        "pts": shown_at(found),
        "time_base": [stream.time_base.numerator, stream.time_base.denominator],
        "restarts": discontinuous(container),
        "claimed_rates": [
            [rate.numerator, rate.denominator] for rate in (stream.average_rate, stream.base_rate) if rate
        ],
        "claimed_frames": stream.frames,
        "duration": duration,
        "end": found.end,
        "has_audio": bool(container.streams.audio),
        "audio_offset": offset,
        "num_video_streams": len(container.streams.video),
        "turn": list(turn),
        "sample_aspect": [aspect.numerator, aspect.denominator] if aspect else [1, 1],
        "interlaced": found.interlaced,
        "transfer": TRANSFERS.get(int(frame.color_trc)),
        "alpha_lost": has_alpha_beside(stream) and not is_clear(frame),
        "damaged_frames": found.damaged,
        "holes": found.holes,
        "clean": found.clean,
    }


def upright(frame) -> tuple[str, ...]:
    for data in frame.side_data:
        if data.type is av.sidedata.sidedata.Type.DISPLAYMATRIX:
            try:
                return upright_filters(bytes(data))
            except ValueError as error:
                raise Refused(f"cannot be shown upright: {error}; turn the picture itself with ffmpeg") from error
    return ()


def is_clear(frame) -> bool:
    """Whether a frame has transparency."""
    return any(part.is_alpha for part in frame.format.components)


def sample_aspect(stream):
    """Width over height of a stored pixel, or None where it is square."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and aspect > 0 and abs(aspect - 1) > SQUARE else None


def shown_size(width: int, height: int, aspect, turn: tuple[str, ...]) -> tuple[int, int]:
    """(width, height) with square pixels, upright. The shorter measure grows, so that nothing is lost."""
    if aspect and aspect > 1:
        width = math.ceil(width * aspect - 0.5)
    elif aspect:
        height = math.ceil(height / aspect - 0.5)
    return (height, width) if swaps_sides(turn) else (width, height)


def sound_facts(request: dict, out) -> dict:
    """Whether there is sound, and how much later than the picture it starts, in seconds (None: cannot be told)."""
    with open_container(request) as container:
        if not container.streams.audio:
            return {"has_audio": False, "audio_offset": None}
        stream, sound = next(iter(picture_streams(container)), None), container.streams.audio[0]
        if stream is not None and stream.codec_context is not None:
            prepare_decoder(stream, request["max_pixels"], threads=1)
        picture_start = sound_start = None
        with contextlib.suppress(FFmpegError):
            for packet in container.demux(*filter(None, (stream, sound))):
                if packet.stream is sound and sound_start is None:
                    sound_start = first_sample(packet)
                elif packet.stream is stream and picture_start is None:
                    picture_start = 0.0 if has_no_pts(container) else first_sample(packet)
                if sound_start is not None and (stream is None or picture_start is not None):
                    break
    known = sound_start is not None and picture_start is not None
    return {"has_audio": True, "audio_offset": sound_start - picture_start if known else None}


# ----------------------------------------------------------------------------------------------------
# Frames


def write_frames(request: dict, out) -> None:
    """Writes the wanted frames as they are shown, uint8 (height, width, 3), RGB.

    "indices" are [start, stop, step] or a list that grows; "height", "width", "turn", "interlaced" and "transfer"
    are as `describe` gives them; "one_thread" is for damaged files, whose frames depend on the number of threads.
    """
    # Not above: the look at a file does without it, and is waited for.
    import numpy as np

    wanted = iter(range(*request["range"]) if "range" in request else request["indices"])
    picture = Picture(request["height"], request["width"], tuple(request["turn"]), request["transfer"])
    index = next(wanted, None)
    with open_container(request) as container:
        stream = require_picture(container)
        decoder = prepare_decoder(stream, request["max_pixels"], threads=1 if request["one_thread"] else 0)
        frames = decoded_frames(container, stream, decoder)
        if request["interlaced"]:
            frames = deinterlaced(frames)
        for place, frame in enumerate(frames):
            if place != index:
                continue
            out.write(np.ascontiguousarray(picture(frame)).data)
            out.flush()
            index = next(wanted, None)
            if index is None:
                return
    sys.exit("the file ends before it")


def decoded_frames(container, stream, decoder) -> Iterator:
    """Every frame that decodes, in order; as in `decode_all`, errors end nothing."""
    with contextlib.suppress(FFmpegError):
        for packet in container.demux(stream):
            with contextlib.suppress(FFmpegError):
                yield from decoder.decode(packet)


def deinterlaced(frames: Iterator) -> Iterator:
    """One full frame for each of `frames`; those that are not interlaced stay as they are."""
    kind, graph = None, None
    for frame in frames:
        if kind != source_arguments(frame):
            yield from drained(graph)
            kind = source_arguments(frame)
            graph = linked(kind, ["yadif=mode=send_frame:parity=auto:deint=interlaced"])
        graph.push(frame)
        yield from pulled(graph)
    yield from drained(graph)


def drained(graph) -> Iterator:
    if graph is not None:
        graph.push(None)
        yield from pulled(graph)


def pulled(graph) -> Iterator:
    with contextlib.suppress(BlockingIOError, EOFError):
        while True:
            yield graph.pull()


def source_arguments(frame) -> str:
    """What a filter graph must know of the frames that it gets."""
    return (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:pixel_aspect=1/1:"
        f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )


def linked(source: str, filters: list[str]):
    """A configured chain from a source of frames through `filters` ("name" or "name=arguments") to a sink."""
    graph = av.filter.Graph()
    last = graph.add("buffer", source)
    for text in [*filters, "buffersink"]:
        name, _, arguments = text.partition("=")
        node = graph.add(name, arguments or None)
        last.link_to(node)
        last = node
    graph.configure()
    return graph


class Picture:
    """Turns decoded frames into what is shown, all of one size.

    Scaling has no flags: the default is the same in every version of ffmpeg, others change colours by up to 30 levels.
    """

    def __init__(self, height: int, width: int, turn: tuple[str, ...], transfer: str | None):
        self.height, self.width = height, width
        self.turn = turn
        self.transfer = transfer
        self._kind, self._graph, self._clear = None, None, False

    def __call__(self, frame):
        kind = source_arguments(frame)
        if kind != self._kind:
            self._kind, self._clear = kind, is_clear(frame)
            self._graph = linked(kind, self._filters(frame))
        self._graph.push(frame)
        pixels = self._graph.pull().to_ndarray()
        return on_white(pixels) if self._clear else pixels

    def _filters(self, frame) -> list[str]:
        size = (frame.height, frame.width) if swaps_sides(self.turn) else (frame.width, frame.height)
        scale = [] if size == (self.width, self.height) else [f"w={self.width}:h={self.height}"]
        if self.transfer:
            scale.append("out_primaries=bt709:out_transfer=bt709:intent=perceptual")
        scaling = ["scale=" + ":".join(scale)] if scale else []
        return [*self.turn, *scaling, "format=" + ("rgba" if self._clear else "rgb24")]


if __name__ == "__main__":
    # PyAV's own callback takes the interpreter's lock from decoding threads.
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)
    serve({"facts": clip_facts, "sound": sound_facts}, write_frames)
