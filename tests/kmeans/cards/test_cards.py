import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from made_corpus import data_bytes
from made_features import make_codebook, write_codebooks, write_features

from pipeline.audio.alignment import Alignment
from pipeline.errors import CodebookMismatchError, CorruptDatasetError, DatasetError, SettingsError
from pipeline.kmeans.cards import plots
from pipeline.kmeans.cards.card import CodebookCard, make_card
from pipeline.kmeans.cards.describe import ALIGNED, OTHER, Speech, Subject, describe
from pipeline.kmeans.cards.markdown import render, render_index
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.cards.stage import describe_codebooks, prepare
from pipeline.store.verification import inspect

D = 4
POINTS = 10 * np.eye(D)
"""Four centroids far apart; a frame near one has its number as token."""


def cell(*codes, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.1, (len(codes), D))
    return (POINTS[list(codes)] + noise).astype(np.float16)


def row(name, first, *codes):
    return name, np.arange(first, first + len(codes)), cell(*codes)


@pytest.fixture
def features(tmp_path):
    """Two shards; the pieces of a and b lie between each other."""
    shards = [
        [row("a", 0, 0, 0, 1), row("b", 0, 2, 2), row("a", 3, 1, 1, 3), row("b", 2, 2)],
        [row("c", 0, 0, 3, 3, 3)],
    ]
    return write_features(tmp_path / "features", shards)


@pytest.fixture
def alignment(tmp_path):
    path = tmp_path / "phones.csv"
    lines = ["a,0.06,0.12,AH", "a,0.0,0.06,S", "b,0.0,0.03,S", "x,0,9,T"]
    path.write_text("utterance_id,start_seconds,end_seconds,label\n" + "\n".join(lines))
    return path


def subject(other=None):
    return Subject(unit="layer_03_k4", book=make_codebook(3, POINTS), other=other)


def test_runs_go_on_over_the_pieces_of_an_utterance(features):
    found = describe([subject()], Speech(features=features.uri), features.plan.units)["layer_03_k4"]
    assert found.codes.tolist() == [3, 3, 3, 4]
    # a: 00 111 3, b: 222, c: 0 333
    assert dict(found.run_lengths) == {2: 1, 3: 3, 1: 2}
    assert found.runs.tolist() == [2, 1, 1, 2]
    assert found.utterances == 3


def test_shards_apart_give_the_counts_of_all_together(features, alignment):
    reader = Alignment(str(alignment))
    speech = Speech(features=features.uri, alignment=reader, aligned=reader.values())
    subjects = [subject(make_codebook(3, POINTS[::-1], seed=1))]
    first, second = (describe(subjects, speech, [unit])["layer_03_k4"] for unit in features.plan.units)
    whole = describe(subjects, speech, features.plan.units)["layer_03_k4"]
    second.merge(first)
    for table in (ALIGNED, OTHER):
        assert second.tables[table].tolist() == whole.tables[table].tolist()
    assert second.squared_distance == whole.squared_distance
    # The codes of the other codebook are the same ones under other names.
    assert (whole.tables[OTHER][:, ::-1] == np.diag(whole.codes)).all()


def test_a_frame_has_the_label_at_the_middle_of_its_hop(features, alignment):
    reader = Alignment(str(alignment))
    assert reader.values().values == ("AH", "S", "T")
    speech = Speech(features=features.uri, alignment=reader, aligned=reader.values())
    table = describe([subject()], speech, features.plan.units)["layer_03_k4"].tables[ALIGNED]
    # a: frames 0 to 2 are S, 3 to 5 AH; b: frame 0 is S, the middle of frame 1 lies at 0.03 s, where S has ended.
    assert table.tolist() == [[0, 2, 0], [2, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_a_sample_of_frames_has_labels_but_no_runs(tmp_path, alignment):
    rows = [("a", np.array([1, 5]), cell(0, 3)), ("b", np.array([4]), cell(2))]
    features = write_features(tmp_path / "sample", [rows], sampled=True)
    reader = Alignment(str(alignment))
    speech = Speech(features=features.uri, alignment=reader, aligned=reader.values())
    found = describe([subject()], speech, features.plan.units)["layer_03_k4"]
    assert found.tables[ALIGNED].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert found.runs.sum() == 0
    card = card_of(found, sampled=True)
    assert card.runs is None
    assert card.bitrate.dedup_fixed is None
    assert "A sample of frames has no neighbours" in render(card, plots=True)
    assert "runs.png" not in render(card, plots=True)


def card_of(counts, other=None, sampled=False, labels=()):
    made = subject(other)
    made_from = {"features_sha256": "g" * 64, "codebook_sha256": made.book.sha256}
    return make_card(
        made, counts, made_from=made_from, frame_rate=50.0, sampled=sampled, splits=["test"], labels=labels
    )


@pytest.fixture
def card(features, alignment):
    reader = Alignment(str(alignment))
    speech = Speech(features=features.uri, alignment=reader, aligned=reader.values())
    other = make_codebook(3, POINTS[::-1], seed=1)
    return card_of(describe([subject(other)], speech, features.plan.units)["layer_03_k4"], other)


def test_a_card_says_in_which_iterations_clusters_were_empty(card):
    assert "| empty clusters split while fitting | none |" in render(card, plots=False)
    fitting = dataclasses.replace(card.fitting, empty_clusters=[0, 3, 1])
    shown = render(dataclasses.replace(card, fitting=fitting), plots=False)
    assert "| empty clusters split while fitting | 3 in iteration 2, 1 in iteration 3 |" in shown


def test_a_card_is_read_back_as_it_was_written(card):
    data = card.to_json()
    back = CodebookCard.from_json(data, "x")
    assert back.to_json() == data
    assert (back.use.frames, back.alignment.frames, back.stability.matched_agreement) == (13, 7, 1.0)
    assert b"NaN" not in data
    for wrong in (data[:-5], b"{}", data.replace(b'"version": 2', b'"version": 99')):
        with pytest.raises(CorruptDatasetError, match=r"codebooks/_cards/x\.json is no codebook card"):
            CodebookCard.from_json(wrong, "codebooks/_cards/x.json")


def test_markdown_tells_the_numbers_and_links_the_plots(card):
    text = render(CodebookCard.from_json(card.to_json(), "x"), plots=True)
    assert "# Codebook layer_03_k4" in text
    assert "of the splits test" in text
    assert "100.00 % of the frames agree" in text
    for ending in ("inertia", "sizes", "distances", "runs"):
        assert f"(layer_03_k4.{ending}.png)" in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert re.fullmatch(r"\| .+ \| .+ \|", line)
    table = render_index([card, dataclasses.replace(card, unit="layer_03_k2", num_clusters=2)]).splitlines()[4:]
    assert [line.split("]")[0] for line in table[2:]] == ["| [layer_03_k2", "| [layer_03_k4"]
    assert len({line.count("|") for line in table}) == 1
    without = render(card, plots=False)
    assert "matplotlib was not installed" in without
    assert ".png" not in without


def test_plots_are_images_and_leave_pyplot_alone(card):
    import sys

    before = "matplotlib.pyplot" in sys.modules
    drawn = plots.draw(card)
    assert sorted(drawn) == sorted(plots.PLOTS)
    assert all(data.startswith(b"\x89PNG") for data in drawn.values())
    assert before == ("matplotlib.pyplot" in sys.modules)


def test_what_does_not_belong_together_is_refused_before_ray_starts(features, alignment, tmp_path):
    write_codebooks(tmp_path / "books", [make_codebook(3, POINTS), make_codebook(3, POINTS[:2])])
    good = DescribeCodebooksConfig.of(codebooks=str(tmp_path / "books"), features=features.uri)
    assert [one.unit for one in prepare(good).subjects] == ["layer_03_k4", "layer_03_k2"]
    for name, book in {
        "encoder": make_codebook(3, POINTS, encoder="o" * 64),
        "layer": make_codebook(5, POINTS),
        "width": make_codebook(3, np.ones((4, 7))),
    }.items():
        write_codebooks(tmp_path / name, [book])
        with pytest.raises(CodebookMismatchError, match=name):
            prepare(good.but(codebooks=str(tmp_path / name)))
        if name != "layer":
            with pytest.raises(CodebookMismatchError, match=name):
                prepare(good.but(compare=str(tmp_path / name), codebooks=pair(tmp_path, name)))
    with pytest.raises(SettingsError, match="nothing to compare"):
        prepare(good.but(compare=str(tmp_path / "layer")))
    with pytest.raises(SettingsError, match=r"none for layers \[9\]"):
        prepare(good.but(layers=(3, 9)))
    with pytest.raises(DatasetError):
        prepare(good.but(manifest=features.uri))


def test_labels_with_too_many_values_for_a_codebook_are_refused(features, alignment, tmp_path, monkeypatch):
    write_codebooks(tmp_path / "books", [make_codebook(3, POINTS)])
    monkeypatch.setattr("pipeline.kmeans.cards.stage.MAX_CELLS", 11)
    config = DescribeCodebooksConfig.of(codebooks=str(tmp_path / "books"), features=features.uri)
    prepare(config)
    with pytest.raises(SettingsError, match="layer_03_k4 has 4 codes and aligned 3 values"):
        prepare(config.but(alignments=str(alignment)))
    with pytest.raises(SettingsError, match="4 codes and other 4 values"):
        prepare(config.but(compare=str(tmp_path / "books")))


def pair(folder, name):
    """Give good codebooks for a comparison; those to compare with are wrong in one way."""
    uri = folder / f"good for {name}"
    write_codebooks(uri, [make_codebook(3, POINTS)])
    return str(uri)


def test_settings_that_cannot_work_are_refused_at_once():
    good = {"codebooks": "c", "features": "f"}
    with pytest.raises(SettingsError, match="digit are no columns.*FSDD is its text"):
        DescribeCodebooksConfig.of(**good, manifest="m", labels=("speaker", "digit"))
    with pytest.raises(SettingsError, match="named twice"):
        DescribeCodebooksConfig.of(**good, manifest="m", labels=("speaker", "speaker"))
    for wrong in ({"labels": ("speaker",)}, {"splits": ("test",)}):
        with pytest.raises(SettingsError, match="give --manifest"):
            DescribeCodebooksConfig.of(**good, **wrong)
    with pytest.raises(SettingsError, match="num_workers"):
        DescribeCodebooksConfig.of(**good, num_workers=0)


def test_cards_are_made_once_and_without_matplotlib_they_say_so(features, alignment, tmp_path, monkeypatch):
    books = [make_codebook(3, POINTS), make_codebook(3, POINTS[:2])]
    before = data_bytes(write_codebooks(tmp_path / "books", books).uri)
    config = DescribeCodebooksConfig.of(codebooks=str(tmp_path / "books"), features=features.uri, num_workers=1)
    monkeypatch.setattr("pipeline.kmeans.cards.stage.can_plot", lambda: False)
    assert describe_codebooks(config).cards_done_now == 2
    folder = Path(tmp_path / "books" / "_cards")
    cards = [f"layer_03_k{k}.{kind}" for k in (2, 4) for kind in ("json", "md")]
    assert sorted(path.name for path in folder.iterdir()) == ["index.md", *cards]
    assert "matplotlib was not installed" in (folder / "layer_03_k2.md").read_text()
    facts = (folder / "layer_03_k4.json").read_bytes()
    monkeypatch.undo()
    report = describe_codebooks(config)
    assert (report.cards, report.cards_done_now, report.plots) == (2, 0, True)
    assert len(list(folder.glob("*.png"))) == 8
    assert (folder / "layer_03_k4.json").read_bytes() == facts
    # With nothing to do, nothing is written; an index that a killed run left old is.
    (folder / "index.md").write_text("old")
    before_again = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "index.md"}
    assert describe_codebooks(config).cards_done_now == 0
    assert {path: path.stat().st_mtime_ns for path in before_again} == before_again
    assert "layer_03_k4" in (folder / "index.md").read_text()
    # JSON is written last: a run killed before it makes the card again.
    (folder / "layer_03_k4.json").unlink()
    assert describe_codebooks(config).cards_done_now == 1
    assert (folder / "layer_03_k4.json").read_bytes() == facts
    again = describe_codebooks(config.but(alignments=str(alignment), layers=(3,)))
    assert again.cards_done_now == 2
    assert b'"phone_purity"' in (folder / "layer_03_k4.json").read_bytes()
    assert data_bytes(tmp_path / "books") == before


def test_what_a_task_finds_wrong_is_said_by_its_name(features, tmp_path):
    write_codebooks(tmp_path / "books", [make_codebook(3, POINTS)])
    features.store.write("shard-00001.parquet", b"damaged")
    config = DescribeCodebooksConfig.of(codebooks=str(tmp_path / "books"), features=features.uri, num_workers=1)
    with pytest.raises(CorruptDatasetError, match=r"^\S+shard-00001\.parquet is not what was committed"):
        describe_codebooks(config)
    assert not (tmp_path / "books" / "_cards").exists()


def test_cards_lie_beside_codebooks_on_s3(features, bucket):
    books = write_codebooks(f"{bucket}/books", [make_codebook(3, POINTS)])
    config = DescribeCodebooksConfig.of(codebooks=f"{bucket}/books", features=features.uri, num_workers=1)
    assert describe_codebooks(config).cards_done_now == 1
    assert describe_codebooks(config).cards_done_now == 0
    names = [f"_cards/layer_03_k4{ending}" for ending in (".distances.png", ".inertia.png", ".json", ".md")]
    assert books.store.tree("_cards") == [
        "_cards/index.md",
        *names,
        "_cards/layer_03_k4.runs.png",
        "_cards/layer_03_k4.sizes.png",
    ]
    assert inspect(books).faults == []


def test_an_alignment_that_names_no_utterance_is_refused_and_no_card_is_written(features, tmp_path):
    """At 5237d84 it was a line in the log, and a card without purity."""
    write_codebooks(tmp_path / "books", [make_codebook(3, POINTS)])
    path = tmp_path / "phones.csv"
    path.write_text("utterance_id,start_seconds,end_seconds,label\nspk/a,0,1,S\n")
    config = DescribeCodebooksConfig.of(
        codebooks=str(tmp_path / "books"), features=features.uri, num_workers=1, alignments=str(path)
    )
    with pytest.raises(SettingsError, match=r"no frame that describes layer_03_k4 lies in .*phones\.csv"):
        describe_codebooks(config)
    assert not (tmp_path / "books" / "_cards").exists()
