"""The plan for the card: made again for a clip that outgrows it, never for one that does not, from the memory that the
run can have.
"""

from types import SimpleNamespace

import pytest
import torch

from mimicmotion.animation import AnimatorWork, Models, Opened, memory, plan_frames
from mimicmotion.animation.opened import Networks
from mimicmotion.config import load_config
from mimicmotion.errors import UsageError
from mimicmotion.pipelines import GIB, PIECE, Rung
from tests.conftest import make_scheduler

WHOLE, PIECES, OFFLOADED = Rung(False, False, "none"), Rung(False, True, "none"), Rung(False, True, "model")


class Pipeline:
    """What the plan asks of a pipeline."""

    piece = None

    def __init__(self):
        weight = SimpleNamespace(nbytes=3 * GIB, device=torch.device("cuda"))
        network = SimpleNamespace(parameters=lambda: [weight], buffers=list)
        self.scheduler = make_scheduler()
        self.components = {"unet": network, "scheduler": self.scheduler}

    def work_in_pieces(self, entries):
        self.piece = entries


@pytest.fixture
def models(project, monkeypatch):
    """Models that load a stand-in, and whose plan depends on the number of frames alone; `plans` are those made."""
    config = load_config(project / "settings.yaml", {"runtime.vram": "8"})
    # Which rung fits what a shape asks for.
    monkeypatch.setattr(memory, "plan", lambda shapes, budget, rungs: models.rungs[max(s.frames for s in shapes)])
    models = Models(config)
    models.rungs, models.plans = {}, []
    share = models.share_card
    models.share_card = lambda *given: models.plans.append(given[0]) or share(*given)
    models._load_networks = lambda: Networks(Pipeline(), make_scheduler())
    return models


def plan(models, frames, rung):
    models.rungs[1 + frames] = rung
    reference = SimpleNamespace(pixels=torch.empty(64, 64, 3))
    plan_frames(models, models.config.test_case[0], reference, frames)


def test_a_larger_clip_is_planned_for_and_a_smaller_one_is_not(models):
    models.config.test_case[0].num_frames = 100
    plan(models, 10, WHOLE)
    assert models.rung == WHOLE and models.pipeline.piece is None
    first = models.pipeline
    plan(models, 10, OFFLOADED)
    plan(models, 5, OFFLOADED)
    assert models.plans == [WHOLE]
    plan(models, 20, PIECES)
    assert models.plans == [WHOLE, PIECES]
    assert models.pipeline is first and first.piece == PIECE
    # What memory that ran out has made smaller stays so.
    first.work_in_pieces(PIECE // 4)
    plan(models, 30, PIECES)
    assert models.pipeline is first and first.piece == PIECE // 4


def test_a_worker_plans_for_a_tile_before_it_loads_networks(models):
    models.rungs[4] = PIECES
    animator = SimpleNamespace(models=models)
    work = AnimatorWork([animator], None, lambda _: animator, None)
    work.load(SimpleNamespace(job=SimpleNamespace(case=models.config.test_case[0])))
    assert models.plans == [PIECES] and models.pipeline.piece == PIECE


def test_networks_are_placed_anew_where_the_larger_clip_needs_that(models):
    models.config.test_case[0].num_frames = 100
    plan(models, 10, WHOLE)
    first = models.pipeline
    plan(models, 20, OFFLOADED)
    assert models.pipeline is not first and models.pipeline.piece == PIECE
    assert len(models.opened._networks) == 1


def test_what_is_too_large_fails_and_leaves_the_plan(models, monkeypatch):
    models.config.test_case[0].num_frames = 100
    plan(models, 10, WHOLE)

    def too_large(*_):
        raise UsageError("too large")

    with monkeypatch.context() as patch, pytest.raises(UsageError):
        patch.setattr(memory, "plan", too_large)
        plan(models, 20, PIECES)
    assert models.rung == WHOLE and [shape.frames for shape in models.planned] == [11]


@pytest.mark.parametrize(("keep", "others", "free"), [(1, [], 0), (1, ["mine"], 3), (1, ["a"], 3), (2, ["a"], 0)])
def test_a_run_can_have_what_is_free_and_what_its_own_networks_hold(project, monkeypatch, keep, others, free):
    """`others`: whose networks are loaded; those that stay beside these are not counted."""
    config, opened = load_config(project / "settings.yaml", {"runtime.device": "cpu"}), Opened(keep)
    models = Models(config, opened)
    models.device, models.dtype, models.vae_dtype = torch.device("cuda"), torch.float16, torch.float16
    for name in others:
        key = models.networks_key if name == "mine" else name
        opened.networks(key, lambda: Networks(Pipeline(), None))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 6 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5 * GIB)
    assert memory.budget_of(models) == (10 + 1 + free) * GIB
