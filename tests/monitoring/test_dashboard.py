"""Every query of the dashboard gives data on a Prometheus that scraped a small run on Ray, and they are the run's."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from made_prometheus import Prometheus, needs_prometheus

from pipeline.work.meters import METRICS, TAGS

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "infra" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
VARIABLES = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
FILLED = {"$__rate_interval": "20s", "$stage": ".*", "$output": ".*"}
GPU = "ray_node_(?:gpus|gram)_"
"""Metrics of nodes with a GPU: here only their names can be looked at."""

pytestmark = [pytest.mark.timeout(600)]
ray = pytest.mark.ray


def filled(query):
    """Give a query as Grafana sends it, with everything chosen."""
    for name, value in FILLED.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


@pytest.fixture(scope="module")
def scraped(tmp_path_factory, small_encoder):
    """A Prometheus that has scraped a run while it went on; what the run says of itself, and its folder."""
    folder = tmp_path_factory.mktemp("scraped")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "made_monitoring", str(folder), small_encoder(stem="group", stable=False)]
    with (folder / "log").open("w") as log:
        job = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    prometheus = None
    try:
        discovery = line(job, "scraped at ", folder)
        prometheus = Prometheus(configured(folder, discovery), folder / "prometheus")
        with told_of_metrics(prometheus) as told:
            reports = json.loads(line(job, "done ", folder))
            # What was said last is exported within a second, and scraped 5 s later.
            time.sleep(7)
        yield prometheus, reports | {"folder": folder, "metadata": told}
    finally:
        if prometheus is not None:
            prometheus.close()
        end(job)


def end(job):
    """Let the job end its Ray; where it does not, kill it and all that it started."""
    family = psutil.Process(job.pid).children(recursive=True) if job.poll() is None else []
    job.stdin.close()
    try:
        job.wait(60)
    except subprocess.TimeoutExpired:
        for process in [psutil.Process(job.pid), *family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        job.wait(20)


@contextlib.contextmanager
def told_of_metrics(prometheus):
    """Gather types and meanings while a run goes on: Prometheus knows them of what is exported now alone."""
    found, ended = {}, threading.Event()

    def ask():
        while not ended.wait(1):
            found.update(prometheus.ask("metadata"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def line(job, begin, folder):
    """Read what the job says until a line that begins so; gives the rest of the line."""
    for said in job.stdout:
        if said.startswith(begin):
            return said.removeprefix(begin).strip()
    raise AssertionError((folder / "log").read_text()[-3000:])


def configured(folder, discovery):
    """Write the configuration that ships, with the file of this Ray and a scrape every 5 s."""
    shipped = (MONITORING / "prometheus.yml").read_text()
    text = shipped.replace("/tmp/ray/prom_metrics_service_discovery.json", discovery).replace(" 10s", " 5s")
    assert text.count(discovery) == 1
    assert text.count(" 5s") == 3
    (folder / "prometheus.yml").write_text(text)
    (folder / "alerts.yml").write_bytes((MONITORING / "alerts.yml").read_bytes())
    return folder / "prometheus.yml"


@ray
@needs_prometheus
@pytest.mark.parametrize(("title", "query"), [pair for pair in QUERIES if not re.search(GPU, pair[1])])
def test_a_query_gives_data(scraped, title, query):
    assert scraped[0].series(filled(query)), title


@ray
@needs_prometheus
def test_a_query_with_a_wrong_name_gives_none(scraped):
    right = "max by (stage) (ray_strata_units_done)"
    assert scraped[0].series(right)
    assert not scraped[0].series(right.replace("done", "made"))
    with pytest.raises(ValueError, match="parse error"):
        scraped[0].series(right[:-1])


@ray
@needs_prometheus
@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable["name"])
def test_a_variable_offers_what_ran(scraped, variable):
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
    found = {each.get(label) for each in scraped[0].ask("series", **{"match[]": selector})}
    folders = ("codebooks", "tokens", "task")
    expected = folders if label == "stage" else [str(scraped[1]["folder"] / name) for name in folders]
    assert found >= set(expected)


@ray
@needs_prometheus
def test_every_metric_arrives_with_its_type_meaning_and_tags(scraped):
    told = scraped[1]["metadata"]
    for metric in METRICS:
        # In OpenMetrics, which Prometheus asks for, a counter's family is called without its ending.
        (family,) = told[metric.exported.removesuffix("_total")]
        assert (family["type"], family["help"]) == (metric.kind, metric.meaning)
        tags = {name for labels, _ in scraped[0].series(metric.exported) for name in labels}
        assert tags >= {*TAGS, *metric.tags}, metric


def last(prometheus, query):
    """Give the last value of the one series of a query."""
    ((_, values),) = prometheus.series(query)
    return values[-1]


@ray
@needs_prometheus
def test_the_numbers_are_those_of_the_reports(scraped):
    prometheus, reports = scraped
    report = reports["tokens"]
    pick = f'{{stage="tokens", output="{reports["folder"] / "tokens"}"}}'
    assert report["units"] > 3
    assert last(prometheus, f"ray_strata_units_done{pick}") == report["units"]
    assert last(prometheus, f"ray_strata_units_pending{pick}") == 0
    assert last(prometheus, f"ray_strata_audio_done_seconds{pick}") == pytest.approx(3600 * report["audio_hours"])
    assert last(prometheus, f"ray_strata_audio_seconds_total{pick}") == pytest.approx(3600 * report["audio_hours"])
    assert last(prometheus, f"ray_strata_rows_total{pick}") == report["rows"] == 12
    assert last(prometheus, f"ray_strata_device_ratio{pick}") == pytest.approx(report["waiting"]["busy"], abs=0.05)
    agreed = report["agreement"]["layer_01"]["equal"]
    assert last(prometheus, 'ray_strata_agreement_ratio{layer="layer_01"}') == pytest.approx(agreed)
    pick = '{codebook="layer_01_k8", layer="1"}'
    assert last(prometheus, f"ray_strata_kmeans_iteration{pick}") == len(reports["inertia"])
    assert last(prometheus, f"ray_strata_kmeans_inertia{pick}") == pytest.approx(reports["inertia"][-1])
    end = reports["task"][-1]
    assert last(prometheus, "ray_strata_training_step") == end["step"] == 40
    assert last(prometheus, 'ray_strata_training_loss{loss="loss"}') == pytest.approx(end["loss"])
    assert last(prometheus, "ray_strata_training_checkpoints_total") == 8
    assert last(prometheus, 'ray_strata_rejects_total{stage="probe"}') == 1


@ray
@needs_prometheus
def test_rays_nodes_are_found_and_no_alert_is_raised(scraped):
    up = {labels["instance"]: values[-1] for labels, values in scraped[0].series('up{job="ray"}')}
    # Only a head that `ray start` has started has an autoscaler's process, which listens there.
    assert {value for address, value in up.items() if not address.endswith(":44217")} == {1}
    raised = {labels["alertname"] for labels, _ in scraped[0].series("ALERTS")}
    # One of 13 recordings is none.
    assert raised - {"StrataRayNodeDown"} == {"StrataRejects"}


@ray
@needs_prometheus
def test_of_a_stage_in_the_jobs_own_process_nothing_is_scraped(scraped):
    assert (scraped[1]["folder"] / "features" / "_SUCCESS").exists()
    assert not scraped[0].series('{__name__=~"ray_strata_.+", stage="features"}')


def test_panels_lie_side_by_side_and_every_metric_is_in_one():
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    asked = {name for _, query in QUERIES for name in re.findall(r"ray_strata_\w+", query)}
    assert asked == {metric.exported for metric in METRICS}


def test_what_is_asked_of_gpus_is_what_ray_calls_them():
    """A machine without a GPU gives no data for these; Ray's own list says whether they exist."""
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    alerts = (MONITORING / "alerts.yml").read_text()
    texts = [alerts, *(query for _, query in QUERIES)]
    names = {name for text in texts for name in re.findall(r"ray_(node_g\w+)", text)}
    assert names == {"node_gpus_utilization", "node_gram_used"}
    assert names <= set(METRICS_GAUGES)
    assert "node_gpu_utilization" not in METRICS_GAUGES
