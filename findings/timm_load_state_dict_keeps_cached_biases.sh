#!/usr/bin/env bash
# timm 1.0.31: after load_state_dict in evaluation mode, TinyViT computes with the attention biases from before.
#
# One would guess that a module in evaluation mode, into which the state of another one is loaded, gives the other one's
# outputs. But TinyViT (and LeViT and EfficientViT-M, which have the same idiom) keeps the biases of its attention in a
# dict at the first evaluation, and empties it only in train(True). load_state_dict does not empty it: nothing is said,
# and all weights that the state dict shows are the new ones. A server that loads new weights into a model that it is
# using, or a library that swaps parameters (torch.func.functional_call), gets outputs of a mixture of two models.
# model.train() and then model.eval(), after loading, avoids it.
#
# Seen:
#     state dicts equal: True
#     outputs equal after load_state_dict: False
#     outputs equal after train() and eval(): True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy
cat > "$place/see.py" <<'PY'
import timm
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
model, other = (timm.create_model("tiny_vit_5m_224", num_classes=2).eval() for _ in range(2))
with torch.no_grad():
    for name, parameter in other.named_parameters():  # new ones are all zero: these stand for trained ones
        if name.endswith("attention_biases"):
            parameter.normal_(0, 2)
    images = torch.randn(1, 3, 224, 224)
    model(images)
    expected = other(images)
    model.load_state_dict(other.state_dict())
    states = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    print("state dicts equal:", all(torch.equal(one, two) for one, two in states))
    print("outputs equal after load_state_dict:", torch.equal(model(images), expected))
    model.train().eval()
    print("outputs equal after train() and eval():", torch.equal(model(images), expected))
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "state dicts equal: True
outputs equal after load_state_dict: False
outputs equal after train() and eval(): True" ]
