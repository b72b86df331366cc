"""More model vectors of the layout of tests/golden/models, from diffusers and transformers, in configurations the committed ones do not have.

    build/peers/bin/python tests/peers/make_cases.py DIR [PART of a name]
    make golden dir=DIR"""
import sys
import traceback

import diffusers
import torch
import transformers

from case_lib import write_case

torch_group_norm = torch.nn.GroupNorm


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unet_call(m, i):
    added = {k: i[k] for k in ("text_embeds", "time_ids") if k in i}
    extra = {k: i[k] for k in ("class_labels", "timestep_cond") if k in i}
    return {"sample": m(i["sample"], i["timestep"], i["encoder_hidden_states"], added_cond_kwargs=added or None, **extra).sample}


CROSS, PLAIN, UCROSS, UPLAIN = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
BASE = dict(sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=10, attention_head_dim=2,
            down_block_types=(CROSS, PLAIN), up_block_types=(UPLAIN, UCROSS))
TIMES = torch.tensor([3., 777.])


def unet_inputs(c, hw=(6, 8), batch=2, seq=5, seed=1, **more):
    ctx = c.get("encoder_hid_dim") or c["cross_attention_dim"]
    ctx = ctx if isinstance(ctx, int) else ctx[0]
    return dict(sample=randn(seed, batch, c["in_channels"], *hw), timestep=TIMES[:batch], encoder_hidden_states=randn(seed + 1, batch, seq, ctx), **more)


def unets():
    three = dict(block_out_channels=(8, 12, 16), down_block_types=(CROSS, CROSS, PLAIN), up_block_types=(UPLAIN, UCROSS, UCROSS))
    text_time = dict(addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=36 + 8)
    added = dict(text_embeds=randn(8, 2, 8), time_ids=torch.tensor([[64., 48, 0, 3, 64, 64], [30., 20, 5, 0, 64, 32]]))
    five = dict(text_embeds=randn(8, 2, 8), time_ids=torch.tensor([[64., 48, 0, 3, 6.], [30., 20, 5, 0, 2.5]]))
    rows = {
        "sd2": (dict(three, attention_head_dim=[2, 3, 4], use_linear_projection=True, upcast_attention=True), {}),
        "layers_list": (dict(three, layers_per_block=[1, 2, 1], attention_head_dim=[2, 3, 4]), {}),
        "depth_list": (dict(three, transformer_layers_per_block=[1, 2, 3], use_linear_projection=True), {}),
        "all_cross": (dict(three, down_block_types=(CROSS,) * 3, up_block_types=(UCROSS,) * 3, layers_per_block=2), {}),
        "refiner": (dict(block_out_channels=(8, 12, 12, 8), down_block_types=(PLAIN, CROSS, CROSS, PLAIN), up_block_types=(UPLAIN, UCROSS, UCROSS, UPLAIN), attention_head_dim=[2, 3, 3, 2],
                         use_linear_projection=True, transformer_layers_per_block=2, addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=30 + 8), five),
        "sdxl_base": (dict(three, down_block_types=(PLAIN, CROSS, CROSS), up_block_types=(UCROSS, UCROSS, UPLAIN), attention_head_dim=[2, 3, 4], transformer_layers_per_block=[1, 2, 3],
                           use_linear_projection=True, layers_per_block=2, **text_time), added),
        "reverse_depth": (dict(three, transformer_layers_per_block=[1, 2, 2], reverse_transformer_layers_per_block=[3, 1, 2]), {}),
        "only_cross": (dict(three, only_cross_attention=[True, False, True]), {}),
        "mid_only_cross": (dict(BASE, mid_block_only_cross_attention=True), {}),
        "upscaler": (dict(block_out_channels=(4, 8), only_cross_attention=[True, False], num_class_embeds=9, in_channels=7, norm_num_groups=2), dict(class_labels=torch.tensor([4, 7]))),
        "class_timestep": (dict(class_embed_type="timestep"), dict(class_labels=torch.tensor([20., 350.]))),
        "class_projection": (dict(class_embed_type="projection", projection_class_embeddings_input_dim=11), dict(class_labels=randn(4, 2, 11))),
        "class_simple": (dict(class_embed_type="simple_projection", projection_class_embeddings_input_dim=11), dict(class_labels=randn(4, 2, 11))),
        "class_identity": (dict(class_embed_type="identity"), dict(class_labels=randn(4, 2, 32))),
        "class_concat": (dict(class_embed_type="simple_projection", projection_class_embeddings_input_dim=11, class_embeddings_concat=True), dict(class_labels=randn(4, 2, 11))),
        "scale_shift": (dict(resnet_time_scale_shift="scale_shift"), {}),
        "skip_time_act": (dict(resnet_skip_time_act=True), {}),
        "out_scale": (dict(resnet_out_scale_factor=1.5, mid_block_scale_factor=2.), {}),
        "lcm": (dict(time_cond_proj_dim=14), dict(timestep_cond=randn(5, 2, 14))),
        "kolors": (dict(encoder_hid_dim=13, encoder_hid_dim_type="text_proj"), {}),
        "gelu": (dict(act_fn="gelu"), {}), "relu": (dict(act_fn="relu"), {}), "mish": (dict(act_fn="mish"), {}),
        "time_dim": (dict(time_embedding_dim=20, flip_sin_to_cos=False, freq_shift=1), {}),
        "time_acts": (dict(time_embedding_act_fn="gelu", timestep_post_act="silu"), {}),
        "fourier": (dict(time_embedding_type="fourier"), {}),
        "no_mid": (dict(mid_block_type=None), {}), "mid_plain": (dict(mid_block_type="UNetMidBlock2D"), {}), "centred": (dict(center_input_sample=True), {}),
        "kernels": (dict(conv_in_kernel=5, conv_out_kernel=1), {}), "no_out_norm": (dict(norm_num_groups=4, norm_eps=1e-3), {}),
        "contexts": (dict(three, cross_attention_dim=[10, 10, 10], attention_head_dim=4), {}),
        "one_level": (dict(block_out_channels=(8,), down_block_types=(CROSS,), up_block_types=(UCROSS,), layers_per_block=2), {}),
        "inpaint": (dict(three, in_channels=9), {}), "eight": (dict(three, in_channels=8, out_channels=8), {}),
        "pad0": (dict(downsample_padding=0), {}),
    }
    for name, (config, more) in rows.items():
        c = dict(BASE, **{**config})
        ios = {"io": unet_inputs(c, **more)}
        if name in ("sd2", "refiner", "sdxl_base", "only_cross"):
            ios["io_odd"] = unet_inputs(c, hw=(5, 7), seed=3, **more)
        yield "unet_" + name, "UNet2DConditionModel", (lambda c=c: diffusers.UNet2DConditionModel(**c)), unet_call, ios, {}
    c = dict(BASE, **three, attention_head_dim=[2, 3, 4], use_linear_projection=True)
    yield "unet_sd2_lowvar", "UNet2DConditionModel", (lambda: diffusers.UNet2DConditionModel(**c)), unet_call, {"io": unet_inputs(c, batch=1)}, dict(lowvar=True)


def vae_call(m, i):
    return {"moments": m.encode(i["image"]).latent_dist.parameters, "image": m.decode(i["latent"]).sample}


def vaes():
    down, up = "DownEncoderBlock2D", "UpDecoderBlock2D"
    base = dict(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 12), layers_per_block=1, norm_num_groups=4, down_block_types=(down,) * 2, up_block_types=(up,) * 2)
    rows = {
        "layers2": dict(layers_per_block=2, block_out_channels=(4, 8, 12, 12), down_block_types=(down,) * 4, up_block_types=(up,) * 4),
        "ch16": dict(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=.0609, scaling_factor=1.5305),
        "quant_only": dict(use_post_quant_conv=False), "no_mid_attn": dict(mid_block_add_attention=False), "gelu": dict(act_fn="gelu"),
        "gray": dict(in_channels=1, out_channels=2, latent_channels=3), "one": dict(block_out_channels=(8,), down_block_types=(down,), up_block_types=(up,)),
        "stats": dict(latents_mean=[.1] * 4, latents_std=[2.] * 4),
        "attn_blocks": dict(down_block_types=("AttnDownEncoderBlock2D", down), up_block_types=(up, "AttnUpDecoderBlock2D")),
    }
    for name, config in rows.items():
        c = dict(base, **config)
        f = 2 ** (len(c["block_out_channels"]) - 1)
        px = (2 * f, 3 * f) if name != "layers2" else (16, 24)
        ios = {"io": dict(image=randn(1, 2, c["in_channels"], *px), latent=randn(2, 2, c["latent_channels"], 3, 2))}
        if name == "gray":
            ios["io_odd"] = dict(image=randn(1, 1, 1, 7, 9), latent=randn(2, 1, 3, 3, 5))
        yield "vae_" + name, "AutoencoderKL", (lambda c=c: diffusers.AutoencoderKL(**c)), vae_call, ios, {}
    tiny = {"a": dict(latent_channels=16, encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1)),
            "silu": dict(act_fn="silu", encoder_block_out_channels=(6, 6), decoder_block_out_channels=(10, 10), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)),
            "mag": dict(latent_magnitude=2, latent_shift=.3, encoder_block_out_channels=(6, 6), decoder_block_out_channels=(6, 6), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))}
    for name, c in tiny.items():
        yield ("vae_tiny_" + name, "AutoencoderTiny", (lambda c=c: diffusers.AutoencoderTiny(**c)), lambda m, i: {"latents": m.encode(i["image"]).latents, "image": m.decode(i["latent"]).sample},
               {"io": dict(image=randn(1, 2, 3, 8, 12), latent=randn(2, 2, c.get("latent_channels", 4), 3, 2))}, {})


def controlnets():
    """The base UNet of each is the unet_ case of the same name beside it."""
    three = dict(block_out_channels=(8, 12, 16), down_block_types=(CROSS, CROSS, PLAIN))
    shared = dict(in_channels=4, layers_per_block=1, norm_num_groups=4, cross_attention_dim=10, conditioning_embedding_out_channels=(4, 6, 8, 10))
    rows = {
        "sd2": (dict(three, attention_head_dim=[2, 3, 4], use_linear_projection=True), {}),
        "bgr": (dict(three, attention_head_dim=[2, 3, 4], use_linear_projection=True, controlnet_conditioning_channel_order="bgr"), {}),
        "pool": (dict(three, attention_head_dim=[2, 3, 4], use_linear_projection=True, global_pool_conditions=True), {}),
        "four": (dict(three, attention_head_dim=[2, 3, 4], use_linear_projection=True, conditioning_channels=4), {}),
        "sdxl_base": (dict(block_out_channels=(8, 12, 16), down_block_types=(PLAIN, CROSS, CROSS), attention_head_dim=[2, 3, 4], transformer_layers_per_block=[1, 2, 3], use_linear_projection=True,
                           layers_per_block=2, addition_embed_type="text_time", addition_time_embed_dim=6, projection_class_embeddings_input_dim=44),
                      dict(text_embeds=randn(8, 2, 8), time_ids=torch.tensor([[64., 48, 0, 3, 64, 64], [30., 20, 5, 0, 64, 32]]))),
    }
    for name, (config, more) in rows.items():
        base = "unet_sdxl_base" if name == "sdxl_base" else "unet_sd2"
        c = dict(shared, **config)

        class Both(diffusers.ControlNetModel):
            pass

        def call(m, i, guess=False, base=base):
            import os
            key = m.dtype
            u = call.cache.get((base, key))
            if u is None:
                u = diffusers.UNet2DConditionModel(**diffusers.UNet2DConditionModel.load_config(os.path.join(ROOT, base)))
                from safetensors.torch import load_file
                u.load_state_dict({k: v.to(key) for k, v in load_file(os.path.join(ROOT, base, "model.safetensors")).items()})
                call.cache[(base, key)] = u = u.to(key).eval().requires_grad_(False)
            added = {k: i[k] for k in ("text_embeds", "time_ids") if k in i} or None
            down, mid = m(i["sample"], i["timestep"], i["encoder_hidden_states"], i["controlnet_cond"], conditioning_scale=.7, guess_mode=guess, added_cond_kwargs=added, return_dict=False)
            out = {f"down.{k}": v for k, v in enumerate(down)} | {"mid": mid}
            out["sample"] = u(i["sample"], i["timestep"], i["encoder_hidden_states"], down_block_additional_residuals=down, mid_block_additional_residual=mid, added_cond_kwargs=added).sample
            return out
        call.cache = {}
        hw = (4, 8)
        i = dict(sample=randn(1, 2, 4, *hw), timestep=TIMES, encoder_hidden_states=randn(2, 2, 5, 10), controlnet_cond=randn(3, 2, c.get("conditioning_channels", 3), 8 * hw[0], 8 * hw[1]).sigmoid(), **more)
        yield "controlnet_" + name, "ControlNetModel", (lambda c=c: diffusers.ControlNetModel(**c)), call, {"io": i}, dict(extra={"base": f"../{base}", "conditioning_scale": .7})


def dits():
    sd3 = dict(sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=10, caption_projection_dim=16, pooled_projection_dim=14,
               out_channels=4, pos_embed_max_size=6)
    rows = {"plain": {}, "rms": dict(qk_norm="rms_norm"), "dual": dict(qk_norm="rms_norm", dual_attention_layers=(0, 1), num_layers=3), "dual_nonorm": dict(dual_attention_layers=(1,), num_layers=3),
            "out8": dict(out_channels=8), "patch1": dict(patch_size=1, pos_embed_max_size=9), "one": dict(num_layers=1), "dual_last": dict(qk_norm="rms_norm", dual_attention_layers=(1,))}
    for name, config in rows.items():
        c = dict(sd3, **config)
        i = dict(hidden_states=randn(1, 2, 4, 6, 8), encoder_hidden_states=randn(2, 2, 5, 10), pooled_projections=randn(3, 2, 14), timestep=torch.tensor([12.5, 800.]))
        ios = {"io": i, "io_odd": dict(i, hidden_states=randn(5, 2, 4, 7, 5))}
        yield "sd3_" + name, "SD3Transformer2DModel", (lambda c=c: diffusers.SD3Transformer2DModel(**c)), lambda m, i: {"sample": m(**i).sample}, ios, {}
    flux = dict(in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=12, num_attention_heads=3, joint_attention_dim=10, pooled_projection_dim=14, axes_dims_rope=(2, 4, 6))
    for name, config in {"schnell": {}, "dev": dict(guidance_embeds=True, num_layers=2), "fill": dict(in_channels=20, out_channels=8, guidance_embeds=True), "no_single": dict(num_single_layers=0),
                         "singles": dict(num_layers=0, num_single_layers=2)}.items():
        c = dict(flux, **config)
        h, w = 3, 4
        ids = torch.zeros(h, w, 3)
        ids[..., 1] += torch.arange(h)[:, None]
        ids[..., 2] += torch.arange(w)[None]
        i = dict(hidden_states=randn(1, 2, h * w, c["in_channels"]), encoder_hidden_states=randn(2, 2, 5, 10), pooled_projections=randn(3, 2, 14), timestep=torch.tensor([.25, .97]),
                 img_ids=ids.reshape(-1, 3), txt_ids=torch.zeros(5, 3))
        if c.get("guidance_embeds"):
            i["guidance"] = torch.tensor([3.5, 1.])
        yield "flux_" + name, "FluxTransformer2DModel", (lambda c=c: diffusers.FluxTransformer2DModel(**c)), lambda m, i: {"sample": m(**i).sample}, {"io": i}, {}
    qwen = dict(patch_size=2, in_channels=8, out_channels=2, num_layers=2, attention_head_dim=12, num_attention_heads=2, joint_attention_dim=10, axes_dims_rope=(2, 4, 6))
    shapes = {"a": [[1, 3, 4]], "odd": [[1, 5, 3]], "edit": [[1, 4, 3], [1, 2, 5]], "layered": [[2, 3, 2]]}
    for name, s in shapes.items():
        n = sum(f * h * w for f, h, w in s)
        i = dict(hidden_states=randn(1, 2, n, 8), encoder_hidden_states=randn(2, 2, 6, 10), timestep=torch.tensor([.2, .9]))
        ios = {"io": i, "io_mask": dict(i, encoder_hidden_states_mask=torch.tensor([[1] * 6, [1] * 4 + [0] * 2]))}
        call = lambda m, i, s=s: {"sample": m(i["hidden_states"], i["encoder_hidden_states"], i.get("encoder_hidden_states_mask"), i["timestep"], [[tuple(x) for x in s]] * 2).sample}
        yield "qwen_" + name, "QwenImageTransformer2DModel", (lambda: diffusers.QwenImageTransformer2DModel(**qwen)), call, ios, dict(extra={"img_shapes": s})
    c = dict(qwen, zero_cond_t=True)
    s = [[1, 3, 4], [1, 2, 3]]
    i = dict(hidden_states=randn(1, 2, 18, 8), encoder_hidden_states=randn(2, 2, 6, 10), timestep=torch.tensor([.2, .9]))
    call = lambda m, i: {"sample": m(i["hidden_states"], i["encoder_hidden_states"], None, i["timestep"], [[tuple(x) for x in s]] * 2).sample}
    yield "qwen_zero_cond", "QwenImageTransformer2DModel", (lambda: diffusers.QwenImageTransformer2DModel(**c)), call, {"io": i}, dict(extra={"img_shapes": s})


class Groups:
    """SVD's class hard-wires 32 groups: the tiny model is built with n."""
    def __init__(self, n):
        self.n = n

    def __enter__(self):
        n = self.n

        class Fewer(torch_group_norm):
            def __init__(self, num_groups, num_channels, *a, **k):
                super().__init__(n if num_groups == 32 else num_groups, num_channels, *a, **k)
        torch.nn.GroupNorm = Fewer

    def __exit__(self, *a):
        torch.nn.GroupNorm = torch_group_norm


def svds():
    d, cd, u, cu = "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"
    base = dict(sample_size=8, in_channels=8, out_channels=4, addition_time_embed_dim=6, projection_class_embeddings_input_dim=18, num_frames=3, cross_attention_dim=9,
                down_block_types=(cd, d), up_block_types=(u, cu), block_out_channels=(8, 16), layers_per_block=1, num_attention_heads=(2, 4))
    for name, config in {"a": {}, "depth": dict(transformer_layers_per_block=2), "all": dict(down_block_types=(cd, cd), up_block_types=(cu, cu)),
                         "lists": dict(layers_per_block=(1, 2), transformer_layers_per_block=(1, 2), down_block_types=(d, cd), up_block_types=(cu, u), num_attention_heads=2)}.items():
        c = dict(base, **config)

        def build(c=c):
            with Groups(4):
                return diffusers.UNetSpatioTemporalConditionModel(**c)
        i = dict(sample=randn(1, 2, 3, 8, 4, 6), timestep=torch.tensor([-.7, 1.4]), encoder_hidden_states=randn(2, 2, 1 if name == "a" else 4, 9), added_time_ids=torch.tensor([[6., 127, .02], [7., 30, .1]]))
        yield "svd_" + name, "UNetSpatioTemporalConditionModel", build, lambda m, i: {"sample": m(**i).sample}, {"io": i}, dict(config_extra={"norm_num_groups": 4}, half=name == "a")


def encoders():
    text = dict(vocab_size=40, hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3, max_position_embeddings=9, projection_dim=7, bos_token_id=37, eos_token_id=38, pad_token_id=0)

    def text_call(m, i):
        o = m(i["input_ids"], output_hidden_states=True)
        out = dict(last_hidden_state=o.last_hidden_state, penultimate=o.hidden_states[-2], embeddings=o.hidden_states[0], hidden_last_before_ln=o.hidden_states[-1])
        if getattr(o, "text_embeds", None) is not None:
            out["text_embeds"] = o.text_embeds
        else:
            out["pooler_output"] = o.pooler_output
        return out
    ids = torch.tensor([[37, 3, 9, 38, 0, 0, 0, 0, 0], [37, 5, 39, 7, 8, 38, 0, 0, 0]])
    for name, (cls, config) in {"quick": ("CLIPTextModel", {}), "gelu": ("CLIPTextModel", dict(hidden_act="gelu", layer_norm_eps=1e-3)), "legacy": ("CLIPTextModel", dict(eos_token_id=2)),
                                "proj": ("CLIPTextModelWithProjection", dict(hidden_act="gelu")), "proj_quick": ("CLIPTextModelWithProjection", dict(eos_token_id=2)),
                                "new": ("CLIPTextModel", dict(hidden_act="gelu_new")), "tanh": ("CLIPTextModel", dict(hidden_act="gelu_pytorch_tanh"))}.items():
        c = dict(text, **config)
        ios = {"io": dict(input_ids=ids), "io_short": dict(input_ids=ids[:, :6])}
        yield "clip_text_" + name, cls, (lambda c=c, cls=cls: getattr(transformers, cls)(transformers.CLIPTextConfig(**c))), text_call, ios, {}

    def vision_call(m, i):
        o = m(i["pixel_values"], output_hidden_states=True)
        out = dict(last_hidden_state=o.last_hidden_state, penultimate=o.hidden_states[-2])
        if getattr(o, "image_embeds", None) is not None:
            out["image_embeds"] = o.image_embeds
        else:
            out["pooler_output"] = o.pooler_output
        return out
    vision = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, image_size=12, patch_size=4, projection_dim=7)
    for name, config in {"quick": {}, "gelu": dict(hidden_act="gelu"), "channels": dict(num_channels=2, image_size=14, patch_size=4)}.items():
        c = dict(vision, **config)
        px = c["image_size"]
        yield ("clip_vision_" + name, "CLIPVisionModelWithProjection", (lambda c=c: transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**c))), vision_call,
               {"io": dict(pixel_values=randn(1, 2, c.get("num_channels", 3), px, px))}, {})
    yield ("clip_vision_model", "CLIPVisionModel", (lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision))), vision_call, {"io": dict(pixel_values=randn(1, 2, 3, 12, 12))}, {})

    def dino_call(m, i):
        o = m(i["pixel_values"], output_hidden_states=True)
        return dict(last_hidden_state=o.last_hidden_state, pooler_output=o.pooler_output, hidden1=o.hidden_states[1])
    dino = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, image_size=12, patch_size=3)
    for name, config in {"swiglu": dict(use_swiglu_ffn=True), "ratio3": dict(mlp_ratio=3), "nobias": dict(qkv_bias=False), "nomask": dict(use_mask_token=False), "relu": dict(hidden_act="relu"),
                         "swiglu_ratio": dict(use_swiglu_ffn=True, mlp_ratio=2)}.items():
        c = dict(dino, **config)
        ios = {"io": dict(pixel_values=randn(1, 2, 3, 12, 12)), "io_interp": dict(pixel_values=randn(2, 1, 3, 21, 9)), "io_small": dict(pixel_values=randn(2, 1, 3, 6, 15))}
        yield "dino_" + name, "Dinov2Model", (lambda c=c: transformers.Dinov2Model(transformers.Dinov2Config(**c))), dino_call, ios, {}

    def vit_call(m, i):
        o = m(i["pixel_values"], output_hidden_states=True)
        return dict(last_hidden_state=o.last_hidden_state, hidden1=o.hidden_states[1])
    vit = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, image_size=12, patch_size=4)
    for name, config in {"plain": {}, "nobias": dict(qkv_bias=False), "tanh": dict(hidden_act="gelu_pytorch_tanh", image_size=16)}.items():
        c = dict(vit, **config)
        yield ("vit_" + name, "ViTModel", (lambda c=c: transformers.ViTModel(transformers.ViTConfig(**c), add_pooling_layer=False)), vit_call,
               {"io": dict(pixel_values=randn(3, 2, 3, c["image_size"], c["image_size"]))}, {})


if __name__ == "__main__":
    ROOT = sys.argv[1]
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    for family in (unets, vaes, controlnets, dits, svds, encoders):
        for name, cls, build, call, ios, more in family():
            if part not in name:
                continue
            try:
                write_case(ROOT, name, cls, build, call, ios, **more)
            except Exception:
                print("SKIPPED", name, traceback.format_exc(limit=-2)[-600:], flush=True)
