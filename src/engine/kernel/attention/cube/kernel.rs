//! The two kernels.

use burn_cubecl::cubecl::{self, prelude::*};

/// Threads of a cube.
pub const THREADS: usize = 128;
/// Columns of keys a cube takes.
pub const COLUMNS: usize = 128;
/// Threads that read one key together at most: 64 contiguous bytes, two whole sectors.
pub const WARP_LANES: usize = 4;
/// Threads that share the softmax of a head.
const PARTS: usize = 16;
/// Row length of the partial scores: 8 more than a multiple of 32, so that the threads of a
/// warp, 8 columns of 4 lanes, write to 32 different banks.
const STRIDE: usize = COLUMNS + 8;
/// The score of a missing key; below every score that is a number.
const NO_SCORE: f32 = -3.0e38;

/// Shared memory of [`part`], in bytes.
pub fn shared_bytes(heads: usize, dim: usize, vector: usize, lanes: usize) -> usize {
    let query = heads * dim;
    let scores = heads * lanes * STRIDE;
    let weights = COLUMNS * heads;
    let softmax = 2 * heads * PARTS;
    let sums = THREADS * vector;
    (query + scores + weights + softmax + sums) * size_of::<f32>()
}

/// Attention of `heads` query heads of one row to one tile of columns of the key head they share.
/// Cubes: (row, key head, group of heads) × tile; the prompt's tiles come first.
///
/// # Shapes
/// In vectors: `query: [rows, all heads, dim]` (in elements), keys and values `[.., columns, vectors]`,
/// `parts: [rows·all heads, splits, vectors + 1]`
#[cube(launch)]
#[allow(clippy::too_many_arguments)] // Kernels take buffers and numbers one by one.
pub fn part<E: Float, Q: Float, N: Size>(
    query: &Tensor<Q>,
    prompt_key: &Tensor<Vector<E, N>>,
    prompt_value: &Tensor<Vector<E, N>>,
    own_key: &Tensor<Vector<E, N>>,
    own_value: &Tensor<Vector<E, N>>,
    prompt_lengths: &Tensor<u32>,
    filled: &Tensor<u32>,
    parts: &mut Tensor<Vector<f32, N>>,
    prompt_width: usize,
    capacity: usize,
    rows_per_prompt: usize,
    kv_heads: usize,
    prompt_splits: usize,
    splits: usize,
    scale: f32,
    #[comptime] heads: usize,
    #[comptime] groups: usize,
    #[comptime] vectors: usize,
    #[comptime] lanes: usize,
    #[define(E, Q)] _dtypes: [ElemType; 2],
) {
    let unit = UNIT_POS as usize;
    let first_head = CUBE_POS_X as usize * heads;
    let own_head = CUBE_POS_X as usize / groups;
    let split = CUBE_POS_Y as usize;
    let prompt = own_head / kv_heads / rows_per_prompt;
    let in_prompt = split < prompt_splits;

    // Scaled queries to shared memory.
    let mut scaled = Shared::<[Vector<f32, N>]>::new_slice(comptime!(heads * vectors));
    let size = N::value();
    let mut index = unit;
    while index < heads * vectors {
        let mut loaded = Vector::<f32, N>::empty();
        #[unroll]
        for i in 0..N::value() {
            let element = query[(first_head * vectors + index) * size + i];
            loaded.insert(i, f32::cast_from(element) * scale);
        }
        scaled[index] = loaded;
        index += THREADS;
    }
    sync_cube();

    // The start of the tile, and how many of its columns count.
    let prompt_first = split * COLUMNS;
    let own_first = (split - select(in_prompt, split, prompt_splits)) * COLUMNS;
    let prompt_head = prompt * kv_heads + own_head % kv_heads;
    let end = select(
        in_prompt,
        min(prompt_lengths[prompt] as usize, prompt_width),
        min(filled[0] as usize, capacity),
    );
    let first = select(in_prompt, prompt_first, own_first);
    let count = min(
        select(end > first, end - min(first, end), 0usize),
        COLUMNS.runtime(),
    );
    // Columns past the end are read as the last one that counts and then left out. A tile with
    // none that count reads its first column, which exists.
    let last = select(count > 0, count - min(count, 1usize), 0usize);

    let mut scores = Shared::<[f32]>::new_slice(comptime!(heads * lanes * STRIDE));
    let prompt_base = (prompt_head * prompt_width + first) * vectors;
    let own_base = (own_head * capacity + first) * vectors;
    if in_prompt {
        score_keys::<E, N>(
            prompt_key,
            prompt_base,
            last,
            &scaled,
            &mut scores,
            heads,
            vectors,
            lanes,
        );
    } else {
        score_keys::<E, N>(
            own_key,
            own_base,
            last,
            &scaled,
            &mut scores,
            heads,
            vectors,
            lanes,
        );
    }
    sync_cube();

    // Softmax: `PARTS` threads a head, each for every `PARTS`th column.
    let mut weights = Shared::<[f32]>::new_slice(comptime!(COLUMNS * heads));
    let mut maxima = Shared::<[f32]>::new_slice(comptime!(heads * PARTS));
    let mut sums = Shared::<[f32]>::new_slice(comptime!(heads * PARTS));
    let mut own_scores = Array::<f32>::new(comptime!(COLUMNS / PARTS));
    let head = unit / PARTS;
    if unit < heads * PARTS {
        let mut largest = f32::new(NO_SCORE);
        #[unroll]
        for i in 0..comptime!(COLUMNS / PARTS) {
            let column = i * PARTS + unit % PARTS;
            let mut score = f32::new(0.0);
            #[unroll]
            for lane in 0..lanes {
                score += scores[(head * lanes + lane) * STRIDE + column];
            }
            score = select(column < count, score, f32::new(NO_SCORE));
            own_scores[i] = score;
            largest = max(largest, score);
        }
        maxima[unit] = largest;
    }
    sync_cube();
    if unit < heads * PARTS {
        let mut largest = f32::new(NO_SCORE);
        #[unroll]
        for i in 0..PARTS {
            largest = max(largest, maxima[head * PARTS + i]);
        }
        let mut sum = f32::new(0.0);
        #[unroll]
        for i in 0..comptime!(COLUMNS / PARTS) {
            let column = i * PARTS + unit % PARTS;
            let weight = select(
                column < count,
                (own_scores[i] - largest).exp(),
                f32::new(0.0),
            );
            weights[column * heads + head] = weight;
            sum += weight;
        }
        sums[unit] = sum;
    }
    sync_cube();

    // Values: a thread owns a vector of the head and every `slots`th column.
    let slots = comptime!(THREADS / vectors);
    let mut weighted = Array::<Vector<f32, N>>::new(heads);
    #[unroll]
    for h in 0..heads {
        weighted[h] = Vector::new(f32::new(0.0));
    }
    if unit < slots * vectors {
        if in_prompt {
            weigh_values::<E, N>(
                prompt_value,
                prompt_base,
                count,
                &weights,
                &mut weighted,
                heads,
                vectors,
            );
        } else {
            weigh_values::<E, N>(
                own_value,
                own_base,
                count,
                &weights,
                &mut weighted,
                heads,
                vectors,
            );
        }
    }

    // The slots' sums join, a head at a time.
    let mut slot_sums = Shared::<[Vector<f32, N>]>::new_slice(THREADS);
    #[unroll]
    for h in 0..heads {
        slot_sums[unit] = weighted[h];
        sync_cube();
        let place = ((first_head + h) * splits + split) * (vectors + 1);
        if unit < vectors {
            let mut total = slot_sums[unit];
            for slot in 1..slots {
                total += slot_sums[slot * vectors + unit];
            }
            parts[place + unit] = total;
        }
        if unit == 0 {
            let mut largest = f32::new(NO_SCORE);
            let mut sum = f32::new(0.0);
            #[unroll]
            for i in 0..PARTS {
                largest = max(largest, maxima[h * PARTS + i]);
                sum += sums[h * PARTS + i];
            }
            let mut statistics = Vector::<f32, N>::new(f32::new(0.0));
            statistics.insert(0usize, largest);
            statistics.insert(1usize, sum);
            parts[place + vectors] = statistics;
        }
        sync_cube();
    }
}

/// Products of keys and queries, as partial sums of each lane: `scores: [heads, lanes, STRIDE]`.
/// Adjacent threads read adjacent vectors of a key; a key is loaded once for all heads.
#[cube]
#[allow(clippy::too_many_arguments)]
fn score_keys<E: Float, N: Size>(
    key: &Tensor<Vector<E, N>>,
    base: usize,
    last: usize,
    query: &Shared<[Vector<f32, N>]>,
    scores: &mut Shared<[f32]>,
    #[comptime] heads: usize,
    #[comptime] vectors: usize,
    #[comptime] lanes: usize,
) {
    let lane = UNIT_POS as usize % lanes;
    let slot = UNIT_POS as usize / lanes;
    let slots = comptime!(THREADS / lanes);
    let passes = comptime!(COLUMNS / slots);
    let mut sums = Array::<f32>::new(comptime!(passes * heads));
    #[unroll]
    for i in 0..comptime!(passes * heads) {
        sums[i] = f32::new(0.0);
    }
    for chunk in 0..comptime!(vectors / lanes) {
        let place = chunk * lanes + lane;
        #[unroll]
        for pass in 0..passes {
            let column = min(pass * slots + slot, last);
            let loaded = Vector::<f32, N>::cast_from(key[base + column * vectors + place]);
            #[unroll]
            for h in 0..heads {
                let product = loaded * query[h * vectors + place];
                let mut sum = sums[pass * heads + h];
                #[unroll]
                for i in 0..N::value() {
                    sum += product.extract(i);
                }
                sums[pass * heads + h] = sum;
            }
        }
    }
    #[unroll]
    for pass in 0..passes {
        #[unroll]
        for h in 0..heads {
            scores[(h * lanes + lane) * STRIDE + pass * slots + slot] = sums[pass * heads + h];
        }
    }
}

/// Adds the values of every `slots`th column with their weights; adjacent threads read adjacent vectors.
#[cube]
fn weigh_values<E: Float, N: Size>(
    value: &Tensor<Vector<E, N>>,
    base: usize,
    count: usize,
    weights: &Shared<[f32]>,
    weighted: &mut Array<Vector<f32, N>>,
    #[comptime] heads: usize,
    #[comptime] vectors: usize,
) {
    // Columns in flight for each thread.
    let ahead = comptime!(4usize);
    let place = UNIT_POS as usize % vectors;
    let slot = UNIT_POS as usize / vectors;
    let slots = comptime!(THREADS / vectors);
    let rounds = count.div_ceil(slots * ahead);
    for round in 0..rounds {
        #[unroll]
        for step in 0..ahead {
            let column = (round * ahead + step) * slots + slot;
            let counts = column < count;
            let column = min(column, count - 1);
            let loaded = Vector::<f32, N>::cast_from(value[base + column * vectors + place]);
            #[unroll]
            for h in 0..heads {
                let weight = select(counts, weights[column * heads + h], f32::new(0.0));
                weighted[h] += loaded * Vector::new(weight);
            }
        }
    }
}

/// Joins the parts of every head: a thread for each vector of the output.
///
/// # Shapes
/// `parts: [rows·heads, splits, vectors + 1]` → `output: [rows·heads, vectors]`
#[cube(launch)]
pub fn join<Q: Float, N: Size>(
    parts: &Tensor<Vector<f32, N>>,
    output: &mut Tensor<Vector<Q, N>>,
    splits: usize,
    units: usize,
    #[comptime] vectors: usize,
    #[define(Q)] _dtype: ElemType,
) {
    let unit = ABSOLUTE_POS;
    if unit >= units {
        terminate!();
    }
    let length = comptime!(vectors + 1);
    let head = unit / vectors;
    let place = unit % vectors;
    let mut largest = f32::new(NO_SCORE);
    for split in 0..splits {
        largest = max(
            largest,
            parts[(head * splits + split) * length + vectors].extract(0usize),
        );
    }
    let mut sum = f32::new(0.0);
    let mut total = Vector::<f32, N>::new(f32::new(0.0));
    for split in 0..splits {
        let part = (head * splits + split) * length;
        let statistics = parts[part + vectors];
        // An empty part has `NO_SCORE`, sums of 0 and so no influence, even if all are empty.
        let weight = (statistics.extract(0usize) - largest).exp();
        sum += weight * statistics.extract(1usize);
        total += parts[part + place] * Vector::new(weight);
    }
    let share = select(sum == 0.0, f32::new(0.0), f32::new(1.0) / sum);
    output[unit] = Vector::cast_from(total * Vector::new(share));
}
