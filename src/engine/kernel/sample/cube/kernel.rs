//! The kernel: a row's token.

use burn_cubecl::cubecl::{self, prelude::*};

use super::search::{
    DIGITS, KEY_OF_INFINITY, KEY_OF_NOTHING, LANES, Weighing, key_of, locate, logit_of, threshold,
    weigh_segments,
};

/// Shared memory of [`draw_token`] in bytes, with everything switched on.
pub fn shared_bytes(threads: usize) -> usize {
    (DIGITS * threads + 2 * threads + threads / LANES + 1) * size_of::<f32>()
}

/// Draws a token of every row: maximum and faults, weights, truncation, inverse of the cumulative
/// distribution. Without truncation it reads a row twice and 1/32 of it twice more.
///
/// # Shapes
/// `logits: [rows, vectors]`, `uniforms: [rows]` → `output: [rows, 4]`, the words of `SampleOps`
#[cube(launch)]
#[allow(clippy::too_many_arguments)] // Kernels take buffers and numbers one by one.
pub fn draw_token<N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    uniforms: &Tensor<f32>,
    output: &mut Tensor<u32>,
    vectors: usize,
    scale: f32,
    top_k: f32,
    top_p: f32,
    min_p: f32,
    #[comptime] threads: usize,
    #[comptime] greedy: bool,
    #[comptime] by_rank: bool,
    #[comptime] by_mass: bool,
) {
    let unit = UNIT_POS as usize;
    let row = CUBE_POS_X as usize;
    let base = row * vectors;
    let mut lanes = Shared::<[f32]>::new_slice(threads);
    let mut segments = Shared::<[f32]>::new_slice(comptime!(threads / LANES));
    let mut keys = Shared::<[u32]>::new_slice(threads);
    let mut answer = Shared::<[u32]>::new_slice(1usize);

    // The largest key also shows NaN and infinity.
    let mut largest_key = 0u32.runtime();
    let mut index = unit;
    while index < vectors {
        let loaded = logits[base + index];
        #[unroll]
        for i in 0..N::value() {
            largest_key = max(largest_key, key_of(loaded.extract(i)));
        }
        index += threads;
    }
    keys[unit] = largest_key;
    sync_cube();
    if unit < LANES {
        for i in 0..comptime!(threads / LANES) {
            largest_key = max(largest_key, keys[i * LANES + unit]);
        }
        keys[unit] = largest_key;
    }
    sync_cube();
    for i in 0..LANES {
        largest_key = max(largest_key, keys[i]);
    }
    let fault = largest_key >= KEY_OF_INFINITY || largest_key <= KEY_OF_NOTHING;

    let largest = logit_of(largest_key);
    let mut weighing = Weighing {
        largest,
        largest_key,
        scale,
        lowest: 0u32.runtime(),
        cut: 0xffff_ffffu32.runtime(),
        least: f32::new(0.0),
    };
    // Before any truncation: what the log-probability is divided by.
    let normaliser = weigh_segments::<N>(
        logits,
        base,
        vectors,
        &weighing,
        &mut lanes,
        &mut segments,
        threads,
        false,
    );

    let mut target = uniforms[row] * normaliser;
    if comptime!(greedy) {
        weighing.lowest = largest_key;
        weigh_segments::<N>(
            logits,
            base,
            vectors,
            &weighing,
            &mut lanes,
            &mut segments,
            threads,
            true,
        );
        target = f32::new(0.5);
    } else {
        if comptime!(by_rank || by_mass) {
            let mut histogram = Shared::<[f32]>::new_slice(comptime!(DIGITS * threads));
            let mut kept = normaliser;
            if comptime!(by_rank) {
                let found = threshold::<N>(
                    logits,
                    base,
                    vectors,
                    &weighing,
                    top_k,
                    &mut histogram,
                    threads,
                    true,
                );
                weighing.lowest = found.key;
                kept = weigh_segments::<N>(
                    logits,
                    base,
                    vectors,
                    &weighing,
                    &mut lanes,
                    &mut segments,
                    threads,
                    false,
                );
            }
            if comptime!(by_mass) {
                let mass = top_p * kept;
                let found = threshold::<N>(
                    logits,
                    base,
                    vectors,
                    &weighing,
                    mass,
                    &mut histogram,
                    threads,
                    false,
                );
                weighing.lowest = found.key;
                // Of equally likely tokens at the limit the first stay, as many as it takes.
                let ties = weigh_segments::<N>(
                    logits,
                    base,
                    vectors,
                    &weighing,
                    &mut lanes,
                    &mut segments,
                    threads,
                    true,
                );
                let needed = ((mass - found.above) / (found.here / ties)).ceil();
                let needed = min(max(needed, f32::new(1.0)), ties);
                weighing.cut = locate::<N>(
                    logits,
                    base,
                    vectors,
                    &weighing,
                    needed - f32::new(0.5),
                    &mut lanes,
                    &mut segments,
                    &mut answer,
                    threads,
                    true,
                );
            }
        }
        weighing.least = min_p;
        if comptime!(by_rank || by_mass) || min_p > 0.0 {
            let left = weigh_segments::<N>(
                logits,
                base,
                vectors,
                &weighing,
                &mut lanes,
                &mut segments,
                threads,
                false,
            );
            target = uniforms[row] * left;
        }
    }
    let token = locate::<N>(
        logits,
        base,
        vectors,
        &weighing,
        target,
        &mut lanes,
        &mut segments,
        &mut answer,
        threads,
        greedy,
    );
    if unit == 0 {
        let size = N::value();
        let loaded = logits[base + token as usize / size];
        let mut logit = loaded.extract(0usize);
        #[unroll]
        for i in 1..N::value() {
            logit = select(token as usize % size == i, loaded.extract(i), logit);
        }
        let exponent = (logit - largest) * scale;
        output[row * 4] = token;
        output[row * 4 + 1] = u32::cast_from(fault);
        output[row * 4 + 2] = u32::reinterpret(exponent);
        output[row * 4 + 3] = u32::reinterpret(normaliser);
    }
}
