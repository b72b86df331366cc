"""Prints the rows of tests/models/test_schedulers.c's EDM table: diffusers' EDMEulerScheduler, in binary64.

    python tests/peers/edm.py"""
import torch
from diffusers import EDMEulerScheduler

for data in (.5, 1.):
    s = EDMEulerScheduler(sigma_data=data)
    for sigma in (.002, .37, 1., 80.):
        t = torch.tensor(sigma, dtype=torch.float64)
        one, nil = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        print(f"    {{ {data}, {sigma}, {s.precondition_outputs(one, nil, t).item():.17g}, {s.precondition_outputs(nil, one, t).item():.17g}, {s.precondition_inputs(one, t).item():.17g}, "
              f"{s.precondition_noise(t).item():.17g} }},")
s = EDMEulerScheduler()
s.set_timesteps(5)
print(s.sigmas.tolist())
