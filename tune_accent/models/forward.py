"""The teacher-forced forward, aligned with `generate(..., non_streaming_mode=True)`: what is trained is what will be generated.

    role (3) | think, think_bos, language, think_eos, SPEAKER, pad | text, text eos | codec_bos | frames        rows padded on the right
    codebook 0 of frame p and EOS: the talker's state at p − 1.  Codebooks 1-15 of frame p: the code predictor on that same state.

Right padding and causal attention need no mask: what follows a position never reaches it. The official fine-tuning script is misaligned in four ways;
tests/models/test_parity.py shows that none of them is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from tune_accent.base.errors import DataError
from tune_accent.models.backbone import Backbone

ACCENT_POSITION = 5  # the language id's
SPEAKER_POSITION = 7
TEXT_POSITION = 9  # of the first content token
PROMPT = TEXT_POSITION + 2  # positions before the first frame, beside the content tokens: prefix, text eos, codec_bos
CODEBOOKS = 16


@dataclass(frozen=True)
class Inputs:
    """A batch of B utterances with N frames in all, rows padded on the right to L positions. All tensors are int64 but `frames`.

    Positions named `*_at` are flat: row · L + position. Frames are in row order.

    Attributes:
        tokens: (U,) the distinct text tokens of the batch.
        text: (B, L) the token at each position, as its index in `tokens`.
        codec: (C,) control ids of the codec, and `codec_at`: (C,) where they are added.
        codes: (N, 16) codes of all frames, and `frame_at`: (N,) where they are added.
        labels: (N + B,) codebook 0 of each frame, then EOS, per row; and `label_at`: (N + B,) the positions that predict them.
        frames: (B, L) bool, positions that hold a frame.
    """

    tokens: Tensor
    text: Tensor
    codec: Tensor
    codec_at: Tensor
    codes: Tensor
    frame_at: Tensor
    labels: Tensor
    label_at: Tensor
    frames: Tensor

    @property
    def rows(self) -> int:
        """B, the number of utterances."""
        return self.text.shape[0]

    def to(self, device: torch.device | str) -> Inputs:
        """The same batch on `device`."""
        return Inputs(**{field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)})


@dataclass(frozen=True)
class Output:
    """What one forward gives.

    Attributes:
        loss_codebook0: mean CE (nats) of codebook 0 and EOS; zero where losses were not asked for.
        loss_subtalker: mean CE (nats) over codebooks 1-15 of the chosen frames; zero where losses were not asked for.
        hidden: (B, L, H) `hidden_states[layer]`: the output of decoder block `layer` − 1 (of the final norm for the last).
        frames: (B, L) bool, positions of `hidden` that hold a frame.
    """

    loss_codebook0: Tensor
    loss_subtalker: Tensor
    hidden: Tensor
    frames: Tensor


def collate(backbone: Backbone, texts: Sequence[Sequence[int]], codes: Sequence[np.ndarray], language: str | None) -> Inputs:
    """Lay out a batch as `generate` does, with a language in the prefix.

    Args:
        backbone: whose control ids are used.
        texts: content tokens per utterance (`Backbone.text_tokens`).
        codes: (T, 16) integer codes per utterance, T ≥ 1.
        language: a language of the backbone; None takes its first.

    Returns:
        The batch, on the CPU.

    Raises:
        DataError: codes of another shape, or outside the backbone's codebooks.
        ModelError: the backbone does not know the language.
    """
    for block in codes:
        _check_codes(block, backbone.codebook_size)
    flat_codes = np.concatenate([np.asarray(block, dtype=np.int64) for block in codes])
    first = np.array([PROMPT + len(tokens) for tokens in texts])  # position of the first frame, per row
    count = np.array([len(block) for block in codes])
    width = int((first + count).max())
    text = np.full((len(texts), width), backbone.model.config.tts_pad_token_id, dtype=np.int64)
    codec = np.full((len(texts), width), -1, dtype=np.int64)
    for row, tokens in enumerate(texts):
        text[row, : first[row] - 1], codec[row, : first[row]] = _prompt(backbone, tokens, backbone.language_id(language))
    position, row_start = np.arange(width), np.arange(len(texts))[:, None] * width
    frames = (position >= first[:, None]) & (position < (first + count)[:, None])
    predicts = (position >= first[:, None] - 1) & (position < (first + count)[:, None])
    labels = np.full((len(texts), width), backbone.model.config.talker_config.codec_eos_token_id, dtype=np.int64)
    labels[:, :-1][frames[:, 1:]] = flat_codes[:, 0]
    tokens_used, index = np.unique(text, return_inverse=True)
    flat = position + row_start
    arrays = {
        "tokens": tokens_used,
        "text": index.reshape(text.shape),
        "codec": codec[codec >= 0],
        "codec_at": flat[codec >= 0],
        "codes": flat_codes,
        "frame_at": flat[frames],
        "labels": labels[predicts],
        "label_at": flat[predicts],
        "frames": frames,
    }
    return Inputs(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def _check_codes(codes: np.ndarray, codebook_size: int) -> None:
    if codes.ndim != 2 or codes.shape[1] != CODEBOOKS or not len(codes):
        raise DataError(f"codes must have shape (frames ≥ 1, {CODEBOOKS}), got {codes.shape}")
    if codes.min() < 0 or codes.max() >= codebook_size:
        raise DataError(
            f"codes must lie in 0..{codebook_size - 1}, got {codes.min()}..{codes.max()}",
            fix="use the codec that the backbone was built for",
        )


def _prompt(backbone: Backbone, tokens: Sequence[int], language: int) -> tuple[list[int], list[int]]:
    """Text ids up to the text's end, and codec ids up to codec_bos (−1 where there is none: role and speaker)."""
    config = backbone.model.config
    talker = config.talker_config
    text = [*backbone.role, *[config.tts_pad_token_id] * 5, config.tts_bos_token_id, *tokens, config.tts_eos_token_id]
    prefix = [talker.codec_think_id, talker.codec_think_bos_id, language, talker.codec_think_eos_id, -1, talker.codec_pad_id]
    codec = [-1, -1, -1, *prefix, *[talker.codec_pad_id] * (len(tokens) + 1), talker.codec_bos_id]
    return text, codec


def forward(
    backbone: Backbone,
    inputs: Inputs,
    *,
    speaker: Tensor,
    accent: Tensor | None,
    layer: int,
    sub_frames: Tensor | int | None = None,
    generator: torch.Generator | None = None,
    losses: bool = True,
) -> Output:
    """One teacher-forced pass.

    Args:
        backbone: with or without an adapter attached.
        inputs: on the backbone's device.
        speaker: (B, H) S, placed at the speaker position.
        accent: (B, H) added at the language-id position; None: A = ∅.
        layer: which entry of `hidden_states` to return, 0 (input of the first block) to `backbone.layers`.
        sub_frames: frames that enter the loss of codebooks 1-15: indices into `inputs.codes`, a number to draw without replacement, or None for all.
        generator: draws them; on the CPU.
        losses: False stops after `layer` and computes no loss (when only z is wanted).
    """
    if not 0 <= layer <= backbone.layers:
        raise ValueError(f"layer must lie in 0..{backbone.layers}, got {layer}")
    embedded = embed(backbone, inputs, speaker, accent)
    last, hidden = trunk(backbone, embedded, layer, whole=losses)
    if not losses:
        zero = hidden.new_zeros((), dtype=torch.float32)
        return Output(zero, zero, hidden, inputs.frames)
    loss0 = F.cross_entropy(codebook0_logits(backbone, inputs, last).float(), inputs.labels)
    chosen = choose_frames(inputs, sub_frames, generator)
    codes = inputs.codes if chosen is None else inputs.codes[chosen]
    logits = subtalker_logits(backbone, inputs, last, chosen)
    loss1 = F.cross_entropy(logits.flatten(0, 1).float(), codes[:, 1:].flatten())
    return Output(loss0, loss1, hidden, inputs.frames)


def embed(backbone: Backbone, inputs: Inputs, speaker: Tensor, accent: Tensor | None) -> Tensor:
    """Input embeddings (B, L, H): projected text plus codec ids, the codes of every frame, S and A."""
    talker = backbone.talker
    distinct = talker.text_projection(talker.model.text_embedding(inputs.tokens))
    x = F.embedding(inputs.text, distinct.to(stream_dtype(backbone.dtype)))  # autocast must not halve the residual stream's type
    flat = x.view(-1, x.shape[-1])
    flat[inputs.codec_at] += talker.model.codec_embedding(inputs.codec).to(x.dtype)
    flat[inputs.frame_at] += _summed_codes(backbone, inputs.codes).to(x.dtype)
    x[:, SPEAKER_POSITION] += speaker.to(x.dtype)
    if accent is not None:
        x[:, ACCENT_POSITION] += accent.to(x.dtype)
    return x


def stream_dtype(weights: torch.dtype) -> torch.dtype:
    """Type of the residual stream: that of the weights, but float32 for fp16, whose range the largest activations of a trained talker leave."""
    return torch.float32 if weights == torch.float16 else weights


def _summed_codes(backbone: Backbone, codes: Tensor) -> Tensor:
    """codes (N, 16) → (N, H): the sum of their sixteen embeddings."""
    total: Tensor = backbone.talker.model.codec_embedding(codes[:, 0])
    for slot, table in enumerate(backbone.talker.code_predictor.model.codec_embedding, start=1):
        total = total + table(codes[:, slot])
    return total


def trunk(backbone: Backbone, x: Tensor, layer: int, *, whole: bool) -> tuple[Tensor, Tensor]:
    """The talker's decoder on input embeddings x (B, L, H).

    Returns:
        The state after the final norm (as far as it was computed), and `hidden_states[layer]`. Without `whole`, blocks from `layer` on are not computed.
    """
    model = backbone.talker.model
    positions = torch.arange(x.shape[1], device=x.device)
    rotary = model.rotary_emb(x, positions.expand(3, 1, -1))
    make_mask = create_causal_mask if model.config.sliding_window is None else create_sliding_window_causal_mask
    mask = make_mask(config=model.config, input_embeds=x, attention_mask=None, cache_position=positions, past_key_values=None)
    hidden = x
    for number, block in enumerate(model.layers):
        if number == layer:
            hidden = x
            if not whole:
                return x, hidden
        x = block(x, attention_mask=mask, position_embeddings=rotary, cache_position=positions, use_cache=False)[0]
    x = model.norm(x)
    return x, x if layer == len(model.layers) else hidden


def codebook0_logits(backbone: Backbone, inputs: Inputs, last: Tensor) -> Tensor:
    """(N + B, vocabulary) logits of `inputs.labels`, from the talker's final state (B, L, H)."""
    logits: Tensor = backbone.talker.codec_head(last.flatten(0, 1)[inputs.label_at])
    return logits


def choose_frames(inputs: Inputs, sub_frames: Tensor | int | None, generator: torch.Generator | None) -> Tensor | None:
    """Indices into `inputs.codes` of the frames of the sub-talker's loss; None for all."""
    if sub_frames is None or isinstance(sub_frames, Tensor):
        return sub_frames
    total = len(inputs.codes)
    if sub_frames >= total:
        return None
    return torch.randperm(total, generator=generator)[:sub_frames].sort().values.to(inputs.codes.device)


def subtalker_logits(backbone: Backbone, inputs: Inputs, last: Tensor, chosen: Tensor | None) -> Tensor:
    """(n, 15, codebook size) logits of codebooks 1-15 of the chosen frames, from the talker's final state (B, L, H).

    The code predictor reads the state that predicts codebook 0 of the frame, then codes 0-14; its head i answers at position i + 1.
    """
    predictor = backbone.talker.code_predictor
    frame_at = inputs.frame_at if chosen is None else inputs.frame_at[chosen]
    codes = inputs.codes if chosen is None else inputs.codes[chosen]
    state = last.flatten(0, 1)[frame_at - 1]
    tables = [backbone.talker.model.codec_embedding, *predictor.model.codec_embedding[: CODEBOOKS - 2]]
    sequence = torch.stack([state, *(table(codes[:, slot]).to(state.dtype) for slot, table in enumerate(tables))], dim=1)
    sequence = predictor.small_to_mtp_projection(sequence).to(sequence.dtype)
    answers = predictor.model(inputs_embeds=sequence, use_cache=False).last_hidden_state
    return torch.stack([head(answers[:, slot]) for slot, head in enumerate(predictor.lm_head, start=1)], dim=1)


def pool(hidden: Tensor, frames: Tensor) -> Tensor:
    """Mean and standard deviation over the frames of each row, in float32.

    Args:
        hidden: (B, L, H).
        frames: (B, L) bool, at least one per row.

    Returns:
        (B, 2H): [mean; std]. A floor of 1e-4 on std keeps its gradient finite where all frames are equal.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.float()
        weights = frames.to(hidden.dtype) / frames.sum(1, keepdim=True)
        mean = torch.einsum("bl,blh->bh", weights, hidden)
        variance = torch.einsum("bl,blh->bh", weights, (hidden - mean[:, None]).square())
        return torch.cat([mean, (variance + 1e-8).sqrt()], dim=1)
