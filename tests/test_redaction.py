"""No secret is shown or kept: planted in every setting and column that a person writes, it is found nowhere after."""

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_corpus import write_corpus

from pipeline.audio.corpora import read_corpus
from pipeline.audio.stage import BuildManifestConfig
from pipeline.cli import JOBS, config_class, run, stage_of
from pipeline.errors import AudioDecodeError, ManifestError, PipelineError, SettingsError
from pipeline.passed_over import PassedOver
from pipeline.redaction import RedactingFormatter, holds_secret, redact, redact_json, redact_uri
from pipeline.settings import setting_paths
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store

ROOT = Path(__file__).parents[1]
MARK = "HUNTER2"
PASSWORD = f"{MARK}/a+b"
URIS = (
    f"s3://AKIA:{PASSWORD}@bucket/a.wav",
    f"s3://AKIA:{MARK}/a.wav",
    f"s3://{MARK}@bucket/a.wav",
    f"S3://AKIA:{MARK}@bucket/a.wav",
    f"s3:/AKIA:{PASSWORD}@bucket/a.wav",
    f"s3//AKIA:{MARK}@bucket/a.wav",
    f"s3:///AKIA:{MARK}@bucket/a.wav",
    f"//AKIA:{MARK}@bucket/a.wav",
    f"AKIA:{MARK}@bucket/a.wav",
    f"file://user:{MARK}@host/a.wav",
    f"https://user:{MARK}@host:80/a.wav",
    f"https://user:1?{MARK}#x@host/a.wav",
    f"https://host/a.wav?X-Amz-Credential=x&X-Amz-Signature={MARK}",
    f"s3://bucket/a.wav?X-Amz-Signature={MARK}",
    f"bucket/a.wav?X-Amz-Security-Token={MARK}&x=1",
    f"a.wav?sig={MARK}",
    f"host/a.wav%3Fsig%3D{MARK}%26se%3D1",
)
TEXTS = (
    *URIS,
    f"S3 failed to read 's3://a:{MARK}@b/c': Could not connect to \"http://u:{MARK}@127.0.0.1:9/b\" again",
    f"{{'password': '{MARK}', 'aws_secret_access_key': \"{MARK}\"}}",
    f"Authorization: Bearer {MARK}abcdefghi",
    f"AWS_SECRET_ACCESS_KEY={MARK} in the environment",
)
INNOCENT = (
    "/data/speaker@home/a:b@c.wav",
    "me@example.org wrote to you@example.org",
    "10:20:30@microphone/a.wav",
    "2026-01-01T10:00:00Z+01:00@x",
    "s3://bucket/a@b/c:d.wav",
    "s3://bucket/take#3.wav",
    "s3://bucket/a-{000..099}.tar",
    "file:///data/a:b@c/what?.wav",
    "./a:b@c/d.wav",
    "C:/a/b@c.wav",
    "recording@0-1500",
    "http://127.0.0.1:8265/api/jobs",
    "mailto:me@example.org",
    "microsoft/wavlm-large@main",
    "sk-speaker-0001-utterance-0003-of-a-long-name",
    "tokens 5, sig 0.5, key: none, eos_token=5",
    "give credentials to the environment (AWS_PROFILE, instance role): s3://bucket/key",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_hidden_wherever_it_stands_and_once_is_enough(text):
    shown = redact(text)
    assert MARK not in shown
    assert redact(shown) == shown
    assert MARK not in redact_uri(text)
    assert holds_secret(text)
    for error in (PipelineError(text), SettingsError(text), AudioDecodeError("bad_row", text)):
        assert MARK not in f"{error}{error.args}{vars(error)}"
    assert MARK not in json.dumps(redact_json({"a": [text, {"b": (text,)}]}))
    record = logging.LogRecord("x", logging.INFO, "", 0, "went to %s", (text,), None)
    assert MARK not in RedactingFormatter("%(message)s").format(record)


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_innocent_stays_as_it_is(text):
    assert redact(text) == redact_uri(text) == text
    assert not holds_secret(text)


@pytest.mark.parametrize("text", ["s3://u:pass word@bucket/a", "s3://u:it's@bucket/a", 's3://u:a"b@bucket/a'])
def test_a_uri_as_a_whole_is_hidden_to_its_last_at_sign(text):
    assert redact_uri(text) == "s3://...@bucket/a"
    assert holds_secret(text)


@pytest.mark.parametrize("uri", URIS)
def test_no_store_opens_at_a_place_with_credentials(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        open_store(uri)
    assert MARK not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["s3:/bucket/key", "s3//bucket/key", "https:/host/x"])
def test_a_uri_that_misses_a_slash_is_no_local_folder(uri):
    with pytest.raises(SettingsError, match="misses a slash or a colon"):
        open_store(uri)


def test_settings_are_written_without_secrets(tmp_path):
    config = BuildManifestConfig.of(corpus=URIS[0], layout="folder", output=URIS[1], roots=URIS)
    record_settings(open_store(str(tmp_path)), config)
    assert MARK not in (tmp_path / "_config.json").read_text()


def shown_by(capfd, run):
    with pytest.raises(SystemExit) as ended:
        run()
    out, err = capfd.readouterr()
    return ended.value.code, out + err


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_setting_of_every_job_is_refused_with_a_secret_in_it_before_anything_is_written(
    capfd, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    stage = stage_of(name)
    flags = [f"--{setting.replace('_', '-')}" for setting in setting_paths(config_class(stage))]
    flags += ["--preset", "--ray-address", "--nonsense"]
    for number, flag in enumerate(flags):
        for given in ([flag, URIS[number % len(URIS)]], [f"{flag}={URIS[(number + 1) % len(URIS)]}"]):
            for extra in ([], ["--status"]):
                code, shown = shown_by(capfd, lambda line=[*given, *extra]: run(stage, description="", args=line))
                assert (code, MARK in shown) == (2, False), shown
                assert f"{flag} must not carry credentials" in shown
    assert list(tmp_path.iterdir()) == []


def listing_rows():
    """Rows with a secret in each column that is not text for people, and a good one."""
    yield {"uri": "000.wav", "text": f"say s3://u:{MARK}@b/c to me@example.org"}
    for column in ("uri", "offset", "duration", "channel", "clean_uri", "utterance_id"):
        for uri in URIS:
            yield {"uri": "001.wav", column: uri}
    for label in ("text", "speaker", "emotion", "language", "split", "utterance_id"):
        for value in ({"password": MARK}, {MARK: 1}, [URIS[0]], f"{URIS[0]}\x00"):
            yield {"uri": "002.wav", label: value}
    yield {"uri": {"path": URIS[0]}}


def everything_below(folder):
    """All bytes below a folder, cells of Parquet files unpacked, without the column of transcripts."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.append((path, path.read_bytes() if path.suffix != ".parquet" else b""))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            kept = table.drop_columns(["text"]) if "text" in table.column_names else table
            found.append((path, str(kept.to_pylist()).encode() + str(table.schema.metadata).encode()))
    return found


def job(name, *flags):
    line = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, flags), "--runner", "here"]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=200)


@pytest.mark.parametrize("fraction", ["1", "0"])
def test_secrets_planted_in_every_column_of_lists_are_in_no_file_and_no_output(tmp_path, fraction):
    """With the limit of rejects at 0 the job fails and leaves its scratch dataset, which holds none either."""
    corpus = write_corpus(tmp_path / "audio", num_files=3)
    rows = list(listing_rows())
    (corpus / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--layout", "listing", "--max-reject-fraction", fraction)
    ended = job("build_manifest", "--corpus", corpus / "l.jsonl", "--output", tmp_path / "out", *flags)
    assert ended.returncode == int(fraction == "0"), ended.stderr
    assert MARK not in ended.stdout + ended.stderr
    assert [path for path, held in everything_below(tmp_path / "out") if MARK.encode() in held] == []
    if fraction == "1":
        # A transcript is data: it stays as it is.
        kept = pq.read_table(tmp_path / "out" / "manifest-00000.parquet").to_pylist()
        assert [row["text"] for row in kept] == [rows[0]["text"]]
        assert len(pq.read_table(tmp_path / "out" / "_rejects" / "manifest-00000.parquet")) == len(rows) - 1


def test_secrets_planted_in_a_segment_list_are_in_no_file_and_no_output(tmp_path):
    corpus = write_corpus(tmp_path / "audio", num_files=1)
    rows = [{"recording": "000.wav", "start": 0, "end": 0.2}]
    rows += [
        {"recording": "000.wav", "start": 0, "end": 0.2, column: uri} for column in ("start", "id") for uri in URIS
    ]
    rows += [{"recording": uri, "start": 0, "end": 0.2} for uri in URIS if "/" in uri]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--layout", "folder", "--segments", tmp_path / "s.jsonl", "--max-reject-fraction", "1")
    ended = job("build_manifest", "--corpus", corpus, "--output", tmp_path / "out", *flags)
    assert ended.returncode == 0, ended.stderr
    assert MARK not in ended.stdout + ended.stderr
    assert [path for path, held in everything_below(tmp_path / "out") if MARK.encode() in held] == []


def test_a_list_of_tars_with_a_secret_is_refused_without_it(tmp_path):
    for uri in URIS:
        (tmp_path / "tars.txt").write_text(uri.replace(".wav", ".tar") + "\n")
        with pytest.raises(ManifestError) as caught:
            list(read_corpus(str(tmp_path / "tars.txt"), "webdataset", passed_over=PassedOver()))
        assert MARK not in str(caught.value)


def test_a_file_whose_name_only_looks_like_a_secret_is_read(tmp_path):
    corpus = write_corpus(tmp_path / "audio", num_files=1)
    (corpus / "000.wav").rename(corpus / "spk:one@studio.wav")
    with (corpus / "l.csv").open("w") as file:
        csv.writer(file).writerows([["uri"], ["spk:one@studio.wav"]])
    ended = job("build_manifest", "--corpus", corpus / "l.csv", "--layout", "listing", "--output", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    assert pq.read_table(tmp_path / "out" / "manifest-00000.parquet")["uri"].to_pylist() == [
        str(corpus / "spk:one@studio.wav")
    ]
