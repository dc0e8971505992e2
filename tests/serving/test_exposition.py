"""What /metrics says: text that Prometheus' own parser reads, and sums that add up."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from trueline.serving import exposition
from trueline.serving.exposition import FAMILIES, Source, lasting, pack, render, snapshot, together, totals, unpack
from trueline.serving.metrics import Metrics

KINDS = {family.name: family.kind for family in FAMILIES}


def metrics(requests=3, *, version=1, column='a "b"\\\n'):
    """A process that has seen a little of everything."""
    found = Metrics()
    found.requests["m", str(version), "champion", 200] += requests
    found.requests["m", "", "", 400] += 1
    for number in range(requests):
        found.duration[version].observe(0.0004 * 4**number)
        found.queue[version].observe(0.1)
        found.execution[version].observe(100.0)
        found.batch[version].observe(number + 1)
    found.shadowed[version] += 1
    found.shadow_dropped[version] += 2
    found.failures[version, "failed"] += 1
    found.restarts[version] += 1
    found.doubtful[version, column] += 5
    found.labels, found.unrecorded, found.in_progress = 7, 1, 2
    return found


def source(given_metrics, epoch=3, **changes):
    facts = {"roles": {1: ("champion", "onnx")}, "journalled": {"predictions": 3}, "crashes": {1: 1}, "connections": 4}
    return Source(given_metrics, "m", epoch, **{**facts, **changes})


def read(text):
    """Samples by name and labels, as Prometheus' parser has them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_prometheus_reads_every_family_with_its_kind_and_the_values_that_were_counted():
    text = render(snapshot(source(metrics())))
    families = list(parse(text))
    kinds = {family.name: family.type for family in families}
    assert kinds == {(name.removesuffix("_total") if kind == "counter" else name): kind for name, kind in KINDS.items()}
    assert all(family.documentation.endswith(".") and family.samples for family in families)
    samples = read(text)
    one = (("model", "m"), ("version", "1"))
    assert (
        samples["trueline_inference_requests_total", (("code", "200"), *one[:1], ("role", "champion"), *one[1:])] == 3
    )
    assert samples["trueline_contract_warnings_total", (("column", 'a "b"\\\n'), *one)] == 5
    assert samples["trueline_inference_duration_seconds_count", one] == 3
    assert samples["trueline_inference_duration_seconds_bucket", (("le", "0.0005"), *one)] == 1
    assert samples["trueline_inference_duration_seconds_bucket", (("le", "+Inf"), *one)] == 3
    assert samples["trueline_inference_duration_seconds_sum", one] == pytest.approx(0.0004 * 21)
    assert samples["trueline_inference_execution_duration_seconds_bucket", (("le", "10"), *one)] == 0
    assert samples["trueline_model_info", (("executor", "onnx"), *one[:1], ("role", "champion"), *one[1:])] == 1


def test_an_empty_process_is_readable_too():
    text = render(snapshot(Source(Metrics())))
    assert read(text)["trueline_serving_processes", ()] == 1


def test_counters_of_two_processes_add_and_gauges_say_how_they_make_one():
    first = snapshot(source(metrics(3), epoch=4, journal_bytes=2**40, connections=1))
    second = snapshot(source(metrics(2, version=2), epoch=3, journal_bytes=5))
    samples = read(render(together([first, second])))
    assert samples["trueline_labels_total", ()] == 14
    assert samples["trueline_journal_bytes_total", ()] == 2**40 + 5
    assert samples["trueline_inference_in_progress", ()] == 4
    assert samples["trueline_http_connections", ()] == 5
    assert samples["trueline_serving_processes", ()] == 2
    assert samples["trueline_route_table_epoch", ()] == 3  # the one that is furthest behind
    assert (
        samples[
            "trueline_model_info",
            tuple(sorted({"model": "m", "version": "1", "role": "champion", "executor": "onnx"}.items())),
        ]
        == 1
    )
    by_version = [samples["trueline_inference_batch_size_count", (("model", "m"), ("version", v))] for v in "12"]
    assert by_version == [3, 2]


def test_of_a_dead_process_the_counters_stay_and_the_gauges_go():
    living, dead = snapshot(source(metrics(), epoch=9)), snapshot(source(metrics(), epoch=3))
    samples = read(render(together([living, lasting(dead)])))
    assert samples["trueline_labels_total", ()] == 14
    assert samples["trueline_inference_in_progress", ()] == 2
    assert samples["trueline_route_table_epoch", ()] == 9
    assert samples["trueline_serving_processes", ()] == 1


def test_a_snapshot_survives_the_way_to_another_process():
    found = snapshot(source(metrics()))
    there = unpack(msgspec.json.decode(msgspec.json.encode(pack(found))))
    assert render(there) == render(found)
    assert totals(there) == {"processes": 1, "predictions": 3, "unrecorded": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"trueline_labels_total": 3},
        {"trueline_labels_total": [[[], [[1], 2.0]]]},
        {"trueline_labels_total": [[["more", "labels", "than here"], 3]]},
        {"trueline_inference_batch_size": [[["m", "1"], 4]]},
        {"trueline_inference_batch_size": [[["m"], [[0] * 12, 4.0]]]},
        {"trueline_inference_batch_size": [[["m", "1"], [[1, 2], 4.0]]]},
    ],
)
def test_what_another_trueline_counts_differently_is_not_added(wrong):
    with pytest.raises(ValueError, match=r".+"):
        unpack(wrong)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_the_order_of_processes_does_not_matter(requests):
    found = [snapshot(source(metrics(number))) for number in requests]
    assert read(render(together(found))) == pytest.approx(read(render(together(found[::-1]))))
    assert exposition.totals(together(found))["processes"] == len(requests)
