# SPDX-License-Identifier: Apache-2.0
"""The picture of a simulation: how many nodes were at what, over time, as an SVG file."""

import bisect
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from refloat_cli.simulate.course import Course, Sample, Standing
from refloat_contract.errors import Misconfigured

_POINTS: Final = 240
_LABELS: Final = 8
_COLOURS: Final = {
    Standing.GONE: "#7f1d1d",
    Standing.HELD: "#dc2626",
    Standing.OUT: "#9ca3af",
    Standing.REBOOTING: "#f97316",
    Standing.RETURNING: "#facc15",
    Standing.DRAINED: "#a78bfa",
    Standing.DRAINING: "#60a5fa",
    Standing.IDLE: "#d1fae5",
    Standing.JOBS: "#34d399",
}
_SHORT_S: Final = 2 * 86400.0


def write(path: Path, course: Course, title: str) -> None:
    """Draw all nodes, stacked by what they were at; what is out lies at the bottom, where it can be read off.

    Raises:
        Misconfigured: the file cannot be written.
    """
    import pygal  # noqa: PLC0415 - slow, and needed here only
    from pygal.style import Style  # noqa: PLC0415 - the same

    # It leaves an import hook behind, for maps that are not drawn here, of a kind that Python 3.11 warns of.
    sys.meta_path[:] = [hook for hook in sys.meta_path if type(hook).__module__ != "pygal"]
    times, rows = _resampled(course)
    used = [standing for standing in _COLOURS if any(row.get(standing, 0) for row in rows)]
    style = Style(
        colors=tuple(_COLOURS[standing] for standing in used),
        background="white",
        plot_background="white",
        opacity=".9",
        opacity_hover="1",
        font_family="sans-serif",
        label_font_size=13,
        major_label_font_size=13,
        title_font_size=17,
        legend_font_size=13,
    )
    chart = pygal.StackedLine(
        fill=True,
        show_dots=False,
        style=style,
        width=1000,
        height=480,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(used),
        show_minor_x_labels=False,
        truncate_label=-1,
        js=(),
        range=(0, max(sum(row.values()) for row in rows)),
    )
    chart.title = title
    chart.y_title = "nodes"
    chart.x_labels = [_label(at, course) for at in times]
    step = max(1, len(times) // _LABELS)
    chart.x_labels_major = chart.x_labels[::step]
    for standing in used:
        chart.add(str(standing), [row.get(standing, 0) for row in rows])
    try:
        path.write_bytes(chart.render())
    except OSError as error:
        raise Misconfigured(f"--plot: cannot write {path}: {error.strerror}") from error


def _resampled(course: Course) -> tuple[list[float], list[dict[Standing, int]]]:
    """The counts at even distances of time."""
    samples = course.samples
    starts = [sample.at for sample in samples]
    span_s = course.ended_at - course.began_at
    times = [course.began_at + span_s * number / _POINTS for number in range(_POINTS + 1)]
    return times, [_at(samples, starts, at).counts for at in times]


def _at(samples: list[Sample], starts: list[float], at: float) -> Sample:
    return samples[max(0, bisect.bisect_right(starts, at) - 1)]


def _label(at: float, course: Course) -> str:
    short = course.ended_at - course.began_at < _SHORT_S
    return datetime.fromtimestamp(at).astimezone().strftime("%a %H:%M" if short else "%a %d. %H:%M")
