"""Which blocks follow one another, and which of them repeat.

A link is exact: one block's result is the value that the next one takes, through whatever
containers. The candidates are nested in each other; where several levels repeat, the outermost
plain one counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from condense.analysis.blocks import Block, candidates, lone_convolutions
from condense.analysis.verdicts import Facts, is_on_trunk, objection, overlaps_any


@dataclass(slots=True)
class Chain:
    """Blocks at one output shape.

    Args:
        blocks: In the order in which they run.
        repeats: Those that do again what a kept one did before.
        reason: Why the repeats cannot be replaced; None if they can.
    """

    blocks: list[Block]
    repeats: list[Block] = field(default_factory=list)
    reason: str | None = None


def find_chains(facts: Facts) -> list[Chain]:
    """All chains of a traced model, in the order in which they run."""
    found = candidates(facts.trace)
    chains = _repeating(found, facts)
    chains += _pairs(found, _blocks(chains), facts)
    chains += _dissimilar(found, _blocks(chains), facts)
    chains += [] if chains else _bare(lone_convolutions(facts.trace))
    chains += _single(found, _blocks(chains))
    return sorted(chains, key=lambda chain: chain.blocks[0].call.start)


def _blocks(chains: Sequence[Chain]) -> list[Block]:
    return [block for chain in chains for block in chain.blocks]


def _repeating(found: list[Block], facts: Facts) -> list[Chain]:
    runs = sorted(_equal_runs(found), key=lambda run: run[0].call.start - run[0].call.end)
    runs = [run for run in runs if not run[0].is_tiny or is_on_trunk(run[1], facts.trace)]
    plain = [run for run in runs if _objection_to_all(run[1:], run[0], facts) is None]
    accepted: list[list[Block]] = []
    for run in [*plain, *runs]:
        taken = [block for other in accepted for block in other]
        if not any(overlaps_any(block.call, taken) for block in run):
            accepted.append(run)
    accepted.sort(key=lambda run: run[0].call.start)
    taken = [block for run in accepted for block in run]
    chains = []
    for run in accepted:
        chain = _extended(run, found, taken, facts)
        taken += chain.blocks
        chains.append(chain)
    return chains


def _equal_runs(found: list[Block]) -> list[list[Block]]:
    following = {}
    for block in found:
        for other in found:
            is_next = other.source == block.result and not block.call.overlaps(other.call)
            if is_next and other.signature == block.signature:
                following[block] = other
                break
    followed = set(following.values())
    runs = []
    for block in following:
        if block not in followed:
            run = [block]
            while (after := following.get(run[-1])) is not None:
                run.append(after)
            runs.append(run)
    return runs


def _extended(run: list[Block], found: list[Block], taken: list[Block], facts: Facts) -> Chain:
    """The run with the blocks around it at the same shape, and which of the run are repeats."""
    kept_before = next((block for block in found if _leads(block, run[0])), None)
    ahead = _free(kept_before, taken)
    blocks = [*ahead, *run]
    while ahead and ahead[0].in_shape == ahead[0].out_shape:
        before = next((block for block in found if _leads(block, blocks[0])), None)
        ahead = _free(before, [*taken, *blocks])
        blocks = [*ahead, *blocks]
    while after := _free(
        next((block for block in found if _follows(block, blocks[-1], run[0])), None),
        [*taken, *blocks],
    ):
        blocks += after
    repeats = run[1:]
    why = objection(run[0], kept_before, facts) if kept_before else None
    if kept_before and why is None:
        repeats = run
    why = _objection_to_all(repeats, kept_before if repeats is run else run[0], facts)
    return Chain(blocks, repeats, why)


def _leads(block: Block, first: Block) -> bool:
    return (
        block.result == first.source
        and not block.call.overlaps(first.call)
        and block.resembles(first)
    )


def _follows(block: Block, last: Block, model_block: Block) -> bool:
    is_next = block.source == last.result and block.in_shape == block.out_shape
    return is_next and not block.call.overlaps(last.call) and block.resembles(model_block)


def _free(block: Block | None, taken: list[Block]) -> list[Block]:
    return [] if block is None or overlaps_any(block.call, taken) else [block]


def _pairs(found: list[Block], taken: list[Block], facts: Facts) -> list[Chain]:
    """Transition blocks with a single block of their kind behind them."""
    chains: list[Chain] = []
    for second in found:
        first = next((block for block in found if _leads(block, second)), None)
        after = next((block for block in found if _follows(block, second, second)), None)
        is_pair = (
            first is not None
            and after is None
            and not second.is_tiny
            and second.in_shape == second.out_shape != first.in_shape
            and not overlaps_any(first.call, [*taken, *_blocks(chains)])
            and not overlaps_any(second.call, [*taken, *_blocks(chains)])
        )
        if first is not None and is_pair and second.spatial:
            chains.append(Chain([first, second], [second], objection(second, first, facts)))
    return chains


def _dissimilar(found: list[Block], taken: list[Block], facts: Facts) -> list[Chain]:
    """Neighbours at one shape that are no chain of equal blocks, with the reason."""
    free = [b for b in found if not b.is_tiny and not overlaps_any(b.call, taken)]
    chains: list[Chain] = []
    for group in _neighbours(free):
        if not any(overlaps_any(block.call, _blocks(chains)) for block in group):
            why = _objection_to_all(group[1:], None, facts)
            chains.append(Chain(group, [], why or "its blocks differ from one another"))
    return chains


def _bare(lone: list[Block]) -> list[Chain]:
    """Convolutions at one shape that no module groups into blocks, as in VGG."""
    reason = "its repeated layers are single convolutions, which no module groups into blocks"
    groups = [g for g in _neighbours(lone) if any(b.in_shape == b.out_shape for b in g)]
    return [Chain(group, [], reason) for group in groups]


def _single(found: list[Block], taken: list[Block]) -> list[Chain]:
    """Blocks that stand alone at their shape, next to a stage."""
    chains: list[Chain] = []
    known = list(taken)
    grows = bool(known)
    while grows:
        grows = False
        for block in found:
            joins = any(b.source == block.result or b.result == block.source for b in known)
            if (
                joins
                and not block.is_tiny
                and block.spatial
                and not overlaps_any(block.call, known)
            ):
                chains.append(Chain([block], [], "there is only one block of this shape"))
                known.append(block)
                grows = True
    return chains


def _neighbours(blocks: list[Block]) -> list[list[Block]]:
    """Blocks with one parent and one output shape, executed one after the other."""
    groups: list[list[Block]] = []
    last: dict[object, list[Block]] = {}
    for block in blocks:
        group = last.get(block.call.parent)
        if group is not None and group[-1].out_shape == block.out_shape:
            group.append(block)
        else:
            group = [block]
            groups.append(group)
            last[block.call.parent] = group
    return [group for group in groups if len(group) > 1]


def _objection_to_all(blocks: list[Block], before: Block | None, facts: Facts) -> str | None:
    for block in blocks:
        if why := objection(block, before, facts):
            return why
        before = block if before is not None else None
    return None
