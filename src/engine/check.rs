//! Every kernel on a device against a reference, and its speed there: `moim doctor --kernels`.
//!
//! On a card the reference is the CPU's version of the same function; on the CPU it is the same in plain tensor
//! operations or loops. Inputs are the same numbers on both sides. The cases are next to their kernels
//! ([`crate::kernel`]).

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::device::Compute;
use crate::kernel::case::{Case, Comparison, Inputs, Make, Output, Reference, largest, shortened};
use crate::kernel::cases;
use moim_core::panics;

/// The result of one kernel at one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The function, and the path through it.
    pub kernel: &'static str,
    /// Sizes, as text.
    pub shape: String,
    /// The largest difference from the reference, relative to its largest value; NaN if either
    /// is not a number. `None` if the reference would take too long.
    pub error: Option<f64>,
    /// The largest error that is allowed.
    pub tolerance: f64,
    /// The device's message, if it returned nothing.
    pub fault: Option<String>,
    /// `None` if no times were requested.
    pub time: Option<Time>,
}

/// The time of a kernel, launch included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time {
    /// Median of several measurements.
    pub milliseconds: f64,
    /// Of what must be read and written at least, in 10⁹ bytes per second.
    pub gigabytes_per_second: f64,
}

impl Checked {
    /// Whether the device computes what the reference computes.
    pub fn passes(&self) -> bool {
        // A NaN is not within anything.
        self.fault.is_none() && self.error.is_none_or(|error| error <= self.tolerance)
    }
}

/// One line of the table of `moim doctor --kernels`.
impl fmt::Display for Checked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.passes(), self.error) {
            (false, _) => "FAILED",
            (true, Some(_)) => "ok",
            (true, None) => "-",
        };
        let error = self
            .error
            .map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
        let mut line = format!(
            "{:<22} {:<46} {error:>8} {:>8.0e}  {verdict:<6}",
            self.kernel, self.shape, self.tolerance
        );
        if let Some(time) = self.time {
            line.push_str(&format!(
                " {:>10.4} {:>7.0}",
                time.milliseconds, time.gigabytes_per_second
            ));
        }
        if let Some(fault) = &self.fault {
            line.push_str(&format!(" {fault}"));
        }
        formatter.write_str(line.trim_end())
    }
}

/// Checks every kernel at small and odd shapes; with `is_timed`, and only on a card,
/// then also measures them at the sizes of an 11.5-billion-parameter model (hidden 4096, inner
/// 14336, 8 key heads of 128, vocabulary 131392). `progress` receives each result as it comes.
///
/// A kernel that fails is reported and does not stop the others.
pub fn check(
    compute: &Compute,
    is_timed: bool,
    progress: &mut dyn FnMut(&Checked),
) -> Vec<Checked> {
    let mut done = Vec::new();
    let mut report = |checked: Checked| {
        progress(&checked);
        done.push(checked);
    };
    let cases = cases(compute.is_cpu);
    for make in &cases.small {
        report(checked(&Inputs::on(compute, 1), make, false));
    }
    if is_timed && !compute.is_cpu {
        for make in &cases.large {
            report(checked(&Inputs::on(compute, COPIES), make, true));
        }
    }
    done
}

/// More copies of the largest weights than fit into the second-level cache (50 MB on an H100).
const COPIES: usize = 4;

fn checked(inputs: &Inputs, make: &Make, is_timed: bool) -> Checked {
    let mut checked = Checked {
        kernel: "",
        shape: String::new(),
        error: None,
        tolerance: 0.0,
        fault: None,
        time: None,
    };
    // A device reports what it cannot do by a panic, when a result is read or before.
    let fault = catch_unwind(AssertUnwindSafe(|| {
        let case = make(inputs);
        checked.kernel = case.kernel;
        checked.shape = case.shape.clone();
        checked.tolerance = case.tolerance;
        if case.reference != Reference::None {
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
    let outputs = (case.run)(0);
    let expected = if inputs.compute.is_cpu || case.reference == Reference::Plain {
        match (case.plain)(outputs.clone()) {
            Comparison::Error(error) => return error,
            Comparison::Values(values) => values,
        }
    } else {
        let reference = make(&inputs.for_reference());
        (reference.run)(0).into_iter().map(Output::values).collect()
    };
    let errors = outputs.into_iter().map(Output::values).zip(expected);
    largest(errors.map(|(output, expected)| relative_error(&output, &expected)))
}

fn relative_error(output: &[f32], expected: &[f32]) -> f64 {
    if output.len() != expected.len() {
        return f64::NAN;
    }
    let scale = largest(expected.iter().map(|x| f64::from(x.abs()))).max(f64::MIN_POSITIVE);
    let pairs = output.iter().zip(expected);
    largest(pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())) / scale
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    shortened(panics::text(payload).unwrap_or("a panic without a message"))
}

const WARM_UPS: usize = 3;
const MEASUREMENTS: usize = 7;

/// Launches between two waits at most; waiting costs as much as a small kernel takes.
const MOST_LAUNCHES: usize = 32;

/// The time of one measurement.
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
        let mut reported = 0;
        let checked = check(&Compute::cpu(), true, &mut |_| reported += 1);
        assert_eq!(reported, checked.len());
        for one in checked {
            assert!(one.passes() && one.time.is_none(), "{one:?}");
        }
    }

    #[test]
    fn times_are_measured() {
        let inputs = Inputs::on(&Compute::cpu(), 2);
        let make = cases(true).small.remove(1);
        let checked = checked(&inputs, &make, true);
        let time = checked.time.unwrap();
        assert!(checked.passes() && time.milliseconds > 0.0 && time.gigabytes_per_second > 0.0);
    }

    /// The sizes that only a card is measured at, in the kernels of the CPU.
    #[test]
    #[ignore = "takes a minute and 3 GB"]
    fn the_large_shapes_are_right() {
        let inputs = Inputs::on(&Compute::cpu(), 1);
        for make in cases(true).large {
            let case = make(&inputs);
            println!("{} {}", case.kernel, case.shape);
            for output in (case.run)(0) {
                assert!(output.values().iter().all(|value| value.is_finite()));
            }
        }
    }

    #[test]
    fn a_line_says_what_failed() {
        let mut checked = Checked {
            kernel: "swiglu",
            shape: "3×33".into(),
            error: Some(2e-7),
            tolerance: 1e-5,
            fault: None,
            time: None,
        };
        let passed = checked.to_string();
        assert!(passed.contains("2.0e-7     1e-5  ok"), "{passed}");
        checked.time = Some(Time {
            milliseconds: 0.0125,
            gigabytes_per_second: 2345.6,
        });
        assert!(
            checked.to_string().ends_with("0.0125    2346"),
            "{}",
            checked.to_string()
        );
        checked.fault = Some("no such kernel".into());
        let failed = checked.to_string();
        assert!(
            failed.contains("FAILED") && failed.ends_with("no such kernel"),
            "{failed}"
        );
    }
}
