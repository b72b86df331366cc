"""The same LoRA training step as bench_lora.c by diffusers + PEFT on the GPU, random weights.
usage: peer_lora.py CONFIG SIZE BATCH RANK PRECISION STEPS      PRECISION: fp32, tf32 or bf16 (frozen weights and activations; the adapter stays fp32)
stdout: one row as bench_lora prints it; measured = torch's peak of allocated bytes. Exit 3: no torch with CUDA, diffusers or PEFT."""
import json, statistics, sys, time
config, size, batch, rank, precision, steps = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5], int(sys.argv[6])
try:
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model
except ImportError as e:
    print("SKIP", e); sys.exit(3)
if not torch.cuda.is_available():
    print("SKIP this torch sees no GPU"); sys.exit(3)
torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
dtype = torch.bfloat16 if precision == "bf16" else torch.float32
c = json.load(open(config))
with torch.device("cuda"):
    model = UNet2DConditionModel.from_config(c).to(dtype)
model.requires_grad_(False)
inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), model)
trained = [p for p in model.parameters() if p.requires_grad]
for p in trained: p.data = p.data.float()
model.train()
optimiser = torch.optim.AdamW(trained, lr=1e-4)
side = size // 8
x = torch.randn(batch, model.config.in_channels, side, side, device="cuda")
target, t = torch.randn_like(x), torch.full((batch,), 500, device="cuda")
text = torch.randn(batch, 77, model.config.cross_attention_dim, device="cuda")
added = None
if model.config.addition_embed_type == "text_time":
    width = model.config.projection_class_embeddings_input_dim - 6 * model.config.addition_time_embed_dim
    added = {"text_embeds": torch.randn(batch, width, device="cuda"), "time_ids": torch.randn(batch, 6, device="cuda")}

def step():
    torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        loss = torch.nn.functional.mse_loss(model(x, t, text, added_cond_kwargs=added).sample.float(), target)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    loss.item()
    return time.perf_counter() - start

for _ in range(3): step()
seconds = statistics.median(step() for _ in range(steps))
print("%-34s size %d batch %d rank %d  peer-%-5s planned         - MiB  measured %9.1f MiB  %9.2f ms a step  (diffusers + PEFT, torch %s)"
      % (config, size, batch, rank, precision, torch.cuda.max_memory_allocated() / 2**20, 1e3 * seconds, torch.__version__))
