"""Converts a public weights file once for lk-metrics (docs/metrics.md).
usage: PYTHON tests/peers/to_safetensors.py IN.pth OUT.safetensors
Reads pt_inception-2015-12-05-6726825d.pth (pytorch-fid), weights-inception-2015-12-05-6726825d.pth (torch-fidelity), and torchvision's
vgg16, alexnet and squeezenet1_1 state dicts. Names stay; everything is binary32; nothing in the file is executed (weights_only)."""
import hashlib
import sys

import torch
from safetensors.torch import save_file

state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
state = state.get("state_dict", state)
save_file({name: value.detach().float().contiguous() for name, value in state.items() if value.is_floating_point()}, sys.argv[2])
print(sys.argv[2], "SHA-256", hashlib.sha256(open(sys.argv[2], "rb").read()).hexdigest())
