"""What a text of ``/metrics`` says, read by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families


def counted(text: str) -> dict[tuple[str, ...], float]:
    """Return the requests by route, model, version and status."""
    return {
        tuple(sample.labels[name] for name in ("route", "model", "version", "status")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "greenroom_requests_total" and sample.value
    }


def single(text: str, name: str, /, **labels: str) -> float:
    (value,) = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return value
