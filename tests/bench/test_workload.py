import json
from itertools import repeat

import numpy as np
import pytest
import soundfile

from bench.encoder_stage import _spread, lines, ratios
from bench.measuring import count_flops, run_together, table
from bench.workload import common_root, share_equal, write_listing


def made_audio(folder, count, seconds=1.0):
    paths = [folder / f"{number}.wav" for number in range(count)]
    for path in paths:
        soundfile.write(path, np.zeros(round(16_000 * seconds), np.int16), 16_000)
    return paths


def test_a_listing_ends_when_it_is_long_enough_or_repeats_under_new_ids(tmp_path):
    audio = made_audio(tmp_path, 3)
    listing = tmp_path / "listing.jsonl"

    def ids():
        return [json.loads(line)["utterance_id"] for line in listing.read_text().splitlines()]

    assert write_listing(listing, iter(audio), 1.5) == 2.0
    assert ids() == ["0-0000", "1-0000"]
    assert write_listing(listing, iter(audio), 10.0) == 3.0
    assert write_listing(listing, iter(audio), 6.5, repeat=True) == 7.0
    assert ids() == ["0-0000", "1-0000", "2-0000", "0-0001", "1-0001", "2-0001", "0-0002"]
    assert common_root(audio) == tmp_path.resolve()


def test_the_share_of_equal_tokens_is_over_all_frames_and_layers():
    ours = {"a": np.array([[1, 2], [3, 4]]), "b": np.array([[5, 6]])}
    theirs = {"a": np.array([[1, 2], [3, 9]]), "b": np.array([[5, 6]])}
    assert share_equal(ours, theirs) == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="not the same ones"):
        share_equal(ours, {"a": ours["a"]})


def test_a_few_layers_stand_for_all_when_their_mean_depth_does():
    assert _spread([1, 3, 5, 7, 9], 1) == [5]
    assert _spread([1, 3, 5, 7, 9], 3) == [3, 5, 7]


def test_flops_of_attention_are_counted_too():
    import torch

    heads = torch.ones(1, 2, 10, 8)
    attention = 2 * 2 * 2 * 10 * 10 * 8
    assert count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)) == attention
    assert count_flops(lambda: torch.ones(3, 4) @ torch.ones(4, 5)) == 2 * 3 * 4 * 5


def test_ratios_leave_the_start_out_and_take_it_in():
    common = {"load_seconds": 1.0, "peak_bytes": 2**20, "flops_per_audio_second": 1e9}
    found = {
        "model": "small",
        "audio_seconds": 100.0,
        "peak": 1e11,
        "a": {**common, "seconds": 8.0},
        "b": {**common, "seconds": 10.0, "wall_seconds": 20.0},
        "a bfloat16": {**common, "seconds": 4.0},
        "b bfloat16": {**common, "seconds": 5.0, "wall_seconds": 10.0},
        "c": {**common, "seconds": 40.0, "runs": 1, "runs_needed": 5},
    }
    assert ratios(found) == {
        "a/b": 0.8,
        "a/b with start": 0.4,
        "c/b": 4.0,
        "c/b with start": 2.0,
        "a bfloat16/b bfloat16": 0.8,
        "a bfloat16/b bfloat16 with start": 0.4,
        "c/b bfloat16": 8.0,
        "c/b bfloat16 with start": 4.0,
    }
    rows = lines(found)
    assert [row[1] for row in rows] == [
        "a bare loop, float32",
        "b ours, float32",
        "b ours, float32, start included",
        "a bare loop, bfloat16",
        "b ours, bfloat16",
        "b ours, bfloat16, start included",
        "c one layer a run (1 of 5 runs, scaled)",
    ]
    assert rows[1][2:6] == ["10.0", "10.00", "1.0", "10%"]
    assert len(table(["x"] * 8, rows).splitlines()) == 9


def test_children_run_together_and_the_last_end_counts():
    settings = {"contender": "peak", "threads": 1, "size": 64, "seconds": 0.2}
    found = run_together("bench.contenders", list(repeat(settings, 2)))
    assert 0.2 <= found["seconds"] < 60
    assert all(child["flops_per_second"] > 1e6 for child in found["children"])


def test_a_child_that_fails_is_shown():
    with pytest.raises(RuntimeError, match="KeyError"):
        run_together("bench.contenders", [{"contender": "no such one"}])
