"""Loads the zoo and a trained adapter in diffusers, transformers and PEFT, unchanged, and lets lk-golden compare our outputs with theirs.
usage: PYTHON tests/peers/zoo.py RUN_DIRECTORY [lk-golden]      RUN_DIRECTORY holds adapter.safetensors and adapter_config.json
The peers run in binary32; each output must agree within 1e-4 relative. Prints SKIP where the packages are missing."""
import json, os, shutil, subprocess, sys, tempfile

try:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from peft import PeftModel
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, CLIPModel
except ImportError as missing:
    print("SKIP: %s" % missing)
    sys.exit(0)

run, golden = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "build/bin/lk-golden"
torch.manual_seed(1)
torch.set_num_threads(1)
tolerance = {"max_abs": 1e9, "rel_l2": 1e-4}
root = tempfile.mkdtemp()


def write_case(name, case, tensors):
    directory = os.path.join(root, name)
    os.makedirs(directory, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(directory, "io.safetensors"))
    json.dump(case, open(os.path.join(directory, "case.json"), "w"))
    return directory


def write_model(name, cls, source, model, inputs, outputs):
    """outputs: name -> function of the inputs. Gradients of a random cotangent go along."""
    tensors, total = {"in." + k: v for k, v in inputs.items()}, 0
    leaves = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    for k, f in outputs.items():
        y = f(leaves)
        tensors["out." + k], tensors["cot." + k] = y.detach(), torch.randn_like(y)
        total = total + (y * tensors["cot." + k]).sum()
    total.backward()
    tensors.update({"grad.in." + k: v.grad for k, v in leaves.items() if v.grad is not None})
    params = {k: v.grad for k, v in model.named_parameters()}
    io = {"cot_dot_out": float(total), "tol": {k: tolerance for k in tensors if k.startswith(("out.", "grad."))},
          "param_grad_l2_and_sum": {k: None if g is None else [float(g.double().norm()), float(g.double().sum())] for k, g in params.items()}}
    directory = write_case(name, {"cls": cls, "io": {"io": io}}, tensors)
    shutil.copy(os.path.join(source, "config.json"), directory)
    weights = [f for f in os.listdir(source) if f.endswith(".safetensors")]
    shutil.copy(os.path.join(source, weights[0]), os.path.join(directory, "model.safetensors"))
    model.zero_grad(set_to_none=True)


clip, tokens = CLIPModel.from_pretrained("models/zoo/clip").float().eval(), AutoTokenizer.from_pretrained("models/zoo/tokenizer")
ids = tokens(["a photo of a <p1> man, smiling", "a photo of a woman with long dark hair"], padding="max_length", max_length=24, return_tensors="pt")["input_ids"]
with torch.no_grad():
    context = clip.text_model(ids).last_hidden_state
unet = UNet2DConditionModel.from_pretrained("models/zoo/unet").float().eval()
inputs = {"sample": torch.randn(2, 8, 16, 16), "timestep": torch.tensor([37, 811]), "encoder_hidden_states": context}
predict = lambda model, i: model(i["sample"], i["timestep"], i["encoder_hidden_states"]).sample
write_model("unet", "UNet2DConditionModel", "models/zoo/unet", unet, inputs, {"sample": lambda i: predict(unet, i)})
vae = AutoencoderKL.from_pretrained("models/zoo/vae").float().eval()
write_model("vae", "AutoencoderKL", "models/zoo/vae", vae, {"image": torch.rand(2, 3, 64, 64) * 2 - 1, "latent": torch.randn(2, 8, 16, 16)},
            {"moments": lambda i: vae.encode(i["image"]).latent_dist.parameters, "image": lambda i: vae.decode(i["latent"]).sample})
DDIMScheduler.from_pretrained("models/zoo/scheduler")
peft = os.path.join(root, "peft")
os.makedirs(peft)
shutil.copy(os.path.join(run, "adapter.safetensors"), os.path.join(peft, "adapter_model.safetensors"))
shutil.copy(os.path.join(run, "adapter_config.json"), peft)
with torch.no_grad():
    base = predict(unet, inputs)
    lora = predict(PeftModel.from_pretrained(unet, peft).eval(), inputs)
print("the adapter changes the prediction by %.3f relative" % float((lora - base).norm() / base.norm()))
directory = write_case("adapter", {"base": "../unet", "tol": {"out.base": tolerance, "out.lora": tolerance}}, {**{"in." + k: v for k, v in inputs.items()}, "out.base": base, "out.lora": lora})
shutil.copy(os.path.join(run, "adapter.safetensors"), os.path.join(directory, "lora.safetensors"))
shutil.rmtree(peft)
status = subprocess.run([golden, root]).returncode
shutil.rmtree(root)
sys.exit(status)
