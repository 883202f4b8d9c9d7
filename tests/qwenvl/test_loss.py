"""The chunked head: torch's own cross entropy and its gradients, without the logits of more rows than a chunk."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from qwenvl.train import loss  # noqa: E402

pytestmark = pytest.mark.needs_torch

NUM_ROWS, WIDTH, VOCABULARY = 90, 16, 700


@pytest.fixture(params=[7, 90, 1000], ids=["many-chunks", "one-chunk", "chunk-not-full"])
def chunk_rows(request, monkeypatch):
    monkeypatch.setattr(loss, "count_chunk_rows", lambda vocabulary, device: request.param)
    return request.param


def build(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=dtype)
    rows = torch.randn(NUM_ROWS, WIDTH, dtype=dtype, requires_grad=True)
    return head, rows, torch.randint(0, VOCABULARY, (NUM_ROWS,))


def test_loss_and_both_gradients_equal_cross_entropy(chunk_rows):
    head, rows, targets = build()
    expected = functional.cross_entropy(head(rows), targets, reduction="sum")
    expected_rows, expected_weight = torch.autograd.grad(expected * 0.3, [rows, head.weight])
    loss.sum_in_chunks(head)
    found = head(rows, targets)
    found_rows, found_weight = torch.autograd.grad(found * 0.3, [rows, head.weight])
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(found_rows, expected_rows, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found_weight, expected_weight, rtol=1e-5, atol=1e-6)


def test_under_autocast_the_products_are_16_bit_and_the_loss_is_32_bit():
    head, rows, targets = build()
    with torch.autocast("cpu", torch.bfloat16):
        expected = functional.cross_entropy(head(rows).float(), targets, reduction="sum")
        loss.sum_in_chunks(head)
        found = head(rows, targets)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    assert rows.grad.dtype == torch.float32


def test_a_loss_scaler_s_factor_beyond_16_bits_does_not_overflow():
    head, rows, targets = build(dtype=torch.float16)
    loss.sum_in_chunks(head)
    with torch.no_grad():
        head.weight.mul_(1e-3)
    (head(rows, targets) * 2.0**17).backward()
    assert torch.isfinite(rows.grad).all()
    assert rows.grad.abs().max() > 0


def test_without_targets_the_head_still_gives_logits():
    head, rows, _ = build()
    expected = head(rows)
    loss.sum_in_chunks(head)
    assert torch.equal(head(rows), expected)


def test_no_row_is_a_loss_of_zero_that_reaches_the_weights():
    head, rows, targets = build()
    loss.sum_in_chunks(head)
    head(rows[:0], targets[:0]).backward()
    assert head.weight.grad.abs().sum() == 0
    assert rows.grad.abs().sum() == 0


def test_never_more_logits_at_once_than_a_chunk(monkeypatch):
    monkeypatch.setattr(loss, "count_chunk_rows", lambda vocabulary, device: 10)
    sizes = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in (out if isinstance(out, tuple | list) else [out]) if part is not None)
            return out

    head, rows, targets = build()
    head.weight.requires_grad_(False)
    loss.sum_in_chunks(head)
    with Record():
        head(rows, targets).backward()
    assert max(sizes) == max(10 * VOCABULARY, head.weight.numel())


@pytest.mark.parametrize(("device", "rows"), [("cpu", 220), ("cuda", 441)])
def test_a_chunk_of_qwen_s_vocabulary_holds_a_few_hundred_rows(device, rows):
    assert loss.count_chunk_rows(151_936, device) == rows
