"""A question and its passages into the token ids of a prompt."""

from pathlib import Path

import jinja2
from tokenizers import Tokenizer

from retrieval import Chunk, Hit


class Prompter:
    """The one template of all variants, and the model's tokenizer."""

    def __init__(self, model: Path, settings: dict):
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(settings["prompt"]["template"])

    def count(self, texts: list[str]) -> list[int]:
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def prompts(self, questions: list[str], hits: list[list[Hit]], chunks: list[Chunk], room: int) -> list[list[int]]:
        """Every prompt with as many whole passages, best first, as leave it within `room` tokens."""
        passages = [[chunks[hit.chunk] for hit in row] for row in hits]
        texts = [self.template.render(question=question, passages=row) for question, row in zip(questions, passages)]
        prompts = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        for index, prompt in enumerate(prompts):
            used = len(passages[index])
            while len(prompt) > room and used > 0:
                used -= 1
                text = self.template.render(question=questions[index], passages=passages[index][:used])
                prompt = prompts[index] = self.tokenizer.encode(text).ids
        return prompts

    def answers(self, texts: list[str]) -> list[list[int]]:
        """Ids of the labels, nothing added."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
