//! A step of decoding as a CUDA graph: recorded once, then run again with other numbers.
//!
//! A step of a 48-layer model is some 800 launches, each of which the host needs longer for
//! than the card does for many of them. Replayed, they are one.

use std::sync::OnceLock;

use anyhow::{Result, ensure};
use burn::tensor::{Int, Tensor};

use crate::device::GRAPHS;
use crate::kernel::in_place::{overwrite, overwrite_ints};
use crate::kernel::sample::{Draw, draw_rows, read, upload};
use crate::model::{Adapter, Decoding};

/// Steps that recording costs: burn runs a step three times to warm up, and once to record it.
const STEPS_TO_RECORD: usize = 4;

/// The smallest number of remaining steps for which recording one pays.
pub(super) const WORTH_RECORDING: usize = 4 * STEPS_TO_RECORD;

/// Log-probabilities (in nats) further apart than this are not two roundings of one.
const ROUNDING: f32 = 0.1;

/// Set once a recorded step has been compared with the step itself.
static IS_CHECKED: OnceLock<()> = OnceLock::new();

/// A recorded step and the tensors that it reads.
pub(super) struct Recorded<'a> {
    graph: Graph<'a>,
    numbers: Tensor<1, Int>,
    uniforms: Tensor<1>,
    replays: usize,
}

type Graph<'a> = burn::tensor::Graph<Tensor<2, Int>, Box<dyn FnMut() -> Tensor<2, Int> + 'a>>;

/// Tokens and their log-probabilities.
type Drawn = (Vec<u32>, Vec<f32>);

impl<'a> Recorded<'a> {
    /// Records the next step with its numbers, without advancing.
    pub(super) fn new(
        decoding: &Decoding<'a>,
        adapter: Option<&'a Adapter>,
        numbers: Tensor<1, Int>,
        uniforms: Tensor<1>,
        draw: Draw,
    ) -> Self {
        let step = decoding.shared_step();
        let (read_numbers, read_uniforms) = (numbers.clone(), uniforms.clone());
        let device = uniforms.device();
        // Each of its runs writes the same column of the cache with the same values.
        let run = move || {
            let logits = step.borrow_mut().run(&read_numbers, adapter);
            draw_rows(logits, read_uniforms.clone(), draw)
        };
        Self {
            graph: burn::tensor::capture(&device, Box::new(run)),
            numbers,
            uniforms,
            replays: 0,
        }
    }

    /// Runs the step with these numbers and uniforms. The first time in this process that they are not those
    /// it was recorded with, the result is compared with `launched`, the step itself.
    ///
    /// # Errors
    /// Logits that are not numbers; a recording that differs from the step.
    pub(super) fn run(
        &mut self,
        numbers: Tensor<1, Int>,
        uniforms: &[f64],
        launched: impl FnOnce() -> Result<Drawn>,
    ) -> Result<Drawn> {
        let device = self.uniforms.device();
        let written = (
            overwrite_ints(self.numbers.clone(), numbers),
            overwrite(self.uniforms.clone(), upload(uniforms, &device)),
        );
        // SAFETY: what the graph reads and writes lives in its closure, in its output and in `self`,
        // the weights and the adapter for `'a`; all of it is used on this thread, and so on the stream
        // that the graph was recorded on; the read below waits for it.
        let results = unsafe { self.graph.replay() }.clone();
        drop(written);
        let drawn = read(results)?;
        self.replays += 1;
        if self.replays == 2 && IS_CHECKED.set(()).is_ok() {
            compare(&drawn, &launched()?)?;
        }
        Ok(drawn)
    }
}

/// Fails if most rows differ by more than rounding.
fn compare(replayed: &Drawn, launched: &Drawn) -> Result<()> {
    let rows = replayed.0.len();
    let agreeing = (0..rows)
        .filter(|&row| {
            let (one, other) = (replayed.1[row], launched.1[row]);
            replayed.0[row] == launched.0[row] && (one == other || (one - other).abs() <= ROUNDING)
        })
        .count();
    ensure!(
        2 * agreeing > rows,
        "a step of decoding replayed as a CUDA graph drew other tokens than the step itself ({agreeing} of \
         {rows} rows agree): the driver or the graph is the cause; set {GRAPHS}=0 to run without graphs"
    );
    Ok(())
}
