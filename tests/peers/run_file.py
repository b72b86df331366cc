#!/usr/bin/env python3
"""Reads a run file with h5py (and xarray, h5dump, ncdump where installed) and checks the layout it promises.
   python3 tests/peers/run_file.py RUN.h5        exit 1 at the first difference"""
import hashlib, shutil, subprocess, sys
import h5py, numpy as np

path = sys.argv[1]
f = h5py.File(path, "r")
for key in "schema run_id exp status started heartbeat tier".split():
    assert isinstance(f.attrs[key], str), f"root attribute {key} is not text"
assert set(f) == {"config", "metrics", "samples", "inexact", "final", "provenance", "events", "log"}, list(f)
assert isinstance(f["config"].attrs["resolved"], str)
assert all(isinstance(v, (str, np.int64, np.float64)) for v in f["config"].attrs.values())
parts = []
for split, g in f["metrics"].items():
    for name, d in g.items():
        assert d.dtype == "<f8" and d.chunks == (1024,) and d.maxshape == (None,) and np.isnan(d.fillvalue), (split, name)
        assert d.attrs["goal"] in ("", "min", "max") and isinstance(d.attrs["units"], str) and isinstance(d.attrs["long_name"], str)
        assert name == "step" or d.dims[0][0] == g["step"], f"{split}/{name} is not on the dimension step"
        if name != "wall_s": parts.append((f"metrics/{split}/{name}", d[()]))
for name, d in f["samples"].items():
    assert d.ndim == 1
    if name == "sample": continue
    assert d.dims[0][0] == f["samples/sample"], name
    parts.append((f"samples/{name}", d.asstr()[()] if h5py.check_string_dtype(d.dtype) else d[()]))
for name, d in f["final"].items(): parts.append((f"final/{name}", d[()]))
for name, d in f["inexact"].items(): float(d[()]), float(d.attrs["tolerance"])
for name in ("events", "log"): assert h5py.check_string_dtype(f[name].dtype).encoding == "utf-8"

h = hashlib.sha256(b"likeness result 1\n")
for name, v in sorted(parts, key=lambda p: p[0].encode()):
    text = isinstance(v, np.ndarray) and v.dtype == object
    h.update(f"{name} {'text' if text else 'f64'} [{len(v) if np.ndim(v) else ''}]\n".encode())
    if text:
        for s in v: b = s.encode(); h.update(b"%d\n" % len(b) + b)
    else: h.update(np.where(np.isnan(v), np.float64("nan"), v).astype("<f8").tobytes())
def adapter(p):
    from safetensors.numpy import load_file
    for name, v in sorted(load_file(p).items(), key=lambda t: t[0].encode()):
        dtype = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64"}[str(v.dtype)]
        h.update(f"adapter/{name} {dtype} {list(v.shape)}\n".encode() + v.tobytes())
if len(sys.argv) > 2: adapter(sys.argv[2])
if "result_digest" in f.attrs:
    assert h.hexdigest() == f.attrs["result_digest"], "result_digest differs" + ("" if len(sys.argv) > 2 else " (give the adapter as second argument)")
try:
    import xarray, h5netcdf
    for split in f["metrics"]:
        x = xarray.open_dataset(path, group=f"metrics/{split}", engine="h5netcdf"); assert list(x.sizes) == ["step"], x.sizes
    x = xarray.open_dataset(path, group="samples", engine="h5netcdf"); assert list(x.sizes) == ["sample"], x.sizes
    print("xarray: read")
except ImportError as e: print("xarray: skipped,", e)
for tool in ("h5dump", "ncdump"):
    if not shutil.which(tool): print(f"{tool}: skipped, not installed"); continue
    p = subprocess.run([tool, path], capture_output=True, text=True); assert p.returncode == 0 and not p.stderr, p.stderr
    print(f"{tool}: read, {len(p.stdout)} characters")
print("run file: every check passed")
