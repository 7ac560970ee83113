//! Every kernel on a device against a reference, and how fast it is there: `moim doctor --kernels`.
//!
//! On a device of its own the reference is the CPU's version of the same function; on the CPU it is
//! the same thing in plain tensor operations or loops. Inputs are the same numbers on both sides.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::device::Compute;
use moim_core::panics;

mod cases;
mod drawing;
mod plain;

/// What was found of one kernel at one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The function, and the path through it.
    pub kernel: &'static str,
    /// Sizes, in words.
    pub shape: String,
    /// The largest difference from the reference, relative to its largest value; NaN where either
    /// is not a number. `None` where the reference would take too long.
    pub error: Option<f64>,
    /// What the error may be.
    pub tolerance: f64,
    /// What the device said instead of an answer.
    pub fault: Option<String>,
    /// `None` where no times were asked for.
    pub time: Option<Time>,
}

/// How fast a kernel is, launch included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// Median of several measurements.
    pub milliseconds: f64,
    /// Of what has to be read and written at least, in 10⁹ bytes a second.
    pub gigabytes_per_second: f64,
}

impl Checked {
    /// Whether the device computes what the reference computes.
    pub fn passes(&self) -> bool {
        // A NaN is not within anything.
        self.fault.is_none() && self.error.is_none_or(|error| error <= self.tolerance)
    }
}

/// Checks every kernel at small and odd shapes; with `is_timed`, and only on a device of its own,
/// then also measures them at the sizes of an 11.5-billion-parameter model (hidden 4096, inner
/// 14336, 8 key heads of 128, vocabulary 131392). `progress` is told of each result as it comes.
///
/// A kernel that fails is told of and does not stop the others.
pub fn check(
    compute: &Compute,
    is_timed: bool,
    progress: &mut dyn FnMut(&Checked),
) -> Vec<Checked> {
    let mut done = Vec::new();
    let mut tell = |checked: Checked| {
        progress(&checked);
        done.push(checked);
    };
    for make in cases::small(compute) {
        tell(checked(&Inputs::on(compute, 1), &make, false));
    }
    if is_timed && !compute.is_cpu {
        for make in cases::large() {
            tell(checked(&Inputs::on(compute, COPIES), &make, true));
        }
    }
    done
}

/// More than the second-level cache holds of the largest weights (50 MB on an H100).
const COPIES: usize = 4;

/// Where inputs are made.
struct Inputs {
    compute: Compute,
    /// The type that the numbers of activations have, whatever the device keeps them in: those of
    /// the reference are rounded as those of the device it is for.
    rounding: DType,
    /// Copies of a large weight that a kernel is given in turn, so that none comes from a cache.
    copies: usize,
}

/// A kernel with its inputs.
struct Case {
    kernel: &'static str,
    shape: String,
    /// What it must read and write.
    bytes: usize,
    tolerance: f64,
    /// Whether the reference is cheap enough.
    has_reference: bool,
    /// The kernel, with one of the copies.
    run: Box<dyn Fn(usize) -> Outputs>,
    /// The same in plain operations; the only reference for some.
    plain: Box<dyn Fn(Outputs) -> Comparison>,
    /// Whether `plain` is the reference on every device.
    is_always_plain: bool,
}

type Make = Box<dyn Fn(&Inputs) -> Case>;

/// What a kernel answers, untouched: times are of the kernel alone.
type Outputs = Vec<Output>;

#[derive(Clone)]
enum Output {
    One(Tensor<1>),
    Two(Tensor<2>),
    Three(Tensor<3>),
}

impl Output {
    /// Row-major values.
    fn values(self) -> Vec<f32> {
        match self {
            Self::One(tensor) => values(tensor),
            Self::Two(tensor) => values(tensor),
            Self::Three(tensor) => values(tensor),
        }
    }
}

impl From<Tensor<1>> for Output {
    fn from(tensor: Tensor<1>) -> Self {
        Self::One(tensor)
    }
}

impl From<Tensor<2>> for Output {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Two(tensor)
    }
}

impl From<Tensor<3>> for Output {
    fn from(tensor: Tensor<3>) -> Self {
        Self::Three(tensor)
    }
}

/// A relative error, or the numbers that the outputs should be.
enum Comparison {
    Error(f64),
    Values(Vec<Vec<f32>>),
}

impl Inputs {
    fn on(compute: &Compute, copies: usize) -> Self {
        Self {
            compute: compute.clone(),
            rounding: compute.dtype,
            copies,
        }
    }

    /// The CPU, with the numbers that `self` has.
    fn for_reference(&self) -> Self {
        Self {
            compute: Compute::cpu(),
            rounding: self.rounding,
            copies: 1,
        }
    }

    /// Bytes of an activation.
    fn size(&self) -> usize {
        self.compute.dtype.size()
    }

    /// Activations between −`size` and `size`, in the type of the device.
    fn noise<const D: usize>(&self, shape: [usize; D], seed: u32, size: f32) -> Tensor<D> {
        self.uploaded(
            &self.rounded_noise(shape.iter().product(), seed, size),
            shape,
        )
    }

    /// As many copies as asked for.
    fn copies_of_noise(&self, shape: [usize; 2], seed: u32, size: f32) -> Vec<Tensor<2>> {
        let values = self.rounded_noise(shape.iter().product(), seed, size);
        (0..self.copies)
            .map(|_| self.uploaded(&values, shape))
            .collect()
    }

    fn uploaded<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        self.f32_tensor(values.to_vec(), shape)
            .cast(self.compute.dtype)
    }

    fn rounded_noise(&self, count: usize, seed: u32, size: f32) -> Vec<f32> {
        let mut values = noise(count, seed, size);
        if self.rounding == DType::BF16 {
            values
                .par_iter_mut()
                .for_each(|value| *value = half::bf16::from_f32(*value).to_f32());
        }
        values
    }

    /// Numbers in f32, as logits are.
    fn f32_noise<const D: usize>(&self, shape: [usize; D], seed: u32, size: f32) -> Tensor<D> {
        self.f32_tensor(noise(shape.iter().product(), seed, size), shape)
    }

    fn f32_tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(
            TensorData::new(values, shape),
            (&self.compute.device, DType::F32),
        )
    }

    fn int_tensor<const D: usize>(&self, values: Vec<i32>, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_data(
            TensorData::new(values, shape),
            (&self.compute.device, DType::I32),
        )
    }

    /// What an answer in the type of activations may be off; `exact` is for answers in f32.
    fn tolerance(&self, exact: f64) -> f64 {
        match self.compute.dtype {
            // Half a unit in the last of 8 bits, twice: rounded inside, and again at the end.
            DType::BF16 => 1e-2,
            _ => exact,
        }
    }
}

/// 32 random bits for every place.
fn bits(place: u32, seed: u32) -> u32 {
    let mut bits = place
        .wrapping_add(seed.wrapping_mul(0x9E37_79B9))
        .wrapping_mul(2_654_435_761);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x85EB_CA6B);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xC2B2_AE35);
    bits ^ (bits >> 16)
}

fn noise(count: usize, seed: u32, size: f32) -> Vec<f32> {
    (0..count as u32)
        .into_par_iter()
        .map(|i| ((bits(i, seed) >> 8) as f32 / (1 << 23) as f32 - 1.0) * size)
        .collect()
}

fn checked(inputs: &Inputs, make: &Make, is_timed: bool) -> Checked {
    let mut checked = Checked {
        kernel: "",
        shape: String::new(),
        error: None,
        tolerance: 0.0,
        fault: None,
        time: None,
    };
    // What a device cannot do it tells by a panic, when a result is read or before.
    let fault = catch_unwind(AssertUnwindSafe(|| {
        let case = make(inputs);
        checked.kernel = case.kernel;
        checked.shape = case.shape.clone();
        checked.tolerance = case.tolerance;
        if case.has_reference {
            checked.error = Some(error_of(&case, inputs, make));
        }
        if is_timed {
            checked.time = Some(time(&case, &inputs.compute));
        }
    }));
    checked.fault = fault.err().map(|payload| text_of(payload.as_ref()));
    checked
}

fn error_of(case: &Case, inputs: &Inputs, make: &Make) -> f64 {
    let answers = (case.run)(0);
    let expected = if inputs.compute.is_cpu || case.is_always_plain {
        match (case.plain)(answers.clone()) {
            Comparison::Error(error) => return error,
            Comparison::Values(values) => values,
        }
    } else {
        let reference = make(&inputs.for_reference());
        (reference.run)(0).into_iter().map(Output::values).collect()
    };
    let errors = answers.into_iter().map(Output::values).zip(expected);
    largest(errors.map(|(answer, expected)| relative_error(&answer, &expected)))
}

/// Row-major values.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    match tensor.try_into_vec_as::<f32>() {
        Ok(values) => values,
        // Caught, and told of, in `checked`. A kernel that does not compile comes with its source.
        Err(error) => panic!("{}", shortened(&error.to_string())),
    }
}

fn relative_error(answer: &[f32], expected: &[f32]) -> f64 {
    if answer.len() != expected.len() {
        return f64::NAN;
    }
    let scale = largest(expected.iter().map(|x| f64::from(x.abs()))).max(f64::MIN_POSITIVE);
    let far = answer.iter().zip(expected);
    largest(far.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())) / scale
}

/// The largest; NaN where any is, which `f64::max` would pass over.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(
        0.0,
        |most, x| if most.is_nan() || x <= most { most } else { x },
    )
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    shortened(panics::text(payload).unwrap_or("a panic without a message"))
}

/// In one line of bounded length.
fn shortened(text: &str) -> String {
    // The cause is told behind what it led to.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MOST_CHARACTERS).collect()
}

/// Of what a device says.
const MOST_CHARACTERS: usize = 600;

const WARM_UPS: usize = 3;
const MEASUREMENTS: usize = 7;

/// Launches between two waits at most; waiting costs as much as a small kernel takes.
const MOST_LAUNCHES: usize = 32;

/// How long one measurement should take.
const MEASUREMENT: Duration = Duration::from_millis(10);

fn time(case: &Case, compute: &Compute) -> Time {
    let mut next = 0;
    let mut measure = |launches: usize| {
        let start = Instant::now();
        for _ in 0..launches {
            drop((case.run)(next));
            next += 1;
        }
        if let Err(error) = compute.device.sync() {
            panic!("{error}");
        }
        start.elapsed()
    };
    // The first run compiles and tunes.
    measure(WARM_UPS);
    let once = measure(1).as_secs_f64().max(1e-6);
    let launches = ((MEASUREMENT.as_secs_f64() / once) as usize).clamp(1, MOST_LAUNCHES);
    let mut seconds: Vec<f64> = (0..MEASUREMENTS)
        .map(|_| measure(launches).as_secs_f64() / launches as f64)
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[MEASUREMENTS / 2];
    Time {
        milliseconds: median * 1e3,
        gigabytes_per_second: case.bytes as f64 / median / 1e9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_does_not_pass() {
        assert!(relative_error(&[1.0, f32::NAN, 1.0], &[1.0; 3]).is_nan());
        assert!(relative_error(&[1.0], &[1.0; 3]).is_nan());
        assert_eq!(relative_error(&[2.0, 0.0], &[2.0, -4.0]), 1.0);
        let mut checked = Checked {
            kernel: "",
            shape: String::new(),
            error: Some(f64::NAN),
            tolerance: 1.0,
            fault: None,
            time: None,
        };
        assert!(!checked.passes());
        checked.error = Some(0.5);
        assert!(checked.passes());
        checked.fault = Some("no".into());
        assert!(!checked.passes());
    }

    #[test]
    fn the_kernels_of_the_cpu_are_the_plain_expressions() {
        let mut told = 0;
        let checked = check(&Compute::cpu(), true, &mut |_| told += 1);
        assert_eq!(told, checked.len());
        for one in checked {
            assert!(one.passes() && one.time.is_none(), "{one:?}");
        }
    }

    #[test]
    fn times_are_measured() {
        let inputs = Inputs::on(&Compute::cpu(), 2);
        let make = cases::small(&inputs.compute).remove(1);
        let checked = checked(&inputs, &make, true);
        let time = checked.time.unwrap();
        assert!(checked.passes() && time.milliseconds > 0.0 && time.gigabytes_per_second > 0.0);
    }

    /// The sizes that only a card is measured at, in the kernels of the CPU.
    #[test]
    #[ignore = "takes a minute and 3 GB"]
    fn the_large_shapes_are_right() {
        let inputs = Inputs::on(&Compute::cpu(), 1);
        for make in cases::large() {
            let case = make(&inputs);
            if case.is_always_plain {
                continue;
            }
            println!("{} {}", case.kernel, case.shape);
            for output in (case.run)(0) {
                assert!(output.values().iter().all(|value| value.is_finite()));
            }
        }
    }
}
