"""A pre-trained encoder, here a tiny one made on the spot, is tuned, saved and served like our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.understand import UnderstandRouter
from shopsight.training import language
from shopsight.training.artifacts.trained_state import is_trained
from shopsight.training.language.checkpoint import load
from shopsight.training.language.corpus import LanguageError
from shopsight.training.language.pretrained import PretrainedBody, load_pretrained
from tests.training.language_shop import SMALL, messages, small_shop


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, and a WordPiece tokeniser."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator((text for _, text, _, _ in messages()), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def _config(encoder: Path, tuning: str, **more: Any) -> Any:
    return replace(SMALL, encoder=str(encoder), tuning=tuning, encoder_learning_rate=1e-3, epochs=6, **more)


@pytest.mark.parametrize("tuning", ["full", "lora", "frozen"])
def test_it_learns_and_is_served_as_it_was_trained(encoder: Path, tmp_path: Path, tuning: str) -> None:
    workspace, config = small_shop(tmp_path), _config(encoder, tuning)
    language.train(workspace, config, lambda _: None)
    language.evaluate(workspace, config)
    language.export(workspace, config)
    model = load(workspace)
    unseen = messages(120, seed=5)
    texts = [text for _, text, _, _ in unseen] + ["退" * 90, "[PAD] [CLS] call +49 170 1234567", "😀", "a"]
    said = model.predict(texts)
    right = [a == m[2] for a, m in zip(said.labels("intent"), unseen, strict=False)]
    assert np.mean(right) > 0.95
    session = onnxruntime.InferenceSession(str(workspace.models / "intent_encoder" / "model.onnx"))
    router = UnderstandRouter(workspace.models / "understand", "1")

    def ask(_: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    rows = [Row({"TEXT": np.array([text.encode()], dtype=np.object_)}) for text in texts]
    for i, answer in enumerate(router.answer(rows, ask)):
        assert isinstance(answer, dict), answer
        assert answer["INTENT"][0].decode() == said.labels("intent")[i]
        assert answer["CONFIDENCE"][0] == pytest.approx(said.confidence("intent")[i], abs=1e-4)


def test_what_is_frozen_stays_and_what_is_tuned_moves(encoder: Path, tmp_path: Path) -> None:
    before = BertModel.from_pretrained(encoder).state_dict()
    for tuning, moves in (("frozen", False), ("lora", True), ("full", True)):
        workspace = small_shop(tmp_path / tuning)
        language.train(workspace, replace(_config(encoder, tuning), epochs=1), lambda _: None)
        body = load(workspace).encoder.body
        assert isinstance(body, PretrainedBody)
        name = "encoder.layer.0.attention.self.query.weight"
        assert torch.equal(body.model.state_dict()[name], before[name]) != moves
        assert not any("lora" in key for key in body.state_dict())


def test_pickled_weights_and_missing_folders_are_refused_with_the_remedy(
    encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(LanguageError, match=r"give a folder or name with config\.json"):
        load_pretrained(str(tmp_path / "nowhere"), "full", 32)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for path in encoder.iterdir():
        if path.suffix != ".safetensors":
            (pickled / path.name).write_bytes(path.read_bytes())
    torch.save(BertModel.from_pretrained(encoder).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(LanguageError, match="weights as pickles"):
        load_pretrained(str(pickled), "full", 32)
    workspace = small_shop(tmp_path / "shop")
    with pytest.raises(LanguageError):
        language.train(workspace, _config(pickled, "full"), lambda _: None)
    assert not is_trained(workspace, "language")


def test_an_unknown_way_of_tuning_is_refused() -> None:
    with pytest.raises(ValueError, match="tuning is 'some'"):
        replace(SMALL, tuning="some")
