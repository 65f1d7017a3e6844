"""`condense analyze`: what repeats in a model, and what a replacement would save."""

from typing import Annotated

import typer

from condense.cli.options import FreshOption, LayerOptions, Loading
from condense.cli.session import Session


def analyze(
    session: Session,
    loading: Loading,
    layer: LayerOptions,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model file, or torchvision:NAME.")
    ],
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="Images at a time, for the latency.")
    ] = 1,
    latency: Annotated[bool, typer.Option(help="Measure the latency on this machine.")] = True,
    fresh: FreshOption = False,
) -> None:
    """Find the stages where a model repeats itself, and measure what replacing them would save."""
    from condense.analysis import analyze as find_stages
    from condense.analysis import measure_stages
    from condense.checkpoint.in_run import open_original
    from condense.checkpoint.origin import origin_of, settled_input_size
    from condense.reporting import stages_table

    run = session.run
    how = loading.to_dict()
    network = open_original(run, model, force=session.force, seed=session.seed, **how)
    stages = find_stages(network, settled_input_size(network))
    if latency:
        network = network.to(session.torch_device)
        stages = measure_stages(
            network, stages, batch_size=batch_size, fresh=fresh, **layer.to_dict()
        )
    origin = origin_of(network)
    document = {
        "architecture": origin.architecture if origin else None,
        "input_size": list(stages.input_size),
        **stages.to_dict(),
    }
    session.emit(document, stages_table(document))
    session.next("convert --stages all" if stages.convertible else "analyze ANOTHER_MODEL")
