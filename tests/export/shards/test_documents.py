import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.export.grouping import Grouping, key_of, on_valid_side
from pipeline.export.shards.planning import Rows, ShardSettings, imbalance, plan_shards


def rows_of(documents, num_ids, *, valid=None, offset=None, per_unit=3, framing=2):
    count = len(documents)
    return Rows(
        unit=(np.arange(count) // per_unit).astype(np.int32),
        row=(np.arange(count) % per_unit).astype(np.int32),
        document=np.array([key_of(name) for name in documents], np.uint64),
        num_ids=np.array(num_ids, np.int64),
        framing=np.full(count, framing, np.int64),
        offset=np.zeros(count) if offset is None else np.array(offset, np.float64),
        valid=np.zeros(count, bool) if valid is None else np.array(valid),
    )


def documents_of(shards, names):
    """Names of the rows of each document, by shard."""
    return {
        shard.name: [
            [names[row] for row in shard.rows[shard.document == number]] for number in range(shard.num_documents)
        ]
        for shard in shards
    }


corpora = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(1, 40)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(corpora, st.integers(1, 300), st.sampled_from(["source", "shuffled"]), st.integers(0, 3))
def test_every_row_is_in_one_shard_and_documents_are_whole(corpus, shard_ids, order, seed):
    names = [name for name, _ in corpus]
    rows = rows_of(names, [length for _, length in corpus], valid=[on_valid_side(name, 0.3) for name in names])
    shards = plan_shards(rows, ShardSettings(shard_ids=shard_ids, order=order, seed=seed))
    assert sorted(np.concatenate([shard.rows for shard in shards]).tolist()) == list(range(len(names)))
    seen = []
    for shard in shards:
        for number in range(shard.num_documents):
            inside = shard.rows[shard.document == number]
            assert len({names[row] for row in inside}) == 1
            assert inside.tolist() == sorted(inside.tolist())
            seen.append(names[inside[0]])
        assert {bool(side) for side in rows.valid[shard.rows]} == {shard.name.startswith("valid")}
        assert shard.num_ids == rows.num_ids[shard.rows].sum() + 2 * shard.num_documents
    assert len(seen) == len(set(seen)) == len(set(names))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=400), st.integers(1, 5_000))
def test_shards_differ_from_their_mean_by_five_percent_at_most(lengths, shard_ids):
    names = [f"d{number}" for number in range(len(lengths))]
    shards = plan_shards(rows_of(names, lengths), ShardSettings(shard_ids=shard_ids))
    assert imbalance(shards, "train") <= 0.05
    assert all(shard.num_documents for shard in shards)


def test_shards_are_about_as_large_as_asked_for():
    shards = plan_shards(rows_of([f"d{n}" for n in range(3_000)], [48] * 3_000), ShardSettings(shard_ids=15_000))
    assert [shard.num_ids for shard in shards] == [15_000] * 10


def test_source_order_is_that_of_first_rows_and_recordings_follow_their_offsets():
    names = ["b", "a", "b", "c"]
    rows = rows_of(names, [5, 5, 5, 5], offset=[9.0, 0.0, 2.0, 0.0])
    plain = plan_shards(rows, ShardSettings(shard_ids=1_000))
    assert plain[0].rows.tolist() == [0, 2, 1, 3]
    assert plain[0].document.tolist() == [0, 0, 1, 2]
    placed = plan_shards(rows, ShardSettings(shard_ids=1_000, by_offset=True))
    assert placed[0].rows.tolist() == [2, 0, 1, 3]


def test_a_shuffle_depends_on_seed_and_names_alone():
    names = [f"d{number}" for number in range(200)]
    orders = {}
    for seed in (0, 1):
        shards = plan_shards(rows_of(names, [7] * 200), ShardSettings(shard_ids=10**6, order="shuffled", seed=seed))
        orders[seed] = [names[row] for row in shards[0].rows]
    assert orders[0] != orders[1] != names
    rest = [name for name in names if name != "d7"]
    fewer = plan_shards(rows_of(rest, [7] * 199), ShardSettings(shard_ids=10**6, order="shuffled"))
    assert [rest[row] for row in fewer[0].rows] == [name for name in orders[0] if name != "d7"]


def test_a_shuffle_leaves_no_trace_of_the_order_before():
    shards = plan_shards(
        rows_of([f"d{n}" for n in range(20_000)], [1] * 20_000), ShardSettings(shard_ids=10**6, order="shuffled")
    )
    rank = np.corrcoef(np.arange(20_000), shards[0].rows)[0, 1]
    # Five standard deviations of a correlation of nothing.
    assert abs(rank) < 5 / np.sqrt(20_000)


@settings(max_examples=200, deadline=None)
@given(corpora, st.integers(43, 120))
def test_documents_past_the_limit_are_cut_between_rows(corpus, limit):
    rows = rows_of([name for name, _ in corpus], [length for _, length in corpus])
    (shard,) = plan_shards(rows, ShardSettings(shard_ids=10**9, max_document_ids=limit))
    for number in range(shard.num_documents):
        assert rows.num_ids[shard.rows[shard.document == number]].sum() + 2 <= limit
    whole = plan_shards(rows, ShardSettings(shard_ids=10**9))[0]
    assert whole.rows.tolist() == shard.rows.tolist()
    # Greedy: the first row of a piece did not fit into the piece before it.
    for number in range(1, shard.num_documents):
        before, here = (shard.rows[shard.document == n] for n in (number - 1, number))
        if rows.document[before[0]] == rows.document[here[0]]:
            assert rows.num_ids[before].sum() + 2 + rows.num_ids[here[0]] > limit


def test_the_side_of_a_document_depends_on_its_name_alone():
    sides = [on_valid_side(f"document {number}", 0.1) for number in range(20_000)]
    assert abs(np.mean(sides) - 0.1) < 0.01
    assert all(on_valid_side(f"document {number}", 0.2) for number, side in enumerate(sides) if side)
    assert not any(on_valid_side(f"document {number}", 0.0) for number in range(100))


def test_documents_are_utterances_recordings_columns_or_parts_of_names():
    row = {
        "recording": "a.tar",
        "member": "x.wav",
        "channel": 1,
        "row_group": None,
        "row": None,
        "speaker": "s",
        "text": None,
    }
    assert Grouping().document_id("u1", {}) == "u1"
    assert Grouping(by="recording").document_id("u1", row) == "a.tar#x.wav#channel 1"
    assert Grouping(by="recording").document_id("u1", {"recording": "a.wav", "channel": None}) == "a.wav"
    assert Grouping(by="speaker").document_id("u1", row) == "s"
    assert Grouping(by="text").document_id("u1", row) == "u1"
    chapter = Grouping(pattern=r"^(\d+-\d+)-\d+$")
    assert chapter.document_id("103-1240-0000", {}) == "103-1240"
    assert chapter.document_id("other", {}) == "other"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"by": "chapter"}, "must be utterance, recording or one of text"),
        ({"pattern": "(["}, "no regular expression"),
        ({"pattern": "abc"}, "needs a group"),
        ({"pattern": "(a)", "by": "speaker"}, "no --documents beside it"),
    ],
)
def test_a_grouping_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        Grouping(**wrong)


def test_no_rows_make_no_shards():
    assert plan_shards(rows_of([], []), ShardSettings(shard_ids=10)) == []
