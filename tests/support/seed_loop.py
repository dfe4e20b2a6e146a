"""The evaluation loop printed in the seed document, as a notebook runs it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

SEED_LOOP = '''
def get_probs_from_model(model, loader, has_rag=False, concept_embeddings=None):
    """Get probabilities from model predictions"""
    model.eval()
    all_probs = []
    all_labels = []

    with torch.no_grad():
        for batch in tqdm(loader, desc="Getting predictions", leave=False):
            input_ids = batch['input_ids'].to(device)
            attention_mask = batch['attention_mask'].to(device)
            labels = batch['labels'].cpu().numpy()

            if has_rag and concept_embeddings is not None:
                texts = batch['text']
                outputs = model(input_ids, attention_mask,
                              concept_embeddings, input_texts=texts)
                logits = outputs['logits']
            else:
                outputs = model(input_ids, attention_mask)
                logits = outputs['logits'] if isinstance(outputs, dict) else outputs

            probs = torch.sigmoid(logits).cpu().numpy()
            all_probs.append(probs)
            all_labels.append(labels)

    return np.vstack(all_probs), np.vstack(all_labels)
'''


def seed_loop(tqdm: Callable[..., Any]) -> dict[str, Any]:
    """The names of a notebook in which the loop was run; `tqdm` is its progress bar."""
    names = {"torch": torch, "np": np, "tqdm": tqdm, "device": torch.device("cpu"), "__name__": "__main__"}
    exec(compile(SEED_LOOP, "notebook", "exec"), names)
    return names
