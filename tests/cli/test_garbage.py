"""Whatever stands where a setting belongs, the answer is exit code 2 and one sentence, before any work."""

import dataclasses
import functools
import io
import logging
import os

import hypothesis
import hypothesis.strategies as st
import pytest
import yaml

from mimicmotion import cli
from mimicmotion.commands import causal, stream, turbo
from mimicmotion.config import Config, describe_setting, load_config, walk
from mimicmotion.streaming.world import WorldConfig, read_world

pytestmark = pytest.mark.usefixtures("logging_as_before")

PATHS = [path for path, _ in walk(Config())]
REPLACED = ["${ckpt_path}", "a/${oc.env:HOME}", "${", "x${{}}", "???"]
NO_NUMBERS = st.sampled_from(["many", "0x", "1,5", "--", "1 2", "NaN?"])
UNSHAPED = st.one_of(
    st.dictionaries(st.text("ab", min_size=1), st.integers(0, 9), min_size=1),
    st.lists(st.lists(st.integers(0, 9)), min_size=1),
    st.sampled_from(REPLACED),
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=6,
)


def wrong_values(path):
    """What can never be the value of this setting."""
    kind = describe_setting(path).type
    kinds = getattr(kind, "__args__", (kind,))
    if int in kinds:
        return UNSHAPED | NO_NUMBERS | st.sampled_from([-(10**30), 10**30, 1.5, float("nan"), float("inf")])
    if float in kinds:
        return UNSHAPED | NO_NUMBERS | st.sampled_from([-1e30, 1e30, float("nan"), float("inf"), -float("inf")])
    if bool in kinds:
        return UNSHAPED | NO_NUMBERS
    return UNSHAPED | st.just("a\0b")


def code_of(work):
    """(exit code, what the log says) of work that reads settings."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger("mimicmotion").addHandler(handler)
    try:
        code = cli.exit_code_of(lambda: work() and 0)
    finally:
        logging.getLogger("mimicmotion").removeHandler(handler)
    assert "Traceback" not in log.getvalue()
    return code, log.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("garbage") / "settings.yaml"


def as_file(file, path, value):
    """The value under its path, in a file of nothing else."""
    parts = path.replace("[0]", "").split(".")
    if parts[0] == "test_case":
        content = {"test_case": [{parts[1]: value}]}
    else:
        content = functools.reduce(lambda inner, part: {part: inner}, reversed(parts), value)
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    return file


def ways(file, path, value):
    """Loading settings with the value in a file, as a flag and as a pair."""
    empty = file.with_name("empty.yaml")
    empty.write_text("")
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    return (
        lambda: load_config(as_file(file, path, value)),
        lambda: load_config(empty, given={path: value}),
        lambda: load_config(empty, overrides=[f"{path}={text}"]),
    )


@hypothesis.settings(max_examples=120)
@hypothesis.given(st.data(), st.sampled_from(PATHS), st.integers(0, 2))
def test_garbage_in_any_setting_ends_with_2(file, data, path, way):
    code, log = code_of(ways(file, path, data.draw(wrong_values(path)))[way])
    assert code == 2 and log.count("\n") < 8


def test_no_setting_takes_another_shape(file):
    """The law above, once for every setting."""
    for path in PATHS:
        code, log = code_of(ways(file, path, {"a": 1})[1])
        assert code == 2 and path in log


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.binary() | st.text("{}[]:,-\n &*!|>'\"%@`ab1#?~.<=").map(str.encode) | ANY)
def test_any_file_is_settings_or_ends_with_2(file, content):
    if not isinstance(content, bytes):
        content = yaml.safe_dump({"output": content}).encode()
    file.write_bytes(content)
    assert code_of(lambda: load_config(file))[0] in (0, 2)


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{b}: &{b} [{','.join(f'*{a}' for _ in range(10))}]\n"
                                                 for a, b in zip("abcdefgh", "bcdefghi", strict=True))  # fmt: skip
FILES = {
    "a key twice": ("output: {crf: 1}\noutput: {crf: 2}", "duplicate key"),
    "a key twice within": ("output: {crf: 1, crf: 2}", "duplicate key"),
    "anchors that multiply": (BOMB, "more than 10000 values"),
    "an anchor within itself": ("a: &a [*a]", "*a"),
    "brackets without end": ("a: " + "[" * 10_000, "levels"),
    "indents without end": ("".join(" " * i + "a:\n" for i in range(500)), "levels"),
    "a tab": ("output:\n\tcrf: 1", "not valid YAML"),
    "a tag": ("base_model_path: !!python/object/apply:os.system [ls]", "the tag"),
    "a date": ("test_case: [{fps: 2020-13-45}]", "fps"),
    "a number of 5000 digits": ("output: {crf: " + "9" * 5000 + "}", "not valid YAML"),
    "a number of 4000 bits": ("output: {crf: 0x" + "f" * 1000 + "}", "4000 bits"),
    "no character": ('a: "\\UFFFFFFFF"', "not valid YAML"),
    "a NUL": ("a: \0", "not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2", "not valid YAML"),
    "a word": ("hello", "keys and values"),
    "no videos": ("batch: {videos: []}", "batch.videos is empty"),
    "a video without a name": ("batch: {videos: [null]}", "batch.videos"),
    "no case": ("test_case: [null]", "test_case"),
    "a large picture": ("test_case: [{resolution: 6400000}]", "at most 8192"),
    "a long run": ("streaming: {num_latents: 3000000000000}", "at most 250000"),
    "a longer run": ("streaming: {num_latents: 3e12}", "num_latents"),
    "not UTF-8": (b"base_model_path: \xe9", "not UTF-8"),
    "UTF-16": ("output: {crf: 20}".encode("utf-16"), "not UTF-8"),
    "two megabytes": (b"a: " + b"x" * 2**21, "bytes"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_refused_with_the_reason(name, file):
    content, words = FILES[name]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, log = code_of(lambda: load_config(file))
    assert code == 2 and words in log and len(log) < 1000


def test_what_editors_put_before_the_text_is_skipped(file):
    file.write_bytes(b"\xef\xbb\xbf" + b"output:\r\n  crf: 20\r\n")
    assert load_config(file).output.crf == 20


def test_an_anchor_that_is_used_as_it_is_meant_works(file):
    file.write_text("test_case:\n  - &first {seed: 1, fps: 10}\n  - {<<: *first, seed: 2}\n")
    assert [(case.seed, case.fps) for case in load_config(file).test_case] == [(1, 10), (2, 10)]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nothing"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    places = {"pipe": tmp_path / "pipe", "folder": tmp_path, "device": "/dev/zero", "nothing": tmp_path / "none"}
    os.mkfifo(places["pipe"])
    place = str(places[kind])
    actions = {"streaming.actions": "W"}
    for prepare in (
        lambda: load_config(place),
        lambda: read_world(place),
        lambda: stream.work(load_config(given=actions | {"streaming.resume_from": place})),
        lambda: stream.work(load_config(given=actions | {"streaming.image": place})),
    ):
        assert code_of(prepare)[0] == 2
    if kind != "nothing":
        assert code_of(lambda: causal.work(load_config(given={"streaming.actions": place})))[0] == 2
    assert code_of(lambda: causal.work(load_config(given=actions | {"streaming.image": place})))[0] == 1
    given = {"batch.video_folder": str(tmp_path), "test_case[*].ref_image_path": place}
    assert code_of(lambda: turbo.work(load_config(given=given)))[0] == 2
    given = {"turbo.lcm_lora_path": place, "batch.video_folder": str(tmp_path)}
    assert code_of(lambda: turbo.work(load_config(given=given)))[0] in (2, 3)


SCRIPTS = ["W*2000000000", " ".join(["W*999999"] * 2000), "W*0", "W*9999999999999", "?" * 10**6]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script[:12])
def test_absurd_action_scripts_are_refused_before_memory_is_taken(script):
    code, log = code_of(lambda: causal.work(load_config(given={"streaming.actions": script})))
    assert code == 2 and len(log) < 1000


WORLD = [field.name for field in dataclasses.fields(WorldConfig)]


@pytest.mark.parametrize("name", WORLD)
def test_garbage_in_a_world_ends_with_2(name, file):
    with open("configs/streaming/tiny.yaml", encoding="utf-8") as tiny:
        whole = yaml.load(tiny, yaml.CSafeLoader)
    for value in ({"a": 1}, ["a"], 10**30, -1, float("nan"), True, "${a}", "???"):
        if name in ("model", "vae", "clip") and isinstance(value, dict):
            continue
        file.write_text(yaml.dump(whole | {name: value}, Dumper=yaml.CSafeDumper))
        assert code_of(lambda: read_world(file))[0] == 2, value


@pytest.mark.parametrize("flag", ["--seed many", "--fps nan", "--resolution 6400000", "--ref_image_path ${x}"])
def test_flags_take_no_garbage(flag, capsys):
    try:
        code = cli.run_script("Doc.", turbo.GROUPS, lambda _: pytest.fail("ran"), flag.split())
    except SystemExit as end:
        code = end.code
    assert code == 2 and "Traceback" not in capsys.readouterr().err
