"""Results for people and programs: plain values, tables, Markdown, CSV, HTML with pictures."""

from condense.reporting.bench import bench_html, bench_svg, bench_table
from condense.reporting.comparison import accuracy_change, compare, latency_ratios
from condense.reporting.csv_text import to_csv
from condense.reporting.html import to_html
from condense.reporting.markdown import to_markdown
from condense.reporting.recheck import recheck
from condense.reporting.report import ROLES, Entry, Role, build_report
from condense.reporting.stages import stages_table
from condense.reporting.table import to_table

__all__ = [
    "ROLES",
    "Entry",
    "Role",
    "accuracy_change",
    "bench_html",
    "bench_svg",
    "bench_table",
    "build_report",
    "compare",
    "latency_ratios",
    "recheck",
    "stages_table",
    "to_csv",
    "to_html",
    "to_markdown",
    "to_table",
]
