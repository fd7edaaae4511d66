"""Fixtures: records of a small slide, and a real database."""

from dataclasses import replace

import pytest
from a_result import BUNDLE, QUALITY, RUN, SCORE, SLIDE, TILES

from her2d.db.connection import open_database
from her2d.pipeline.scoring import Her2Status, Score
from her2d.results.store import record_run


@pytest.fixture
def db(tmp_path):
    db = open_database(tmp_path / "her2d.sqlite")
    yield db
    db.close()


@pytest.fixture
def quality():
    return lambda **changes: replace(QUALITY, **changes)


@pytest.fixture
def record(db):
    def record(*, slide=None, run=None, bundle=None, tiles=TILES, quality=QUALITY, **more):
        changes = dict(run or {})
        scores = {name: changes.pop(name) for name in Score.model_fields if name in changes}
        if (status := scores.get("her2_status")) in set(Her2Status):
            scores["her2_status"] = Her2Status(status)
        score = SCORE.model_copy(update=scores)
        changed = replace(RUN, score=score, quality=quality, **changes)
        return record_run(
            db,
            slide=replace(SLIDE, **(slide or {})),
            bundle=replace(BUNDLE, **(bundle or {})),
            run=changed,
            tiles=tiles,
            **more,
        )

    return record
