"""A session in the language of its terminal: which one that is, and that nothing is left untranslated."""

import dataclasses
import re
import string

import pytest

from mimicmotion.config import load_config
from mimicmotion.errors import UsageError
from mimicmotion.streaming.actions import MODES, get_mode, help_line
from mimicmotion.streaming.play import ask_actions, ask_image, ask_to_stop
from mimicmotion.streaming.run import make_terminal
from mimicmotion.streaming.texts import CHINESE, ENGLISH, texts_for
from tests.streaming.test_play import Script, play

HAN = re.compile("[\u4e00-\u9fff]")


def filled_in(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def chinese(*answers, **options):
    script = Script(*answers, **options)
    script.terminal.texts = CHINESE
    return script


@pytest.mark.parametrize(
    ("environment", "encoding", "texts"),
    [
        ({}, "utf-8", ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, "utf-8", CHINESE),
        ({"LANG": "zh"}, None, CHINESE),
        ({"LANG": "zh_CN.GBK"}, "gbk", CHINESE),
        ({"LANG": "zh-Hans@pinyin"}, "utf-8", CHINESE),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_CN", "LANG": "en_GB.UTF-8"}, "utf-8", CHINESE),
        ({"LC_MESSAGES": "de_DE", "LANG": "zh_CN.UTF-8"}, "utf-8", ENGLISH),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN", "LANG": "zh_CN"}, "utf-8", ENGLISH),
        ({"LC_CTYPE": "zh_CN.UTF-8"}, "utf-8", ENGLISH),
        ({"LANG": "zha_CN"}, "utf-8", ENGLISH),
        ({"LANG": "zh_CN"}, "ascii", ENGLISH),
        ({"LANG": "zh_CN"}, "no such encoding", ENGLISH),
    ],
)
def test_the_terminal_decides_unless_a_language_is_named(environment, encoding, texts):
    assert texts_for("auto", environment, encoding) is texts
    assert texts_for("en", environment, encoding) is ENGLISH
    assert texts_for("zh", environment, encoding) is CHINESE


def test_the_setting_reaches_the_terminal(monkeypatch):
    assert make_terminal(load_config(None, {"streaming.lang": "zh"}).streaming).texts is CHINESE
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert make_terminal(load_config(None, {"streaming.lang": "en"}).streaming).texts is ENGLISH
    with pytest.raises(UsageError, match=r"streaming\.lang.*auto, en, zh"):
        load_config(None, {"streaming.lang": "fr"})


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ENGLISH) if field.name != "labels"])
def test_both_languages_say_the_same(name):
    english, translated = getattr(ENGLISH, name), getattr(CHINESE, name)
    assert HAN.search(translated) and not HAN.search(english)
    assert english.startswith("\n") == translated.startswith("\n")
    if english != "{error}":
        assert filled_in(translated) == filled_in(english)


@pytest.mark.parametrize("mode", MODES)
def test_every_key_is_explained_in_chinese(mode):
    entries = help_line(get_mode(mode), CHINESE.labels).split(", ")
    assert [entry[0] for entry in entries] == [*get_mode(mode).letters]
    assert [entry for entry in entries if not HAN.search(entry) or re.search("[a-z]", entry)] == []


def test_a_session_in_chinese(generator, picture, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.streaming.test_play.Script", chinese)
    script, recording, _ = play(generator, picture, tmp_path, "Ｘ", "ｗ　Ａ", "Ｌ", "ｎ")
    assert recording.frames == 9, "keys and n of a Chinese input method are understood"
    assert script.said[0] == "--- 第 0 块（潜变量 0-2）---"
    assert script.said[2].startswith("universal 模式没有按键 X；可用的按键：W: 前进, ")
    assert script.said[3] == f"已保存 {tmp_path / 'walk_current.mp4'}（本块 9 帧，共 9 帧）"
    assert [text for text in script.said + script.questions if not HAN.search(text)] == []


def test_the_other_questions_in_chinese(tmp_path, picture):
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "a.png")
    script = chinese(str(tmp_path / "none.png"), str(tmp_path / "a.png"), "z c", "z", "Ｎ")
    ask_image(script.terminal, "b.png")
    ask_actions(get_mode("templerun"), script.terminal, 0, 3)
    assert ask_to_stop(script.terminal)
    assert script.said[0].startswith("这张图片无法使用：") and "none.png" in script.said[0]
    assert script.said[2] == "templerun 模式每次只能按一个键，收到的是 C+Z"
    assert [text for text in script.questions if not HAN.search(text)] == []
