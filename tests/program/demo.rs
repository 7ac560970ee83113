//! The embedded demo learns: a shortened run of experiments/demo.toml.

use std::process::Command;

use serde_json::Value;

#[test]
fn twenty_steps_of_the_demo_raise_the_final_mean() {
    let outputs = tempfile::tempdir().unwrap();
    let output_dir = format!("run.output_dir={}", outputs.path().display());
    let run = Command::new(env!("CARGO_BIN_EXE_moim"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "--no-ui",
            "experiments/demo.toml",
            "--json",
            "--set",
            &output_dir,
        ])
        .args(["--set", "grpo.max_steps=20"])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let events: Vec<Value> = String::from_utf8(run.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let final_means: Vec<f64> = events
        .iter()
        .filter(|event| event["event"] == "score")
        .filter_map(|event| event["final_mean"].as_f64())
        .collect();
    let [untouched, trained] = final_means[..] else {
        panic!("two checkpoints are scored: {final_means:?}")
    };
    // Measured: 0.65 before and 0.75 after twelve steps; whole runs of three seeds end above 0.78.
    assert!(
        trained > untouched + 0.05,
        "Final Mean {untouched} became {trained}"
    );
    let steps: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "step")
        .collect();
    assert_eq!(steps.len(), 20);
    for step in steps {
        // The training pass computes what sampling did; only rounding differs.
        let difference = step["sampling/sampling_logp_difference/max"]
            .as_f64()
            .unwrap();
        assert!(
            difference < 1e-3,
            "log-probabilities of training and sampling differ by {difference}"
        );
    }
}
