"""kohya's fused FLUX adapters written by lk-lora, read by diffusers' own converter: the deltas must be the ones that went in.

    python tests/peers/flux_kohya.py [build/bin/lk-lora]

A PEFT adapter on every module kohya's files know, with one rank a module and with ranks and alphas of their own, and one with only to_q and
proj_mlp: lk-lora convert format=kohya-flux, then diffusers' _convert_kohya_flux_lora_to_diffusers. Also back through lk-lora itself."""
import json
import os
import subprocess
import sys
import tempfile

try:
    import torch
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
    from safetensors.torch import load_file, save_file
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin/lk-lora")
D = 3072                                       # diffusers' converter knows FLUX.1's widths
DOUBLE = {"attn.to_q": (D, D), "attn.to_k": (D, D), "attn.to_v": (D, D), "attn.add_q_proj": (D, D), "attn.add_k_proj": (D, D), "attn.add_v_proj": (D, D), "attn.to_out.0": (D, D),
          "attn.to_add_out": (D, D), "ff.net.0.proj": (4 * D, D), "ff.net.2": (D, 4 * D), "ff_context.net.0.proj": (4 * D, D), "ff_context.net.2": (D, 4 * D), "norm1.linear": (6 * D, D),
          "norm1_context.linear": (6 * D, D)}
SINGLE = {"attn.to_q": (D, D), "attn.to_k": (D, D), "attn.to_v": (D, D), "proj_mlp": (4 * D, D), "proj_out": (D, 5 * D), "norm.linear": (3 * D, D)}


def probe(a, b, scale, x):
    """scale B A x: enough to tell deltas apart, without the matrix."""
    return scale * (b.double() @ (a.double() @ x[:a.shape[1]].double()))


def main():
    torch.manual_seed(2)
    x, bad = torch.randn(5 * D), 0
    every = {f"transformer_blocks.3.{k}": v for k, v in DOUBLE.items()} | {f"single_transformer_blocks.11.{k}": v for k, v in SINGLE.items()}
    some = {k: v for k, v in every.items() if k.endswith(("single_transformer_blocks.11.attn.to_q", "11.proj_mlp", "3.attn.to_k"))}
    for name, modules, own in (("same ranks", every, False), ("ranks and alphas of their own", every, True), ("some modules", some, True)):
        with tempfile.TemporaryDirectory() as d:
            ranks = {m: (2 + i % 3 if own else 2) for i, m in enumerate(modules)}
            alphas = {m: (1. + i % 4 if own else 3.) for i, m in enumerate(modules)}
            t, want = {}, {}
            for m, (out, inner) in modules.items():
                a, b = torch.randn(ranks[m], inner), torch.randn(out, ranks[m])
                t[f"base_model.model.{m}.lora_A.weight"], t[f"base_model.model.{m}.lora_B.weight"] = a, b
                want[m] = probe(a, b, alphas[m] / ranks[m], x)
            os.makedirs(f"{d}/peft")
            save_file(t, f"{d}/peft/adapter_model.safetensors")
            json.dump({"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": list(modules), "rank_pattern": ranks, "alpha_pattern": alphas, "bias": "none"}, open(f"{d}/peft/adapter_config.json", "w"))
            for args in (["convert", f"{d}/peft/adapter_model.safetensors", f"{d}/k.safetensors", "format=kohya-flux"], ["convert", f"{d}/k.safetensors", f"{d}/back.safetensors", "format=kohya-flux"]):
                r = subprocess.run([TOOL, *args], capture_output=True, text=True)
                if r.returncode:
                    print(name, r.stderr)
                    return 1
            for which in ("k", "back"):
                got = _convert_kohya_flux_lora_to_diffusers(load_file(f"{d}/{which}.safetensors"))
                worst, zero = 0., True
                for m in every:
                    a, b = got.get(f"transformer.{m}.lora_A.weight"), got.get(f"transformer.{m}.lora_B.weight")
                    if m in want:
                        worst = max(worst, ((probe(a, b, 1., x) - want[m]).norm() / want[m].norm()).item()) if a is not None else float("nan")
                    elif a is not None:
                        zero = zero and probe(a, b, 1., x).abs().max().item() == 0
                ok = worst < 1e-6 and zero
                bad += not ok
                print(f"{name}, {which}: {len(want)} modules, worst relative difference {worst:.1e}, others zero: {zero}: {'agree' if ok else 'DIFFER'}", flush=True)
    return 1 if bad else 0


sys.exit(main())
