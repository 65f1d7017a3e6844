"""Stages become layers: the plan, which is plain data, and the surgery that carries it out.

from condense.conversion import convert
student = convert(model, "all", layer="global", keep=1)
control = apply(student.plan.as_control(), model)
"""

from condense.conversion.budget import Target, parse_target
from condense.conversion.converting import convert
from condense.conversion.plan import Plan, Replacement
from condense.conversion.planning import make_plan
from condense.conversion.surgery import apply

__all__ = ["Plan", "Replacement", "Target", "apply", "convert", "make_plan", "parse_target"]
