//! A batch of groups being decoded, one token of every completion a step.
//!
//! All that differs from step to step (tokens, positions, how far the cache is filled) comes in one
//! tensor of whole numbers, so that a step can be recorded and run again with other numbers.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Int, Tensor};

use super::cache::{CompletionCache, Newest};
use super::layer::Adapted;
use super::layout::{Layout, indices};
use super::llama::Llama;
use super::lora::Adapter;
use crate::kernel::rms_norm::rms_norm;

/// The cache of a batch and how far it is.
pub struct Decoding<'a> {
    step: Rc<RefCell<Step<'a>>>,
    prompt_lengths: Vec<usize>,
    fed: usize,
    room: usize,
}

/// What a step needs that stays the same from one to the next.
pub struct Step<'a> {
    model: &'a Llama,
    caches: Vec<CompletionCache>,
    /// Cosines and sines of all positions, `[positions, 1, head_dim]`.
    rotary: (Tensor<3>, Tensor<3>),
    rows: usize,
    /// How far the cache can be filled in this step.
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
    pub(super) fn new(
        model: &'a Llama,
        layout: Layout,
        (rows_per_prompt, room): (usize, usize),
        caches: Vec<CompletionCache>,
    ) -> Self {
        let positions: Vec<usize> = (0..layout.prompt_width + room).collect();
        let (compute, dim) = (&model.compute, model.config.head_dim);
        let step = Step {
            model,
            caches,
            rotary: model.rope.at(&positions, dim, compute),
            rows: layout.prompts() * rows_per_prompt,
            // The CPU's memory grows with the text; a GPU's buffers stay where they are.
            columns: if compute.is_cpu { 0 } else { room },
        };
        Self {
            step: Rc::new(RefCell::new(step)),
            prompt_lengths: layout.prompt_lengths,
            fed: 0,
            room,
        }
    }

    /// Feeds one token per row and answers the logits of the next, `[rows, vocabulary]` in f32.
    ///
    /// # Panics
    /// Where the tokens are not one a row, or more than there is room for.
    pub fn step(&mut self, tokens: &[u32], adapter: Option<&Adapter>) -> Tensor<2> {
        let numbers = self.feed(tokens);
        self.step.borrow_mut().run(&numbers, adapter)
    }

    /// What the next [`Step`] is to be run with, which is then taken to be done.
    pub fn feed(&mut self, tokens: &[u32]) -> Tensor<1, Int> {
        let mut step = self.step.borrow_mut();
        assert_eq!(tokens.len(), step.rows, "a token for each row");
        assert!(self.fed < self.room, "no room for another token");
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

    /// The step, for whoever runs it in place of [`Decoding::step`]: both use the one cache.
    pub fn shared_step(&self) -> Rc<RefCell<Step<'a>>> {
        self.step.clone()
    }

    /// Tokens that can still be fed.
    pub fn room_left(&self) -> usize {
        self.room - self.fed
    }

    /// Keeps these prompts with `rows_per_prompt` rows each; `rows` are indices
    /// into the present batch, group after group.
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
