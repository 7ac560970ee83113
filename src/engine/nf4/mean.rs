//! The mean of many f32, to the bit as torch computes it.

/// Lanes of a vector: torch's kernel is compiled for AVX2 and used on processors with AVX-512, too.
const LANES: usize = 8;
/// Rows of [`LANES`] that are summed in parallel.
const ROWS: usize = 4;
/// Accumulators of the cascade, each for sums of the one below.
const LEVELS: usize = 4;

type Rows = [[f32; LANES]; ROWS];

/// The mean of values as `torch.mean` computes it in f32 on a CPU with one thread: the cascade sum
/// of aten/src/ATen/native/cpu/SumKernel.cpp over 4 rows of 8 lanes, divided by the count.
///
/// With more threads torch cuts sums of 32768 and more into one part per thread, and a GPU sums in
/// yet another order; they differ from this by a few units in the last place.
pub(super) fn torch_mean(values: &[f32]) -> f32 {
    sum(values) / values.len() as f32
}

fn sum(values: &[f32]) -> f32 {
    let (rows, rest) = values.as_chunks::<LANES>();
    if rows.is_empty() {
        return short_sum(rest);
    }
    let (groups, last_rows) = rows.as_chunks::<ROWS>();
    let mut sums = cascade(groups);
    for row in last_rows {
        add(&mut sums[0], row);
    }
    let [mut lanes, others @ ..] = sums;
    for row in &others {
        add(&mut lanes, row);
    }
    rest.iter().chain(&lanes).sum()
}

/// Less than one vector: four sums in parallel, the first of which takes the rest.
fn short_sum(values: &[f32]) -> f32 {
    let (groups, rest) = values.as_chunks::<ROWS>();
    let mut sums = [0.0; ROWS];
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += value;
        }
    }
    for value in rest {
        sums[0] += value;
    }
    sums.iter().sum()
}

/// Adds row by row in the first accumulator, which is emptied into the next after every `step`
/// rows, that one after every `step²`, and so on; so no sum meets an addend much smaller than it.
fn cascade(groups: &[Rows]) -> Rows {
    let ceil_log2 = groups.len().max(1).next_power_of_two().trailing_zeros();
    let level_power = (ceil_log2 / LEVELS as u32).max(4);
    let step = 1usize << level_power;
    let mut levels = [[[0.0; LANES]; ROWS]; LEVELS];
    let steps = groups.chunks_exact(step);
    let last = steps.remainder();
    for (index, groups) in steps.enumerate() {
        for group in groups {
            add_rows(&mut levels[0], group);
        }
        let taken = (index + 1) * step;
        for level in 1..LEVELS {
            let below = std::mem::take(&mut levels[level - 1]);
            add_rows(&mut levels[level], &below);
            if taken & ((step - 1) << (level as u32 * level_power)) != 0 {
                break;
            }
        }
    }
    let [mut sums, others @ ..] = levels;
    for group in last {
        add_rows(&mut sums, group);
    }
    for level in &others {
        add_rows(&mut sums, level);
    }
    sums
}

fn add_rows(sums: &mut Rows, addends: &Rows) {
    for (sum, addend) in sums.iter_mut().zip(addends) {
        add(sum, addend);
    }
}

fn add(sums: &mut [f32; LANES], addends: &[f32; LANES]) {
    for (sum, addend) in sums.iter_mut().zip(addends) {
        *sum += addend;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_exact_where_every_order_is() {
        for count in (1..200).chain([4095, 4096, 70_001]) {
            let values: Vec<f32> = (0..count).map(|index| (index % 7) as f32).collect();
            let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
            assert_eq!(torch_mean(&values), sum as f32 / count as f32, "{count}");
        }
    }
}
