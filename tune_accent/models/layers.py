"""Every asked-for layer of the frozen talker, pooled over time, from one teacher-forced pass.

text_encoder_out    the projected text embeddings over the content tokens. Qwen3-TTS has no text encoder besides: neither sound nor S is in it
decoder_block_NN    what block NN adds up to, over codec frames: `hidden_states[NN + 1]`, but for the last block, whose entry there is post-norm
pre_vocoder         the state after the final norm, over codec frames: what `codec_head` and the code predictor read
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tune_accent.base.errors import UserError
from tune_accent.models.backbone import Backbone
from tune_accent.models.forward import PROMPT, TEXT_POSITION, Inputs, forward, pool

TEXT, PRE_VOCODER = "text_encoder_out", "pre_vocoder"
DEFAULT_LAYERS = 8
Pooled = Callable[[Tensor], Tensor]


def layer_names(layers: int) -> tuple[str, ...]:
    """Names of all layers of a talker of `layers` decoder blocks, from the text to the codec head."""
    return (TEXT, *(f"decoder_block_{number:02d}" for number in range(layers)), PRE_VOCODER)


def chosen_layers(asked: Sequence[str] | None, layers: int) -> tuple[str, ...]:
    """`asked` in the order of depth, each once; for None eight layers spread evenly over the whole depth, both ends among them.

    Raises:
        UserError: a name that the talker does not have; the message lists those that it has.
    """
    names = layer_names(layers)
    if asked is None:
        count = min(DEFAULT_LAYERS, len(names))
        return tuple(names[round(place * (len(names) - 1) / (count - 1))] for place in range(count))
    if unknown := [name for name in asked if name not in names]:
        raise UserError(
            f"the backbone has no layer {', '.join(map(repr, unknown))}", where="audit.layers", fix=f"use: {', '.join(names)}"
        )
    return tuple(name for name in names if name in asked)


def depth(name: str, layers: int) -> int:
    """Orders layers: -1 for the text, NN for decoder block NN, `layers` for the state before the codec head."""
    return layer_names(layers).index(name) - 1


def search_layer(name: str, layers: int) -> int | None:
    """The value of `model.layer` with which a search reads this state; None where none does (the text, and the last block before its norm)."""
    if name == PRE_VOCODER:
        return layers
    place = depth(name, layers)
    return place + 1 if 0 <= place < layers - 1 else None


@torch.no_grad()
def pooled_layers(backbone: Backbone, inputs: Inputs, speaker: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """One pass with A = ∅, which ends at the deepest of the layers.

    Args:
        backbone: in evaluation mode.
        inputs: a batch of B utterances, on the backbone's device.
        speaker: (B, H) S.
        names: of `layer_names(backbone.layers)`.

    Returns:
        name → (B, 2H) float32 on the backbone's device: mean and standard deviation over positions (`forward.pool`).
    """
    deepest = max(depth(name, backbone.layers) for name in names) + 1
    with _taps(backbone, inputs, names) as found:
        forward(backbone, inputs, speaker=speaker, accent=None, layer=min(deepest, backbone.layers), losses=False)
    return {name: found[name] for name in names}


@contextmanager
def _taps(backbone: Backbone, inputs: Inputs, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Pool the outputs of the named modules as the forward passes by; the states themselves are not kept."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(_tap(found, name, pooled)) for name, module, pooled in _places(backbone, inputs, names)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _places(backbone: Backbone, inputs: Inputs, names: Sequence[str]) -> Iterator[tuple[str, Any, Pooled]]:
    """Of each layer: the module whose output it is, and how that is pooled."""

    def over_text(distinct: Tensor) -> Tensor:
        return pool(F.embedding(inputs.text, distinct), text_positions(inputs))

    def over_frames(states: Tensor) -> Tensor:
        return pool(states, inputs.frames)

    talker = backbone.talker
    modules = [talker.text_projection, *talker.model.layers, talker.model.norm]
    for name, module in zip(layer_names(backbone.layers), modules, strict=True):
        if name in names:
            yield name, module, over_text if name == TEXT else over_frames


def _tap(found: dict[str, Tensor], name: str, pooled: Pooled) -> Callable[[Any, Any, Any], None]:
    def hook(module: Any, arguments: Any, output: Any) -> None:
        found[name] = pooled(output[0] if isinstance(output, tuple) else output)

    return hook


def text_positions(inputs: Inputs) -> Tensor:
    """(B, L) bool: positions of the content tokens (of the text eos that follows them where a text has none)."""
    position = torch.arange(inputs.text.shape[1], device=inputs.text.device)
    tokens = inputs.frames.int().argmax(1) - PROMPT
    return (position >= TEXT_POSITION) & (position < TEXT_POSITION + tokens.clamp(min=1)[:, None])
