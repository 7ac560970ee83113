//! Arithmetic over slices of `f32` on the CPU, compiled once per instruction set.
//!
//! The crate is built for baseline x86-64 (SSE2, no fused multiply-add), and the exponential of the
//! C library is a call per number. Here everything is plain Rust that LLVM vectorises: a
//! polynomial exponential without branches, sums in a fixed number of lanes.
//!
//! Work implements [`Vectorised`] with an `#[inline(always)]` body; [`vectorised`] runs
//! the copy of that body that was compiled for the widest instructions of this processor. The
//! lanes of a sum do not depend on the register width, so AVX2 and AVX-512 give the same bits;
//! without fused multiply-add the last bit may differ.

/// Partial sums of a reduction: two AVX-512 registers, four of AVX2, eight of SSE.
pub const LANES: usize = 32;

/// Terms that are summed in `f32` before the sum continues in `f64`.
const BLOCK: usize = 1024;

/// Work on slices, to be compiled for several instruction sets.
pub trait Vectorised {
    /// What the work returns.
    type Output;

    /// The work; must be `#[inline(always)]`. `FMA` says whether the processor multiplies and adds
    /// in one instruction.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs `work` with the widest instructions of this processor.
#[cfg(target_arch = "x86_64")]
pub fn vectorised<W: Vectorised>(work: W) -> W::Output {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    fn avx512<W: Vectorised>(work: W) -> W::Output {
        work.run::<true>()
    }
    #[target_feature(enable = "avx2,fma")]
    fn avx2<W: Vectorised>(work: W) -> W::Output {
        work.run::<true>()
    }
    match level() {
        // SAFETY: `level` found every feature that the function enables.
        Level::Avx512 => unsafe { avx512(work) },
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2(work) },
        Level::Baseline => work.run::<false>(),
    }
}

/// Runs `work` with the instructions the crate was compiled for.
#[cfg(not(target_arch = "x86_64"))]
pub fn vectorised<W: Vectorised>(work: W) -> W::Output {
    work.run::<{ cfg!(target_arch = "aarch64") }>()
}

/// Instruction sets that [`vectorised`] distinguishes.
#[cfg(target_arch = "x86_64")]
enum Level {
    Baseline,
    Avx2,
    Avx512,
}

#[cfg(target_arch = "x86_64")]
fn level() -> Level {
    // The macro asks the processor once and remembers.
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Baseline,
    }
}

/// `a · b + c`, in one rounding if the processor can.
#[inline(always)]
pub fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction `mul_add` is a slow call of the C library.
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Below this the exponential is no normal number; [`exp`] returns 0.
const EXP_LOWEST: f32 = -87.336_54;
/// Above this [`exp`] stays at its value here, 2.4e38, rather than become infinite.
const EXP_HIGHEST: f32 = 88.376_26;

/// The exponential: relative error below 1.3e-7 between −87.3 and 88.37, 0 below, 2.4e38 above, NaN of
/// NaN. No branches, so a loop over it is vectorised.
///
/// Cephes' `expf`: `exp(x) = 2ⁿ · exp(r)` with `|r| ≤ ln 2 / 2`.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ leaves the nearest integer in the low bits.
    const TO_INTEGER: f32 = 12_582_912.0;
    /// The high part of ln 2 has few bits, so its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    // Comparisons this way round let NaN through.
    let inside = if x < EXP_LOWEST { EXP_LOWEST } else { x };
    let inside = if inside > EXP_HIGHEST {
        EXP_HIGHEST
    } else {
        inside
    };
    let shifted = multiply_add::<FMA>(inside, std::f32::consts::LOG2_E, TO_INTEGER);
    let n = shifted - TO_INTEGER;
    let r = multiply_add::<FMA>(n, -LN_2_HIGH, inside);
    let r = multiply_add::<FMA>(n, -LN_2_LOW, r);
    let mut p = multiply_add::<FMA>(r, 1.987_569_1e-4, 1.398_2e-3);
    p = multiply_add::<FMA>(p, r, 8.333_452e-3);
    p = multiply_add::<FMA>(p, r, 4.166_579_6e-2);
    p = multiply_add::<FMA>(p, r, 1.666_666_5e-1);
    p = multiply_add::<FMA>(p, r, 0.5);
    p = multiply_add::<FMA>(p, r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < EXP_LOWEST { 0.0 } else { p * power }
}

/// The logistic function `1 / (1 + exp(−x))`.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Values of an AVX-512 register.
const STEP: usize = 16;

/// Replaces every value by `f` of it. The last few are padded rather than treated one by one, which
/// is what counts in the short rows of attention.
///
/// The main part is one plain loop: in steps of fixed-size chunks LLVM unrolls it and gives a third
/// of the speed.
#[inline(always)]
pub fn map(x: &mut [f32], f: impl Fn(f32) -> f32) {
    let whole = x.len() - x.len() % STEP;
    let (whole, rest) = x.split_at_mut(whole);
    for value in whole {
        *value = f(*value);
    }
    if !rest.is_empty() {
        let mut padded = [0.0f32; STEP];
        padded[..rest.len()].copy_from_slice(rest);
        for value in &mut padded {
            *value = f(*value);
        }
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// The lanes' worth of values that are left over, padded.
#[inline(always)]
fn padded(rest: &[f32], with: f32) -> [f32; LANES] {
    let mut lanes = [with; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// The largest value; NaN is ignored, −∞ of nothing.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    if !rest.is_empty() {
        for (lane, value) in lanes.iter_mut().zip(padded(rest, f32::NEG_INFINITY)) {
            *lane = larger(*lane, value);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum: `f32` in lanes within blocks of 1024 terms, `f64` over them.
#[inline(always)]
pub fn sum(x: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in x.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += value;
            }
        }
        if !rest.is_empty() {
            for (lane, value) in lanes.iter_mut().zip(padded(rest, 0.0)) {
                *lane += value;
            }
        }
        total += fold(lanes);
    }
    total
}

/// The sum of products of two slices of one length, summed as in [`sum`].
#[inline(always)]
pub fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f64 {
    let mut total = 0.0;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        let mut lanes = [0.0f32; LANES];
        for (x, y) in x.iter().zip(y) {
            for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
                *lane = multiply_add::<FMA>(x, y, *lane);
            }
        }
        if !x_rest.is_empty() {
            let (x, y) = (padded(x_rest, 0.0), padded(y_rest, 0.0));
            for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
                *lane = multiply_add::<FMA>(x, y, *lane);
            }
        }
        total += fold(lanes);
    }
    total
}

/// Replaces every value by `exp((value − shift) · scale)` and returns the sum of the results.
#[inline(always)]
pub fn exp_shifted<const FMA: bool>(x: &mut [f32], shift: f32, scale: f32) -> f64 {
    let mut total = 0.0;
    // A block at a time, so that the sum reads it from the first-level cache. Separate from the sum, since a
    // loop that also reduces is not vectorised.
    for block in x.chunks_mut(BLOCK) {
        map(block, |value| exp::<FMA>((value - shift) * scale));
        total += sum(block);
    }
    total
}

/// Adds up the lanes, always in the same order: halves in `f32`, the last four in `f64`.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half >= 4 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| f64::from(lanes[i]));
    (a + c) + (b + d)
}

#[cfg(test)]
mod tests;
