"""Trains a BERT of two small layers, from nothing, on sentences that this script puts together.

It is a toy: it knows some forty words, and what "not" does to them. It shows how a folder that
`transformers` saved is served; put a real one in its place.
"""

import itertools
import random
import sys

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

GOOD = "good great lovely wonderful excellent brilliant charming delightful fine superb".split()
BAD = "bad awful boring terrible dull poor weak horrible dreadful tedious".split()
THINGS = "film book meal story song show trip hotel".split()
FRAMES = ["the {thing} was {word}", "a {word} {thing}", "what a {word} {thing}", "i found the {thing} {word}"]
DEGREES = ["{}", "very {}", "really {}"]

random.seed(7)
torch.manual_seed(7)
torch.set_num_threads(1)  # More do not pay for layers this small.


def sentences() -> "list[tuple[str, int]]":
    """Every sentence with its label; after "not", the opposite one."""
    made = []
    for words, label in ((GOOD, 1), (BAD, 0)):
        for word, thing, frame, degree in itertools.product(words, THINGS, FRAMES, DEGREES):
            made.append((frame.format(thing=thing, word=degree.format(word)), label))
            made.append((frame.format(thing=thing, word="not " + degree.format(word)), 1 - label))
    random.shuffle(made)
    return made


def tokenizer(texts: "list[str]") -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = special + sorted({word for text in texts for word in text.split()})
    made = Tokenizer(models.WordLevel({word: idx for idx, word in enumerate(words)}, "[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **names)


data = sentences()
held_out, data = data[:400], data[400:]
tokens = tokenizer([text for text, _ in data])
config = BertConfig(
    vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=32, id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1},
)  # fmt: skip
model = BertForSequenceClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for _ in range(8):
    for start in range(0, len(data), 32):
        texts, labels = zip(*data[start : start + 32])
        optimizer.zero_grad()
        model(**tokens(list(texts), padding=True, return_tensors="pt"), labels=torch.tensor(labels)).loss.backward()
        optimizer.step()

model.eval()
with torch.inference_mode():
    texts, labels = zip(*held_out)
    found = model(**tokens(list(texts), padding=True, return_tensors="pt")).logits.argmax(1)
print(f"held-out accuracy {(found == torch.tensor(labels)).float().mean():.4f} ({sum(p.numel() for p in model.parameters()):,} weights)")
model.save_pretrained(sys.argv[1])
tokens.save_pretrained(sys.argv[1])
