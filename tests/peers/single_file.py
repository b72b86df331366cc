"""Single-file Stable Diffusion checkpoints: small random diffusers models are written under the original names, taken apart by lk-convert, and
compared with the models and with what diffusers' own converter makes of the same file.

    python tests/peers/single_file.py [build/bin/lk-convert]"""
import os
import subprocess
import sys
import tempfile

try:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as peer
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
C, P, U, UC = "CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
UNET = dict(sample_size=8, block_out_channels=(4, 8, 8), norm_num_groups=2, cross_attention_dim=6, attention_head_dim=2, down_block_types=(C, C, P), up_block_types=(U, UC, UC))
XL = dict(UNET, down_block_types=(P, C, C), up_block_types=(UC, UC, U), use_linear_projection=True, transformer_layers_per_block=(1, 1, 2), addition_embed_type="text_time", addition_time_embed_dim=4,
          projection_class_embeddings_input_dim=30)
MODELS = {
    "sd1": (dict(UNET, layers_per_block=2), "clip"), "sd2": (dict(UNET, layers_per_block=1, use_linear_projection=True), "open_short"), "sdxl": (dict(XL, layers_per_block=2), "both"),
    "refiner": (dict(XL, layers_per_block=1), "open"),
    "unclip": (dict(UNET, layers_per_block=1, class_embed_type="projection", projection_class_embeddings_input_dim=10), "open_short"),
}


def unet_ldm(name, layers, xl):
    """The original name of a diffusers UNet tensor."""
    step = layers + 1
    for new, old in (("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"), ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
                     ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"), ("class_embedding.linear_1", "label_emb.0.0"), ("class_embedding.linear_2", "label_emb.0.2")):
        if name.startswith(new + "."):
            return old + name[len(new):]
    p = name.split(".")
    parts = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    if p[0] == "mid_block":
        return f"middle_block.1." + ".".join(p[3:]) if p[1] == "attentions" else f"middle_block.{2 * int(p[2])}.{parts[p[3]]}." + ".".join(p[4:])
    i = int(p[1])
    if p[2] == "downsamplers":
        return f"input_blocks.{(i + 1) * step}.0.op." + p[-1]
    if p[2] == "upsamplers":
        return f"output_blocks.{i * step + layers}.{2 if UP[i] else 1}.conv." + p[-1]
    at = (1 + i * step if p[0] == "down_blocks" else i * step) + int(p[3])
    lead = ("input" if p[0] == "down_blocks" else "output") + f"_blocks.{at}"
    return f"{lead}.1." + ".".join(p[4:]) if p[2] == "attentions" else f"{lead}.0.{parts[p[4]]}." + ".".join(p[5:])


def vae_ldm(name, levels):
    for i in range(levels):
        name = name.replace(f"down_blocks.{i}.resnets.", f"down.{i}.block.").replace(f"down_blocks.{i}.downsamplers.0.", f"down.{i}.downsample.")
        name = name.replace(f"up_blocks.{i}.resnets.", f"up.{levels - 1 - i}.block.").replace(f"up_blocks.{i}.upsamplers.0.", f"up.{levels - 1 - i}.upsample.")
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2").replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"mid_block.attentions.0.{new}", f"mid.attn_1.{old}")
    return name


def open_clip(state, prefix, layers, extra):
    """state: a text tower of diffusers; extra: OpenCLIP's last layer and projection, which SD 2's diffusers model lacks."""
    out = {}
    for k, v in state.items():
        k = k if k.startswith("text_") else "text_model." + k
        if k == "text_projection.weight":
            out["text_projection"] = v.T.contiguous()
            continue
        for new, old in (("text_model.embeddings.position_embedding.weight", "positional_embedding"), ("text_model.embeddings.token_embedding", "token_embedding"),
                         ("text_model.final_layer_norm", "ln_final"), ("text_model.encoder.layers.", "transformer.resblocks."), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                         ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("self_attn", "attn")):
            k = k.replace(new, old)
        out[k] = v
    for i in range(layers):
        for leaf in ("weight", "bias"):
            out[f"transformer.resblocks.{i}.attn.in_proj_{leaf}"] = torch.cat([out.pop(f"transformer.resblocks.{i}.attn.{x}_proj.{leaf}") for x in "qkv"])
    if extra:
        for k in [k for k in out if k.startswith("transformer.resblocks.0.")]:
            out[k.replace("resblocks.0", f"resblocks.{layers}")] = out[k].clone()
        out["text_projection"] = torch.randn(8, 8)
    out["logit_scale"] = torch.tensor(1.)
    return {prefix + k: v for k, v in out.items()}


def hub(state):
    return {(k if k.startswith("text_") else "text_model." + k): v for k, v in state.items()}


def make(name):
    """(single file, {component: tensors}, unet config)"""
    global UP
    config, text = MODELS[name]
    torch.manual_seed(5)
    UP = [t == UC for t in config["up_block_types"]]
    unet = UNet2DConditionModel(**config)
    vae = AutoencoderKL(block_out_channels=(4, 8, 8), norm_num_groups=2, layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)
    t = CLIPTextConfig(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=7, projection_dim=5, bos_token_id=9, eos_token_id=10)
    xl = text in ("both", "open")
    file = {"model.diffusion_model." + unet_ldm(k, config["layers_per_block"], xl): v for k, v in unet.state_dict().items()}
    for k, v in vae.state_dict().items():
        k = vae_ldm(k, 3)
        file["first_stage_model." + k] = v[..., None, None].contiguous() if ".attn_1." in k and v.dim() == 2 else v
    want = {"unet": dict(unet.state_dict()), "vae": dict(vae.state_dict())}
    if text in ("clip", "both"):
        tower = CLIPTextModel(t)
        want["text_encoder"] = hub(tower.state_dict())
        file |= {("conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer.") + k: v for k, v in want["text_encoder"].items()}
        file[("conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer.") + "text_model.embeddings.position_ids"] = torch.arange(7)[None]
    if text in ("both", "open"):
        tower = CLIPTextModelWithProjection(t)
        want["text_encoder_2"] = hub(tower.state_dict())
        file |= open_clip(tower.state_dict(), f"conditioner.embedders.{int(text == 'both')}.model.", 2, False)
    if text == "open_short":
        tower = CLIPTextModel(t)
        want["text_encoder"] = hub(tower.state_dict())
        file |= open_clip(tower.state_dict(), "cond_stage_model.model.", 2, True)
    file["alphas_cumprod"] = torch.rand(10)
    return {k: v.detach().contiguous().clone() for k, v in file.items()}, want, unet.config


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def main():
    tool, bad = (sys.argv[1] if len(sys.argv) > 1 else f"{ROOT}/build/bin/lk-convert"), 0
    for name in MODELS:
        file, want, config = make(name)
        for half in (False, True):
            with tempfile.TemporaryDirectory() as d:
                f = {k: (v.half() if half and v.is_floating_point() else v) for k, v in file.items()}
                save_file(f, f"{d}/x.safetensors")
                r = subprocess.run([tool, f"{d}/x.safetensors", f"{d}/out"], capture_output=True, text=True)
                got = {c: load_file(f"{d}/out/{c}/{'model' if 'text' in c else 'diffusion_pytorch_model'}.safetensors") for c in want} if not r.returncode else {}
                want_now = {c: {k: (v.half() if half else v) for k, v in t.items()} for c, t in want.items()}
                mine = {c: same(got.get(c, {}), want_now[c]) for c in want}
                theirs = {"unet": same(peer.convert_ldm_unet_checkpoint(dict(f), config), want_now["unet"]), "vae": same(peer.convert_ldm_vae_checkpoint(dict(f), {"down_block_types": (1, 1, 1), "up_block_types": (1, 1, 1)}), want_now["vae"])}
                print(name, "half" if half else "float", "ours", mine, "diffusers' converter", theirs, r.stderr.strip()[:200], r.stdout.strip().splitlines()[-1:] if not half else "")
                bad += not all(mine.values()) or not all(theirs.values())
    return 1 if bad else 0


sys.exit(main())
