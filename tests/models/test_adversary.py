"""Accent and leakage terms: scales, masks, balances and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tune_accent.models.adversary import (
    AccentHead,
    AccentTable,
    SpeakerAdversary,
    ZHead,
    alignment,
    balanced_cross_entropy,
    reverse_gradient,
    scale_gradient,
)

SPEAKERS = {0: [0, 1, 2], 1: [3, 4], 2: [5, 6, 7, 8], 3: [9]}  # the last accent has one training speaker
ACCENT_OF = torch.tensor([accent for accent, group in SPEAKERS.items() for _ in group])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradient(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of)[0]


def batch(speakers: int = 9, utterances: int = 2) -> tuple[Tensor, Tensor]:
    """Speaker and accent numbers of a ∅-batch."""
    speaker = torch.arange(speakers).repeat_interleave(utterances)
    return speaker, ACCENT_OF[speaker]


def adversary(seed: int = 0) -> SpeakerAdversary:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpeakerAdversary(8, SPEAKERS)


def test_masked_cross_entropy_is_1_at_chance() -> None:
    speaker, accent = batch()
    assert adversary().loss(draw(18, 8), speaker, accent).item() == pytest.approx(1.0, abs=1e-6)
    for row in range(9):
        one = torch.tensor([row])
        assert adversary().loss(draw(1, 8), one, ACCENT_OF[one]).item() == pytest.approx(1.0, abs=1e-6)


def test_masked_cross_entropy_is_log_base_speakers() -> None:
    """A head that has learned something: the CE among the accent's own speakers over the log of their number."""
    head = adversary()
    head.last.weight.data = draw(*head.last.weight.shape, seed=1)
    z, speaker, accent = draw(4, 8), torch.tensor([1, 4, 4, 8]), torch.tensor([0, 1, 1, 2])
    logits = head.last(head.body(z))
    expected = [
        F.cross_entropy(
            logits[row, SPEAKERS[int(accent[row])]], torch.tensor(SPEAKERS[int(accent[row])].index(int(speaker[row])))
        )
        / math.log(len(SPEAKERS[int(accent[row])]))
        for row in range(4)
    ]
    assert head.loss(z, speaker, accent).item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-6)


def test_other_accents_speakers_are_masked() -> None:
    logits = adversary()(draw(2, 8), torch.tensor([0, 2]))
    assert logits.isfinite().tolist() == [[speaker in SPEAKERS[accent] for speaker in range(10)] for accent in (0, 2)]


def test_accents_with_one_training_speaker_are_left_out() -> None:
    head = adversary()
    head.last.weight.data = draw(*head.last.weight.shape, seed=1)
    z, speaker, accent = draw(3, 8), torch.tensor([0, 9, 5]), torch.tensor([0, 3, 2])
    kept = torch.tensor([0, 2])
    assert torch.equal(head.loss(z, speaker, accent), head.loss(z[kept], speaker[kept], accent[kept]))
    lonely = z.clone().requires_grad_()
    loss = head.loss(lonely[1:2], speaker[1:2], accent[1:2])
    assert loss == 0 and not gradient(loss, lonely).any()


def test_adversary_refuses_a_speaker_with_two_accents() -> None:
    with pytest.raises(ValueError, match="two accents"):
        SpeakerAdversary(8, {0: [0, 1], 1: [1, 2]})


def test_adversary_learns_the_speaker_from_z_that_holds_it() -> None:
    head, (speaker, accent) = adversary(), batch(utterances=4)
    z = draw(9, 8, seed=2)[speaker] + 0.1 * draw(36, 8)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(z, speaker, accent).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert head.loss(z, speaker, accent) < 0.3
    assert head.loss(1e-3 * z, speaker, accent) < 0.4, "shrinking z does not hide the speaker"


def test_gradient_reversal() -> None:
    x = draw(3, 4).requires_grad_()
    assert torch.equal(reverse_gradient(x, 0.5), x)
    plain = gradient((x**3).sum(), x)
    assert torch.equal(gradient((reverse_gradient(x, 0.5) ** 3).sum(), x), -0.5 * plain)
    assert torch.equal(gradient((scale_gradient(x, 0.25) ** 3).sum(), x), 0.25 * plain)
    assert not gradient((scale_gradient(x, 0.0) ** 3).sum(), x).any()
    assert scale_gradient(x, 1.0) is x


def test_reversed_gradient_raises_the_adversarys_loss() -> None:
    head, (speaker, accent) = adversary(), batch()
    head.last.weight.data = draw(*head.last.weight.shape, seed=1)
    z = draw(18, 8).requires_grad_()
    step = gradient(head.loss(reverse_gradient(z, 1.0), speaker, accent), z)
    assert head.loss(z - 0.05 * step, speaker, accent) > head.loss(z, speaker, accent)


def test_alignment_is_the_formula() -> None:
    z, (speaker, accent) = draw(18, 8), batch()
    total, sigma = 0.0, z.std(0, correction=0)
    for group in (SPEAKERS[0], SPEAKERS[1], SPEAKERS[2]):
        means = torch.stack([z[speaker == one].mean(0) for one in group])
        total += float((((means - means.mean(0)) / sigma) ** 2).sum())
    assert alignment(z, speaker, accent).item() == pytest.approx(total / (9 * 8), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1e3])
def test_alignment_does_not_change_with_the_scale_of_z(scale: float) -> None:
    z, (speaker, accent) = draw(18, 8), batch()
    assert alignment(scale * z + 3 * scale, speaker, accent).item() == pytest.approx(
        alignment(z, speaker, accent).item(), rel=1e-3
    )


def test_alignment_is_not_satisfied_by_shrinking() -> None:
    """Its gradient has no component along z − mean: Euler's theorem for a function of degree 0. With a detached σ it would have one."""
    z, (speaker, accent) = draw(18, 8).requires_grad_(), batch()
    slope = gradient(alignment(z, speaker, accent), z)
    centred = (z - z.mean(0)).detach()
    assert slope.norm() > 1e-2
    assert abs(float((slope * centred).sum())) < 1e-5 * float(slope.norm() * centred.norm())
    factor = torch.ones((), requires_grad=True)
    assert abs(float(gradient(alignment(factor * z.detach(), speaker, accent), factor))) < 1e-5
    detached = ((factor * z.detach())[speaker == 0].mean(0) / z.std(0).detach()).square().sum()
    assert abs(float(gradient(detached, factor))) > 0.1


def test_following_the_gradient_aligns_speakers_and_keeps_accents_apart() -> None:
    speaker, accent = batch(utterances=4)
    z = (3 * draw(3, 8, seed=3)[accent] + draw(9, 8, seed=4)[speaker] + 0.2 * draw(36, 8)).requires_grad_()
    start = alignment(z, speaker, accent).item()
    optimizer = torch.optim.Adam([z], lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        alignment(z, speaker, accent).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert alignment(z, speaker, accent).item() < 0.2 * start
    means = torch.stack([z[accent == one].mean(0) for one in range(3)])
    assert torch.pdist(means).min() > 1


def test_alignment_leaves_out_accents_with_one_speaker_in_the_batch() -> None:
    z = draw(6, 8).requires_grad_()
    speaker, accent = torch.tensor([0, 0, 1, 1, 3, 3]), torch.tensor([0, 0, 0, 0, 1, 1])
    means = torch.stack([z[:2].mean(0), z[2:4].mean(0)])
    expected = ((means - means.mean(0)) / z.std(0, correction=0)).square().mean()
    assert alignment(z, speaker, accent).item() == pytest.approx(expected.item(), rel=1e-5)
    none = alignment(z[:2], speaker[:2], accent[:2])
    assert none == 0 and not gradient(none, z).any()


def test_alignment_of_constant_z_is_finite() -> None:
    z, (speaker, accent) = torch.ones(18, 8, requires_grad=True), batch()
    value = alignment(z, speaker, accent)
    assert value == 0 and gradient(value, z).isfinite().all()


def test_alignment_refuses_a_speaker_with_two_accents() -> None:
    with pytest.raises(ValueError, match="two accents"):
        alignment(draw(4, 8), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 0]))


def test_balanced_cross_entropy_weighs_present_classes_alike() -> None:
    logits, target = draw(6, 4), torch.tensor([0, 0, 0, 0, 2, 2])
    expected = (F.cross_entropy(logits[:4], target[:4]) + F.cross_entropy(logits[4:], target[4:])) / 2
    assert balanced_cross_entropy(logits, target).item() == pytest.approx(expected.item(), abs=1e-6)
    assert balanced_cross_entropy(torch.zeros(6, 4), target).item() == pytest.approx(math.log(4), abs=1e-6)


def test_terms_are_float32_under_autocast() -> None:
    speaker, accent = batch()
    z = draw(18, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(alignment(z, speaker, accent), alignment(z.clone(), speaker, accent))
        inside = alignment(z, speaker, accent), balanced_cross_entropy(z, accent)
    assert torch.equal(inside[0], alignment(z, speaker, accent)) and torch.equal(inside[1], balanced_cross_entropy(z, accent))


def test_accent_table_is_zero_and_trains_only_the_rows_it_gave() -> None:
    table = AccentTable(3, 5)
    rows = table(torch.tensor([2, 2, 0]))
    assert rows.shape == (3, 5) and not rows.any()
    rows.sum().backward()
    assert table.weight.grad is not None and table.weight.grad.sum(1).tolist() == [5, 0, 10]


def test_heads_have_the_shapes_they_say() -> None:
    z = ZHead(128, 8)(100 * draw(4, 128) + 7)
    assert z.shape == (4, 8) and z.abs().max() < 10, "LayerNorm in front"
    assert AccentHead(8, 3)(z).shape == (4, 3)


ALL = {0: list(range(10))}  # the unconditional ablation: one group for all


def test_one_group_for_all_is_the_unconditional_adversary() -> None:
    """CE among all training speakers over the log of them all, on logits set by hand; the lone speaker of an accent counts now."""
    head = SpeakerAdversary(8, ALL)
    head.last.bias.data = torch.arange(10.0)
    speaker, group = torch.tensor([9, 0, 4]), torch.zeros(3, dtype=torch.int64)
    logsum = math.log(sum(math.exp(value) for value in range(10)))
    expected = sum(logsum - value for value in (9, 0, 4)) / 3 / math.log(10)
    assert head.loss(draw(3, 8), speaker, group).item() == pytest.approx(expected, rel=1e-5)
    assert head(draw(3, 8), group).isfinite().all()


def test_one_group_for_all_aligns_to_the_grand_mean() -> None:
    """Two accents, each of two speakers with equal z: conditionally nothing leaks; unconditionally every speaker is one sd from the grand mean."""
    z = torch.tensor([[-1.0], [-1.0], [-1.0], [1.0], [1.0], [1.0]])
    speaker, accent = torch.tensor([0, 0, 1, 3, 3, 4]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert alignment(z, speaker, accent) == 0
    assert alignment(z, speaker, torch.zeros_like(accent)).item() == pytest.approx(1.0)


def test_an_unconditional_adversary_reads_the_accent_as_speaker() -> None:
    """z that holds the accent and no speaker: given the accent there is nothing to read, without it half of log 9 is read, so accent is opposed too."""
    speaker, accent = batch(utterances=4)
    z = 3 * draw(3, 8, seed=3)[accent]
    losses = {}
    for name, groups, group in (("given", SPEAKERS, accent), ("not given", ALL, torch.zeros_like(accent))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = SpeakerAdversary(8, groups)
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            head.loss(z, speaker, group).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses[name] = head.loss(z, speaker, group).item()
    assert losses["given"] == pytest.approx(1.0, abs=0.01)
    within = sum(len(SPEAKERS[one]) * math.log(len(SPEAKERS[one])) for one in range(3)) / 9
    assert losses["not given"] == pytest.approx(within / math.log(10), abs=0.02)
