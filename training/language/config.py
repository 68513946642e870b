"""Settings of the language models: corpus and splits, tokeniser, encoder, training."""

from __future__ import annotations

from dataclasses import dataclass

from shopsight.training.artifacts.plain_settings import take_plain_values

TUNINGS = ("full", "lora", "frozen")
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class LanguageConfig:
    """Settings for splitting, tokenising, training and serving.

    validation_share, test_share: of the labelled texts that carry no split of their own.
    vocab_size: entries of the byte-level BPE, learned on the texts outside validation and test.
    max_tokens: longer messages are cut to it; buckets: the lengths that a request is padded to.
    max_text_bytes: longer texts are refused where they arrive.
    encoder: path or name of a pre-trained encoder to start from, "" for the small one from scratch; tuning:
        what of it learns, "full", "lora" (low-rank adapters, merged when it is saved) or "frozen", at
        encoder_learning_rate.
    pretrain_epochs: over all texts outside validation and test, in which hidden tokens are guessed first.
    teacher: workspace of another run, or its model.safetensors, whose probabilities are teacher_weight of
        what labelled messages teach, and all that unlabelled ones do.
    width, layers, heads, conv_widths (in tokens): of the encoder.
    ngram_slots: rows of the table that hashed n-grams share; longest_ngram: in characters.
    dropout, embedding_dropout, head_dropout, word_dropout, ngram_dropout, token_splits (the share of tokens
        that an epoch reads as the two that they are merged of), label_smoothing: what keeps a small corpus
        from being learned by heart.
    epochs, batch_size, learning_rate, weight_decay: AdamW under one cycle; least_steps: of the optimiser, for
        which few messages are read in more epochs; patience: epochs without a better validation score after
        which training stops.
    out_of_scope_labels: intents that mean "none of ours": no class, but training learns from those of its own
        split to be unsure, outlier_weight being what each of them counts; the others judge abstention.
    wrong_answer_cost: of an answer to the wrong intent, a hand-over to a person being 1; out_of_scope_share:
        of the messages to come. From these the threshold follows below which the model abstains.
    precision: of the tables in the graph that serves, "float32" or "int8".
    num_threads: of the trainer at most, fewer where others keep cores busy (kernels/threads.py); equal seeds
        and threads give equal models.
    """

    validation_share: float = 0.1
    test_share: float = 0.1
    out_of_scope_labels: tuple[str, ...] = ("out_of_scope", "oos")

    vocab_size: int = 8000
    max_tokens: int = 128
    buckets: tuple[int, ...] = (12, 24, 48, 128)
    max_text_bytes: int = 16_384

    encoder: str = ""
    tuning: str = "full"
    encoder_learning_rate: float = 5e-5
    pretrain_epochs: int = 0
    teacher: str = ""
    teacher_weight: float = 0.5

    width: int = 128
    layers: int = 1
    heads: int = 4
    conv_widths: tuple[int, ...] = (1, 3, 5)
    ngram_slots: int = 2**16
    longest_ngram: int = 5

    dropout: float = 0.3
    embedding_dropout: float = 0.4
    head_dropout: float = 0.5
    word_dropout: float = 0.15
    ngram_dropout: float = 0.5
    token_splits: float = 0.1
    label_smoothing: float = 0.1
    outlier_weight: float = 1.0

    epochs: int = 7
    batch_size: int = 128
    least_steps: int = 400
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    patience: int = 4
    wrong_answer_cost: float = 4.0
    out_of_scope_share: float = 0.1
    precision: str = "float32"
    num_threads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        take_plain_values(self)
        if not (0 < self.validation_share < 1 and 0 <= self.test_share < 1):
            raise ValueError("validation_share must lie between 0 and 1, and test_share must not reach 1")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share together leave nothing to train on")
        if self.wrong_answer_cost < 1 or not 0 <= self.out_of_scope_share < 1:
            raise ValueError("wrong_answer_cost must be at least 1, and out_of_scope_share below 1")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        if not self.conv_widths or any(width % 2 == 0 for width in self.conv_widths):
            raise ValueError(f"conv_widths is {self.conv_widths}; it takes odd numbers")
        if tuple(sorted(set(self.buckets))) != self.buckets or self.buckets[-1] != self.max_tokens:
            raise ValueError(f"buckets {self.buckets} must ascend and end at max_tokens, {self.max_tokens}")
        if self.tuning not in TUNINGS:
            raise ValueError(f"tuning is {self.tuning!r}; it must be one of {', '.join(TUNINGS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(PRECISIONS)}")
        if self.pretrain_epochs and self.tuning == "frozen" and self.encoder:
            raise ValueError(
                "pretrain_epochs needs an encoder that is not frozen; set tuning to full or lora"
            )
        if not 0 <= self.teacher_weight <= 1 or self.pretrain_epochs < 0:
            raise ValueError("teacher_weight must lie between 0 and 1, and pretrain_epochs not below 0")
        if self.ngram_slots < 2:
            raise ValueError(f"ngram_slots is {self.ngram_slots}; it must be at least 2")
        for name in ("epochs", "batch_size", "num_threads", "layers", "patience", "longest_ngram"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
