"""Adapter files this project writes, loaded by diffusers and PEFT: the noise prediction must be the one the golden case gives.

    python tests/peers/adapters.py [build/bin/lk-lora]

Each format is written by lk-lora from the golden PEFT file; kohya's also back from diffusers'. Relative L2 error at most 1e-4: the peers compute
in binary32 (their own error on this case is 2e-6), so that a wrong alpha, a transposed half or a module left out (errors of .01 and more) shows.
Exits 0 with a line "skipped" where a package is missing."""
import json, os, subprocess, sys, tempfile

try:
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests/golden/models")
TOOL = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin/lk-lora")
BOUND = 1e-4


def unet():
    config = UNet2DConditionModel.load_config(os.path.join(GOLDEN, "unet_sd15/config.json"))
    model = UNet2DConditionModel.from_config(config)
    model.load_state_dict(load_file(os.path.join(GOLDEN, "unet_sd15/model.safetensors")))
    return model.eval()


def metadata(path):
    with safe_open(path, "pt") as f:
        text = (f.metadata() or {}).get("lora_adapter_metadata")
    return json.loads(text) if text else None


def by_peft(path):
    return PeftModel.from_pretrained(unet(), os.path.dirname(path)).eval()


def by_diffusers(path):
    model = unet()
    model.load_lora_adapter(load_file(path), prefix="unet", metadata=metadata(path))
    return model


def by_diffusers_from_kohya(path):
    model = unet()
    state, alphas = _convert_non_diffusers_lora_to_diffusers(load_file(path))
    model.load_lora_adapter(state, prefix="unet", network_alphas=alphas)
    return model


def whole_modules(tmp, io):
    """PEFT's modules_to_save: PEFT's file, written again by lk-lora, loads in PEFT; merged by lk-lora it is what PEFT merges."""
    torch.manual_seed(3)
    model = get_peft_model(unet(), LoraConfig(r=3, lora_alpha=5, init_lora_weights=False, target_modules=["to_q", "conv1"], modules_to_save=["conv_in", "conv_norm_out", "time_emb_proj"])).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "modules_to_save" in name:
                p.add_(.1 * torch.randn_like(p))
    theirs, ours, merged = (os.path.join(tmp, "whole", n) for n in ("theirs", "ours", "merged.safetensors"))
    model.save_pretrained(theirs)
    os.makedirs(ours)
    file, base = "adapter_model.safetensors", os.path.join(GOLDEN, "unet_sd15/model.safetensors")
    subprocess.run([TOOL, "convert", f"{theirs}/{file}", f"{ours}/{file}", "format=peft", "base=" + base], check=True)
    subprocess.run([TOOL, "merge", base, merged, f"{ours}/{file}=1"], check=True)
    plain = unet()
    plain.load_state_dict(load_file(merged))
    bad = 0
    with torch.no_grad():
        inputs = io["in.sample"], io["in.timestep"], io["in.encoder_hidden_states"]
        want = model(*inputs, return_dict=False)[0]
        for name, m in ("modules_to_save", by_peft(f"{ours}/{file}")), ("modules_to_save, merged", plain):
            rel = ((m(*inputs, return_dict=False)[0] - want).norm() / want.norm()).item()
            bad += rel > BOUND
            print(f"{'ok  ' if rel <= BOUND else 'FAIL'} {name}: relative L2 error {rel:.2e}, allowed {BOUND:g}")
    return bad


def every_kind(tmp):
    """PEFT's file of each kind on the small net of make_lora_kinds.py, written again by lk-lora, loads in PEFT and gives the golden output; LyCORIS' as PEFT's too."""
    from make_lora_kinds import BIASES, KINDS, LYCORIS, OUT, Net
    base, bad = load_file(f"{OUT}/base.safetensors"), 0
    modules = os.path.join(tmp, "net.safetensors")
    save_file({k: v for k, v in base.items() if k not in ("x", "target")}, modules)
    for kind in [*KINDS, *BIASES, *LYCORIS]:
        ours = os.path.join(tmp, kind, "adapter_model.safetensors")
        os.makedirs(os.path.dirname(ours))
        how = ["resize", "rank=3"] if "locon" in kind else ["convert"]          # LoCon's Tucker form has no name in PEFT; its delta is of rank 3
        subprocess.run([TOOL, *how, f"{OUT}/{kind}/{'lora' if kind in LYCORIS else 'adapter_model'}.safetensors", ours, "format=peft", "base=" + modules], check=True, stdout=subprocess.DEVNULL)
        m, want = Net(), load_file(f"{OUT}/{kind}/case.safetensors")["out"]
        m.load_state_dict({k: v for k, v in base.items() if k not in ("x", "target")})
        models = {kind: PeftModel.from_pretrained(m, os.path.dirname(ours)).eval()}
        if kind in BIASES:
            merged = os.path.join(tmp, kind, "merged.safetensors")
            subprocess.run([TOOL, "merge", modules, merged, ours + "=1"], check=True, stdout=subprocess.DEVNULL)
            models[kind + ", merged"] = m = Net()
            m.load_state_dict(load_file(merged))
        for name, m in models.items():
            with torch.no_grad():
                rel = ((m(base["x"]) - want).norm() / want.norm()).item()
            bad += not rel <= 1e-5
            print(f"{'ok  ' if rel <= 1e-5 else 'FAIL'} {name}: relative L2 error {rel:.2e}, allowed 1e-05")
    return bad


def main():
    torch.set_num_threads(1)
    io = load_file(os.path.join(GOLDEN, "lora_formats/io.safetensors"))
    source = os.path.join(GOLDEN, "lora_formats/peft/adapter_model.safetensors")
    base = "base=" + os.path.join(GOLDEN, "unet_sd15/model.safetensors")
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        def convert(a, name, form):
            b = os.path.join(tmp, name)
            os.makedirs(os.path.dirname(b), exist_ok=True)
            subprocess.run([TOOL, "convert", a, b, "format=" + form, base], check=True)
            return b

        diffusers = convert(source, "diffusers/pytorch_lora_weights.safetensors", "diffusers")
        kohya = convert(diffusers, "kohya/lora.safetensors", "kohya")
        peft = convert(kohya, "peft/adapter_model.safetensors", "peft")
        for name, load, path in [("peft", by_peft, peft), ("diffusers", by_diffusers, diffusers), ("kohya", by_diffusers_from_kohya, kohya)]:
            with torch.no_grad():
                out = load(path)(io["in.sample"], io["in.timestep"], io["in.encoder_hidden_states"], return_dict=False)[0]
            rel = ((out - io["out.lora"]).norm() / io["out.lora"].norm()).item()
            ok = rel <= BOUND
            bad += not ok
            print(f"{'ok  ' if ok else 'FAIL'} {name}: relative L2 error {rel:.2e}, allowed {BOUND:g}")
        bad += whole_modules(tmp, io) + every_kind(tmp)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
