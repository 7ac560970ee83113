"""Opens the reports of a run with tensorboard and wandb, and compares what they read with its logs.

    python tests/golden/report/check.py [RUN REPORTS]

RUN: a run directory. REPORTS: a folder with what `moim export RUN tensorboard` and
`moim export RUN wandb` wrote, in `tensorboard/` and `wandb/`. Left out, the folders beside this script
are checked, whose bytes tests/report.rs compares with ours.

Prints one JSON object: what each program read. Every number of every `step` and `score` event has to be
there, and the tables have to hold every line of completions.jsonl; then both files are cut in the middle
of their last record, and all but that has to be read again. Exits with 1 and a line for each thing that
differs.

Written for tensorboard 2.21.0 and wandb 0.31.0 (`wandb leet inspect`).
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).resolve().parent
SCORES = ["final_mean", "em", "rouge1", "bertscore", "format"]
problems = []


def expect(holds, message):
    if not holds:
        problems.append(message)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def number(value):
    return float(value) if isinstance(value, (int, float, str)) else math.nan


def expected_scalars(events):
    """{step: {name: value}} by the same names in both programs."""
    rows = {}
    for event in events:
        row = {}
        if event["event"] == "step":
            absent = event.get("nonfinite", [])
            for name, value in event.items():
                if name not in ("v", "time", "event", "step", "total_steps", "nonfinite"):
                    if isinstance(value, (int, float)) or name in absent:
                        row[f"train/{name}"] = number(value)
        elif event["event"] == "score":
            for name in SCORES:
                if isinstance(event.get(name), (int, float)):
                    row[f"eval/{name}"] = event[name]
            for kind, scores in (event.get("per_type") or {}).items():
                for name in SCORES:
                    if isinstance(scores.get(name), (int, float)):
                        row[f"eval/{kind}/{name}"] = scores[name]
        if row:
            rows.setdefault(event["step"], {}).update(row)
    return rows


def same(left, right, tolerance):
    left, right = number(left), number(right)
    return (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=tolerance)


def check_rows(program, expected, read, tolerance):
    for step, row in expected.items():
        for name, value in row.items():
            found = read.get(step, {}).get(name)
            expect(found is not None and same(found, value, tolerance),
                   f"{program}: {name} at step {step} is {found}, not {value}")


def read_tensorboard(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    rows, points = {}, 0
    for tag in events.Tags()["scalars"]:
        for point in events.Scalars(tag):
            points += 1
            if not tag.startswith("system/"):
                expect(tag not in rows.get(point.step, {}), f"tensorboard: {tag} twice at {point.step}")
                rows.setdefault(point.step, {})[tag] = point.value
    return events, rows, points


def check_tensorboard(run, folder, expected):
    events, rows, points = read_tensorboard(folder)
    check_rows("tensorboard", expected, rows, 1e-6)
    text = events.Tensors("experiment")[0].tensor_proto.string_val[0].decode()
    expect((run / "experiment.toml").read_text().strip() in text, "tensorboard: the text is not experiment.toml")
    tags = events.Tags()["scalars"]
    return {
        "tags": len(tags),
        "scalars": points,
        "last_step": max(rows),
        "system_tags": [tag for tag in tags if tag.startswith("system/")],
        "text": text.splitlines()[1],
    }


def inspect(folder, *options):
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", *options, folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def read_wandb(folder):
    return [json.loads(line) for line in inspect(folder).splitlines()]


def check_wandb(run, folder, expected):
    records = read_wandb(folder)
    expect([record["num"] for record in records] == list(range(1, len(records) + 1)), "wandb: records are missing")
    rows, tables = {}, []
    for record in records:
        if record["type"] == "history":
            item = record["history"]["item"]
            expect(item["_step"] not in rows, f"wandb: step {item['_step']} twice")
            rows[item["_step"]] = item
            if "completions" in item:
                tables.append(item["completions"])
    check_rows("wandb", expected, rows, 1e-12)
    completions = []
    for entry in tables:
        content = (folder / "files" / entry["path"]).read_bytes()
        table = json.loads(content)
        expect(len(content) == entry["size"] and len(table["data"]) == entry["nrows"],
               f"wandb: {entry['path']} is not what the history says")
        completions += [dict(zip(table["columns"], row)) for row in table["data"]]
    logged = lines(run / "completions.jsonl")
    expect([row["completion"] for row in completions] == [row["completion"] for row in logged],
           "wandb: the tables do not hold the completions")
    summary = json.loads(inspect(folder, "--summary"))
    return {
        "name": summary["name"],
        "project": summary["project"],
        "state": summary["state"],
        "exit_code": summary.get("exit_code"),
        "step": summary["step"],
        "config_sections": sorted(summary["config"]),
        "summary_metrics": len(summary["summary"]),
        "records": {kind: sum(record["type"] == kind for record in records)
                    for kind in sorted({record["type"] for record in records})},
        "tables": len(tables),
        "completions": len(completions),
        "first_completion": completions[0]["completion"] if completions else None,
    }


def check_torn(reports, offline):
    """Cuts three bytes off copies of both files: all but the last record is read."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for source in [*(reports / "tensorboard").glob("*tfevents*"), *offline.glob("*.wandb")]:
            (folder / source.suffix).mkdir()
            (folder / source.suffix / source.name).write_bytes(source.read_bytes()[:-3])
        whole, torn = read_tensorboard(reports / "tensorboard")[2], read_tensorboard(folder / ".moim")[2]
        expect(0 < whole - torn <= 64, f"tensorboard: of {whole} scalars {torn} are left by a torn tail")
        records = len(read_wandb(offline))
        kept = len(read_wandb(folder / ".wandb"))
        expect(kept == records - 1, f"wandb: of {records} records {kept} are left by a torn tail")
        return {"scalars": torn, "records": kept}


def main():
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    run, reports = (Path(argument) for argument in sys.argv[1:]) if len(sys.argv) == 3 else (HERE / "run", HERE)
    expected = expected_scalars(lines(run / "events.jsonl"))
    offline = next((reports / "wandb").glob("offline-run-*"))
    result = {
        "logged_values": sum(len(row) for row in expected.values()),
        "tensorboard": check_tensorboard(run, reports / "tensorboard", expected),
        "wandb": check_wandb(run, offline, expected),
        "torn": check_torn(reports, offline),
    }
    print(json.dumps(result, ensure_ascii=False, indent=2))
    for problem in problems:
        print(f"check: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
