"""What the generators of model vectors share: random weights under the Hub's names, the peer run twice, one directory a case.

The truth is the peer in binary64: every explicit binary32 of its code is redirected while it is built and run. The gap of its plain
binary32 run against that truth, times eight, is the tolerance. What a directory
holds is read by framework/cli/golden/model_case.c."""
import contextlib
import json
import math
import os

import torch
from safetensors.torch import save_file

torch.set_num_threads(2)
F32, F64 = torch.float32, torch.float64


@contextlib.contextmanager
def binary64():
    """Inside, torch.float32 and Tensor.float() mean binary64."""
    plain = torch.Tensor.float
    torch.float32 = torch.float64
    torch.Tensor.float = lambda self, *a, **k: self.double()
    torch.set_default_dtype(F64)
    try:
        yield
    finally:
        torch.float32 = F32
        torch.Tensor.float = plain
        torch.set_default_dtype(F32)


def loha_by_torch():
    """LoHa's Tucker form as PEFT computes it, differentiated by torch. The backward pass that PEFT 0.21 has for it takes the other factor's core in the
    gradients of hada_w1_a and hada_w2_a, which are then not its forward pass's (relative L2 distances of 1 and more; LyCORIS 4.1 mended this)."""
    import peft.tuners.loha.layer

    def weight(t1, a1, b1, t2, a2, b2, scale):
        around = lambda t, a, b: torch.einsum("ijkl,ip,jr->prkl", t, a, b)
        return around(t1, a1, b1) * around(t2, a2, b2) * scale
    peft.tuners.loha.layer.make_weight_cp = weight


def randomise(model, seed, lowvar=False):
    """Every parameter random, also those that start at zero in training; norm weights 1 +- .2."""
    g = torch.Generator().manual_seed(seed)
    scale = .03 if lowvar else 1.
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            r = torch.randn(p.shape, generator=g, dtype=F64)
            fan = p[0].numel() if p.dim() > 1 else 0
            if p.dim() == 1 and "norm" in name.lower() and name.endswith("weight"):
                v = 1 + .2 * (2 * torch.rand(p.shape, generator=g, dtype=F64) - 1)
            elif p.dim() > 1 and "embed" in name and "proj" not in name and "linear" not in name:
                v = scale * r
            elif p.dim() > 1:
                v = scale * r * 1.4 / math.sqrt(fan)
            else:
                v = scale * .3 * r
            p.copy_(v.to(F32).to(p.dtype))
    return {k: v.detach().to(F32) for k, v in model.state_dict().items()}


HUB = [("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
       ("attention.v_proj", "attention.attention.value"), ("attention.o_proj", "attention.output.dense")]


def hub_name(cls, name):
    """The name a tensor has in Hub checkpoints, where transformers renamed it in memory."""
    if cls == "CLIPTextModel" and not name.startswith("text_model."):
        return "text_model." + name
    if cls == "CLIPVisionModel" and not name.startswith("vision_model."):
        return "vision_model." + name
    if cls == "Dinov2Model":
        for new, old in HUB:
            name = name.replace(new, old)
        name = name.replace("mlp.down_proj", "mlp.weights_out")
    if cls == "ViTModel":
        for new, old in HUB:
            name = name.replace(new, old)
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        return "encoder." + name.replace("layers.", "layer.") if name.startswith("layers.") else name
    return name


def fused(cls, tensors):
    """DINOv2-giant's file keeps gate and up in one matrix."""
    if cls != "Dinov2Model":
        return tensors
    out = {}
    for k, v in tensors.items():
        if "mlp.gate_proj" in k:
            out[k.replace("gate_proj", "weights_in")] = torch.cat([v, tensors[k.replace("gate_proj", "up_proj")]])
        elif "mlp.up_proj" not in k:
            out[k] = v
    return out


def gap(got, truth):
    d = (got.double() - truth.double())
    n = truth.double().norm().item()
    return {"max_abs": d.abs().max().item() if d.numel() else 0., "rms_truth": n / max(1, truth.numel()) ** .5,
            "max_truth": truth.abs().max().item() if truth.numel() else 0., "rel_l2": d.norm().item() / n if n else 0.}


def tol_of(g):
    return {"max_abs": max(8 * g["max_abs"], 1e-6 * max(1., g["max_truth"])), "rel_l2": max(8 * g["rel_l2"], 1e-6)}


STEPS = ("timestep", "guidance", "time_ids", "added_time_ids", "img_ids", "txt_ids")       # go through sinusoids, are no values to differentiate by


def run(model, call, inputs, cots, dtype):
    leaves = {k: (v.to(dtype).requires_grad_(k not in STEPS and not (k == "class_labels" and v.dim() == 1)) if v.is_floating_point() else v) for k, v in inputs.items()}
    model.zero_grad()
    outs = call(model, leaves)
    dot = sum((outs[k] * cots[k].to(dtype)).sum() for k in outs)
    dot.backward()
    grads_in = {k: v.grad for k, v in leaves.items() if v.is_floating_point()}
    return ({k: v.detach() for k, v in outs.items()}, {k: v for k, v in grads_in.items() if v is not None},
            {k: p.grad for k, p in model.named_parameters()}, dot.item())


def write_case(root, name, cls, build, call, ios, seed=7, lowvar=False, extra=None, config_extra=None, half=False, keep=3, notes=""):
    """build(): the model. ios: {"io": inputs, "io_x": inputs}. call(model, inputs) -> outputs."""
    d = os.path.join(root, name)
    os.makedirs(d, exist_ok=True)
    torch.manual_seed(seed)
    model = build().eval()
    if half:
        state = {k: v.half().to(F32) for k, v in randomise(model, seed, lowvar).items()}
        model.load_state_dict(state)
    else:
        state = randomise(model, seed, lowvar)
    with binary64():
        truth = build().eval().double()
        truth.load_state_dict({k: v.double() for k, v in state.items()})
    model.save_pretrained(d)
    for f in os.listdir(d):
        if f.endswith(".safetensors") or f.endswith(".bin"):
            os.remove(os.path.join(d, f))
    if config_extra:
        c = json.load(open(f"{d}/config.json"))
        c.update(config_extra)
        json.dump(c, open(f"{d}/config.json", "w"), indent=1)
    weights = fused(cls, {hub_name(cls, k): v.contiguous().clone() for k, v in state.items()})
    save_file({k: (v.half() if half else v) for k, v in weights.items()}, f"{d}/model.safetensors")
    case = {"cls": cls, "seed": seed, "notes": notes, "n_params": sum(p.numel() for p in model.parameters()), "io": {}, **(extra or {})}
    for key, inputs in ios.items():
        g = torch.Generator().manual_seed(seed + 100)
        with torch.no_grad():
            shapes = {k: v.shape for k, v in call(model, inputs).items()}
        cots = {k: torch.randn(s, generator=g) for k, s in shapes.items()}
        with binary64():
            outs, gin, gpar, dot = run(truth, call, inputs, cots, F64)
        o32, i32, p32, _ = run(model, call, inputs, cots, F32)
        gpar = fused(cls, {hub_name(cls, k): v for k, v in gpar.items() if v is not None}) | {hub_name(cls, k): None for k, v in gpar.items() if v is None}
        p32 = fused(cls, {hub_name(cls, k): v for k, v in p32.items() if v is not None})
        t = {f"in.{k}": (v if v.is_floating_point() else v.long()) for k, v in inputs.items()}
        t |= {f"out.{k}": v.to(F32) for k, v in outs.items()} | {f"cot.{k}": v for k, v in cots.items()} | {f"grad.in.{k}": v.to(F32) for k, v in gin.items()}
        gaps = {f"out.{k}": gap(o32[k], v) for k, v in outs.items()} | {f"grad.in.{k}": gap(i32[k], v) for k, v in gin.items()}
        shown = [k for k, v in gpar.items() if v is not None and v.norm() > 0]
        for k in [shown[0], shown[len(shown) // 2], shown[-1]][:keep]:
            t[f"grad.param.{k}"] = gpar[k].to(F32)
            gaps[f"grad.param.{k}"] = gap(p32[k], gpar[k])
        save_file({k: v.detach().contiguous().clone() for k, v in t.items()}, f"{d}/{key}.safetensors")
        case["io"][key] = {"gaps": gaps, "tol": {k: tol_of(v) for k, v in gaps.items()}, "cot_dot_out": dot,
                           "param_grad_l2_and_sum": {k: (None if v is None else [v.norm().item(), v.sum().item()]) for k, v in sorted(gpar.items())}}
    json.dump(case, open(f"{d}/case.json", "w"), indent=1)
    print("wrote", name, flush=True)
