"""Everything that is trained beside the adapter: accent table, z head, accent classifier, speaker adversary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from tune_accent.config.schema import Objective
from tune_accent.models.adversary import AccentHead, AccentTable, SpeakerAdversary, ZHead, scale_gradient


@dataclass(frozen=True)
class Heads:
    """The modules of one trial that are not the backbone.

    Attributes:
        accents: names, in the order of the table's rows.
        table: accent embeddings e_a, zero at step 0.
        z: pooled hidden state → z.
        classifier: z → accent.
        adversary: z, accent → speaker; unconditionally z, 0 → speaker.
    """

    accents: tuple[str, ...]
    table: AccentTable
    z: ZHead
    classifier: AccentHead
    adversary: SpeakerAdversary

    def modules(self) -> Mapping[str, nn.Module]:
        """The four modules by name."""
        return {"table": self.table, "z": self.z, "classifier": self.classifier, "adversary": self.adversary}

    def train(self, mode: bool) -> None:
        """Set training or evaluation mode of all four."""
        for module in self.modules().values():
            module.train(mode)

    def encode(self, pooled: Tensor, trunk_gradient: float) -> Tensor:
        """z of pooled hidden states (B, 2H), its gradient into the trunk scaled by κ."""
        z: Tensor = self.z(scale_gradient(pooled, trunk_gradient))
        return z


def build_heads(
    accents: Sequence[str], speakers_of_group: Mapping[int, Sequence[int]], hidden: int, embedding: int, objective: Objective
) -> Heads:
    """Fresh heads from torch's current seed.

    Args:
        accents: names, in label order.
        speakers_of_group: number of a group, within which the adversary tells speakers apart → numbers of its training speakers.
        hidden: width H of the trunk; pooled states have 2H values.
        embedding: width of the talker's input embeddings.
        objective: z's width.
    """
    return Heads(
        tuple(accents),
        AccentTable(len(accents), embedding),
        ZHead(2 * hidden, objective.z_dim),
        AccentHead(objective.z_dim, len(accents)),
        SpeakerAdversary(objective.z_dim, speakers_of_group),
    )
