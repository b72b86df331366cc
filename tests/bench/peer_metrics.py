"""Peers' side of `make bench`'s metric rows: reads a row, runs the named package once, prints seconds (-1: not installed)."""
import sys
import time
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(int(sys.argv[1]))
torch.set_grad_enabled(False)
kept = {}


def pictures(side):
    i = np.arange(3 * side * side, dtype=np.uint64)
    v = ((i * np.uint64(2654435761) >> np.uint64(13)) & np.uint64(127)) + i // np.uint64(96) % np.uint64(100)
    shape = (side, side, 3)
    return v.astype(np.uint8).reshape(shape), (v + i * np.uint64(40503) % np.uint64(17)).astype(np.uint8).reshape(shape)


def batch(side):
    return [torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float32)) for p in pictures(side)]


def features(n, d):
    if kept.get("shape") != (n, d):
        rng = np.random.default_rng(7)
        kept.update(shape=(n, d), x=rng.standard_normal((n, d)), y=rng.standard_normal((n, d)) + 0.05)
    return kept["x"], kept["y"]


def moments(x):
    return x.mean(0), np.cov(x, rowvar=False)


def frechet_eigvals(n, d):
    from torchmetrics.image.fid import _compute_fid
    x, y = (torch.from_numpy(f) for f in features(n, d))
    yield
    m1, m2 = x.mean(0), y.mean(0)
    _compute_fid(m1, (x - m1).T @ (x - m1) / (n - 1), m2, (y - m2).T @ (y - m2) / (n - 1))


def frechet_sqrtm(n, d):
    from pytorch_fid.fid_score import calculate_frechet_distance
    x, y = features(n, d)
    yield
    calculate_frechet_distance(*moments(x), *moments(y))


def kid(n, d, subsets, size):
    from torch_fidelity.metric_kid import kid_features_to_metric
    x, y = (torch.from_numpy(f).float() for f in features(n, d))
    yield
    kid_features_to_metric(x, y, kid_subsets=subsets, kid_subset_size=size, verbose=False, rng_seed=2020, kid_degree=3, kid_gamma=None, kid_coef0=1,
                           kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1, kid_kernel_rbf_sigma=10)


def inception(n):
    if "net" not in kept:
        from pytorch_fid import inception as module
        kept["net"] = inception_network(module)
    x = (torch.arange(n * 3 * 299 * 299) % 251 / 125 - 1).float().reshape(n, 3, 299, 299)
    kept["net"](x)
    yield
    kept["net"](x)


def inception_network(module):
    """pytorch-fid's modules in their order, random weights."""
    net = module._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    net.Mixed_5b = module.FIDInceptionA(192, pool_features=32)
    net.Mixed_5c = module.FIDInceptionA(256, pool_features=64)
    net.Mixed_5d = module.FIDInceptionA(288, pool_features=64)
    net.Mixed_6b = module.FIDInceptionC(768, channels_7x7=128)
    net.Mixed_6c = module.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6d = module.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6e = module.FIDInceptionC(768, channels_7x7=192)
    net.Mixed_7b = module.FIDInceptionE_1(1280)
    net.Mixed_7c = module.FIDInceptionE_2(2048)
    pool = torch.nn.MaxPool2d(3, 2)
    order = [net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3, pool, net.Conv2d_3b_1x1, net.Conv2d_4a_3x3, pool, net.Mixed_5b, net.Mixed_5c, net.Mixed_5d,
             net.Mixed_6a, net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e, net.Mixed_7a, net.Mixed_7b, net.Mixed_7c, torch.nn.AdaptiveAvgPool2d(1)]
    return torch.nn.Sequential(*order).eval()


def ssim_skimage(side):
    from skimage.metrics import structural_similarity
    a, b = pictures(side)
    yield
    structural_similarity(a, b, channel_axis=2, data_range=255)


def ssim_wang04(side):
    from skimage.metrics import structural_similarity
    a, b = pictures(side)
    yield
    structural_similarity(a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def msssim_pytorch(side):
    from pytorch_msssim import ms_ssim
    a, b = batch(side)
    yield
    ms_ssim(a, b, data_range=255)


def msssim_torchmetrics(side):
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as f
    a, b = batch(side)
    yield
    f(a, b, data_range=255.0)


def msssim_piq(side):
    from piq import multi_scale_ssim
    a, b = batch(side)
    yield
    multi_scale_ssim(a, b, data_range=255)


def lpips_pairs(n, side):
    import contextlib
    import io
    import lpips
    if "lpips" not in kept:
        with contextlib.redirect_stdout(io.StringIO()):
            kept["lpips"] = lpips.LPIPS(net="alex", pnet_rand=True).eval()
    x = (torch.arange(n * 3 * side * side) * 7919 % 251 / 125 - 1).float().reshape(n, 3, side, side)
    yield
    for i in range(n):                              # its only call takes pairs: one picture with all later ones
        if i + 1 < n:
            kept["lpips"](x[i:i + 1].expand(n - i - 1, -1, -1, -1), x[i + 1:])


ROWS = {"ssim/skimage": ssim_skimage, "ssim/wang04": ssim_wang04, "ms-ssim/pytorch_msssim": msssim_pytorch, "ms-ssim/torchmetrics": msssim_torchmetrics,
        "ms-ssim/piq": msssim_piq, "frechet/eigvals": frechet_eigvals, "frechet/sqrtm": frechet_sqrtm, "kid": kid, "inception": inception, "lpips_pairs": lpips_pairs}


def timed(row, *sizes):
    steps = ROWS[row](*sizes)
    next(steps)                                     # prepare
    start = time.perf_counter()
    next(steps, None)                               # run to the end
    return time.perf_counter() - start


for line in sys.stdin:
    name, *sizes = line.split()
    try:
        print(f"{timed(name, *map(int, sizes)):.6f}", flush=True)
    except ImportError:
        print(-1, flush=True)
