"""What repeats in a model: stages by shape and dataflow, and a reason for each verdict.

    from condense.analysis import analyze
    for stage in analyze(model, (3, 32, 32)):
        print(stage.name, stage.repeats, stage.reason)

`trace` writes one run down, `blocks` gives each module call a signature, `chains` finds what
repeats, `verdicts` says what stands in the way, `measuring` times a replacement.
"""

from condense.analysis.finding import analyze
from condense.analysis.measuring import measure_stages
from condense.analysis.stages import Stage, Stages, Totals, Trial

__all__ = ["Stage", "Stages", "Totals", "Trial", "analyze", "measure_stages"]
