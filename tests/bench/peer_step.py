"""A LoRA or full training step, or 20 DDIM steps with guidance, of diffusers + PEFT on the CPU, asked one by one by tests/bench/bench_step.sh.
usage: peer_step.py CHANNELS|CONFIG.json|zoo|mmdit THREADS [--work lora|full|sample] [--batch 8] [--size 16] [--rank 8] [--weights FILE] [--compile]
stdout: "ready" after the first step (sample: of the chain), then for each line of stdin: a number N: seconds of the median of N steps; memory: 0 and peak resident bytes."""
import argparse, os, resource, statistics, sys, time
p = argparse.ArgumentParser()
p.add_argument("model"); p.add_argument("threads", type=int); p.add_argument("--work", default="lora", choices=("lora", "full", "sample"))
p.add_argument("--batch", type=int, default=8); p.add_argument("--size", type=int, default=16); p.add_argument("--rank", type=int, default=8)
p.add_argument("--weights"); p.add_argument("--compile", action="store_true")
a = p.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)
import torch
from diffusers import DDIMScheduler, SD3Transformer2DModel, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model

torch.set_num_threads(a.threads)
torch.manual_seed(0)
rows = 2 * a.batch if a.work == "sample" else a.batch
text = torch.randn(rows, 77, 128)
if a.model == "zoo":
    model = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config("models/zoo/unet"))
    text = torch.randn(rows, 77, model.config.cross_attention_dim)
    def predict(x, t): return model(x, t, text).sample
elif a.model.endswith(".json"):
    import json
    from safetensors.torch import load_file
    with torch.device("meta"): model = UNet2DConditionModel.from_config(json.load(open(a.model)))
    model.load_state_dict(load_file(a.weights), assign=True)             # mapped, as ours is
    text = torch.randn(rows, 77, model.config.cross_attention_dim)
    def predict(x, t): return model(x, t, text).sample
elif a.model != "mmdit":
    widths = tuple(int(c) for c in a.model.split(","))
    n = len(widths)
    model = UNet2DConditionModel(sample_size=a.size, in_channels=4, out_channels=4, block_out_channels=widths, layers_per_block=2, cross_attention_dim=128, attention_head_dim=8,
                                 norm_num_groups=32, down_block_types=("CrossAttnDownBlock2D",) * (n - 1) + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (n - 1))
    def predict(x, t): return model(x, t, text).sample
else:
    model = SD3Transformer2DModel(sample_size=a.size, patch_size=2, in_channels=4, out_channels=4, num_layers=6, attention_head_dim=64, num_attention_heads=4, joint_attention_dim=128,
                                  caption_projection_dim=256, pooled_projection_dim=128, pos_embed_max_size=32)
    pooled = torch.randn(rows, 128)
    def predict(x, t): return model(x, text, pooled, t).sample
if a.work == "lora":
    model.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=a.rank, lora_alpha=a.rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), model)
model.train(a.work != "sample")
trained = [q for q in model.parameters() if q.requires_grad]
optimiser = torch.optim.AdamW(trained, lr=1e-4)
run = torch.compile(predict) if a.compile else predict
channels = model.config.in_channels
scheduler = DDIMScheduler()

clock = time.thread_time if a.threads == 1 else time.perf_counter        # as bench_step.c: one thread's own seconds
@torch.no_grad()
def chain(steps=20):
    x = torch.randn(a.batch, channels, a.size, a.size)
    start = clock()
    scheduler.set_timesteps(20)
    for t in scheduler.timesteps[:steps]:
        without, given = run(torch.cat([x, x]), t).chunk(2)
        x = scheduler.step(without + 7.5 * (given - without), t, x).prev_sample
    return clock() - start
def step():
    if a.work == "sample": return chain()
    shape = (a.batch, channels, a.size, a.size)
    x, e, t = torch.randn(shape), torch.randn(shape), torch.randint(0, 1000, (a.batch,))
    start = clock()
    torch.nn.functional.mse_loss(run(x, t), e).backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return clock() - start

chain(1) if a.work == "sample" else step()
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "memory": print(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
    else: print("%.6f" % statistics.median(step() for _ in range(int(line))), flush=True)
