"""The order of a sweep: everything once, networks loaded once, nobody always first."""

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from mimicmotion.animation.opened import Networks, Opened
from mimicmotion.sweep.order import in_turns


@settings(max_examples=6)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 4))
def test_every_result_once_and_networks_loaded_once(networks, clips, keep):
    order = in_turns(networks, clips, keep)
    assert sorted(order) == [(variant, clip) for variant in range(len(networks)) for clip in range(clips)]
    opened, loads = Opened(keep), []

    def load():
        loads.append(1)
        return Networks(None, None)

    for variant, _ in order:
        opened.networks(networks[variant], load)
    assert len(loads) == len(set(networks))


@given(st.integers(1, 6), st.integers(1, 12))
def test_variants_take_turns_and_each_comes_first(variants, clips):
    order = in_turns(["same"] * variants, clips, 1)
    by_clip = OrderedDict()
    for variant, clip in order:
        by_clip.setdefault(clip, []).append(variant)
    assert list(by_clip) == list(range(clips)), "a clip is done by all before the next begins"
    firsts = [turn[0] for turn in by_clip.values()]
    assert max(map(firsts.count, range(variants))) - min(map(firsts.count, range(variants))) <= 1
