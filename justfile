# `just` lists the recipes.

_default:
    @just --list

# Train the demo: a few minutes on two cores
run *arguments:
    cargo run --release -- --no-ui experiments/demo.toml {{arguments}}

# Open the terminal UI
ui *arguments:
    cargo run --release -- {{arguments}}

# Run the tests
test *arguments:
    cargo test --release {{arguments}}

# Everything that has to pass before a change goes in
check:
    bash .ci/run

# Write the demo's data again (Python 3.9, standard library only)
demo-data:
    python3 data/demo/build.py

# Train the demo's base model and encoder again
demo-model: demo-data
    cargo run --release --example demo_encoder
    cargo run --release -- sft experiments/demo-base.toml
    cargo run --release -- sft experiments/demo-base.toml --set sft.init=pretrained \
        --set sft.train=data/demo/corpus_copy.json --set sft.max_steps=450 --set sft.learning_rate=2e-3 \
        --set run.seed=8
