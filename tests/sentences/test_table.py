"""The CSV of sentences: what is read, and how each bad input is told."""

import pytest

from mimicmotion.errors import UsageError
from mimicmotion.sentences.table import read_table


def table(tmp_path, text, encoding="utf-8", given="utf-8"):
    path = tmp_path / "sentences.csv"
    path.write_bytes(text.encode(encoding))
    return read_table(path, given)


def plain(sentences):
    return [(sentence.name, *sentence.words) for sentence in sentences if not sentence.problem]


@pytest.mark.parametrize(
    "text",
    [
        "sentence,words\ns1,a b\ns2,b c a\n",
        "Sentence_ID;Word_IDs\r\ns1;a b\r\n\r\ns2;b,c|a\r\n",
        'id\tref_ids\ns1\t"a, b"\ns2\tb c a',
        "signer,sentence,words\nx,s1,a b\ny,s2,b  c a\n",
        "sentence,word_1,word_2,word_3\ns1,a,b,\ns2,b,c,a\n",
    ],
)
def test_ways_to_write_a_table(tmp_path, text):
    assert plain(table(tmp_path, text)) == [("s1", "a", "b"), ("s2", "b", "c", "a")]


@pytest.mark.parametrize(
    ("encoding", "given"),
    [("utf-8", "utf-8"), ("utf-8-sig", "UTF8"), ("gbk", "gbk"), ("utf-16", "utf-16"), ("utf-8-sig", "utf-8-sig")],
)
def test_encodings_by_name(tmp_path, encoding, given):
    text = "sentence,words\n句子,你 好\n"
    assert plain(table(tmp_path, text, encoding, given)) == [("句子", "你", "好")]


@pytest.mark.parametrize(
    ("text", "encoding", "given", "told"),
    [
        ("sentence,words\ns1,a\n句子,你 好\n", "gbk", "utf-8", "row 3.*--csv_encoding gbk"),
        ("sentence,words\ns1,a\n", "utf-16", "utf-8", "--csv_encoding utf-16"),
        ("sentence,words\ns1,a\n", "utf-16-le", "utf-8", "NUL"),
        ("sentence,words\ns1,a\n", "utf-8", "utf8000", "csv_encoding"),
        ("sentence,words\ns1,a\n", "utf-8", "base64", "csv_encoding"),
        ("", "utf-8", "utf-8", "empty"),
        ("\n\n", "utf-8", "utf-8", "empty"),
        ("sentence,words\n,\n", "utf-8", "utf-8", "no row"),
        ("name,text\ns1,a b\n", "utf-8", "utf-8", "row 1 names the columns name, text"),
        ("s1,a b\ns2,c\n", "utf-8", "utf-8", "row 1 names the columns"),
        ('sentence,words\ns1,"a b\n', "utf-8", "utf-8", "no CSV"),
    ],
)
def test_what_is_no_table(tmp_path, text, encoding, given, told):
    with pytest.raises(UsageError, match=told):
        table(tmp_path, text, encoding, given)


@pytest.mark.parametrize("place", ["missing.csv", "."])
def test_no_file(tmp_path, place):
    with pytest.raises(UsageError, match=r"does not exist|no table|folder"):
        read_table(tmp_path / place)


def test_a_bad_row_leaves_the_others(tmp_path):
    rows = ["s1,a b", "s2,", ",a", "s3,a,b", "s1,b", "S1,c", "../s4,a", "s5,a ../b", "s6,c"]
    sentences = table(tmp_path, "sentence,words\n" + "\n".join(rows))
    assert plain(sentences) == [("s1", "a", "b"), ("s6", "c")]
    told = {sentence.row: sentence.problem for sentence in sentences if sentence.problem}
    words = {3: "no words", 4: "no sentence id", 5: "3 cells", 6: "row 2", 7: "row 2", 8: "cannot name", 9: "another"}
    assert set(told) == set(words)
    assert all(words[row] in told[row] for row in words), told
