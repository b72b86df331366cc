"""Makes tests/golden/models/lycoris: LoHa and LoKr of a linear layer and a 3x3 convolution, by PEFT in binary64.

    python tests/peers/make_lycoris.py

io.safetensors: to_q.weight, to_q.bias, conv1.weight, conv1.bias (the base), in.to_q, in.conv1, out.<kind>.to_q, out.<kind>.conv1;
<kind>/adapter_model.safetensors and adapter_config.json as PEFT saves them. Weights are random, zero factors included."""
import os
import torch
from peft import LoHaConfig, LoKrConfig, get_peft_model
from safetensors.torch import load_file, save_file

OUT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden/models/lycoris")
KINDS = {
    "loha": LoHaConfig(r=3, alpha=5, init_weights=False, target_modules=["to_q", "conv1"]),
    "lokr": LoKrConfig(r=2, alpha=3, init_weights=False, target_modules=["to_q", "conv1"]),
    "lokr_both": LoKrConfig(r=1, alpha=3, init_weights=False, decompose_both=True, decompose_factor=4, target_modules=["to_q", "conv1"]),
}


class Base(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q = torch.nn.Linear(20, 24)
        self.conv1 = torch.nn.Conv2d(12, 16, 3, padding=1)

    def forward(self, x, image):
        return self.to_q(x), self.conv1(image)


def main():
    torch.manual_seed(3)
    base = Base()
    io = {k: v.detach().clone() for k, v in base.state_dict().items()}
    io["in.to_q"], io["in.conv1"] = torch.randn(5, 20), torch.randn(2, 12, 6, 7)
    for kind, config in KINDS.items():
        model = Base()
        model.load_state_dict({k: v for k, v in io.items() if not k.startswith(("in.", "out."))})
        model = get_peft_model(model, config)
        for name, p in model.named_parameters():
            if "hada_" in name or "lokr_" in name:
                torch.nn.init.normal_(p, std=0.5)
        model.save_pretrained(os.path.join(OUT, kind))
        with torch.no_grad():
            y, z = model.double()(io["in.to_q"].double(), io["in.conv1"].double())
        io[f"out.{kind}.to_q"], io[f"out.{kind}.conv1"] = y.float(), z.float()
        os.remove(os.path.join(OUT, kind, "README.md"))
        print(kind, {k: tuple(v.shape) for k, v in load_file(os.path.join(OUT, kind, "adapter_model.safetensors")).items()})
    save_file({k: v.contiguous() for k, v in io.items()}, os.path.join(OUT, "io.safetensors"))


if __name__ == "__main__":
    main()
