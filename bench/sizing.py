"""The table of docs/how-to/sizing.md, from a result of `bench.fleet`."""

from bench.results import Result


def sizing_table(result: Result) -> str:
    """Return the costs of a start, the check of the model, and the simulated fleets, in Markdown."""
    costs, start, clients = (result[name] for name in ("costs", "start_cpu_s", "clients_after_s"))
    steps = {"redemption": "redemption_s", "manifest": "manifest_s", "request of a blob": "blob_s"}
    lines = ["| step | CPU time of a worker |", "|---|---|"]
    lines += [f"| {step} | {1000 * costs[name]:.1f} ms |" for step, name in steps.items()]
    lines += [
        f"| complete start: sum of the steps | {1000 * start['model']:.1f} ms |",
        f"| complete start: measured | {1000 * start['measured']:.1f} ms |",
        "",
        "| 200 real clients: time of | 50 % | 90 % | 99 % |",
        "|---|---|---|---|",
    ]
    for name in ("model", "measured"):
        times = " | ".join(f"{clients[name][quantile]:.1f} s" for quantile in ("0.5", "0.9", "0.99"))
        lines.append(f"| {name} | {times} |")
    lines += [
        "",
        "| nodes | delivery | 50 % run after | 90 % | 99 % | Crisper sends | others | CPU | 1,000 starts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_row(row) for row in result["rows"])])


def _row(row: Result) -> str:
    times = " | ".join(_duration(row["after_s"][quantile]) for quantile in ("0.5", "0.9", "0.99"))
    sent = f"{row['egress_gb']:,} GB | {row['other_egress_gb']:,} GB"
    cpu = _duration(row["cpu_s"])
    price = f"${row['dollars_per_1000']:,.2f}"
    return f"| {row['nodes']:,} | `{row['delivery']}` | {times} | {sent} | {cpu} | {price} |"


def _duration(seconds: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"
