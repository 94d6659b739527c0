"""Alerts and configuration are what Prometheus takes, each alert fires when it should, and a wrong rule is noticed."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from made_prometheus import needs_prometheus, promtool

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "infra" / "monitoring"
ALERTS = (MONITORING / "alerts.yml").read_text()
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS)["groups"][0]["rules"]}
TESTS = (Path(__file__).parent / "alerts_test.yml").read_text()
MANUAL = (ROOT / "docs" / "monitoring.md").read_text()

FAULTS = [
    ("StrataStalled", "> 300", "> 420"),
    ("StrataStalled", "> 300", "> 240"),
    ("StrataStalled", "(ray_strata_units_pending) > 0", "(ray_strata_units_pending) >= 0"),
    ("StrataStalled", "last_commit", "latest_commit"),
    ("StrataNoCommit", "> 1800", "> 1700"),
    ("StrataNoCommit", "== max", ">= max"),
    ("StrataNoCommit", "(ray_strata_units_pending) > 0", "(ray_strata_units_pending) >= 0"),
    ("StrataEndedEarly", ")) > 0", ")) >= 0"),
    ("StrataEndedEarly", "unless on (stage, output) ray_strata_units_pending", ""),
    ("StrataEndedEarly", "[15m]", "[2h]"),
    ("StrataEndedEarly", "for: 1m", "for: 4m"),
    ("StrataRejects", "> 0.05", "> 0.06"),
    ("StrataRejects", "> 0.05", ">= 0.05"),
    ("StrataRejects", "for: 5m", "for: 0m"),
    ("StrataNoCheckpoint", "> 3600", "> 3660"),
    ("StrataNoCheckpoint", "> 3600", "> 1800"),
    ("StrataGpuIdle", "100 - ", ""),
    ("StrataGpuIdle", "and on () (count(ray_strata_device_ratio) > 0 or count(ray_strata_training_step) > 0)", ""),
    ("StrataGpuIdle", " or count(ray_strata_training_step) > 0", ""),
    ("StrataGpuIdle", "for: 15m", "for: 10m"),
    ("StrataRayNodeDown", '=~"(.*/)?(strata-)?ray"', '=~".*ray"'),
    ("StrataRayNodeDown", '=~"(.*/)?(strata-)?ray"', '="ray"'),
    ("StrataRayNodeDown", "for: 2m", "for: 0m"),
]


def outcome(folder, alerts):
    """Run the tests of alerts on other alerts; gives promtool's code and words."""
    (folder / "alerts.yml").write_text(alerts)
    (folder / "alerts_test.yml").write_text(TESTS.replace("../../infra/monitoring/alerts.yml", "alerts.yml"))
    return promtool("test", "rules", folder / "alerts_test.yml")


@needs_prometheus
def test_prometheus_takes_what_ships():
    code, said = promtool("check", "config", MONITORING / "prometheus.yml")
    assert code == 0, said
    assert f"{len(RULES)} rules found" in said


@needs_prometheus
def test_prometheus_refuses_a_rule_with_a_wrong_expression(tmp_path):
    (tmp_path / "alerts.yml").write_text(ALERTS.replace("max by (stage, output) (", "max by (stage, output ("))
    code, said = promtool("check", "rules", tmp_path / "alerts.yml")
    assert code != 0
    assert "parse error" in said


@needs_prometheus
def test_each_alert_fires_when_it_should_and_not_else(tmp_path):
    code, said = outcome(tmp_path, ALERTS)
    assert code == 0, said


@needs_prometheus
@pytest.mark.parametrize(("alert", "right", "wrong"), FAULTS)
def test_a_wrong_rule_is_noticed(tmp_path, alert, right, wrong):
    begin = ALERTS.index(f"alert: {alert}\n")
    end = ALERTS.find("- alert:", begin)
    rule = ALERTS[begin : end if end > 0 else len(ALERTS)]
    assert right in rule
    code, said = outcome(tmp_path, ALERTS.replace(rule, rule.replace(right, wrong)))
    assert code != 0
    assert f"alertname: {alert}" in said


def test_every_alert_has_tests_that_it_fires_and_that_it_does_not_and_a_section_of_the_manual():
    checks = [check for test in yaml.safe_load(TESTS)["tests"] for check in test["alert_rule_test"]]
    for fires in (True, False):
        assert {check["alertname"] for check in checks if bool(check["exp_alerts"]) == fires} == set(RULES)
    assert {alert for alert, _, _ in FAULTS} == set(RULES)
    assert set(re.findall(r"^\| `(Strata\w+)` \|", MANUAL, flags=re.MULTILINE)) == set(RULES)


def test_metrics_and_manual_name_the_same():
    from pipeline.work.meters import METRICS, TAGS

    rows = re.findall(r"^\| `(ray_strata_\w+)` \| (\w+) \| ([^|]+) \|([^|]*)\| ([^|]+) \|$", MANUAL, re.MULTILINE)
    told = {name: (kind, unit.strip(), tags.strip(), meaning.strip()) for name, kind, unit, tags, meaning in rows}
    assert told == {
        metric.exported: (metric.kind, metric.unit, ", ".join(f"`{tag}`" for tag in metric.tags), metric.meaning)
        for metric in METRICS
    }
    assert all(f"`{tag}`" in MANUAL for tag in TAGS)
    names = set(re.findall(r"ray_strata_\w+", ALERTS + TESTS))
    assert names <= set(told)


def test_pods_of_kuberay_are_scraped_where_it_opens_the_port():
    monitor = yaml.safe_load((MONITORING / "kuberay.yaml").read_text())
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    # Prometheus' operator calls the job after the folder and name of the monitor.
    job = RULES["StrataRayNodeDown"]["expr"].split('"')[1]
    assert re.fullmatch(job, f"ml/{monitor['metadata']['name']}")


def test_the_manuals_command_makes_a_rule_of_the_operator_of_the_alerts():
    (command,) = re.findall(r"^    (\{ printf [^|]*\}) \| kubectl apply -f -$", MANUAL, re.MULTILINE)
    made = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
    ).stdout
    rule = yaml.safe_load(made)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS)
