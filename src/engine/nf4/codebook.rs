//! The values of codes.

use std::sync::OnceLock;

/// The 16 values of NF4, ascending, in units of a block's largest magnitude: the quantiles of a
/// normal distribution of QLoRA (Dettmers et al. 2023, appendix E), as `get_4bit_type("nf4")` of
/// bitsandbytes gives them. Given in bits, so that no decimal is rounded on the way.
pub const CODEBOOK: [f32; 16] = [
    f32::from_bits(0xbf80_0000),
    f32::from_bits(0xbf32_39b1),
    f32::from_bits(0xbf06_6b30),
    f32::from_bits(0xbeca_32a0),
    f32::from_bits(0xbe91_a24d),
    f32::from_bits(0xbe3d_353f),
    f32::from_bits(0xbdba_7871),
    f32::from_bits(0x0000_0000),
    f32::from_bits(0x3da2_faff),
    f32::from_bits(0x3e24_cae3),
    f32::from_bits(0x3e7c_04dd),
    f32::from_bits(0x3ead_033a),
    f32::from_bits(0x3ee1_a4b8),
    f32::from_bits(0x3f10_07ab),
    f32::from_bits(0x3f39_13b3),
    f32::from_bits(0x3f80_0000),
];

/// The code whose value is zero; what an odd count of weights is padded with.
pub const ZERO_CODE: u8 = 7;

/// Midpoints between neighbours of [`CODEBOOK`], in f32. A value's code is the number of
/// thresholds below it; a value on a threshold takes the lower code.
pub const THRESHOLDS: [f32; 15] = midpoints(&CODEBOOK);

const fn midpoints<const N: usize, const M: usize>(values: &[f32; N]) -> [f32; M] {
    let mut middles = [0.0; M];
    let mut index = 0;
    while index < M {
        middles[index] = (values[index] + values[index + 1]) / 2.0;
        index += 1;
    }
    middles
}

/// The 256 values of a scale's 8-bit code, ascending from -0.99296874 to 1, in units of the largest
/// magnitude of 256 scales: the signed dynamic type of "8-bit Approximations for Parallelism in
/// Deep Learning" (Dettmers 2015), as `create_dynamic_map()` of bitsandbytes computes it.
pub fn dynamic_map() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut map = [0.0; 256];
        // 0 and 1 are separate: entry 127 after sorting, which the array starts as, and the last.
        map[255] = 1.0;
        let mut next = 0;
        for exponent in 0..7 {
            let power = 10f64.powi(exponent - 6) as f32;
            let edges = linspace(0.1, 1.0, (1 << exponent) + 1);
            for pair in edges.windows(2) {
                let magnitude = power * ((pair[0] + pair[1]) / 2.0);
                map[next] = magnitude;
                map[next + 1] = -magnitude;
                next += 2;
            }
        }
        map.sort_by(f32::total_cmp);
        map
    })
}

/// Midpoints between neighbours of [`dynamic_map`].
pub(super) fn dynamic_thresholds() -> &'static [f32; 255] {
    static THRESHOLDS: OnceLock<[f32; 255]> = OnceLock::new();
    THRESHOLDS.get_or_init(|| midpoints(dynamic_map()))
}

/// `count` values from `start` to `end` as torch computes them: from both ends towards the middle,
/// each in one rounding.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|index| {
            if index < count / 2 {
                step.mul_add(index as f32, start)
            } else {
                (-step).mul_add((count - 1 - index) as f32, end)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn thresholds_are_those_of_bitsandbytes() {
        assert_eq!(crc32fast::hash(&bytes(&THRESHOLDS)), 0x0b74_4f10);
        assert_eq!(CODEBOOK[usize::from(ZERO_CODE)], 0.0);
    }

    #[test]
    fn the_dynamic_map_is_that_of_bitsandbytes() {
        let map = dynamic_map();
        assert_eq!(crc32fast::hash(&bytes(map)), 0x1b13_7aeb);
        assert_eq!((map[0], map[127], map[255]), (-0.992_968_74, 0.0, 1.0));
    }
}
