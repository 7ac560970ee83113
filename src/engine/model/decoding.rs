//! A batch of groups being decoded, one token of every completion a step.
//!
//! All that differs from step to step (tokens, positions, the filled length of the cache) comes in one
//! tensor of whole numbers, so that a step can be recorded and run again with other numbers.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Int, Tensor};

use super::cache::{CompletionCache, Newest};
use super::layer::Adapted;
use super::layout::{GroupBatch, Layout, indices};
use super::llama::Llama;
use super::lora::Adapter;
use crate::kernel::rms_norm::rms_norm;

impl Llama {
    /// Runs prompts and starts a cache of `rows_per_prompt` completions each, of up to
    /// `capacity` tokens. Returns the logits after each prompt, `[prompts, vocabulary]`.
    pub fn prefill(
        &self,
        prompts: &[&[u32]],
        (rows_per_prompt, capacity): (usize, usize),
        adapter: Option<&Adapter>,
    ) -> (Decoding<'_>, Tensor<2>) {
        let groups: Vec<(&[u32], Vec<&[u32]>)> =
            prompts.iter().map(|prompt| (*prompt, Vec::new())).collect();
        let batch = GroupBatch::new(&groups);
        let tensors = self.layout_tensors(&batch.layout);
        let mut x = self.embed(&batch.ids);
        let mut caches = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let adapted = Adapted {
                adapter: adapter.map(|a| &a.layers[i]),
                dropout: None,
            };
            let (y, prompt) = layer.prefill(x, &tensors, &self.config, &adapted);
            caches.push(CompletionCache::new(
                prompt,
                tensors.prompt_lengths.clone(),
                rows_per_prompt,
            ));
            x = y;
        }
        let width = batch.layout.prompt_width;
        let last: Vec<usize> = batch
            .layout
            .prompt_lengths
            .iter()
            .enumerate()
            .map(|(i, length)| i * width + length - 1)
            .collect();
        let logits = self.head(1.0).logits_of(self.predicting_states(&x, &last));
        let decoding = Decoding::new(self, batch.layout, (rows_per_prompt, capacity), caches);
        (decoding, logits)
    }
}

/// The cache of a batch and its filled length.
pub struct Decoding<'a> {
    step: Rc<RefCell<Step<'a>>>,
    prompt_lengths: Vec<usize>,
    fed: usize,
    capacity: usize,
}

/// The inputs of a step that stay the same from one step to the next.
pub struct Step<'a> {
    model: &'a Llama,
    caches: Vec<CompletionCache>,
    /// Cosines and sines of all positions, `[positions, 1, head_dim]`.
    rotary: (Tensor<3>, Tensor<3>),
    rows: usize,
    /// The largest filled length of the cache in this step.
    columns: usize,
}

impl Step<'_> {
    /// The logits of the next token of every row, from `[tokens ‖ positions ‖ tokens in the cache]`;
    /// running it again with the same numbers changes nothing.
    ///
    /// # Shapes
    /// `numbers: [2·rows + 1]` → `[rows, vocabulary]` in f32
    pub fn run(&mut self, numbers: &Tensor<1, Int>, adapter: Option<&Adapter>) -> Tensor<2> {
        let model = self.model;
        let part = |start: usize, length: usize| numbers.clone().narrow(0, start, length);
        let (tokens, positions) = (part(0, self.rows), part(self.rows, self.rows));
        let newest = Newest {
            filled: part(2 * self.rows, 1),
            columns: self.columns,
        };
        let (cos, sin) = &self.rotary;
        let cos = cos.clone().select(0, positions.clone());
        let sin = sin.clone().select(0, positions);
        let mut x = model.embed_tokens.clone().select(0, tokens);
        for (i, (layer, cache)) in model.layers.iter().zip(&mut self.caches).enumerate() {
            let adapted = Adapted {
                adapter: adapter.map(|a| &a.layers[i]),
                dropout: None,
            };
            x = layer.decode(x, (&cos, &sin), (cache, &newest), &model.config, &adapted);
        }
        model
            .head(1.0)
            .logits_of(rms_norm(x, &model.norm, model.config.rms_norm_eps))
    }
}

impl<'a> Decoding<'a> {
    fn new(
        model: &'a Llama,
        layout: Layout,
        (rows_per_prompt, capacity): (usize, usize),
        caches: Vec<CompletionCache>,
    ) -> Self {
        let positions: Vec<usize> = (0..layout.prompt_width + capacity).collect();
        let (compute, dim) = (&model.compute, model.config.head_dim);
        let step = Step {
            model,
            caches,
            rotary: model.rope.at(&positions, dim, compute),
            rows: layout.prompts() * rows_per_prompt,
            // The CPU's memory grows with the text; a GPU's buffers keep their addresses.
            columns: if compute.is_cpu { 0 } else { capacity },
        };
        Self {
            step: Rc::new(RefCell::new(step)),
            prompt_lengths: layout.prompt_lengths,
            fed: 0,
            capacity,
        }
    }

    /// Feeds one token per row and returns the logits of the next, `[rows, vocabulary]` in f32.
    ///
    /// # Panics
    /// If there is not one token per row, or if the cache is full.
    pub fn step(&mut self, tokens: &[u32], adapter: Option<&Adapter>) -> Tensor<2> {
        let numbers = self.feed(tokens);
        self.step.borrow_mut().run(&numbers, adapter)
    }

    /// The input of the next [`Step`], which then counts as done.
    pub fn feed(&mut self, tokens: &[u32]) -> Tensor<1, Int> {
        let mut step = self.step.borrow_mut();
        assert_eq!(tokens.len(), step.rows, "a token for each row");
        assert!(self.fed < self.capacity, "the cache is full");
        let rows_per_prompt = step.rows / self.prompt_lengths.len();
        let fed = self.fed;
        self.fed += 1;
        let compute = &step.model.compute;
        if compute.is_cpu {
            step.columns = self.fed;
        }
        let positions = self
            .prompt_lengths
            .iter()
            .flat_map(|&length| std::iter::repeat_n(length + fed, rows_per_prompt));
        let tokens = tokens.iter().map(|&token| token as usize);
        indices(tokens.chain(positions).chain([self.fed]), compute)
    }

    /// The step, for a caller that runs it instead of [`Decoding::step`]: both use the one cache.
    pub fn shared_step(&self) -> Rc<RefCell<Step<'a>>> {
        self.step.clone()
    }

    /// Tokens that can still be fed.
    pub fn room_left(&self) -> usize {
        self.capacity - self.fed
    }

    /// Keeps these prompts with `rows_per_prompt` rows each; `rows` are indices
    /// into the current batch, group after group.
    pub fn keep(&mut self, prompts: &[usize], rows: &[usize], rows_per_prompt: usize) {
        let mut step = self.step.borrow_mut();
        let model = step.model;
        let (kv_heads, compute) = (model.config.num_key_value_heads, &model.compute);
        for cache in &mut step.caches {
            cache.keep(prompts, rows, rows_per_prompt, kv_heads, compute);
        }
        step.rows = rows.len();
        self.prompt_lengths = prompts
            .iter()
            .map(|&prompt| self.prompt_lengths[prompt])
            .collect();
    }
}
