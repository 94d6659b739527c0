"""A run on four hosts, each a network namespace: lost, late and drained nodes, a stop, a new head, the same bytes."""

import os
import shutil
import sys

import pytest
from made_corpus import write_corpus

from bench import cluster_walkthrough

pytestmark = [
    pytest.mark.ray,
    pytest.mark.nightly,
    pytest.mark.timeout(2_400),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip"),
]


def test_a_run_that_everything_happens_to_gives_the_bytes_of_one_without_trouble(tmp_path, monkeypatch, capsys):
    # As long as it takes to lose a worker and have another one, at the least: 45 minutes of audio.
    corpus = write_corpus(tmp_path / "audio", num_files=1_600)
    flags = ["--corpus", str(corpus), "--layout", "folder", "--shard-minutes", "1.6", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["cluster_walkthrough", *flags])
    (tmp_path / "out").mkdir()
    cluster_walkthrough.main()
    story = (tmp_path / "out" / "walkthrough.md").read_text()
    assert story.count("ray job submit") == 3
    assert "ray drain-node" in story
    assert str(tmp_path) not in story
