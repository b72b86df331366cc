"""More LoRA cases of the layout of tests/golden/models/lora_*: training trajectories, files of one adapter in every format, mixtures.

    build/peers/bin/python tests/peers/make_lora_cases.py DIR [SEED] [PART of a name]
    make golden dir=DIR

Sizes, ranks, alphas, targets, schedules and orders differ from the committed cases, and with SEED also the numbers. Truth is PEFT in binary64; the gap
of its binary32 run, times eight, is the tolerance (case_lib.py), and of trained values at least what AdamW makes of the gradient's rounding (magnified)."""
import json
import os
import sys
import traceback

import diffusers
import numpy
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from case_lib import F32, F64, binary64, gap, loha_by_torch, randomise, tol_of, write_case

loha_by_torch()

CROSS, PLAIN, UCROSS, UPLAIN = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
UNET = dict(sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=10, attention_head_dim=2,
            down_block_types=(CROSS, PLAIN), up_block_types=(UPLAIN, UCROSS))
SDXL = dict(UNET, block_out_channels=(8, 12, 16), layers_per_block=2, down_block_types=(PLAIN, CROSS, CROSS), up_block_types=(UCROSS, UCROSS, UPLAIN), attention_head_dim=[2, 3, 4],
            transformer_layers_per_block=[1, 1, 2], use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=44)
QWEN = dict(patch_size=2, in_channels=8, out_channels=2, num_layers=2, attention_head_dim=12, num_attention_heads=2, joint_attention_dim=10, axes_dims_rope=(2, 4, 6))
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
WIDE = ATTENTION + ["conv1", "conv2", "proj_in", "proj_out"]


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- bases --------------------------------------------------------------------------------------------------------------------
def unet_call(m, i):
    added = {k: i[k] for k in ("text_embeds", "time_ids") if k in i}
    return {"sample": m(i["sample"], i["timestep"], i["encoder_hidden_states"], added_cond_kwargs=added or None).sample}


def qwen_call(m, i):
    return {"sample": m(i["hidden_states"], i["encoder_hidden_states"], None, i["timestep"], [[(1, 3, 4)]] * i["hidden_states"].shape[0]).sample}


BASES = {
    "base_unet": ("UNet2DConditionModel", lambda: diffusers.UNet2DConditionModel(**UNET), unet_call, {}),
    "base_sdxl": ("UNet2DConditionModel", lambda: diffusers.UNet2DConditionModel(**SDXL), unet_call, {}),
    "base_qwen": ("QwenImageTransformer2DModel", lambda: diffusers.QwenImageTransformer2DModel(**QWEN), qwen_call, {"extra": {"img_shapes": [[1, 3, 4]]}}),
}


def base_inputs(name, seed):
    if name == "base_qwen":
        return dict(hidden_states=randn(seed, 2, 12, 8), encoder_hidden_states=randn(seed + 1, 2, 6, 10), timestep=torch.tensor([.2, .9]))
    i = dict(sample=randn(seed, 2, 4, 6, 8), timestep=torch.tensor([3., 777.]), encoder_hidden_states=randn(seed + 1, 2, 5, 10))
    if name == "base_sdxl":
        i |= dict(text_embeds=randn(seed + 2, 2, 8), time_ids=torch.tensor([[64., 48, 0, 3, 64, 64], [30., 20, 5, 0, 64, 32]]))
    return i


def base_model(name, dtype):
    build = BASES[name][1]
    if dtype == F64:
        with binary64():
            m = build().eval().double()
    else:
        m = build().eval()
    m.load_state_dict({k: v.to(dtype) for k, v in load_file(os.path.join(ROOT, name, "model.safetensors")).items()})
    return m


# ---- adapters -----------------------------------------------------------------------------------------------------------------
def config_of(h):
    kind = h.get("peft_type", "LORA")
    common = dict(r=h["r"], target_modules=list(h["targets"]), rank_pattern=dict(h.get("rank_pattern", {})), alpha_pattern=dict(h.get("alpha_pattern", {})), modules_to_save=h.get("modules_to_save"))
    if kind == "LORA":
        return LoraConfig(lora_alpha=h["lora_alpha"], use_rslora=h.get("use_rslora", False), use_dora=h.get("use_dora", False), lora_bias=h.get("lora_bias", False), bias=h.get("bias", "none"), init_lora_weights=True, **common)
    common["use_effective_conv2d"] = h.get("use_effective_conv2d", False)
    if kind == "LOHA":
        return LoHaConfig(alpha=h["lora_alpha"], **common)
    return LoKrConfig(alpha=h["lora_alpha"], decompose_both=h.get("decompose_both", False), decompose_factor=h.get("decompose_factor", -1), **common)


def our_name(name):
    name = name.removeprefix("base_model.model.").replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(".default", "")
    if name.endswith(".bias") and not name.endswith((".base_layer.bias", ".lora_B.bias", ".modules_to_save.bias")) and ".modules_to_save." not in name:
        return name.removesuffix("bias") + "base_layer.bias"       # a trained bias of a module that is not adapted
    if ".modules_to_save." not in name:
        return name
    outer, inner = name.split(".modules_to_save.")                 # where a block is saved: "mid_block.modules_to_save.norm.weight"
    module, _, leaf = f"{outer}.{inner}".rpartition(".")
    return f"{module}.modules_to_save.{leaf}"


def adapted(base, h, dtype, seed):
    """The base with a fresh adapter whose every value is random; names as ours; the same values in both dtypes."""
    context = binary64() if dtype == F64 else __import__("contextlib").nullcontext()
    with context:
        m = get_peft_model(base_model(base, dtype), config_of(h), autocast_adapter_dtype=False).to(dtype)
    params = {our_name(k): p for k, p in m.named_parameters() if p.requires_grad}
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for k in sorted(params):
            r = torch.randn(params[k].shape, generator=g)
            if "modules_to_save" in k:
                continue                                    # starts as the base's
            elif k.endswith("lora_magnitude_vector"):
                params[k].copy_(1.4 * (1 + .1 * r))          # near the rows' norms, not equal to them
            else:
                params[k].copy_(r * (.3 if "hada" in k or "lokr" in k else .2))
    return m, params


# ---- training -----------------------------------------------------------------------------------------------------------------
def alphas_cumprod(s):
    n = s["num_train_timesteps"]
    if s["beta_schedule"] == "linear":
        betas = torch.linspace(s["beta_start"], s["beta_end"], n, dtype=F64)
    else:
        betas = torch.linspace(s["beta_start"] ** .5, s["beta_end"] ** .5, n, dtype=F64) ** 2
    return torch.cumprod(1 - betas, 0)


def batches(seed):
    t = {}
    g = torch.Generator().manual_seed(seed)
    for i in range(12):
        t[f"x0.{i}"], t[f"noise.{i}"] = torch.randn(2, 4, 4, 6, generator=g), torch.randn(2, 4, 4, 6, generator=g)
        t[f"t.{i}"], t[f"text.{i}"] = torch.randint(0, 1000, (2,), generator=g), torch.randn(2, 7, 10, generator=g)
        t[f"offset_draw.{i}"] = torch.randn(2, 4, 1, 1, generator=g)
        t[f"qwen.x0.{i}"], t[f"qwen.noise.{i}"] = torch.randn(2, 12, 8, generator=g), torch.randn(2, 12, 8, generator=g)
        t[f"qwen.sigma.{i}"], t[f"qwen.text.{i}"] = torch.rand(2, generator=g), torch.randn(2, 6, 10, generator=g)
    return t


def micro_loss(m, h, b, i, dtype):
    qwen = h["base"].endswith("qwen")
    p = "qwen." if qwen else ""
    x0, noise, text = (b[f"{p}{k}.{i}"].to(dtype) for k in ("x0", "noise", "text"))
    if qwen:
        s = b[f"qwen.sigma.{i}"].to(dtype)
        out = qwen_call(m, dict(hidden_states=(1 - s[:, None, None]) * x0 + s[:, None, None] * noise, encoder_hidden_states=text, timestep=s))["sample"]
        return ((out - (noise - x0)) ** 2).mean()
    if h["noise_offset"]:
        noise = noise + h["noise_offset"] * b[f"offset_draw.{i}"].to(dtype)
    t = b[f"t.{i}"]
    ac = alphas_cumprod(h["scheduler"])[t]
    a, s = ac.sqrt().to(dtype)[:, None, None, None], (1 - ac).sqrt().to(dtype)[:, None, None, None]
    out = m(a * x0 + s * noise, t, text).sample
    target = a * noise - s * x0 if h["prediction_type"] == "v_prediction" else x0 if h["prediction_type"] == "sample" else noise
    each = ((out - target) ** 2).mean((1, 2, 3))
    if h["snr_gamma"]:
        snr = ac / (1 - ac)
        w = snr.clamp(max=h["snr_gamma"])
        w = w / (snr + 1) if h["prediction_type"] == "v_prediction" else w if h["prediction_type"] == "sample" else w / snr
        each = each * w.to(dtype)
    return each.mean()


def train(base, h, b, dtype, seed, snapshots):
    m, params = adapted(base, h, dtype, seed)
    start = {k: v.detach().clone() for k, v in params.items()}
    order = list(params)
    o = h["optimizer"]
    opt = torch.optim.AdamW([params[k] for k in order], lr=o["lr"], betas=o["betas"], weight_decay=o["weight_decay"], eps=o["eps"])
    lr = diffusers.optimization.get_scheduler(h["lr_schedule"], opt, num_warmup_steps=h["warmup_steps"], num_training_steps=h["steps"])
    rows, after, grad1 = [], {}, {}
    with binary64() if dtype == F64 else __import__("contextlib").nullcontext():
        for step in range(h["steps"]):
            opt.zero_grad()
            micro = []
            for k in range(h["grad_accum"]):
                loss = micro_loss(m, h, b, step * h["grad_accum"] + k, dtype)
                (loss / h["grad_accum"]).backward()
                micro.append(loss.item())
            if step == 0:
                grad1 = {k: (p.grad if p.grad is not None else torch.zeros_like(p)).detach().clone() for k, p in params.items()}
            norm = torch.nn.utils.clip_grad_norm_(list(params.values()), h["grad_clip_norm"] or 1e30).item()
            rate = opt.param_groups[0]["lr"]
            opt.step()
            lr.step()
            rows.append(dict(step=step + 1, lr=rate, loss=sum(micro) / len(micro), grad_norm=norm, micro_losses=micro))
            if step + 1 in snapshots:
                after[step + 1] = {k: p.detach().clone() for k, p in params.items()}
    return start, rows, grad1, after


def flat(d):
    return torch.cat([d[k].reshape(-1).double() for k in sorted(d)])


def magnified(h, row, grad, grad32):
    """What rounding of the gradient does to the first step, for each value. AdamW's is lr g / (|g| + eps), so where a clipped g is as small as eps an error
    of it counts lr eps / (|g| + eps)^2 times: some ten thousand. How one binary32 run rounds there is luck (four orders of PEFT's sums left one such value 4.4e-7 to
    3.8e-6 off); the error's root mean square over the tensor is not (1.6e-5 to 4.2e-5 in those four: small values round less than large ones, so that this is
    a tolerance already and not a gap)."""
    o, clip, out = h["optimizer"], min(1, (h["grad_clip_norm"] or 1e30) / (row["grad_norm"] + 1e-6)), {}
    for k, g in grad.items():
        error = (grad32[k].double() - g.double()).pow(2).mean().sqrt() * clip
        out[k] = row["lr"] * o["eps"] / ((g.double() * clip).abs() + o["eps"]) ** 2 * error
    return flat(out)


def moved_gap(got, want, start, expected):
    g, off, change = gap(flat(got), flat(want)), flat(got) - flat(want), (flat(want) - flat(start)).norm().item()
    return dict(max_abs=max(g["max_abs"], expected.max().item() / 8), rel_l2=g["rel_l2"], rel_l2_of_change=max(off.norm().item(), expected.norm().item() / 8) / change if change else None)


def train_case(name, seed, **over):
    h = dict(base="../../base_unet", batches="../batches.safetensors", targets=ATTENTION, r=3, lora_alpha=5, use_rslora=False, use_dora=False, steps=5, grad_accum=1,
             optimizer=dict(name="AdamW", lr=2e-3, betas=[.9, .99], weight_decay=.02, eps=1e-8), grad_clip_norm=.7, lr_schedule="constant", warmup_steps=0,
             prediction_type="epsilon", snr_gamma=None, noise_offset=0., scheduler=dict(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", num_train_timesteps=1000),
             init="lora.safetensors")
    h.update(over)
    base, d = os.path.basename(h["base"]), os.path.join(ROOT, "train", name)
    os.makedirs(d, exist_ok=True)
    b = load_file(os.path.join(ROOT, "train/batches.safetensors"))
    start, rows, grad1, after = train(base, h, b, F64, seed, (1, 2, h["steps"]))
    start32, rows32, grad32, after32 = train(base, h, b, F32, seed, (1, 2, h["steps"]))
    assert all(torch.equal(start[k].to(F32), start32[k]) for k in start)
    t = {f"init.{k}": v for k, v in start.items()} | {f"grad1.{k}": v for k, v in grad1.items()}
    gaps = {"grad1": dict(gap(flat(grad32), flat(grad1)), rel_l2_of_change=None)}
    expected = magnified(h, rows[0], grad1, grad32)
    for i, values in after.items():
        if all(torch.equal(values[k], start[k]) for k in start):
            gaps[f"after{i}"] = "identical to init (lr 0 at the first step)"
            continue
        t |= {f"after{i}.{k}": v for k, v in values.items()}
        gaps[f"after{i}"] = moved_gap(after32[i], values, start, expected)
    last = gaps[f"after{h['steps']}"]
    loss_gap = max(max(abs(a - c) for a, c in zip(x["micro_losses"], y["micro_losses"])) for x, y in zip(rows, rows32))
    norm_gap = max(abs(x["grad_norm"] / y["grad_norm"] - 1) for x, y in zip(rows, rows32))
    tol = {"loss_abs": max(8 * loss_gap, 4e-6), "grad_norm_rel": max(8 * norm_gap, 4e-6), f"after{h['steps']}_max_abs": max(8 * last["max_abs"], 2e-6),
           f"after{h['steps']}_rel_l2_of_change": max(8 * last["rel_l2_of_change"], 2e-5)}
    save_file({k: v.to(F32).contiguous() for k, v in t.items()}, f"{d}/lora.safetensors")
    json.dump(dict(seed=seed, hyper=h, steps=rows, gaps=gaps, tol=tol), open(f"{d}/case.json", "w"), indent=1)


TRAINED = {
    "plain": {}, "wide": dict(targets=WIDE, r=2, lora_alpha=7), "rank1": dict(r=1, lora_alpha=1, lr_schedule="linear", warmup_steps=1),
    "patterns": dict(targets=WIDE, rank_pattern={"conv1": 5, "attn2.to_k": 1}, alpha_pattern={"to_q": 2, "proj_in": 9.5}),
    "rslora": dict(use_rslora=True, r=6, lr_schedule="polynomial"), "rslora_patterns": dict(use_rslora=True, rank_pattern={"to_k": 2}, alpha_pattern={"to_v": 1}),
    "dora": dict(use_dora=True, targets=WIDE, lora_alpha=2), "dora_patterns": dict(use_dora=True, targets=WIDE, rank_pattern={"conv2": 1, "to_out.0": 4}, alpha_pattern={"conv1": 3}),
    "stem": dict(targets=["conv_in", "conv_out", "time_emb_proj", "linear_1", "linear_2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"], r=2),
    "feed_forward": dict(targets=["ff.net.0.proj", "ff.net.2"]), "one_module": dict(targets=["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]),
    "loha": dict(peft_type="LOHA", targets=WIDE), "loha_patterns": dict(peft_type="LOHA", targets=ATTENTION + ["conv1"], rank_pattern={"conv1": 1}, alpha_pattern={"to_q": 8}),
    "lokr": dict(peft_type="LOKR", targets=WIDE, r=2), "lokr_both": dict(peft_type="LOKR", targets=WIDE, r=1, decompose_both=True, decompose_factor=4),
    "lokr_factor": dict(peft_type="LOKR", targets=WIDE, r=1, decompose_factor=2, rank_pattern={"conv1": 3}), "lokr_whole": dict(peft_type="LOKR", targets=WIDE, r=40),
    "loha_tucker": dict(peft_type="LOHA", targets=WIDE, use_effective_conv2d=True, r=2), "lokr_tucker": dict(peft_type="LOKR", targets=WIDE, use_effective_conv2d=True, r=1),
    "rsdora": dict(use_dora=True, use_rslora=True, targets=WIDE), "lora_bias": dict(lora_bias=True, targets=WIDE),
    "accum3": dict(grad_accum=3, steps=4), "snr1": dict(snr_gamma=1), "v_snr": dict(prediction_type="v_prediction", snr_gamma=3), "x0": dict(prediction_type="sample"),
    "x0_snr": dict(prediction_type="sample", snr_gamma=5), "offset": dict(noise_offset=.05), "no_clip": dict(grad_clip_norm=0), "decay": dict(optimizer=dict(name="AdamW", lr=1e-2, betas=[.8, .95], weight_decay=.3, eps=1e-6)),
    "restarts": dict(lr_schedule="cosine_with_restarts", warmup_steps=2, steps=6), "linear_betas": dict(scheduler=dict(beta_start=.0001, beta_end=.02, beta_schedule="linear", num_train_timesteps=1000)),
    "qwen": dict(base="../../base_qwen", prediction_type="flow", scheduler=None), "qwen_dora": dict(base="../../base_qwen", prediction_type="flow", scheduler=None, use_dora=True, targets=["to_q", "add_q_proj", "to_add_out", "img_mod.1", "net.0.proj"]),
    "qwen_lokr": dict(base="../../base_qwen", prediction_type="flow", scheduler=None, peft_type="LOKR", r=2, targets=["to_q", "to_out.0", "img_in"]),
    "saved": dict(modules_to_save=["conv_in", "conv_norm_out", "time_embedding.linear_1"]), "saved_block": dict(modules_to_save=["mid_block", "conv_norm_out"], targets=WIDE),
    "saved_dora": dict(modules_to_save=["proj_out", "conv_out"], targets=WIDE, use_dora=True), "saved_loha": dict(modules_to_save=["conv_in"], peft_type="LOHA"),
    "bias_all": dict(bias="all"), "bias_wide": dict(bias="all", targets=WIDE, use_rslora=True, lora_bias=True), "bias_adapted": dict(bias="lora_only", targets=WIDE + ["linear_1"]),
    "bias_dora": dict(bias="lora_only", targets=WIDE, use_dora=True), "bias_qwen": dict(base="../../base_qwen", prediction_type="flow", scheduler=None, bias="all", targets=["to_q", "to_add_out", "img_mod.1"]),
    "bias_saved": dict(bias="all", modules_to_save=["conv_in", "conv_norm_out"]),
    "saved_qwen": dict(base="../../base_qwen", prediction_type="flow", scheduler=None, modules_to_save=["txt_norm", "norm_q", "img_in"]),
}


# ---- files --------------------------------------------------------------------------------------------------------------------
def kohya_name(module):
    return "lora_unet_" + module.replace(".", "_")


def sgm_name(module, layers):
    """Attention modules of SDXL: numbers of the original code."""
    part = module.split(".")
    step = layers + 1
    if part[0] == "down_blocks":
        head = ["input_blocks", str(1 + int(part[1]) * step + int(part[3])), "1"]
    elif part[0] == "up_blocks":
        head = ["output_blocks", str(int(part[1]) * step + int(part[3])), "1"]
    else:
        return "lora_unet_" + "_".join(["middle_block", "1"] + part[3:])
    return "lora_unet_" + "_".join(head + part[4:])


def pairs_of(params):
    out = {}
    for k, v in params.items():
        module, _, leaf = k.rpartition(".lora_")
        out.setdefault(module, {})[leaf[0]] = v.detach().to(F32).contiguous()
    return out


def scale_of(h, module):
    def pattern(key, default):
        for k, v in h.get(key, {}).items():
            if module == k or module.endswith("." + k):
                return v
        return default
    r, alpha = pattern("rank_pattern", h["r"]), pattern("alpha_pattern", h["lora_alpha"])
    return r, alpha, alpha / (r ** .5 if h.get("use_rslora") else r)


def outputs(base, dtype, inputs, weights=None, h=None, params=None):
    """The base's output; with a LoRA as deltas in its weights, in binary64 exact enough to be the truth."""
    m = base_model(base, dtype)
    with torch.no_grad():
        if params is not None:
            state = dict(m.named_parameters())
            for module, t in pairs_of(params).items():
                w = state[module + ".weight"]
                a, b = t["A"].to(dtype), t["B"].to(dtype)
                r = a.shape[0]
                w += weights(module) * (b.reshape(b.shape[0], r) @ a.reshape(r, -1)).reshape(w.shape)
        with binary64() if dtype == F64 else __import__("contextlib").nullcontext():
            return BASES[base][2](m, {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()})["sample"]


def both(io, case, name, base, inputs, *args):
    truth, plain = outputs(base, F64, inputs, *args), outputs(base, F32, inputs, *args)
    io[name] = truth.to(F32)
    case["gaps"][name] = gap(plain, truth)
    case["tol"][name] = tol_of(case["gaps"][name])


def save_peft(d, h, tensors, meta=None):
    os.makedirs(d, exist_ok=True)
    save_file(tensors, f"{d}/adapter_model.safetensors", metadata={"format": "pt"})
    c = config_of(h).to_dict()
    json.dump({k: sorted(v) if isinstance(v, set) else v for k, v in c.items()}, open(f"{d}/adapter_config.json", "w"), indent=1, default=str)


def write_formats(root, h, params, prefix="unet"):
    """peft, diffusers, diffusers_no_metadata, diffusers_mixed and kohya files of one LoRA, below root."""
    flat = {k: v.detach().to(F32).contiguous() for k, v in params.items()}
    save_peft(f"{root}/peft", h, {f"base_model.model.{k}": v for k, v in flat.items()})
    c = config_of(h).to_dict()
    meta = {f"{prefix}.{k}": sorted(v) if isinstance(v, set) else v for k, v in c.items()}
    for name, header in (("diffusers", {"lora_adapter_metadata": json.dumps(meta, default=str)}), ("diffusers_no_metadata", None)):
        os.makedirs(f"{root}/{name}", exist_ok=True)
        save_file({f"{prefix}.{k}": v for k, v in flat.items()}, f"{root}/{name}/pytorch_lora_weights.safetensors", metadata={"format": "pt", **(header or {})})
    os.makedirs(f"{root}/diffusers_mixed", exist_ok=True)
    mixed = {(f"{prefix}.{k}" if "attn" not in k else f"{prefix}.{k}".replace("lora_A", "lora.down").replace("lora_B", "lora.up")): v for k, v in flat.items()}
    save_file(mixed, f"{root}/diffusers_mixed/pytorch_lora_weights.safetensors", metadata={"format": "pt", "lora_adapter_metadata": json.dumps(meta, default=str)})
    os.makedirs(f"{root}/kohya", exist_ok=True)
    kohya = {}
    for module, t in pairs_of(params).items():
        r, alpha, scale = scale_of(h, module)
        kohya |= {f"{kohya_name(module)}.lora_down.weight": t["A"], f"{kohya_name(module)}.lora_up.weight": t["B"], f"{kohya_name(module)}.alpha": torch.tensor(float(scale * r))}
    save_file(kohya, f"{root}/kohya/lora.safetensors", metadata={"ss_network_module": "networks.lora"})


def broken(tensors, flaw, victim, other):
    t = dict(tensors)
    key = next(k for k in t if victim in k and other in k)
    if flaw == "wrong_key":
        return {k.replace("attn1", "attn7"): v for k, v in t.items() if victim in k} | {k: v for k, v in t.items() if victim not in k}
    if flaw == "wrong_shape":
        t[key] = torch.cat([t[key], t[key][:3]])
    if flaw == "missing_up":
        del t[key]
    return t


def formats_case(name, seed, **over):
    h = dict(targets=WIDE, r=3, lora_alpha=5)
    h.update(over)
    root, base = os.path.join(ROOT, name), "base_unet"
    os.makedirs(root, exist_ok=True)
    inputs = base_inputs(base, seed + 50)
    params = {k: v.detach().to(F32) for k, v in adapted(base, h, F32, seed)[1].items()}
    case = dict(seed=seed, base="../base_unet", **{k: v for k, v in h.items()}, gaps={}, tol={}, corrupt={})
    io = {f"in.{k}": v for k, v in inputs.items()}
    scale = lambda module: scale_of(h, module)[2]
    both(io, case, "out.base", base, inputs)
    both(io, case, "out.lora", base, inputs, scale, h, params)
    for s in (1., .5):
        both(io, case, f"out.fused_{s}", base, inputs, lambda m: s * scale(m), h, params)
    both(io, case, "out.alpha_equals_rank", base, inputs, lambda m: 1 / (scale_of(h, m)[0] ** .5 if h.get("use_rslora") else 1) * (scale_of(h, m)[0] ** .5 if h.get("use_rslora") else 1), h, params)
    mid = {k: v for k, v in params.items() if k.startswith("mid_block.")}
    both(io, case, "out.mid_only", base, inputs, scale, h, mid)
    state = base_model(base, F64).state_dict()
    for module, t in list(pairs_of(params).items())[::5]:
        w, a, b = state[module + ".weight"], t["A"].double(), t["B"].double()
        delta = (b.reshape(b.shape[0], -1) @ a.reshape(a.shape[0], -1)).reshape(w.shape)
        for s in (1., .5):
            io[f"merged_{s}.{module}.weight"] = (w + s * scale(module) * delta).to(F32)
    save_file({k: v.contiguous() for k, v in io.items()}, f"{root}/io.safetensors")
    write_formats(root, h, params)
    write_formats(f"{root}/corrupt/parts", h, mid)
    for form, file, victim, other in (("peft", "adapter_model.safetensors", "attn1.to_v", "lora_B"), ("diffusers", "pytorch_lora_weights.safetensors", "attn1.to_v", "lora_B"), ("kohya", "lora.safetensors", "attn1_to_v", "lora_up")):
        source = f"{root}/corrupt/parts/{form}/{file}"
        from safetensors import safe_open
        with safe_open(source, "pt") as f:
            meta = f.metadata()
        tensors = load_file(source)
        for flaw in ("control", "wrong_key", "wrong_shape", "missing_up"):
            d = f"{root}/corrupt/{form}_{flaw}"
            os.makedirs(d, exist_ok=True)
            save_file({k: v.contiguous() for k, v in broken(tensors, flaw, victim, other).items()}, f"{d}/{file}", metadata=meta)
            if form == "peft":
                os.replace(f"{root}/corrupt/parts/peft/adapter_config.json", f"{d}/adapter_config.json") if flaw == "missing_up" else __import__("shutil").copy(f"{root}/corrupt/parts/peft/adapter_config.json", d)
            case["corrupt"][f"{form}_{flaw}"] = dict(file=f"corrupt/{form}_{flaw}/{file}", flaw="none" if flaw == "control" else flaw)
    __import__("shutil").rmtree(f"{root}/corrupt/parts")
    json.dump(case, open(f"{root}/case.json", "w"), indent=1)


FORMATS = {"formats_plain": {}, "formats_rank1": dict(r=1, lora_alpha=3), "formats_patterns": dict(rank_pattern={"conv1": 5, "attn2.to_k": 2}, alpha_pattern={"to_q": 2, "proj_in": 9}),
           "formats_narrow": dict(targets=["to_v", "ff.net.0.proj", "time_emb_proj", "conv_in", "conv_shortcut", "downsamplers.0.conv"], r=4, lora_alpha=4)}


def sdxl_case(name, seed):
    """Kohya's SDXL names, F16, alphas that differ by module."""
    root, base = os.path.join(ROOT, name), "base_sdxl"
    os.makedirs(root, exist_ok=True)
    inputs = base_inputs(base, seed + 60)
    case, io = dict(seed=seed, base="../base_sdxl", gaps={}, tol={}), {f"in.{k}": v for k, v in inputs.items()}
    both(io, case, "out.base", base, inputs)
    for stem, h in {"lora": dict(targets=ATTENTION + ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"], r=2, lora_alpha=3.),
                    "per_module": dict(targets=ATTENTION + ["proj_in"], r=4, lora_alpha=1., rank_pattern={"attn1.to_q": 1, "to_out.0": 3}, alpha_pattern={"attn2.to_v": .5, "attn1.to_q": 2.})}.items():
        params = {k: v.detach().half().to(F32) for k, v in adapted(base, h, F32, seed)[1].items()}
        both(io, case, f"out.{stem}", base, inputs, lambda m: scale_of(h, m)[2], h, params)
        kohya = {}
        for module, t in pairs_of(params).items():
            n = sgm_name(module, SDXL["layers_per_block"])
            kohya |= {f"{n}.lora_down.weight": t["A"].half(), f"{n}.lora_up.weight": t["B"].half(), f"{n}.alpha": torch.tensor(scale_of(h, module)[1]).half()}
        save_file(kohya, f"{root}/{stem}.safetensors", metadata={"ss_network_module": "networks.lora"})
    save_file({k: v.contiguous() for k, v in io.items()}, f"{root}/io.safetensors")
    json.dump(case, open(f"{root}/case.json", "w"), indent=1)


def between(a, b, f):
    a, b = a.double(), b.double()
    p, q = a.flatten(), b.flatten()
    angle = torch.acos((p @ q / (p.norm() * q.norm())).clamp(-1 + 1e-7, 1 - 1e-7))
    return (torch.sin((1 - f) * angle) * a + torch.sin(f * angle) * b) / torch.sin(angle)


def mix_case(name, seed):
    root, base = os.path.join(ROOT, name), "base_unet"
    os.makedirs(root, exist_ok=True)
    hs = {"a": dict(targets=ATTENTION, r=2, lora_alpha=3), "b": dict(targets=ATTENTION, r=2, lora_alpha=3), "c": dict(targets=["to_k", "conv2", "proj_out"], r=5, lora_alpha=4)}
    params = {k: {n: v.detach().to(F32) for n, v in adapted(base, h, F32, seed + ord(k))[1].items()} for k, h in hs.items()}
    inputs = dict(base_inputs(base, seed + 70))
    io = {f"in.{k}": v for k, v in inputs.items()} | {"in.sample2": randn(seed + 71, *inputs["sample"].shape)}
    io |= {f"lora_{k}.{n}": v for k, p in params.items() for n, v in p.items()}
    case = dict(seed=seed, base="../base_unet", gaps={}, tol={}, **{f"lora_{k}": dict(r=h["r"], alpha=h["lora_alpha"], targets=h["targets"]) for k, h in hs.items()})

    def stacked(*terms):
        """Ranks side by side; weights and scales in B."""
        out = {}
        for w, k in terms:
            for module, t in pairs_of(params[k]).items():
                s = w * scale_of(hs[k], module)[2]
                o = out.setdefault(module, ([], []))
                o[0].append(t["A"].double())
                o[1].append(s * t["B"].double())
        return out

    def run(dtype, sums, sample):
        m = base_model(base, dtype)
        with torch.no_grad():
            state = dict(m.named_parameters())
            for module, (a, b) in sums.items():
                w = state[module + ".weight"]
                w += sum((y.reshape(y.shape[0], -1) @ x.reshape(x.shape[0], -1)) for x, y in zip(a, b)).reshape(w.shape).to(dtype)
            with binary64() if dtype == F64 else __import__("contextlib").nullcontext():
                return unet_call(m, {k: v.to(dtype) for k, v in dict(inputs, sample=sample).items()})["sample"]

    def put(key, sums, sample=inputs["sample"]):
        truth, plain = run(F64, sums, sample), run(F32, sums, sample)
        io[key], case["gaps"][key] = truth.to(F32), gap(plain, truth)
        case["tol"][key] = tol_of(case["gaps"][key])

    put("out.mix_a.3_b.9", stacked((.3, "a"), (.9, "b")))
    put("out.mix_c.6_a-.2", stacked((.6, "c"), (-.2, "a")))
    put("out.a_only_of_two", stacked((1, "a")))
    for f in (.25, .8):
        factors = {}
        a, b = pairs_of(params["a"]), pairs_of(params["b"])
        for module in a:
            s = scale_of(hs["a"], module)[2]
            factors[module] = ([(1 - f) * a[module]["A"].double() + f * b[module]["A"].double()], [s * ((1 - f) * a[module]["B"].double() + f * b[module]["B"].double())])
        put(f"out.interp_factors_{f}", factors)
        put(f"out.interp_deltas_{f}", stacked((1 - f, "a"), (f, "b")))
        x, y = inputs["sample"], io["in.sample2"]
        z = between(x, y, f)

        def adain(z):
            mean = lambda v: v.double().mean((2, 3), keepdim=True)
            std = lambda v: (v.double().var((2, 3), keepdim=True) + 1e-5).sqrt()
            normal = (z - mean(z)) / (z.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
            return normal * ((1 - f) * std(x) + f * std(y)) + (1 - f) * mean(x) + f * mean(y)
        for key, v in ((f"out.slerp_{f}", z), (f"out.slerp_adain_{f}", adain(z))):
            io[key] = v.to(F32)
            case["tol"][key] = {"max_abs": 4e-6, "rel_l2": 1e-6}
        put(f"out.diffmorpher_{f}", factors, adain(z).to(F32))
    save_file({k: v.contiguous() for k, v in io.items()}, f"{root}/io.safetensors")
    json.dump(case, open(f"{root}/case.json", "w"), indent=1)


# ---- all ----------------------------------------------------------------------------------------------------------------------
def main():
    global ROOT
    ROOT = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    part = sys.argv[3] if len(sys.argv) > 3 else ""
    for name, (cls, build, call, more) in BASES.items():
        if not os.path.exists(f"{ROOT}/{name}/model.safetensors"):
            write_case(ROOT, name, cls, build, call, {"io": base_inputs(name, seed + 1)}, seed=seed, **more)
    os.makedirs(f"{ROOT}/train", exist_ok=True)
    save_file(batches(seed + 2), f"{ROOT}/train/batches.safetensors")
    jobs = [("train/" + n, lambda n=n, h=h: train_case(n, seed + 3, **h)) for n, h in TRAINED.items()]
    jobs += [(n, lambda n=n, h=h: formats_case(n, seed + 4, **h)) for n, h in FORMATS.items()]
    jobs += [("sdxl_kohya", lambda: sdxl_case("sdxl_kohya", seed + 5)), ("mix", lambda: mix_case("mix", seed + 6))]
    for name, job in jobs:
        if part not in name:
            continue
        try:
            job()
            print("wrote", name, flush=True)
        except Exception:
            print("SKIPPED", name, traceback.format_exc(limit=-3)[-900:], flush=True)


if __name__ == "__main__":
    main()
