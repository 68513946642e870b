"""A pre-trained Hugging Face encoder as the body: frozen, fine-tuned, or with low-rank adapters.

Only code of the installed transformers library runs: weights are safetensors, and code from a model
repository is refused.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, normalizers
from torch import Tensor, nn

from shopsight.training.data.cleaning.masking import MASKS
from shopsight.training.language.corpus import LanguageError
from shopsight.training.language.tokenizer import with_lookaround

_RANK, _ALPHA = 16, 32  # of the adapters (Hu et al. 2022)


class PretrainedBody(nn.Module):
    """The mean of a pre-trained encoder's last states over a message's tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.num_features = int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def forward(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return float32 [B, hidden size] for token_id int64 [B, L] and length int64 [B, 1]."""
        states_BLH = self.states(token_id, length)
        weight_BL1 = _inside(token_id, length).unsqueeze(-1).to(states_BLH.dtype)
        mean: Tensor = (states_BLH * weight_BL1).sum(1) / length.to(states_BLH.dtype)
        return mean

    def states(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return the encoder's last states, float32 [B, L, hidden size]."""
        inside_BL = _inside(token_id, length)
        states: Tensor = self.model(input_ids=token_id, attention_mask=inside_BL).last_hidden_state
        return states

    def token_table(self) -> nn.Embedding:
        """Return the vectors of the vocabulary, [V, hidden size]."""
        table: nn.Embedding = self.model.get_input_embeddings()  # type: ignore[operator]
        return table

    def architecture(self) -> str:
        """Return the model's configuration, from which `rebuilt` makes the body, as JSON."""
        return json.dumps(self.model.config.to_dict(), default=str)  # type: ignore[union-attr,operator]


def _inside(token_id: Tensor, length: Tensor) -> Tensor:
    place_L = torch.arange(token_id.shape[1], device=token_id.device)
    return (place_L[None, :] < length).to(torch.int64)


def load_pretrained(name: str, tuning: str, max_tokens: int) -> tuple[PretrainedBody, Tokenizer]:
    """Load an encoder and its tokeniser by path or name; `tuning` is full, lora or frozen.

    Raises LanguageError if it cannot be read, or not without executing code that comes with it.
    """
    transformers = _transformers()
    try:
        model = transformers.AutoModel.from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, attn_implementation="eager"
        )
        fast = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False, use_fast=True)
    except (OSError, ValueError, ImportError) as error:
        raise LanguageError(
            f"encoder {name}: not readable ({error}); give a folder or name with config.json, tokenizer.json "
            "and model.safetensors; weights as pickles and models with code of their own are not loaded"
        ) from error
    if not getattr(fast, "is_fast", False):
        raise LanguageError(
            f"encoder {name}: it has no tokenizer.json, which serving reads; convert it first"
        )
    return PretrainedBody(_tuned(model, tuning)), _tokenizer(fast.backend_tokenizer, max_tokens)


def rebuilt(architecture: str) -> PretrainedBody:
    """Return the body that `architecture` (JSON) describes, with untrained weights."""
    transformers = _transformers()
    config = json.loads(architecture)
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    return PretrainedBody(transformers.AutoModel.from_config(made, attn_implementation="eager"))


def merged(body: PretrainedBody) -> PretrainedBody:
    """Return the body with its adapters, if any, merged into the weights."""
    merge: Any = getattr(body.model, "merge_and_unload", None)
    return body if merge is None else PretrainedBody(merge())


def _tuned(model: Any, tuning: str) -> Any:
    if tuning == "lora":
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=_RANK, lora_alpha=_ALPHA, lora_dropout=0.05, target_modules="all-linear", bias="none"
        )
        return get_peft_model(model, settings)
    model.requires_grad_(tuning == "full")
    return model


def _tokenizer(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    """Return the encoder's own tokeniser with our masking before it, truncated to max_tokens.

    Names of special tokens in a message are ordinary words, as in the tokeniser that we train.
    """
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    masks = [normalizers.Replace(Regex(with_lookaround(pattern)), word) for pattern, word in MASKS]
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *masks, *own])
    content = json.loads(tokenizer.to_str())
    known = content["model"].get("vocab", {})
    if isinstance(known, dict) and all(token["content"] in known for token in content["added_tokens"]):
        content["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(content))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise LanguageError(
            "a pre-trained encoder needs transformers: pip install 'shopsight[encoders]'"
        ) from error
    return transformers
