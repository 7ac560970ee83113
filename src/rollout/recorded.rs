//! A step of decoding as a CUDA graph: recorded once, then run again with other numbers.
//!
//! A step of a 48-layer model is over a thousand launches, each of which the host needs longer for
//! than the card does for many of them. Replayed, they are one.

use burn::tensor::{Int, Tensor};

use crate::kernel::in_place::{overwrite, overwrite_ints};
use crate::kernel::sample::{Draw, NotNumbers, draw_rows, read, upload};
use crate::model::{Adapter, Decoding};

/// Steps that recording costs: burn runs a step three times to warm up, and once to record it.
const STEPS_TO_RECORD: usize = 4;

/// Steps to come from which on recording one is taken to pay.
pub(super) const WORTH_RECORDING: usize = 4 * STEPS_TO_RECORD;

/// A recorded step and the tensors that it reads.
pub(super) struct Recorded<'a> {
    graph: Graph<'a>,
    numbers: Tensor<1, Int>,
    uniforms: Tensor<1>,
}

type Graph<'a> = burn::tensor::Graph<Tensor<2, Int>, Box<dyn FnMut() -> Tensor<2, Int> + 'a>>;

impl<'a> Recorded<'a> {
    /// Records the step that comes next, with the numbers of that step, which it does not count as done.
    pub(super) fn new(
        decoding: &Decoding<'a>,
        adapter: Option<&'a Adapter>,
        numbers: Tensor<1, Int>,
        uniforms: Tensor<1>,
        draw: Draw,
    ) -> Self {
        let mut step = decoding.next_step();
        let (read_numbers, read_uniforms) = (numbers.clone(), uniforms.clone());
        let device = uniforms.device();
        // Each of its runs writes the same column of the cache with the same values.
        let run = move || {
            let logits = step.run(&read_numbers, adapter);
            draw_rows(logits, read_uniforms.clone(), draw)
        };
        Self {
            graph: burn::tensor::capture(&device, Box::new(run)),
            numbers,
            uniforms,
        }
    }

    /// Runs the step with these numbers and uniforms: tokens and their log-probabilities.
    ///
    /// # Errors
    /// [`NotNumbers`].
    pub(super) fn run(
        &mut self,
        numbers: Tensor<1, Int>,
        uniforms: &[f64],
    ) -> Result<(Vec<u32>, Vec<f32>), NotNumbers> {
        let uniforms = upload(uniforms, &self.uniforms.device());
        let written = (
            overwrite_ints(self.numbers.clone(), numbers),
            overwrite(self.uniforms.clone(), uniforms),
        );
        // SAFETY: what the graph reads and writes lives in its closure, in its output and in `self`,
        // the weights and the adapter for `'a`; all of it is used on this thread, and so on the stream
        // that the graph was recorded on; the read below waits for it.
        let results = unsafe { self.graph.replay() }.clone();
        drop(written);
        read(results)
    }
}
