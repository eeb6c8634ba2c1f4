"""Means with their intervals, ranks, and a page that shows names as they are."""

import io

import numpy as np
import pytest
from PIL import Image

from mimicmotion.errors import InputError
from mimicmotion.evaluation.page import ends, ranked, write_page
from mimicmotion.evaluation.summary import Row, corpus, mean_of, means, write_csv, write_json
from mimicmotion.files import write_json as write_record


def row(name, tmp_path=None, **numbers):
    strip = None
    if tmp_path is not None:
        strip = tmp_path / f"{len(list(tmp_path.iterdir()))}.jpg"
        encoded = io.BytesIO()
        Image.new("RGB", (30, 20), (200, 10, 10)).save(encoded, "JPEG")
        strip.write_bytes(encoded.getvalue())
    return Row(name, "animation", "measured", "", {"numbers": numbers, "frames": 3}, strip=strip)


def test_means_have_bootstrap_intervals():
    values = np.random.default_rng(0).normal(10, 2, 100)
    found = mean_of(values)
    low, high = found["interval"]
    assert found == mean_of(values), "a fixed seed"
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-6) and found["clips"] == 100
    half = 1.96 * values.std(ddof=1) / 10  # by the normal distribution
    assert (high - low) / 2 == pytest.approx(half, rel=0.15) and low < found["mean"] < high
    assert mean_of([3.0]) == {"mean": 3.0, "interval": None, "clips": 1}
    assert mean_of([3.0, 3.0])["interval"] == [3.0, 3.0]


def test_a_mean_is_over_the_clips_that_have_the_measure():
    rows = [row("a", psnr=20.0, csim=None), row("b", psnr=30.0), Row("c", "animation", "failed", "no video")]
    found = means(rows)
    assert set(found) == {"psnr"} and (found["psnr"]["mean"], found["psnr"]["clips"]) == (25.0, 2)


def test_features_of_all_clips_give_one_distance(tmp_path):
    draws = np.random.default_rng(0).normal(size=(60, 4))
    rows = [row(str(n)) for n in range(3)]
    for n, entry in enumerate(rows):
        part = draws[20 * n : 20 * n + 20]
        entry.kept = tmp_path / f"{n}.json"
        write_record(entry.kept, {"features": {"fvd": {"own": part.tolist(), "true": (part + 2).tolist()}}})
    found = corpus([*rows, Row("failed", "animation", "failed")], ["fvd"])
    assert found["fvd"] == {"distance": pytest.approx(16, abs=1e-5), "segments": 60, "few": False}
    assert corpus([], ["fvd"])["fvd"] == {"distance": None, "segments": 0, "few": True}
    assert corpus(rows, []) == {}


def test_the_worst_come_first_and_none_is_best_as_well():
    rows = [row(name, psnr=value) for name, value in (("a", 30.0), ("b", 10.0), ("c", 20.0), ("d", 10.0))]
    order = ranked("psnr", rows)
    assert [entry.name for entry in order] == ["b", "d", "c", "a"]
    worst, best = ends(order, 3)
    assert [entry.name for entry in worst] == ["b", "d"] and [entry.name for entry in best] == ["a", "c"]
    low = ranked("body_distance", [row("near", body_distance=1.0), row("far", body_distance=5.0)])
    assert [entry.name for entry in low] == ["far", "near"]


def test_names_are_shown_as_they_are(tmp_path):
    name = "<script>alert('1 & 2')</script>"
    rows = [row(name, tmp_path, psnr=20.0), Row("bad", "plain", "failed", "<b>no</b>")]
    content = write_json(tmp_path / "evaluation.json", rows, {"protocol": "cross", "truth": None, "weights": {}})
    write_csv(tmp_path / "evaluation.csv", rows)
    page = write_page(tmp_path / "evaluation.html", rows, content, 3).read_text()
    assert name not in page and "&lt;script&gt;alert(&#x27;1 &amp; 2&#x27;)" in page and "&lt;b&gt;no" in page
    assert page.count("data:image/jpeg") == 1 and "<!--" not in page
    again = write_page(tmp_path / "evaluation.html", rows, content, 3).read_text()
    assert again == page
    (tmp_path / "evaluation.html").write_text("something else")
    with pytest.raises(InputError, match="no page of an evaluation"):
        write_page(tmp_path / "evaluation.html", rows, content, 3)
