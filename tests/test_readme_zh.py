"""README.zh.md says what README.md says: section by section the same commands, files, names, links and numbers."""

import re

import pytest

from tests.documents import ROOT, bare, examples_of_page

ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
HAN = re.compile("[\u4e00-\u9fff]")
OTHER_LANGUAGE = re.compile(r"^\[\S+\]\(README(\.zh)?\.md\)$", re.M)


def sections(page):
    """The page cut before each heading."""
    return re.split(r"^(?=#+ )", OTHER_LANGUAGE.sub("", page), flags=re.M)[1:]


def facts(section):
    """What a translation leaves as it is, by kind; in order only where a sentence's structure has no say."""
    code = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    prose = re.sub(r"^    .*\n", "", section, flags=re.M)
    names = re.findall(r"`[^`]+`", prose)
    plain = re.sub(r"\]\([^)]*\)|`[^`]+`|<!--.*?-->", "", section)
    return {
        "level": re.match("#+", section)[0],
        "blocks": [re.split(r"\s{2,}|\s#", line)[0] for line in code],
        "commands": [bare(example) for example in examples_of_page("", section)],
        "marks": re.findall("<!--.*?-->", section),
        "links": sorted(re.findall(r"\]\([^)]+\)", section)),
        "names": sorted(names),
        "numbers": sorted(re.findall(r"\d+(?:[.x]\d+)*", plain)),
        "rows": [line.count("|") for line in prose.splitlines() if line.startswith("|")],
        "points": sum(line.startswith("* ") for line in prose.splitlines()),
    }


def all_facts(page):
    return [facts(section) for section in sections(page)]


def test_both_say_the_same():
    english, chinese = all_facts(ENGLISH), all_facts(CHINESE)
    assert [each["level"] for each in chinese] == [each["level"] for each in english]
    for section, there, here in zip(sections(ENGLISH), english, chinese, strict=True):
        assert here == there, f"README.zh.md does not follow this section of README.md: {section.splitlines()[0]}"


def test_every_paragraph_is_translated():
    prose = re.sub(r"^    .*\n|<!--.*?-->|^\|.*\n", "", OTHER_LANGUAGE.sub("", CHINESE), flags=re.M)
    paragraphs = [text for text in re.split(r"\n\s*\n|\n(?=\* )", prose) if text.strip()]
    assert [text for text in paragraphs[1:] if not HAN.search(text)] == []
    comments = re.findall(r"\s#\s+(.*)", "\n".join(line for line in CHINESE.splitlines() if line.startswith("    ")))
    assert [text for text in comments if not HAN.search(text)] == []


def test_each_leads_to_the_other():
    assert "](README.zh.md)" in ENGLISH and "](README.md)" in CHINESE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("## Many settings at once", "### Many settings at once"),
        ("\n## Joining the latents of clips", "\nJoining the latents of clips"),
        ("--interp_frames 4", "--interp_frames 5"),
        ("<!-- needs: weights -->\n", ""),
        ("    outputs/runs.jsonl ", "    outputs/all.jsonl "),
        ("2 wrong use", "4 wrong use"),
        ("torch 2.13.0", "torch 2.14.0"),
        ("128x192", "128x256"),
        ("](doc/pose.md)", "](doc/poses.md)"),
        ("doc/images/demo.jpg", "doc/images/another.jpg"),
        ("`--print_config`", "`--show_config`"),
        ("| `path=value` | any other", "| any other"),
        ('scheduler="AYS", output', 'scheduler="LCM", output'),
    ],
)
def test_a_change_of_one_page_alone_is_seen(old, new):
    assert ENGLISH.count(old) == 1
    assert all_facts(ENGLISH.replace(old, new)) != all_facts(ENGLISH)
