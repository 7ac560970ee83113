//! Custom tensor operations, as extensions of burn's backends.
//!
//! A kernel is a folder of one shape:
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the function over tensors, its shapes, the traits that backends implement, and the backward pass if it has one (`backward.rs`) |
//! | `cpu.rs` | plain Rust for burn-flex |
//! | `cube.rs` | the CubeCL kernel, for CUDA and wgpu |
//! | `reference.rs` | the same in plain tensor operations or loops, and the cases that compare the two |
//!
//! A new kernel is these four files and its lines here: its module, and its cases in `cases`. From there its
//! cases reach the tests and `moim doctor --kernels` ([`crate::check`]). What the cases cannot show
//! (bits that do not depend on threads, inputs that stay untouched) is in the folder's `tests.rs`.
//!
//! Two kernels differ: [`linear`] calls its `cpu.rs` directly, not through a trait, and [`sample`] has none, because
//! on the CPU `rollout` draws from the logits.
//!
//! What kernels share: `rows` (rows of matrices, on threads and on cubes), `simd` (vectors of the CPU),
//! `tensor_cores` (products of few rows), `case` (inputs of a check).

pub mod attention;
mod backward;
pub(crate) mod case;
pub mod dropout;
pub mod in_place;
pub mod linear;
pub mod nf4;
pub mod rms_norm;
pub mod rotary;
mod rows;
pub mod sample;
mod simd;
pub mod softmax;
pub mod swiglu;
mod tensor_cores;
#[cfg(test)]
mod testing;
pub mod token_probs;

/// The cases of every kernel that a device has.
pub(crate) fn cases(is_cpu: bool) -> case::Cases {
    let mut cases = case::Cases::default();
    nf4::reference::cases(&mut cases);
    linear::reference::cases(&mut cases);
    rms_norm::reference::cases(&mut cases);
    swiglu::reference::cases(&mut cases);
    dropout::reference::cases(&mut cases);
    rotary::reference::cases(&mut cases);
    in_place::reference::cases(&mut cases);
    softmax::reference::cases(&mut cases);
    token_probs::reference::cases(&mut cases);
    if !is_cpu {
        sample::reference::cases(&mut cases);
    }
    attention::reference::cases(&mut cases);
    cases
}
