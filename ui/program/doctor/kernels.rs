//! `moim doctor --kernels`: whether a device computes what it should, and its speed.

use moim_core::experiment::Dtype;
use moim_engine::check::{Checked, check};
use moim_engine::device::Compute;

use moim_ui::cli::DoctorArguments;
use moim_ui::console::to_stdout;
use moim_ui::failure::{Outcome, exit};

/// Prints a line for each kernel and shape when its result is known.
pub fn run(arguments: &DoctorArguments) -> Outcome {
    let compute = Compute::new(arguments.device, Dtype::Auto)?;
    let reference = if compute.is_cpu {
        "plain tensor operations"
    } else {
        "the CPU"
    };
    to_stdout(&format!(
        "kernels on {} in {:?} against {reference}; errors are relative to the largest value\n\n{}\n",
        compute.name,
        compute.dtype,
        header(arguments.time && !compute.is_cpu),
    ))?;
    // Returned after the end: a closed output must not stop the kernels.
    let mut printed = Ok(());
    let found = check(&compute, arguments.time, &mut |checked| {
        if printed.is_ok() {
            printed = to_stdout(&format!("{}\n", line(checked)));
        }
    });
    printed?;
    let failed = found.iter().filter(|checked| !checked.passes()).count();
    to_stdout(&format!("\n{} checked, {failed} failed\n", found.len()))?;
    if arguments.time && compute.is_cpu {
        to_stdout("times are measured on a GPU only\n")?;
    }
    Ok(match failed {
        0 => exit::DONE,
        _ => exit::NOTHING,
    })
}

fn header(is_timed: bool) -> String {
    let times = if is_timed { "         ms    GB/s" } else { "" };
    format!(
        "{:<22} {:<46} {:>8} {:>8}  {:<6}{times}",
        "kernel", "shape", "error", "limit", ""
    )
}

fn line(checked: &Checked) -> String {
    let verdict = match (checked.passes(), checked.error) {
        (false, _) => "FAILED",
        (true, Some(_)) => "ok",
        (true, None) => "-",
    };
    let error = checked
        .error
        .map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
    let mut line = format!(
        "{:<22} {:<46} {error:>8} {:>8.0e}  {verdict:<6}",
        checked.kernel, checked.shape, checked.tolerance
    );
    if let Some(time) = checked.time {
        line.push_str(&format!(
            " {:>10.4} {:>7.0}",
            time.milliseconds, time.gigabytes_per_second
        ));
    }
    if let Some(fault) = &checked.fault {
        line.push_str(&format!(" {fault}"));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use moim_engine::check::Time;

    use super::*;

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
        let passed = line(&checked);
        assert!(passed.contains("2.0e-7     1e-5  ok"), "{passed}");
        checked.time = Some(Time {
            milliseconds: 0.0125,
            gigabytes_per_second: 2345.6,
        });
        assert!(
            line(&checked).ends_with("0.0125    2346"),
            "{}",
            line(&checked)
        );
        checked.fault = Some("no such kernel".into());
        let failed = line(&checked);
        assert!(
            failed.contains("FAILED") && failed.ends_with("no such kernel"),
            "{failed}"
        );
    }
}
