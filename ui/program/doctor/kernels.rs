//! `moim doctor --kernels`: whether a device computes what it should, and its speed.

use moim_core::experiment::Dtype;
use moim_engine::check::check;
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
            printed = to_stdout(&format!("{}\n", checked));
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
