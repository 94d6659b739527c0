"""Settings are nested in code and flat outside of it, and the flags of no job change unseen."""

import json
from dataclasses import dataclass, field

import pytest
from made_flags import GOLDEN, all_flags

from pipeline import cli
from pipeline.errors import SettingsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.run import RunPipelineConfig
from pipeline.settings import Settings, setting_paths
from pipeline.store.storage import located
from pipeline.tokens.settings import TokenizeCorpusConfig

RUN = {"corpus": "c", "layout": "folder", "output": "o", "num_clusters": 2}


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    size: int
    path: str | None = None

    def __post_init__(self):
        if self.size < 1:
            raise SettingsError(f"size must be at least 1, got {self.size}")


@dataclass(frozen=True, kw_only=True)
class Middle(Settings):
    inner: Inner
    speed: float = 1.0


def _fast():
    return Middle(inner=Inner(size=7), speed=2.0)


@dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    name: str
    middle: Middle
    other: str = "x"


@dataclass(frozen=True, kw_only=True)
class WithDefault(Settings):
    middle: Middle = field(default_factory=_fast)


def test_flat_settings_reach_their_groups_and_come_back():
    made = Outer.of(name="n", size=3, speed=2.0)
    assert made == Outer(name="n", middle=Middle(inner=Inner(size=3), speed=2.0))
    assert made.flat() == {"name": "n", "size": 3, "path": None, "speed": 2.0, "other": "x"}
    assert Outer.of(**made.flat()) == made


def test_a_group_may_be_given_whole():
    assert Outer.of(name="n", middle=_fast()) == Outer(name="n", middle=_fast())


def test_the_default_of_a_group_stays_where_a_part_of_it_is_given():
    assert WithDefault.of() == WithDefault()
    assert WithDefault.of(size=3).middle == Middle(inner=Inner(size=3), speed=2.0)


def test_some_settings_change_and_the_others_stay():
    made = Outer.of(name="n", size=3)
    assert made.but(size=4, other="y") == Outer.of(name="n", size=4, other="y")
    assert made.but() == made


@pytest.mark.parametrize("make", [lambda **flat: Outer.of(name="n", size=3, **flat), Outer.of(name="n", size=3).but])
def test_what_no_group_has_is_named(make):
    with pytest.raises(TypeError, match="Outer has no setting sise"):
        make(sise=4)


def test_a_setting_beside_the_group_that_has_it_is_refused():
    with pytest.raises(TypeError, match="Outer gets speed twice: alone and in middle"):
        Outer.of(name="n", middle=_fast(), speed=1.0)


def test_what_is_required_and_not_given_is_named():
    with pytest.raises(TypeError, match="size"):
        Outer.of(name="n")


def test_a_group_checks_its_own_settings_however_they_come():
    with pytest.raises(SettingsError, match="size must be at least 1, got 0"):
        Outer.of(name="n", size=0)
    with pytest.raises(SettingsError, match="size must be at least 1, got 0"):
        Outer.of(name="n", size=3).but(size=0)


def test_two_settings_of_one_name_are_refused():
    @dataclass(frozen=True, kw_only=True)
    class Twice(Settings):
        middle: Middle
        size: int = 1

    with pytest.raises(TypeError, match="Twice has size twice"):
        setting_paths(Twice)


def test_local_paths_become_absolute_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = located(Outer.of(name="s3://bucket/n", size=3, path="p"), "name", "path")
    assert (made.name, made.middle.inner.path) == ("s3://bucket/n", str(tmp_path / "p"))
    assert located(Outer.of(name="n", size=3), "path").middle.inner.path is None


@pytest.mark.parametrize("job", sorted(cli.JOBS))
def test_no_job_has_two_settings_of_one_name(job):
    assert setting_paths(cli.config_class(cli.stage_of(job)))


def test_the_flags_of_every_job_are_those_of_the_golden_file():
    assert all_flags() == json.loads(GOLDEN.read_text())


def test_what_a_job_leaves_open_stays_its_own():
    run = RunPipelineConfig.of(**RUN)
    assert (run.encoding.encoder, run.encoding.layers) == ("encoder-small", ())
    assert TokenizeCorpusConfig.of(features="f", codebooks="c", output="o").encoding.layers == ()
    with pytest.raises(TypeError, match="layers"):
        ExtractFeaturesConfig.of(manifest="m", output="o", encoder="encoder-small")
    with pytest.raises(SettingsError, match="layers must name at least one layer of elsewhere"):
        RunPipelineConfig.of(**RUN, encoder="elsewhere")


def test_every_stage_of_a_run_gets_the_settings_of_the_run():
    given = {
        "channels": "split",
        "vad": "silero",
        "vad_threshold": 0.4,
        "layers": (2, 4),
        "num_workers": 3,
        "decode_memory_gb": 1.5,
        "max_reject_fraction": 0.25,
        "num_quantizers": 2,
        "tolerance": 0.01,
        "seed": 9,
        "agreement_frames": 7,
        "runner": "here",
    }
    run = RunPipelineConfig.of(**{**RUN, "num_clusters": 8, "frames_per_cluster": 50}, **given)
    own = {
        "features": {"sample_frames": 400},
        "codebooks": {"num_clusters": (8,)},
        "tokens": {"num_clusters": None},
        "cards": {"layers": (), "num_workers": None, "labels": ()},
    }
    for stage in ("manifest", "features", "codebooks", "cards", "tokens"):
        flat = getattr(run, stage)().flat()
        expected = {name: value for name, value in {**run.flat(), **own.get(stage, {})}.items() if name in flat}
        found = {name: flat[name] for name in expected}
        assert found == {**expected, "output": f"o/{stage}"} if "output" in flat else found == expected


@dataclass(frozen=True, kw_only=True)
class _Depth(Settings):
    layers: int = 1
    width: int = 2


@dataclass(frozen=True, kw_only=True)
class _Network(Settings):
    depth: _Depth = _Depth(layers=7, width=8)


def test_a_group_with_defaults_of_its_own_keeps_those_that_are_not_named():
    assert _Network.of().depth == _Depth(layers=7, width=8)
    assert _Network.of(width=9).depth == _Depth(layers=7, width=9)
