//! The layout of a micro-batch's tokens in memory, and the tensors that follow from it.
//!
//! The completions of a group share one prompt. The prompt is laid out (and
//! computed) once, its completions after it:
//!
//! ```text
//! prompt 0 | pad   prompt 1 | pad   …   completion 0.0 | pad   completion 0.1 | pad   …
//! └── prompt_width ──┘                  └─ completion_width ─┘
//! ```
//!
//! Both parts are padded on the right, so causality hides the padding by itself:
//! only the prompt's padding must be masked, because completions attend back to it.
//! Lengths are carried here and never inferred from pad ids.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};

use super::rope::RopeTable;
use crate::device::Compute;
use moim_core::architecture::LlamaConfig;
use moim_core::memory::limits::VALUES_PER_CHUNK;

/// Prompts of a micro-batch, each with the same number of completions.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Length of each prompt, in tokens.
    pub prompt_lengths: Vec<usize>,
    /// Columns a prompt takes: the longest prompt.
    pub prompt_width: usize,
    /// Completions of each prompt.
    pub rows_per_prompt: usize,
    /// Columns a completion takes; 0 when there are only prompts.
    pub completion_width: usize,
}

impl Layout {
    /// Number of distinct prompts.
    pub fn prompts(&self) -> usize {
        self.prompt_lengths.len()
    }

    /// Number of completions.
    pub fn rows(&self) -> usize {
        self.prompts() * self.rows_per_prompt
    }

    /// Tokens of the prompt part, padding included.
    pub fn prompt_tokens(&self) -> usize {
        self.prompts() * self.prompt_width
    }

    /// Tokens of the completion part, padding included.
    pub fn completion_tokens(&self) -> usize {
        self.rows() * self.completion_width
    }

    /// Index of the token whose hidden state predicts token `column` of completion `row`.
    pub fn predictor(&self, row: usize, column: usize) -> usize {
        if column == 0 {
            let prompt = row / self.rows_per_prompt;
            prompt * self.prompt_width + self.prompt_lengths[prompt] - 1
        } else {
            self.prompt_tokens() + row * self.completion_width + column - 1
        }
    }

    /// All tokens cut into runs of whole sequences, each of at most `tokens` tokens if the
    /// sequences allow it.
    pub fn chunks(&self, tokens: usize) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let mut start = 0;
        for (sequences, width) in [
            (self.prompts(), self.prompt_width),
            (self.rows(), self.completion_width),
        ] {
            let at_once = (tokens / width.max(1)).max(1);
            let mut left = sequences;
            while left > 0 && width > 0 {
                let taken = left.min(at_once);
                chunks.push(start..start + taken * width);
                start += taken * width;
                left -= taken;
            }
        }
        // A small micro-batch goes through at once.
        if start <= tokens {
            return std::iter::once(0..start).collect();
        }
        chunks
    }

    /// Positions of all tokens, prompt part then completion part.
    fn positions(&self) -> Vec<usize> {
        let mut positions = Vec::with_capacity(self.prompt_tokens() + self.completion_tokens());
        for _ in 0..self.prompts() {
            positions.extend(0..self.prompt_width);
        }
        for row in 0..self.rows() {
            let start = self.prompt_lengths[row / self.rows_per_prompt];
            positions.extend(start..start + self.completion_width);
        }
        positions
    }
}

/// Token ids of a micro-batch in their [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct GroupBatch {
    /// The position of each token.
    pub layout: Layout,
    /// Ids in layout order, padding 0.
    pub ids: Vec<u32>,
    /// Length of each completion, in tokens.
    pub completion_lengths: Vec<usize>,
}

impl GroupBatch {
    /// Lays out prompts with their completions; every prompt brings the same number of them.
    ///
    /// # Panics
    /// An empty prompt, or groups of different sizes: both are bugs of the caller.
    pub fn new(groups: &[(&[u32], Vec<&[u32]>)]) -> Self {
        let rows_per_prompt = groups
            .first()
            .map_or(0, |(_, completions)| completions.len());
        assert!(
            groups
                .iter()
                .all(|(prompt, rows)| !prompt.is_empty() && rows.len() == rows_per_prompt)
        );
        let prompt_lengths: Vec<usize> = groups.iter().map(|(prompt, _)| prompt.len()).collect();
        let completion_lengths: Vec<usize> = groups
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|row| row.len()))
            .collect();
        let layout = Layout {
            prompt_width: prompt_lengths.iter().copied().max().unwrap_or(0),
            prompt_lengths,
            rows_per_prompt,
            completion_width: completion_lengths.iter().copied().max().unwrap_or(0),
        };
        let mut ids = Vec::with_capacity(layout.prompt_tokens() + layout.completion_tokens());
        let mut push = |tokens: &[u32], width: usize| {
            ids.extend_from_slice(tokens);
            ids.resize(ids.len() + width - tokens.len(), 0);
        };
        for (prompt, _) in groups {
            push(prompt, layout.prompt_width);
        }
        for row in groups.iter().flat_map(|(_, rows)| rows) {
            push(row, layout.completion_width);
        }
        Self {
            layout,
            ids,
            completion_lengths,
        }
    }

    /// Indices of the hidden states that predict each completion token (padding
    /// left out), and those tokens, row after row.
    pub fn predictions(&self) -> (Vec<usize>, Vec<u32>) {
        let start = self.layout.prompt_tokens();
        let mut predictors = Vec::new();
        let mut targets = Vec::new();
        for (row, &length) in self.completion_lengths.iter().enumerate() {
            for column in 0..length {
                predictors.push(self.layout.predictor(row, column));
                targets.push(self.ids[start + row * self.layout.completion_width + column]);
            }
        }
        (predictors, targets)
    }
}

/// What attention needs besides the hidden states; computed once per micro-batch, used by every layer.
#[derive(Clone, Debug)]
pub struct LayoutTensors {
    /// The layout these belong to.
    pub layout: Layout,
    /// Rotary cosines and sines, `[tokens, 1, head_dim]`.
    pub cos: Tensor<3>,
    /// See `cos`.
    pub sin: Tensor<3>,
    /// Length of each prompt, `[prompts]`.
    pub prompt_lengths: Tensor<1, Int>,
    /// Values of a layer's widest tensors that exist at a time; [`VALUES_PER_CHUNK`].
    pub values_per_chunk: usize,
}

impl LayoutTensors {
    /// Uploads the tensors of `layout`.
    pub fn new(layout: Layout, rope: &RopeTable, config: &LlamaConfig, compute: &Compute) -> Self {
        let (cos, sin) = rope.at(&layout.positions(), config.head_dim, compute);
        Self {
            cos,
            sin,
            prompt_lengths: indices(layout.prompt_lengths.iter().copied(), compute),
            values_per_chunk: VALUES_PER_CHUNK,
            layout,
        }
    }
}

/// An index tensor on the device.
pub fn indices(values: impl IntoIterator<Item = usize>, compute: &Compute) -> Tensor<1, Int> {
    let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(
        TensorData::new(values, shape),
        (&compute.device, burn::tensor::DType::I32),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_lie_where_the_drawing_says() {
        let batch = GroupBatch::new(&[
            (&[1, 2, 3], vec![&[7], &[8, 9]]),
            (&[4, 5], vec![&[10, 11], &[12]]),
        ]);
        assert_eq!(batch.ids, [1, 2, 3, 4, 5, 0, 7, 0, 8, 9, 10, 11, 12, 0]);
        assert_eq!(batch.completion_lengths, [1, 2, 2, 1]);
        let (predictors, targets) = batch.predictions();
        // The first token of a completion is predicted by the last of its prompt.
        assert_eq!(predictors, [2, 2, 8, 4, 10, 4]);
        assert_eq!(targets, [7, 8, 9, 10, 11, 12]);
        assert_eq!(batch.layout.positions()[6..], [3, 4, 3, 4, 2, 3, 2, 3]);
    }
}
