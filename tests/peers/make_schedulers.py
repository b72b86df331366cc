"""Chains of diffusers' schedulers in many configurations, as the table of tests/golden/models/schedulers has them.

    build/peers/bin/python tests/peers/make_schedulers.py DIR [PREFIX]      PREFIX: only rows whose names begin so
    build/bin/lk-golden DIR
    build/peers/bin/python tests/peers/make_schedulers.py tests/golden/models edm_      wrote schedulers_edm

The truth is the peer run in binary64; Euler's classes round their sigmas to binary32 whatever is asked, so init_noise_sigma differs in its last digits."""
import importlib
import json
import os
import sys

import diffusers
import numpy
import torch
from safetensors.torch import save_file

from case_lib import F32, F64, binary64, gap, tol_of

SD = dict(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
DDPM, DDIM, INVERSE, EULER, ANCESTRAL, DPM, LCM, FLOW = ("DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
                                                         "DPMSolverMultistepScheduler", "LCMScheduler", "FlowMatchEulerDiscreteScheduler")
EDM, EDM_DPM = "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"
FREE = dict(clip_sample=False)


def rows():
    """{name: (class, config, steps, set_timesteps, step)}"""
    out = {}

    def add(name, cls, n=7, st=None, step=None, **config):
        out[name] = (cls, config, n, st or {}, step or {})
    for n in (1, 2, 3, 5, 11, 20, 30):
        for spacing in ("leading", "linspace", "trailing"):
            at = dict(SD, timestep_spacing=spacing)
            add(f"ddim_{spacing}_{n}", DDIM, n, **at, steps_offset=1, set_alpha_to_one=False, **FREE)
            add(f"ddpm_{spacing}_{n}", DDPM, n, **at, **FREE)
            for key, cls in (("euler", EULER), ("euler_a", ANCESTRAL), ("dpm", DPM)):
                add(f"{key}_{spacing}_{n}", cls, n, **at, steps_offset=1)
            for key, cls in (("euler", EULER), ("dpm", DPM)):
                add(f"{key}_karras_{spacing}_{n}", cls, n, **at, use_karras_sigmas=True)
        add(f"flow_{n}", FLOW, n, shift=2.5)
        add(f"flow_sigmas_{n}", FLOW, n, st={"sigmas": True}, shift=2.5)
        add(f"inverse_{n}", INVERSE, n, **SD, steps_offset=1, set_alpha_to_one=False, **FREE)
    for n in (1, 2, 4, 8):
        add(f"lcm_{n}", LCM, n, **SD, **FREE)
    for prediction, classes in (("v_prediction", (DDIM, DDPM, DPM, EULER, INVERSE, LCM)), ("sample", (DDIM, DDPM, DPM, LCM))):
        for cls in classes:
            add(f"{cls}_{prediction}", cls, 4, **SD, prediction_type=prediction, **({} if cls in (DPM, EULER) else FREE))
    for cls in (DDIM, DDPM, EULER, ANCESTRAL, DPM, LCM):
        add(f"{cls}_zero_snr", cls, **SD, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", **(FREE if cls in (DDIM, DDPM) else {}))
    for schedule in ("linear", "squaredcos_cap_v2"):
        for cls in (DDIM, DDPM, EULER, DPM, ANCESTRAL):
            add(f"{cls}_{schedule}", cls, beta_schedule=schedule)
    for variance in ("fixed_small", "fixed_small_log", "fixed_large"):
        add(f"ddpm_{variance}", DDPM, **SD, variance_type=variance, **FREE)
    add("ddpm_clip2", DDPM, **SD, clip_sample=True, clip_sample_range=2.)
    add("ddim_eta1", DDIM, step={"eta": 1.}, **SD, **FREE)
    add("ddim_eta_clip", DDIM, step={"eta": .5}, **SD, clip_sample=True)
    add("ddim_alpha_one", DDIM, **SD, set_alpha_to_one=True, **FREE)
    for cls in (DDIM, DPM, EULER):
        add(f"{cls}_500", cls, **dict(SD, num_train_timesteps=500))
    for cls in (EULER, DPM):
        add(f"{cls}_exponential", cls, **SD, use_exponential_sigmas=True)
    add("euler_sigma_min", EULER, **SD, final_sigmas_type="sigma_min")
    add("euler_karras_range", EULER, **SD, use_karras_sigmas=True, sigma_min=.1, sigma_max=9.)
    add("euler_edm", EULER, 10, **SD, prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=.002, sigma_max=700., timestep_type="continuous", timestep_spacing="leading", steps_offset=1)
    add("dpm_order1", DPM, **SD, solver_order=1)
    add("dpm_not_lower", DPM, **SD, lower_order_final=False, final_sigmas_type="sigma_min")
    add("dpm_not_lower_20", DPM, 20, **SD, lower_order_final=False)
    add("dpm_heun_karras", DPM, **SD, solver_type="heun", use_karras_sigmas=True)
    for order, kind in ((1, "midpoint"), (2, "midpoint"), (2, "heun")):
        add(f"dpm_sde_{order}_{kind}", DPM, **SD, algorithm_type="sde-dpmsolver++", solver_order=order, solver_type=kind)
    add("dpm_lambda_clip", DPM, beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)
    add("dpm_flow5", DPM, 11, use_flow_sigmas=True, flow_shift=5., prediction_type="flow_prediction")
    add("flow_terminal", FLOW, 11, st={"mu": .9, "sigmas": True}, use_dynamic_shifting=True, shift_terminal=.1)
    add("flow_stochastic4", FLOW, 4, shift=1., stochastic_sampling=True)
    for n in (1, 4, 18):
        for schedule in ("karras", "exponential"):
            for key, cls in (("euler", EDM), ("dpm", EDM_DPM)):
                add(f"edm_{key}_{schedule}_{n}", cls, n, sigma_schedule=schedule)
                add(f"edm_{key}_{schedule}_v_{n}", cls, n, sigma_schedule=schedule, prediction_type="v_prediction", sigma_min=.002, sigma_max=120., sigma_data=1.)
    for key, cls in (("euler", EDM), ("dpm", EDM_DPM)):
        add(f"edm_{key}_range", cls, sigma_min=.03, sigma_max=20., sigma_data=.7, rho=5.)
        add(f"edm_{key}_sigma_min", cls, final_sigmas_type="sigma_min")
    add("edm_dpm_order1", EDM_DPM, solver_order=1)
    add("edm_dpm_heun", EDM_DPM, solver_type="heun")
    add("edm_dpm_not_lower", EDM_DPM, 16, lower_order_final=False, euler_at_final=True)
    for order, kind in ((1, "midpoint"), (2, "midpoint"), (2, "heun")):
        add(f"edm_dpm_sde_{order}_{kind}", EDM_DPM, algorithm_type="sde-dpmsolver++", solver_order=order, solver_type=kind, prediction_type="v_prediction")
    return out


def chain(row, unit, c, noise, dtype):
    """(scheduler, init_noise_sigma, {tensor: value}, draws used); the i-th draw is noise[i]."""
    cls, config, n, st, step = row
    s, used = getattr(diffusers, cls)(**config), [0]
    kw = dict(st)
    if kw.pop("sigmas", False):
        s.set_timesteps(sigmas=numpy.linspace(1, 1 / n, n), **kw)
    else:
        s.set_timesteps(n, **kw)

    def draw(shape, *_, **__):
        used[0] += 1
        return noise[used[0] - 1].to(dtype).reshape(shape)
    module, plain = importlib.import_module(type(s).__module__), torch.randn_like
    theirs = getattr(module, "randn_tensor", None)
    module.randn_tensor, torch.randn_like = draw, lambda t, **_: draw(t.shape)
    init = float(getattr(s, "init_noise_sigma", 1.))
    x, traj, models, x0s = unit.to(dtype) * init, [], [], []
    try:
        traj.append(x)
        for t in s.timesteps:
            m = .3 * (s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x) + .1 * c.to(dtype)
            o = s.step(m, t, x, **step)
            x = o.prev_sample
            models.append(m)
            traj.append(x)
            x0 = o.denoised if cls == LCM else getattr(o, "pred_original_sample", None)
            x0s += [] if x0 is None else [x0]
    finally:
        module.randn_tensor, torch.randn_like = theirs, plain
    out = {"timesteps": s.timesteps.double(), "traj": torch.stack(traj), "model_out": torch.stack(models)}
    if x0s:
        out["x0"] = torch.stack(x0s)
    if hasattr(s, "sigmas") and cls != LCM:
        out["sigmas"] = s.sigmas.double()
    return init, out, used[0]


def main():
    g = torch.Generator().manual_seed(3)
    shape = (2, 4, 3, 3)
    unit, c, noise = torch.randn(shape, generator=g), torch.randn(shape, generator=g), torch.randn(32, *shape, generator=g)
    tensors, cases = {"x_init_unit": unit, "c": c}, {}
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, row in rows().items():
        if not name.startswith(prefix):
            continue
        with binary64():
            init, truth, used = chain(row, unit, c, noise, F64)
        _, plain, _ = chain(row, unit, c, noise, F32)
        if not all(bool(torch.isfinite(v).all()) for v in truth.values()):
            print("not finite, left out:", name)
            continue
        cases[name] = {"cls": row[0], "config": row[1], "num_inference_steps": row[2], "set_timesteps": row[3], "step": row[4], "init_noise_sigma": init,
                       "tol": {k: tol_of(gap(plain[k], v)) for k, v in truth.items()}, "timesteps": truth["timesteps"].tolist()}
        if "sigmas" in truth:
            cases[name]["sigmas"] = truth["sigmas"].tolist()
        tensors |= {f"{name}.{k}": v.to(F32).contiguous().clone() for k, v in truth.items()}
        if used:
            tensors[f"{name}.noise"] = noise[:used].clone()
    d = os.path.join(sys.argv[1], "_".join(["schedulers"] + prefix.strip("_").split()))
    os.makedirs(d, exist_ok=True)
    save_file(tensors, f"{d}/schedulers.safetensors")
    json.dump({"cases": cases}, open(f"{d}/schedulers.json", "w"), indent=1)
    print(len(cases), "chains")


main()
