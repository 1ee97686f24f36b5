"""report.html: one file that needs nothing else, for light and dark, for phones and for print.

It asks what security costs, answers in three numbers, and then shows what they come from. The live page is
the same page with one section more, whose sections are replaced as the run goes on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from statistics import fmean, median
from typing import Any

from .charts import bar_chart, data_table, key, line_chart, styles, table
from .comparison import Runs, Verdict, answer, comparison, is_secure, who_learns_what
from .pictures import SUM, UPDATE, UPLOAD, Picture
from .record import RoundRecord
from .report import Report
from .units import ABSENT, byte_size, decimal, percent, seconds

_PHASES = ("train", "unmask", "sum", "evaluate")
_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LIVE_CSP = _CSP + "; script-src 'self'; connect-src 'self'"


def page(report: Report) -> str:
    """The whole document. All text that comes in is escaped."""
    return document(sections(report), ", ".join(report.modes))


def document(parts: Mapping[str, str], title: str, *, live: bool = False) -> str:
    """A page of these sections, by id; if `live`, with the script that replaces them."""
    body = "".join(f'<section id="{name}">{html}</section>\n' for name, html in parts.items())
    script = '<script src="live.js"></script>' if live else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_LIVE_CSP if live else _CSP}">
<title>smpcfl: {escape(title)}</title>
<style>{files(__package__).joinpath("report_page.css").read_text("utf-8")}</style>
</head>
<body>
<main>
<header><h1>What does it cost that nobody sees a single update?</h1>
<p class="lede">Every peer trains on data of its own. With secure aggregation the aggregator gets the sum of
their updates, and nothing of any one of them.</p></header>
{body}</main>
{script}</body>
</html>
"""


def sections(report: Report) -> dict[str, str]:
    """The inside of each section, by its id; a section that there is nothing to say in is left out."""
    runs = report.modes
    found = {
        "answer": _answer(runs, report.meta),
        "seen": _seen(report),
        "training": _training(runs),
        "bytes": _bytes(runs),
        "time": _time(runs),
        "lost": _lost(runs),
        "guarantee": _guarantees(runs),
        "side-by-side": _side_by_side(runs),
        "rounds": _rounds(runs),
        "settings": _settings(report.meta),
    }
    return {name: html for name, html in found.items() if html}


# -- the answer ------------------------------------------------------------------------------------


def _answer(runs: Runs, meta: Mapping[str, Any]) -> str:
    found = answer(runs)
    if found is None:
        why = "Nothing to compare yet: these are no rounds of a secure mode."
        if sum(map(bool, runs.values())) > 1:
            why = "Which of several runs of one mode belong together is not known: see them side by side."
        return f"<h2>The answer</h2><p>{why}</p>"
    against = f"<code>{escape(found.plain)}</code>" if found.plain else "an update in the clear"
    numbers = "".join(
        f'<div class="number"><dt>{label}</dt><dd><strong>{value}</strong>{note}</dd></div>'
        for label, value, note in (
            ("accuracy given up" if found.given_up is not None else "accuracy", *_accuracy(found)),
            ("bytes sent by a peer", *_sent(found)),
            ("seconds per round", *_seconds(found)),
        )
    )
    return f"""<h2>The answer</h2>
<p><code>{escape(found.mode)}</code> beside {against}:</p>
<dl class="numbers">{numbers}</dl>
<p class="soft">{_spread(meta)}</p>"""


def _spread(meta: Mapping[str, Any]) -> str:
    """How much one run says."""
    repeat = meta.get("repeat")
    if isinstance(repeat, int) and repeat > 1:
        return f"Of the first of {repeat} runs; the final accuracy of each is among the settings below."
    return "Of one run: accuracy and seconds differ from run to run. <code>--repeat</code> shows by how much."


def _accuracy(found: Verdict) -> tuple[str, str]:
    if found.accuracy is None:
        return ABSENT, "<span>not evaluated</span>"
    final = f"<span>final accuracy {percent(found.accuracy)}</span>"
    if found.given_up is None:
        return percent(found.accuracy), "<span>final accuracy; no plain run beside it</span>"
    points = 100 * found.given_up
    if abs(points) < 0.05:
        return "none", final
    if points < 0:
        return "none", f"<span>{-points:.1f} points more; {percent(found.accuracy)}</span>"
    return f"{points:.1f} points", final


def _sent(found: Verdict) -> tuple[str, str]:
    if found.sent is None:
        return ABSENT, ""
    size = f"<span>{byte_size(found.sent)} in each round</span>"
    if found.sent_ratio is None:
        return byte_size(found.sent), "<span>in each round</span>"
    return f"x{found.sent_ratio:.2f}", size


def _seconds(found: Verdict) -> tuple[str, str]:
    if found.seconds is None:
        return ABSENT, ""
    if found.more_seconds is None:
        return seconds(found.seconds), "<span>median</span>"
    sign = "+" if found.more_seconds >= 0 else "−"
    return (
        f"{sign}{seconds(abs(found.more_seconds))}",
        f"<span>{seconds(found.seconds)}, median</span>",
    )


# -- what the aggregator sees ----------------------------------------------------------------------

_CAPTIONS = {
    UPDATE: "What {peer} sent in the clear ({run})",
    UPLOAD: "What the aggregator sees of {peer} ({run})",
    SUM: "What it gets: the sum of the survivors ({run})",
}


def _seen(report: Report) -> str:
    shown = [
        (kind, run, picture)
        for kind in (UPDATE, UPLOAD, SUM)
        for run, pictures in report.pictures.items()
        for picture in pictures
        if picture.kind == kind
    ]
    if not shown:
        return ""
    figures = "".join(_figure(kind, run, picture) for kind, run, picture in shown)
    return f"""<h2>What the aggregator sees of one peer</h2>
<p>Rows of one array of weights, each as a picture, from the rounds of this report: a change up is light, one
down is dark. An upload is a vector of whole numbers; of each the highest eight bits are shown.</p>
<div class="seen">{figures}</div>"""


def _figure(kind: str, run: str, picture: Picture) -> str:
    caption = _CAPTIONS[kind].format(peer=picture.peer or "one peer", run=run)
    where = f"{picture.array}, round {picture.round}"
    described = "noise" if kind == UPLOAD else "changes of weights"
    images = "".join(
        f'<img width="{picture.width}" height="{picture.height}" alt="{described}, row {number} of'
        f' {escape(picture.array)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for number, png in enumerate(picture.pngs())
    )
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="tiles">{images}</div>'
        f'<p class="soft">{escape(where)}</p></figure>'
    )


# -- charts ----------------------------------------------------------------------------------------


def _training(runs: Runs) -> str:
    if not any(runs.values()):
        return ""
    accuracy = line_chart("accuracy", "Accuracy", runs, lambda r: r.accuracy, decimal)
    loss = line_chart("loss", "Loss", runs, lambda r: r.loss, decimal)
    return (
        "<h2>Does training work?</h2><p>Of the global model, as the app evaluates it.</p>"
        f'<div class="pair">{accuracy}{loss}</div>'
    )


def _bytes(runs: Runs) -> str:
    bars = {
        run: {
            "update, up": _mean(records, lambda r: r.bytes_up - r.unmask_up),
            "model, down": _mean(records, lambda r: r.bytes_down - r.unmask_down),
            "peer to peer": _mean(records, lambda r: r.bytes_p2p),
            "unmask": _mean(records, lambda r: r.unmask_up + r.unmask_down),
        }
        for run, records in runs.items()
        if records
    }
    note = "Of messages, as services count them: without TLS and acknowledgements."
    chart = bar_chart(
        "channels", "Bytes of one peer in one round, by channel", bars, byte_size, note
    )
    return f"<h2>Where the bytes go</h2>{chart}" if chart else ""


def _time(runs: Runs) -> str:
    measured = [
        record.flower_seconds
        for records in runs.values()
        for record in records
        if record.flower_seconds is not None
    ]
    flowers = median(measured) if measured else 0.0
    bars = {run: _phases(records, flowers) for run, records in runs.items() if records}
    note = (
        "Flower’s own share is what a message took that brought nothing to do: polls every few seconds,"
        " and the start of a process for each message; at most, as all nodes were asked at once."
        if measured
        else ""
    )
    chart = bar_chart("phases", "Seconds of a round, by phase", bars, seconds, note)
    return f"<h2>Where the time goes</h2>{chart}" if chart else ""


def _phases(records: Sequence[RoundRecord], flowers: float) -> dict[str, float]:
    names = dict.fromkeys(name for record in records for name in record.phase_seconds)
    phases = {
        name: fmean(record.phase_seconds.get(name, 0.0) for record in records)
        for name in (*_PHASES, *sorted(names.keys() - set(_PHASES)))
    }
    share = min(flowers, phases["train"])
    phases["train"] -= share
    other = fmean(record.seconds for record in records) - share - sum(phases.values())
    return {"Flower’s own": share, "other": max(other, 0.0), **phases}


def _mean(records: Sequence[RoundRecord], value: Any) -> float:
    return max(fmean(value(record) for record in records), 0.0)


# -- losses and the guarantee ----------------------------------------------------------------------


def _lost(runs: Runs) -> str:
    rows = []
    for run, records in runs.items():
        for record in records:
            void = record.outcome == "void"
            if record.lost or record.dropouts or void:
                who = "; ".join(f"{peer}: {why}" for peer, why in record.lost.items())
                rows.append(
                    (
                        f"{run}, round {record.round}",
                        [
                            f"{record.survivors} of {record.cohort}",
                            who or (f"{record.dropouts} peers" if record.dropouts else "nobody"),
                            f"void: {record.reason}" if void else "complete",
                            seconds(record.seconds),
                        ],
                    )
                )
    if not any(runs.values()):
        return ""
    head = "<h2>Who was lost, and what it cost</h2>"
    if not rows:
        return f"{head}<p>Nobody: each round had what all of its peers sent.</p>"
    costs = "".join(f"<p>{_cost(run, records)}</p>" for run, records in runs.items() if records)
    names = ["round", "survivors", "lost", "outcome", "time"]
    return head + costs + table("lost peers by round", names, rows)


def _cost(run: str, records: Sequence[RoundRecord]) -> str:
    """In rounds and seconds, of one run."""
    hit = [record for record in records if record.dropouts]
    void = sum(record.outcome == "void" for record in records)
    if not hit:
        ended = f", but {void} rounds ended void" if void else ""
        return f"<code>{escape(run)}</code>: nobody was lost{ended}."
    whole = [record.seconds for record in records if not record.dropouts]
    text = f"{len(hit)} of {len(records)} rounds lost a peer, {void} ended void"
    if whole:
        more = median(record.seconds for record in hit) - median(whole)
        text += f"; such a round took {seconds(abs(more))} {'more' if more >= 0 else 'less'}"
    return f"<code>{escape(run)}</code>: {text}."


def _guarantees(runs: Runs) -> str:
    rows = "".join(
        f"<div><dt>{key(style)}{escape(run)}</dt><dd>{escape(who_learns_what(runs[run]))}</dd></div>"
        for run, style in styles(runs).items()
        if runs[run]
    )
    if not rows:
        return ""
    more = (
        "<p class='soft'>What sums tell over many rounds, and what is not defended against, is in the"
        " threat model (docs/threat-model.md).</p>"
        if any(map(is_secure, runs.values()))
        else ""
    )
    return f'<h2>The guarantee in force</h2><dl class="facts">{rows}</dl>{more}'


# -- all numbers -----------------------------------------------------------------------------------


def _side_by_side(runs: Runs) -> str:
    if not any(runs.values()):
        return ""
    names, rows = comparison(runs)
    given = styles(runs)
    relative = "In brackets: relative to normal. " if "normal" in names and len(names) > 1 else ""
    return (
        "<h2>Side by side</h2>"
        + table("the runs side by side", ["", *names], rows, ["", *(key(given[n]) for n in names)])
        + f'<p class="soft">{relative}Final values are of the last complete round that was evaluated; bytes'
        " and seconds are means over all rounds, void ones included.</p>"
    )


def _rounds(runs: Runs) -> str:
    if not any(runs.values()):
        return ""
    return "<h2>Round by round</h2>" + "".join(
        _rounds_of(run, records) for run, records in runs.items()
    )


def _rounds_of(run: str, records: Sequence[RoundRecord]) -> str:
    names = [
        *("round", "outcome", "survivors", "trained", "dropouts", "groups"),
        *("accuracy", "loss", "up", "down", "peer to peer", "time"),
    ]
    rows = [
        (
            str(record.round),
            [
                record.outcome,
                str(record.survivors),
                str(record.contributors),
                str(record.dropouts),
                _complete(record),
                decimal(record.accuracy),
                decimal(record.loss),
                byte_size(record.bytes_up),
                byte_size(record.bytes_down),
                byte_size(record.bytes_p2p),
                seconds(record.seconds),
            ],
        )
        for record in records
    ]
    suspects = "".join(
        f"<p>Suspected: {escape(peer)}, whose groups ended void while others completed: "
        + ", ".join(f"round {round_} of run {number}" for number, round_ in rounds)
        + "</p>"
        for peer, rounds in (records[-1].suspected if records else {}).items()
    )
    return data_table(run, names, rows) + suspects


def _complete(record: RoundRecord) -> str:
    """How many groups of a round are complete; a dash where the cohort was not cut."""
    complete = sum(group.outcome == "complete" for group in record.groups)
    return f"{complete}/{len(record.groups)}" if record.groups else ABSENT


def _settings(meta: Mapping[str, Any]) -> str:
    facts = "".join(
        f"<div><dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd></div>"
        for name, value in meta.items()
        if name != "command"
    )
    again = meta.get("command")
    repeat = ""
    if again:
        repeat = f'<p>To repeat it:</p><pre tabindex="0"><code>{escape(str(again))}</code></pre>'
    if not facts and not repeat:
        return ""
    return f'<h2>Settings, and how to repeat it</h2><dl class="facts">{facts}</dl>{repeat}'


def _plain(value: object) -> str:
    """A value of JSON as one would write it: `normal 0.913, 0.915; seeded 0.910`."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if value is None or isinstance(value, float):
        return decimal(value)
    return value if isinstance(value, str) else json.dumps(value)
