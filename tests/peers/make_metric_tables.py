"""Metric tables of other pictures and features than tests/golden has: another salt, other sizes, other distortions, in the same layout
(images, psnr_ssim, frechet), every value by the peer that owns it; Frechet distances by singular values of the cross Gram matrix.
    build/peers/bin/python tests/peers/make_metric_tables.py OUT [salt]  &&  make golden dir=OUT
Needs numpy, scikit-image, torchmetrics, piq, pytorch-msssim (pip install pytorch-msssim beside tests/peers/setup.sh)."""
import json, os, sys, zlib
import numpy as np
import torch

torch.set_num_threads(1)
out, salt = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "other"
os.makedirs(out, exist_ok=True)
MASK = (1 << 64) - 1


def fnv(name):
    h = 0xCBF29CE484222325
    for b in (salt + name).encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def words(name, n):
    with np.errstate(over="ignore"):
        z = np.uint64(fnv(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def byte(name, n):
    return (words(name, n) >> np.uint64(56)).astype(np.int64)


def normal(name, n):
    return ((words(name, 12 * n) >> np.uint64(40)).astype(np.float64) * 2.0**-24).reshape(n, 12).sum(1) - 6


def features(name, n, d, shift):
    j = np.arange(d)
    return normal(name + "/g", n * d).reshape(n, d) * 2.0 ** -(j % 4) + normal(name + "/h", n)[:, None] * 2.0 ** -(1 + j % 3) + shift * (j % 8) / 16


def scene(name, H, W, C):
    def lattice(s):
        h, w = H // s + 2, W // s + 2
        L = byte(f"{name}/o{s}", h * w * C).reshape(h, w, C)
        y, x = np.arange(H)[:, None], np.arange(W)[None]
        fy, fx, j, i = (y % s)[..., None], (x % s)[..., None], y // s, x // s
        return (L[j, i] * (s - fx) * (s - fy) + L[j, i + 1] * fx * (s - fy) + L[j + 1, i] * (s - fx) * fy + L[j + 1, i + 1] * fx * fy) // (s * s)
    v = (4 * lattice(32) + 2 * lattice(8) + byte(name + "/o1", H * W * C).reshape(H, W, C)) // 7
    y, x = np.arange(H)[:, None, None], np.arange(W)[None, :, None]
    return np.minimum(255, v * 3 // 4 + 48 * (((x >> 4) + (y >> 4)) & 1)).astype(np.uint8)


def pair(name, H, W, C, kind):
    A = scene(name, H, W, C)
    if kind == "identical": return A, A.copy()
    if kind == "inverted": return A, 255 - A
    if kind == "shifted": return A, A[:, np.maximum(np.arange(W) - 1, 0)]
    if kind == "constant": return np.broadcast_to((100 + 10 * np.arange(C)).astype(np.uint8), (H, W, C)).copy(), np.broadcast_to((120 + 10 * np.arange(C)).astype(np.uint8), (H, W, C)).copy()
    if kind == "blurred":
        k, P = (1, 4, 6, 4, 1), A.astype(np.int64)
        P = np.pad(P, ((2, 2), (2, 2), (0, 0)), mode="edge")
        P = sum(k[i] * P[i:i + H] for i in range(5))
        P = sum(k[i] * P[:, i:i + W] for i in range(5))
        return A, ((P + 128) >> 8).astype(np.uint8)
    K = int(kind[5:])
    return A, np.clip(A.astype(np.int64) + (((byte(name + "/noise", H * W * C).reshape(H, W, C) - 128) * K) >> 7), 0, 255).astype(np.uint8)


# what tells apart the calls of one peer
CALLS = {"ssim/skimage_default": "structural_similarity(A,B,data_range=255,channel_axis=2)", "ssim/skimage_gauss_sample": "... gaussian_weights=True",
         "ssim/wang2004": "... gaussian_weights=True,sigma=1.5,use_sample_covariance=False", "ssim/piq_nodown_f64": "ssim(f64,data_range=255,downsample=False)",
         "ssim/pytorch_msssim_f64": "ssim(f64,data_range=255,win=<float64 taps>)", "ssim/pytorch_msssim_f64_f32taps": "ssim(f64,data_range=255), default float32 taps",
         "msssim/torchmetrics_nonorm_f64": "... normalize=None (f64)"}


def crc(a): return f"{zlib.crc32(np.ascontiguousarray(a).tobytes()):08x}"
def text(v): return v if isinstance(v, list) else "nan" if v != v else "inf" if v == np.inf else "-inf" if v == -np.inf else float(v)
def dump(name, value): json.dump(value, open(os.path.join(out, name + ".json"), "w"), indent=0)


def pictures():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure as tm_ssim, multiscale_structural_similarity_index_measure as tm_ms
    import piq, pytorch_msssim, warnings
    warnings.simplefilter("ignore")
    from pytorch_msssim.ssim import _fspecial_gauss_1d
    taps = torch.arange(11, dtype=torch.float64) - 5
    taps = torch.exp(-taps**2 / (2 * 1.5**2)); taps = taps / taps.sum()
    rows, entries = [], []
    sizes = [(13, 29, 3), (37, 12, 1), (64, 81, 3), (177, 176, 1), (191, 203, 3), (270, 400, 3), (385, 301, 1), (641, 200, 3)]
    for n, (H, W, C) in enumerate(sizes):
        for kind in (("noisy30", "blurred"), ("shifted", "inverted"), ("constant", "noisy77"), ("noisy15", "identical"))[n % 4]:
            name, pid = f"q/{n}", f"q{n}-{kind}"
            A, B = pair(name, H, W, C, kind)
            entries.append(dict(id=pid, H=H, W=W, C=C, kind=kind, name=name, crc_a=crc(A), crc_b=crc(B)))
            a, b = [torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[None] for x in (A, B)]
            win = taps.reshape(1, 1, 1, -1).repeat(C, 1, 1, 1)
            sk = lambda **k: structural_similarity(A, B, data_range=255, channel_axis=2, **k)
            todo = [("psnr/skimage", "scikit-image", lambda: peak_signal_noise_ratio(A, B, data_range=255), 1e-10),
                    ("psnr/piq_f64", "piq", lambda: piq.psnr(a, b, data_range=255), 1e-10),
                    ("ssim/skimage_default", "scikit-image", lambda: sk(), 1e-10),
                    ("ssim/skimage_gauss_sample", "scikit-image", lambda: sk(gaussian_weights=True), 1e-10),
                    ("ssim/wang2004", "scikit-image", lambda: sk(gaussian_weights=True, sigma=1.5, use_sample_covariance=False), 1e-10),
                    ("ssim/torchmetrics_f64", "torchmetrics", lambda: tm_ssim(a, b, data_range=255.0), 1e-9),
                    ("ssim/piq_default_f64", "piq", lambda: piq.ssim(a, b, data_range=255), 1e-9),
                    ("ssim/piq_nodown_f64", "piq", lambda: piq.ssim(a, b, data_range=255, downsample=False), 1e-9),
                    ("ssim/pytorch_msssim_f64", "pytorch-msssim", lambda: pytorch_msssim.ssim(a, b, data_range=255, win=win), 1e-9),
                    ("ssim/pytorch_msssim_f64_f32taps", "pytorch-msssim", lambda: pytorch_msssim.ssim(a, b, data_range=255), 3e-5)]
            if min(H, W) >= 176:
                todo += [("msssim/pytorch_msssim_f64", "pytorch-msssim", lambda: pytorch_msssim.ms_ssim(a, b, data_range=255, win=win), 1e-8),
                         ("msssim/piq_f64", "piq", lambda: piq.multi_scale_ssim(a, b, data_range=255), 1e-8),
                         ("msssim/torchmetrics_f64", "torchmetrics", lambda: tm_ms(a, b, data_range=255.0), 1e-8),
                         ("msssim/torchmetrics_nonorm_f64", "torchmetrics", lambda: tm_ms(a, b, data_range=255.0, normalize=None), 1e-8)]
            for what, peer, f, tol in todo:
                row = dict(id=f"{pid}/{what}", peer=peer, version="", call=CALLS.get(what, what), inputs=dict(a=pid + ":A", b=pid + ":B"), tol_abs=tol)
                try: row["value"] = text(float(f()))
                except Exception as e: row.update(value=None, error=f"{type(e).__name__}: {e}")
                rows.append(row)
    check = {"fnv1a64_conv1_weight": f"{fnv('conv1.weight'):016x}", "splitmix64_bits": [f"{int(w):016x}" for w in words("conv1.weight", 4)]}
    dump("images", dict(salt=salt, crc="zlib", rng_check=check, pairs=entries))
    dump("psnr_ssim", rows)


def truth(X, Y):
    x, y = X - X.mean(0), Y - Y.mean(0)
    s = np.linalg.svd(x @ y.T if len(x) + len(y) < 2 * X.shape[1] else np.linalg.qr(x)[1] @ np.linalg.qr(y)[1].T, compute_uv=False).sum()
    dmu2, tr = ((X.mean(0) - Y.mean(0)) ** 2).sum(), (x**2).sum() / (len(X) - 1) + (y**2).sum() / (len(Y) - 1)
    t = s / np.sqrt((len(X) - 1) * (len(Y) - 1))
    return dmu2 + tr - 2 * t, dmu2, tr, t


def distributions():
    rows = []
    for n, (nx, ny, d, sx, sy) in enumerate([(50, 61, 7, 0, 2), (300, 290, 40, 0, 1), (20, 33, 64, 1, 0), (400, 700, 256, 0, 1), (90, 80, 300, 0, 1), (500, 450, 300, 0, 1)]):
        fx, fy = [f"fd/{n}/X", nx, d, sx], [f"fd/{n}/Y", ny, d, sy]
        v, dmu2, tr, t = truth(features(*fx), features(*fy))
        rows.append(dict(id=f"fd{n}/truth", value=v, peer="numpy SVD", version=np.__version__, call="|dmu|^2 + tr S1 + tr S2 - 2*nuclear norm; covariance /(N-1)",
                         inputs=dict(X=f"fd{n}/X", Y=f"fd{n}/Y", formula=dict(X=fx, Y=fy)), tol_abs=tr * 1e-11, tol_rel=1e-10, dmu2=dmu2, tr=tr, trsqrt=t))
    dump("frechet", rows)


pictures()
distributions()
