"""Makes tests/golden/models/lora_kinds: every kind of adapter on a small net with a grouped convolution, a 1x1 one, one of stride 2 and a linear layer.

    build/peers/bin/python tests/peers/make_lora_kinds.py [DIR]          (LyCORIS' cases need lycoris-lora)

base.safetensors: the net's weights, x, target. <kind>/adapter_model.safetensors and adapter_config.json as PEFT saves them, every value random (LyCORIS:
<kind>/lora.safetensors under kohya's keys); patterns.json: [key, module, whether PEFT takes them to match]; <kind>/case.safetensors: out; grad.x and grad.<param> of mean((out - target)^2); after.<param> behind three steps
of AdamW (lr .01, decay .02, no clipping); LyCORIS' weight decomposition: merged.safetensors, weights merged at 1 and .5; all by the peer in binary64 (LoHa's Tucker form
differentiated by torch: case_lib.py), and gap.* the relative L2 distances of its binary32 run to them
(after: of the change)."""
import contextlib
import json
import os
import re
import sys

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file

from case_lib import F32, F64, binary64
from make_lora_cases import our_name

OUT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden/models/lora_kinds")
ALL = ["grouped", "point", "conv", "to_q"]
KINDS = {
    "lora_groups": LoraConfig(r=4, lora_alpha=6, target_modules=ALL),
    "rslora_groups": LoraConfig(r=8, lora_alpha=3, use_rslora=True, target_modules=["grouped", "to_q"]),
    "dora_groups": LoraConfig(r=4, lora_alpha=5, use_dora=True, target_modules=["grouped", "conv"]),
    "loha_groups": LoHaConfig(r=2, alpha=3, target_modules=["grouped"]),
    "lokr_groups": LoKrConfig(r=1, alpha=2, target_modules=["grouped"]),
    "loha_tucker": LoHaConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=ALL),
    "lokr_tucker": LoKrConfig(r=1, alpha=2, use_effective_conv2d=True, target_modules=ALL),
    "lokr_tucker_both": LoKrConfig(r=1, alpha=3, use_effective_conv2d=True, decompose_both=True, decompose_factor=5, rank_pattern={"to_q": 2}, target_modules=["grouped", "conv", "to_q"]),
    "lora_bias": LoraConfig(r=3, lora_alpha=4, lora_bias=True, target_modules=["point", "conv", "to_q"]),
    "rsdora": LoraConfig(r=3, lora_alpha=2, use_dora=True, use_rslora=True, target_modules=["point", "conv", "to_q"]),
    "options": LoraConfig(r=2, lora_alpha=3, target_modules=r"(grouped|conv|to_\w|point)", exclude_modules=["grouped"], fan_in_fan_out=True, init_lora_weights="gaussian",
                          rank_pattern={r"to_[a-q]": 4}, alpha_pattern={r"(?:con|poin)[tv]": 7, "^to_.$": 1.5, "to_q": 9}),
}
# Made after LyCORIS' (the order is the seed's).
BIASES = {
    "bias_all": LoraConfig(r=2, lora_alpha=3, bias="all", target_modules=["point", "to_q"]),
    "bias_lora_only": LoraConfig(r=3, lora_alpha=2, bias="lora_only", use_dora=True, target_modules=["point", "conv"]),
    "bias_and_lora_bias": LoraConfig(r=2, lora_alpha=5, bias="all", lora_bias=True, use_rslora=True, target_modules=["conv", "to_q"], modules_to_save=["point"]),
}
# LyCORIS' weight decomposition, norms of rows or columns.
DECOMPOSED = {
    "lycoris_loha_wd": dict(algorithm="loha", names=ALL, lora_dim=2, alpha=3, weight_decompose=True),
    "lycoris_lokr_wd": dict(algorithm="lokr", names=["point", "conv", "to_q"], lora_dim=1, alpha=.5, use_tucker=True, decompose_both=True, factor=5, weight_decompose=True),
    "lycoris_loha_wd_in": dict(algorithm="loha", names=ALL, lora_dim=2, alpha=1, use_tucker=True, weight_decompose=True, wd_on_out=False),
    "lycoris_lokr_wd_in": dict(algorithm="lokr", names=ALL, lora_dim=1, alpha=3, weight_decompose=True, wd_on_out=False),
    "lycoris_locon_wd_in": dict(algorithm="locon", names=["point", "conv", "to_q"], lora_dim=3, alpha=2, weight_decompose=True, wd_on_out=False),
    "lycoris_locon_wd": dict(algorithm="locon", names=["point", "conv", "to_q"], lora_dim=2, alpha=3, use_tucker=True, weight_decompose=True),
}
# Keys of rank_pattern and names of modules: which match, by PEFT's own rule.
PATTERNS = ["to_q", "to_out.0", "^to_q", "attn1.to_q", "^attn1.to_q", "down.0.attn1.to_q", r"to_(q|k)", r"(?:down|mid)\.\d+\.attn1\.to_[qk]", r"attn\d\.to_\w", r".*attn1.*", "q", "to.q", r"down\.[^1]\..*q",
            r"to_[\w]+", r"[\d.]+attn1.to_q", r"down\.0.*?to_q", r"a.?ttn1\.to_q|to_k", r"to_q$", r"\S+", r"[.]to_q", r"[a-z]+[0-9]\.to_k", "", "attn2|to_q", r"\Dttn1.to_k", r"(down\.\d\.)?attn1\.to_q"]
MODULES = ["to_q", "attn1.to_q", "down.0.attn1.to_q", "down.1.attn1.to_k", "mid.12.attn1.to_q", "attn1.to_out.0", "to_outx0", "down.0.attn2.to_qq"]
LYCORIS = {
    "lycoris_loha_tucker": dict(algorithm="loha", names=ALL, lora_dim=2, alpha=3, use_tucker=True),
    "lycoris_lokr_tucker": dict(algorithm="lokr", names=["grouped", "conv", "to_q"], lora_dim=1, alpha=2, use_tucker=True),
    "lycoris_locon_tucker": dict(algorithm="locon", names=["point", "conv", "to_q"], lora_dim=3, alpha=2, use_tucker=True),
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.grouped = torch.nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.point = torch.nn.Conv2d(12, 12, 1)
        self.conv = torch.nn.Conv2d(12, 10, 3, stride=2, padding=1)
        self.to_q = torch.nn.Linear(10, 14)

    def forward(self, x):
        silu = torch.nn.functional.silu
        return self.to_q(self.conv(silu(self.point(silu(self.grouped(x))))).flatten(2).transpose(1, 2))


def precision(dtype):
    return binary64() if dtype == F64 else contextlib.nullcontext()


def net(base, dtype):
    m = Net().to(dtype)
    m.load_state_dict({k: v.to(dtype) for k, v in base.items() if k not in ("x", "target")})
    return m


def by_peft(config):
    def build(base, dtype):
        m = get_peft_model(net(base, dtype), config, autocast_adapter_dtype=False).to(dtype)
        return m, {our_name(k): p for k, p in m.named_parameters() if p.requires_grad}
    return build


def by_lycoris(algorithm, names, **options):
    from lycoris.modules.locon import LoConModule
    from lycoris.modules.loha import LohaModule
    from lycoris.modules.lokr import LokrModule

    def build(base, dtype):
        m, params = net(base, dtype), {}
        for p in m.parameters():
            p.requires_grad_(False)
        for name in names:
            wrapped = {"locon": LoConModule, "loha": LohaModule, "lokr": LokrModule}[algorithm]("lora_unet_" + name, getattr(m, name), **options).to(dtype)
            wrapped.apply_to()
            m.__dict__.setdefault("wrapped", {})[name] = wrapped
            params |= {f"{name}.{k}".replace("lora_down", "lora_A").replace("lora_up", "lora_B").replace("dora_scale", "lora_magnitude_vector"): p for k, p in wrapped.named_parameters() if "org_module" not in k}
        return m, params
    return build


def fill(params, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for k in sorted(params):
            r = torch.randn(params[k].shape, generator=g, dtype=F32)
            params[k].copy_(1 + .1 * r if k.endswith("lora_magnitude_vector") else r * (.5 if "hada" in k or "lokr" in k else .3))


def run(build, base, dtype, seed):
    with precision(dtype):
        m, params = build(base, dtype)
        fill(params, seed)
        start = {k: p.detach().clone() for k, p in params.items()}
        x, target = base["x"].detach().to(dtype, copy=True).requires_grad_(), base["target"].to(dtype)
        opt = torch.optim.AdamW(params.values(), lr=.01, weight_decay=.02)
        for step in range(3):
            opt.zero_grad()
            out = m(x)
            ((out - target) ** 2).mean().backward()
            if step == 0:
                first = out.detach().clone(), x.grad.clone(), {k: p.grad.clone() for k, p in params.items()}
            opt.step()
    return m, start, {"out": first[0], "grad.x": first[1]} | {f"grad.{k}": v for k, v in first[2].items()} | {f"after.{k}": p.detach().clone() for k, p in params.items()}


def merged_by_lycoris(build, base, seed):
    """{"<weight>.<module>": its weight} as the module's forward has it, in binary64. (get_merged_weight of 4.1's LoHa and LoKr scales the delta twice.)"""
    with precision(F64), torch.no_grad():
        m, params = build(base, F64)
        fill(params, seed)
        out = {}
        for n, w in m.wrapped.items():
            delta = w.get_weight(w.shape) * w.scalar if hasattr(w, "get_weight") else w.make_weight() * w.scale
            for u in (1, .5):
                out[f"{u}.{n}"] = w.apply_weight_decompose(w.org_weight.double() + delta, u).to(F32).contiguous()
        return out


def distance(got, want, start, part):
    a, b = (torch.cat([(t[k].double() - (start[k.removeprefix("after.")].double() if part == "after" else 0)).reshape(-1) for k in sorted(want) if k.split(".")[0] == part]) for t in (got, want))
    return torch.tensor(((a - b).norm() / b.norm()).item(), dtype=F64)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else OUT
    torch.manual_seed(5)
    base = {k: v.clone() for k, v in Net().state_dict().items()}
    base["x"], base["target"] = torch.randn(2, 8, 6, 5), torch.randn(2, 9, 14)
    os.makedirs(root, exist_ok=True)
    save_file(base, f"{root}/base.safetensors")
    json.dump([[key, m, get_pattern_key([key], m) == key and (key != m or bool(re.match(rf"(.*\.)?({key})$", m)))] for key in PATTERNS for m in MODULES], open(f"{root}/patterns.json", "w"))
    peft, lycoris = KINDS | BIASES, LYCORIS | DECOMPOSED
    for i, name in enumerate([*KINDS, *LYCORIS, *BIASES, *DECOMPOSED]):
        d = f"{root}/{name}"
        os.makedirs(d, exist_ok=True)
        build = by_peft(peft[name]) if name in peft else by_lycoris(**lycoris[name])
        _, start, truth = run(build, base, F64, 100 + i)
        m, start32, plain = run(build, base, F32, 100 + i)
        assert all(torch.equal(start[k].to(F32), start32[k]) for k in start)
        gaps = {f"gap.{part}": distance(plain, truth, start, part) for part in ("out", "grad", "after")}
        save_file({k: v.to(F32).contiguous() for k, v in truth.items()} | gaps, f"{d}/case.safetensors")
        with torch.no_grad():
            for k, p in m.named_parameters():
                if name in peft and p.requires_grad:
                    p.copy_(start32[our_name(k)])
        if name in peft:
            m.save_pretrained(d)
            os.remove(f"{d}/README.md")
            c = json.load(open(f"{d}/adapter_config.json"))
            json.dump({k: sorted(v) if isinstance(v, list) else v for k, v in c.items() if v not in (None, {}, [])}, open(f"{d}/adapter_config.json", "w"), indent=1, sort_keys=True)
        else:
            save_file({f"lora_unet_{k}".replace("lora_A", "lora_down").replace("lora_B", "lora_up").replace("lora_magnitude_vector", "dora_scale"): v.contiguous() for k, v in start32.items()} | {f"lora_unet_{n}.alpha": w.alpha.to(F32) for n, w in m.wrapped.items()}, f"{d}/lora.safetensors")
        if name in DECOMPOSED:
            save_file(merged_by_lycoris(build, base, 100 + i), f"{d}/merged.safetensors")
        print(name, {k: f"{v.item():.1e}" for k, v in gaps.items()}, {k: tuple(v.shape) for k, v in start.items()}, flush=True)


if __name__ == "__main__":
    main()
