"""Adapter files this project writes, loaded through the pipelines of diffusers: every component's output must be that of its weights with the deltas merged.

    build/peers/bin/python tests/peers/pipelines.py [build/bin/lk-lora]

The pipelines are made of the small models in tests/golden/models; adapters are drawn (a rank and alpha of their own on one module), written by lk-lora
in each format, and read by load_lora_weights (a folder and a file name, as users call it) or load_lora_adapter. The truth is W + alpha / r B A in
binary64, rounded once; what lk-lora merge gives is held to the same bound. Relative L2 error at most 1e-4: binary32 through a whole model (these give 1e-7
to 1e-5), where a missing module, a wrong alpha or a transposed half gives .01 and more.
A row begins with ok, FAIL, or, where REFUSED says so, with "refused" and the reason: what diffusers itself does not read. One that begins to work fails the
script too, so that the list stays true. Exits 0 with a line "skipped" where a package is missing."""
import fnmatch, json, logging, os, subprocess, sys, tempfile, warnings

try:
    import torch
    import diffusers
    import transformers
    from diffusers import (AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel, QwenImagePipeline, QwenImageTransformer2DModel,
                           SD3Transformer2DModel, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection
    import peft  # noqa: F401  diffusers loads adapters by it
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests/golden/models")
TOOL = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin/lk-lora")
BOUND = 1e-4
RANK, ALPHA = 3, 5.

MODELS = {"unet_sd15": UNet2DConditionModel, "unet_sdxl": UNet2DConditionModel, "sd3": SD3Transformer2DModel, "flux": FluxTransformer2DModel, "qwenimage": QwenImageTransformer2DModel,
          "clip_text": CLIPTextModel, "clip_text@5": CLIPTextModel, "clip_text_proj": CLIPTextModelWithProjection}      # @5: under the names that transformers 5 saves
ATTENTION, TEXT = ("to_q", "to_k", "to_v", "to_out.0"), ("q_proj", "k_proj", "v_proj", "out_proj", "fc1")
TARGETS = {"unet_sd15": ATTENTION + ("ff.net.2", "conv1"), "unet_sdxl": ATTENTION + ("ff.net.2",), "sd3": ATTENTION, "flux": ATTENTION, "qwenimage": ATTENTION,
           "clip_text": TEXT, "clip_text@5": TEXT, "clip_text_proj": TEXT}

# Pipeline or class, call, component, model, format, kind (as fnmatch has them): why diffusers 0.42 with transformers 5 does not read it.
REFUSED = [
    ("*Pipeline", "*", "*", "*", "peft", "*", "a pipeline looks for components' names, not for base_model.model.; PEFT itself reads these files (adapters.py)"),
    ("StableDiffusion*", "*", "unet", "*", "kohya*", "mixed", "where kohya's alphas differ, those of attention are lost between its old and new names: wrong values, no error"),
    ("StableDiffusion*", "*", "text_encoder", "clip_text", "kohya", "mixed", "the same with the names transformers 5 has no more: wrong values, no error"),
    ("*", "*", "text_encoder", "clip_text", "diffusers", "*", "transformers 5 names a lone CLIPTextModel's modules without text_model.; files of all earlier versions are refused"),
    ("StableDiffusion3Pipeline", "*", "*", "*", "kohya", "*", "SD3 has no kohya names there: nothing is read, no error"),
    ("FluxPipeline", "*", "transformer", "flux", "kohya-flux", "*", "its converter has the published model's widths written in (flux_kohya.py compares at those)"),
]


# ---- models and what they answer --------------------------------------------------------------------------------------------
RENAMED = {}                                          # model: its weights' file, where that is not the golden one


def weights_path(name):
    return RENAMED.get(name) or os.path.join(GOLDEN, name, "model.safetensors")


def model(name, state=None):
    """A golden model, with other weights where given (under the checkpoint's names)."""
    cls = MODELS[name]
    if name.startswith("clip"):
        with tempfile.TemporaryDirectory() as d:
            save_file(state or load_file(weights_path(name)), os.path.join(d, "model.safetensors"), {"format": "pt"})
            with open(os.path.join(GOLDEN, name.split("@")[0], "config.json")) as f, open(os.path.join(d, "config.json"), "w") as g:
                g.write(f.read())
            return cls.from_pretrained(d).eval()
    m = cls.from_config(cls.load_config(os.path.join(GOLDEN, name, "config.json")))
    m.load_state_dict(state or load_file(weights_path(name)))
    return m.eval()


def answer(name, m):
    x = {k[3:]: v for k, v in load_file(os.path.join(GOLDEN, name.split("@")[0], "io.safetensors")).items() if k.startswith("in.")}
    with torch.no_grad():
        if name.startswith("clip"):
            out = m(**x)
            return out.text_embeds if name == "clip_text_proj" else out.last_hidden_state
        if name == "unet_sdxl":
            x["added_cond_kwargs"] = {"text_embeds": x.pop("text_embeds"), "time_ids": x.pop("time_ids")}
        if name == "qwenimage":
            x["img_shapes"] = [(1, 3, 5)] * len(x["hidden_states"])
        return m(**x, return_dict=False)[0]


def relative(got, want):
    return ((got - want).norm() / want.norm()).item()


# ---- adapters -----------------------------------------------------------------------------------------------------------------
def drawn(name, seed, mixed):
    """{module: (A, B, r, alpha)} of the weights that TARGETS name; mixed: the first module has a rank and alpha of its own."""
    g, out = torch.Generator().manual_seed(seed), {}
    for key, w in sorted(load_file(weights_path(name)).items()):
        module = key.removesuffix(".weight")
        if module == key or w.dim() not in (2, 4) or not any(module.endswith("." + t) for t in TARGETS[name]):
            continue
        r, alpha = (2, 3.) if mixed and not out else (RANK, ALPHA)
        a = torch.randn((r, *w.shape[1:]), generator=g) / w[0].numel() ** .5
        b = torch.randn((w.shape[0], r, *((1, 1) if w.dim() == 4 else ())), generator=g) * .3
        out[module] = (a, b, r, alpha)
    return out


def merged(name, adapter):
    state = load_file(weights_path(name))
    for module, (a, b, r, alpha) in adapter.items():
        w = state[module + ".weight"]
        delta = (b.double().flatten(1) @ a.double().flatten(1)).reshape(w.shape)
        state[module + ".weight"] = (w.double() + alpha / r * delta).float()
    return state


def write_peft(adapter, path):
    first = next(iter(adapter.values()))
    config = {"peft_type": "LORA", "r": first[2], "lora_alpha": first[3], "target_modules": list(adapter), "rank_pattern": {}, "alpha_pattern": {}}
    for module, (_, _, r, alpha) in adapter.items():
        if (r, alpha) != first[2:]:
            config["rank_pattern"][module], config["alpha_pattern"][module] = r, alpha
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({f"base_model.model.{m}.lora_{h}.weight": v.contiguous() for m, (a, b, _, _) in adapter.items() for h, v in (("A", a), ("B", b))}, path)
    with open(os.path.join(os.path.dirname(path), "adapter_config.json"), "w") as f:
        json.dump(config, f)


def converted(source, name, component, form, folder):
    path = os.path.join(folder, component, form, "adapter_model.safetensors" if form == "peft" else "lora.safetensors")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if form == "kohya" and name == "qwenimage":
        component = "unet"                            # kohya's word for any denoiser, and the one that diffusers looks for here
    subprocess.run([TOOL, "convert", source, path, "format=" + form, "base=" + weights_path(name), "component=" + component], check=True, stdout=subprocess.DEVNULL)
    return path


# ---- pipelines ------------------------------------------------------------------------------------------------------------------
def vae():
    return model_of(AutoencoderKL, "vae")


def model_of(cls, name):
    m = cls.from_config(cls.load_config(os.path.join(GOLDEN, name, "config.json")))
    m.load_state_dict(load_file(weights_path(name)))
    return m.eval()


def sd15():
    return StableDiffusionPipeline(vae=vae(), text_encoder=model("clip_text"), tokenizer=None, unet=model("unet_sd15"), scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
                                   requires_safety_checker=False)


def sdxl():
    return StableDiffusionXLPipeline(vae=vae(), text_encoder=model("clip_text"), text_encoder_2=model("clip_text_proj"), tokenizer=None, tokenizer_2=None, unet=model("unet_sdxl"),
                                     scheduler=DDIMScheduler())


def sd3():
    return StableDiffusion3Pipeline(transformer=model("sd3"), scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(), text_encoder=model("clip_text_proj"), tokenizer=None,
                                    text_encoder_2=model("clip_text_proj"), tokenizer_2=None, text_encoder_3=None, tokenizer_3=None)


def flux():
    return FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(), text_encoder=model("clip_text"), tokenizer=None, text_encoder_2=None, tokenizer_2=None, transformer=model("flux"))


def qwen():
    return QwenImagePipeline(scheduler=FlowMatchEulerDiscreteScheduler(), vae=None, text_encoder=None, tokenizer=None, transformer=model("qwenimage"))


# pipeline, (component, model) each, formats
PIPELINES = [
    ("StableDiffusionPipeline", sd15, (("unet", "unet_sd15"), ("text_encoder", "clip_text"), ("text_encoder", "clip_text@5")), ("diffusers", "kohya", "peft")),
    ("StableDiffusionXLPipeline", sdxl, (("unet", "unet_sdxl"), ("text_encoder", "clip_text"), ("text_encoder", "clip_text@5"), ("text_encoder_2", "clip_text_proj")), ("diffusers", "kohya", "kohya-sgm", "peft")),
    ("StableDiffusion3Pipeline", sd3, (("transformer", "sd3"), ("text_encoder", "clip_text_proj"), ("text_encoder_2", "clip_text_proj")), ("diffusers", "kohya", "peft")),
    ("FluxPipeline", flux, (("transformer", "flux"), ("text_encoder", "clip_text"), ("text_encoder", "clip_text@5")), ("diffusers", "kohya", "kohya-flux", "peft")),
    ("QwenImagePipeline", qwen, (("transformer", "qwenimage"),), ("diffusers", "kohya", "peft")),
]


def metadata_of(path):
    """The config in a file's header, under the leading names of its tensors."""
    with safe_open(path, "pt") as f:
        held = f.metadata() or {}
    if "lora_adapter_metadata" in held:
        return json.loads(held["lora_adapter_metadata"])
    return {f"base_model.model.{k}": v for k, v in json.loads(held["adapter_config"]).items()}


def report(row, error, why):
    """error: relative L2, or None with the reason why nothing was read."""
    fine = error is not None and error <= BOUND
    known = next((r[-1] for r in REFUSED if len(row) == 6 and all(fnmatch.fnmatchcase(x, y) for x, y in zip(row, r))), None)
    if known:
        print(f"{'FAIL' if fine else 'refused'}  {', '.join(row)}: {'is read now' if fine else known} ({why or f'error {error:.2e}'})")
        return fine
    print(f"{'ok  ' if fine else 'FAIL'}  {', '.join(row)}: " + (f"relative L2 error {error:.2e}, allowed {BOUND:g}" if error is not None else why))
    return not fine


def tried(load, component, name, base, want):
    """(error, reason): what loading gave, told apart from what loaded nothing."""
    try:
        loaded = load()
    except Exception as e:  # whatever a peer raises is its refusal
        return None, f"{type(e).__name__}: {' '.join(str(e).split())[:160]}"
    got = answer(name, loaded)
    if torch.equal(got, base):
        return None, "nothing is loaded, without an error"
    return relative(got, want), ""


# One file of a denoiser and its text encoders: pipeline, (component, model) each, formats that it is written in from a trainer's kohya file.
TOGETHER = [
    ("StableDiffusionPipeline", sd15, (("unet", "unet_sd15"), ("text_encoder", "clip_text@5")), ("diffusers", "kohya")),
    ("StableDiffusionXLPipeline", sdxl, (("unet", "unet_sdxl"), ("text_encoder", "clip_text@5"), ("text_encoder_2", "clip_text_proj")), ("diffusers", "kohya", "kohya-sgm")),
]


def together(tmp, seen):
    """Every component of one file answers as merged, read by the pipeline in one call."""
    bad = 0
    for pipeline, make, parts, formats in TOGETHER:
        trainer, folder = {}, os.path.join(tmp, pipeline, "together")
        for component, name in parts:
            alone = load_file(converted(seen[name, "even"][0], name, component, "kohya", folder))
            trainer |= {k.replace("lora_te_", "lora_te1_") if len(parts) > 2 else k: v for k, v in alone.items()}
        source = os.path.join(folder, "trainer.safetensors")
        save_file(trainer, source)
        for form in formats:
            path = os.path.join(folder, form + ".safetensors")
            subprocess.run([TOOL, "convert", source, path, "format=" + form] + [f"base.{c}={weights_path(n)}" for c, n in parts], check=True, stdout=subprocess.DEVNULL)
            p = make()
            if any(n == "clip_text@5" for _, n in parts):
                p.text_encoder = model("clip_text@5")
            p.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path))
            for component, name in parts:
                _, base, want = seen[name, "even"]
                bad += report((pipeline, "together", component, name, form), *tried(lambda: getattr(p, component), component, name, base, want))
    return bad


def main():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    bad, seen = 0, {}
    with tempfile.TemporaryDirectory() as tmp:
        RENAMED["clip_text@5"] = os.path.join(tmp, "clip_text_5.safetensors")
        save_file({k.removeprefix("text_model."): v for k, v in load_file(weights_path("clip_text")).items()}, RENAMED["clip_text@5"])
        for name in MODELS:
            for kind in ("even", "mixed"):
                source = os.path.join(tmp, name, kind, "adapter_model.safetensors")
                adapter = drawn(name, len(seen), kind == "mixed")
                write_peft(adapter, source)
                out = os.path.join(tmp, name, kind, "merged.safetensors")
                subprocess.run([TOOL, "merge", weights_path(name), out, source + "=1"], check=True, stdout=subprocess.DEVNULL)
                want = answer(name, model(name, merged(name, adapter)))
                base = answer(name, model(name))
                if relative(base, want) < 100 * BOUND:
                    raise SystemExit(f"{name}: the drawn adapter changes too little to tell")
                bad += report((name, "lk-lora merge", kind), relative(answer(name, model(name, load_file(out))), want), "")
                seen[name, kind] = source, base, want
        for pipeline, make, parts, formats in PIPELINES:
            for component, name, form, kind in ((c, n, f, k) for c, n in parts for f in formats for k in ("even", "mixed")):
                if form not in ("kohya-sgm", "kohya-flux") or component in ("unet", "transformer"):
                    source, base, want = seen[name, kind]
                    path = converted(source, name, component, form, os.path.join(tmp, pipeline, kind))

                    def by_pipeline():
                        p = make()
                        p.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path))
                        return getattr(p, component)
                    bad += report((pipeline, "load_lora_weights", component, name, form, kind), *tried(by_pipeline, component, name, base, want))
                    if component not in ("unet", "transformer") or form.startswith("kohya"):
                        continue

                    def by_model():
                        m = model(name)
                        m.load_lora_adapter(load_file(path), prefix=component if form == "diffusers" else "base_model.model", metadata=metadata_of(path))
                        return m
                    bad += report((MODELS[name].__name__, "load_lora_adapter", component, name, form, kind), *tried(by_model, component, name, base, want))
        bad += together(tmp, seen)
    print(f"{bad} failed")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
