"""An export killed at any instant and run again: the same bytes, nothing made twice, nothing left over."""

import json
import shutil

import made_tokens
import pytest
from made_export import config_of, tree
from made_export_kills import KILLED, export_in_child, names
from made_kills import one_after_the_other
from made_tokens import write_corpus_of_tones

from pipeline.errors import DatasetError
from pipeline.export.settings import FORMAT_NAMES
from pipeline.export.shards.parts import Part, claim_part, read_parts
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

UNIT_POINTS = (
    "after_announce_before_data",
    "after_data_before_commit",
    "after_commit_before_publish",
    "after_publish",
)
FOLDER_POINTS = ("before_shard_table", "after_shard_table_before_success", "after_success_before_cleanup")
SETTINGS = {
    "layers": (3,),
    "deduplicate": True,
    "formats": ("megatron",),
    "order": "shuffled",
    "shard_ids": 150,
    "valid_fraction": 0.2,
    "prefix": ("<|{speaker}|>",),
    "corpus": "tones",
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two corpora without a common utterance, each with a speaker of its own."""
    folder = tmp_path_factory.mktemp("corpora")
    with pytest.MonkeyPatch.context() as patch:
        plain_row, plain_speak = made_tokens._row, made_tokens.speak
        for name in ("first", "second"):
            patch.setattr(made_tokens, "_row", lambda one, shard, name=name: plain_row(one, shard) | {"speaker": name})
            patch.setattr(
                made_tokens,
                "speak",
                lambda *some, name=name, **more: [
                    type(one)(f"{name}-{one.utterance_id}", *list(vars(one).values())[1:])
                    for one in plain_speak(*some, **more)
                ],
            )
            lengths = [0.5 + number % 3 / 10 for number in range(72)]
            write_corpus_of_tones(folder / name, lengths, per_shard=12, columns=("layer_03", "layer_07"))
    return folder


def config(corpora, folder, corpus="first", **settings):
    return config_of(corpora / corpus, folder / "export", **(SETTINGS | settings))


@pytest.fixture(scope="module")
def whole(corpora, tmp_path_factory):
    """An export in every format that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    code, message, _ = export_in_child(config(corpora, folder, formats=FORMAT_NAMES))
    assert (code, message) == (0, None)
    return folder / "export"


def assert_whole(output, truth):
    """Each visible file is one of an export that nothing has disturbed."""
    for name, data in tree(output).items():
        assert data == truth.get(name), name


def commits(output):
    return {(path.parts[-4], path.stem) for path in output.glob("*/*/_commits/*.json")}


def announced(log):
    """The units that a run has begun, by kind; each kind's plan comes before its units."""
    found, kind = [], ""
    for line in log.read_text().splitlines():
        point, key = line.split()
        if point == "after_plan":
            kind = key.split("/")[-2]
        else:
            found.append((kind, key))
    return found


def kill_one_step_later_each_time(settings, output, points, truth):
    """Run an export to one point after the other; check after each kill what is visible and what was made again."""
    log = output.parent / "log"
    logs = [{"point": name, "action": "log", "path": str(log)} for name in ("after_plan", "after_announce_before_data")]
    for point, match in points:
        done = commits(output)
        log.write_text("")
        held = one_after_the_other(match) if match.endswith(tuple("0123456789")) else []
        faults = [*logs, *held, {"point": point, "match": match, "action": "kill"}]
        code, message, _ = export_in_child(settings, faults)
        assert (code, message) == (KILLED, None), (point, match)
        assert done.isdisjoint(announced(log)), (point, match)
        assert_whole(output, truth)
    done = commits(output)
    code, message, made = export_in_child(settings)
    assert (code, message) == (0, None)
    assert len(made) == len(commits(output) - done)


def points_of_format(form):
    """All points of a format's pass; each of two shards is killed before its commit and after it."""
    yield "after_plan", f"/{form}/"
    yield "after_announce_before_data", "train-00000"
    yield "after_commit_before_publish", "train-00000"
    yield "after_data_before_commit", "train-00001"
    yield "after_publish", "train-00001"
    yield from ((point, f"/{form}/") for point in FOLDER_POINTS)


def test_killed_at_one_point_after_the_other_an_export_has_the_bytes_of_one_never_killed(corpora, whole, tmp_path):
    points = [
        *((point, "") for point in ("after_plan", "after_part", "after_vocabulary", "after_tokenizer")),
        ("after_plan", "/sequences/"),
        *((point, f"shard-{number:05d}") for number, point in enumerate(UNIT_POINTS)),
        *((point, "/sequences/") for point in FOLDER_POINTS),
        ("after_layout", ""),
        ("after_plan", "/scattered/"),
        # There is one group; with the third attempt a child process makes it.
        *((point, "group-00000") for point in UNIT_POINTS[:3]),
        *((point, "/scattered/") for point in FOLDER_POINTS),
        *(point for form in FORMAT_NAMES for point in points_of_format(form)),
        ("before_card", ""),
        ("after_card", ""),
    ]
    settings = config(corpora, tmp_path, formats=FORMAT_NAMES)
    kill_one_step_later_each_time(settings, tmp_path / "export", points, tree(whole))
    assert tree(tmp_path / "export") == tree(whole)
    assert names(tmp_path / "export") == names(whole)


def test_a_shard_that_died_twice_is_made_in_a_child_process_to_the_same_bytes(corpora, whole, tmp_path):
    output = tmp_path / "export"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "megatron")
    points = [("after_data_before_commit", "train-00000"), ("after_announce_before_data", "train-00000")]
    kill_one_step_later_each_time(config(corpora, tmp_path), output, points, tree(whole))
    assert tree(output) == tree(whole)
    assert names(output) == names(whole)


def test_killed_before_its_vocabulary_an_export_keeps_the_merges_it_has_trained(corpora, tmp_path):
    settings = {"layers": (7, 3), "bpe_merges": 10}
    assert export_in_child(config(corpora, tmp_path / "undisturbed", **settings))[:2] == (0, None)
    fault = {"point": "after_merges", "action": "kill"}
    assert export_in_child(config(corpora, tmp_path, **settings), [fault])[0] == KILLED
    assert list(tree(tmp_path / "export")) == ["bpe/tokenizer.json"]
    assert export_in_child(config(corpora, tmp_path, **settings))[:2] == (0, None)
    assert tree(tmp_path / "export") == tree(tmp_path / "undisturbed" / "export")


@pytest.mark.parametrize("step", [11, 16])
def test_killed_after_ever_more_writes_an_export_has_the_bytes_of_one_never_killed(corpora, whole, tmp_path, step):
    output, settings = tmp_path / "export", config(corpora, tmp_path, formats=FORMAT_NAMES)
    truth, kills, code = tree(whole), 0, KILLED
    while code == KILLED:
        code, message, _ = export_in_child(settings, kill_at_write=(kills + 1) * step)
        kills += 1
        assert_whole(output, truth)
    assert (code, message) == (0, None)
    assert kills > 4
    assert tree(output) == truth
    assert [name for name in names(output) if "/_probe/" not in f"/{name}"] == names(whole)


@pytest.fixture(scope="module")
def both(corpora, tmp_path_factory):
    """An export of the first corpus, and the same with the second as its next part."""
    folder = tmp_path_factory.mktemp("both")
    assert export_in_child(config(corpora, folder / "one"))[:2] == (0, None)
    shutil.copytree(folder / "one", folder / "two")
    assert export_in_child(config(corpora, folder / "two", "second"))[:2] == (0, None)
    return folder


def test_a_third_part_waits_for_a_second_that_was_begun(corpora, both, tmp_path):
    """Else both might give the same ids to special tokens of their own."""
    shutil.copytree(both / "one", tmp_path, dirs_exist_ok=True)
    fault = {"point": "after_part", "action": "kill"}
    assert export_in_child(config(corpora, tmp_path, "second"), [fault])[0] == KILLED
    write_corpus_of_tones(tmp_path / "third", [0.5] * 4, columns=("layer_03", "layer_07"))
    third = config_of(tmp_path / "third", tmp_path / "export", **SETTINGS)
    _, message, made = export_in_child(third)
    assert (message.endswith("tones, is not finished; run its export again first"), made) == (True, [])
    assert [part.name for part in read_parts(open_store(third.output))] == ["part-000", "part-001"]
    assert export_in_child(config(corpora, tmp_path, "second"))[:2] == (0, None)
    assert export_in_child(third)[:2] == (0, None)
    assert verify_dataset(VerifyDatasetConfig(dataset=third.output)).rows == 148


def test_of_two_exports_that_begin_the_next_part_one_is_told_to_wait(tmp_path):
    store = open_store(str(tmp_path))
    mine, others = (
        Part(name="", corpus="x", tokens_sha256=digest, manifest_sha256=None, lineage={}, rejects={})
        for digest in ("1" * 64, "2" * 64)
    )

    class Slow(type(store)):
        """A disk on which another run is first, after this one has looked."""

        def create(self, name, data):
            claim_part(store, others)
            return super().create(name, data)

    with pytest.raises(DatasetError, match="has just begun part-000; run this one again when it has finished"):
        claim_part(Slow(str(tmp_path)), mine)
    assert claim_part(store, mine).name == "part-001"
    assert [part.tokens_sha256[0] for part in read_parts(store)] == ["2", "1"]


@pytest.mark.parametrize(
    ("point", "match"),
    [
        ("after_part", ""),
        ("after_vocabulary", ""),
        ("after_data_before_commit", "shard-00001"),
        ("after_layout", ""),
        ("after_commit_before_publish", "train-00000"),
        ("before_card", ""),
    ],
)
def test_a_second_part_may_be_killed_and_the_first_run_again_before_it(corpora, both, tmp_path, point, match):
    shutil.copytree(both / "one", tmp_path, dirs_exist_ok=True)
    output = tmp_path / "export"
    fault = {"point": point, "match": match, "action": "kill"}
    assert export_in_child(config(corpora, tmp_path, "second"), [fault])[0] == KILLED
    with pytest.raises(DatasetError, match="part-001.* not finished"):
        verify_dataset(VerifyDatasetConfig(dataset=str(output)))
    assert export_in_child(config(corpora, tmp_path)) == (0, None, [])
    first = {name: data for name, data in tree(both / "one" / "export").items() if "/part-000/" in name}
    assert {name: tree(output)[name] for name in first} == first
    assert export_in_child(config(corpora, tmp_path, "second"))[:2] == (0, None)
    assert tree(output) == tree(both / "two" / "export")
    assert names(output) == names(both / "two" / "export")
    assert verify_dataset(VerifyDatasetConfig(dataset=str(output))).rows == 144
    specials = json.loads((output / "vocabulary.json").read_text())["specials"]
    assert list(specials)[-2:] == ["<|first|>", "<|second|>"]
