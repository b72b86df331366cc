#!/bin/sh
# Makes build/peers, a Python environment with the peers the checks in tests/peers and tests/bench compare with.
# Needs python3-venv and a network; everything that uses it reports SKIP where it is missing.
set -e
cd "$(dirname "$0")/../.."
python3 -m venv build/peers
build/peers/bin/pip install --quiet --upgrade pip
build/peers/bin/pip install --quiet \
    torch torchvision diffusers transformers peft lycoris-lora safetensors torchmetrics torch-fidelity pytorch-fid clean-fid piq pytorch-msssim lpips scikit-image \
    h5py xarray h5netcdf
build/peers/bin/python -c 'import torch, diffusers, peft; print("peers: torch", torch.__version__, "diffusers", diffusers.__version__, "peft", peft.__version__)'
