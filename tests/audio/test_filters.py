"""Filters before the encoder: a closed language of conditions, samples by hash, and what is left out by reason."""

import contextlib
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from made_audio import noise

from pipeline import schema
from pipeline.audio.filter_settings import FilterSettings
from pipeline.audio.filtering import in_sample, kept_rows
from pipeline.audio.stage import BuildManifestConfig, build_manifest, prepare
from pipeline.errors import ManifestError, PlanMismatchError, SettingsError
from pipeline.estimation.stage import estimate
from pipeline.run import RunPipelineConfig

RATE = 16_000


def rows_of(*given):
    """Give rows of a manifest: what is not given is a second at 16 kHz without labels."""
    blank = dict.fromkeys(schema.MANIFEST.names)
    usual = {"uri": "/x.wav", "offset_samples": 0, "num_samples": RATE, "sample_rate": RATE, "shard": 0}
    rows = [{**blank, **usual, "utterance_id": f"u{number}", **row} for number, row in enumerate(given)]
    return pa.Table.from_pylist(rows, schema=schema.MANIFEST)


ROWS = rows_of(
    {"num_samples": RATE // 2, "language": "en", "text": "It's"},
    {"num_samples": 2 * RATE, "language": "en", "text": "", "channel": 1},
    {"num_samples": 2 * RATE, "language": "de", "text": "hallo"},
    {"num_samples": 40 * RATE, "language": "en"},
    {"num_samples": 2 * RATE},
)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sample_hours": 0.0}, "sample_hours must be above 0"),
        ({"sample_hours": float("nan")}, "sample_hours must be above 0"),
        ({"sample_seed": 1}, "sample_seed has no effect"),
        ({"where": "nothing = 1"}, "'nothing'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, says):
    with pytest.raises(SettingsError, match=says):
        BuildManifestConfig.of(corpus="c", layout="folder", output="o", **settings)


def test_run_pipeline_hands_the_settings_to_its_manifest():
    config = RunPipelineConfig.of(
        corpus="c", layout="folder", output="o", num_clusters=8, where="duration > 1", sample_hours=2.0, labels="l.csv"
    )
    made = config.manifest()
    assert (made.filters.where, made.filters.sample_hours, made.joined.labels) == ("duration > 1", 2.0, "l.csv")


# Samples

LENGTHS = np.random.default_rng(3).integers(RATE // 2, 20 * RATE, 400)
MANY = rows_of(*({"num_samples": int(length)} for length in LENGTHS))


def sample(rows, hours, seed=0):
    return set(rows.filter(pa.array(in_sample(rows, hours, seed)))["utterance_id"].to_pylist())


def hours_of(names):
    return sum(int(LENGTHS[int(name[1:])]) for name in names) / RATE / 3600


def test_a_sample_reaches_its_hours_with_one_utterance_less_it_would_not():
    found = sample(MANY, 0.3)
    assert 0.3 <= hours_of(found) < 0.3 + 20 / 3600


def test_a_smaller_sample_is_part_of_a_larger_one_and_a_seed_gives_another():
    samples = [sample(MANY, hours) for hours in (0.01, 0.1, 0.5, 100)]
    assert all(one < two for one, two in zip(samples, samples[1:], strict=False))
    assert len(samples[-1]) == 400
    assert sample(MANY, 0.1, seed=1) != samples[1]


def test_a_sample_hangs_on_no_order_and_what_else_there_is_only_pushes_out_the_last():
    backwards = MANY.take(pa.array(range(399, -1, -1)))
    assert sample(backwards, 0.1) == sample(MANY, 0.1)
    part = MANY.slice(0, 200)
    found = sample(part, 0.1)
    assert sample(MANY, 0.1) & set(part["utterance_id"].to_pylist()) < found
    # A sample of the part that is long enough holds all that the whole corpus' sample has of it.
    assert sample(MANY, 0.2) & set(part["utterance_id"].to_pylist()) <= sample(part, 0.2)


def test_an_utterance_longer_than_the_sample_is_a_sample():
    assert sample(rows_of({"num_samples": 9999 * RATE}), 0.001) == {"u0"}


def test_a_sample_is_taken_of_what_a_condition_keeps_and_both_are_counted(caplog):
    filters = FilterSettings.of(where="language = 'en'", sample_hours=1 / 3600)
    with caplog.at_level(logging.INFO):
        rows, left_out = kept_rows(ROWS, filters, "corpus")
    assert rows.num_rows == 1
    assert left_out.to_json() == {
        "filtered": {"count": 2, "example": "u2", "names": {"where": 1, "where: missing label": 1}},
        "not_sampled": {"count": 2, "example": left_out.to_json()["not_sampled"]["example"]},
    }
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert "passed over filtered: utterances of which a condition is not true" in caplog.text


def test_a_corpus_shorter_than_its_sample_says_so(caplog):
    rows, left_out = kept_rows(ROWS, FilterSettings.of(sample_hours=1.0), "corpus")
    assert (rows.num_rows, bool(left_out)) == (5, False)
    assert "corpus: all 0.013 h are kept, --sample-hours asks for 1" in caplog.text


def test_nothing_left_is_one_clear_error():
    with pytest.raises(ManifestError, match=r"keeps none of the 5 utterances of corpus .*; 1 of them lack a label"):
        kept_rows(ROWS, FilterSettings.of(where="language = 'fr'"), "corpus")


# Manifests


@pytest.fixture
def corpus(tmp_path):
    """Eight recordings of 0.1 to 0.8 s; the odd ones are English, number 4 is of no language, and 2 comes twice."""
    folder = tmp_path / "audio"
    folder.mkdir()
    lines = ["uri,id,language"]
    for number in range(8):
        soundfile.write(folder / f"{number}.wav", noise(1600 * (number + 1), seed=number), RATE)
        lines.append(f"{number}.wav,u{number},{'' if number == 4 else ('de', 'en')[number % 2]}")
    # A second, English and longer, has an id that a German one has taken.
    lines.append("7.wav,u2,en")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder


def config_of(corpus, output, **more):
    settings = {"corpus": str(corpus / "list.csv"), "layout": "listing", "output": str(output), "runner": "here"}
    return BuildManifestConfig.of(**settings, **more)


def ids(output):
    return [row["utterance_id"] for row in pq.read_table(output).to_pylist()]


@contextlib.contextmanager
def without(corpus, *names):
    for name in names:
        (corpus / name).rename(corpus.parent / name)
    yield
    for name in names:
        (corpus.parent / name).rename(corpus / name)


def test_a_manifest_holds_what_was_asked_for_and_its_report_says_what_not(corpus, tmp_path):
    report = build_manifest(config_of(corpus, tmp_path / "m", where="language = 'en' and duration > 0.3"))
    assert ids(tmp_path / "m") == ["u3", "u5", "u7"]
    # Duplicates are dropped first: an id that is taken by what is left out stays taken.
    assert report.reject_reasons == {"duplicate_id": 1}
    filtered = report.passed_over["filtered"]
    assert (filtered["count"], filtered["names"]) == (5, {"where": 4, "where: missing label": 1})
    assert ("passed over: filtered", "5 (where 4, where: missing label 1), as u0") in report.lines()
    again = build_manifest(config_of(corpus, tmp_path / "m", where="language = 'en' and duration > 0.3"))
    assert again.passed_over == report.passed_over
    with pytest.raises(PlanMismatchError, match="where"):
        build_manifest(config_of(corpus, tmp_path / "m", where="language = 'de'"))


def test_strict_does_not_refuse_what_was_asked_for(corpus, tmp_path):
    (corpus / "list.csv").write_text((corpus / "list.csv").read_text().replace("7.wav,u2,en\n", ""))
    build_manifest(config_of(corpus, tmp_path / "m", where="duration > 0.3", sample_hours=0.0001, strict=True))
    assert len(ids(tmp_path / "m")) == 1


def test_a_condition_that_cannot_be_used_stops_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(SettingsError, match="Float64"):
        build_manifest(config_of(corpus, tmp_path / "m", where="duration"))
    assert not (tmp_path / "m").exists()


def test_nothing_left_of_a_corpus_is_an_error_that_names_it(corpus, tmp_path):
    with pytest.raises(ManifestError, match="keeps none of the 8 utterances of .*list.csv"):
        build_manifest(config_of(corpus, tmp_path / "m", where="language = 'fr'"))


def test_without_filters_plans_are_as_before(corpus, tmp_path):
    content = prepare(config_of(corpus, tmp_path / "m")).plan.content
    assert not {"where", "sample_hours", "sample_seed"} & set(content)
    chosen = prepare(config_of(corpus, tmp_path / "m", where="duration > 0", sample_hours=1.0, sample_seed=3))
    assert dict(content, where="duration > 0", sample_hours=1.0, sample_seed=3) == chosen.plan.content


def test_labels_that_are_joined_are_what_a_condition_reads(corpus, tmp_path):
    (tmp_path / "labels.csv").write_text("id,emotion\nu1,happy\nu2,happy\nu3,sad\n")
    build_manifest(config_of(corpus, tmp_path / "m", labels=str(tmp_path / "labels.csv"), where="emotion = 'happy'"))
    assert ids(tmp_path / "m") == ["u1", "u2"]


@pytest.mark.parametrize(
    "filters",
    [
        {"where": "language = 'en' and duration > 0.1"},
        {"where": "language = 'de'"},
        {"sample_hours": 0.8 / 3600},
        {"where": "language is not null", "sample_hours": 1.2 / 3600, "sample_seed": 2},
    ],
)
@pytest.mark.parametrize("away", [("1.wav", "6.wav"), ("7.wav",), ("3.wav", "4.wav", "5.wav")])
def test_redone_rejects_give_the_manifest_that_nothing_disturbed(corpus, tmp_path, filters, away):
    truth = build_manifest(config_of(corpus, tmp_path / "truth", **filters))
    with without(corpus, *away):
        first = build_manifest(config_of(corpus, tmp_path / "m", **filters))
        assert first.reject_reasons["missing"] >= len(away)
    report = build_manifest(config_of(corpus, tmp_path / "m", redo_rejects=("missing",), **filters))
    assert pq.read_table(tmp_path / "m").equals(pq.read_table(tmp_path / "truth"))
    assert report.reject_reasons == truth.reject_reasons == {"duplicate_id": 1}

    def counts(found):
        return {kind: found.passed_over[kind]["count"] for kind in found.passed_over}

    assert counts(report) == counts(truth)
    assert report.rows + sum(counts(report).values()) == 8


def test_an_id_that_was_left_out_stays_taken_when_rejects_are_redone(corpus, tmp_path):
    config = config_of(corpus, tmp_path / "m", where="language = 'de'")
    with without(corpus, "2.wav"):
        # The second u2 has the id now; it is English, and left out.
        build_manifest(config)
    report = build_manifest(config.but(redo_rejects=("missing",)))
    assert ids(tmp_path / "m") == ["u0", "u6"]
    assert report.reject_reasons == {"duplicate_id": 1}
    told = pq.read_table(tmp_path / "m" / "_rejects").to_pylist()
    assert [row["detail"] for row in told] == [f"utterance_id u2 of {corpus}/2.wav is taken by {corpus}/7.wav"]


def test_a_corpus_that_grew_is_filtered_as_ever_and_a_sample_goes_on_where_it_stopped(corpus, tmp_path):
    seconds = dict(zip([f"u{number}" for number in range(8)], range(1, 9), strict=True))
    first = config_of(corpus, tmp_path / "first", sample_hours=0.5 / 3600)
    build_manifest(first)
    second = config_of(corpus, tmp_path / "second", sample_hours=0.5 / 3600, known=(str(tmp_path / "first"),))
    build_manifest(second)
    one, two = ids(tmp_path / "first"), ids(tmp_path / "second")
    assert not set(one) & set(two)
    both = sum(seconds[name] for name in one) / 10
    build_manifest(config_of(corpus, tmp_path / "both", sample_hours=(both + 0.5) / 3600))
    assert set(ids(tmp_path / "both")) == {*one, *two}
    where = "language = 'en'"
    build_manifest(config_of(corpus, tmp_path / "en", where=where))
    soundfile.write(corpus / "8.wav", noise(1600), RATE)
    with (corpus / "list.csv").open("a") as file:
        file.write("8.wav,u8,en\n")
    build_manifest(config_of(corpus, tmp_path / "more", where=where, known=(str(tmp_path / "en"),)))
    assert ids(tmp_path / "more")[-1] == "u8"


def test_an_estimate_counts_what_the_filtered_manifest_holds(corpus, tmp_path, small_encoder):
    chosen = {"where": "duration > 0.3", "sample_hours": 1.2 / 3600}
    build_manifest(config_of(corpus, tmp_path / "run" / "manifest", **chosen))
    config = RunPipelineConfig.of(
        corpus=str(corpus / "list.csv"),
        layout="listing",
        output=str(tmp_path / "run"),
        encoder=small_encoder(stem="group", stable=False),
        layers=(1,),
        num_clusters=8,
        runner="here",
        **chosen,
    )
    assert estimate(config).corpus.utterances == len(ids(tmp_path / "run" / "manifest")) < 5
