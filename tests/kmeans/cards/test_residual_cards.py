"""Cards of residual stages and of several K: each is of the frames that its codebook quantises."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_features import make_codebook, write_codebooks, write_features

from pipeline.kmeans.cards.card import CodebookCard, make_card
from pipeline.kmeans.cards.describe import OTHER, Speech, Subject, describe
from pipeline.kmeans.cards.markdown import render, render_index
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.cards.stage import describe_codebooks, prepare
from pipeline.kmeans.residual import reduce_by

D = 4
FRAMES = np.random.default_rng(0).normal(0, 2, (60, D)).astype(np.float16)


def make_chain(num_clusters, num_stages, seed=0):
    """Make codebooks of layer 3 from frames drawn of what the stages before leave."""
    rng, chain = np.random.default_rng(seed), []
    for _ in range(num_stages):
        left = reduce_by(chain, FRAMES)
        chain.append(make_codebook(3, left[rng.choice(60, num_clusters, replace=False)], seed=seed, prior=chain))
    return chain


@pytest.fixture
def features(tmp_path):
    rows = [(f"u{n}", np.arange(20), FRAMES[20 * n : 20 * n + 20]) for n in range(3)]
    return write_features(tmp_path / "features", [rows[:2], rows[2:]])


def card_of(subject, counts):
    made_from = {"features_sha256": "g" * 64, "codebook_sha256": subject.book.sha256}
    return make_card(subject, counts, made_from=made_from, frame_rate=50.0, sampled=False, splits=[], labels=[])


def test_a_stage_is_described_on_what_the_stages_before_leave(features):
    chain = make_chain(5, 3)
    subjects = [Subject(unit=book.unit, book=book, prior=chain[:stage]) for stage, book in enumerate(chain)]
    found = describe(subjects, Speech(features=features.uri), features.plan.units)
    for stage, book in enumerate(chain):
        left = reduce_by(chain[:stage], FRAMES)
        codes = book.table.nearest(left).tokens
        assert found[book.unit].codes.tolist() == np.bincount(codes, minlength=5).tolist()
        gaps = ((left.astype(np.float64) - book.centroids[codes]) ** 2).sum()
        assert found[book.unit].squared_distance * 2.0**-24 == pytest.approx(gaps, rel=1e-6)
        variance = left.astype(np.float64).var(axis=0).sum() * len(left)
        assert card_of(subjects[stage], found[book.unit]).explained_variance == pytest.approx(1 - gaps / variance)


def test_codes_of_another_seed_follow_the_stages_of_that_seed(features):
    ours, theirs = make_chain(5, 2), make_chain(5, 2, seed=1)
    subject = Subject(unit="u", book=ours[1], prior=ours[:1], other=theirs[1], other_prior=theirs[:1])
    table = describe([subject], Speech(features=features.uri), features.plan.units)["u"].tables[OTHER]
    expected = np.zeros((5, 5), int)
    mine = ours[1].table.nearest(reduce_by(ours[:1], FRAMES)).tokens
    other = theirs[1].table.nearest(reduce_by(theirs[:1], FRAMES)).tokens
    np.add.at(expected, (mine, other), 1)
    assert table.tolist() == expected.tolist()


def test_a_card_says_of_what_it_is(features):
    chain = make_chain(5, 3)
    cards = []
    for stage, book in enumerate(chain):
        subject = Subject(unit=book.unit, book=book, prior=chain[:stage])
        counts = describe([subject], Speech(features=features.uri), features.plan.units)[book.unit]
        cards.append(CodebookCard.from_json(card_of(subject, counts).to_json(), "x"))
    assert [card.quantizer for card in cards] == [0, 1, 2]
    first, second, third = (render(card, plots=False) for card in cards)
    assert "of width 4 over layer 3 of the encoder" in first
    assert "over the residual (stage 1) that stage 0 leaves of layer 3 of the encoder" in second
    assert "over the residual (stage 2) that stages 0 to 1 leave of layer 3" in third
    assert "residuals" not in first
    assert "Its frames are residuals" in second
    wide = dataclasses.replace(cards[0], unit="layer_03_k9", num_clusters=9)
    rows = render_index([wide, *cards[::-1]]).splitlines()[6:]
    units = ["layer_03_k5", "layer_03_k5_q1", "layer_03_k5_q2", "layer_03_k9"]
    assert [row.split("]")[0] for row in rows] == [f"| [{unit}" for unit in units]


def test_a_card_from_before_there_were_stages_is_one_of_stage_0(features):
    book = make_chain(5, 1)[0]
    subject = Subject(unit=book.unit, book=book)
    counts = describe([subject], Speech(features=features.uri), features.plan.units)[book.unit]
    facts = json.loads(card_of(subject, counts).to_json())
    del facts["quantizer"]
    assert CodebookCard.from_json(json.dumps(facts).encode(), "x").quantizer == 0


def test_every_k_and_stage_of_a_dataset_has_its_card(features, tmp_path):
    books = [*make_chain(5, 2), *make_chain(3, 3)]
    write_codebooks(tmp_path / "books", books)
    write_codebooks(tmp_path / "other", [*make_chain(3, 3, seed=1), *make_chain(5, 2, seed=1)])
    config = DescribeCodebooksConfig.of(
        codebooks=str(tmp_path / "books"), features=features.uri, compare=str(tmp_path / "other"), num_workers=1
    )
    subjects = {subject.unit: subject for subject in prepare(config).subjects}
    assert list(subjects) == [book.unit for book in books]
    assert [book.unit for book in subjects["layer_03_k3_q2"].prior] == ["layer_03_k3", "layer_03_k3_q1"]
    assert [book.lineage["seed"] for book in subjects["layer_03_k3_q2"].other_prior] == [1, 1]
    report = describe_codebooks(config)
    assert (report.cards, report.cards_done_now) == (5, 5)
    folder = Path(tmp_path / "books" / "_cards")
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted(subjects)
    assert json.loads((folder / "layer_03_k3_q2.json").read_bytes())["quantizer"] == 2
    assert "over the residual (stage 1)" in (folder / "layer_03_k5_q1.md").read_text()
    assert describe_codebooks(config).cards_done_now == 0
