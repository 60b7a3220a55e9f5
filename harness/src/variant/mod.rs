//! How a question becomes a prompt and an answer: the 2x2 of weights and retrieval, and the controls.
