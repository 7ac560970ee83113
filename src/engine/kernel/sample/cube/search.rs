//! Searches of a cube through its row: for the value above which there is enough weight, and for the token
//! at which a cumulative sum passes a target. Nothing is sorted, all sums have a fixed order, and threads
//! exchange values through shared memory and cube barriers only.
//!
//! Logits are compared as *keys*: their bits, arranged so that unsigned integers have the order of
//! the numbers.

use burn_cubecl::cubecl::{self, prelude::*};

/// Threads that read a segment of the row together: 256 contiguous bytes.
pub const LANES: usize = 16;
/// Values of a digit of a key.
pub const DIGITS: usize = 16;
/// Digits of a key.
const KEY_DIGITS: usize = 8;
/// The key of −∞.
pub const KEY_OF_NOTHING: u32 = 0x007f_ffff;
/// The key of +∞; NaN has a larger one.
pub const KEY_OF_INFINITY: u32 = 0xff80_0000;
/// A target that no sum reaches.
const OUT_OF_REACH: f32 = 3.0e38;

/// The weight of a token: `exp((logit − largest)·scale)`, or 0 if it is cut off.
#[derive(CubeType, Clone, Copy)]
pub struct Weighing {
    /// The largest logit.
    pub largest: f32,
    /// Its key.
    pub largest_key: u32,
    /// Inverse temperature.
    pub scale: f32,
    /// Smaller keys weigh nothing.
    pub lowest: u32,
    /// Of the tokens with the lowest key, those after this one weigh nothing.
    pub cut: u32,
    /// Smaller weights are 0.
    pub least: f32,
}

/// A position found by a search.
#[derive(CubeType, Clone, Copy)]
pub struct Found {
    /// Index among the summands.
    pub index: usize,
    /// The target less the summands before it.
    pub rest: f32,
}

/// A value found by a search, with the weight above it and of it.
#[derive(CubeType, Clone, Copy)]
pub struct Threshold {
    /// Its key.
    pub key: u32,
    /// Weight of larger keys.
    pub above: f32,
    /// Weight of the tokens with this key.
    pub here: f32,
}

/// The order-preserving key of a logit; NaN of either sign is the largest.
#[cube]
pub fn key_of(logit: f32) -> u32 {
    let bits = u32::reinterpret(logit);
    let magnitude = bits & 0x7fff_ffffu32;
    // −0 is 0.
    let bits = select(magnitude == 0u32, 0u32, bits);
    let key = select(bits >= 0x8000_0000u32, !bits, bits | 0x8000_0000u32);
    select(magnitude > 0x7f80_0000u32, 0xffff_ffffu32, key)
}

/// The logit of a key.
#[cube]
pub fn logit_of(key: u32) -> f32 {
    f32::reinterpret(select(key >= 0x8000_0000u32, key ^ 0x8000_0000u32, !key))
}

/// The weight of a token, or with `ties` 1 for those with the lowest key and 0 for others.
#[cube]
pub fn weigh(logit: f32, token: u32, weighing: &Weighing, #[comptime] ties: bool) -> f32 {
    let key = key_of(logit);
    if comptime!(ties) {
        select(key == weighing.lowest, f32::new(1.0), f32::new(0.0))
    } else {
        let weight = ((logit - weighing.largest) * weighing.scale).exp();
        let weight = select(key == weighing.largest_key, f32::new(1.0), weight);
        let kept = key > weighing.lowest || (key == weighing.lowest && token <= weighing.cut);
        let counts = kept && key > KEY_OF_NOTHING && weight >= weighing.least;
        select(counts, weight, f32::new(0.0))
    }
}

/// The first of `count` summands at which the sum passes `target`; if none does, the last
/// that is not 0.
#[cube]
fn scan(values: &Shared<[f32]>, first: usize, #[comptime] count: usize, target: f32) -> Found {
    let mut sum = f32::new(0.0);
    let mut index = 0usize.runtime();
    let mut rest = f32::new(OUT_OF_REACH);
    let mut open = true.runtime();
    for i in 0..count {
        let value = values[first + i];
        if open && value > 0.0 {
            index = i;
            if sum + value > target {
                rest = target - sum;
                open = false.runtime();
            }
            sum += value;
        }
    }
    Found { index, rest }
}

/// Sums of the lanes of each segment, `[threads]` → `[threads / LANES]`, and barriers around.
#[cube]
fn join_lanes(lanes: &Shared<[f32]>, segments: &mut Shared<[f32]>, #[comptime] threads: usize) {
    let unit = UNIT_POS as usize;
    sync_cube();
    if unit < comptime!(threads / LANES) {
        let mut sum = f32::new(0.0);
        for lane in 0..LANES {
            sum += lanes[unit * LANES + lane];
        }
        segments[unit] = sum;
    }
    sync_cube();
}

/// The weight of each segment, for every thread in `segments`; returns their sum.
#[cube]
#[allow(clippy::too_many_arguments)]
pub fn weigh_segments<N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    base: usize,
    vectors: usize,
    weighing: &Weighing,
    lanes: &mut Shared<[f32]>,
    segments: &mut Shared<[f32]>,
    #[comptime] threads: usize,
    #[comptime] ties: bool,
) -> f32 {
    let unit = UNIT_POS as usize;
    let length = vectors.div_ceil(comptime!(threads / LANES));
    let first = unit / LANES * length;
    let end = min(first + length, vectors);
    let mut sum = f32::new(0.0);
    let mut index = first + unit % LANES;
    while index < end {
        let loaded = logits[base + index];
        #[unroll]
        for i in 0..N::value() {
            let token = (index * N::value() + i) as u32;
            sum += weigh(loaded.extract(i), token, weighing, ties);
        }
        index += LANES;
    }
    lanes[unit] = sum;
    join_lanes(&*lanes, segments, threads);
    let mut total = f32::new(0.0);
    for segment in 0..comptime!(threads / LANES) {
        total += segments[segment];
    }
    total
}

/// The token under which the cumulative weight passes `target`, by [`weigh_segments`]'s sums.
/// The cube looks through the segment with that token, a run of tokens per thread.
#[cube]
#[allow(clippy::too_many_arguments)]
pub fn locate<N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    base: usize,
    vectors: usize,
    weighing: &Weighing,
    target: f32,
    lanes: &mut Shared<[f32]>,
    segments: &mut Shared<[f32]>,
    answer: &mut Shared<[u32]>,
    #[comptime] threads: usize,
    #[comptime] ties: bool,
) -> u32 {
    let unit = UNIT_POS as usize;
    let length = vectors.div_ceil(comptime!(threads / LANES));
    let segment = scan(&*segments, 0usize, comptime!(threads / LANES), target);
    let run = length.div_ceil(threads);
    let first = segment.index * length + unit * run;
    let end = min(first + run, min((segment.index + 1usize) * length, vectors));
    let mut sum = f32::new(0.0);
    for index in first..max(first, end) {
        let loaded = logits[base + index];
        #[unroll]
        for i in 0..N::value() {
            let token = (index * N::value() + i) as u32;
            sum += weigh(loaded.extract(i), token, weighing, ties);
        }
    }
    // All threads have scanned the segments before they change.
    sync_cube();
    lanes[unit] = sum;
    if unit == 0 {
        answer[0] = 0u32;
    }
    join_lanes(&*lanes, segments, threads);
    let group = scan(&*segments, 0usize, comptime!(threads / LANES), segment.rest);
    let lane = scan(&*lanes, group.index * LANES, LANES, group.rest);
    if unit == group.index * LANES + lane.index {
        let mut sum = f32::new(0.0);
        let mut chosen = 0u32.runtime();
        let mut open = true.runtime();
        for index in first..max(first, end) {
            let loaded = logits[base + index];
            #[unroll]
            for i in 0..N::value() {
                let token = (index * N::value() + i) as u32;
                let weight = weigh(loaded.extract(i), token, weighing, ties);
                if open && weight > 0.0 {
                    chosen = token;
                    sum += weight;
                    if sum > lane.rest {
                        open = false.runtime();
                    }
                }
            }
        }
        answer[0] = chosen;
    }
    sync_cube();
    let token = answer[0];
    sync_cube();
    token
}

/// The largest key such that the tokens with it and with larger ones weigh `target` or more; with
/// `count` tokens weigh 1 each. One digit of the key per pass over the row. If everything together
/// is below the target, the smallest key that weighs anything.
#[cube]
#[allow(clippy::too_many_arguments)]
pub fn threshold<N: Size>(
    logits: &Tensor<Vector<f32, N>>,
    base: usize,
    vectors: usize,
    weighing: &Weighing,
    target: f32,
    histogram: &mut Shared<[f32]>,
    #[comptime] threads: usize,
    #[comptime] count: bool,
) -> Threshold {
    let unit = UNIT_POS as usize;
    let mut prefix = 0u32.runtime();
    let mut known = 0u32.runtime();
    let mut above = f32::new(0.0);
    let mut here = f32::new(0.0);
    for digit in 0..KEY_DIGITS {
        let shift = (KEY_DIGITS - 1 - digit) as u32 * 4u32;
        // A column of the histogram belongs to a thread: no two meet, not even in a bank.
        for value in 0..DIGITS {
            histogram[value * threads + unit] = f32::new(0.0);
        }
        let mut index = unit;
        while index < vectors {
            let loaded = logits[base + index];
            #[unroll]
            for i in 0..N::value() {
                let logit = loaded.extract(i);
                let key = key_of(logit);
                if (key & known) == prefix {
                    let token = (index * N::value() + i) as u32;
                    let mut weight = f32::new(1.0);
                    if comptime!(!count) {
                        weight = weigh(logit, token, weighing, false);
                    }
                    histogram[((key >> shift) & 15u32) as usize * threads + unit] += weight;
                }
            }
            index += threads;
        }
        sync_cube();
        // Rows of the histogram to sums of runs in the first columns, to one sum.
        let run = comptime!(DIGITS);
        let runs = comptime!(threads / DIGITS);
        let place = unit / runs * threads + unit % runs * run;
        let mut sum = f32::new(0.0);
        for i in 0..run {
            // Staggered, so that neighbours read from different banks.
            sum += histogram[place + (i + unit) % run];
        }
        sync_cube();
        histogram[unit] = sum;
        sync_cube();
        if unit < DIGITS {
            let mut sum = f32::new(0.0);
            for i in 0..runs {
                sum += histogram[unit * runs + i];
            }
            histogram[threads + unit] = sum;
        }
        sync_cube();
        // From the largest value down.
        let mut chosen = 0u32.runtime();
        let mut above_chosen = above;
        let mut open = true.runtime();
        for i in 0..DIGITS {
            let value = DIGITS - 1 - i;
            let weight = histogram[threads + value];
            if open && weight > 0.0 {
                chosen = value as u32;
                above_chosen = above;
                here = weight;
                above += weight;
                if above >= target {
                    open = false.runtime();
                }
            }
        }
        above = above_chosen;
        prefix |= chosen << shift;
        known |= 15u32 << shift;
        sync_cube();
    }
    Threshold {
        key: prefix,
        above,
        here,
    }
}
