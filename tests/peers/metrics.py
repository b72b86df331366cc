"""lk-metrics beside the packages that own its variants, on pictures and random weights made here.
usage: PYTHON tests/peers/metrics.py [build/bin/lk-metrics]
A line a comparison; the last one counts. Prints SKIP where a package is missing."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np

tool = sys.argv[1] if len(sys.argv) > 1 else "build/bin/lk-metrics"
try:
    import torch
    from PIL import Image
    from safetensors.torch import save_file
except ImportError as missing:
    print("SKIP: %s" % missing)
    sys.exit(0)
torch.set_num_threads(2)
torch.manual_seed(5)
torch.set_grad_enabled(False)
root = tempfile.mkdtemp()
passed = failed = 0


def ours(*words):
    out = subprocess.run([tool, *words, "--json"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


def compare(name, got, want, tolerance):
    global passed, failed
    error = abs(got - want) / max(abs(want), 1e-12)
    ok = bool(error <= tolerance)
    passed, failed = passed + ok, failed + (not ok)
    print("%s %-34s %.9g, peer %.9g  relative %.1e (%.0e)" % ("ok  " if ok else "FAIL", name, got, want, error, tolerance))


def folder(name, n, h, w, seed, noise=60):
    rng = np.random.default_rng(seed)
    path = os.path.join(root, name)
    os.makedirs(path)
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((w, h), Image.BICUBIC)
        im = np.asarray(coarse).astype(int) + rng.integers(-noise, noise + 1, (h, w, 3))
        Image.fromarray(im.clip(0, 255).astype(np.uint8)).save(os.path.join(path, "p%02d.png" % i))
    return path


def read(path):
    return [np.asarray(Image.open(os.path.join(path, f))) for f in sorted(os.listdir(path))]


def tensors(path):
    return torch.from_numpy(np.stack(read(path))).permute(0, 3, 1, 2)


def random_fid_network():
    """pytorch-fid's network with random weights whose features depend on the picture."""
    from pytorch_fid import inception
    seen = {}

    def no_download(*a, **k):
        net = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
        for part, new in (("Mixed_5b", inception.FIDInceptionA(192, 32)), ("Mixed_5c", inception.FIDInceptionA(256, 64)), ("Mixed_5d", inception.FIDInceptionA(288, 64)),
                          ("Mixed_6b", inception.FIDInceptionC(768, 128)), ("Mixed_6c", inception.FIDInceptionC(768, 160)), ("Mixed_6d", inception.FIDInceptionC(768, 160)),
                          ("Mixed_6e", inception.FIDInceptionC(768, 192)), ("Mixed_7b", inception.FIDInceptionE_1(1280)), ("Mixed_7c", inception.FIDInceptionE_2(2048))):
            setattr(net, part, new)
        for name, p in net.named_parameters():
            if p.ndim > 1:
                p.copy_(torch.randn_like(p) * (1.75 / p[0].numel()) ** .5)
        seen.update(net.state_dict())
        return seen
    inception.load_state_dict_from_url = no_download
    return inception.InceptionV3([3]).eval(), seen


def fid_rows():
    from pytorch_fid.fid_score import calculate_activation_statistics, calculate_frechet_distance
    net, state = random_fid_network()
    torch.save(state, os.path.join(root, "inception.pth"))
    weights = os.path.join(root, "inception.safetensors")
    subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "to_safetensors.py"), os.path.join(root, "inception.pth"), weights], check=True, stdout=subprocess.DEVNULL)
    a, b = folder("fid_a", 14, 70, 90, 1, 20), folder("fid_b", 12, 110, 64, 2)
    from pathlib import Path
    stats = [calculate_activation_statistics(sorted(Path(p).glob("*.png")), net, 1, 2048, "cpu", 1) for p in (a, b)]
    r = ours("fid/pytorch", a, b, "--weights", weights)
    # features agree to binary32 rounding; the peer's square root of singular covariances is low by a little
    compare("fid/pytorch mean term", next(v for k, v in r["parts"].items() if k == "mean_term"), float(((stats[0][0] - stats[1][0]) ** 2).sum()), 1e-5)
    compare("fid/pytorch trace term", r["parts"]["trace_term"], float(np.trace(stats[0][1]) + np.trace(stats[1][1])), 1e-5)
    compare("fid/pytorch", r["value"], float(calculate_frechet_distance(*stats[0], *stats[1])), 1e-4)
    from torch_fidelity.metric_kid import mmd2
    features = [np.concatenate([net(torch.from_numpy(i.transpose(2, 0, 1)[None].astype(np.float32) / 255))[0].reshape(1, -1).numpy().astype(np.float64) for i in read(p)[:12]]) for p in (a, b)]
    k = [(x @ y.T / 2048 + 1) ** 3 for x, y in ((features[0], features[0]), (features[0], features[1]), (features[1], features[1]))]
    r = ours("kid/pytorch", a, b, "--weights", weights, "--count", "12")
    compare("kid/pytorch", r["value"], float(mmd2(k[0], k[1], k[2], unit_diagonal=False, mmd_est="unbiased")), 1e-5)
    crops = []
    for p in (a, b):                                # the crops of 40 every 20 as pictures of their own
        crops.append(p + "_crops")
        os.makedirs(crops[-1])
        for i, im in enumerate(read(p)[:4]):
            for y in range(0, im.shape[0] - 39, 20):
                for x in range(0, im.shape[1] - 39, 20):
                    Image.fromarray(im[y:y + 40, x:x + 40]).save(os.path.join(crops[-1], "%02d_%03d_%03d.png" % (i, y, x)))
    r = ours("patch-fid/clean", a, b, "--weights", weights, "--crop", "40:20", "--count", "4")
    compare("patch-fid/clean, crops as pictures", r["value"], ours("fid/clean", *crops, "--weights", weights)["value"], 1e-9)


def lpips_rows():
    import lpips
    a, b = folder("lpips_a", 3, 72, 80, 3), folder("lpips_b", 3, 72, 80, 4)
    for net in ("alex", "vgg", "squeeze"):
        with open(os.devnull, "w") as quiet:
            out, sys.stdout = sys.stdout, quiet
            try:
                model = lpips.LPIPS(net=net, pnet_rand=True).eval()
            finally:
                sys.stdout = out
        trunk = {}
        for slice_name, part in model.net.named_children():
            for key, value in part.state_dict().items():
                trunk["features." + key] = value.contiguous()
        path = os.path.join(root, net + ".safetensors")
        save_file(trunk, path)
        x, y = tensors(a).float() / 127.5 - 1, tensors(b).float() / 127.5 - 1
        want = model(x, y).flatten().double().numpy()
        r = ours("lpips/" + net, a, b, "--weights", path)
        for i in range(3):
            compare("lpips/%s pair %d" % (net, i), r["each"][i][1], want[i], 2e-5)
        pairs = [float(model(x[i:i + 1], x[j:j + 1])) for i in range(3) for j in range(i + 1, 3)]
        compare("diversity/lpips_" + net, ours("diversity/lpips_" + net, a, "--weights", path)["value"], float(np.mean(pairs)), 2e-5)


def save_model(model, processor, name, kind):
    path = os.path.join(root, name)
    for p in model.parameters():
        if p.ndim > 1:
            p.copy_(torch.randn_like(p) * .15)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    config = json.load(open(os.path.join(path, "preprocessor_config.json")))
    config["image_processor_type"] = kind
    json.dump(config, open(os.path.join(path, "preprocessor_config.json"), "w"))
    return path


def mean_cosine(x, y):
    x, y = x / x.norm(dim=-1, keepdim=True), y / y.norm(dim=-1, keepdim=True)
    return float((x @ y.T).mean())


def transformer_rows():
    import transformers as t
    a, b = folder("clip_a", 5, 61, 83, 5), folder("clip_b", 4, 90, 70, 6)
    ims = [[Image.open(os.path.join(p, f)) for f in sorted(os.listdir(p))] for p in (a, b)]
    vision = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    bpe = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "clip_tokenizer")
    tokenizer = t.CLIPTokenizer(os.path.join(bpe, "vocab.json"), os.path.join(bpe, "merges.txt"))
    clip = t.CLIPModel(t.CLIPConfig(text_config=dict(vision, vocab_size=len(tokenizer), max_position_embeddings=20, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id), vision_config=dict(vision, image_size=48, patch_size=8), projection_dim=16)).eval()
    processor = t.CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
    path = save_model(clip, processor, "clip", "CLIPImageProcessor")
    embeds = [clip.visual_projection(clip.vision_model(**processor(i, return_tensors="pt")).pooler_output) for i in ims]
    compare("clip-i", ours("clip-i", a, b, "--model", path)["value"], mean_cosine(*embeds), 1e-5)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(os.path.join(bpe, name), path)
    texts = ["a photo of a man", "Two cats, sleeping!", "", "a very long caption that goes on and on about the weather in the north", "caf\u00e9 at night"]
    prompts = os.path.join(root, "prompts.jsonl")
    with open(prompts, "w") as f:
        for name, text in zip(sorted(os.listdir(a)), texts):
            f.write(json.dumps({"file_name": name, "text": text}) + "\n")
    ids = tokenizer(texts, padding="max_length", max_length=20, truncation=True, return_tensors="pt").input_ids
    words = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
    cosines = torch.nn.functional.cosine_similarity(embeds[0], words)
    compare("clip-t/cosine", ours("clip-t/cosine", a, prompts, "--model", path)["value"], float(cosines.mean()), 1e-5)
    compare("clipscore/hessel", ours("clipscore/hessel", a, prompts, "--model", path)["value"], float((2.5 * cosines.clamp(min=0)).mean()), 1e-5)
    dinov2 = t.Dinov2Model(t.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=42, patch_size=7)).eval()
    processor = t.BitImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 49, "width": 49}, image_mean=[.485, .456, .406], image_std=[.229, .224, .225])
    path = save_model(dinov2, processor, "dinov2", "BitImageProcessor")
    embeds = [dinov2(**processor(i, return_tensors="pt")).last_hidden_state[:, 0] for i in ims]
    compare("dino/dinov2", ours("dino/dinov2", a, b, "--model", path)["value"], mean_cosine(*embeds), 1e-5)
    vit = t.ViTModel(t.ViTConfig(**dict(vision, image_size=48, patch_size=8))).eval()
    processor = t.ViTImageProcessorPil(size={"height": 48, "width": 48}, image_mean=[.485, .456, .406], image_std=[.229, .224, .225])
    path = save_model(vit, processor, "vit", "ViTImageProcessor")
    embeds = [vit(**processor(i, return_tensors="pt")).last_hidden_state[:, 0] for i in ims]
    compare("dino/dino", ours("dino/dino", a, b, "--model", path)["value"], mean_cosine(*embeds), 1e-5)


for rows in (lpips_rows, transformer_rows, fid_rows):
    try:
        rows()
    except ImportError as missing:
        print("SKIP %s: %s" % (rows.__name__, missing))
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0 or passed == 0)
