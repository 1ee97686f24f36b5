"""The kinds of panels. None can be made without a unit, a description, and what it says when empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
    xychart,
)
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.dashboard import Threshold as Step
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

from . import look

# The SDK's builders have all of their methods in common, but no class.
Panel: TypeAlias = Any


@dataclass(frozen=True)
class Words:
    """What every panel has."""

    id: int
    """Alerts link to panels by it: it stays, wherever the panel goes."""
    title: str
    description: str
    unit: str
    empty: str
    """Why there may be nothing to show, and what to do."""


@dataclass(frozen=True)
class Ask:
    """One query."""

    expr: str
    legend: str
    ref: str = ""
    """Its name; else A, B, ... by position."""


def single(words: Words, *asks: Ask, width: int = 4, height: int = 4, names: bool = False) -> Panel:
    """One number, or the legend itself in its place (`names`)."""
    panel = (
        stat.Panel()
        .color_mode(BigValueColorMode.NONE)
        .graph_mode(BigValueGraphMode.NONE)
        .text_mode(BigValueTextMode.NAME if names else BigValueTextMode.AUTO)
        .reduce_options(_last())
        .orientation(VizOrientation.AUTO)
    )
    return _with(panel, words, width, height, _queries(asks, instant=True))


def lines(
    words: Words,
    *asks: Ask,
    colours: Mapping[str, str] | None = None,
    stacked: bool = False,
    steps: bool = False,
    dashed: str = "",
    from_zero: bool = True,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Over time. `colours` by the beginning of the legend; else those of the modes.

    `steps`: a number that holds until the next one comes. `dashed`: how the legend of some lines ends.
    """
    panel = _over_time()
    panel.draw_style(GraphDrawStyle.LINE).line_width(1 if stacked else 2)
    if from_zero:
        panel.axis_soft_min(0)
    panel.line_interpolation(LineInterpolation.STEP_AFTER if steps else LineInterpolation.LINEAR)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        panel.fill_opacity(60)
    _paint(panel, look.MODES if colours is None else colours)
    if dashed:
        style = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]})
        panel.override_by_regexp(f"/{dashed}$/", [style])
    return _with(panel, words, width, height, _queries(asks))


def bars(
    words: Words,
    *asks: Ask,
    colours: Mapping[str, str] | None = None,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """What happened, over time."""
    panel = _over_time()
    panel.draw_style(GraphDrawStyle.BARS).line_width(1).fill_opacity(60).axis_soft_min(0)
    panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    _paint(panel, look.MODES if colours is None else colours)
    return _with(panel, words, width, height, _queries(asks))


def gauges(
    words: Words,
    *asks: Ask,
    colours: Mapping[str, str] | None = None,
    width: int = 8,
    height: int = 7,
    most: float | None = None,
) -> Panel:
    """One bar for each series, side by side; up to `most`."""
    panel = (
        bargauge.Panel()
        .display_mode(BarGaugeDisplayMode.BASIC)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(_last())
        .show_unfilled(True)
        .min(0)
    )
    if most is not None:
        panel.max(most)
    _plain(panel, FieldColorModeId.PALETTE_CLASSIC)
    _paint(panel, look.MODES if colours is None else colours)
    return _with(panel, words, width, height, _queries(asks, instant=True))


def stacks(
    words: Words,
    *asks: Ask,
    across: str,
    columns: Mapping[str, tuple[str, str]],
    width: int = 12,
    height: int = 8,
) -> Panel:
    """A stacked bar for each value of the label `across`; `columns`: of each query title and colour."""
    panel = (
        barchart.Panel()
        .orientation(VizOrientation.AUTO)
        .x_field(across)
        .show_value(VisibilityMode.NEVER)
        .stacking(StackingMode.NORMAL)
        .group_width(0.7)
        .bar_width(0.9)
        .fill_opacity(80)
        .x_tick_label_max_length(16)
        .legend(_legend())
        .tooltip(_tooltip())
        .transformations(_joined({ref: title for ref, (title, _) in columns.items()}))
    )
    for title, colour in columns.values():
        panel.override_by_name(title, [_fixed(colour)])
    return _with(panel, words, width, height, _queries(asks, as_table=True))


@dataclass(frozen=True)
class Column:
    """Of a table: the field that it shows, its title, unit, and where a click on it leads."""

    field: str
    title: str
    unit: str = ""
    link: tuple[str, str] | None = None
    """Title and address."""


def rows(
    words: Words, *asks: Ask, columns: Sequence[Column], width: int = 24, height: int = 8
) -> Panel:
    """A table; the results of all queries are joined by the labels that they have in common."""
    titles = {column.field: column.title for column in columns}
    panel = table.Panel().show_header(True).filterable(False)
    panel.transformations(_joined({}, titles))
    panel.sort_by([common.TableSortByFieldState().display_name(columns[0].title)])
    for column in columns:
        # The panel's own text is for a table without rows, not for a cell without a value.
        properties = [DynamicConfigValue(id_val="noValue", value="–")]
        if column.unit:
            properties.append(DynamicConfigValue(id_val="unit", value=column.unit))
        if column.link:
            title, url = column.link
            properties.append(
                DynamicConfigValue(id_val="links", value=[{"title": title, "url": url}])
            )
        panel.override_by_name(column.title, properties)
    return _with(panel, words, width, height, _queries(asks, as_table=True))


def against_round(words: Words, expr: str, width: int = 12, height: int = 9) -> Panel:
    """A line for each mode; `expr` with MODE in it gives a number for each `round`, as a label."""
    panel = (
        xychart.Panel()
        .mapping(SeriesMapping.AUTO)
        .series([xychart.XYSeriesConfig().x(_round_field())])
        .show(XYShowMode.POINTS_AND_LINES)
        .point_size(xychart.XychartFieldConfigPointSize().fixed(6))
        .line_width(2)
        .fill_opacity(60)
        .axis_placement(AxisPlacement.AUTO)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.SINGLE).sort(SortOrder.NONE))
        .transformations(
            [
                # A label is text: as text, 10 would come before 9.
                DataTransformerConfig(
                    id_val="convertFieldType",
                    options={
                        "fields": {},
                        "conversions": [{"targetField": "round", "destinationType": "number"}],
                    },
                ),
                DataTransformerConfig(
                    id_val="sortBy", options={"fields": {}, "sort": [{"field": "round"}]}
                ),
            ]
        )
    )
    asks = []
    for mode, colour in look.MODES.items():
        asks.append(Ask(expr.replace("MODE", mode), mode, ref=mode))
        # By query: the field is `Value #seeded`, or `Value` where no other mode has a round.
        name = DynamicConfigValue(id_val="displayName", value=mode)
        panel.override_by_query(mode, [name, _fixed(colour)])
    panel.override_by_name(
        "round",
        [
            DynamicConfigValue(id_val="displayName", value="round"),
            DynamicConfigValue(id_val="custom.axisLabel", value="round"),
            DynamicConfigValue(id_val="unit", value=look.COUNT),
            DynamicConfigValue(id_val="decimals", value=0),
        ],
    )
    return _with(panel, words, width, height, _queries(asks, as_table=True))


def _round_field() -> xychart.XychartXYSeriesConfigX:
    matcher = xychart.MatcherConfig().id("byName").options("round")
    return xychart.XychartXYSeriesConfigX().matcher(matcher)


def _over_time() -> Panel:
    panel = (
        timeseries.Panel()
        .show_points(VisibilityMode.AUTO)
        .point_size(5)
        .fill_opacity(0)
        .legend(_legend())
        .tooltip(_tooltip())
    )
    _plain(panel, FieldColorModeId.PALETTE_CLASSIC)
    return panel


def _with(
    panel: Panel, words: Words, width: int, height: int, queries: Sequence[prometheus.Dataquery]
) -> Panel:
    panel.id(words.id).title(words.title).description(words.description)
    panel.unit(words.unit).no_value(words.empty)
    panel.datasource(look.SOURCE).span(width).height(height)
    for query in queries:
        panel.with_target(query)
    return panel


def _queries(
    asks: Sequence[Ask], instant: bool = False, as_table: bool = False
) -> list[prometheus.Dataquery]:
    found = []
    for number, ask in enumerate(asks):
        query = prometheus.Dataquery().expr(ask.expr).legend_format(ask.legend)
        query.ref_id(ask.ref or chr(ord("A") + number)).datasource(look.SOURCE)
        if instant or as_table:
            query.instant()
        else:
            query.range()
        if as_table:
            query.format(PromQueryFormat.TABLE)
        found.append(query)
    return found


def _joined(
    titles: Mapping[str, str], fields: Mapping[str, str] | None = None
) -> list[DataTransformerConfig]:
    """One table of the results of all queries; `titles` by query, `fields` by field, in their order."""
    names = {f"Value #{ref}": title for ref, title in titles.items()} | dict(fields or {})
    order = {field: number for number, field in enumerate(fields or {})}
    options = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    return [
        DataTransformerConfig(id_val="merge", options={}),
        DataTransformerConfig(id_val="organize", options=options),
    ]


def _paint(panel: Panel, colours: Mapping[str, str]) -> None:
    for name, colour in colours.items():
        panel.override_by_regexp(f"/^{name}\\b/", [_fixed(colour)])


def _fixed(colour: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def _plain(panel: Panel, mode: FieldColorModeId) -> None:
    """No threshold is drawn: what is good and what is bad depends on the deployment."""
    panel.color_scheme(dashboard.FieldColor().mode(mode))
    steps = [Step(value=None, color=look.GREY)]
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
