"""The peer's side of bench_contract.c: the same lines on stdin, seconds on stdout, by PyTorch (oneDNN, MKL).
Usage: peer_contract.py THREADS"""
import sys, time
import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(1)
now = time.thread_time if int(sys.argv[1]) == 1 else time.perf_counter


def call_of(kind, a):
    if kind.startswith("conv"):
        n, c, h, w, o, k, s, p, g = a
        x, f = torch.randn(n, c, h, w), torch.randn(o, c // g, k, k)
        if not ("_dx" in kind or "_dw" in kind):
            return lambda: F.conv2d(x, f, None, s, p, 1, g)
        dy = torch.randn_like(F.conv2d(x, f, None, s, p, 1, g))
        mask = [("_dx" in kind), ("_dw" in kind), False]
        return lambda: torch.ops.aten.convolution_backward(dy, x, f, None, [s, s], [p, p], [1, 1], False, [0, 0], g, mask)
    if kind.startswith("sdpa"):
        b, h, tq, tk, d = a
        q, k, v = torch.randn(b, h, tq, d), torch.randn(b, h, tk, d), torch.randn(b, h, tk, d)
        return lambda: F.scaled_dot_product_attention(q, k, v)
    m, k, n = a
    x = torch.randn(k, m).t() if kind[0] == "t" else torch.randn(m, k)
    y = torch.randn(n, k).t() if kind[1] == "t" else torch.randn(k, n)
    return lambda: x @ y


with torch.no_grad():
    for line in sys.stdin:
        words = line.split()
        call = call_of(words[0], [int(x) for x in words[1:]])
        best, start, i = 1e9, now(), 0
        while i < 3 or (now() - start < 0.06 and i < 2000):
            t = now()
            call()
            best = min(best, now() - t)
            i += 1
        print(f"{best:.9f}", flush=True)
