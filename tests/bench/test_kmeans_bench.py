import json
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import soundfile
from made_features import write_features

from bench.kmeans import GOALS, Settings, lines, ratios, reached, run_contender
from bench.kmeans_contenders import CONTENDERS, drawn_first, exact_inertia
from bench.kmeans_workload import KmeansWorkload, Shape, _claim, mix, num_frames, places_of, write_rows
from bench.measuring import ROOT, environment, run_together

GIVEN = Settings(iterations=4, threads=1, cap_seconds=60.0, times_budget=4.0)


def inertia_of(rows, centroids):
    return float(((rows[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2).min(axis=1).sum())


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A workload without Ray: rows around 30 places, and 20 of them as first centroids."""
    folder = tmp_path_factory.mktemp("kmeans")
    rng = np.random.default_rng(0)
    rows = (5 * rng.normal(size=(30, 48))[rng.integers(30, size=2000)] + rng.normal(size=(2000, 48))).astype(np.float16)
    places = rng.choice(2000, 20, replace=False)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "seeds.npy", rows[places].astype(np.float32))
    np.save(folder / "places.npy", places)
    paths = {field.name: folder / field.name for field in fields(KmeansWorkload)}
    paths |= {"rows": folder / "rows.npy", "seeds": folder / "seeds.npy", "seed_places": folder / "places.npy"}
    return KmeansWorkload(**{**paths, "layer": 3, "num_clusters": 20})


def settings_of(name, work, output):
    paths = {"rows": work.rows, "seeds": work.seeds, "seed_places": work.seed_places, "output": f"{output}.npy"}
    return {"contender": name, "num_clusters": 20, "iterations": 4, "threads": 1, **paths}


@pytest.mark.parametrize("name", ["faiss", "superkmeans", "sklearn"])
def test_a_program_begins_with_the_given_centroids_and_runs_every_iteration(work, tmp_path, name):
    fitted = CONTENDERS[name](settings_of(name, work, tmp_path / name))()
    rows, centroids = np.load(work.rows), np.load(work.seeds).astype(np.float64)
    expected = []
    for _ in range(4):
        expected.append(inertia_of(rows, centroids))
        tokens = ((rows[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        centroids = np.stack([rows[tokens == cluster].mean(axis=0, dtype=np.float64) for cluster in range(20)])
    np.testing.assert_allclose(fitted.centroids, centroids, rtol=1e-3, atol=1e-3)
    assert fitted.iterations == 4
    assert fitted.inertia == ([] if name == "sklearn" else pytest.approx(expected, rel=1e-4))
    assert len(fitted.ends) == len(fitted.inertia)
    assert fitted.ends == sorted(fitted.ends)


def test_an_order_of_rows_holds_each_once():
    order = drawn_first(100, np.array([7, 3, 99]))
    assert sorted(order.tolist()) == list(range(100))


def test_the_judge_sums_exact_distances_over_blocks(tmp_path):
    rng = np.random.default_rng(1)
    rows, centroids = rng.normal(size=(9000, 3)).astype(np.float16), rng.normal(size=(7, 3)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    assert exact_inertia(tmp_path / "rows.npy", centroids) == pytest.approx(inertia_of(rows, centroids), rel=1e-12)


def test_the_time_to_an_inertia_lies_between_iterations():
    fit = {"seconds": 9.0, "inertia": [100.0, 60.0, 50.0], "final_inertia": 48.0, "ends": [1.0, 3.0, 5.0, 9.0]}
    assert reached(fit, 120.0) == 1.0
    assert reached(fit, 80.0) == 2.0
    assert reached(fit, 60.0) == 3.0
    assert reached(fit, 49.0) == 7.0
    assert reached(fit, 47.0) is None
    assert reached({**fit, "inertia": [], "ends": []}, 49.0) == 9.0
    assert reached({"seconds": 600.0, "capped": True}, 1e9) is None


def made_fits():
    common = {"iterations": 2, "inertia": [100.0, 60.0], "peak_bytes": 2**20}
    begun = {**common, "start_seconds": 5.0, "wall_seconds": 15.0}
    return {
        "faiss": {**common, "seconds": 20.0, "final_inertia": 50.0, "ends": [0.0, 10.0, 20.0]},
        "sklearn": {**common, "seconds": 40.0, "final_inertia": 50.0, "inertia": [], "ends": []},
        "minibatch": {"seconds": 600.0, "capped": True},
        "minibatch_once": {**common, "seconds": 100.0, "final_inertia": 60.0, "inertia": [], "ends": []},
        "ours": {**begun, "seconds": 10.0, "final_inertia": 50.5, "ends": [0.0, 5.0, 10.0]},
        "own-seeds": {**begun, "seconds": 12.0, "final_inertia": 50.0, "ends": [2.0, 7.0, 12.0]},
        "out-of-core": {
            **{**begun, "seconds": 11.0, "final_inertia": 50.5, "ends": [0.0, 5.5, 11.0]},
            **{"budget_bytes": 100.0, "beyond_empty_bytes": 110},
        },
    }


def test_ratios_compare_what_ran():
    found = ratios(made_fits())
    assert found == {
        "seconds ours / faiss": 0.5,
        "seconds out-of-core / ours": 1.1,
        "inertia ours / faiss": 1.01,
        "inertia ours / sklearn": 1.01,
        "memory out-of-core / budget": 1.1,
        # Two seconds of k-means++ and five of the first iteration, against a cap of 600.
        "seconds minibatch / own-seeds, to minibatch's inertia": 600 / 7,
    }
    assert found.keys() <= GOALS.keys()


def test_lines_say_what_did_not_end_and_what_never_came_close():
    rows = {row[1]: row[2:] for row in lines({"shape": {"name": "tiny"}, "contenders": made_fits()})}
    assert rows["faiss"] == ["20.00", "2", "50", "1.00000", "19.95", "1"]
    assert rows["sklearn"] == ["40.00", "2", "50", "1.00000", "40.00", "1"]
    assert rows["minibatch"] == ["over 600", *["unknown"] * 5]
    assert rows["ours"][-2:] == ["never", "1"]
    assert rows["ours, start included"][0] == "15.00"


def test_noise_is_as_loud_as_asked_for_and_nothing_clips():
    rng = np.random.default_rng(2)
    speech, noise = rng.normal(0, 0.1, 16_000).astype(np.float32), rng.normal(0, 0.5, 16_000).astype(np.float32)
    added = mix(speech, noise, 10) - speech
    assert 10 * np.log10((speech**2).mean() / (added**2).mean()) == pytest.approx(10, abs=0.01)
    assert np.abs(mix(8 * speech, noise, 0)).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(mix(speech, np.zeros_like(noise), 10), speech)


def test_frames_are_counted_at_the_encoders_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000, np.int16), 8_000)
    soundfile.write(tmp_path / "b.wav", np.zeros(399, np.int16), 16_000)
    assert [num_frames(tmp_path / name) for name in ("a.wav", "b.wav")] == [49, 0]


def test_rows_of_a_dataset_become_one_array_and_are_found_again(tmp_path):
    rng = np.random.default_rng(3)
    cells = [rng.normal(size=(count, 4)).astype(np.float16) for count in (5, 0, 7)]
    cells[2][1, 0] = -0.0
    write_features(
        tmp_path / "features",
        [[(name, np.arange(len(cell)), cell)] for name, cell in zip("abc", cells, strict=True) if len(cell)],
    )
    write_rows(tmp_path / "features", 3, tmp_path / "rows.npy", 12)
    rows = np.load(tmp_path / "rows.npy")
    np.testing.assert_array_equal(rows, np.concatenate(cells))
    chosen = rows[[6, 2]].astype(np.float32) + np.float32(0)
    assert places_of(rows, chosen).tolist() == [6, 2]
    with pytest.raises(SystemExit, match="12 frames, not 13"):
        write_rows(tmp_path / "features", 3, tmp_path / "more.npy", 13)


def test_a_folder_of_other_settings_is_refused_but_not_of_another_k(tmp_path):
    shape = {"name": "tiny", "encoder": "small", "layer": 3, "corpora": ("fsdd",), "num_clusters": 20}
    _claim(tmp_path / "shape.json", Shape(**shape, frames=100))
    _claim(tmp_path / "shape.json", Shape(**{**shape, "num_clusters": 30}, frames=100))
    with pytest.raises(SystemExit, match="other settings"):
        _claim(tmp_path / "shape.json", Shape(**shape, frames=200))


def test_a_child_is_killed_at_its_cap():
    settings = {"contender": "peak", "threads": 1, "size": 64, "seconds": 30.0}
    with pytest.raises(TimeoutError, match=r"did not end in 0.5 s"):
        run_together("bench.contenders", [settings], cap_seconds=0.5)


def test_their_programs_are_timed_and_judged_in_processes_of_their_own(work, tmp_path):
    found = {}
    for name in ("faiss", "minibatch"):
        found |= run_contender(name, work, tmp_path / name, GIVEN)
    assert set(found) == {"faiss", "minibatch"}
    fit = found["faiss"]
    assert 0 < fit["seconds"] < 60
    assert len(fit["ends"]) == len(fit["inertia"]) + 1 == 5
    assert fit["final_inertia"] < fit["inertia"][-1] < fit["inertia"][0]
    assert fit["peak_bytes"] > 2000 * 48 * 4


# Nightly: the tests before it show its parts.
@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_command_measures_ours_on_noise(tmp_path):
    (tmp_path / "audio").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        noise = rng.normal(0, 3000, 32_000 + 4_000 * number).astype(np.int16)
        soundfile.write(tmp_path / "audio" / f"{number}.wav", noise, 16_000)
    command = [sys.executable, "-m", "bench.kmeans", "--shapes", "small", "--corpora", tmp_path / "audio"]
    command += ["--frames", 300, "--clusters", 20, "--iterations", 3, "--threads", 1, "--folder", tmp_path / "made"]
    command += ["--contenders", "faiss", "ours", "--json", tmp_path / "found.json"]
    run = subprocess.run(list(map(str, command)), env=environment(1), cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "found.json").read_text())["shapes"][0]
    # The exact sums and faiss's float32 ones give nearly the same centroids.
    assert found["ratios"]["inertia ours / faiss"] == pytest.approx(1, abs=1e-3)
    assert len(found["contenders"]["ours"]["ends"]) == 4
    assert found["contenders"]["ours"]["inertia"][0] == pytest.approx(found["seeds_inertia"])
    assert run.stdout.count("| small |") >= 2
