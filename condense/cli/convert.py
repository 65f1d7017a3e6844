"""`condense convert`: the repeats give way to PDE layers."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from condense.cli.options import FreshOption, LayerOptions, Loading, ModelArgument
from condense.cli.session import Session
from condense.errors import CondenseError

NO_CONTROL = "no control: no block is removed; hold the converted model against the original"


def convert(
    session: Session,
    loading: Loading,
    layer: LayerOptions,
    model: ModelArgument = None,
    stages: Annotated[
        str, typer.Option(help="all, auto (those that get faster here), or names: layer1,layer3.")
    ] = "all",
    scope: Annotated[
        str,
        typer.Option(
            metavar="stage|conv",
            help="Replace the repeats of stages, or each convolution that fits (linear-mix).",
        ),
    ] = "stage",
    target: Annotated[
        str | None, typer.Option(metavar="latency=60%", help="Stop there: latency, macs or params.")
    ] = None,
    fit: Annotated[
        str | None, typer.Option(metavar="DATA", help="Fit the new layers to what they replace.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Carry out this plan instead.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the plan only.")] = False,
    fresh: FreshOption = False,
) -> None:
    """Replace the repeats of stages, or convolutions; write the converted model and its control."""
    from condense.checkpoint.in_run import load_original, open_original
    from condense.checkpoint.origin import settled_input_size
    from condense.conversion import apply, make_plan
    from condense.conversion.bounds import steps_beyond_bound
    from condense.conversion.fit import fit_to
    from condense.measurement import count_macs, count_params
    from condense.reporting.conversion import conversion_table
    from condense.run import written_whole

    run = session.run
    is_own = plan is not None and plan.resolve() == run.path("plan.json").resolve()
    written = [] if is_own else ["plan.json"]
    session.refuse_to_overwrite(*written, *([] if dry_run else ["converted.pt", "control.pt"]))
    given = read_plan(plan) if plan else None
    if model is not None:
        how = loading.to_dict()
        network = open_original(run, model, force=session.force, seed=session.seed, **how)
    else:
        network = load_original(run)
    size = settled_input_size(network)
    network = network.to(session.torch_device)
    made = given or make_plan(
        network,
        stages,
        scope=cast("Any", scope),
        target=target,
        seed=session.seed,
        input_size=size,
        fresh=fresh,
        **layer.to_dict(),
    )
    network = network.cpu()
    models = {"original": network, "converted": apply(made, network)}
    if made.has_control:
        models["control"] = apply(made.as_control(), network)
    if fit is not None and not dry_run:
        fit_to(models["converted"], network, fit, seed=session.seed)
    with written_whole(run.path("plan.json"), force=True) as path:
        path.write_text(json.dumps(made.to_dict(), indent=2) + "\n", encoding="utf-8")
    document: dict[str, Any] = {"plan": made.to_dict()}
    if not dry_run:
        _store(session, models, has_control=made.has_control)
        document["models"] = [
            {"role": role, "params": count_params(item), "macs": count_macs(item, size).total}
            for role, item in models.items()
        ]
    session.emit(document, conversion_table(document))
    for sentence in steps_beyond_bound(models["converted"]):
        session.note(sentence)
    if not made.has_control:
        session.note(NO_CONTROL)
    carry_out = f"convert --plan {shlex.quote(str(run.path('plan.json')))}"
    session.next(carry_out if dry_run else "finetune --data DATA")


def _store(session: Session, models: dict[str, Any], *, has_control: bool) -> None:
    from condense.checkpoint.in_run import store

    run, source = session.run, ("original",)
    converted = models["converted"]
    store(run, "converted", converted, made_from=source, force=True, has_control=has_control)
    if has_control:
        store(run, "control", models["control"], made_from=source, force=True)
    else:  # that of an earlier conversion would be taken for this one's
        run.path("control.pt").unlink(missing_ok=True)


def read_plan(path: Path) -> Any:
    """A plan from a file."""
    from condense.conversion import Plan

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CondenseError(
            f"{path} cannot be read: {error.strerror}",
            hint="write a plan with: condense convert --dry-run",
        ) from error
    except ValueError as error:
        raise CondenseError(
            f"{path} is not JSON, expected a plan",
            hint="write one with: condense convert --dry-run",
        ) from error
    return Plan.from_dict(values)
